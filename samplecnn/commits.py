"""The commit log of a segments or grades folder: manifests/<n>.json, each created once, never changed.

Notable: creating manifest n+1 if it does not exist is the only commit there is. Readers trust only parts that a
manifest names, so a crash leaves orphans and never half a result; of two runs that try the same number one wins, and
the other re-reads the log, drops what the winner settled and tries the next. An item is (recording, version, model_id).

The folded log is one Arrow table, since a log may hold a million items. Traded away: every manifest is read once by
each process; a snapshot that replaces the oldest ones has its place in `CommitLog._read`.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.contract import (
    CHANNELS,
    CODEC,
    DURATION_S,
    ERROR,
    MANIFESTS,
    MESSAGE,
    MODEL_ID,
    RECORDING,
    SEGMENTS,
    SOURCE_RATE,
    STAGE,
    VERSION,
    WARNING,
)
from samplecnn.errors import JobError, LostRace, RecordingError, UserError
from samplecnn.flags import flag_name
from samplecnn.store import Store

log = logging.getLogger(__name__)

STAMP = "stamp"
OUTCOME = "outcome"
PART = "part"
PERMANENT = "permanent"
RUN = "run"
MANIFEST = "manifest"
DONE, FAILED, DELETED = "done", "failed", "deleted"

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
_GIVEN = frozenset(ITEMS_SCHEMA.names) - {RUN, MANIFEST}
_MANIFEST_KEYS = {"manifest", "token", "run", "kind", "committed_at", "settings", "items", "parts", "removed"}


@dataclass(frozen=True)
class LogState:
    """The log up to manifest `last` (0: nothing was committed yet).

    settings: those of the first manifest, None before it. items: ITEMS_SCHEMA, one row a key (recording, version,
    model_id), as the last manifest that names it has it, in the order of those manifests. parts: path to rows of the
    parts that are valid, in the order of their commits.
    """

    last: int = 0
    settings: Mapping[str, Any] | None = None
    items: pa.Table = field(default_factory=ITEMS_SCHEMA.empty_table)
    parts: Mapping[str, int] = field(default_factory=dict)


class CommitLog:
    """The log of one folder. kind: "segments" or "grades"; now: the clock that stamps manifests."""

    def __init__(self, store: Store, kind: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store, self._kind, self._now = store, kind, now
        self._state = LogState()
        self._planned_at = 0

    def state(self) -> LogState:
        """The log as it is now; only what is new since the last call is read.

        Plan from this: a commit drops what other runs settled after it. Raises UserError for a folder of another kind,
        JobError for a manifest that is missing or broken.
        """
        self._refresh()
        self._planned_at = self._state.last
        return self._state

    def commit(
        self,
        run: str,
        settings: Mapping[str, Any],
        items: Sequence[Mapping[str, Any]],
        parts: Sequence[Mapping[str, Any]] = (),
        removed: Sequence[str] = (),
        build: Callable[[list[Mapping[str, Any]]], Sequence[Mapping[str, Any]]] | None = None,
    ) -> LogState:
        """Append one manifest; returns the log with it.

        items: columns of ITEMS_SCHEMA, at least recording, version, outcome. parts: {"path", "rows"} of files that are
        complete. removed: paths of parts that are valid no more. If another run was first, items that it settled
        since `state()` are dropped, and build(the items left) returns the parts that hold no rows of the dropped ones.

        Raises LostRace if rows would have to be dropped and there is no build; UserError if the folder was begun with
        other settings meanwhile.
        """
        items = [_clean(item) for item in items]
        token = secrets.token_hex(16)
        while True:
            require_same_settings(self._state, settings, self._store.url())
            left = self._unsettled(run, items)
            if len(left) < len(items):
                log.info("%d of %d items were settled by another run meanwhile", len(items) - len(left), len(items))
                if not left:
                    return self._state
                if parts and build is None:
                    raise LostRace(f"{self._store.url()}: another run settled some of these recordings")
                parts = build(left) if build else parts
                items = left
            number = self._state.last + 1
            manifest = {
                "manifest": number,
                "token": token,
                "run": run,
                "kind": self._kind,
                "committed_at": self._now().isoformat(),
                "settings": dict(settings),
                "items": items,
                "parts": [dict(part) for part in parts],
                "removed": list(removed),
            }
            data = json.dumps(manifest).encode()
            try:
                self._store.create(manifest_name(number), data, token)
            except LostRace:
                self._refresh()
                continue
            self._state = _fold(self._state, [json.loads(data)])
            return self._state

    def _unsettled(self, run: str, items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The items that no other run has settled since we planned.

        Done and deleted settle a recording under its model in whatever version: the log must not go back to an older
        one because we were slow. A failure settles only other versions: ours may have succeeded where theirs failed.
        """
        if self._state.last == self._planned_at:
            return items
        since = self._state.items.filter(
            (pc.field(MANIFEST) > self._planned_at) & (pc.field(RUN) != run)  # what this run did, it may do over
        )
        theirs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        columns = (since[name].to_pylist() for name in (RECORDING, MODEL_ID, VERSION, OUTCOME))
        for recording, model_id, version, outcome in zip(*columns, strict=True):
            theirs.setdefault((recording, model_id), []).append((version, outcome))

        def settled(item: Mapping[str, Any]) -> bool:
            rows = theirs.get((item[RECORDING], item[MODEL_ID]), [])
            return any(outcome != FAILED or version != item[VERSION] for version, outcome in rows)

        return [item for item in items if not settled(item)]

    def _refresh(self) -> None:
        numbers = [number for number in self._numbers() if number > self._state.last]
        for expected, number in enumerate(numbers, self._state.last + 1):
            if number != expected:
                raise JobError(
                    f"{self._store.url(manifest_name(expected))}: missing, though later ones are there: "
                    "bring it back from a backup, or start a new folder"
                )
        self._state = _fold(self._state, (self._read(number) for number in numbers))

    def _numbers(self) -> list[int]:
        names = (entry.name.rpartition("/")[2] for entry in self._store.list(f"{MANIFESTS}/"))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def _read(self, number: int) -> dict[str, Any]:
        name = manifest_name(number)
        try:
            manifest = json.loads(self._store.read(name).data)
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict) or not manifest.keys() >= _MANIFEST_KEYS:
            raise JobError(f"{self._store.url(name)}: not a manifest of samplecnn: bring it back from a backup")
        if manifest["kind"] != self._kind:
            raise UserError(f"{self._store.url()}: holds {manifest['kind']}, not {self._kind}: choose another folder")
        return manifest


