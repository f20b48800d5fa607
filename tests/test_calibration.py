import math

import numpy as np
import pytest

from samplecnn.calibration import HIGHEST, Heard, calibrate, fit_temperature, stated_by_shares
from samplecnn.course import COURSE
from samplecnn.folds import Split, splits
from samplecnn.merge import expected_score
from samplecnn.metrics import log_loss

HEAD = "cross-entropy"


def folds(fold_R):
    """Splits that hold out one fold each and learn from all others."""
    return [Split(fold_R != fold, fold_R == fold) for fold in sorted(set(fold_R.tolist()))]


def _one(outputs_SO, activity_S):
    return Heard(outputs_SO, activity_S, 10.0 * np.arange(len(activity_S)), np.zeros(len(COURSE)))


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
    one, other = (calibrate(heard_R, given_R, folds(fold_R), 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.probs_RG[fold_R == 2] == other.probs_RG[fold_R == 2]).all()
    assert (one.probs_RG[fold_R != 2] != other.probs_RG[fold_R != 2]).any()
    assert one.temperature != other.temperature


def test_nothing_that_shares_a_performer_or_a_piece_has_a_say_in_the_temperature():
    heard_R, grade_R = heard(np.random.default_rng(1), 3.0, recordings=60)
    columns = [[f"performer {i % 10}" for i in range(60)], [f"piece {i // 10}" for i in range(60)]]
    parted = splits(grade_R, columns, 2, seed=0)
    kept_apart = parted[0].learn_R
    other_R = np.where(kept_apart, grade_R, (grade_R + 1) % 3)
    one, other = (calibrate(heard_R, given_R, parted, 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.probs_RG[parted[0].held_R] == other.probs_RG[parted[0].held_R]).all()
    assert one.temperature != other.temperature


def test_calibrated_probabilities_cost_less_where_a_network_is_too_sure():
    heard_R, grade_R = heard(np.random.default_rng(2), 5.0)
    fold_R = np.arange(len(grade_R), dtype=np.int32) % 5
    calibrated = calibrate(heard_R, grade_R, folds(fold_R), 3, HEAD)
    raw_RG = np.stack([recording.merged(HEAD, 1.0).probs_G for recording in heard_R])
    assert log_loss(grade_R, calibrated.probs_RG).mean() < log_loss(grade_R, raw_RG).mean() - 0.3
    assert calibrated.probs_RG.sum(1) == pytest.approx(1)


def test_a_recording_that_cannot_be_graded_gets_the_shares_of_what_its_split_learns_from():
    heard_R, grade_R = heard(np.random.default_rng(3), 1.0, recordings=9)
    grade_R[:] = [0, 1, 2, 0, 0, 2, 1, 1, 1]
    fold_R = np.repeat([0, 1, 2], 3).astype(np.int32)
    probs_RG = calibrate([None, *heard_R[1:]], grade_R, folds(fold_R), 3, HEAD).probs_RG
    assert probs_RG[0] == pytest.approx([2 / 6, 3 / 6, 1 / 6])


def test_a_probability_of_zero_does_not_end_the_search():
    heard_R = [_one(np.array([[2000.0, -2000.0]], np.float32), np.ones(1, np.float32))] * 4
    assert math.isfinite(fit_temperature(heard_R, np.array([0, 1, 0, 1]), HEAD))


def test_a_model_at_chance_states_each_grade_as_often_as_it_was_given_and_not_the_middle_one_for_all():
    heard_R, grade_R = heard(np.random.default_rng(4), 1.0, recordings=90)
    grade_R = np.random.default_rng(5).permutation(grade_R)
    calibrated = calibrate(heard_R, grade_R, folds(np.arange(90) % 5), 3, HEAD)
    assert (calibrated.probs_RG.cumsum(axis=1)[:, :2] < 0.5).sum(axis=1).tolist() == [1] * 90  # by the median rank
    assert np.bincount(calibrated.grade_R, minlength=3) == pytest.approx(np.bincount(grade_R, minlength=3), abs=8)


def test_a_recording_s_own_fold_has_no_say_in_where_its_grade_ends():
    heard_R, grade_R = heard(np.random.default_rng(1), 1.0)
    fold_R = np.arange(len(grade_R)) % 4
    other_R = np.where(fold_R == 2, 0, grade_R)  # were its cuts moved by these, all of fold 2 would be stated lower
    one, other = (calibrate(heard_R, given_R, folds(fold_R), 3, HEAD) for given_R in (grade_R, other_R))
    assert (one.grade_R[fold_R == 2] == other.grade_R[fold_R == 2]).all()
    assert (one.grade_R[fold_R != 2] != other.grade_R[fold_R != 2]).any()
    assert (one.cuts_K < other.cuts_K).all()

    probs_RG = np.stack([recording.merged(HEAD, 1.0).probs_G for recording in heard_R])
    one_R, other_R = (stated_by_shares(probs_RG, given_R, folds(fold_R)) for given_R in (grade_R, other_R))
    assert (one_R[fold_R == 2] == other_R[fold_R == 2]).all()
    assert (one_R[fold_R != 2] != other_R[fold_R != 2]).any()


def test_the_cuts_of_the_model_state_each_grade_as_often_as_it_was_given():
    heard_R, grade_R = heard(np.random.default_rng(6), 4.0)
    calibrated = calibrate(heard_R, grade_R, folds(np.arange(len(grade_R)) % 4), 3, HEAD)
    score_R = np.array([expected_score(one.merged(HEAD, calibrated.temperature).probs_G) for one in heard_R])
    stated_R = (calibrated.cuts_K < score_R[:, None]).sum(axis=1)
    assert np.bincount(stated_R).tolist() == np.bincount(grade_R).tolist()


def test_where_nothing_can_be_graded_there_are_no_cuts():
    calibrated = calibrate([None] * 6, np.array([0, 1, 2, 0, 1, 2]), folds(np.repeat([0, 1], 3)), 3, HEAD)
    assert (calibrated.temperature, calibrated.cuts_K.tolist()) == (1.0, [])
