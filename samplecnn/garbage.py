"""What a grades folder holds for nothing: parts of runs that were killed or came second, and snapshots of no more use.

A part without a manifest may belong to a run that is about to commit it. So a part goes only if everything that its
run wrote is older than a safe age, by the storage's own time stamps. Those say nothing if our clock is wrong: a file
that is newer than our now stops the whole collection, and before anything is removed the storage is asked for its time.
"""

import logging
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from samplecnn.commits import CommitLog, snapshot_number
from samplecnn.contract import MANIFESTS, PARTS
from samplecnn.errors import JobError, LostRace, UserError
from samplecnn.flags import flag
from samplecnn.store import Entry, Store

log = logging.getLogger(__name__)

DAY_S = 86_400.0
CLOCKS_APART_S = 300.0  # as much as two machines' clocks may differ without anybody minding
SNAPSHOTS_KEPT = 2  # the newest, and one for readers that listed the folder before it came


@dataclass(frozen=True, kw_only=True)
class GarbageSettings:
    """What a user decides about garbage."""

    safe_days: float = flag(7.0, "leave alone what was written within so many days")

    def __post_init__(self) -> None:
        if not self.safe_days >= 1:  # a run may hold a part back for minutes, a sleeping laptop for a night
            raise UserError(f"--safe-days {self.safe_days}: choose 1 or more")


def find_garbage(store: Store, now_s: float, safe_days: float) -> list[Entry]:
    """The files that may go. now_s: seconds since 1970.

    Raises UserError where no grades are, JobError if a file is newer than now.
    """
    # Listed before the log is read: a part that is committed in between is named by the log.
    parts, manifests = list(store.list(f"{PARTS}/")), list(store.list(f"{MANIFESTS}/"))
    state = CommitLog(store, "grades").state()
    if state.settings is None:
        raise UserError(f"--grades {store.url()}: no grades there: nothing can be told from garbage")
    ahead = max([*parts, *manifests], key=lambda entry: entry.updated_s)
    if ahead.updated_s > now_s + CLOCKS_APART_S:
        raise JobError(
            f"{store.url(ahead.name)}: written {(ahead.updated_s - now_s) / 3600:.1f} h from now: nothing was deleted: "
            "set this machine's clock right"
        )
    before_s = now_s - safe_days * DAY_S
    return orphans(parts, state.parts, before_s) + outlived(manifests, before_s)


def orphans(parts: Iterable[Entry], named: Collection[str], before_s: float) -> list[Entry]:
    """The parts that no manifest names, of runs that have written nothing since before_s."""
    runs: dict[str, list[Entry]] = {}
    for entry in parts:
        runs.setdefault(entry.name.split("/")[1], []).append(entry)
    return [
        entry
        for files in runs.values()
        if max(entry.updated_s for entry in files) < before_s
        for entry in files
        if entry.name not in named
    ]


def outlived(manifests: Iterable[Entry], before_s: float) -> list[Entry]:
    """The snapshots that no reader starts from any more."""
    snapshots = [(number, entry) for entry in manifests if (number := snapshot_number(entry.name)) is not None]
    newest_first = [entry for _, entry in sorted(snapshots, key=lambda pair: pair[0], reverse=True)]
    return [entry for entry in newest_first[SNAPSHOTS_KEPT:] if entry.updated_s < before_s]


def require_same_clock(store: Store, now_s: float) -> None:
    """Raises JobError if the storage has another time: by a clock that runs ahead, what was just written looks old.

    Asked by writing a file. Locally a clock that jumped is the storage's too, and safe_days is all the safety there is.
    """
    name = f"{PARTS}/clock-{secrets.token_hex(8)}/probe"  # where the next collection finds it, should we be killed
    store.create(name, b"")
    try:
        (probe,) = store.list(name)
    finally:
        store.delete(name)
    if abs(probe.updated_s - now_s) > CLOCKS_APART_S:
        raise JobError(
            f"{store.url()}: this machine's clock is {abs(probe.updated_s - now_s) / 3600:.1f} h off: "
            "nothing was deleted: set it right"
        )


def delete(store: Store, garbage: Sequence[Entry]) -> int:
    """Remove these files, each only if it is still the one that was found; returns how many went."""
    gone = 0
    for entry in garbage:
        try:
            store.delete(entry.name, entry.version or None)
            gone += 1
        except LostRace:
            log.warning("%s: was written again meanwhile and stays", store.url(entry.name))
    return gone
