"""What a network learns from, and what it is charged for: segments, whole recordings, or pairs that nobody has graded.

fit.py takes the steps; a lesson fills its batches, charges their outputs, and examines the network on a recording that
was held back.
"""

import math
import zlib
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from samplecnn.attention import attended
from samplecnn.batches import Batch, Items, RecordingSet, active_stretch, batch
from samplecnn.hearing import Hearing
from samplecnn.infer import Said, hear, hear_batch
from samplecnn.merge import ATTENTION, DEFAULT_MERGE, Merged, SegmentOutputs, merge_rule, stated_grade
from samplecnn.ordinal import HEADS, loss_between, shares
from samplecnn.segments import Windows
from samplecnn.worsen import samples_ahead, two_copies

# B segments, R recordings, S windows of one, O outputs, G grades, T samples, P pairs.

LEAST_PROBABILITY = 1e-12  # 0 has no logarithm
MOST_PAIRS = 4  # heard of a recording that was held back: a batch of inference
NO_NUMBER = math.nan


class Examined(NamedTuple):
    """Of one recording that was held back. loss: no number where the network gives none; right: 0 or 1, or the share of
    its pairs; stated: its grade, 0 where none is asked for."""

    loss: float
    right: float
    stated: int


class Lesson(Protocol):
    """together: how many of the windows drawn are one item, which is charged as a whole; graded: are grades learnt?"""

    together: int
    graded: bool

    def batch(self, recordings: RecordingSet, items: Items) -> Batch:
        """The segments to hear for these windows."""

    def loss(self, outputs_BO: Tensor, attention_B: Tensor, heard: Batch) -> Tensor:
        """What the items of a batch are charged, added up."""

    def examine(self, network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Examined:
        """The network, in evaluation mode, on recording i."""


class SegmentGrades:
    """Each segment has the grade of its recording, or lies with it between two; a recording is
    charged the mean over its windows that have a say."""

    together, graded = 1, True

    def __init__(self, head: str) -> None:
        self._head = head

    def batch(self, recordings: RecordingSet, items: Items) -> Batch:
        return batch(recordings, items)

    def loss(self, outputs_BO: Tensor, attention_B: Tensor, heard: Batch) -> Tensor:
        loss_B = loss_between(self._head, outputs_BO, heard.rank_B.to(outputs_BO.device))
        return (loss_B * heard.weight_B.to(outputs_BO.device)).sum()

    def examine(self, network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Examined:
        windows, said = _heard(network, recordings, i, device)
        merged = _merged(DEFAULT_MERGE, self._head, windows, said)
        if merged is None:
            return Examined(NO_NUMBER, 0.0, 0)
        given, stated = int(recordings.grade_R[i]), stated_grade(merged.probs_G)
        rank_S = torch.from_numpy(recordings.ranks([i] * len(windows)))
        loss_S = loss_between(self._head, said.outputs_SO, rank_S).double()
        return Examined(float((loss_S * torch.from_numpy(merged.weight_S)).sum()), float(stated == given), stated)


class RecordingGrades:
    """So many windows of a recording make its grade together, weighted by the network's attention (attention.py)."""

    graded = True

    def __init__(self, head: str, together: int) -> None:
        self._head, self.together = head, together

    def batch(self, recordings: RecordingSet, items: Items) -> Batch:
        return batch(recordings, items)

    def loss(self, outputs_BO: Tensor, attention_B: Tensor, heard: Batch) -> Tensor:
        probs_BG = HEADS[self._head].probs(outputs_BO)
        probs_RSG = probs_BG.view(-1, self.together, probs_BG.shape[1])
        activity_RS = heard.activity_B.to(outputs_BO.device).view(-1, self.together)
        probs_RG, _ = attended(probs_RSG, attention_B.view(-1, self.together), activity_RS)
        rank_R1 = heard.rank_B.to(outputs_BO.device).view(-1, self.together)[:, :1]
        weight_R1 = heard.weight_B.to(outputs_BO.device).view(-1, self.together)[:, :1]
        return (weight_R1 * _nats_between(probs_RG, rank_R1)).sum()

    def examine(self, network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Examined:
        merged = _merged(ATTENTION, self._head, *_heard(network, recordings, i, device))
        if merged is None:
            return Examined(NO_NUMBER, 0.0, 0)
        given, stated = int(recordings.grade_R[i]), stated_grade(merged.probs_G)
        rank_11 = torch.from_numpy(recordings.ranks([i]))[:, None]
        loss = float(_nats_between(torch.from_numpy(merged.probs_G)[None], rank_11))
        return Examined(loss, float(stated == given), stated)


class Pairs:
    """Of two copies of what was played, the one with the worse pulse (worsen.py) must score lower. No grade is asked
    for: the network has two outputs, and the score is how far the second lies above the first."""

    together, graded = 1, False

    def batch(self, recordings: RecordingSet, items: Items) -> Batch:
        """Two segments an item, the better copy first; both draw the same dropout and augmentation."""
        rate, samples = recordings.settings.sample_rate, recordings.settings.segment_samples
        waveform_BT = np.zeros((2 * len(items), samples), np.float32)
        drawn = zip(items.recording_N.tolist(), items.start_N.tolist(), items.key_N.tolist(), strict=True)
        for row, (i, start, key) in enumerate(drawn):
            end = min(active_stretch(recordings, i)[1], start + samples_ahead(samples))
            played_T = recordings.waveform(i)[start:end] * recordings.gain_R[i]
            waveform_BT[2 * row : 2 * row + 2] = two_copies(played_T, key, rate, samples)
        key_B = torch.from_numpy(np.repeat(items.key_N, 2))
        nothing_B = torch.zeros(len(key_B))
        return Batch(torch.from_numpy(waveform_BT), nothing_B, torch.ones(len(key_B)), nothing_B, key_B)

    def loss(self, outputs_BO: Tensor, attention_B: Tensor, heard: Batch) -> Tensor:
        return functional.softplus(-_ahead(outputs_BO)).sum()

    def examine(self, network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> Examined:
        windows = recordings.windows(i)
        chosen_P = np.linspace(0, len(windows) - 1, min(MOST_PAIRS, len(windows))).astype(np.int64)
        key_P = zlib.crc32(recordings.names[i].encode()) + chosen_P
        items = Items(np.full(len(chosen_P), i), windows.start_S[chosen_P], key_P)
        said = hear_batch(network, self.batch(recordings, items).waveform_BT.numpy(), device)
        ahead_P = _ahead(said.outputs_SO)
        return Examined(float(functional.softplus(-ahead_P).mean()), float((ahead_P > 0).double().mean()), 0)


def _ahead(outputs_BO: Tensor) -> Tensor:
    """By how much the better copy of each pair scores above the worse one, [P]."""
    score_B = outputs_BO[:, 1] - outputs_BO[:, 0]
    return score_B[0::2] - score_B[1::2]


def _nats_between(probs_RG: Tensor, rank_R1: Tensor) -> Tensor:
    """As ordinal.loss_between, of what windows say together, [R, 1]."""
    log_RG = torch.log(probs_RG.clamp(min=LEAST_PROBABILITY))
    lower_R1, upper_R1, share_R1 = shares(rank_R1)
    return -((1 - share_R1) * log_RG.gather(1, lower_R1) + share_R1 * log_RG.gather(1, upper_R1))


def _heard(network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> tuple[Windows, Said]:
    windows = recordings.windows(i)
    return windows, hear(network, recordings.waveform(i), float(recordings.gain_R[i]), windows, device)


def _merged(rule: str, head: str, windows: Windows, said: Said) -> Merged | None:
    """None where the network gave no numbers."""
    probs_SG, attention_S = HEADS[head].probs(said.outputs_SO).numpy(), said.attention_S.double().numpy()
    if not (np.isfinite(probs_SG).all() and np.isfinite(attention_S).all()):
        return None
    embedding_SE = said.embedding_SE.numpy()
    outputs = SegmentOutputs(probs_SG, embedding_SE, windows.activity_S, windows.start_s, attention_S=attention_S)
    merged = merge_rule(rule, {})(outputs)
    assert merged is not None, "read_recordings leaves silent recordings out"
    return merged
