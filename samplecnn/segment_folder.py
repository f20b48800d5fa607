"""A segments folder: shards of Parquet that the commit log names, and what a killed run may have left of them.

A shard is written whole to staging/<run>/, with what became of each of its recordings in its metadata, and moved into
data/ after the manifest that names it: the manifest is the commit, the move its echo. So data/ read as a plain folder
holds each segment once, a complete shard of a killed run can be adopted, and an interrupted move is finished by the
next run. Readers take from staging/ what has not been moved yet. The log is the truth; recordings.* and failures.* are
views of it.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from samplecnn import views
from samplecnn.commits import DONE, OUTCOME, PART, PERMANENT, CommitLog, LogState, as_given
from samplecnn.contract import (
    DATA,
    FAILURES_CSV,
    FAILURES_PARQUET,
    RECORDING,
    RECORDINGS_CSV,
    RECORDINGS_PARQUET,
    RECORDINGS_SCHEMA,
    STAGING,
    VERSION,
)
from samplecnn.errors import UserError
from samplecnn.flags import settings_dict
from samplecnn.segments import SegmentSettings
from samplecnn.store import Store, open_store
from samplecnn.tables import csv_bytes, parquet_bytes

log = logging.getLogger(__name__)

OUTCOMES_KEY = b"samplecnn.outcomes"  # in a shard's Parquet metadata: JSON, the log items of its recordings
SETTINGS_KEY = b"samplecnn.settings"
VIEWS = (RECORDINGS_PARQUET, RECORDINGS_CSV, FAILURES_PARQUET, FAILURES_CSV)


@dataclass(frozen=True)
class Staged:
    """A complete shard that no manifest names yet. items: one log item for each recording tried for it."""

    name: str  # of the file, without folders
    path: str  # in the segments folder
    rows: int
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class SegmentsFolder:
    """What a reader needs of a committed segments folder.

    filesystem, paths: the shards; recordings: one row a recording that has segments (contract.RECORDINGS_SCHEMA).
    """

    place: str
    settings: SegmentSettings
    filesystem: Any
    paths: list[str]
    recordings: pa.Table


def staged_path(run: str, name: str) -> str:
    """Where a run writes a shard before it is committed."""
    return f"{STAGING}/{run}/{name}"


def data_path(name: str) -> str:
    """Where a committed shard lies."""
    return f"{DATA}/{name}"


def open_segments(place: str) -> SegmentsFolder:
    """The committed segments of a folder. Raises UserError where nothing was prepared there."""
    store = open_store(place)
    state = CommitLog(store, "segments").state()
    if state.settings is None:
        raise UserError(f"{place}: no segments there: run jobs/prepare.py with --segments {place} first")
    filesystem, base = store.filesystem()
    present = {entry.name for entry in store.list(f"{DATA}/")}
    waiting = {entry.name.rpartition("/")[2]: entry.name for entry in store.list(f"{STAGING}/")}
    try:
        settings = SegmentSettings(**state.settings)
    except TypeError as error:
        raise UserError(f"{place}: was prepared by another version of samplecnn ({error}): prepare again") from None
    paths = [path if path in present else waiting.get(path.rpartition("/")[2], path) for path in state.parts]
    return SegmentsFolder(
        place=place,
        settings=settings,
        filesystem=filesystem,
        paths=[f"{base}/{path}" for path in paths],
        recordings=prepared_recordings(state),
    )


def prepared_recordings(state: LogState) -> pa.Table:
    """One row a recording that has segments, by name."""
    done = state.items.filter(pc.equal(state.items[OUTCOME], DONE))
    return done.select(RECORDINGS_SCHEMA.names).cast(RECORDINGS_SCHEMA).sort_by(RECORDING)


def staged_shards(store: Store, settings: SegmentSettings, wanted: dict[str, str]) -> tuple[list[Staged], list[str]]:
    """Complete shards of killed runs that still fit: (to adopt, paths of files to remove).

    wanted: recording to version, of what is to do now. A shard fits if it was cut with these settings and each of its
    recordings is wanted in that version and in no shard before it.
    """
    filesystem, base = store.filesystem()
    left = dict(wanted)
    adopt: list[Staged] = []
    remove: list[str] = []
    for entry in store.list(f"{STAGING}/"):
        staged = _read_staged(filesystem, f"{base}/{entry.name}", entry.name, settings)
        if staged and all(_fits(item, left) for item in staged.items):
            adopt.append(staged)
            for item in staged.items:
                del left[item[RECORDING]]
        else:
            remove.append(entry.name)
    return adopt, remove


def _fits(item: dict[str, Any], wanted: dict[str, str]) -> bool:
    # What failed for a reason that may have passed is tried again, not taken over.
    return wanted.get(item[RECORDING]) == item[VERSION] and (item[OUTCOME] == DONE or bool(item[PERMANENT]))


def _read_staged(filesystem: Any, full_path: str, path: str, settings: SegmentSettings) -> Staged | None:
    try:
        with filesystem.open_input_file(full_path) as source:
            meta = pq.read_metadata(source)
    except (pa.ArrowInvalid, FileNotFoundError):  # cut off by a kill, or gone since it was listed
        return None
    keys = meta.metadata or {}
    if keys.get(SETTINGS_KEY) != settings_json(settings) or OUTCOMES_KEY not in keys:
        return None
    return Staged(path.rpartition("/")[2], path, meta.num_rows, json.loads(keys[OUTCOMES_KEY]))


def outcomes_of(metadata: pq.FileMetaData) -> list[str]:
    """The recordings that were tried for a shard, from its metadata; none for any other Parquet file."""
    told = (metadata.metadata or {}).get(OUTCOMES_KEY, b"[]")
    return [item[RECORDING] for item in json.loads(told)]


def settings_json(settings: SegmentSettings) -> bytes:
    """The settings as they stand in a shard's metadata."""
    return json.dumps(settings_dict(settings), sort_keys=True).encode()


