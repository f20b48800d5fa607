"""What a store is: the values it hands out and the methods that its callers use."""

import contextlib
import errno
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, Protocol

from samplecnn.errors import JobError, RecordingError


@dataclass(frozen=True)
class Entry:
    """A file of a listing: Entry("2026/take 1.wav", 1_323_044, "1763884800123456", "1763884800123456").

    name: relative to the place, "/" between folders, bytes that are no UTF-8 as surrogate escapes (PEP 383).
    version: the generation on GCS; "" locally, where it is a hash and costs a read (`Store.version_of`).
    stamp: changes whenever the file is written: size and mtime locally, the generation on GCS.
    updated_s: when it was written last, by the storage's clock, in seconds since 1970; infinite where nobody knows.
    md5: of the content, in hex, where the storage tells it for nothing; else "".
    """

    name: str
    size_bytes: int
    version: str
    stamp: str
    updated_s: float = math.inf
    md5: str = ""


@dataclass(frozen=True)
class Blob:
    """The bytes of a small file, and the version that they are."""

    data: bytes
    version: str


class Store(Protocol):
    """A place that holds files. Names are relative to it; stores can be pickled.

    A file is seen whole or not at all, and is durable once the call that wrote it returns. Methods raise
    FileNotFoundError for a name that is not there, UserError where access is denied or the bucket does not exist, and
    JobError where the storage does not answer.
    """

    @property
    def root(self) -> str:
        """What tells this place from every other one: the absolute path, or the gs:// address."""

    def exists(self) -> bool:
        """Is there such a folder, or any file under this prefix?"""

    def url(self, name: str = "") -> str:
        """How a person names this file: the place as it was given, and the name."""

    def inside(self, place: str) -> str | None:
        """The prefix of the names that belong to another place ("segments/"); None if it lies elsewhere or is this."""

    def list(self, prefix: str = "", *, folders: bool = True) -> Iterator[Entry]:
        """Every file whose name starts with prefix, by name in byte order, page by page; nothing for a missing place.

        folders: False leaves out what lies in folders beneath the prefix, at no cost.

        Left out: our own temporary files, what is no plain file, and links that lead out of the place.
        """

    def version_of(self, name: str) -> str:
        """The version of a file as it is now."""

    def read(self, name: str) -> Blob:
        """A small file whole."""

    def create(self, name: str, data: bytes, token: str = "") -> str:
        """Write a file that does not exist yet; returns its version. Raises LostRace if it does.

        A write of ours whose reply was lost on the way is recognised. token: recognises it over several calls too, on
        GCS, where a call may end in an error although it wrote.
        """

    def replace(self, name: str, data: bytes, expected_version: str) -> str:
        """Overwrite this version of a file; returns the new one. Raises LostRace if it is another by now, or gone."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whatever was there."""

    def open_output(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A binary file to write bulk bytes to; it appears under its name when the block ends without an error."""

    def delete(self, name: str, expected_version: str | None = None) -> None:
        """Remove a file; one that is gone already counts as removed. Raises LostRace if it is another version."""

    def move(self, source: str, target: str) -> None:
        """Rename within the place, over what is there; a move that was made already counts as made."""

    def fetch(self, name: str, version: str, stamp: str) -> AbstractContextManager[str]:
        """A local path that holds this version of a recording for as long as the block lasts.

        Raises RecordingError("read"), not permanent, if it is another version by now or changed within the block, is
        gone, or cannot be read; a block that fails with a RecordingError over a file that changed fails with this one.
        """

    def filesystem(self) -> tuple[Any, str]:
        """(pyarrow.fs.FileSystem, path of this place in it), for Parquet; both can be pickled."""


def is_name(name: str) -> bool:
    """Can this be the name of a file in a place? None leads out of it."""
    return set(name.split("/")).isdisjoint({"", ".", ".."})


def changed() -> RecordingError:
    """The fault of a recording that is not, or no longer, the version that was planned."""
    return RecordingError("read", "changed while being read: left for the next run", False)


@contextlib.contextmanager
def room(full: str) -> Iterator[None]:
    """Raises JobError where a disk is full. full: the line that says which, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise JobError(full) from None
