"""Grades as lines for a terminal: one a recording, its name and what there is to say of it last."""

from collections.abc import Mapping, Sequence
from typing import Any

from samplecnn.contract import CONFIDENCE, DURATION_S, GRADABLE, GRADE, REASON, RECORDING, SCORE, WARNING

NO_FIGURES = f"{'-':7}{'':18}"  # as wide as grade, score and confidence


def width_of(names: Sequence[str]) -> int:
    """How many characters the column of names takes."""
    return max(map(len, [RECORDING, *names]))


def heading(width: int) -> str:
    """The line above them all. width: of the names (width_of)."""
    return f"{'grade':7}{'score':>6}{'confidence':>12}{'minutes':>9}  {RECORDING:{width}}  remark"


def grade_line(row: Mapping[str, Any], width: int) -> str:
    """The line of one recording. row: columns of contract.grades_schema."""
    figures = f"{row[GRADE]:7}{row[SCORE]:6.2f}{row[CONFIDENCE]:12.2f}" if row[GRADABLE] else NO_FIGURES
    remark = "; ".join(text for text in (row[REASON], row[WARNING]) if text)
    return f"{figures}{row[DURATION_S] / 60:9.1f}  {row[RECORDING]:{width}}  {remark}".rstrip()


def failed_line(name: str, why: str, width: int) -> str:
    """The line of a recording that could not be used."""
    return f"{NO_FIGURES}{'':9}  {name:{width}}  failed: {why}"
