"""Grades as lines for a terminal: one a recording, its name and what there is to say of it last."""

from collections.abc import Mapping, Sequence
from typing import Any

from samplecnn.contract import (
    CONFIDENCE,
    CORRECTED_BY,
    CORRECTED_MARK,
    CORRECTED_WHY,
    DURATION_S,
    GRADABLE,
    GRADE,
    MACHINE_GRADE,
    REASON,
    RECORDING,
    SCORE,
    WARNING,
)
from samplecnn.errors import printable

NO_GRADE = f"{'-':7}"
NO_FIGURES = " " * 18  # as wide as score and confidence


def width_of(names: Sequence[str]) -> int:
    """How many characters the column of names takes."""
    return max(map(len, [RECORDING, *map(printable, names)]))


def heading(width: int) -> str:
    """The line above them all. width: of the names (width_of)."""
    return f"{'grade':7}{'score':>6}{'confidence':>12}{'minutes':>9}  {RECORDING:{width}}  remark"


def grade_line(row: Mapping[str, Any], width: int) -> str:
    """The line of one recording. row: columns of contract.grades_schema or latest_schema."""
    figures = f"{row[GRADE]:7}" if row[GRADABLE] else NO_GRADE
    figures += f"{row[SCORE]:6.2f}{row[CONFIDENCE]:12.2f}" if row.get(SCORE) is not None else NO_FIGURES
    remark = "; ".join(text for text in (_corrected(row), row[REASON], row[WARNING]) if text)
    return f"{figures}{row[DURATION_S] / 60:9.1f}  {printable(row[RECORDING]):{width}}  {printable(remark)}".rstrip()


def _corrected(row: Mapping[str, Any]) -> str:
    if not row.get(CORRECTED_BY):
        return ""
    mark = row.get(CORRECTED_MARK)
    by = row[CORRECTED_BY] if mark is None else f"{row[CORRECTED_BY]}, mark {mark:g}"
    return f"corrected by {by} (the model: {row[MACHINE_GRADE] or 'none'}): {row[CORRECTED_WHY]}"


def failed_line(name: str, why: str, width: int) -> str:
    """The line of a recording that could not be used."""
    return f"{NO_GRADE}{NO_FIGURES}{'':9}  {printable(name):{width}}  failed: {printable(why)}"
