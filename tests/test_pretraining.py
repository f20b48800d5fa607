from dataclasses import replace

import numpy as np
import pytest
import torch

from samplecnn.errors import JobError
from samplecnn.network.joined import RhythmNetwork
from samplecnn.performances.drawn import TARGETS
from samplecnn.pretraining import NOT_TAUGHT, Taught, embed, explained, squared_error, taught_columns, teach
from samplecnn.recipe import PretrainSettings
from tests.fixtures.shards import recording_set, tone

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = PretrainSettings(count=12, performers=6, epochs=6, crops=4, batch_size=8, learning_rate=3e-3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Taught:
    """Twelve recordings by six performers (of whom number 0 is held back); how high they are is to be told, and a
    second number that half of them do not have."""
    pitch_R = np.arange(12) % 3
    waves = {f"{n:02}.wav": tone(4.0, int(pitch), n) for n, pitch in enumerate(pitch_R)}
    recordings = recording_set(tmp_path_factory.mktemp("taught"), waves, [0] * 12)
    second_R = np.where(np.arange(12) % 2, np.nan, pitch_R * 10.0 + 5.0)
    target_RK = np.stack([pitch_R, second_R], axis=1).astype(np.float32)
    return Taught(recordings, target_RK, np.arange(12) % 6, ("pitch", "second"))


def _taught_network(taught: Taught, settings=SETTINGS) -> tuple[RhythmNetwork, list[str]]:
    network = RhythmNetwork(500, 500, 2, seed=0)
    lines = list(teach(network, taught, settings, settings.learning_rate, seed=0, device=CPU))
    return network, lines


@pytest.fixture(scope="module")
def learnt(taught):
    torch.set_num_threads(1)
    return _taught_network(taught)


def test_what_a_take_does_not_tell_costs_nothing():
    outputs_BK = torch.tensor([[1.0, 5.0], [1.0, 2.0], [3.0, 3.0]], requires_grad=True)
    target_BK = torch.tensor([[0.0, torch.nan], [0.0, 0.0], [torch.nan, torch.nan]])
    loss_B = squared_error(outputs_BK, target_BK)
    assert loss_B.tolist() == [1.0, 2.5, 0.0]
    loss_B.sum().backward()
    assert outputs_BK.grad.tolist() == [[2.0, 0.0], [1.0, 2.0], [0.0, 0.0]]


def test_a_tiny_run_lowers_the_loss(learnt):
    network, lines = learnt
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == SETTINGS.epochs
    assert losses[-1] < 0.7 * losses[0]
    assert not network.training


def test_two_runs_give_the_same_weights(taught, learnt):
    torch.manual_seed(99)  # the global generator has no say
    again, _ = _taught_network(taught)
    for name, tensor in learnt[0].state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_nothing_is_learnt_from_the_performers_held_back(taught, learnt):
    assert taught.held().tolist() == [n % 6 == 0 for n in range(12)]
    other_RK = np.where(taught.held()[:, None], np.float32(1000.0), taught.target_RK)
    again, _ = _taught_network(replace(taught, target_RK=other_RK))
    for name, tensor in learnt[0].state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_targets_are_standardised_over_what_is_learnt_from(taught):
    told_RK = taught.standardised()
    assert np.nanmean(told_RK[~taught.held()], axis=0) == pytest.approx(0.0, abs=1e-6)
    assert np.nanstd(told_RK[~taught.held()], axis=0) == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(told_RK[:, 1]).tolist() == (np.arange(12) % 2 == 1).tolist()
    constant = replace(taught, target_RK=np.ones((12, 2), np.float32))
    assert not constant.standardised().any()


def test_what_a_network_hears_is_the_mean_over_the_windows_of_each_performance(taught, learnt):
    heard = embed(learnt[0], taught.recordings, CPU)
    assert heard.embedding_RE.shape == (12, learnt[0].head.in_features)
    with torch.no_grad():
        outputs_RK = learnt[0].head(torch.from_numpy(heard.embedding_RE))
    np.testing.assert_allclose(heard.output_RK, outputs_RK, atol=1e-4)


def test_the_share_that_is_told_is_one_of_all_and_nothing_of_the_mean():
    target_RK = np.array([[0.0, 1.0], [2.0, np.nan], [4.0, 3.0]], np.float32)
    assert explained(np.nan_to_num(target_RK), target_RK).tolist() == [1.0, 1.0]
    assert explained(np.full((3, 2), 2.0, np.float32), target_RK).tolist() == [0.0, 0.0]
    nothing_RK = np.array([[np.nan, 1.0]] * 3, np.float32)
    assert explained(target_RK, nothing_RK).tolist() == [0.0, 0.0]


def test_a_loss_that_is_no_number_ends_teaching_with_the_cure(taught):
    with pytest.raises(JobError, match="lower --learning-rate"):
        list(teach(RhythmNetwork(500, 500, 2), taught, SETTINGS, 1e30, seed=0, device=CPU))


def test_what_is_meant_is_not_taught():
    names = [TARGETS[place] for place in taught_columns(TARGETS)]
    assert set(names).isdisjoint(NOT_TAUGHT)
    assert set(NOT_TAUGHT) <= set(TARGETS)
    assert "skill" in names
