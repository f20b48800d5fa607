"""Views: files made from a commit log for people and their tools. The log is the truth; a view may lag, never go back.

Whoever rewrites a view looks at the version that is there first and at the log second, and replaces that version only:
a run that was asleep in between finds another version and begins anew, so that what it saw never covers what is newer.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.commits import DELETED, FAILED, OUTCOME, CommitLog, LogState, newest
from samplecnn.contract import FAILURES_SCHEMA, RECORDING, VERSION
from samplecnn.errors import LostRace
from samplecnn.store import Entry, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """A view as it was before the log was read; version "" if there was none."""

    version: str = ""
    md5: str = ""


def failures(state: LogState) -> pa.Table:
    """One row a recording that could not be used, by name (contract.FAILURES_SCHEMA).

    What the log says last of a version counts: another model may have read what one could not.
    """
    standing = newest(state.items.filter(pc.field(OUTCOME) != DELETED), [RECORDING, VERSION])
    failed = standing.filter(pc.field(OUTCOME) == FAILED)
    return (
        failed.select(FAILURES_SCHEMA.names)
        .cast(FAILURES_SCHEMA)
        .sort_by([(RECORDING, "ascending"), (VERSION, "ascending")])
    )


def look(store: Store, names: Sequence[str]) -> dict[str, Seen]:
    """These views as they are now. In a bucket that is one listing: the folder itself holds little but views."""
    listed = {entry.name: entry for entry in store.list(folders=False)}
    return {name: _look_at(store, listed[name]) if name in listed else Seen() for name in names}


def rewrite(
    store: Store,
    commits: CommitLog,
    names: Sequence[str],
    build: Callable[[LogState], Mapping[str, bytes]],
    seen: Mapping[str, Seen] | None = None,
    fresh: LogState | None = None,
) -> Mapping[str, bytes]:
    """Bring these views up to date with the log; returns what they hold. build: state of the log to bytes by name.

    Writes only what differs: a run with nothing to do writes nothing. seen, fresh: what `look` saw, and the log as it
    was found after that (a commit finds it so): given, neither is asked for again.
    """
    while True:
        seen = seen or look(store, names)
        files = build(fresh or commits.state())
        lost = [name for name in names if not _replaced(store, name, files[name], seen[name])]
        if not lost:
            return files
        log.info("%s: another run was first, making it again", ", ".join(map(store.url, lost)))
        seen = fresh = None


def _look_at(store: Store, entry: Entry) -> Seen:
    if entry.version:  # a bucket tells both in its listing
        return Seen(entry.version, entry.md5)
    try:
        blob = store.read(entry.name)
    except FileNotFoundError:
        return Seen()
    return Seen(blob.version, _md5(blob.data))


def _replaced(store: Store, name: str, data: bytes, seen: Seen) -> bool:
    if seen.md5 == _md5(data):
        return True
    try:
        if seen.version:
            store.replace(name, data, seen.version)
        else:
            store.create(name, data)
    except LostRace:
        return False
    return True


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
