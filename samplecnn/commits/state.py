"""The folded log: one Arrow table of items, since a log may hold a million of them, and what is asked of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.contract import (
    BY,
    CHANNELS,
    CODEC,
    DURATION_S,
    ERROR,
    GRADE,
    MARK,
    MESSAGE,
    MODEL_ID,
    RECORDING,
    SEGMENTS,
    SOURCE_RATE,
    STAGE,
    VERSION,
    WARNING,
    WHY,
)
from samplecnn.erased import Erased, erased_from_json
from samplecnn.errors import RecordingError, UserError
from samplecnn.flags import flag_name

STAMP = "stamp"
OUTCOME = "outcome"
PART = "part"
PERMANENT = "permanent"
RUN = "run"
MANIFEST = "manifest"
AT = "at"  # when the manifest was committed
DONE, FAILED, DELETED = "done", "failed", "deleted"
UNREAD = ""  # the version of a file whose content could not be read
NAMESAKE = "name-"  # what the version of a file begins with that was left alone for its name

ITEM_KEY = [RECORDING, VERSION, MODEL_ID]

ITEMS_SCHEMA = pa.schema(
    [  # one row an item of the log
        pa.field(RECORDING, pa.string(), nullable=False),
        pa.field(VERSION, pa.string(), nullable=False),
        pa.field(MODEL_ID, pa.string(), nullable=False),  # "" in a segments folder
        pa.field(STAMP, pa.string(), nullable=False),  # of the file when it was planned: Entry.stamp
        pa.field(OUTCOME, pa.string(), nullable=False),  # done, failed or deleted
        pa.field(PART, pa.string()),  # the part that holds its rows
        pa.field(STAGE, pa.string()),
        pa.field(ERROR, pa.string()),
        pa.field(MESSAGE, pa.string()),
        pa.field(PERMANENT, pa.bool_()),
        pa.field(SEGMENTS, pa.int32()),
        pa.field(DURATION_S, pa.float64()),
        pa.field(SOURCE_RATE, pa.int32()),
        pa.field(CHANNELS, pa.int32()),
        pa.field(CODEC, pa.string()),
        pa.field(WARNING, pa.string()),
        pa.field(RUN, pa.string(), nullable=False),  # which run committed it, in which manifest: set by the log
        pa.field(MANIFEST, pa.int64(), nullable=False),
    ]
)
CORRECTION_KEY = [RECORDING, VERSION, GRADE, BY, WHY, MARK]  # the same again says nothing new

CORRECTIONS_SCHEMA = pa.schema(
    [  # one row a correction of the log, in the order of the manifests
        *[pa.field(column, pa.string(), nullable=False) for column in CORRECTION_KEY if column != MARK],
        pa.field(MARK, pa.float64()),  # that the grade follows from; null where a grade was given
        pa.field(AT, pa.timestamp("us", tz="UTC"), nullable=False),  # when, by whom, in which manifest: set by the log
        pa.field(RUN, pa.string(), nullable=False),
        pa.field(MANIFEST, pa.int64(), nullable=False),
    ]
)
GIVEN = frozenset(ITEMS_SCHEMA.names) - {RUN, MANIFEST}  # what a commit may say of an item


@dataclass(frozen=True)
class LogState:
    """The log up to manifest `last` (0: nothing was committed yet).

    settings: those of the first manifest, None before it. items: ITEMS_SCHEMA, one row a key (recording, version,
    model_id), as the last manifest that names it has it, in the order of those manifests. parts: path to rows of the
    parts that are valid, in the order of their commits. corrections: CORRECTIONS_SCHEMA, all that there ever were.
    erased: recordings that no row is of any more, nor ever will be.
    """

    last: int = 0
    settings: Mapping[str, Any] | None = None
    items: pa.Table = field(default_factory=ITEMS_SCHEMA.empty_table)
    parts: Mapping[str, int] = field(default_factory=dict)
    corrections: pa.Table = field(default_factory=CORRECTIONS_SCHEMA.empty_table)
    erased: Erased = field(default_factory=Erased)


def fold(state: LogState, manifests: Iterable[Mapping[str, Any]]) -> LogState:
    """The log with the manifests that come next."""
    tables, corrections = [state.items], [state.corrections]
    parts = dict(state.parts)
    last, settings, erased = state.last, state.settings, state.erased
    for manifest in manifests:
        last += 1
        settings = manifest["settings"] if settings is None else settings
        rows = [{MODEL_ID: "", STAMP: "", **item, RUN: manifest["run"], MANIFEST: last} for item in manifest["items"]]
        tables.append(pa.Table.from_pylist(rows, schema=ITEMS_SCHEMA))
        if corrected := manifest.get("corrections"):
            by = {AT: datetime.fromisoformat(manifest["committed_at"]), RUN: manifest["run"], MANIFEST: last}
            corrections.append(pa.Table.from_pylist([{**row, **by} for row in corrected], schema=CORRECTIONS_SCHEMA))
        if told := manifest.get("erased"):
            erased = erased_from_json(told)
        for path in manifest["removed"]:
            parts.pop(path, None)
        for part in manifest["parts"]:
            parts[part["path"]] = part["rows"]
    if last == state.last:
        return state
    items = newest(without_erased(pa.concat_tables(tables).combine_chunks(), erased), ITEM_KEY)
    corrected_rows = without_erased(pa.concat_tables(corrections).combine_chunks(), erased)
    return LogState(last, settings, items, parts, corrected_rows, erased)


def without_erased(table: pa.Table, erased: Erased) -> pa.Table:
    """The rows of recordings that were not erased. table: with a column of their names."""
    if not erased.hashes:
        return table
    gone = erased.among(pc.unique(table[RECORDING]).to_pylist())
    return table.filter(pc.invert(pc.is_in(table[RECORDING], pa.array(gone, pa.string())))) if gone else table


def require_same_settings(state: LogState, settings: Mapping[str, Any], place: str) -> None:
    """Raises UserError, naming each flag and both values, if the folder was begun with other settings."""
    if state.settings is None:
        return
    ours, theirs = json.loads(json.dumps(dict(settings))), state.settings  # as they are written: tuples are lists
    other = [
        f"{flag_name(name)} {theirs.get(name, 'unset')} (now {ours.get(name, 'unset')})"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if other:
        raise UserError(f"{place}: was made with {', '.join(other)}: use those settings, or another folder for these")


def failed_item(recording: str, version: str, stamp: str, error: RecordingError) -> dict[str, Any]:
    """The log's row of a recording that could not be used."""
    return {
        RECORDING: recording,
        VERSION: version,
        STAMP: stamp,
        OUTCOME: FAILED,
        STAGE: error.stage,
        ERROR: "permanent" if error.permanent else "transient",  # a transient one is tried again by the next run
        MESSAGE: error.message,
        PERMANENT: error.permanent,
    }


