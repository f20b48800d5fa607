"""What a model was trained on, without naming it: whoever has a recording's name or version can tell if it was one.

A hash of each name and of each version, salted with the fingerprint of the training, so that two models' files cannot
be compared entry by entry. It keeps nothing from somebody who guesses names and tries them: that is what it is for.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from samplecnn.contract import match_key
from samplecnn.errors import UserError
from samplecnn.untrusted import read_json

FORMAT = 1
DIGEST_BYTES = 12  # two of a million recordings are alike by chance once in 10^17 models


@dataclass(frozen=True)
class TrainedOn:
    """salt: of every hash; hashes: two a recording, in no order that tells which are of one."""

    salt: str
    hashes: frozenset[str]

    @classmethod
    def of(cls, recordings: Iterable[tuple[str, str]], salt: str) -> "TrainedOn":
        """recordings: name and version of each (contract.spell_name, Entry.version)."""
        return cls(salt, frozenset(digest for pair in recordings for digest in _digests(*pair, salt)))

    def holds(self, recording: str, version: str) -> bool:
        """Was the model trained on this recording, by this name in any version, or on this version by any name?"""
        return not self.hashes.isdisjoint(_digests(recording, version, self.salt))

    def to_json(self) -> bytes:
        """trained_on.json."""
        told = {"format": FORMAT, "salt": self.salt, "hashes": sorted(self.hashes)}
        return (json.dumps(told) + "\n").encode()


def trained_on_from_json(data: bytes, place: str) -> TrainedOn:
    """What to_json wrote. Raises UserError, naming the place, for anything else."""
    try:
        told = read_json(data)
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}")
        return TrainedOn(str(told["salt"]), frozenset(map(str, told["hashes"])))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place}: damaged, or of another version of samplecnn ({error!r}): train again") from None


def _digests(recording: str, version: str, salt: str) -> tuple[str, str]:
    texts = (f"name\0{match_key(recording)}", f"version\0{version}")
    key = hashlib.blake2b(salt.encode(), digest_size=32).digest()
    one, other = (hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES, key=key).hexdigest() for text in texts)
    return one, other
