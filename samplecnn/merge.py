"""Many segments, one grade: the rules that merge what a recording's segments say.

A rule gets everything that is known of the segments (SegmentOutputs) and answers with a weight a segment and the merged
probabilities. The sums are exactly rounded (math.fsum), so that the order of the segments, and with it the number of
workers, cannot change a bit of the result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from samplecnn.contract import SILENT_SEGMENT_ACTIVITY

# S segments of one recording, G grades (0 = worst), E embedding.
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SegmentOutputs:
    """What is known of one recording's segments, in their order.

    probs_SG: rows add up to 1; embedding_SE: what the head saw; activity_S: 0..1, share of frames with playing.
    """

    probs_SG: Float64
    embedding_SE: npt.NDArray[np.float32]
    activity_S: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Merged:
    """One recording's grade.

    probs_G: add up to 1; weight_S: adds up to 1, 0 for a segment without a say; score: 0 = worst .. 1 = best, the
    expected rank over the number of steps.
    """

    probs_G: Float64
    score: float
    weight_S: Float64


class MergeRule(Protocol):
    """One way to merge. Its dataclass fields are its parameters, kept in model.json. Later rules learn theirs."""

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        """None where no segment has a say: the recording is silent and cannot be graded."""


@dataclass(frozen=True)
class Mean:
    """The mean of the probabilities over segments that are not silent: what every published SampleCNN does, and the
    baseline of record. A rest inside a segment counts as playing."""

    silent_below: float = SILENT_SEGMENT_ACTIVITY

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        return weighted(segments.probs_SG, (segments.activity_S >= np.float32(self.silent_below)).astype(np.float64))


def weighted(probs_SG: Float64, weight_S: Float64) -> Merged | None:
    """The weighted mean of the probabilities; weights of any sum, None where all are 0."""
    total = math.fsum(weight_S)
    if total == 0:
        return None
    weight_S = weight_S / total
    probs_G = np.array([math.fsum(column_S) for column_S in (probs_SG * weight_S[:, None]).T])
    probs_G /= math.fsum(probs_G)
    return Merged(probs_G, expected_score(probs_G), weight_S)


def expected_score(probs_G: Float64) -> float:
    """The expected rank on a scale from 0 = worst to 1 = best."""
    steps = len(probs_G) - 1
    return min(1.0, math.fsum(rank * float(p) for rank, p in enumerate(probs_G)) / steps)


def stated_grade(probs_G: Float64, cuts_K: Sequence[float] | Float64 = ()) -> int:
    """The grade that is stated: how many of the cuts lie below the expected rank; without cuts the median rank.

    The true grade is as likely as not no better than the median rank, and as likely as not no worse. It errs by the
    fewest steps on average. The expected rank, rounded, hedges to the middle (p = .21, .29, .50 would be stated as the
    middle grade); the most probable grade ignores how far off the others are.
    """
    if len(cuts_K):
        return int((np.asarray(cuts_K) < expected_score(probs_G)).sum())
    return int((np.cumsum(probs_G)[:-1] < 0.5).sum())


def cuts_at_shares(score_R: Float64, grade_R: npt.NDArray[np.int64], grades: int) -> Float64:
    """The scores between grades, [G - 1], under which each grade is stated as often as it was given.

    score_R: of recordings that the grader had not heard. A model that is not sure of itself has scores near the middle,
    and by its median rank it would state the middle grade for all: what it knows of their order would be lost.
    """
    share_K = np.cumsum(np.bincount(grade_R, minlength=grades)[:-1]) / len(grade_R)
    cuts_K: Float64 = np.where(share_K > 0, np.quantile(score_R, share_K), 0.0)  # 0: what was never given is not stated
    return cuts_K


MERGE_RULES: dict[str, type[MergeRule]] = {"mean": Mean}
DEFAULT_MERGE = "mean"


def merge_rule(name: str, parameters: Mapping[str, float]) -> MergeRule:
    """The rule of this name with these parameters. Raises KeyError or TypeError where there is no such rule."""
    return MERGE_RULES[name](**parameters)
