"""Merging learnt as a network over the segments of a recording: gated attention, and a sequence model with positions.

For measuring (benchmarks/context.py): neither was better than the mean on a few hundred recordings, and where only the
whole recording tells, the dozen given numbers of merge.Course were (docs/context.md). So jobs do not offer them. Both
are, untrained, what they start from: attention the mean weighted by activity, the sequence model the mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from samplecnn.attention import Attention, attended
from samplecnn.contract import SILENT_SEGMENT_ACTIVITY
from samplecnn.merge import LEAST_PROBABILITY, Mean, Merged, SegmentOutputs, expected_score, weighted

# R recordings, S segments of the longest, E embedding, G grades (0 = worst), K steps between grades, H hidden.

HIDDEN, HEADS = 16, 2
POSITIONS_S = (10.0, 40.0, 160.0)  # wave lengths of the positions, sine and cosine each
STEPS, RATE, DECAY = 150, 3e-3, 0.1


@dataclass(frozen=True)
class Bags:
    """Recordings padded to the longest. mask_RS: which segments are there; probs_RSG and activity_RS as in
    SegmentOutputs, embedding_RSE standardised, start_s_RS from the first segment."""

    probs_RSG: Tensor
    embedding_RSE: Tensor
    activity_RS: Tensor
    start_s_RS: Tensor
    mask_RS: Tensor

    @property
    def with_a_say(self) -> Tensor:
        """Which segments have a say."""
        return self.mask_RS & (self.activity_RS >= SILENT_SEGMENT_ACTIVITY)


def bags(
    segments_R: Sequence[SegmentOutputs], centre_E: npt.NDArray[np.float32], spread_E: npt.NDArray[np.float32]
) -> Bags:
    """Pad recordings. centre_E, spread_E: of the embeddings that were learnt from."""
    longest = max(len(segments.probs_SG) for segments in segments_R)

    def padded(rows: Sequence[npt.NDArray[np.float32]]) -> Tensor:
        out = np.zeros((len(rows), longest, *rows[0].shape[1:]), np.float32)
        for row, values in zip(out, rows, strict=True):
            row[: len(values)] = values
        return torch.from_numpy(out)

    return Bags(
        padded([s.probs_SG.astype(np.float32) for s in segments_R]),
        padded([(s.embedding_SE - centre_E) / spread_E for s in segments_R]),
        padded([s.activity_S for s in segments_R]),
        padded([(s.start_s_S - s.start_s_S[0]).astype(np.float32) for s in segments_R]),
        padded([np.ones(len(s.probs_SG), np.float32) for s in segments_R]).bool(),
    )


class BagMerge(nn.Module):
    """Bags to (probs_RG, weight_RS). Segments that are not there change nothing."""

    def forward(self, heard: Bags) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class GatedAttention(BagMerge):
    """attention.py's, on the embeddings of a network that stays as it is; silence has no say."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.attention = Attention(embedding, seed=0)

    def forward(self, heard: Bags) -> tuple[Tensor, Tensor]:
        recordings, segments, _ = heard.embedding_RSE.shape
        attention_RS = self.attention(heard.embedding_RSE.flatten(0, 1)).view(recordings, segments)
        return attended(heard.probs_RSG, attention_RS, heard.activity_RS, heard.with_a_say)


class SequenceContext(BagMerge):
    """One layer of a transformer over the segments, silent ones too, and their times; what it says, averaged, moves the
    mean's log odds of being beyond each step, as in merge.Spread."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.project = nn.Linear(embedding, HIDDEN)
        told = HIDDEN + 2 * len(POSITIONS_S) + 2  # and the score and activity of a segment
        self.into = nn.Linear(told, HIDDEN)
        self.layer = nn.TransformerEncoderLayer(
            HIDDEN, HEADS, 2 * HIDDEN, dropout=0.2, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, heard: Bags) -> tuple[Tensor, Tensor]:
        ranks_G = torch.arange(heard.probs_RSG.shape[2], dtype=torch.float32)
        score_RS1 = (heard.probs_RSG * ranks_G).sum(dim=2, keepdim=True)
        angle_RSP = 2 * math.pi * heard.start_s_RS[:, :, None] / torch.tensor(POSITIONS_S)
        place_RSP = torch.cat([torch.sin(angle_RSP), torch.cos(angle_RSP)], dim=2)
        told = [self.project(heard.embedding_RSE), place_RSP, score_RS1, heard.activity_RS[:, :, None]]
        x_RSH = self.layer(self.into(torch.cat(told, dim=2)), src_key_padding_mask=~heard.mask_RS)
        there_RS1 = heard.mask_RS[:, :, None]
        moved_R1 = self.out((x_RSH * there_RS1).sum(dim=1) / there_RS1.sum(dim=1))
        weight_RS = heard.with_a_say / heard.with_a_say.sum(dim=1, keepdim=True)
        mean_RG = (weight_RS[:, :, None] * heard.probs_RSG).sum(dim=1)
        beyond_RK = (1 - mean_RG.cumsum(dim=1)[:, :-1]).clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        moved_RK = torch.sigmoid(torch.logit(beyond_RK) + moved_R1)
        edges = [torch.ones_like(moved_R1), moved_RK, torch.zeros_like(moved_R1)]
        return -torch.diff(torch.cat(edges, dim=1), dim=1), weight_RS


@dataclass(frozen=True)
class Learnt:
    """A merge rule (merge.MergeRule) that a network over segments makes."""

    network: BagMerge
    centre_E: npt.NDArray[np.float32]
    spread_E: npt.NDArray[np.float32]

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        if Mean()(segments) is None:
            return None
        with torch.no_grad():
            probs_RG, weight_RS = self.network(bags([segments], self.centre_E, self.spread_E))
        merged = weighted(segments.probs_SG, weight_RS[0].double().numpy())
        assert merged is not None, "a segment that is not silent has a say"
        probs_G = probs_RG[0].double().numpy()
        probs_G = probs_G / math.fsum(probs_G)
        return Merged(probs_G, expected_score(probs_G), merged.weight_S)


def fit_learnt(
    kind: type[GatedAttention] | type[SequenceContext],
    segments_R: Sequence[SegmentOutputs],
    grade_R: npt.NDArray[np.int64],
    seed: int,
) -> Learnt:
    """Trained on what a network, which stays as it is, says of labelled recordings; none of them silent."""
    embedding_SE = np.concatenate([segments.embedding_SE for segments in segments_R])
    centre_E, spread_E = embedding_SE.mean(axis=0), embedding_SE.std(axis=0) + np.float32(1e-3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(embedding_SE.shape[1]).train()
        heard, given_R = bags(segments_R, centre_E, spread_E), torch.from_numpy(grade_R)
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            optimiser.zero_grad()
            probs_RG, _ = network(heard)
            torch.autograd.backward(
                -torch.log(probs_RG.clamp(min=LEAST_PROBABILITY))[range(len(given_R)), given_R].mean()
            )
            optimiser.step()
    return Learnt(network.eval(), centre_E, spread_E)
