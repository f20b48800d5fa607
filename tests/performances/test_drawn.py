"""A drawn performance depends on its seed and number alone, and its targets are what is in it."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from samplecnn.performances.drawn import TARGETS, DrawnPerformance, draw, perform_drawn, render_drawn, targets
from samplecnn.performances.instrument import INSTRUMENTS, ROOMS
from samplecnn.performances.pieces import PIECES
from samplecnn.performances.player import EXPERT, FAULTS, Faults


def digest(number: int) -> str:
    drawn = draw(5, number)
    contents = (repr(drawn).encode(), render_drawn(drawn, perform_drawn(drawn), 500).tobytes(), heard(drawn).tobytes())
    return hashlib.sha256(b"".join(contents)).hexdigest()


def heard(drawn: DrawnPerformance) -> np.ndarray:
    return targets(drawn, perform_drawn(drawn))


def target(drawn: DrawnPerformance, name: str, **faults: float) -> float:
    return float(heard(replace(drawn, faults=replace(drawn.faults, **faults)))[TARGETS.index(name)])


def test_a_number_is_the_same_performance_in_another_process_and_another_number_another() -> None:
    here = [digest(number) for number in range(4)]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(digest, (3, 2, 1, 0))) == here[::-1]
    assert len(set(here)) == 4
    assert draw(5, 0) != replace(draw(6, 0), seed=draw(5, 0).seed)


@pytest.mark.parametrize("sample_rate", [500, 2000])
def test_samples_are_finite_mono_as_long_and_as_loud_as_drawn(sample_rate: int) -> None:
    for number in range(12):
        drawn = draw(1, number)
        samples = render_drawn(drawn, perform_drawn(drawn), sample_rate)
        assert samples.dtype == np.float32
        assert samples.shape == (round(drawn.duration_s * sample_rate),)
        assert 30.0 <= drawn.duration_s <= 60.0
        assert np.isfinite(samples).all()
        peak = np.abs(samples).max()
        assert peak <= 0.99
        level_dbfs = 20 * np.log10(np.sqrt(np.mean(samples**2)))
        # Noise adds a little; a peak that would pass full scale takes off some.
        assert level_dbfs == pytest.approx(drawn.sound.level_dbfs, abs=0.2) or peak > 0.97


def test_every_performance_has_every_target_that_can_be_heard_in_it() -> None:
    drawn = [draw(2, number) for number in range(100)]
    table = np.stack([heard(one) for one in drawn])
    assert table.dtype == np.float32
    assert table.shape == (100, len(TARGETS))
    assert not np.isinf(table).any()
    asked = {name: np.isfinite(table[:, column]) for column, name in enumerate(TARGETS)}
    sometimes = {"log_hesitation_s", "log_pedal_blur", "log_uneven_articulation", "legato", "log_melody_lead_s"}
    sometimes |= {"log_hand_noise_s", "hand_spread", "log_chord_spread_s", "chord_spread"}
    assert {name for name in TARGETS if not asked[name].all()} <= sometimes
    assert all(asked[name].mean() > 0.25 for name in TARGETS)
    assert all(np.nanstd(table[:, column]) > 0.1 for column in range(len(TARGETS)))
    pedalled = np.array([one.piece.pedal for one in drawn])
    assert np.array_equal(asked["log_pedal_blur"], pedalled)
    assert np.array_equal(asked["legato"], ~pedalled)


@pytest.mark.parametrize(
    ("fault", "small", "large", "name"),
    [
        ("timing_noise_s", 0.01, 0.06, "onset_spread"),
        ("hand_noise_s", 0.005, 0.05, "hand_spread"),
        ("chord_spread_s", 0.005, 0.04, "chord_spread"),
        ("tempo_wander", 0.01, 0.2, "tempo_spread"),
        ("uneven_touch", 2.0, 14.0, "touch_spread"),
        ("hesitations_per_min", 0.0, 10.0, "hesitations"),
        ("restarts_per_min", 0.0, 6.0, "restarts"),
        ("memory_slips_per_min", 0.0, 6.0, "memory_slips"),
        ("hesitations_per_min", 0.0, 10.0, "stopped"),
        ("wrong_notes", 0.0, 0.1, "wrong_notes"),
        ("added_notes", 0.0, 0.1, "added_notes"),
        ("missed_notes", 0.0, 0.1, "missed_notes"),
        ("repeated_notes", 0.0, 0.1, "repeated_notes"),
    ],
)
def test_what_is_measured_grows_with_its_fault_and_no_other(fault: str, small: float, large: float, name: str) -> None:
    few = Faults(timing_noise_s=0.002, hand_noise_s=0.002, chord_spread_s=0.002, hesitation_s=0.5, slip_pause_s=1.0)
    few = replace(few, **dict.fromkeys(("tempo_wander", "uneven_touch", "uneven_articulation"), 0.01))
    few = replace(few, pedal_blur=0.01, tempo_slide=0.01, dynamics_fade=0.01)
    with_chords = [one for one in (draw(3, number) for number in range(20)) if np.isfinite(target(one, "chord_spread"))]
    for drawn in with_chords[:5]:
        drawn = replace(drawn, faults=few)
        assert target(drawn, name, **{fault: large}) > target(drawn, name, **{fault: small}) + 0.1
        others = [other for other in ("wrong_notes", "added_notes", "touch_spread", "restarts") if other != name]
        for other in others:
            if fault != "missed_notes":
                small_other, large_other = (target(drawn, other, **{fault: size}) for size in (small, large))
                assert large_other == pytest.approx(small_other, abs=0.12)


def test_measured_spreads_are_those_that_were_planned() -> None:
    for number in range(5):
        drawn = draw(4, number)
        faults = drawn.faults
        planned = np.hypot(np.hypot(faults.timing_noise_s, faults.hand_noise_s / np.sqrt(2)), faults.chord_spread_s)
        assert np.exp(target(drawn, "onset_spread")) == pytest.approx(planned, rel=0.25)
        assert np.exp(target(drawn, "touch_spread")) == pytest.approx(faults.uneven_touch, rel=0.2)
    sped = [target(draw(4, number), "tempo_trend", tempo_slide=1.0, tempo_wander=0.001) for number in range(10)]
    assert np.median(np.abs(sped)) == pytest.approx(1.0, abs=0.3)
    assert min(sped) < 0 < max(sped)  # some drag, some rush


def test_a_melody_that_is_meant_to_lead_is_no_unevenness() -> None:
    for number in range(5):
        drawn = draw(4, number)
        leading = replace(drawn, expression=replace(drawn.expression, melody_lead_s=0.2))
        for name in ("onset_spread", "hand_spread"):
            assert target(leading, name) == pytest.approx(target(drawn, name), abs=0.1)


def test_skill_moves_every_fault_and_no_fault_gives_another_away() -> None:
    drawn = [draw(6, number, pieces=("ode",)) for number in range(400)]  # not to compose so many
    logs = np.log([[getattr(one.faults, name) for name in FAULTS] for one in drawn])
    skill = np.array([one.skill for one in drawn])
    with_skill = [spearmanr(skill, logs[:, column]).statistic for column in range(len(FAULTS))]
    assert max(with_skill) < -0.2
    assert min(with_skill) > -0.9
    among = np.corrcoef(logs.T) - np.eye(len(FAULTS))
    assert np.abs(among).max() < 0.75  # half of its variance is its own


def test_a_performer_plays_alike_in_all_his_takes() -> None:
    one, other = ([draw(7, number + take, performers=50) for number in range(50)] for take in (0, 50))
    assert [drawn.performer for drawn in one] == [drawn.performer for drawn in other] == list(range(50))
    assert np.corrcoef([drawn.skill for drawn in one], [drawn.skill for drawn in other])[0, 1] > 0.95
    assert all(a.piece != b.piece for a, b in zip(one, other, strict=True))


def test_faults_and_pieces_can_be_held_out_and_nothing_else_changes() -> None:
    for number in range(20):
        usual, held_out = draw(8, number), draw(8, number, exclude_faults=("wrong_notes", "tempo_slide"))
        spared = replace(usual.faults, wrong_notes=EXPERT.wrong_notes, tempo_slide=EXPERT.tempo_slide)
        assert held_out == replace(usual, faults=spared)
    known = [draw(8, number, pieces=("ode", "elise")) for number in range(20)]
    assert {drawn.piece.name for drawn in known} == {"ode", "elise"}
    assert all(drawn.piece is PIECES[drawn.piece.name] for drawn in known)


def test_instruments_and_rooms_are_drawn_beyond_those_with_a_name() -> None:
    sounds = [draw(9, number, pieces=("ode",)).sound for number in range(300)]
    for part, named in (("instrument", INSTRUMENTS), ("room", ROOMS)):
        for field in vars(next(iter(named.values()))):
            values = [getattr(getattr(sound, part), field) for sound in sounds]
            known = [getattr(one, field) for one in named.values()]
            assert min(values) < min(known), field
            assert max(values) > max(known), field
