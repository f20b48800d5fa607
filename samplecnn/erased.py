"""Tombstones: which recordings were erased, without their names.

A keyed hash of each name. The key lies beside the hashes, since the night must know an upload for what it is: whoever
guesses a name can test the guess, and nobody can list the names.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from samplecnn.contract import match_key

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Erased:
    """key: of every hash of one folder, "" while nothing was erased there."""

    key: str = ""
    hashes: frozenset[str] = frozenset()

    def holds(self, recording: str) -> bool:
        """Was the recording of this name erased? In either spelling of its accents."""
        return bool(self.hashes) and self._digest(recording) in self.hashes

    def among(self, recordings: Iterable[str]) -> list[str]:
        """Those of these names that were erased."""
        return [name for name in recordings if self.holds(name)] if self.hashes else []

    def with_names(self, recordings: Iterable[str]) -> "Erased":
        """These too."""
        keyed = Erased(self.key or secrets.token_hex(16))
        return Erased(keyed.key, self.hashes | {keyed._digest(name) for name in recordings})

    def to_json(self) -> dict[str, Any]:
        """As a manifest holds it."""
        return {"key": self.key, "hashes": sorted(self.hashes)}

    def _digest(self, recording: str) -> str:
        name = match_key(recording).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, digest_size=DIGEST_BYTES, key=bytes.fromhex(self.key)).hexdigest()


def erased_from_json(told: Mapping[str, Any]) -> Erased:
    """What to_json wrote."""
    return Erased(str(told["key"]), frozenset(map(str, told["hashes"])))
