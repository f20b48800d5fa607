import pytest
import torch

from samplecnn.architecture import BLOCK_NAMES, NETWORK_NAMES, NetworkSettings, plan_for
from samplecnn.batchnorm import BatchNorm
from samplecnn.hearing import Hearing
from samplecnn.infer import Grader
from samplecnn.model_folder import ModelCard
from samplecnn.network.folded import folded
from samplecnn.network.joined import build
from samplecnn.segments import SegmentSettings

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = SegmentSettings(sample_rate=500, segment_s=1.02, hop_s=1.02)


def _network(name: str, block: str = "plain", attention: bool = False) -> Hearing:
    """Its BatchNorms have heard something, and scale and shift as none does at the start."""
    generator = torch.Generator().manual_seed(0)
    network = build(name, plan_for(510, NetworkSettings(block=block)), 500, 3, attention=attention).train()
    with torch.no_grad():
        for n in range(5):
            network(torch.randn(8, 510, generator=torch.Generator().manual_seed(n)), torch.arange(8))
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.weight.uniform_(-1.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()


CASES = [
    *(("samplecnn", block) for block in BLOCK_NAMES),
    ("rhythm", "plain"),
    ("rhythms", "plain"),
    ("joined", "rese"),
]


@pytest.mark.parametrize(("name", "block"), CASES)
def test_a_folded_network_has_no_batch_norm_left_and_says_the_same(name, block):
    network = _network(name, block)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    waveform_BT = torch.randn(8, 510, generator=torch.Generator().manual_seed(9))

    alone = folded(network)

    assert not any(isinstance(module, BatchNorm) for module in alone.modules())
    for ours, theirs in zip(alone.hear(waveform_BT), network.hear(waveform_BT), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert {name for name, _ in CASES} == set(NETWORK_NAMES)


def test_grading_hears_with_the_folded_network():
    network = _network("joined", attention=True)
    card = ModelCard(plan=plan_for(510), settings=SETTINGS, grades=("C", "B", "A"), network="joined", attention=True)
    windows_ST = torch.randn(8, 510, generator=torch.Generator().manual_seed(9))

    _, embedding_SE, _ = Grader(card, network, torch.device("cpu")).hear(windows_ST.numpy())

    with torch.inference_mode():
        told_BE, plain_BE = (net.hear(windows_ST)[1].numpy() for net in (folded(network), network))
    assert (embedding_SE == told_BE).all()
    assert (embedding_SE != plain_BE).any()  # rounding tells them apart
