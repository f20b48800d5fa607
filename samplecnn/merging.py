"""Rules that learn how to merge: fitted on what a network says of labelled recordings, and taken only where they help.

Two stages: the network is trained first, and then heard; what is fitted here is a dozen numbers over a recording, which
a hundred labels can carry. Where they cannot, as with fifteen, the mean over segments is kept: a rule is chosen only if
recordings that it was not fitted on say so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from samplecnn.errors import UserError
from samplecnn.folds import Split, splits
from samplecnn.merge import (
    ATTENTION,
    DEFAULT_MERGE,
    Attended,
    Course,
    Mean,
    MergeRule,
    SegmentOutputs,
    Spread,
    expected_score,
    moved_along,
)
from samplecnn.metrics import LEAST_GROUPS, beyond_chance

# R recordings, S segments, G grades (0 = worst), X features.
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
T = TypeVar("T", bound=Spread)

COURSE = "course"  # in merge.MERGE_RULES
PENALTY = 1.0  # on the square of a parameter per spread of its feature, against nats summed over recordings
FOLDS = 5  # to see whether a rule helps; fewer where there are fewer groups
LEAST_FOLDS = 3
LEAST_SHARPNESS = 0.05
LEAST_PROBABILITY = 1e-12


def fit_rule(rule: T, segments_R: Sequence[SegmentOutputs], rank_R: Float64, free: Sequence[str] | None = None) -> T:
    """The rule with the parameters under which the given grades are likeliest, held back by PENALTY.

    rank_R: grades, 0 = worst, or numbers between two, likely as far as both are by their shares (marks.py).
    free: the features that may have a say; None: all of the rule. Sharpness and offset are free always, and cost
    nothing. Recordings that are silent must have been left out.
    """
    names = list(rule.features(segments_R[0])) if free is None else list(free)
    mean_RG = np.stack([_probs(Mean(), segments) for segments in segments_R])
    told_RX = np.array([[rule.features(segments)[name] for name in names] for segments in segments_R])
    told_RX = told_RX.reshape(len(segments_R), len(names))
    centre_X, spread_X = told_RX.mean(axis=0), told_RX.std(axis=0)
    spread_X = np.where(spread_X > 0, spread_X, 1.0)
    scaled_RX = (told_RX - centre_X) / spread_X

    def loss(parameters: Float64) -> float:
        sharpness, offset, weight_X = math.exp(parameters[0]), parameters[1], parameters[2:]
        moved_R = offset + scaled_RX @ weight_X
        nats_R = _nats(moved_along(mean_RG, sharpness, moved_R), rank_R)
        return float(nats_R.sum()) + PENALTY * float(weight_X @ weight_X)

    start = np.zeros(2 + len(names))
    bounds = [(math.log(LEAST_SHARPNESS), -math.log(LEAST_SHARPNESS)), (None, None)] + [(None, None)] * len(names)
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    weight_X = found[2:] / spread_X
    learnt = dict(zip(names, weight_X.tolist(), strict=True))
    offset = float(found[1] - weight_X @ centre_X)
    return replace(rule, sharpness=math.exp(found[0]), offset=offset, **learnt)


@dataclass(frozen=True)
class Merging:
    """What was learnt of merging: the rules by their names in merge.MERGE_RULES, the one that was chosen, and why."""

    rules: Mapping[str, MergeRule]
    chosen: str
    why: str

    @property
    def rule(self) -> MergeRule:
        """The chosen one."""
        return self.rules[self.chosen]


def learn_to_merge(segments_R: Sequence[SegmentOutputs], rank_R: Float64, group_R: list[str], seed: int) -> Merging:
    """Fit the rules and choose one.

    rank_R: as of fit_rule. segments_R: what a network says of recordings that it was not trained on, or it would be too
    sure of them; none of them silent. Course is chosen if groups that it was not fitted on are told better by it than
    by the mean (whose odds are fitted in the same way, so that a mere lack of calibration decides nothing), by more
    than the standard error of that difference over groups; else the mean.
    """
    groups = len(set(group_R))
    parted = _parted(np.rint(rank_R).astype(np.int64), group_R, seed) if enough(group_R) else []
    if not parted:
        return too_few(group_R)
    plain_RG, course_RG = (_out_of_fold(segments_R, rank_R, parted, free) for free in ((), None))
    gain_R = _nats(plain_RG, rank_R) - _nats(course_RG, rank_R)
    found = {DEFAULT_MERGE: Mean(), COURSE: fit_rule(Course(), segments_R, rank_R)}
    told = f"{gain_R.mean():+.3f} nats a recording over {groups} groups that it had not heard"
    if beyond_chance(gain_R, group_R):
        return Merging(found, COURSE, f"the course of the recording beside the mean ({told})")
    return replace(by_the_mean(f"the course of the recording adds nothing sure ({told})"), rules=found)


def scores_by_rule(
    segments_R: Sequence[SegmentOutputs], rank_R: Float64, group_R: list[str], seed: int
) -> dict[str, Float64]:
    """The score of each recording by the mean, and by course, fitted without its group, where groups can be parted."""
    parted = _parted(np.rint(rank_R).astype(np.int64), group_R, seed)
    probs = {DEFAULT_MERGE: np.stack([_probs(Mean(), segments) for segments in segments_R])}
    if parted:
        probs[COURSE] = _out_of_fold(segments_R, rank_R, parted, None)
    return {rule: np.array([expected_score(probs_G) for probs_G in probs_RG]) for rule, probs_RG in probs.items()}


def _out_of_fold(
    segments_R: Sequence[SegmentOutputs], rank_R: Float64, parted: Sequence[Split], free: Sequence[str] | None
) -> Float64:
    """What course says of recordings that it was not fitted on, [R, G]; free: as of fit_rule."""
    probs: dict[int, Float64] = {}
    for split in parted:
        learn, held = np.flatnonzero(split.learn_R).tolist(), np.flatnonzero(split.held_R).tolist()
        rule = fit_rule(Course(), [segments_R[i] for i in learn], rank_R[learn], free)
        probs |= {i: _probs(rule, segments_R[i]) for i in held}
    return np.stack([probs[i] for i in range(len(segments_R))])


def attention_beside(
    merging: Merging, segments_R: Sequence[SegmentOutputs], rank_R: Float64, group_R: Sequence[str]
) -> Merging:
    """The same for a network that has learnt attention, which is chosen if it tells recordings that were held back from
    training better than the mean does, by more than the standard error over groups; segments_R: of these."""
    both = {**merging.rules, ATTENTION: Attended()}
    if merging.chosen != DEFAULT_MERGE or not enough(group_R):
        return replace(merging, rules=both)
    mean_R, attended_R = (_losses(rule, segments_R, rank_R) for rule in (Mean(), Attended()))
    if not beyond_chance(mean_R - attended_R, group_R):
        return replace(merging, rules=both)
    told = f"{(mean_R - attended_R).mean():+.3f} nats a recording over {len(set(group_R))} groups held back"
    return Merging(both, ATTENTION, f"attention, which the network has learnt ({told})")


def enough(group_R: Sequence[str]) -> bool:
    """Can so many groups show whether a rule helps?"""
    return len(set(group_R)) >= LEAST_GROUPS


def too_few(group_R: Sequence[str]) -> Merging:
    """What is left where they cannot."""
    return by_the_mean(f"{len(set(group_R))} groups are too few to see whether anything else is better")


def by_the_mean(why: str) -> Merging:
    """The rule that needs no learning."""
    return Merging({DEFAULT_MERGE: Mean()}, DEFAULT_MERGE, f"the mean over segments: {why}")


def _parted(grade_R: Int64, group_R: list[str], seed: int) -> list[Split]:
    """A cross-validation in as many folds as the groups allow; none where they are too few or too uneven."""
    for folds in range(min(FOLDS, len(set(group_R))), LEAST_FOLDS - 1, -1):
        try:
            return splits(grade_R, [group_R], folds, seed)
        except UserError:
            continue
    return []


def _probs(rule: MergeRule, segments: SegmentOutputs) -> Float64:
    merged = rule(segments)
    assert merged is not None, "silent recordings are left out"
    return merged.probs_G


def _losses(rule: MergeRule, segments_R: Sequence[SegmentOutputs], rank_R: Float64) -> Float64:
    return _nats(np.stack([_probs(rule, segments) for segments in segments_R]), rank_R)


def _nats(probs_RG: Float64, rank_R: Float64) -> Float64:
    """What the ranks cost, [R]: each grade beside one by its share, as in ordinal.loss_between."""
    lower_R = np.floor(rank_R).astype(np.int64)
    share_R, rows_R = rank_R - lower_R, np.arange(len(rank_R))
    log_RG = np.log(np.maximum(probs_RG, LEAST_PROBABILITY))
    return -((1 - share_R) * log_RG[rows_R, lower_R] + share_R * log_RG[rows_R, np.ceil(rank_R).astype(np.int64)])
