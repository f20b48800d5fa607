import json
from datetime import UTC, datetime

import numpy as np
import pytest

from samplecnn.errors import UserError
from samplecnn.metrics import Figure, kappa
from samplecnn.promotion import (
    NOT_WORSE_BY,
    Change,
    Comparison,
    PromotionSettings,
    Shadow,
    compare,
    compare_marks,
    decision,
)

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)


def told(low: float, value: float, high: float) -> Comparison:
    return Comparison("recordings", 30, 30, 0.5 + value, 0.5, Figure(value, low, high), 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict", "moves"),
    [
        (0.01, 0.1, 0.2, "better", True),
        (0.0, 0.0, 0.0, "not worse", True),
        (-0.09, 0.02, 0.1, "not worse", True),
        (-0.11, 0.05, 0.2, "not shown to be no worse", False),  # room for a loss, whatever the figure says
        (-0.08, -0.04, -0.01, "worse", False),
        (-0.3, -0.2, -0.1, "worse", False),
    ],
)
def test_a_model_moves_only_where_the_interval_leaves_no_room_for_a_loss(low, value, high, verdict, moves):
    assert (told(low, value, high).verdict, told(low, value, high).not_worse) == (verdict, moves)
    assert NOT_WORSE_BY == 0.10


def test_the_comparison_is_paired_and_by_group():
    rng = np.random.default_rng(0)
    given_R = rng.integers(0, 3, 120)
    hard_R = np.where(rng.random(120) < 0.5, rng.integers(0, 3, 120), given_R)  # both models err on the same ones
    better_R = np.where(np.arange(120) % 10 == 0, given_R, hard_R)
    groups = [[f"performer {i // 4}" for i in range(120)]]
    one = compare("recordings", given_R, better_R, hard_R, groups)
    assert one.difference.value == pytest.approx(kappa(given_R, better_R) - kappa(given_R, hard_R))
    assert one.difference.low >= 0
    assert one.difference.high - one.difference.low < 0.2  # far less than the interval of either kappa
    assert (one.recordings, one.groups) == (120, 30)
    assert one.both_right + one.candidate_alone + one.current_alone + one.neither == 120
    assert one.current_alone == 0
    assert one.candidate_alone == int(((hard_R != given_R) & (better_R == given_R)).sum())
    other = compare("recordings", given_R, hard_R, better_R, groups)
    assert other.difference.value == pytest.approx(-one.difference.value)
    assert (other.candidate_alone, other.current_alone) == (one.current_alone, one.candidate_alone)


def test_marks_are_compared_on_the_same_recordings_and_a_model_further_off_stays_out():
    rng = np.random.default_rng(0)
    given_R = rng.uniform(0, 100, 60)
    hard_R = rng.normal(0, 8, 60)  # both err where it is hard to tell
    groups = [[f"performer {i // 3}" for i in range(60)]]
    further = compare_marks(given_R, given_R + 1.2 * hard_R, given_R + hard_R, groups)
    assert further.worse
    assert further.difference.value == pytest.approx(0.2 * further.current_off)
    assert further.candidate_off == pytest.approx(1.2 * further.current_off)
    nearer = compare_marks(given_R, given_R + hard_R, given_R + 1.2 * hard_R, groups)
    assert not nearer.worse
    assert nearer.difference.high < 0
    no_room = Figure(0.0, -0.01, 0.01)
    for marks, moves in ((None, True), (nearer, True), (further, False)):
        one = Comparison("recordings", 60, 20, 0.5, 0.5, no_room, 30, 0, 0, 30, marks)
        assert one.may_take_over is moves
    assert str(one).endswith(f": not worse; {further}")
    assert str(further).endswith(": worse")


def test_a_decision_names_no_recording_and_is_the_same_file_whenever_it_is_made():
    shadow = Shadow(7, 10, 1, [Change("ann.wav", "B", "A"), Change("ben.wav", "B", "A"), Change("c.wav", "-", "C")])
    name, data = decision("new", "old", told(-0.05, 0, 0.1), shadow, True, None, NOW)
    again, later = decision("new", "old", told(-0.05, 0, 0.1), shadow, True, None, datetime(2027, 1, 1, tzinfo=UTC))
    assert name == again
    assert data != later
    assert b".wav" not in data
    whole = json.loads(data)
    assert whole["decided_at"] == "2026-11-27T08:00:00+00:00"
    assert whole["comparison"]["verdict"] == "not worse"
    assert whole["shadow"] == {"days": 7, "recordings": 10, "left_out": 1, "changes": {"B to A": 2, "- to C": 1}}
    assert decision("new", "old", None, None, True, "too strict", NOW)[0] != name


def test_who_would_change_is_told_by_name():
    lines = Shadow(7, 10, 2, [Change("ann.wav", "B", "A")]).lines()
    assert lines[0].startswith("of 10 recordings of the last 7 days 1 would change grade (2 more were corrected")
    assert lines[1:] == ["  B -> A  ann.wav"]


def test_no_nights_are_refused():
    with pytest.raises(UserError, match="--nights 0"):
        PromotionSettings(nights=0)
