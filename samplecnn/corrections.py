"""Corrections: a person overrules a grade, and says who and why.

A correction belongs to the version of a recording that the person heard, and to no model: whatever grades that version
later, the correction stands before it. It is a row of the grades folder's commit log; nothing is ever written over, and
of several corrections of one version the last one committed stands. Views are made by grades_folder.py.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

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
    CORRECTION_LABELS_SCHEMA,
    GRADE,
    LATEST_CSV,
    RECORDING,
    VERSION,
    WHY,
    finder,
    name_in_cell,
)
from samplecnn.errors import UserError
from samplecnn.grades_folder import grades_of, write_views
from samplecnn.store import Store, open_store, read_file, store_of_file
from samplecnn.tables import csv_bytes, read_csv

NEEDED = (RECORDING, GRADE, BY, WHY)


@dataclass(frozen=True)
class Correction:
    """One line of a file of corrections: Correction("2026/take 1.wav", "", "A", "Ann", "the pauses are Mompou's").

    version: "" where the file does not say which upload was heard; place: where it stands, for messages.
    """

    recording: str
    version: str
    grade: str
    by: str
    why: str
    place: str


def correct(grades: str, corrections: str | None, export: str | None) -> str:
    """Commit the corrections of a file, and write all that stand as labels; returns the closing line.

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
        rows = read_corrections(read_file(corrections, "--corrections"), corrections, grades_of(state))
        lines.append(_committed(store, log, state, bound(rows, state)))
        state = log.state()
    if export:
        labels, left_out = labels_of(state)
        target, name = store_of_file(export)
        target.put(name, csv_bytes(labels))
        others = f"; {left_out} of recordings that were replaced or deleted since are left out" if left_out else ""
        lines.append(f"{len(labels)} corrections as labels in {export}{others}")
    return "\n".join(lines)


def read_corrections(data: bytes, place: str, grades: Sequence[str]) -> list[Correction]:
    """The corrections of a CSV file. grades: those of the folder, worst first.

    Raises UserError, naming place and line, for anything that cannot be meant.
    """
    rows = read_csv(data, place)
    if not rows:
        raise UserError(f"{place}: no corrections in it: write a line {','.join(NEEDED)} and one line a correction")
    for column in NEEDED:
        if column not in rows[0]:
            raise UserError(f"{place}: no column {column} in {','.join(rows[0])}: the first line must name the columns")
    found = []
    for number, row in enumerate(rows, start=1):
        here = f"{place}, correction {number}"
        if missing := next((column for column in NEEDED if not row[column]), None):
            raise UserError(f"{here}: {missing} is empty: fill it in")
        if row[GRADE] not in grades:
            known = ",".join(reversed(grades))
            raise UserError(f"{here}: grade {row[GRADE]!r} of {row[RECORDING]!r} is none of {known}: correct it")
        name = name_in_cell(row[RECORDING])
        by, why = (unicodedata.normalize("NFC", row[column]) for column in (BY, WHY))
        found.append(Correction(name, row.get(VERSION, ""), row[GRADE], by, why, here))
    return found


def bound(corrections: Sequence[Correction], state: LogState) -> list[dict[str, str]]:
    """The corrections as rows of the log, each with the version that it is of: the one that is there now.

    Raises UserError for a recording that the log does not have, a version that is not there now, and two grades of one
    recording.
    """
    here = standing(state)
    version = dict(zip(here[RECORDING].to_pylist(), here[VERSION].to_pylist(), strict=True))
    find = finder(version)
    known = set(state.items[RECORDING].to_pylist())
    rows: dict[str, tuple[dict[str, str], str]] = {}
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
        row = {RECORDING: name, VERSION: version[name], GRADE: one.grade, BY: one.by, WHY: one.why}
        first, place = rows.setdefault(name, (row, one.place))
        if first[GRADE] != row[GRADE]:
            raise UserError(
                f"{one.place}: {name!r} is to be {row[GRADE]}, and {first[GRADE]} by {place.rpartition(', ')[2]}: "
                "keep one of them"
            )
        told.append(row)
    return told


def labels_of(state: LogState) -> tuple[pa.Table, int]:
    """The corrections that stand as labels (contract.CORRECTION_LABELS_SCHEMA), and how many more there are of
    recordings that are not there any more."""
    corrections = corrections_that_stand(state)
    here = pc.is_in(joined(corrections, RECORDING, VERSION), joined(standing(state), RECORDING, VERSION))
    stand = corrections.filter(here).select([RECORDING, GRADE, BY, AT, WHY])
    labels = pa.table(stand.columns, schema=CORRECTION_LABELS_SCHEMA).sort_by(RECORDING)
    return labels, len(corrections) - len(labels)


def _committed(store: Store, log: CommitLog, state: LogState, rows: list[dict[str, str]]) -> str:
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
    if found.partition(b"\n")[0].decode("utf-8", "replace").strip() != ",".join(CORRECTION_LABELS_SCHEMA.names):
        raise UserError(f"--export {export}: is there and is no earlier export: choose another name")
