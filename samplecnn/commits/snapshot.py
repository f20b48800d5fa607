"""Snapshots: the folded log as one Parquet file, so that a reader need not read every manifest.

A snapshot saves requests and decides nothing: the manifests stay, and a reader that does not like a snapshot does
without. Its name holds a hash of its bytes, so that half a file or a changed one is known for what it is, and it
carries the token of the manifest that it ends with, so that it cannot outlive a log that somebody began anew.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from samplecnn.commits.state import AT, CORRECTIONS_SCHEMA, ITEMS_SCHEMA, LogState
from samplecnn.contract import MANIFESTS
from samplecnn.erased import Erased, erased_from_json
from samplecnn.tables import parquet_bytes, read_parquet

FORMAT = 2  # of a snapshot and of what folding means; another one is passed over
_KEY = b"samplecnn.log"  # in the Parquet metadata: JSON, all of the log but its items
_NAME = re.compile(MANIFESTS + r"/(\d{9,})-([0-9a-f]{32})\.snapshot\.parquet")


@dataclass(frozen=True)
class Snapshot:
    """The log up to a manifest, and that manifest's token."""

    state: LogState
    token: str


def number_of(name: str) -> int | None:
    """The manifest that a snapshot of this name ends with; None for a name of anything else."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def written(state: LogState, token: str) -> tuple[str, bytes]:
    """(name, bytes) of the snapshot of this log. token: that of its last manifest."""
    told = {
        "format": FORMAT,
        "last": state.last,
        "token": token,
        "settings": state.settings,
        "parts": dict(state.parts),
        **({"erased": state.erased.to_json()} if state.erased.hashes else {}),
        "corrections": [{**row, AT: row[AT].isoformat()} for row in state.corrections.to_pylist()],
    }
    data = parquet_bytes(state.items.replace_schema_metadata({_KEY: json.dumps(told)}))
    return f"{MANIFESTS}/{state.last:09d}-{_digest(data)}.snapshot.parquet", data


def read(name: str, data: bytes) -> Snapshot | None:
    """The snapshot in a file; None if it is not all there, or of another version of samplecnn."""
    found = _NAME.fullmatch(name)
    if not found or found[2] != _digest(data):
        return None
    items = read_parquet(data)  # these are the bytes that we wrote: nothing else can be wrong with them
    told = json.loads((items.schema.metadata or {}).get(_KEY, b"{}"))
    if told.get("format") != FORMAT or not items.schema.equals(ITEMS_SCHEMA):
        return None
    rows = [{**row, AT: datetime.fromisoformat(row[AT])} for row in told["corrections"]]
    corrections = pa.Table.from_pylist(rows, schema=CORRECTIONS_SCHEMA)
    items = items.replace_schema_metadata(None)
    erased = erased_from_json(told["erased"]) if "erased" in told else Erased()
    return Snapshot(LogState(told["last"], told["settings"], items, told["parts"], corrections, erased), told["token"])


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
