"""Erasure: a recording leaves everything that was made of it, and a tombstone without its name keeps it out.

Notable: the tombstone comes first, in the commit log (commits): from then on no row of the recording counts, and a run
that has it in hand drops it when it commits. Only then are files rewritten, each under a condition on its version, so
that a run that writes meanwhile loses nothing. Killed at any moment and run again, it goes
on. At its end it looks again.
"""

import io
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from samplecnn import grades_folder, segment_folder
from samplecnn.commits import PART, CommitLog, LogState, new_run, snapshot_number
from samplecnn.contract import (
    LABEL_NEXT_CSV,
    MANIFESTS,
    PARTS,
    PERFORMER,
    PREDICTIONS_CSV,
    RECORDING,
    REPORT_HTML,
    STAGING,
    TRAINED_ON_FILE,
    match_key,
    spell_name,
)
from samplecnn.errors import JobError, LostRace, UserError
from samplecnn.leases import hold
from samplecnn.store import Store, open_store, read_file
from samplecnn.tables import csv_bytes, parquet_bytes, read_csv
from samplecnn.trained_on import trained_on_from_json

log = logging.getLogger(__name__)

# Made of the others by jobs/report.py: they go whole, and are written again when somebody asks for them.
DERIVED = (REPORT_HTML, LABEL_NEXT_CSV)


@dataclass(frozen=True)
class Wanted:
    """What is to be erased: names as people write them."""

    names: tuple[str, ...]

    def __contains__(self, recording: str) -> bool:
        return match_key(recording) in {match_key(name) for name in self.names}

    def among(self, recordings: Iterable[str]) -> set[str]:
        """Those of these names that are to go."""
        keys = {match_key(name) for name in self.names}
        return {name for name in recordings if match_key(name) in keys}


@dataclass(frozen=True)
class Places:
    """Where to erase; None: not there."""

    segments: str | None = None
    grades: str | None = None
    evaluation: str | None = None
    recordings: str | None = None
    model: str | None = None


def wanted(recording: str, performer: str, labels: str | None) -> Wanted:
    """What these flags mean. Raises UserError where they mean nothing."""
    if bool(recording) == bool(performer):
        raise UserError("--recording or --performer: give one of them")
    if recording:
        return Wanted((recording,))
    if labels is None:
        raise UserError("--performer: wants --labels with it, whose column performer says which recordings are theirs")
    rows = read_csv(read_file(labels, "--labels"), labels)
    names = [row[RECORDING] for row in rows if RECORDING in row and row.get(PERFORMER) == performer]
    if not names:
        raise UserError(f"--performer {performer}: no recording in {labels} is theirs: check the name")
    return Wanted(tuple(dict.fromkeys(names)))


def erase(what: Wanted, places: Places, *, delete: bool, recordings_too: bool = False) -> list[str]:
    """Erase these recordings, or say what would go; returns the lines to print.

    Raises UserError where nothing of them is found and nothing ever was, JobError where something is left in the end.
    """
    segments, grades, evaluation = (
        open_store(place) if place else None for place in (places.segments, places.grades, places.evaluation)
    )
    if segments is None and grades is None and evaluation is None:
        raise UserError("--segments, --grades or --evaluation: name at least one")
    if recordings_too and not places.recordings:
        raise UserError("--recordings-too: wants --recordings with it")
    logs = {
        store.url(): _log(store, kind)
        for store, kind in ((segments, "segments"), (grades, "grades"))
        if store is not None
    }
    results = [store for store in (segments, grades, evaluation) if store is not None]
    found = [store.url(name) for store in results for name in holding(store, what)]
    uploads = open_store(places.recordings) if places.recordings else None
    files = [] if uploads is None else [entry.name for entry in uploads.list() if spell_name(entry.name) in what]
    known = any(state.erased.holds(name) for state in logs.values() for name in what.names)
    if not (found or files or known):
        raise UserError(f"{', '.join(what.names[:3])}: found nowhere: write the name as latest.csv has it")
    lines = list(found)
    if delete:
        if segments is not None:
            _erase_segments(segments, what)
        if grades is not None:
            _erase_grades(grades, what)
        if evaluation is not None:
            _erase_evaluation(evaluation, what)
        if left := [store.url(name) for store in results for name in holding(store, what)]:
            raise JobError(
                f"{left[0]}: another run wrote it meanwhile ({len(left)} such files): run the same command again"
            )
    if uploads is not None and files:
        lines += [uploads.url(name) for name in files if recordings_too]
        if delete and recordings_too:
            for name in files:
                uploads.delete(name)
        elif not recordings_too:
            lines.append(f"{len(files)} uploads stay in {places.recordings}, and are not read again (--recordings-too)")
    lines += _models(places.model, what)
    done = "erased from" if delete else "would be erased from: --delete does it:"
    lines.append(f"{len(what.names)} recordings {done} {len(found)} files")
    return lines


def holding(store: Store, what: Wanted) -> list[str]:
    """The files of a place that hold these recordings."""
    return [entry.name for entry in store.list() if what.among(_names_in(store, entry.name))]


def _names_in(store: Store, path: str) -> set[str]:
    """The names of recordings in a file of ours; of one that is cut off or no longer there: none."""
    try:
        if path.endswith(".parquet"):
            return _names_in_parquet(store, path)
        if path.startswith(f"{MANIFESTS}/") or path.endswith(".csv"):
            return _names_in_text(path, store.read(path).data)
    except (FileNotFoundError, ValueError) as error:  # ValueError: of Arrow and of JSON
        log.debug("%s: %s", store.url(path), error)
    return set()


