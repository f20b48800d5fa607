"""Erasure: a recording leaves everything that was made of it, and a tombstone without its name keeps it out.

Notable: the tombstone comes first, in the commit log (commits): from then on no row of the recording counts, and a run
that has it in hand drops it when it commits. Only then are files rewritten, each under a condition on its version, so
that a run that writes meanwhile loses nothing. Killed at any moment and run again, it goes
on. At its end it looks again. People's tables come last, since they say which recordings a performer's are.
"""

import json
import logging
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from samplecnn import grades_folder, segment_folder
from samplecnn.commits import PART, CommitLog, LogState, new_run, snapshot_number
from samplecnn.contract import (
    DATA,
    LABEL_NEXT_CSV,
    MANIFESTS,
    PARTS,
    PERFORMER,
    PREDICTIONS_CSV,
    RECORDING,
    REPORT_HTML,
    STAGING,
    TRAINED_ON_FILE,
    cell_key,
    finder,
    match_key,
    name_in_cell,
    spell_name,
)
from samplecnn.errors import JobError, LostRace, UserError, printable
from samplecnn.leases import hold
from samplecnn.store import Store, open_store, read_file, store_of_file
from samplecnn.tables import csv_without, parquet_bytes, read_csv, read_parquet
from samplecnn.trained_on import trained_on_from_json
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

# Made of the others by jobs/report.py: they go whole, and are written again when somebody asks for them.
DERIVED = (REPORT_HTML, LABEL_NEXT_CSV)
# What jobs write and what names recordings: folders of a place, and files beside them.
FOLDERS = (DATA, MANIFESTS, PARTS, STAGING)
VIEWS = (*segment_folder.VIEWS, *grades_folder.VIEWS, LABEL_NEXT_CSV, PREDICTIONS_CSV)
LEFT_OUT = "(left out: it named a recording that was erased)"  # in a night's record, instead of a line


@dataclass(frozen=True)
class Wanted:
    """What is to be erased. names: of recordings; of_cells: as they stand in a person's table."""

    names: tuple[str, ...]
    of_cells: bool = False

    def found_among(self, recordings: Iterable[str]) -> "Wanted":
        """The same by the recordings' own names, which a cell cannot always hold (contract.finder)."""
        if not self.of_cells:
            return self
        find = finder(set(recordings))
        return Wanted(tuple(dict.fromkeys(find(name) or name_in_cell(name) for name in self.names)))

    def in_cell(self, cell: str) -> bool:
        """Does a cell of a table name one of them?"""
        return cell_key(cell) in self._cell_keys

    def __contains__(self, recording: str) -> bool:
        return match_key(recording) in self._keys

    @cached_property
    def _keys(self) -> set[str]:
        return set(map(match_key, self.names))

    @cached_property
    def _cell_keys(self) -> set[str]:
        return set(map(cell_key, self.names))

    def among(self, recordings: Iterable[str]) -> set[str]:
        """Those of these names that are to go."""
        return {name for name in recordings if name in self}

    def told_in(self, text: str) -> bool:
        """Does a line for people name one of them? In whatever way a message quotes a name, and where the line was cut
        off in the second half of it too."""
        return any(spelling in text or _ends_within(text, spelling) for spelling in self._spellings())

    def _spellings(self) -> set[str]:
        forms = {unicodedata.normalize(form, name) for name in self.names for form in ("NFC", "NFD")}
        quoted = {spelling for form in forms for spelling in (form, repr(form)[1:-1], quote(form))}
        on_one_line = {" ".join(spelling.split()) for spelling in quoted}  # as flags.run puts it
        return quoted | on_one_line | {printable(spelling) for spelling in quoted | on_one_line}


