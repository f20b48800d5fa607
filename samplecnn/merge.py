"""Many segments, one grade: the rules that merge what a recording's segments say.

A rule gets everything that is known of the recording (SegmentOutputs) and answers with a weight a segment and the
merged probabilities. The sums are exactly rounded (math.fsum), so that the order of the segments, and with it the
number of workers, cannot change a bit of the result. Rules that learn are fitted in merging.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from samplecnn.contract import SILENT_SEGMENT_ACTIVITY
from samplecnn.course import COURSE

# S segments of one recording, G grades (0 = worst), E embedding, C features of the course, K steps between grades.
Float64 = npt.NDArray[np.float64]

LOW_SHARE = 10  # percentile of the segments' scores that stands for the worst moments
LEAST_PROBABILITY = 1e-6  # 0 has no odds


@dataclass(frozen=True)
class SegmentOutputs:
    """What is known of one recording's segments, in their order, and of its course.

    probs_SG: rows add up to 1; embedding_SE: what the head saw; activity_S: 0..1, share of frames with playing;
    start_s_S: where each begins; course_C: course.COURSE, the whole recording's, zeros where nothing is known;
    attention_S: what the network's attention says of each (attention.py), one 0 for all where it has none.
    """

    probs_SG: Float64
    embedding_SE: npt.NDArray[np.float32]
    activity_S: npt.NDArray[np.float32]
    start_s_S: Float64
    course_C: Float64 = field(default_factory=lambda: np.zeros(len(COURSE)))
    attention_S: Float64 = field(default_factory=lambda: np.zeros(1))


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
    """One way to merge. Its dataclass fields are its parameters, kept in model.json."""

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        """None where no segment has a say: the recording is silent and cannot be graded."""


@dataclass(frozen=True)
class Mean:
    """The mean of the probabilities over segments that are not silent: what every published SampleCNN does, and the
    baseline of record. A rest inside a segment counts as playing."""

    silent_below: float = SILENT_SEGMENT_ACTIVITY

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        return weighted(segments.probs_SG, self._says(segments).astype(np.float64))

    def _says(self, segments: SegmentOutputs) -> npt.NDArray[np.bool_]:
        """Which segments have a say, [S]."""
        return segments.activity_S >= np.float32(self.silent_below)


@dataclass(frozen=True)
class Vote(Mean):
    """Each segment that is not silent votes for its median rank; a grade's probability is its share of the votes."""

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        grades = segments.probs_SG.shape[1]
        vote_S = [stated_grade(probs_G) for probs_G in segments.probs_SG]
        return weighted(np.eye(grades)[vote_S], self._says(segments).astype(np.float64))


@dataclass(frozen=True)
class Activity(Mean):
    """The mean weighted by activity: a segment that is half silent says half as much."""

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        return weighted(segments.probs_SG, np.where(self._says(segments), segments.activity_S, 0.0))


@dataclass(frozen=True)
class Attended(Mean):
    """The mean weighted by activity times exp(attention): the network has learnt how much each segment counts."""

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        says_S = self._says(segments)
        if not says_S.any():
            return None
        attention_S = np.broadcast_to(segments.attention_S, says_S.shape)
        highest = float(attention_S[says_S].max())
        times_S = [math.exp(min(0.0, attention - highest)) for attention in attention_S.tolist()]
        return weighted(segments.probs_SG, np.where(says_S, segments.activity_S * times_S, 0.0))


@dataclass(frozen=True)
class LinearSoftmax(Mean):
    """Each grade's probabilities weighted by themselves, so that the segments that are sure of it say more.

    Wang, Li, Metze 2019 (arXiv 1810.09050), the best of five ways to pool in the detection of sound events. There one
    moment decides; playing is heard throughout. A segment's weight is its share in the sum over all grades.
    """

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        says_S1 = self._says(segments)[:, None]
        if not says_S1.any():
            return None
        probs_SG = np.where(says_S1, segments.probs_SG, 0.0)
        total_G = np.array([math.fsum(column_S) for column_S in probs_SG.T])
        share_SG = np.divide(probs_SG, total_G, out=np.zeros_like(probs_SG), where=total_G > 0)
        pooled_G = np.array([math.fsum(column_S) for column_S in (share_SG * probs_SG).T])
        weight_S = np.array([math.fsum(row_G) for row_G in share_SG * probs_SG])
        probs_G = pooled_G / math.fsum(pooled_G)
        return Merged(probs_G, expected_score(probs_G), weight_S / math.fsum(weight_S))


