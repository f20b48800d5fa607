"""Marks, as juries give them: numbers in a range of their own, the grades that follow from them, and the way back.

Inside, a mark is a quality: the more, the better. Only here is it turned round, where a jury's best mark is its lowest.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from samplecnn.errors import UserError

# R recordings, K steps between grades.
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

EQUAL = "equal"  # as many recordings in each grade
ANY = "any"
INTERVAL = 0.9  # of marks given lie within the interval that is told
HIGH, LOW = "high", "low"


@dataclass(frozen=True)
class MarkScale:
    """How marks are read: best, HIGH or LOW; least, most: marks beyond are a mistake; cuts_K: the marks between grades,
    rising, none: grades hold equal shares of the recordings. grades: how many."""

    best: str
    least: float
    most: float
    cuts_K: tuple[float, ...]
    grades: int

    def quality(self, text: str, recording: str, place: str) -> float:
        """What a cell says, the more the better; a decimal comma is one. Raises UserError for what is no mark."""
        try:
            mark = float(text.replace(",", "."))
        except ValueError:
            mark = math.nan
        if not math.isfinite(mark):
            raise UserError(f"{place}: mark {text!r} of {recording!r} is no number: correct it")
        if not self.least <= mark <= self.most:
            raise UserError(
                f"{place}: mark {text} of {recording!r} lies outside {self.least:g} to {self.most:g}: correct it, or "
                "--mark-range"
            )
        return self.turned(mark)

    def turned(self, value: float) -> float:
        """A mark as quality, or a quality as the jury's mark: the same step either way."""
        return -value if self.best == LOW else value

    def graded(self, quality_R: Float64) -> Int64:
        """The grades of recordings, 0 = worst. A mark that is a cut has the better grade; equal marks one."""
        if self.cuts_K:
            cuts_K = np.sort([self.turned(cut) for cut in self.cuts_K])
        else:
            first_K = len(quality_R) * np.arange(1, self.grades) // self.grades
            cuts_K = np.sort(quality_R)[first_K]
        return np.searchsorted(cuts_K, quality_R, side="right").astype(np.int64)


def ranks(quality_R: Float64, grade_R: Int64) -> Float64:
    """Marks as places on the scale of grades: that of grade g among them reaches from g - 0.5 to g + 0.5, and a
    recording lies in it by the share of its grade's recordings with a lower mark (of equal ones a half)."""
    rank_R = grade_R.astype(np.float64)
    for grade in np.unique(grade_R):
        among_R = grade_R == grade
        quality_M = np.sort(quality_R[among_R])
        below, above = (np.searchsorted(quality_M, quality_R[among_R], side=side) for side in ("left", "right"))
        rank_R[among_R] += (below + above) / (2 * len(quality_M)) - 0.5
    return rank_R


def lean(rank_R: Float64, grade_R: Int64, grades: int) -> Float64:
    """How far recordings lie above or below their grades' middle, -0.5 to 0.5; there is nothing beyond the best and
    the worst grade."""
    off_R = np.clip(rank_R, 0, grades - 1) - grade_R
    return np.clip(off_R, -0.5, 0.5)


def mark_scale(best: str, mark_range: str, cuts: str, grades: int) -> MarkScale:
    """What the flags say: mark_range "0,100" or ANY, cuts "60,80" or EQUAL. Raises UserError where that is
    nothing that can be meant."""
    least, most = (-math.inf, math.inf) if mark_range == ANY else _numbers(mark_range, 2, "--mark-range", "0,100")
    cuts_K = (
        () if cuts == EQUAL else _numbers(cuts, grades - 1, "--cuts", ",".join(map(str, range(60, 60 + grades - 1))))
    )
    if cuts_K and not (least <= cuts_K[0] and cuts_K[-1] <= most):
        raise UserError(f"--cuts {cuts}: outside --mark-range {mark_range}: choose marks within it")
    return MarkScale(best, least, most, cuts_K, grades)


def _numbers(text: str, count: int, flag: str, example: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count or not all(map(math.isfinite, found)) or list(found) != sorted(set(found)):
        raise UserError(f"{flag} {text}: name {count} rising number{'s' * (count > 1)}, for example {example}")
    return found


@dataclass(frozen=True)
class MarkedGrade:
    """A row that has both. alike: what it can be compared within: the rater and the piece."""

    recording: str
    quality: float
    mark: str
    grade: int
    alike: tuple[str, ...]


def require_one_order(rows: Iterable[MarkedGrade], names: tuple[str, ...], place: str) -> None:
    """Raises UserError if, by one rater in one piece, a better mark goes with a worse grade. names: worst first."""
    best: dict[tuple[str, ...], MarkedGrade] = {}
    for row in sorted(rows, key=lambda row: (row.alike, row.quality, row.grade)):
        other = best.setdefault(row.alike, row)
        if row.grade < other.grade and row.quality > other.quality:
            raise UserError(
                f"{place}: {row.recording!r} has mark {row.mark} and grade {names[row.grade]}, {other.recording!r} "
                f"mark {other.mark} and grade {names[other.grade]}: correct one of them, or say --mark-best "
                f"{LOW} or {HIGH}, whichever it is not, or leave the column grade out"
            )
        if row.grade > other.grade:
            best[row.alike] = row


@dataclass(frozen=True)
class MarkMap:
    """From a model's score to the jury's mark: offset + slope * score, no further than from least to most, and an
    interval of `half` to either side. All in the jury's own marks: the slope is negative where the lowest is best."""

    offset: float
    slope: float
    half: float
    least: float
    most: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, vars(self).values())) or self.half < 0 or self.least > self.most:
            raise ValueError(f"{self}: finite numbers, no interval below 0 and no range upside down are needed")

    def told(self, score: float) -> tuple[float, float, float]:
        """The mark, and the least and the most of its interval."""
        mark = self._within(self.offset + self.slope * score)
        return mark, self._within(mark - self.half), self._within(mark + self.half)

    def _within(self, mark: float) -> float:
        return min(max(mark, self.least), self.most)


@dataclass(frozen=True)
class GivenMarks:
    """mark_R: of the recordings, in the jury's own marks; scale: how they are read."""

    mark_R: Float64
    scale: MarkScale

    def fitted(self, score_R: Float64, rows: Int64) -> MarkMap:
        """The straight line through the marks of some recordings with these scores, by least squares. It never falls
        with quality: where it would, or scores do not differ, all get the mean mark."""
        mark_R, off_R = self.mark_R[rows], score_R - score_R.mean()
        squares = float(off_R @ off_R)
        slope = self.scale.turned(max(0.0, self.scale.turned(float(off_R @ mark_R) / squares))) if squares else 0.0
        offset = float(mark_R.mean() - slope * score_R.mean())
        least, most = self.scale.least, self.scale.most
        if not math.isfinite(most):
            least, most = float(mark_R.min()), float(mark_R.max())
        line = MarkMap(offset, slope, 0.0, least, most)
        return replace(line, half=half_of(mark_R - told(line, score_R)[:, 0]))


def told(marks: MarkMap, score_R: Float64) -> Float64:
    """Mark, least and most of each recording, [R, 3]."""
    return np.array([marks.told(score) for score in score_R.tolist()]).reshape(-1, 3)


def half_of(off_R: Float64) -> float:
    """So far from what is told lie INTERVAL of marks that were not learnt from, given how far these lay: the quantile
    of split conformal prediction (Lei et al. 2018, JASA 113), whose finite-sample step fewer than nine cannot make."""
    rank = min(len(off_R), math.ceil((len(off_R) + 1) * INTERVAL))
    return float(np.sort(np.abs(off_R))[rank - 1])
