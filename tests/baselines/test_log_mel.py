import numpy as np
import pytest
import torch

from samplecnn.baselines import logistic
from samplecnn.baselines.log_mel import LogMel, LogMelCNN, log_mel_features
from samplecnn.cross_validation import hold_out
from samplecnn.merge import stated_grade
from samplecnn.recipe import FitSettings
from tests.fixtures.shards import graded_set

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return graded_set(tmp_path_factory.mktemp("log_mel"), recordings=12)


@pytest.mark.parametrize("rate", [100, 500, 2000, 22050])
def test_no_band_is_empty_at_any_rate(rate):
    noise_BT = torch.from_numpy(np.random.default_rng(0).standard_normal((2, rate)).astype(np.float32))
    log_mel = LogMel(rate)
    bands_BMF = log_mel(noise_BT)
    assert bands_BMF.shape[:2] == (2, log_mel.bands)
    assert (bands_BMF.std(dim=2) > 0).all()


def test_silence_has_a_spectrogram_too():
    assert torch.isfinite(LogMel(500)(torch.zeros(1, 500))).all()


def test_statistics_of_the_spectrogram_tell_pitches_apart(recordings):
    features_RF = log_mel_features(recordings)
    assert features_RF.shape == (12, 4 * LogMel(500).bands)
    probs_RG = logistic(features_RF[:6], recordings.grade_R[:6], features_RF[6:], 3)
    assert (probs_RG.argmax(axis=1) == recordings.grade_R[6:]).all()


def test_the_small_network_learns_what_can_be_heard_of_recordings_held_out(recordings):
    network = LogMelCNN(500, 500, 3)
    settings = FitSettings(epochs=15, crops=4, batch_size=12, learning_rate=1e-2, patience=15)
    held = hold_out(
        network, recordings, np.arange(9), np.arange(9, 12), settings, head="cross-entropy", seed=0, device=CPU
    )
    assert list(held.heard) == list(recordings.names[9:])
    heard_R = [heard.merged("cross-entropy", 1.0) for heard in held.heard.values()]
    assert [stated_grade(merged.probs_G) for merged in heard_R] == recordings.grade_R[9:].tolist()
    assert held.train_loss < 0.5
    assert 1 <= held.best_epoch <= 15


def test_the_start_weights_are_a_function_of_the_seed_alone():
    first = LogMelCNN(500, 500, 3, seed=1).state_dict()
    torch.manual_seed(5)
    again, other = (LogMelCNN(500, 500, 3, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("samples", [25, 32, 33, 64])
def test_the_shortest_segments_have_a_spectrogram(samples):
    assert torch.isfinite(LogMel(500)(torch.randn(2, samples))).all()
