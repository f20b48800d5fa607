from functools import partial

import numpy as np
import pytest
from scipy.stats import pearsonr

from samplecnn.errors import UserError
from samplecnn.marks import mark_scale
from samplecnn.raters import Adjusted, adjust, nearest_grade

GRADES = 5
NAMES = ("ann", "ben", "cat", "dan")
LENIENCY = np.array([0.9, 0.2, -0.2, -0.9])
ERROR = 0.5


def panel(seed: int, recordings: int = 200, each: int = 3, error: float = ERROR) -> tuple[np.ndarray, Adjusted]:
    """Qualities, and what comes of the ratings of people whose leniency is known; each hears some of the recordings."""
    rng = np.random.default_rng(seed)
    quality_R = rng.normal(2.0, 0.9, recordings)
    recording_N = np.repeat(np.arange(recordings), each)
    rater_N = np.concatenate([rng.permutation(len(NAMES))[:each] for _ in range(recordings)])
    heard_N = quality_R[recording_N] + LENIENCY[rater_N] + rng.normal(0, error, len(recording_N))
    grade_N = np.clip(np.rint(heard_N), 0, GRADES - 1).astype(np.int64)
    return quality_R, adjust(grade_N, recording_N, rater_N, NAMES, partial(nearest_grade, grades=GRADES), "labels.csv")


@pytest.mark.parametrize("seed", range(3))
def test_leniency_that_is_known_is_recovered(seed):
    _, adjusted = panel(seed)
    found = np.array([adjusted.agreement.leniency[name] for name in NAMES])
    assert found - found.mean() == pytest.approx(LENIENCY, abs=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_the_share_of_variance_that_is_quality(seed):
    quality_R, adjusted = panel(seed)
    error = ERROR**2 + 1 / 12  # grades are whole numbers
    assert adjusted.agreement.one == pytest.approx(0.81 / (0.81 + error), abs=0.1)
    assert adjusted.agreement.mean == pytest.approx(0.81 / (0.81 + error / 3), abs=0.07)
    assert pearsonr(quality_R, adjusted.grade_R).statistic > 0.85


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_grader_is_scored_as_the_truth_would_be(seed):
    quality_R, adjusted = panel(seed, recordings=2_000)
    true_R = np.clip(np.rint(quality_R), 0, GRADES - 1)
    assert adjusted.agreement.perfect_accuracy == pytest.approx(np.mean(true_R == adjusted.grade_R), abs=0.05)


def test_raters_who_agree_leave_nothing_open():
    grade_N = np.array([0, 1, 1, 2, 2, 3])
    adjusted = adjust(
        grade_N,
        np.repeat(np.arange(3), 2),
        np.tile([0, 1], 3),
        ("ann", "ben"),
        partial(nearest_grade, grades=3),
        "labels.csv",
    )
    assert adjusted.agreement.leniency == {"ann": -0.5, "ben": 0.5}
    assert (adjusted.agreement.one, adjusted.agreement.perfect_kappa) == (1.0, 1.0)
    assert adjusted.weight_R == pytest.approx([1, 1, 1])


def test_a_recording_that_more_people_heard_weighs_more():
    _, adjusted = panel(0, each=2)
    rng = np.random.default_rng(1)
    recording_N = np.concatenate([np.repeat(np.arange(30), 4), np.repeat(np.arange(30, 60), 2)])
    rater_N = np.concatenate([np.tile(np.arange(4), 30), *[rng.permutation(4)[:2] for _ in range(30)]])
    grade_N = np.clip(np.rint(rng.normal(2, 1, 60)[recording_N] + rng.normal(0, 0.7, len(rater_N))), 0, 4).astype(int)
    uneven = adjust(grade_N, recording_N, rater_N, NAMES, partial(nearest_grade, grades=GRADES), "labels.csv")
    assert uneven.weight_R[:30].min() > uneven.weight_R[30:].max()
    assert uneven.weight_R.mean() == pytest.approx(1)
    assert adjusted.weight_R == pytest.approx(np.ones(200))  # all were heard by as many


def test_raters_who_do_not_agree_at_all_are_told():
    rng = np.random.default_rng(0)
    grade_N = rng.integers(0, 3, 200)
    adjusted = adjust(
        grade_N,
        np.repeat(np.arange(100), 2),
        np.tile([0, 1], 100),
        ("ann", "ben"),
        partial(nearest_grade, grades=3),
        "labels.csv",
    )
    assert adjusted.agreement.mean < 0.3
    assert adjusted.agreement.perfect_kappa < 0.6


@pytest.mark.parametrize(
    ("grades", "recordings", "raters", "words"),
    [
        ([0, 1, 2], [0, 0, 1], [0, 1, 0], "'ben' gave one rating only"),
        ([0, 1, 2, 0, 1, 2, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 2, 3, 2, 3], "no recording joins"),
        ([0, 1, 2, 0], [0, 0, 1, 2], [0, 1, 0, 1], "too few to tell"),
    ],
)
def test_what_does_not_tell_strictness_is_refused_in_one_line(grades, recordings, raters, words):
    names = NAMES[: max(raters) + 1]
    with pytest.raises(UserError, match=words) as refused:
        adjust(
            np.array(grades),
            np.array(recordings),
            np.array(raters),
            names,
            partial(nearest_grade, grades=3),
            "labels.csv",
        )
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("reliability", "accuracy", "by_kappa"), [(0.56, 0.61, 0.64), (0.79, 0.73, 0.78)])
def test_the_ceiling_of_thirds_is_that_of_normal_errors(reliability, accuracy, by_kappa):
    """Figures that were computed apart from this code, by integrating over normal errors."""
    rng = np.random.default_rng(0)
    recordings, each = 4_000, 4
    error = np.sqrt(each * (1 - reliability) / reliability)
    recording_N, rater_N = np.repeat(np.arange(recordings), each), np.tile(np.arange(each), recordings)
    mark_N = (
        rng.standard_normal(recordings)[recording_N] + LENIENCY[rater_N] + error * rng.standard_normal(4 * recordings)
    )
    graded = mark_scale("high", "any", "equal", 3).graded
    found = adjust(mark_N, recording_N, rater_N, NAMES, graded, "labels.csv", "marks").agreement
    assert found.mean == pytest.approx(reliability, abs=0.02)
    assert (found.perfect_accuracy, found.perfect_kappa) == pytest.approx((accuracy, by_kappa), abs=0.02)
    assert [found.leniency[name] for name in NAMES] == pytest.approx(list(LENIENCY), abs=0.1)
    assert "marks" in str(found)
