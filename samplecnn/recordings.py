"""The work list: which recordings a folder holds, in which version, and what the log does not know of yet.

Listing goes page by page and the comparison with the log runs in Arrow, since a bucket may hold a million recordings.
Locally a version is a hash of the content; it is taken again only where size or mtime are not those of the log.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.commits import (
    DELETED,
    DONE,
    FAILED,
    NAMESAKE,
    OUTCOME,
    PERMANENT,
    STAMP,
    UNREAD,
    failed_item,
    joined,
    of_no_content,
    withdrawn,
)
from samplecnn.contract import RECORDING, VERSION, is_recording_name, spell_name
from samplecnn.erased import Erased
from samplecnn.errors import RecordingError, UserError
from samplecnn.store import Entry, Store

log = logging.getLogger(__name__)

PAGE = 10_000  # entries turned into Arrow at a time: 5 MB of Python objects
_NAME, _SIZE = "name", "size_bytes"
_LISTED = pa.schema(
    [
        pa.field(RECORDING, pa.string()),
        pa.field(STAMP, pa.string()),
        pa.field(VERSION, pa.string()),
        pa.field(_SIZE, pa.int64()),
        pa.field(_NAME, pa.binary()),  # bytes: a name need not be UTF-8
    ]
)


@dataclass(frozen=True)
class Item:
    """A recording to work on: Item("2026/take 1.wav", "1763884800123456", "1763884800123456", 1_323_044, ...).

    recording: its name as it is written (contract.spell_name); name: what the store opens.
    """

    recording: str
    version: str
    stamp: str
    size_bytes: int
    name: str


@dataclass(frozen=True)
class Plan:
    """What a run has to do, in the byte order of the names.

    todo: new and changed recordings, and those whose failure was not for good. failed: log items, to be committed, of
    recordings that cannot even be planned; passed: those that take back such failures of earlier runs. kept: number of
    recordings whose version the log has as done; given_up: those that it has as failed for good. deleted: recordings of
    the log that are gone. ignored: number of other files. touched: stamps, by (recording, version), that the log does
    not have of versions that it knows; with them committed (commits.restamped) the next run need not hash those files
    again.
    """

    todo: list[Item]
    failed: list[dict[str, Any]]
    kept: int
    given_up: int
    deleted: list[str]
    ignored: int
    touched: dict[tuple[str, str], str] = field(default_factory=dict)
    passed: list[dict[str, Any]] = field(default_factory=list)


def plan(store: Store, known: pa.Table, leave_out: Sequence[str] = (), erased: Erased | None = None) -> Plan:
    """Compare the recordings of a place with the log.

    known: rows of commits.ITEMS_SCHEMA that count as known (all of a log, or those of one model). leave_out: places
    whose files are none of the recordings, where they lie inside (the output folders). erased: files that are left
    alone like what is no recording.
    Raises UserError for a place that does not exist.
    """
    pages = _Pages(store, [prefix for prefix in map(store.inside, leave_out) if prefix], erased or Erased())
    listed = pa.concat_tables([_LISTED.empty_table(), *pages]).combine_chunks()
    if not len(listed) and not store.exists():  # asked only now: in a bucket it costs a request
        raise UserError(f"--recordings {store.url()}: no such folder, or nothing in it: check the path")
    twice, listed = _spelled_twice(listed)
    standing = known.filter(pc.field(OUTCOME) != DELETED)
    # With the same stamp a file has the version that the log gives it; any row of that stamp will do.
    read = standing.filter((pc.field(STAMP) != "") & (pc.field(VERSION) != ""))
    row = pc.index_in(joined(listed, RECORDING, STAMP), value_set=joined(read, RECORDING, STAMP))
    versions = pc.coalesce(read[VERSION].take(row), pc.if_else(pc.equal(listed[VERSION], ""), None, listed[VERSION]))
    listed, failed = _with_versions(store, listed, versions)
    key = joined(listed, RECORDING, VERSION)
    done = pc.is_in(key, joined(known.filter(pc.field(OUTCOME) == DONE), RECORDING, VERSION))
    hopeless = known.filter((pc.field(OUTCOME) == FAILED) & pc.field(PERMANENT))
    given_up = pc.and_not(pc.is_in(key, joined(hopeless, RECORDING, VERSION)), done)
    here = pa.concat_arrays([*listed[RECORDING].chunks, pa.array([item[RECORDING] for item in failed], pa.string())])
    gone = standing.filter(pc.invert(pc.is_in(standing[RECORDING], here)))[RECORDING]
    known_failed = set(joined(hopeless, RECORDING, VERSION).to_pylist())
    return Plan(
        todo=_items(listed.filter(pc.invert(pc.or_(done, given_up)))),
        failed=[item for item in twice + failed if f"{item[RECORDING]}\0{item[VERSION]}" not in known_failed],
        kept=pc.sum(done).as_py() or 0,
        given_up=pc.sum(given_up).as_py() or 0,
        deleted=sorted(pc.unique(gone).to_pylist()),
        ignored=pages.ignored,
        touched=_touched(listed, standing, read),
        passed=_passed(standing.filter(pc.is_in(standing[RECORDING], here)), twice + failed),
    )


def _passed(standing: pa.Table, failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    still = {(item[RECORDING], item[VERSION]) for item in failed}
    rows = withdrawn(standing.filter(pc.field(OUTCOME) == FAILED))
    return [row for row in rows if of_no_content(row[VERSION]) and (row[RECORDING], row[VERSION]) not in still]


def _touched(listed: pa.Table, standing: pa.Table, read: pa.Table) -> dict[tuple[str, str], str]:
    old = pc.is_in(joined(listed, RECORDING, VERSION), joined(standing, RECORDING, VERSION))
    stamped = pc.is_in(joined(listed, RECORDING, STAMP), joined(read, RECORDING, STAMP))
    found = listed.filter(pc.and_not(old, stamped))
    columns = (found[name].to_pylist() for name in (RECORDING, VERSION, STAMP))
    return {(recording, version): stamp for recording, version, stamp in zip(*columns, strict=True)}


class _Pages:
    """The recordings of a place as Arrow tables (_LISTED), a page at a time; counts the other files on the way."""

    def __init__(self, store: Store, leave_out: list[str], erased: Erased) -> None:
        self._store, self._leave_out, self._erased = store, tuple(leave_out), erased
        self.ignored = 0

    def __iter__(self) -> Iterator[pa.Table]:
        entries = self._recordings()
        while page := list(islice(entries, PAGE)):
            columns = [
                [spell_name(entry.name) for entry in page],
                [entry.stamp for entry in page],
                [entry.version for entry in page],
                [entry.size_bytes for entry in page],
                [os.fsencode(entry.name) for entry in page],
            ]
            yield pa.table([pa.array(c, f.type) for c, f in zip(columns, _LISTED, strict=True)], schema=_LISTED)

    def _recordings(self) -> Iterator[Entry]:
        for entry in self._store.list():
            if entry.name.startswith(self._leave_out):
                continue
            if is_recording_name(entry.name) and not self._erased.holds(spell_name(entry.name)):
                yield entry
            else:
                self.ignored += 1


def _spelled_twice(listed: pa.Table) -> tuple[list[dict[str, Any]], pa.Table]:
    """Names that are written alike, though they differ: the first is used, a failure says so for each of the others."""
    numbered = listed.append_column("row", pa.array(range(len(listed)), pa.int64()))
    first = numbered.group_by(RECORDING, use_threads=False).aggregate([("row", "min")])["row_min"]
    if len(first) == len(listed):
        return [], listed
    is_first = pc.is_in(numbered["row"], first)
    error = RecordingError("list", "another file's name is written the same way: rename one of the two")
    others = listed.filter(pc.invert(is_first))
    rows = zip(others[RECORDING].to_pylist(), others[_NAME].to_pylist(), strict=True)
    # Not the version of its content, nor its stamp: those may be the first one's, whose row it would replace.
    failed = [failed_item(r, f"{NAMESAKE}{hashlib.blake2b(n, digest_size=8).hexdigest()}", "", error) for r, n in rows]
    return failed, listed.filter(is_first)


def _with_versions(store: Store, listed: pa.Table, versions: pa.ChunkedArray) -> tuple[pa.Table, list[dict[str, Any]]]:
    """(the table with each version filled in, failures of files that cannot be read); without files that vanished."""
    unknown = pc.indices_nonzero(pc.is_null(versions)).to_pylist()
    if not unknown:
        return listed.set_column(2, _LISTED.field(VERSION), versions), []
    log.info("reading %d recordings that are new or were touched, for the version of their content", len(unknown))
    filled: list[str | None] = versions.to_pylist()
    failed: list[dict[str, Any]] = []
    for index, item in zip(unknown, _items(listed.take(unknown)), strict=True):
        try:
            filled[index] = store.version_of(item.name)
        except FileNotFoundError:
            log.info("%s: gone since it was listed", item.recording)
        except OSError as error:
            fault = RecordingError("read", error.strerror or type(error).__name__, False)
            failed.append(failed_item(item.recording, UNREAD, item.stamp, fault))
    table = listed.set_column(2, _LISTED.field(VERSION), pa.array(filled, pa.string()))
    return table.filter(pc.is_valid(table[VERSION])), failed


def _items(table: pa.Table) -> list[Item]:
    rows = zip(*(table[column].to_pylist() for column in (RECORDING, VERSION, STAMP, _SIZE, _NAME)), strict=True)
    return [Item(r, v, s, size, os.fsdecode(name)) for r, v, s, size, name in rows]