def _ends_within(text: str, spelling: str) -> bool:
    return any(text.endswith(spelling[:length]) for length in range(-(-len(spelling) // 2), len(spelling)))


@dataclass(frozen=True)
class Places:
    """Where to erase; None: not there."""

    segments: str | None = None
    grades: str | None = None
    evaluation: str | None = None
    nights: str | None = None
    recordings: str | None = None
    model: str | None = None


# A place, what finds the files of it that hold recordings, and what takes these out of them.
_Place = tuple[Store, Callable[[Store, Wanted], list[str]], Callable[[Store, Wanted], None]]


def wanted(recording: str, performer: str, labels: Sequence[str]) -> Wanted:
    """What these flags mean. labels: CSV files. Raises UserError where they mean nothing."""
    if bool(recording) == bool(performer):
        raise UserError("--recording or --performer: give one of them")
    if recording:
        return Wanted((recording,))
    if not labels:
        raise UserError("--performer: wants --labels with it, whose column performer says which recordings are theirs")
    rows = [row for place in labels for row in read_csv(read_file(place, "--labels"), place)]
    theirs = [row.get(RECORDING, "") for row in rows if match_key(row.get(PERFORMER, "")) == match_key(performer)]
    if not any(theirs):
        raise UserError(f"--performer {performer}: no recording in {', '.join(labels)} is theirs, or is any more")
    return Wanted(tuple(dict.fromkeys(filter(None, theirs))), of_cells=True)


def erase(
    what: Wanted,
    places: Places,
    *,
    delete: bool,
    recordings_too: bool = False,
    labels: Sequence[str] = (),
    labels_too: bool = False,
) -> list[str]:
    """Erase these recordings, or say what would go; returns the lines to print.

    labels: CSV files of people with a column recording. Raises UserError where nothing of them is found and nothing
    ever was, JobError where something is left in the end.
    """
    if not (places.segments or places.grades or places.evaluation):
        raise UserError("--segments, --grades or --evaluation: name at least one")
    if recordings_too and not places.recordings:
        raise UserError("--recordings-too: wants --recordings with it")
    if labels_too and not labels:
        raise UserError("--labels-too: wants --labels with it")
    made: list[_Place] = [
        (open_store(place), find, erase_in)
        for place, find, erase_in in (
            (places.segments, holding, _erase_segments),
            (places.grades, holding, _erase_grades),
            (places.evaluation, holding, _erase_evaluation),
            (places.nights, _telling, _erase_nights),
        )
        if place
    ]
    logs = [_log(place, kind) for place, kind in ((places.segments, "segments"), (places.grades, "grades")) if place]
    uploads = open_store(places.recordings) if places.recordings else None
    uploaded = [] if uploads is None else [entry.name for entry in uploads.list()]
    inside = {name for state in logs for name in state.items[RECORDING].to_pylist()}
    what = what.found_among({*inside, *map(spell_name, uploaded)})

    def held() -> list[str]:
        return [store.url(name) for store, find, _ in made for name in find(store, what)]

    found = held()
    files = [name for name in uploaded if spell_name(name) in what]
    tables = [place for place in labels if _csv_without(read_file(place, "--labels"), place, what) is not None]
    known = any(state.erased.holds(name) for state in logs for name in what.names)
    if not (found or files or tables or known):
        raise UserError(f"{', '.join(what.names[:3])}: found nowhere: write the name as latest.csv has it")
    lines = [*found, *_others(made, labels, what), *_models(places.model, what)]
    if delete:
        for store, _, erase_in in made:
            erase_in(store, what)
        if left := held():
            raise JobError(
                f"{left[0]}: another run wrote it meanwhile ({len(left)} such files): run the same command again"
            )
    if uploads is not None and files and not recordings_too:
        lines.append(f"{len(files)} uploads stay in {places.recordings}, and are not read again (--recordings-too)")
    elif uploads is not None:
        lines += [uploads.url(name) for name in files]
        for name in files if delete else []:
            uploads.delete(name)
    lines += tables if labels_too else [f"{place}: has lines of them, which stay (--labels-too)" for place in tables]
    for place in sorted(tables, key=_says_who) if delete and labels_too else []:
        _erase_lines(place, what)
    done = "erased from" if delete else "would be erased from: --delete does it:"
    lines.append(f"{len(what.names)} recordings {done} {len(found)} files")
    return lines


def holding(store: Store, what: Wanted) -> list[str]:
    """The files that jobs wrote to a place and that hold these recordings."""
    return [entry.name for entry in store.list() if _ours(entry.name) and what.among(_names_in(store, entry.name))]


def _ours(name: str) -> bool:
    """Was a file of a place written by a job? People keep tables of their own there."""
    folder, _, inner = name.partition("/")
    return folder in FOLDERS if inner else name in VIEWS


def _others(made: Sequence[_Place], labels: Sequence[str], what: Wanted) -> list[str]:
    """A line for each table of people's in these places that holds them and that --labels does not name."""
    named = {f"{store.root}/{name}" for store, name in map(store_of_file, labels)}
    stores = [store for store, find, _ in made if find is holding]
    lines = []
    for store in stores:
        within = [f"{other.root}/" for other in stores if other is not store]  # a place may lie in another one
        for name in (entry.name for entry in store.list() if not _ours(entry.name)):
            path = f"{store.root}/{name}"
            if path in named or any(path.startswith(root) and root.startswith(store.root) for root in within):
                continue
            if any(what.in_cell(found) for found in _names_in(store, name)):
                lines.append(f"{store.url(name)}: holds them, and stays: name it with --labels, and --labels-too")
    return lines


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


def _log(place: str, kind: str) -> LogState:
    store = open_store(place)
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
            if rest := segment_folder.without(store, path, gone, run, state):
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
    _rewrite(store, PREDICTIONS_CSV, lambda data: _csv_without(data, PREDICTIONS_CSV, what))
    for name in DERIVED:
        store.delete(name)


def _erase_nights(store: Store, what: Wanted) -> None:
    for name in _telling(store, what):
        _rewrite(store, name, lambda data: _record_without(data, what))


def _telling(store: Store, what: Wanted) -> list[str]:
    """The nights' records in which a line names them."""
    names = [entry.name for entry in store.list(folders=False) if entry.name.endswith(".json")]
    return [name for name in names if _record_without(store.read(name).data, what)]


def _record_without(data: bytes, what: Wanted) -> bytes | None:
    """A night's record (operations.night) without the lines that name them."""
    try:
        told = read_json(data)
    except ValueError:
        return None
    if not (isinstance(told, dict) and "night" in told):  # no record of ours
        return None
    kept = _texts_without(told, what)
    return None if kept == told else json.dumps(kept, indent=1).encode()


def _texts_without(told: Any, what: Wanted) -> Any:
    if isinstance(told, dict):
        return {key: _texts_without(value, what) for key, value in told.items()}
    if isinstance(told, list):
        return [_texts_without(value, what) for value in told]
    return LEFT_OUT if isinstance(told, str) and what.told_in(told) else told


def _says_who(place: str) -> bool:
    """Does --performer go by this file? Then it is the last to lose their lines: the same command goes on by it."""
    return any(PERFORMER in row for row in read_csv(read_file(place, "--labels"), place))


def _erase_lines(place: str, what: Wanted) -> None:
    store, name = store_of_file(os.path.realpath(place) if os.path.islink(place) else place)  # not the link alone
    _rewrite(store, name, lambda data: _csv_without(data, place, what))


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
        rows = read_parquet(data)
    except (pa.ArrowException, OSError):  # no part of ours
        return None
    gone = what.among(pc.unique(rows[RECORDING]).to_pylist()) if RECORDING in rows.column_names else set()
    if not gone:
        return None
    return parquet_bytes(rows.filter(pc.invert(pc.is_in(rows[RECORDING], pa.array(sorted(gone))))))


def _csv_without(data: bytes, place: str, what: Wanted) -> bytes | None:
    return csv_without(data, place, lambda row: what.in_cell(row.get(RECORDING, "")))


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
