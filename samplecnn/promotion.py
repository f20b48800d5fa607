"""May a new model take over? Two models' grades of the same recordings in, a verdict with its figures out.

Paired: both state a grade of each recording, and what is looked at is the difference, so that recordings that are hard
for both say nothing. A model takes over where the interval leaves no room for it to be worse by NOT_WORSE_BY or more:
few recordings leave room for anything, and then nothing changes hands unless a person says why. Where both tell marks,
and people gave some, it may not be shown to be further off with them either.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.errors import UserError
from samplecnn.flags import flag
from samplecnn.labels import MarkSettings
from samplecnn.metrics import Figure, kappa, kappa_difference, mean_difference

# R recordings, C columns to group by.
Grades = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Of kappa. A choice: half as much would ask for four times the labelled recordings, twice as much would let a loss pass
# that people notice.
NOT_WORSE_BY = 0.10
LEAST_RECORDINGS = 20  # fewer can all be right by chance, and an interval over them says nothing
NO_GRADE = "-"


@dataclass(frozen=True, kw_only=True)
class PromotionSettings(MarkSettings):
    """How a candidate is looked at, and how the marks are read that labels give."""

    group: str = flag("auto", "column of the labels whose recordings are drawn together for the interval, as in train")
    nights: int = flag(7, "days of grades, up to the newest one, that the candidate grades in the shadow")
    why: str = flag(None, "a person's reason for --force, kept with the decision")

    def __post_init__(self) -> None:
        if self.nights < 1:
            raise UserError(f"--nights {self.nights}: choose 1 or more")


@dataclass(frozen=True)
class MarkComparison:
    """How far two models' marks lie from the given ones on average, in marks; difference: the candidate's less the
    current model's, with its interval over groups: below 0 the candidate is nearer."""

    candidate_off: float
    current_off: float
    difference: Figure

    @property
    def worse(self) -> bool:
        """Is the candidate shown to be further off?"""
        return self.difference.low > 0

    def __str__(self) -> str:
        off = f"{self.candidate_off:.2f} off, of the current model {self.current_off:.2f}: difference {self.difference}"
        return f"marks {off}: {'worse' if self.worse else 'not shown to be worse'}"


def compare_marks(
    given_R: Float64, candidate_R: Float64, current_R: Float64, group_CR: Sequence[list[str]]
) -> MarkComparison:
    """The two models' marks against the given ones."""
    off_R, current_off_R = np.abs(candidate_R - given_R), np.abs(current_R - given_R)
    difference = mean_difference(off_R, current_off_R, group_CR, seed=0)
    return MarkComparison(float(off_R.mean()), float(current_off_R.mean()), difference)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same recordings. basis: which these are; groups: of the first column.

    difference: the candidate's kappa less the current model's, with its interval over groups; the next four: of how
    many recordings who stated the given grade; marks: None where people or one of the models gave none.
    """

    basis: str
    recordings: int
    groups: int
    candidate_kappa: float
    current_kappa: float
    difference: Figure
    both_right: int
    candidate_alone: int
    current_alone: int
    neither: int
    marks: MarkComparison | None = None

    @property
    def verdict(self) -> str:
        if self.difference.low > 0:
            return "better"
        if self.difference.high < 0:
            return "worse"
        return "not worse" if self.not_worse else "not shown to be no worse"

    @property
    def not_worse(self) -> bool:
        """Is there no room for a loss of NOT_WORSE_BY?"""
        return self.difference.high >= 0 and self.difference.low > -NOT_WORSE_BY

    @property
    def may_take_over(self) -> bool:
        """Not worse by grades, and not by marks."""
        return self.not_worse and not (self.marks and self.marks.worse)

    def __str__(self) -> str:
        return (
            f"{self.recordings} {self.basis}, in {self.groups} groups: kappa {self.candidate_kappa:.2f}, "
            f"of the current model {self.current_kappa:.2f}: difference {self.difference}; graded as given by both "
            f"{self.both_right}, by the candidate alone {self.candidate_alone}, by the current one alone "
            f"{self.current_alone}, by neither {self.neither}: {self.verdict}"
            + (f"; {self.marks}" if self.marks else "")
        )


def compare(
    basis: str,
    given_R: Grades,
    candidate_R: Grades,
    current_R: Grades,
    group_CR: Sequence[list[str]],
    marks: MarkComparison | None = None,
) -> Comparison:
    """The two models' stated grades against the given ones. basis: "recordings that ..."; marks: compare_marks."""
    right_R, current_right_R = given_R == candidate_R, given_R == current_R
    return Comparison(
        basis=basis,
        recordings=len(given_R),
        groups=len(set(group_CR[0])),
        candidate_kappa=kappa(given_R, candidate_R),
        current_kappa=kappa(given_R, current_R),
        difference=kappa_difference(given_R, candidate_R, current_R, group_CR, seed=0),
        both_right=int((right_R & current_right_R).sum()),
        candidate_alone=int((right_R & ~current_right_R).sum()),
        current_alone=int((~right_R & current_right_R).sum()),
        neither=int((~right_R & ~current_right_R).sum()),
        marks=marks,
    )


@dataclass(frozen=True)
class Change:
    """A recording that the candidate grades otherwise; before, after: its grades, NO_GRADE where not gradable."""

    recording: str
    before: str
    after: str


@dataclass(frozen=True)
class Shadow:
    """What the candidate says of the last nights' recordings. recordings: that both graded; left_out: corrected by a
    person, changed, gone or not to be heard now."""

    days: int
    recordings: int
    left_out: int
    changes: list[Change]

    def lines(self) -> list[str]:
        """For a terminal: who would change grade."""
        others = f" ({self.left_out} more were corrected by people, changed, or could not be heard)"
        head = f"of {self.recordings} recordings of the last {self.days} days {len(self.changes)} would change grade"
        return [
            head + (others if self.left_out else "") + (":" if self.changes else ""),
            *(f"  {one.before} -> {one.after}  {one.recording}" for one in self.changes),
        ]

    def to_json(self) -> dict[str, Any]:
        """Without names: a decision is kept as long as its model."""
        moves = Counter(f"{one.before} to {one.after}" for one in self.changes)
        return {"days": self.days, "recordings": self.recordings, "left_out": self.left_out, "changes": dict(moves)}


def decision(
    candidate: str,
    current: str | None,
    comparison: Comparison | None,
    shadow: Shadow | None,
    moved: bool,
    why: str | None,
    now: datetime,
) -> tuple[str, bytes]:
    """(name, content) of the file that keeps a decision with the candidate; the name is that of what was found and
    decided, whenever: the same once more, after a kill, is the same file.

    candidate, current: ids of models; why: a person's reason to move it whatever was found.
    """
    told = {
        "candidate": candidate,
        "current": current,
        "comparison": {**asdict(comparison), "verdict": comparison.verdict} if comparison else None,
        "shadow": shadow.to_json() if shadow else None,
        "moved": moved,
        "why": why,
    }
    digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()
    whole = {"decided_at": now.isoformat(timespec="seconds"), **told}
    return f"decisions/{digest}.json", (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()
