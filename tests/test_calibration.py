import math
from statistics import NormalDist

import numpy as np
import pytest

from samplecnn.calibration import HIGHEST, Heard, calibrate, fit_temperature, least_confidence, stated_by_shares
from samplecnn.course import COURSE
from samplecnn.folds import Split, splits
from samplecnn.marks import GivenMarks, mark_scale
from samplecnn.merge import expected_score
from samplecnn.metrics import confidence_p, log_loss

HEAD = "cross-entropy"


def folds(fold_R):
    """Splits that hold out one fold each and learn from all others."""
    return [Split(fold_R != fold, fold_R == fold) for fold in sorted(set(fold_R.tolist()))]


def _one(outputs_SO, activity_S):
    return Heard(outputs_SO, activity_S, 10.0 * np.arange(len(activity_S)), np.zeros(len(COURSE)))


def alone(recordings):
    """Groups of one recording each."""
    return [[str(i) for i in range(len(recordings))]]


def heard(rng, sharpness, recordings=120, segments=1):
    """Recordings whose grades follow the outputs' probabilities, and outputs that are then made surer of themselves."""
    logits_RSG = np.repeat(rng.normal(size=(recordings, 1, 3)) * 1.5, segments, axis=1)
    probs_RG = np.exp(logits_RSG[:, 0]) / np.exp(logits_RSG[:, 0]).sum(1, keepdims=True)
    grade_R = np.array([rng.choice(3, p=probs_G) for probs_G in probs_RG])
    activity_S = np.ones(segments, np.float32)
    return [_one((sharpness * logits_SG).astype(np.float32), activity_S) for logits_SG in logits_RSG], grade_R


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_a_network_is_too_sure_of(sharpness):
    heard_R, grade_R = heard(np.random.default_rng(0), sharpness, recordings=400, segments=2)
    assert fit_temperature(heard_R, grade_R, HEAD) == pytest.approx(sharpness, rel=0.25)


def test_a_network_that_knows_nothing_is_as_little_sure_as_it_can_be():
    heard_R, grade_R = heard(np.random.default_rng(0), 1.0)
    assert fit_temperature(heard_R, (grade_R + 1) % 3, HEAD) == pytest.approx(HIGHEST, rel=0.01)


def test_without_any_prediction_the_temperature_is_one():
    assert fit_temperature([], np.array([], np.int64), HEAD) == 1.0