def _names_in_parquet(store: Store, path: str) -> set[str]:
    filesystem, base = store.filesystem()
    with filesystem.open_input_file(f"{base}/{path}") as source:
        file = pq.ParquetFile(source)
        names = set(segment_folder.outcomes_of(file.metadata))
        if RECORDING in file.schema_arrow.names:
            names |= set(pc.unique(file.read(columns=[RECORDING])[RECORDING]).to_pylist())
    if snapshot_number(path) is not None:
        names |= CommitLog.names_in_snapshot(path, store.read(path).data)
    return names


def _rows_in(store: Store, path: str) -> int | None:
    filesystem, base = store.filesystem()
    try:
        with filesystem.open_input_file(f"{base}/{path}") as source:
            return int(pq.read_metadata(source).num_rows)
    except FileNotFoundError:  # a shard that was written anew since
        return None


def _names_in_text(path: str, data: bytes) -> set[str]:
    try:
        if path.endswith(".csv"):
            return {row[RECORDING] for row in read_csv(data, path) if RECORDING in row}
        return CommitLog.names_in_manifest(data)
    except (ValueError, UserError) as error:
        log.debug("%s: %s", path, error)
        return set()


def _log(store: Store, kind: str) -> LogState:
    state = CommitLog(store, kind).state()
    if state.settings is None:
        raise UserError(f"--{kind} {store.url()}: no {kind} there: check the path")
    return state


# --- each place ------------------------------------------------------------------------------------------------------


def _erase_segments(store: Store, what: Wanted) -> None:
    """One writer: shards are written anew without the recordings, as prepare does for those that were deleted."""
    with hold(store, "erase"):
        commits = CommitLog(store, "segments")
        state = commits.state()
        assert state.settings is not None
        segment_folder.finish_commit(store, state)
        run, items, parts, removed = new_run(), [], [], []
        for entry in list(store.list(f"{STAGING}/")):  # what killed runs left: it is cut again
            store.delete(entry.name)
        for path in state.parts:
            if not (gone := what.among(_names_in(store, path))):
                continue
            removed.append(path)
            if rest := segment_folder.without(store, path, gone, run):
                new_path = segment_folder.data_path(rest.name)
                items += [{**item, PART: new_path} for item in rest.items]
                parts.append({"path": new_path, "rows": rest.rows})
        erase = [name for name in what.names if not state.erased.holds(name)]
        if removed or erase:
            state = commits.commit(run, state.settings, items, parts, removed=removed, erase=erase or what.names)
            segment_folder.finish_commit(store, state)
        for entry in list(store.list(f"{STAGING}/")):  # of shards of which nothing is left
            store.delete(entry.name)
        commits.forget(lambda path: _rows_in(store, path))
        segment_folder.write_views(store, state)


def _erase_grades(store: Store, what: Wanted) -> None:
    """Beside nights that write: the tombstone first, then the parts, those of killed runs too, and the log."""
    commits = CommitLog(store, "grades")
    state = commits.state()
    assert state.settings is not None
    if erase := [name for name in what.names if not state.erased.holds(name)]:
        state = commits.commit(new_run(), state.settings, [], erase=erase)
    for entry in list(store.list(f"{PARTS}/")):
        _rewrite(store, entry.name, lambda data: _part_without(data, what))
    commits.forget(lambda path: _rows_in(store, path))
    for name in DERIVED:
        store.delete(name)
    grades_folder.write_views(store, state, grades_folder.grades_of(state))


def _erase_evaluation(store: Store, what: Wanted) -> None:
    _rewrite(store, PREDICTIONS_CSV, lambda data: _csv_without(data, what))
    for name in DERIVED:
        store.delete(name)


def _rewrite(store: Store, name: str, without: Callable[[bytes], bytes | None]) -> None:
    """Write a file anew, each time from what is there. without: None where nothing is to go."""
    while True:
        try:
            found = store.read(name)
        except FileNotFoundError:
            return
        if (data := without(found.data)) is None:
            return
        try:
            store.replace(name, data, found.version)
            return
        except LostRace:
            log.info("%s: another run was first, looking again", store.url(name))


def _part_without(data: bytes, what: Wanted) -> bytes | None:
    try:
        rows = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:  # no part of ours
        return None
    gone = what.among(pc.unique(rows[RECORDING]).to_pylist()) if RECORDING in rows.column_names else set()
    if not gone:
        return None
    return parquet_bytes(rows.filter(pc.invert(pc.is_in(rows[RECORDING], pa.array(sorted(gone))))))


def _csv_without(data: bytes, what: Wanted) -> bytes | None:
    rows = read_csv(data, PREDICTIONS_CSV)
    kept: list[dict[str, Any]] = [row for row in rows if row[RECORDING] not in what]
    if len(kept) == len(rows):
        return None
    return csv_bytes(pa.Table.from_pylist(kept, schema=pa.schema([(name, pa.string()) for name in rows[0]])))


def _models(place: str | None, what: Wanted) -> list[str]:
    """A line for each model that learnt from one of them."""
    if place is None:
        return []
    store = open_store(place)
    lines = []
    for entry in store.list():
        if entry.name.rpartition("/")[2] == TRAINED_ON_FILE:
            told = trained_on_from_json(store.read(entry.name).data, store.url(entry.name))
            if count := sum(told.holds(name, "") for name in what.names):
                folder = store.url(entry.name.rpartition("/")[0])
                lines.append(f"{folder}: was trained on {count} of them: train again without them, then delete it")
    return lines
