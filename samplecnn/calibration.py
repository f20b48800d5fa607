"""How sure may a model be, where does a grade end, and when is it too little sure to grade at all? All of it is learnt
on recordings that the model had not heard.

Dividing a network's outputs by a temperature above 1 takes probabilities towards equal shares (Guo 2017, arXiv
1706.04599). It is fitted on out-of-fold predictions pooled over recordings, since a single parameter is all that a few
dozen of them can carry; and what is reported of a recording uses a temperature that was fitted without its fold, and
without whatever shares a performer or piece with it where splits keep those apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from samplecnn.contract import match_key
from samplecnn.folds import Split
from samplecnn.marks import GivenMarks, MarkMap, half_of
from samplecnn.merge import (
    Mean,
    Merged,
    MergeRule,
    SegmentOutputs,
    cuts_at_shares,
    expected_score,
    stated_grade,
)
from samplecnn.metrics import SIGNIFICANT, confidence_p, stated_probability
from samplecnn.ordinal import HEADS
from samplecnn.set_pieces import fit_shifts, log_odds_of_shares, moved_by

# R recordings, S segments of one, O outputs of the network, G grades (0 = worst).
Float64 = npt.NDArray[np.float64]

# A model that knows nothing is calibrated by equal shares, which no finite temperature gives: the search must end.
LOWEST, HIGHEST = 0.05, 20.0
LEAST_PROBABILITY = 1e-300  # 0 has no logarithm

# A model that had better leave more than half to people is one to train again, as its conclusion says.
MOST_NOT_GRADED = 0.5


@dataclass(frozen=True)
class Heard:
    """What a network said of a recording: outputs_SO (logits), activity_S, start_s_S and attention_S of its windows,
    course_C (course.py) of the whole; rule: how that is merged."""

    outputs_SO: npt.NDArray[np.float32]
    activity_S: npt.NDArray[np.float32]
    start_s_S: Float64
    course_C: Float64
    attention_S: Float64 = field(default_factory=lambda: np.zeros(1))
    rule: MergeRule = field(default_factory=Mean)

    def segments(self, probs_SG: Float64) -> SegmentOutputs:
        """What a merge rule asks for, given the probabilities of the windows; it never asks for embeddings here."""
        nothing_S0 = np.zeros((len(probs_SG), 0), np.float32)
        return SegmentOutputs(probs_SG, nothing_S0, self.activity_S, self.start_s_S, self.course_C, self.attention_S)

    def merged(self, head: str, temperature: float) -> Merged:
        """The recording's grade at this temperature, as grading would merge it."""
        return merged([self], head, temperature)[0]


def merged(heard_R: Sequence[Heard], head: str, temperature: float) -> list[Merged]:
    """Each recording's grade at this temperature. The outputs of all pass the head at once: a search asks often."""
    outputs_SO = torch.from_numpy(np.concatenate([heard.outputs_SO for heard in heard_R]))
    probs_SG = HEADS[head].probs(outputs_SO / temperature).numpy()
    found, start = [], 0
    for heard in heard_R:
        end = start + len(heard.outputs_SO)
        of_one = heard.rule(heard.segments(probs_SG[start:end]))
        assert of_one is not None, "read_recordings leaves silent recordings out"
        found.append(of_one)
        start = end
    return found


def fit_temperature(heard_R: Sequence[Heard], grade_R: npt.NDArray[np.int64], head: str) -> float:
    """The temperature under which the given grades were likeliest, by recording; 1 where there is nothing to fit on."""
    if not heard_R:
        return 1.0

    def loss(log_temperature: float) -> float:
        graded_R = merged(heard_R, head, math.exp(log_temperature))
        return -math.fsum(
            math.log(max(float(graded.probs_G[grade]), LEAST_PROBABILITY))
            for graded, grade in zip(graded_R, grade_R, strict=True)
        )

    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return math.exp(found.x)


