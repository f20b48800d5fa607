import numpy as np
import pytest
from scipy.stats import ks_2samp

from samplecnn.inputs import KEPT, spread_from, spread_of


def test_a_model_keeps_how_its_recordings_are_spread_in_a_bounded_number_of_values():
    rng = np.random.default_rng(0)
    told = spread_of(
        {"level": rng.normal(-20, 3, 5000), "length": np.array([90.0, np.nan, 60.0]), "score": np.zeros(0)}
    )
    assert (len(told["level"]), told["length"], "score" in told) == (KEPT, [60.0, 90.0], False)
    kept = spread_from({"inputs": told})
    alike, other = rng.normal(-20, 3, 100), rng.normal(-18, 3, 100)
    assert ks_2samp(alike, kept["level"]).pvalue > 0.05
    assert ks_2samp(other, kept["level"]).pvalue < 0.001
    assert kept["level"].mean() == pytest.approx(-20, abs=0.2)


def test_a_model_from_before_tells_nothing():
    assert spread_from({"history": []}) == {}
