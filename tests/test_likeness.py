import shutil

import numpy as np
import pytest

from benchmarks import not_playing
from samplecnn.likeness import FURTHEST, NEAREST, Likeness, fit_likeness, likeness_from_json
from samplecnn.performances.corpus import CorpusSettings, plan_corpus, render_recording
from samplecnn.sound import MEASURES, measures_of

SPREADS = np.array(list(MEASURES.values()))


def drawn(count: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return SPREADS * (3 + spread * rng.normal(size=(count, len(SPREADS)))), [str(i % 7) for i in range(count)]


def fitted(count: int, spread: float) -> Likeness:
    likeness = fit_likeness(*drawn(count, spread))
    assert likeness is not None
    return likeness


@pytest.mark.parametrize("count", [5, 15, 500])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 3.0])
def test_however_many_and_however_unlike_they_are_the_limit_lies_in_its_bounds(count: int, spread: float) -> None:
    likeness = fitted(count, spread)
    assert NEAREST <= likeness.limit <= FURTHEST
    others, _ = drawn(200, spread, seed=1)
    if spread <= 1:
        assert np.mean([likeness.distance(one) > likeness.limit for one in others]) <= 0.02
    assert likeness.distance(SPREADS * 20) > likeness.limit
    assert likeness_from_json(likeness.to_json()) == likeness


def test_few_recordings_say_nothing_and_one_group_is_no_test_of_itself() -> None:
    assert fit_likeness(*drawn(4, 1.0)) is None
    assert fit_likeness(np.zeros((0, len(SPREADS))), []) is None
    of_one = fit_likeness(drawn(9, 1.0)[0], ["p"] * 9)
    assert of_one is not None
    assert of_one.limit == NEAREST


def test_identical_recordings_leave_room_for_others() -> None:
    likeness = fit_likeness(np.tile(SPREADS, (6, 1)), [str(i) for i in range(6)])
    assert likeness is not None
    assert likeness.distance(SPREADS * 2) < likeness.limit < likeness.distance(SPREADS * 4)


@pytest.mark.slow
def test_fifteen_recordings_tell_speech_noise_and_tones_from_other_peoples_playing() -> None:
    def measured(settings: CorpusSettings) -> tuple[np.ndarray, list[str]]:
        plan = plan_corpus(settings)
        waves = [render_recording(one, 500, channels=1)[0] for one in plan]
        return np.array([measures_of(w, np.ones(-(-len(w) // 25), np.bool_), 500) for w in waves]), [
            one.performer for one in plan
        ]

    likeness = fit_likeness(*measured(CorpusSettings()))
    assert likeness is not None
    others, _ = measured(CorpusSettings(count=24, performers=24, seed=5, first_performer=700))
    assert sum(likeness.distance(one) > likeness.limit for one in others) == 0
    for kind in not_playing.SOUNDS:
        if kind in ("clicks", "silence with a cough") or (kind == "speech" and not shutil.which("espeak-ng")):
            continue  # the first two are mostly too short or silent
        refused = 0
        for number in range(6):
            told = not_playing._sound((kind, number))[0].measures_by_rate[500]
            refused += told is None or likeness.distance(told) > likeness.limit
        assert refused >= 5, kind


def test_a_precision_that_makes_no_distance_is_refused() -> None:
    count = len(MEASURES)
    never = np.diag([*([1.0] * (count - 1)), -1.0]).tolist()
    with pytest.raises(ValueError, match="makes no distance"):
        Likeness((0.0,) * count, tuple(map(tuple, never)), 3.0)