def least_confidence(
    confidence_R: Float64,
    stated_R: npt.NDArray[np.int64],
    grade_R: npt.NDArray[np.int64],
    group_CR: Sequence[list[str]],
) -> float:
    """The confidence, in hundredths, below which a person should hear a recording; 0 where all are to be graded.

    It keeps back as many recordings as it may: at most half of them, and only while grades below it were right no more
    often than the commonest grade was given, which takes no model to state. No confidence is asked for unless right
    grades were surer than wrong ones beyond chance (confidence_p at most SIGNIFICANT, over whole groups): few
    recordings rarely show that, 15 by 9 performers as good as never. confidence_R: of what was stated, out of fold.
    """
    right_R = stated_R == grade_R
    if confidence_p(right_R, confidence_R, group_CR) > SIGNIFICANT:
        return 0.0
    commonest = np.bincount(grade_R).max() / len(grade_R)
    found = 0.0
    for least in np.arange(1, 101) / 100:
        below_R = confidence_R < least
        more = below_R.sum() > (confidence_R < found).sum()
        if more and below_R.mean() <= MOST_NOT_GRADED and right_R[below_R].mean() <= commonest:
            found = float(least)
    return found


@dataclass(frozen=True)
class Calibrated:
    """probs_RG: of each recording at the temperature of those that its split learns from, grade_R: stated by the cuts
    that these ask for, graded_R: is it as sure as these ask? mark_RM: mark, least and most by these, no numbers where
    it cannot be graded. temperature, cuts_K, least_confidence, marks: of all of them together, the model's that is
    trained on all; mark_RM and marks None where no marks were given; beside_R: was it judged beside others of its
    piece?"""

    probs_RG: Float64
    grade_R: npt.NDArray[np.int64]
    graded_R: npt.NDArray[np.bool_]
    beside_R: npt.NDArray[np.bool_]
    temperature: float
    cuts_K: Float64
    least_confidence: float
    marks: MarkMap | None = None
    mark_RM: Float64 | None = None


@dataclass(frozen=True)
class Played:
    """piece_R: what is played, "" where that is not said; learnt_K: of each split, what its network says of recordings
    that it learnt from, by their row: beside these the split's others are judged (set_pieces.py)."""

    piece_R: Sequence[str]
    learnt_K: Sequence[Mapping[int, Heard]]


class _Fitted(NamedTuple):
    """What some recordings ask for, as Calibrated has it."""

    cuts_K: Float64
    least_confidence: float
    marks: MarkMap | None


