"""Reading and appending manifests; the only place that writes to the log."""

import contextlib
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.commits import snapshot
from samplecnn.commits.snapshot import Snapshot
from samplecnn.commits.state import (
    CORRECTION_KEY,
    DELETED,
    DONE,
    FAILED,
    GIVEN,
    MANIFEST,
    OUTCOME,
    RUN,
    STAMP,
    LogState,
    fold,
    of_no_content,
    require_same_settings,
    without_erased,
)
from samplecnn.contract import MANIFESTS, MODEL_ID, RECORDING, VERSION
from samplecnn.errors import JobError, LostRace, UserError
from samplecnn.store import Store, is_name
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)

# Thirty manifests are 30 requests, 0.3 s from a bucket, at most 3 MB. A snapshot of a million items is 16 MB and 0.6 s.
COMPACT_EVERY = 30
COMPACT_ITEMS = 20_000  # in one manifest: as JSON they cost ten times the bytes and the time of a snapshot

_MANIFEST_KEYS = {"manifest", "token", "run", "kind", "committed_at", "settings", "items", "parts", "removed"}


class CommitLog:
    """The log of one folder.

    kind: "segments" or "grades"; now: the clock that stamps manifests; known: a state of this log, to go on from.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        known: LogState | None = None,
    ) -> None:
        self._store, self._kind, self._now = store, kind, now
        self._state = known or LogState()
        self._planned_at = self._state.last
        self._compacted = 0  # the newest manifest that a snapshot ends with
        self._useless: set[str] = set()  # snapshots that turned out to be

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
        corrections: Sequence[Mapping[str, Any]] = (),
        erase: Sequence[str] = (),
    ) -> LogState:
        """Append one manifest; returns the log with it.

        items: columns of ITEMS_SCHEMA, at least recording, version, outcome. parts: {"path", "rows"} of files that are
        complete. removed: paths of parts that are valid no more. If another run was first, items that it settled
        since `state()` are dropped, and build(the items left) returns the parts that hold no rows of the dropped ones.
        corrections: columns of CORRECTION_KEY; those that the log holds already are left out, and nothing else drops
        one: where nothing is left of a commit of corrections, no manifest is made. erase: names of recordings of which
        nothing counts any more, before this manifest and after it, whoever commits it (`forget` takes them out).

        Raises LostRace if rows would have to be dropped and there is no build; UserError if the folder was begun with
        other settings meanwhile.
        """
        items = [_clean(item) for item in items]
        token, only_corrections = secrets.token_hex(16), bool(corrections) and not items
        while True:
            require_same_settings(self._state, settings, self._store.url())
            left = [one for one in self._unsettled(run, items) if not self._state.erased.holds(one[RECORDING])]
            if len(left) < len(items):
                log.info(
                    "%d of %d items were settled by another run meanwhile, or erased",
                    len(items) - len(left),
                    len(items),
                )
                if not left:
                    return self._state
                if parts and build is None:
                    raise LostRace(f"{self._store.url()}: another run settled some of these recordings")
                parts = build(left) if build else parts
                items = left
            corrections = self._unknown(corrections)
            if only_corrections and not corrections:
                return self._state
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
                **({"corrections": corrections} if corrections else {}),
                **({"erased": self._state.erased.with_names(erase).to_json()} if erase else {}),
            }
            data = json.dumps(manifest, allow_nan=False).encode()  # NaN could not be read back
            try:
                self._store.create(manifest_name(number), data, token)
            except LostRace:
                self._refresh()
                continue
            self._state = fold(self._state, [json.loads(data)])
            if number - self._compacted >= COMPACT_EVERY or len(items) >= COMPACT_ITEMS:
                self._compact(token)
            return self._state

    def forget(self, rows_of: Callable[[str], int | None]) -> int:
        """Take the recordings that were erased out of every manifest, and away with snapshots that hold any; returns
        how many files did. The one change that is ever made to a manifest: each keeps what else it says.

        rows_of: how many rows a part has by now, None where it is gone. Killed at any moment and called again, it ends
        the same.
        """
        self._refresh()
        erased, changed = self._state.erased, 0
        for number in range(1, self._state.last + 1):
            blob = self._store.read(manifest_name(number))
            manifest = read_json(blob.data)
            lists = [name for name in ("items", "corrections") if name in manifest]
            kept = {name: [row for row in manifest[name] if not erased.holds(row[RECORDING])] for name in lists}
            if any(len(kept[name]) < len(manifest[name]) for name in lists):
                rows = {part["path"]: rows_of(part["path"]) for part in manifest["parts"]}
                parts = [
                    part if rows[part["path"]] is None else {**part, "rows": rows[part["path"]]}
                    for part in manifest["parts"]
                ]
                data = json.dumps({**manifest, **kept, "parts": parts}).encode()
                with contextlib.suppress(LostRace):  # another erasure was first with this one
                    self._store.replace(manifest_name(number), data, blob.version)
                changed += 1
        for entry in list(self._store.list(f"{MANIFESTS}/")):
            if snapshot.number_of(entry.name) is not None and self._remembers(entry.name):
                self._store.delete(entry.name)
                changed += 1
        return changed

    @staticmethod
    def names_in_manifest(data: bytes) -> set[str]:
        """The recordings of which a manifest says something. Raises ValueError where it is none."""
        manifest = read_json(data)
        return {row[RECORDING] for name in ("items", "corrections") for row in manifest.get(name, [])}

    @staticmethod
    def names_in_snapshot(name: str, data: bytes) -> set[str]:
        """The same of a snapshot; nothing where it cannot be read."""
        found = snapshot.read(name, data)
        tables = (found.state.items, found.state.corrections) if found else ()
        return {recording for table in tables for recording in pc.unique(table[RECORDING]).to_pylist()}

    def _remembers(self, name: str) -> bool:
        """Does this snapshot hold a recording that was erased, or cannot be read?"""
        found = self._snapshot(name)
        if found is None:
            return True
        tables = (found.state.items, found.state.corrections)
        return any(len(without_erased(table, self._state.erased)) < len(table) for table in tables)

    def _unknown(self, corrections: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The corrections that the log does not hold, each once."""
        known = {tuple(row.values()) for row in self._state.corrections.select(CORRECTION_KEY).to_pylist()}
        corrections = [row for row in corrections if not self._state.erased.holds(row[RECORDING])]
        new = {tuple(row.get(column) for column in CORRECTION_KEY): None for row in corrections}
        told = [dict(zip(CORRECTION_KEY, key, strict=True)) for key in new if key not in known]
        return [{column: value for column, value in row.items() if value is not None} for row in told]

    def _unsettled(self, run: str, items: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The items that no other run has settled since we planned.

        Done and deleted settle a recording under its model in whatever version: the log must not go back to an older
        one because we were slow. A failure settles only other versions: ours may have succeeded where theirs failed.
        What another model did of this very version leaves ours to do; of another version, or that this one is gone,
        it settles ours too. That they could not read the file settles nothing.
        """
        if self._state.last == self._planned_at:
            return items
        since = self._state.items.filter(
            (pc.field(MANIFEST) > self._planned_at) & (pc.field(RUN) != run)  # what this run did, it may do over
        )
        theirs: dict[str, list[tuple[str, str, str]]] = {}
        columns = (since[name].to_pylist() for name in (RECORDING, MODEL_ID, VERSION, OUTCOME))
        for recording, model_id, version, outcome in zip(*columns, strict=True):
            if not of_no_content(version):
                theirs.setdefault(recording, []).append((model_id, version, outcome))

        def settles(item: Mapping[str, Any], model_id: str, version: str, outcome: str) -> bool:
            same = bool(version == item[VERSION])
            if model_id == item[MODEL_ID]:
                return outcome != FAILED or not same
            return same == (outcome == DELETED)

        def settled(item: Mapping[str, Any]) -> bool:
            return any(settles(item, *row) for row in theirs.get(item[RECORDING], []))

        return [item for item in items if not settled(item)]

    def _refresh(self) -> None:
        names = [entry.name for entry in self._store.list(f"{MANIFESTS}/")]
        numbers = sorted(number for name in names if (number := _number_of(name)) is not None)
        for expected, number in enumerate(numbers, 1):
            if number != expected:
                raise JobError(
                    f"{self._store.url(manifest_name(expected))}: missing, though later ones are there: "
                    "bring it back from a backup, or start a new folder"
                )
        last = len(numbers)
        snapshots = [(number, name) for name in names if (number := snapshot.number_of(name)) is not None]
        self._shorten(sorted(snapshots), last)
        self._state = self._folded(last)

    def _folded(self, last: int) -> LogState:
        number = self._state.last

        def manifests() -> Iterator[dict[str, Any]]:
            nonlocal number
            for number in range(self._state.last + 1, last + 1):
                yield self._read(number)

        try:
            return fold(self._state, manifests())
        except (pa.ArrowException, KeyError, TypeError, ValueError):  # columns of other types than ours
            raise self._no_manifest(manifest_name(number)) from None

    def _shorten(self, snapshots: list[tuple[int, str]], last: int) -> None:
        """Jump to the newest snapshot that can be trusted, where that saves reading many manifests."""
        usable = [(number, name) for number, name in snapshots if number <= last and name not in self._useless]
        least = COMPACT_EVERY if self._state.last else 1
        while usable and usable[-1][0] - self._state.last >= least:
            number, name = usable[-1]
            found = self._snapshot(name)
            if found and found.state.last == number and found.token == self._read(number)["token"]:
                self._state = found.state
            else:
                log.warning("%s: cannot be used: reading manifests instead", self._store.url(name))
                self._useless.add(usable.pop()[1])
        self._compacted = usable[-1][0] if usable else 0

    def _snapshot(self, name: str) -> Snapshot | None:
        try:
            return snapshot.read(name, self._store.read(name).data)
        except FileNotFoundError:  # collected as garbage since it was listed
            return None

    def _compact(self, token: str) -> None:
        """Write a snapshot of the log; token: that of its last manifest."""
        name, data = snapshot.written(self._state, token)
        self._compacted = self._state.last
        try:
            self._store.create(name, data)
        except LostRace:  # the same bytes, from a call whose reply was lost
            pass
        except (JobError, UserError, OSError) as error:  # what was committed is committed
            log.warning("%s: could not be written: %s", self._store.url(name), error)

    def _read(self, number: int) -> dict[str, Any]:
        name = manifest_name(number)
        try:
            manifest = read_json(self._store.read(name).data)
        except ValueError:
            manifest = None
        if not _is_manifest(manifest):
            raise self._no_manifest(name)
        if manifest["kind"] != self._kind:
            raise UserError(f"{self._store.url()}: holds {manifest['kind']}, not {self._kind}: choose another folder")
        return manifest

    def _no_manifest(self, name: str) -> JobError:
        return JobError(f"{self._store.url(name)}: not a manifest of samplecnn: bring it back from a backup")


def _is_manifest(told: Any) -> TypeGuard[dict[str, Any]]:
    """Has this the shape of a manifest? Its parts lie in the folder, wherever somebody would have them."""
    return (
        isinstance(told, dict)
        and told.keys() >= _MANIFEST_KEYS
        and isinstance(told["settings"], dict)
        and all(isinstance(told[name], list) for name in ("items", "parts", "removed"))
        and all(isinstance(item, dict) for item in told["items"])
        and all(isinstance(item.get(name), str) for item in told["items"] for name in (RECORDING, VERSION, OUTCOME))
        and all(isinstance(path, str) for path in told["removed"])
        and all(isinstance(part, dict) and isinstance(part.get("path"), str) for part in told["parts"])
        and all(is_name(part["path"]) and isinstance(part.get("rows"), int) for part in told["parts"])
    )


def new_run() -> str:
    """A name for a run that no other run has; sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def manifest_name(number: int) -> str:
    """Where a manifest lies: manifests/000000001.json. Nine digits, so that listings come in order."""
    return f"{MANIFESTS}/{number:09d}.json"


def _number_of(name: str) -> int | None:
    stem = name.removeprefix(f"{MANIFESTS}/").removesuffix(".json")
    return int(stem) if stem.isascii() and stem.isdigit() and manifest_name(int(stem)) == name else None


def _clean(item: Mapping[str, Any]) -> dict[str, Any]:
    unknown = item.keys() - GIVEN
    if unknown or item[OUTCOME] not in (DONE, FAILED, DELETED):
        raise ValueError(f"no item of the log: {dict(item)} (unknown: {sorted(unknown)})")
    row = {MODEL_ID: "", STAMP: "", **{key: value for key, value in item.items() if value is not None}}
    # A message may quote a name with bytes that are no UTF-8: Arrow would refuse its lone surrogates.
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in row.items()}
