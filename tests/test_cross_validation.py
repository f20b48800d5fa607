from dataclasses import replace

import numpy as np
import pytest
import torch

from samplecnn.architecture import Plan
from samplecnn.calibration import calibrate, merged
from samplecnn.cross_validation import HeldOut, hold_out, listen
from samplecnn.evaluation import predicted_grades
from samplecnn.folds import splits
from samplecnn.metrics import Metrics, evaluate
from samplecnn.network import SampleCNN
from samplecnn.recipe import FitSettings
from tests.fixtures.shards import graded_set

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))
FIT = FitSettings(epochs=8, crops=3, batch_size=12, learning_rate=1e-2, patience=8)
HEAD = "cross-entropy"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return graded_set(tmp_path_factory.mktemp("graded"), recordings=45, seconds=3.0)


def cross_validated(recordings) -> tuple[Metrics, Metrics]:
    """As the network states it, and calibrated."""
    parted, heard = splits(recordings.grade_R, [list(recordings.groups)], 3, seed=0), {}
    for split in parted:
        heard |= held_out(recordings, split.learn_R, split.held_R).heard
    heard_R = [heard[name] for name in recordings.names]
    stated_RG = np.stack([merged_at.probs_G for merged_at in merged(heard_R, HEAD, 1.0)])
    calibrated_RG = calibrate(heard_R, recordings.grade_R, parted, 3, HEAD).probs_RG

    def scored(probs_RG):
        return evaluate(recordings.grade_R, predicted_grades(probs_RG), probs_RG, [list(recordings.groups)], seed=0)

    return scored(stated_RG), scored(calibrated_RG)


def held_out(recordings, learn_R, held_R) -> HeldOut:
    network = SampleCNN(PLAN, 3)
    rows = (np.flatnonzero(learn_R), np.flatnonzero(held_R))
    return hold_out(network, recordings, *rows, FIT, head=HEAD, seed=0, device=CPU)


def test_what_can_be_heard_is_graded_and_shuffled_labels_come_out_at_chance(recordings):
    shuffled = replace(recordings, grade_R=np.random.default_rng(0).permutation(recordings.grade_R))

    (true, calibrated), (chance, chance_calibrated) = cross_validated(recordings), cross_validated(shuffled)

    assert true.accuracy.value > 0.9
    assert true.p_value < 0.01
    assert calibrated.log_loss.value < 0.5
    # Uncalibrated: at its temperature a network at chance states the middle grade always, and has no kappa to judge.
    assert sum(given[1] for given in chance.confusion) < 40
    assert chance.p_value > 0.05
    assert chance.kappa.low < 0 < chance.kappa.high < 0.5
    assert chance_calibrated.log_loss.value == pytest.approx(np.log(3), abs=0.15)


def test_what_is_held_out_has_no_say_in_what_is_said_of_it(recordings):
    few = recordings.subset(range(15))
    learn_R = np.arange(15) < 12
    other = replace(few, grade_R=np.where(learn_R, few.grade_R, (few.grade_R + 1) % 3))
    one, two = (held_out(chosen, learn_R, ~learn_R) for chosen in (few, other))
    assert list(one.heard) == list(few.names[12:])
    for name, heard in one.heard.items():
        assert np.array_equal(heard.outputs_SO, two.heard[name].outputs_SO)


def test_a_network_that_gives_no_numbers_says_nothing(recordings):
    network = SampleCNN(PLAN, 3).eval()
    with torch.no_grad():
        network.head.weight.fill_(torch.nan)
    assert listen(network, recordings, 0, CPU) is None
