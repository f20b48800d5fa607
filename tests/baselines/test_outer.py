import numpy as np
import pyarrow as pa
import pytest

from samplecnn.baselines import held_out_logistic, logistic, majority
from samplecnn.baselines.outer import format_features, level_features, outer_features
from samplecnn.contract import (
    ACTIVITY,
    CHANNELS,
    CODEC,
    RECORDING,
    RMS_DBFS,
    SAMPLE_RATE,
    SOURCE_RATE,
    START_S,
    VALID_SAMPLES,
)
from samplecnn.folds import Split

SEGMENTS = pa.table(
    {
        RECORDING: ["b", "a", "a"],
        START_S: [0.0, 0.0, 10.0],
        VALID_SAMPLES: pa.array([5000, 5000, 2500], pa.int32()),
        SAMPLE_RATE: pa.array([500, 500, 500], pa.int32()),
        ACTIVITY: pa.array([1.0, 0.5, 1.0], pa.float32()),
        RMS_DBFS: pa.array([-20.0, -30.0, -10.0], pa.float32()),
    }
)
RECORDINGS = pa.table(
    {RECORDING: ["c", "b", "a"], CHANNELS: [1, 2, 1], SOURCE_RATE: [8000, 44100, 48000], CODEC: ["mp3", "flac", "opus"]}
)


def test_level_and_duration_are_measured_by_recording():
    a, b = level_features(SEGMENTS, ["a", "b"])
    assert a.tolist() == pytest.approx([-20.0, 10.0, 20.0, 15.0, 0.75, 0.5])
    assert b.tolist() == pytest.approx([-20.0, 0.0, 0.0, 10.0, 1.0, 1.0])


def test_each_codec_is_a_column_of_its_own():
    a, b = format_features(RECORDINGS, ["a", "b"])
    assert a.tolist() == pytest.approx([1, np.log(48000), 0, 1])
    assert b.tolist() == pytest.approx([2, np.log(44100), 1, 0])
    assert outer_features(SEGMENTS, RECORDINGS, ["a", "b"]).shape == (2, 10)


def test_a_regression_gives_probabilities_even_where_a_grade_is_missing():
    rng = np.random.default_rng(0)
    for grade_R in (np.array([0, 2] * 4), np.array([1] * 8)):
        probs_RG = logistic(rng.normal(size=(8, 6)), grade_R, rng.normal(size=(3, 6)), 3)
        assert probs_RG.shape == (3, 3)
        assert probs_RG.sum(axis=1) == pytest.approx(1.0)


def test_a_recording_without_features_is_not_learnt_from_and_gets_the_shares_of_the_grades():
    rng = np.random.default_rng(0)
    grade_R = np.array([0, 1, 2, 0, 1, 2, 2, 2, 0, 1])
    features_RF = rng.normal(size=(10, 2)) + grade_R[:, None]
    features_RF[[6, 7, 9]] = np.nan
    held_R = np.arange(10) >= 8
    parted = [Split(~held_R, held_R)]

    probs_RG = held_out_logistic(features_RF, grade_R, parted, 3)
    without_R = np.arange(10) < 6
    expected_G = logistic(features_RF[without_R], grade_R[without_R], features_RF[8:9], 3)[0]

    assert probs_RG[8] == pytest.approx(expected_G)
    assert probs_RG[9].tolist() == [2 / 8, 2 / 8, 4 / 8]


def test_the_majority_is_the_commonest_of_all_given_grades():
    assert majority(np.array([0, 2, 2, 1]), 3).tolist() == [[0, 0, 1]] * 4
    assert majority(np.array([0, 1, 2]), 3).tolist() == [[0, 1, 0]] * 3


def test_loudness_alone_is_found_where_it_gives_the_grade_away():
    rng = np.random.default_rng(0)
    grade = np.tile([0, 2], 30)
    features = rng.normal(size=(60, 6))
    features[:, 0] += 5.0 * grade
    probs = logistic(features[:30], grade[:30], features[30:], 3)
    assert (probs.argmax(axis=1) == grade[30:]).mean() > 0.9