@dataclass(frozen=True)
class Spread(Mean):
    """The mean, moved up or down by how unlike the segments are: their spread and their worst moments.

    The log odds of being beyond each step between grades are multiplied by `sharpness` and moved by `offset` and by
    each feature times the parameter of its name: an ordinal regression (proportional odds; McCullagh 1980) on what the
    mean says. With parameters of 0 and a sharpness of 1, as untrained, it is the mean.
    """

    sharpness: float = 1.0
    offset: float = 0.0
    spread: float = 0.0
    low: float = 0.0

    def __call__(self, segments: SegmentOutputs) -> Merged | None:
        mean = Mean(self.silent_below)(segments)
        if mean is None:
            return None
        told = self.features(segments)
        moved = self.offset + math.fsum(getattr(self, name) * value for name, value in told.items())
        probs_G = moved_along(mean.probs_G, self.sharpness, moved)
        return Merged(probs_G, expected_score(probs_G), mean.weight_S)

    def features(self, segments: SegmentOutputs) -> dict[str, float]:
        """By the name of the parameter that weighs it. spread: sd of the segments' scores; low: how far the tenth
        percentile lies below their mean. 0 for one segment."""
        probs_SG = segments.probs_SG[self._says(segments)]
        score_S = np.sort([expected_score(probs_G) for probs_G in probs_SG])  # sorted: no order can change a bit
        return {"spread": float(score_S.std()), "low": float(score_S.mean() - np.percentile(score_S, LOW_SHARE))}


@dataclass(frozen=True)
class Course(Spread):
    """Spread, and what only the whole recording tells: how tempo and loudness go, and how long it stops (course.py)."""

    tempo_spread: float = 0.0
    tempo_range: float = 0.0
    tempo_slope: float = 0.0
    tempo_step: float = 0.0
    tempo_distance: float = 0.0
    level_slope: float = 0.0
    level_spread: float = 0.0
    level_range: float = 0.0
    level_fade: float = 0.0
    pauses: float = 0.0
    paused: float = 0.0
    longest_pause: float = 0.0

    def features(self, segments: SegmentOutputs) -> dict[str, float]:
        return super().features(segments) | dict(zip(COURSE, segments.course_C.tolist(), strict=True))


def moved_along(probs_G: Float64, sharpness: float, moved: float | Float64) -> Float64:
    """The probabilities whose log odds of being beyond each step are those of probs_G, multiplied and moved.

    probs_G: [..., G]; moved: one number, or [...].
    """
    odds_K = sharpness * log_odds(probs_G) + np.asarray(moved)[..., None]
    moved_K = 1.0 / (1.0 + np.exp(-odds_K))
    ends = [(0, 0)] * (moved_K.ndim - 1) + [(1, 1)]
    moved_G: Float64 = -np.diff(np.pad(moved_K, ends, constant_values=(1.0, 0.0)), axis=-1)
    return moved_G


def log_odds(probs_G: Float64) -> Float64:
    """Of being beyond each step between grades, [..., K]. probs_G: [..., G]."""
    beyond_K = np.clip(1.0 - np.cumsum(probs_G, axis=-1)[..., :-1], LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    odds_K: Float64 = np.log(beyond_K / (1.0 - beyond_K))
    return odds_K


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


ATTENTION = "attention"
MERGE_RULES: dict[str, type[MergeRule]] = {
    "mean": Mean,
    "vote": Vote,
    "activity": Activity,
    ATTENTION: Attended,
    "linear softmax": LinearSoftmax,
    "spread": Spread,
    "course": Course,
}
DEFAULT_MERGE = "mean"


def merge_rule(name: str, parameters: Mapping[str, float]) -> MergeRule:
    """The rule of this name with these parameters. Raises KeyError or TypeError where there is no such rule."""
    return MERGE_RULES[name](**parameters)
