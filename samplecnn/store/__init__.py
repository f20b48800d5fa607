"""Where a job reads and writes: a local folder or gs://bucket/prefix, behind one small interface.

Notable: conditional writes (create if absent, replace if unchanged) mean the same on both, so that the commit log needs
no other lock; a reader never sees half a file. Bulk bytes go through pyarrow.fs (`Store.filesystem`). Google's client
is imported only once a gs:// place is opened: a local run does not pay for it.
"""

import os
import re

from samplecnn.errors import UserError
from samplecnn.store.base import Blob, Entry, Store, is_name
from samplecnn.store.local import LocalStore

__all__ = ["Blob", "Entry", "LocalStore", "Store", "is_name", "open_store", "read_file", "store_of_file"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_store(place: str) -> Store:
    """The store at a local folder, which need not exist yet, or at gs://bucket/prefix.

    Raises UserError for an empty place, another scheme, a misspelt gs:// and a file where a folder is meant.
    """
    if not place.strip():
        raise UserError("an empty place: give a folder or gs://bucket/prefix")
    if place.startswith("gs://"):
        bucket, _, prefix = place.removeprefix("gs://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise UserError(f"{place}: {bucket!r} is no bucket name: write gs://bucket/prefix")
        from samplecnn.store.gcs import GcsStore  # here, so that local runs do not wait for Google's client

        return GcsStore(bucket, prefix.strip("/"), os.environ.get("STORAGE_EMULATOR_HOST", ""))
    if re.match(r"gs:|[A-Za-z][A-Za-z0-9+.-]+://", place):
        raise UserError(f"{place}: not a place samplecnn can use: write a local folder or gs://bucket/prefix")
    root = os.path.abspath(os.path.expanduser(place))
    if os.path.exists(root) and not os.path.isdir(root):
        raise UserError(f"{place}: is a file: give the folder")
    return LocalStore(place, root)


def store_of_file(place: str) -> tuple[Store, str]:
    """The store of the folder that a file lies in, and the file's name there."""
    folder, _, name = place.rpartition("/")
    return open_store(folder or ("/" if place.startswith("/") else ".")), name


def read_file(place: str, flag: str) -> bytes:
    """One file, local or gs://. flag: that named it. Raises UserError where it is missing."""
    store, name = store_of_file(place)
    try:
        if name in ("", ".", ".."):
            raise IsADirectoryError
        return store.read(name).data
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{flag} {place}: no such file") from None
