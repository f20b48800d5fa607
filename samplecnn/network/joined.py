"""Ways of hearing on one waveform: the rhythm branch by itself, several of it, and joined with SampleCNN."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from samplecnn.architecture import NETWORK_NAMES, Plan
from samplecnn.attention import Attention
from samplecnn.hearing import Hearing
from samplecnn.network import SampleCNN, he_uniform
from samplecnn.network.blocks import KeyedDropout
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.rhythm import Rhythm

# B segments, T samples, E embedding, O outputs of the head.

RHYTHM_EMBEDDING = 64
RHYTHM_DROPOUT = 0.2
MEMBERS = 5
RHYTHM_STREAM = 1 << 16  # apart from the streams of SampleCNN's dropouts, which count from 0


def build(
    name: str,
    plan: Plan,
    sample_rate: int,
    grades: int,
    head: str = DEFAULT_HEAD,
    seed: int = 0,
    *,
    attention: bool = False,
) -> Hearing:
    """The network of this name (architecture.NETWORK_NAMES) for segments that the plan is for, its weights fresh.

    attention: it learns how much a segment counts too.
    """
    network = _build(name, plan, sample_rate, grades, head, seed)
    if attention:
        network.attention = Attention(network.embedding, seed)
    return network


def _build(name: str, plan: Plan, sample_rate: int, grades: int, head: str, seed: int) -> Hearing:
    if name == "joined":
        return Joined(plan, sample_rate, grades, head, seed)
    if name == "rhythm":
        return RhythmNetwork(plan.segment_samples, sample_rate, grades, head, seed)
    if name == "rhythms":
        return Rhythms(plan.segment_samples, sample_rate, grades, head, seed)
    assert name == "samplecnn", f"{name!r} is none of {NETWORK_NAMES}"
    return SampleCNN(plan, grades, head, seed)


class RhythmNetwork(Hearing):
    """The rhythm branch alone: rhythm.Rhythm, one layer, dropout, a head.

    waveform_BT: float32, mono, T = segment_samples at sample_rate, level normalised once per recording. seed: of the
    start weights (He-uniform), but for the filters, which start as windowed cosines; stream: of its dropout.
    """

    def __init__(
        self,
        segment_samples: int,
        sample_rate: int,
        grades: int,
        head: str = DEFAULT_HEAD,
        seed: int = 0,
        *,
        stream: int = RHYTHM_STREAM,
    ) -> None:
        super().__init__()
        self.segment_samples, self.embedding = segment_samples, RHYTHM_EMBEDDING
        self.rhythm = Rhythm(sample_rate)
        self.hidden = nn.Linear(Rhythm.EMBEDDING, RHYTHM_EMBEDDING)
        self.dropout = KeyedDropout(RHYTHM_DROPOUT, stream)
        self.head = HEADS[head].layer(RHYTHM_EMBEDDING, grades)
        he_uniform(self, seed)

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        return relu(self.hidden(self.rhythm(waveform_BT)))


class Rhythms(Hearing):
    """Several rhythm branches, each learning alone from a start of its own; the network says the mean of their outputs.

    Where little is to be learnt from, much of what a network says beyond the playing is its own, and the next one says
    something else (docs/rated-playing.md). embedding: theirs, one after another.
    """

    def __init__(
        self, segment_samples: int, sample_rate: int, grades: int, head: str = DEFAULT_HEAD, seed: int = 0
    ) -> None:
        super().__init__()
        self.segment_samples, self.embedding = segment_samples, MEMBERS * RHYTHM_EMBEDDING
        self.branches = nn.ModuleList(
            RhythmNetwork(segment_samples, sample_rate, grades, head, stream=RHYTHM_STREAM + member)
            for member in range(MEMBERS)
        )
        he_uniform(self, seed)  # from one generator, so that no two are alike

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        return torch.cat([branch.embed(waveform_BT, key_B) for branch in self.members_alone()], dim=1)

    def members(self, embedding_BE: Tensor, key_B: Tensor | None = None) -> Tensor:
        width = RHYTHM_EMBEDDING  # slices, as in Joined
        return torch.cat(
            [
                branch.members(embedding_BE[:, member * width : (member + 1) * width], key_B)
                for member, branch in enumerate(self.members_alone())
            ]
        )

    def members_alone(self) -> Iterator[RhythmNetwork]:
        """The branches, one after another."""
        for branch in self.branches:
            assert isinstance(branch, RhythmNetwork)
            yield branch


class Joined(Hearing):
    """SampleCNN and the rhythm branch on the same segments, one linear head on both embeddings.

    The head is linear, so that it adds up what either says, segment by segment; the recording's grade is merged from
    these sums.
    """

    def __init__(self, plan: Plan, sample_rate: int, grades: int, head: str = DEFAULT_HEAD, seed: int = 0) -> None:
        super().__init__()
        self.segment_samples, self.embedding = plan.segment_samples, plan.embedding + RHYTHM_EMBEDDING
        self.samplecnn = SampleCNN(plan, grades, head, seed)
        self.rhythm = RhythmNetwork(plan.segment_samples, sample_rate, grades, head, seed)
        self.samplecnn.head = self.rhythm.head = nn.Identity()  # one head hears both
        self.head = HEADS[head].layer(self.embedding, grades)
        he_uniform(self.head, seed)

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        return torch.cat([self.samplecnn.embed(waveform_BT, key_B), self.rhythm.embed(waveform_BT, key_B)], dim=1)

    def dropped(self, embedding_BE: Tensor, key_B: Tensor | None) -> Tensor:
        width = self.samplecnn.plan.embedding  # slices: other engines do not read what ONNX makes of tensor_split
        sample_BE, rhythm_BE = embedding_BE[:, :width], embedding_BE[:, width:]
        return torch.cat([self.samplecnn.dropped(sample_BE, key_B), self.rhythm.dropped(rhythm_BE, key_B)], dim=1)