def test_a_recording_s_own_fold_has_no_say_in_its_temperature():
    heard_R, grade_R = heard(np.random.default_rng(1), 3.0)
    fold_R = np.arange(len(grade_R), dtype=np.int32) % 4
    other_R = np.where(fold_R == 2, (grade_R + 1) % 3, grade_R)
    one, other = (calibrate(heard_R, given_R, alone(given_R), folds(fold_R), 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.probs_RG[fold_R == 2] == other.probs_RG[fold_R == 2]).all()
    assert (one.probs_RG[fold_R != 2] != other.probs_RG[fold_R != 2]).any()
    assert one.temperature != other.temperature


def test_nothing_that_shares_a_performer_or_a_piece_has_a_say_in_the_temperature():
    heard_R, grade_R = heard(np.random.default_rng(1), 3.0, recordings=60)
    columns = [[f"performer {i % 10}" for i in range(60)], [f"piece {i // 10}" for i in range(60)]]
    parted = splits(grade_R, columns, 2, seed=0)
    kept_apart = parted[0].learn_R
    other_R = np.where(kept_apart, grade_R, (grade_R + 1) % 3)
    one, other = (calibrate(heard_R, given_R, columns, parted, 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.probs_RG[parted[0].held_R] == other.probs_RG[parted[0].held_R]).all()
    assert one.temperature != other.temperature


def test_calibrated_probabilities_cost_less_where_a_network_is_too_sure():
    heard_R, grade_R = heard(np.random.default_rng(2), 5.0)
    fold_R = np.arange(len(grade_R), dtype=np.int32) % 5
    calibrated = calibrate(heard_R, grade_R, alone(grade_R), folds(fold_R), 3, HEAD)
    raw_RG = np.stack([recording.merged(HEAD, 1.0).probs_G for recording in heard_R])
    assert log_loss(grade_R, calibrated.probs_RG).mean() < log_loss(grade_R, raw_RG).mean() - 0.3
    assert calibrated.probs_RG.sum(1) == pytest.approx(1)


def test_a_recording_that_cannot_be_graded_gets_the_shares_of_what_its_split_learns_from():
    heard_R, grade_R = heard(np.random.default_rng(3), 1.0, recordings=9)
    grade_R[:] = [0, 1, 2, 0, 0, 2, 1, 1, 1]
    fold_R = np.repeat([0, 1, 2], 3).astype(np.int32)
    probs_RG = calibrate([None, *heard_R[1:]], grade_R, alone(grade_R), folds(fold_R), 3, HEAD).probs_RG
    assert probs_RG[0] == pytest.approx([2 / 6, 3 / 6, 1 / 6])


def test_a_probability_of_zero_does_not_end_the_search():
    heard_R = [_one(np.array([[2000.0, -2000.0]], np.float32), np.ones(1, np.float32))] * 4
    assert math.isfinite(fit_temperature(heard_R, np.array([0, 1, 0, 1]), HEAD))


def test_a_model_at_chance_states_each_grade_as_often_as_it_was_given_and_not_the_middle_one_for_all():
    heard_R, grade_R = heard(np.random.default_rng(4), 1.0, recordings=90)
    grade_R = np.random.default_rng(5).permutation(grade_R)
    calibrated = calibrate(heard_R, grade_R, alone(grade_R), folds(np.arange(90) % 5), 3, HEAD)
    assert (calibrated.probs_RG.cumsum(axis=1)[:, :2] < 0.5).sum(axis=1).tolist() == [1] * 90  # by the median rank
    assert np.bincount(calibrated.grade_R, minlength=3) == pytest.approx(np.bincount(grade_R, minlength=3), abs=8)


def test_a_recording_s_own_fold_has_no_say_in_where_its_grade_ends():
    heard_R, grade_R = heard(np.random.default_rng(1), 1.0)
    fold_R = np.arange(len(grade_R)) % 4
    other_R = np.where(fold_R == 2, 0, grade_R)  # were its cuts moved by these, all of fold 2 would be stated lower
    one, other = (calibrate(heard_R, given_R, alone(given_R), folds(fold_R), 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.grade_R[fold_R == 2] == other.grade_R[fold_R == 2]).all()
    assert (one.grade_R[fold_R != 2] != other.grade_R[fold_R != 2]).any()
    assert (one.cuts_K < other.cuts_K).all()

    probs_RG = np.stack([recording.merged(HEAD, 1.0).probs_G for recording in heard_R])
    one_R, other_R = (stated_by_shares(probs_RG, given_R, folds(fold_R)) for given_R in (grade_R, other_R))
    assert (one_R[fold_R == 2] == other_R[fold_R == 2]).all()
    assert (one_R[fold_R != 2] != other_R[fold_R != 2]).any()


def test_the_cuts_of_the_model_state_each_grade_as_often_as_it_was_given():
    heard_R, grade_R = heard(np.random.default_rng(6), 4.0)
    calibrated = calibrate(heard_R, grade_R, alone(grade_R), folds(np.arange(len(grade_R)) % 4), 3, HEAD)
    score_R = np.array([expected_score(one.merged(HEAD, calibrated.temperature).probs_G) for one in heard_R])
    stated_R = (calibrated.cuts_K < score_R[:, None]).sum(axis=1)
    assert np.bincount(stated_R).tolist() == np.bincount(grade_R).tolist()


def test_where_nothing_can_be_graded_there_are_no_cuts():
    calibrated = calibrate(
        [None] * 6, np.array([0, 1, 2, 0, 1, 2]), alone(range(6)), folds(np.repeat([0, 1], 3)), 3, HEAD
    )
    assert (calibrated.temperature, calibrated.cuts_K.tolist(), calibrated.least_confidence) == (1.0, [], 0.0)
    assert not calibrated.graded_R.any()


def told(rng, recordings=90, performers=30, alike=0.0, helps=True):
    """Confidences, stated and given grades, and groups. alike: how far a performer's recordings share both luck and
    confidence. helps: is a confidence how often the grade is right? Else 0.6 of them are."""
    performer_R = np.arange(recordings) % performers

    def drawn():
        own, shared = rng.normal(size=recordings), rng.normal(size=performers)[performer_R]
        return np.sqrt(alike) * shared + np.sqrt(1 - alike) * own

    confidence_R = 1 / (1 + np.exp(-1.5 * drawn() - 0.5))
    right_R = drawn() < np.array([NormalDist().inv_cdf(c) for c in (confidence_R if helps else [0.6] * recordings)])
    given_R = rng.permutation(np.arange(recordings) % 3)
    return confidence_R, np.where(right_R, given_R, (given_R + 1) % 3), given_R, [[str(p) for p in performer_R]]


def test_below_the_least_confidence_grades_were_right_no_more_often_than_the_commonest_grade():
    confidence_R, stated_R, given_R, groups = told(np.random.default_rng(0), recordings=150, performers=50)
    least = least_confidence(confidence_R, stated_R, given_R, groups)
    below_R, right_R = confidence_R < least, stated_R == given_R
    assert 0.05 < below_R.mean() <= 0.5
    assert right_R[below_R].mean() <= 1 / 3
    above = [right_R[confidence_R < higher].mean() for higher in np.arange(least + 0.01, 1, 0.01)]
    assert min(above) > 1 / 3  # so it keeps back all that it may
    assert (confidence_R < least - 0.01).sum() < below_R.sum()  # and nothing that it need not
    assert right_R[~below_R].mean() > right_R.mean() + 0.05
    assert least == round(least, 2)


def test_no_more_than_half_of_the_recordings_are_left_to_people():
    confidence_R = np.linspace(0.2, 0.8, 90)
    given_R = np.tile([0, 1, 2], 30)
    stated_R = np.where(confidence_R > 0.7, given_R, (given_R + 1) % 3)  # five in six are wrong
    assert (confidence_R < least_confidence(confidence_R, stated_R, given_R, alone(given_R))).sum() in (44, 45)


@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_where_confidence_says_nothing_all_recordings_are_graded_but_for_one_draw_in_a_hundred(alike):
    rng = np.random.default_rng(0)
    found = [least_confidence(*told(rng, alike=alike, helps=False)) for _ in range(400)]
    assert np.count_nonzero(found) <= 8
    assert np.count_nonzero([least_confidence(*told(rng)) for _ in range(50)]) > 40


def test_a_few_performers_prove_nothing_even_where_each_right_grade_is_surer():
    given_R = np.tile([0, 1, 2], 5)
    stated_R = np.where(np.arange(15) < 5, (given_R + 1) % 3, given_R)
    confidence_R = np.linspace(0.3, 0.8, 15)
    assert least_confidence(confidence_R, stated_R, given_R, [[str(i % 8) for i in range(15)]]) == 0
    assert confidence_p(stated_R == given_R, confidence_R, [[str(i % 8) for i in range(15)]]) > 0.01
    assert least_confidence(confidence_R, stated_R, given_R, alone(given_R)) > 0.4


def test_of_two_columns_the_one_that_proves_less_decides():
    confidence_R, stated_R, given_R, groups = told(np.random.default_rng(0), recordings=150, performers=50)
    assert least_confidence(confidence_R, stated_R, given_R, groups) > 0
    pieces = [str(i % 5) for i in range(150)]
    assert least_confidence(confidence_R, stated_R, given_R, [*groups, pieces]) == 0


def test_where_all_grades_are_right_all_recordings_are_graded():
    given_R = np.tile([0, 1, 2], 30)
    assert least_confidence(np.linspace(0.2, 0.9, 90), given_R, given_R, alone(given_R)) == 0


def test_a_recording_s_own_fold_has_no_say_in_whether_it_is_graded():
    heard_R, grade_R = heard(np.random.default_rng(1), 1.0, recordings=150)
    fold_R = np.arange(150) % 3
    other_R = np.where(fold_R == 2, np.random.default_rng(0).permutation(grade_R), grade_R)
    one, other = (calibrate(heard_R, given_R, alone(given_R), folds(fold_R), 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.graded_R[fold_R == 2] == other.graded_R[fold_R == 2]).all()
    assert (one.graded_R[fold_R != 2] != other.graded_R[fold_R != 2]).any()
    assert one.least_confidence != other.least_confidence
    right_R = one.grade_R == grade_R
    assert 0 < right_R[~one.graded_R].mean() < right_R[one.graded_R].mean() - 0.2


def test_recordings_of_few_performers_do_not_show_that_confidence_tells_anything():
    heard_R, grade_R = heard(np.random.default_rng(1), 1.0, recordings=150)
    parted, few = folds(np.arange(150) % 3), [[str(i % 8) for i in range(150)]]
    assert calibrate(heard_R, grade_R, alone(grade_R), parted, 3, HEAD).least_confidence > 0
    one = calibrate(heard_R, grade_R, few, parted, 3, HEAD)
    assert one.least_confidence == 0
    assert one.graded_R.all()


def test_what_cannot_be_heard_is_not_graded():
    heard_R, grade_R = heard(np.random.default_rng(3), 1.0, recordings=9)
    graded_R = calibrate([None, *heard_R[1:]], grade_R, alone(grade_R), folds(np.arange(9) % 3), 3, HEAD).graded_R
    assert graded_R.tolist() == [False] + [True] * 8


def test_a_recording_s_own_fold_has_no_say_in_the_mark_that_it_is_told():
    heard_R, grade_R = heard(np.random.default_rng(1), 3.0)
    fold_R, scale = np.arange(len(grade_R)) % 4, mark_scale("high", "0,100", "equal", 3)
    mark_R = 40 + 20.0 * grade_R
    one, other = (
        calibrate(heard_R, grade_R, alone(grade_R), folds(fold_R), 3, HEAD, GivenMarks(given_R, scale))
        for given_R in (mark_R, np.where(fold_R == 2, 100 - mark_R, mark_R))
    )
    assert (one.mark_RM[fold_R == 2] == other.mark_RM[fold_R == 2]).all()
    assert (one.mark_RM[fold_R != 2] != other.mark_RM[fold_R != 2]).any()
    within_R = (one.mark_RM[:, 1] <= mark_R) & (mark_R <= one.mark_RM[:, 2])
    assert within_R.mean() == pytest.approx(0.9, abs=0.06)
    assert one.marks.slope > 0


def test_without_marks_none_are_told():
    heard_R, grade_R = heard(np.random.default_rng(1), 3.0)
    found = calibrate(heard_R, grade_R, alone(grade_R), folds(np.arange(len(grade_R)) % 4), 3, HEAD)
    assert (found.marks, found.mark_RM) == (None, None)
