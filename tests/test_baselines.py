import numpy as np
import pyarrow as pa
import pytest

from samplecnn.baselines import BASELINES, majority, outer_features
from samplecnn.contract import ACTIVITY, RECORDING, RMS_DBFS, SAMPLE_RATE, START_S, VALID_SAMPLES


def test_outer_features_measure_level_and_duration_by_recording():
    segments = pa.table(
        {
            RECORDING: ["b", "a", "a"],
            START_S: [0.0, 0.0, 10.0],
            VALID_SAMPLES: pa.array([5000, 5000, 2500], pa.int32()),
            SAMPLE_RATE: pa.array([500, 500, 500], pa.int32()),
            ACTIVITY: pa.array([1.0, 0.5, 1.0], pa.float32()),
            RMS_DBFS: pa.array([-20.0, -30.0, -10.0], pa.float32()),
        }
    )
    a, b = outer_features(segments, ["a", "b"])
    assert a.tolist() == pytest.approx([-20.0, 10.0, 20.0, 15.0, 0.75, 0.5])
    assert b.tolist() == pytest.approx([-20.0, 0.0, 0.0, 10.0, 1.0, 1.0])


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_probabilities_even_where_a_grade_is_missing(name):
    rng = np.random.default_rng(0)
    probs = BASELINES[name](rng.normal(size=(8, 6)), np.array([0, 2] * 4), rng.normal(size=(3, 6)), 3)
    assert probs.shape == (3, 3)
    assert probs.sum(axis=1) == pytest.approx(1.0)


def test_the_majority_is_the_commonest_of_all_given_grades():
    assert majority(np.array([0, 2, 2, 1]), 3).tolist() == [[0, 0, 1]] * 4
    assert majority(np.array([0, 1, 2]), 3).tolist() == [[0, 1, 0]] * 3


def test_loudness_alone_is_found_where_it_gives_the_grade_away():
    rng = np.random.default_rng(0)
    grade = np.tile([0, 2], 30)
    features = rng.normal(size=(60, 6))
    features[:, 0] += 5.0 * grade
    probs = BASELINES["loudness and duration"](features[:30], grade[:30], features[30:], 3)
    assert (probs.argmax(axis=1) == grade[30:]).mean() > 0.9