def manifest_name(number: int) -> str:
    """Where a manifest lies: manifests/000000001.json. Nine digits, so that listings come in order."""
    return f"{MANIFESTS}/{number:09d}.json"


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
    """
    version = {item[RECORDING]: item[VERSION] for item in items}
    names = pa.array([*version, *deleted], pa.string())
    rows = state.items.filter((pc.field(OUTCOME) != DELETED) & pc.is_in(pc.field(RECORDING), names))
    columns = [*ITEM_KEY, STAMP, PART]
    return [
        {**row, OUTCOME: DELETED}
        for row in rows.select(columns).to_pylist()
        if version.get(row[RECORDING]) != row[VERSION]
    ]


def joined(table: pa.Table, *columns: str) -> pa.ChunkedArray:
    """One string a row that is equal where all these columns are: what vectorised look-ups compare."""
    return pc.binary_join_element_wise(*(table[column] for column in columns), "\0")  # no name holds a zero byte


def newest(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The last row of each value of these columns, in the order of the rows."""
    numbered = table.select(columns).append_column("row", pa.array(range(len(table)), pa.int64()))
    rows = numbered.group_by(list(columns), use_threads=False).aggregate([("row", "max")])["row_max"]
    return table if len(rows) == len(table) else table.take(rows.take(pc.sort_indices(rows)))


def _clean(item: Mapping[str, Any]) -> dict[str, Any]:
    unknown = item.keys() - _GIVEN
    if unknown or item[OUTCOME] not in (DONE, FAILED, DELETED):
        raise ValueError(f"no item of the log: {dict(item)} (unknown: {sorted(unknown)})")
    row = {MODEL_ID: "", STAMP: "", **{key: value for key, value in item.items() if value is not None}}
    # A message may quote a name with bytes that are no UTF-8: Arrow would refuse its lone surrogates.
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in row.items()}


def _fold(state: LogState, manifests: Iterable[Mapping[str, Any]]) -> LogState:
    tables = [state.items]
    parts = dict(state.parts)
    last, settings = state.last, state.settings
    for manifest in manifests:
        last += 1
        settings = manifest["settings"] if settings is None else settings
        rows = [{MODEL_ID: "", STAMP: "", **item, RUN: manifest["run"], MANIFEST: last} for item in manifest["items"]]
        tables.append(pa.Table.from_pylist(rows, schema=ITEMS_SCHEMA))
        for path in manifest["removed"]:
            parts.pop(path, None)
        for part in manifest["parts"]:
            parts[part["path"]] = part["rows"]
    if last == state.last:
        return state
    return LogState(last, settings, newest(pa.concat_tables(tables).combine_chunks(), ITEM_KEY), parts)
