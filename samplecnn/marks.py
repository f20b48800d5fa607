"""Marks, as juries give them: numbers in a range of their own, and the grades that follow from them.

Inside, a mark is a quality: the more, the better. Only here is it turned round, where a jury's best mark is its lowest.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samplecnn.errors import UserError

# R recordings, K steps between grades.
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

EQUAL = "equal"  # as many recordings in each grade
ANY = "any"
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