def calibrate(
    heard_R: Sequence[Heard | None],
    grade_R: npt.NDArray[np.int64],
    group_CR: Sequence[list[str]],
    parted: Sequence[Split],
    grades: int,
    head: str,
    given: GivenMarks | None = None,
    played: Played | None = None,
) -> Calibrated:
    """Out-of-fold probabilities, calibrated without peeking. heard_R: None where a recording cannot be graded; it gets
    the shares of the grades that its split learns from. group_CR: by each column that the splits keep apart;
    given: the marks, where people gave any; played: where recordings are to be judged beside others of their piece."""
    probs_RG, stated_R = np.zeros((len(heard_R), grades)), np.zeros(len(heard_R), np.int64)
    graded_R = np.zeros(len(heard_R), np.bool_)
    heard = {i: heard for i, heard in enumerate(heard_R) if heard is not None}

    mark_RM = np.full((len(heard_R), 3), np.nan)
    # One temperature for each split, of what it learns from, and the last of all recordings.
    rows_K = [*(split.learn_R for split in parted), np.ones(len(heard_R), np.bool_)]
    among_K = [[i for i in heard if rows_R[i]] for rows_R in rows_K]
    temperature_K = [fit_temperature([heard[i] for i in among], grade_R[among], head) for among in among_K]
    shift_R, centre = np.full(len(heard_R), np.nan), log_odds_of_shares(grade_R, grades)
    if played:
        for split, learnt, temperature in zip(parted, played.learnt_K, temperature_K[:-1], strict=True):
            # The centre is one for all splits: that of what a split learns from lies the lower, the better those are
            # that it holds out.
            shift = shifts_of(learnt, grade_R, played.piece_R, head, temperature, centre)
            for i in np.flatnonzero(split.held_R).tolist():
                shift_R[i] = shift.get(match_key(played.piece_R[i]), math.nan)
    beside_R = np.isfinite(shift_R)

    def merged_beside(rows: Sequence[int], temperature: float) -> list[Merged]:
        found = merged([heard[i] for i in rows], head, temperature)
        return [moved_by(one, shift_R[i]) if beside_R[i] else one for i, one in zip(rows, found, strict=True)]

    def fitted(among: list[int], temperature: float) -> _Fitted:
        if not among:
            return _Fitted(np.zeros(0), 0.0, None)
        found = merged_beside(among, temperature)
        score_R = np.array([one.score for one in found])
        cuts_K = cuts_at_shares(score_R, grade_R[among], grades)
        said_R = np.array([stated_grade(one.probs_G, cuts_K) for one in found])
        confidence_R = stated_probability(np.stack([one.probs_G for one in found]), said_R)
        groups = [[group_R[i] for i in among] for group_R in group_CR]
        marks = given.fitted(score_R, np.array(among)) if given else None
        return _Fitted(cuts_K, least_confidence(confidence_R, said_R, grade_R[among], groups), marks)

    for split, among, temperature in zip(parted, among_K[:-1], temperature_K[:-1], strict=True):
        cuts_K, least, line = fitted(among, temperature)
        share_G = np.bincount(grade_R[split.learn_R], minlength=grades) / split.learn_R.sum()
        for i in np.flatnonzero(split.held_R).tolist():
            probs_RG[i] = merged_beside([i], temperature)[0].probs_G if i in heard else share_G
            stated_R[i] = stated_grade(probs_RG[i], cuts_K)
            graded_R[i] = i in heard and probs_RG[i, stated_R[i]] >= least
            if line and i in heard:
                mark_RM[i] = line.told(expected_score(probs_RG[i]))
    cuts_K, least, marks = fitted(among_K[-1], temperature_K[-1])
    whole = Calibrated(probs_RG, stated_R, graded_R, beside_R, temperature_K[-1], cuts_K, least)
    if given is None or marks is None:
        return whole
    off_R = (given.mark_R - mark_RM[:, 0])[np.isfinite(mark_RM[:, 0])]
    marks = replace(marks, half=half_of(off_R)) if len(off_R) else marks
    return replace(whole, marks=marks, mark_RM=mark_RM)


def shifts_of(
    learnt: Mapping[int, Heard],
    grade_R: npt.NDArray[np.int64],
    piece_R: Sequence[str],
    head: str,
    temperature: float,
    centre: float,
) -> dict[str, float]:
    """set_pieces.fit_shifts of what a network says of recordings that it learnt from, by their rows."""
    if not learnt:
        return {}
    rows = list(learnt)
    found = merged(list(learnt.values()), head, temperature)
    return fit_shifts(found, grade_R[rows], [piece_R[i] for i in rows], centre)


def stated_by_shares(
    probs_RG: Float64, grade_R: npt.NDArray[np.int64], parted: Sequence[Split]
) -> npt.NDArray[np.int64]:
    """The stated grade of each recording, cut at the shares of the grades that its split learns from. probs_RG:
    out-of-fold."""
    grades = probs_RG.shape[1]
    score_R = np.array([expected_score(probs_G) for probs_G in probs_RG])
    stated_R = np.zeros(len(probs_RG), np.int64)
    for split in parted:
        cuts_K = cuts_at_shares(score_R[split.learn_R], grade_R[split.learn_R], grades)
        stated_R[split.held_R] = [stated_grade(probs_G, cuts_K) for probs_G in probs_RG[split.held_R]]
    return stated_R