def outdated(state: LogState, items: Sequence[Mapping[str, Any]], deleted: Sequence[str]) -> list[dict[str, Any]]:
    """Log items that say "deleted" of what no longer stands: every row of the recordings in `deleted`, and other
    versions of those that `items` is about. Their PART names where their rows lie.

    A file that could not be read is no new version of its recording, nor does a new version say that it can be read.
    """
    version = {item[RECORDING]: item[VERSION] for item in items if not of_no_content(item[VERSION])}
    gone = set(deleted)
    names = pa.array([*version, *deleted], pa.string())
    rows = state.items.filter((pc.field(OUTCOME) != DELETED) & pc.is_in(pc.field(RECORDING), names))
    return [
        row
        for row in withdrawn(rows)
        if row[RECORDING] in gone or not (of_no_content(row[VERSION]) or version[row[RECORDING]] == row[VERSION])
    ]


def withdrawn(rows: pa.Table) -> list[dict[str, Any]]:
    """Log items that say "deleted" of these rows of the log."""
    return [{**row, OUTCOME: DELETED} for row in rows.select([*ITEM_KEY, STAMP, PART]).to_pylist()]


def of_no_content(version: str) -> bool:
    """Does this stand for a file that nobody looked into? It says nothing of the recording's other versions."""
    return version == UNREAD or version.startswith(NAMESAKE)


def restamped(state: LogState, stamps: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    """Log items that give recordings a new stamp: they were touched, and their content is what it was.

    stamps: by (recording, version). Rows keep their order, and with it which of them is current.
    """
    known = pa.table([pa.array([part[i] for part in stamps], pa.string()) for i in (0, 1)], [RECORDING, VERSION])
    rows = state.items.filter(pc.field(OUTCOME) != DELETED)
    rows = rows.filter(pc.is_in(joined(rows, RECORDING, VERSION), joined(known, RECORDING, VERSION)))
    return [
        {**row, STAMP: stamp} for row in as_given(rows) if (stamp := stamps[row[RECORDING], row[VERSION]]) != row[STAMP]
    ]


def as_given(rows: pa.Table) -> list[dict[str, Any]]:
    """These rows of the log as a commit says them."""
    found: list[dict[str, Any]] = rows.select([name for name in rows.column_names if name in GIVEN]).to_pylist()
    return found


def standing(state: LogState) -> pa.Table:
    """The item of each recording that says what is there now: its last one, done or failed, of a known content."""
    here = state.items.filter(pc.field(OUTCOME) != DELETED)
    no_content = pc.or_(pc.equal(here[VERSION], UNREAD), pc.starts_with(here[VERSION], NAMESAKE))
    return newest(here.filter(pc.invert(no_content)), [RECORDING])


def corrections_that_stand(state: LogState) -> pa.Table:
    """The last correction of each version of a recording (CORRECTIONS_SCHEMA)."""
    return newest(state.corrections, [RECORDING, VERSION])


def joined(table: pa.Table, *columns: str) -> pa.ChunkedArray:
    """One string a row that is equal where all these columns are: what vectorised look-ups compare."""
    return pc.binary_join_element_wise(*(table[column] for column in columns), "\0")  # no name holds a zero byte


def newest(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The last row of each value of these columns, in the order of the rows."""
    numbered = table.select(columns).append_column("row", pa.array(range(len(table)), pa.int64()))
    rows = numbered.group_by(list(columns), use_threads=False).aggregate([("row", "max")])["row_max"]
    return table if len(rows) == len(table) else table.take(rows.take(pc.sort_indices(rows)))
