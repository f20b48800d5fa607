"""Corrections: a person overrules a grade, and says who and why.

A correction belongs to the version of a recording that the person heard, and to no model: whatever grades that version
later, the correction stands before it. It is a row of the grades folder's commit log; nothing is ever written over, and
of several corrections of one version the last one committed stands. Views are made by grades_folder.py.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.commits import (
    AT,
    FAILED,
    OUTCOME,
    RUN,
    CommitLog,
    LogState,
    corrections_that_stand,
    joined,
    new_run,
    standing,
)
from samplecnn.contract import (
    BY,
    GRADE,
    LATEST_CSV,
    MARK,
    RECORDING,
    VERSION,
    WHY,
    correction_labels_schema,
    finder,
    name_in_cell,
)
from samplecnn.errors import UserError
from samplecnn.grades_folder import grades_of, write_views
from samplecnn.labels import MarkSettings
from samplecnn.marks import MarkScale
from samplecnn.store import Store, open_store, read_file, store_of_file
from samplecnn.tables import csv_bytes, read_csv

NEEDED = (RECORDING, BY, WHY)


@dataclass(frozen=True)
class Correction:
    """One line of a file of corrections: Correction("2026/take 1.wav", "", "A", "Ann", "the pauses are Mompou's").

    version: "" where the file does not say which upload was heard; place: where it stands, for messages; mark: that the
    grade follows from, None where a grade was given.
    """

    recording: str
    version: str
    grade: str
    by: str
    why: str
    place: str
    mark: float | None = None


def correct(grades: str, corrections: str | None, export: str | None, marks: MarkSettings | None = None) -> str:
    """Commit the corrections of a file, and write all that stand as labels; returns the closing line.

    marks: how those are read that a file gives instead of grades.
    Raises UserError, before anything is written, for a folder without grades and for a file that cannot be meant.
    """
    store = open_store(grades)
    log = CommitLog(store, "grades")
    state = log.state()
    if state.settings is None:
        raise UserError(f"--grades {grades}: no grades there: run jobs/grade.py first")
    if export:
        _require_ours(export)
    lines = []
    if corrections:
        names = grades_of(state)
        scale = (marks or MarkSettings()).scale(len(names))
        rows = read_corrections(read_file(corrections, "--corrections"), corrections, names, scale)
        lines.append(_committed(store, log, state, bound(rows, state)))
        state = log.state()
    if export:
        labels, left_out, marks_lost = labels_of(state)
        target, name = store_of_file(export)
        target.put(name, csv_bytes(labels))
        others = f"; {left_out} of recordings that were replaced or deleted since are left out" if left_out else ""
        others += f"; no marks, since {marks_lost} give one and the others a grade" if marks_lost else ""
        lines.append(f"{len(labels)} corrections as labels in {export}{others}")
    return "\n".join(lines)


def read_corrections(data: bytes, place: str, grades: Sequence[str], scale: MarkScale) -> list[Correction]:
    """The corrections of a CSV file. grades: those of the folder, worst first; scale: how marks are read, where a row
    gives one and no grade.

    Raises UserError, naming place and line, for anything that cannot be meant.
    """
    rows = read_csv(data, place)
    if not rows:
        raise UserError(f"{place}: no corrections in it: write a line recording,grade,by,why and one line a correction")
    needed = (RECORDING, *(() if MARK in rows[0] else (GRADE,)), BY, WHY)
    for column in needed:
        if column not in rows[0]:
            raise UserError(f"{place}: no column {column} in {','.join(rows[0])}: the first line must name the columns")
    found = []
    for number, row in enumerate(rows, start=1):
        here = f"{place}, correction {number}"
        # Where there is a grade a mark is left alone: in a row of latest.csv it is the model's.
        marked = bool(row.get(MARK)) and not row.get(GRADE)
        if missing := next(
            (column for column in (*NEEDED, *(() if marked else (GRADE,))) if not row.get(column)), None
        ):
            raise UserError(f"{here}: {missing} is empty: fill it in")
        name, grade, mark = name_in_cell(row[RECORDING]), row.get(GRADE, ""), None
        if marked:
            grade, mark = _graded(row[MARK], name, here, grades, scale)
        if grade not in grades:
            known = ",".join(reversed(grades))
            raise UserError(f"{here}: grade {grade!r} of {name!r} is none of {known}: correct it")
        by, why = (unicodedata.normalize("NFC", row[column]) for column in (BY, WHY))
        found.append(Correction(name, row.get(VERSION, ""), grade, by, why, here, mark))
    return found


def _graded(text: str, name: str, place: str, grades: Sequence[str], scale: MarkScale) -> tuple[str, float]:
    """The grade that follows from a mark, and the mark."""
    if not scale.cuts_K:
        raise UserError(f"{place}: {name!r} has a mark and no grade: say with --cuts which marks lie between grades")
    quality = scale.quality(text, name, place)
    return grades[int(scale.graded(np.array([quality]))[0])], scale.turned(quality)


def bound(corrections: Sequence[Correction], state: LogState) -> list[dict[str, Any]]:
    """The corrections as rows of the log, each with the version that it is of: the one that is there now.

    Raises UserError for a recording that the log does not have, a version that is not there now, and two grades of one
    recording.
    """
    here = standing(state)
    version = dict(zip(here[RECORDING].to_pylist(), here[VERSION].to_pylist(), strict=True))
    find = finder(version)
    known = set(state.items[RECORDING].to_pylist())
    rows: dict[str, tuple[dict[str, Any], str]] = {}
    told = []
    for one in corrections:
        name = find(one.recording)
        if name is None:
            why = "could not be read, or is gone" if one.recording in known else "is in no grade and no failure"
            raise UserError(
                f"{one.place}: {one.recording!r} {why}: write the name as latest.csv or failures.csv has it now"
            )
        if one.version not in ("", version[name]):
            raise UserError(
                f"{one.place}: {name!r} is version {version[name]} now, not {one.version}: hear it again, "
                "then correct that version or leave the column version out"
            )
        row = {RECORDING: name, VERSION: version[name], GRADE: one.grade, BY: one.by, WHY: one.why, MARK: one.mark}
        first, place = rows.setdefault(name, (row, one.place))
        if (first[GRADE], first[MARK]) != (row[GRADE], row[MARK]):
            now, before = (_said(each) for each in (row, first))
            raise UserError(
                f"{one.place}: {name!r} is to be {now}, and {before} by {place.rpartition(', ')[2]}: keep one of them"
            )
        told.append(row)
    return told


def _said(row: dict[str, Any]) -> str:
    return str(row[GRADE]) if row[MARK] is None else f"{row[MARK]:g}"


def labels_of(state: LogState) -> tuple[pa.Table, int, int]:
    """The corrections that stand as labels (contract.correction_labels_schema), how many more there are of recordings
    that are not there any more, and how many marks are left out: a file of labels gives one in each row or in none."""
    corrections = corrections_that_stand(state)
    here = pc.is_in(joined(corrections, RECORDING, VERSION), joined(standing(state), RECORDING, VERSION))
    stand = corrections.filter(here)
    marks = len(stand) - stand[MARK].null_count
    marked = 0 < marks == len(stand)
    columns = stand.select([RECORDING, GRADE, *([MARK] if marked else []), BY, AT, WHY]).columns
    labels = pa.table(columns, schema=correction_labels_schema(marked)).sort_by(RECORDING)
    return labels, len(corrections) - len(labels), 0 if marked else marks


def _committed(store: Store, log: CommitLog, state: LogState, rows: list[dict[str, Any]]) -> str:
    """Commit these rows, bring the views up to date and say what came of it."""
    assert state.settings is not None
    run = new_run()
    state = log.commit(run, state.settings, [], corrections=rows)
    write_views(store, state, grades_of(state))
    new = len(state.corrections.filter(pc.field(RUN) == run))
    stand = {(row[RECORDING], row[VERSION]): row[GRADE] for row in corrections_that_stand(state).to_pylist()}
    overruled = sum(stand[row[RECORDING], row[VERSION]] != row[GRADE] for row in rows)
    failed = standing(state).filter(pc.field(OUTCOME) == FAILED)
    unheard = len(set(failed[RECORDING].to_pylist()) & {row[RECORDING] for row in rows})
    text = f"{len(rows)} corrections: {new} new"
    text += f", {len(rows) - new} known already" if new < len(rows) else ""
    text += f", {unheard} of recordings that failed" if unheard else ""
    text += f", {overruled} overruled by a later one (another why brings it back)" if overruled else ""
    return f"{text}; see {store.url(LATEST_CSV)}"


def _require_ours(export: str) -> None:
    """Refuse to write labels over a file that is no earlier export: people write labels.csv by hand."""
    store, name = store_of_file(export)
    if not name:
        raise UserError(f"--export {export}: is a folder: name a file")
    try:
        found = store.read(name).data
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise UserError(f"--export {export}: is a folder: name a file") from None
    ours = [",".join(correction_labels_schema(marked).names) for marked in (False, True)]
    if found.partition(b"\n")[0].decode("utf-8", "replace").strip() not in ours:
        raise UserError(f"--export {export}: is there and is no earlier export: choose another name")
