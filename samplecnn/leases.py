"""One writer a folder: a lease that its holder keeps alive, and that outlives a dead holder only for a while.

Notable: nobody's clock is compared with another's. The holder rewrites the lease every few seconds; whoever waits for
it watches whether it changes. On one machine a dead holder is known by its process and taken over at once. A lease
saves work and protects data/ from being rewritten by two at once; what is committed is decided by the commit log alone.
"""

import contextlib
import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from samplecnn.contract import LEASE
from samplecnn.errors import JobError, LostRace, UserError
from samplecnn.store import Store
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

BEAT_S = 10.0
LAPSE_S = 45.0  # unchanged for so long, a lease is nobody's: four beats, one of which may take its retries


@dataclass(frozen=True)
class Holder:
    """What a lease says of its holder.

    machine: boot and process name space, within which pid means something; started: start time of the process, since
    pids are used again; beat: counts up, so that every rewriting is another version.
    """

    token: str
    job: str
    pid: int
    host: str
    machine: str
    started: str
    beat: int = 0


class Lease:
    """A lease that is held; `check` before writing what another writer must not have touched."""

    def __init__(self, store: Store, holder: Holder, version: str) -> None:
        self._store, self._holder, self._version = store, holder, version
        self._lost = False

    def check(self) -> None:
        """Raises JobError if another run has taken the folder over (this one was asleep for too long)."""
        if self._lost:
            raise JobError(f"{self._store.url()}: another run took over while this one did not answer: run it again")

    def beat_until(self, stop: threading.Event, every_s: float) -> None:
        """Keep the lease alive until told to stop, or until it is lost."""
        while not self._lost and not stop.wait(every_s):
            self._holder = replace(self._holder, beat=self._holder.beat + 1)
            try:
                self._renew()
            except (JobError, UserError, OSError) as error:  # perhaps the next beat gets through
                log.warning("%s: the lease could not be renewed: %s", self._store.url(), error)

    def _renew(self) -> None:
        try:
            self._version = self._store.replace(LEASE, _written(self._holder), self._version)
            return
        except LostRace:
            pass
        # Another's by now, or a beat of ours went through that had ended in an error.
        with contextlib.suppress(FileNotFoundError):
            blob = self._store.read(LEASE)
            found = _read(blob.data)
            if found and found.token == self._holder.token:
                self._version = blob.version
                return
        self._lost = True
        log.error("%s: this run lost its lease", self._store.url())

    def end(self) -> None:
        """Take the lease away, unless it is another's by now."""
        with contextlib.suppress(LostRace):
            self._store.delete(LEASE, self._version)


@contextlib.contextmanager
def hold(store: Store, job: str, beat_s: float = BEAT_S, lapse_s: float = LAPSE_S) -> Iterator[Lease]:
    """Be the one writer of this folder for as long as the block lasts.

    Waits, at most lapse_s, to learn whether the holder of another machine is alive. Raises UserError if it is, or if
    a process of this machine holds the lease.
    """
    holder = Holder(secrets.token_hex(16), job, os.getpid(), platform.node(), _machine(), _started(os.getpid()) or "")
    lease = Lease(store, holder, _acquire(store, holder, lapse_s))
    stop = threading.Event()
    thread = threading.Thread(target=lease.beat_until, args=(stop, beat_s), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        lease.end()


def _acquire(store: Store, holder: Holder, lapse_s: float) -> str:
    """Write the lease as ours; returns its version."""
    watched, since = "", 0.0
    while True:
        with contextlib.suppress(LostRace):
            return store.create(LEASE, _written(holder), holder.token)
        try:
            blob = store.read(LEASE)
        except FileNotFoundError:  # let go meanwhile
            continue
        other = _read(blob.data)
        who = f"{other.job} (process {other.pid} on {other.host})" if other else "an unknown writer"
        alive = _alive(other, holder.machine)
        if alive or watched not in ("", blob.version):
            raise UserError(f"{store.url()}: {who} is writing here: let it finish or stop it, then run this again")
        if alive is False or (watched and time.monotonic() - since >= lapse_s):
            with contextlib.suppress(LostRace):
                version = store.replace(LEASE, _written(holder), blob.version)
                log.info("%s: took over from %s, which has ended", store.url(), who)
                return version
            continue
        if not watched:
            watched, since = blob.version, time.monotonic()
            log.info("%s: held by %s: waiting up to %.0f s for a sign of life", store.url(), who, lapse_s)
        time.sleep(min(1.0, lapse_s / 10))


def _alive(other: Holder | None, machine: str) -> bool | None:
    """Does the holder's process run? None where this machine cannot know."""
    if other is None or other.machine != machine:
        return None
    return _started(other.pid) == other.started


def _started(pid: int) -> str | None:
    """Something that tells a process from a later one with the same pid; None if there is none, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before it may hold spaces
        return None if fields[0] in "ZX" else fields[19]  # state, starttime: proc(5)
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return None
    try:  # no /proc (macOS): that some process has the pid is all we can know
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _machine() -> str:
    """Names the set of processes that pids of ours belong to: two containers of one host are two machines."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return platform.node()


def _written(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _read(data: bytes) -> Holder | None:
    """None for what is no lease of ours: it lapses like any other."""
    try:
        fields: dict[str, Any] = read_json(data)
        return Holder(**fields)
    except (ValueError, TypeError):
        return None