def finish_commit(store: Store, state: LogState) -> None:
    """Bring data/ in line with the log: move in what is committed, remove what it no longer names.

    Idempotent; run by the one writer after each commit and, for a run that was killed in between, at its start.
    """
    waiting = {entry.name.rpartition("/")[2]: entry.name for entry in store.list(f"{STAGING}/")}
    for path in state.parts:
        name = path.rpartition("/")[2]
        if name in waiting:
            store.move(waiting[name], path)
    unnamed = [entry.name for entry in store.list(f"{DATA}/") if entry.name not in state.parts]
    # A driver that slept through the end of its lease may hold an old log, and see what another one has moved in since:
    # the log as it is after the listing names all of that.
    now = CommitLog(store, "segments", known=state).state() if unnamed else state
    for name in unnamed:
        if name not in now.parts:
            store.delete(name)


def shard_writer(sink: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of one shard; dictionaries for text alone: of samples, hardly two of which are equal, they made a shard
    half as large again and cost four times the time."""
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=text)


def without(store: Store, path: str, gone: set[str], run: str, state: LogState) -> Staged | None:
    """A shard rewritten to staging/<run>/ without the recordings in `gone`; None where nothing would be left.

    state: whose items of the others are told, since their stamps may be newer than the shard.
    """
    filesystem, base = store.filesystem()
    # No name of its own name: one that grows with each rewriting is too long for a disk after seven.
    name = f"{run}-{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}.parquet"
    target = staged_path(run, name)
    rows = 0
    with filesystem.open_input_file(f"{base}/{path}") as source:
        shard = pq.ParquetFile(source)
        keys = shard.metadata.metadata
        items = [item for item in json.loads(keys[OUTCOMES_KEY]) if item[RECORDING] not in gone]
        with (
            store.open_output(target) as sink,
            shard_writer(sink, shard.schema_arrow) as writer,
        ):
            for batch in shard.iter_batches(batch_size=256):
                kept = batch.filter(pc.invert(pc.is_in(batch[RECORDING], pa.array(sorted(gone)))))
                rows += kept.num_rows
                writer.write_batch(kept)
            writer.add_key_value_metadata({OUTCOMES_KEY: json.dumps(items), SETTINGS_KEY: keys[SETTINGS_KEY]})
    here = as_given(state.items.filter((pc.field(OUTCOME) == DONE) & (pc.field(PART) == path)))
    return Staged(name, target, rows, [item for item in here if item[RECORDING] not in gone]) if rows else None


def write_views(store: Store, state: LogState) -> None:
    """recordings.* and failures.* for people and their tools, as the log has them now or later than `state`."""
    views.rewrite(store, CommitLog(store, "segments", known=state), VIEWS, _views)


def _views(state: LogState) -> dict[str, bytes]:
    prepared, failed = prepared_recordings(state), views.failures(state)
    return {
        RECORDINGS_PARQUET: parquet_bytes(prepared),
        RECORDINGS_CSV: csv_bytes(prepared),
        FAILURES_PARQUET: parquet_bytes(failed),
        FAILURES_CSV: csv_bytes(failed),
    }


def shards_of(items: Iterable[dict[str, Any]]) -> dict[str, set[str]]:
    """Which shards these log items have rows in: path to the names of the recordings."""
    found: dict[str, set[str]] = {}
    for item in items:
        if item[PART]:
            found.setdefault(item[PART], set()).add(item[RECORDING])
    return found
