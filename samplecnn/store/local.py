"""A store in a local folder.

A file is written beside the others under a hidden name, flushed to disk, and renamed or linked into place: whoever
reads sees all of it or nothing. os.link is what makes `create` fail if the name exists. Changes under a name hold a
lock on one hidden file, so that a condition and the write it guards are one step for every process of this machine.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from samplecnn.errors import LostRace, RecordingError, UserError
from samplecnn.store.base import Blob, Entry, changed, is_name, room

log = logging.getLogger(__name__)

HIDDEN = ".samplecnn"  # folder in the root for temporary files and the lock; never listed
LEFTOVER_S = 24 * 3600.0  # a temporary file not written to for so long belonged to a killed run
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # gone since its folder was read, or a link to nowhere
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}  # exFAT and some network file systems


@dataclass(frozen=True)
class LocalStore:
    """place: as the user wrote it, for messages; root: absolute, since Ray's workers run in another folder."""

    place: str
    root: str

    def exists(self) -> bool:
        return os.path.isdir(self.root)

    def url(self, name: str = "") -> str:
        return os.path.join(self.place, name) if name else self.place

    def inside(self, place: str) -> str | None:
        if place.startswith("gs://"):
            return None
        root, other = os.path.realpath(self.root), os.path.realpath(os.path.expanduser(place))
        return os.path.relpath(other, root) + "/" if other != root and _within(other, root) else None

    def list(self, prefix: str = "", *, folders: bool = True) -> Iterator[Entry]:
        outside = 0
        for name, is_link in self._walk(prefix.rpartition("/")[0], folders):
            if not name.startswith(prefix):
                continue
            path = os.path.join(self.root, name)
            try:
                info = os.stat(path)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    continue
                # Not skipped: it would look deleted. Whoever opens it is told what is wrong.
                yield Entry(name, 0, "", "")
                continue
            if is_link and stat.S_ISDIR(info.st_mode):
                outside += 1
            if not stat.S_ISREG(info.st_mode):
                continue
            if is_link and not _within(os.path.realpath(path), os.path.realpath(self.root)):
                outside += 1
                continue
            yield Entry(name, info.st_size, "", _stamp(info), info.st_mtime)
        if outside:
            log.warning("%s: %d links lead to folders, or out of this one, and are left alone", self.place, outside)

    def _walk(self, folder: str, folders: bool) -> Iterator[tuple[str, bool]]:
        """(name, is it a link) of all that is no folder, by name in byte order; one folder at a time in memory."""
        try:
            with os.scandir(os.path.join(self.root, folder)) as found:
                # "/" sorts a folder where its files belong: "a.wav" stands before "a/1.wav".
                children = sorted(
                    (
                        os.fsencode(child.name) + (b"/" if child.is_dir(follow_symlinks=False) else b""),
                        child.is_symlink(),
                    )
                    for child in found
                    if child.name != HIDDEN
                )
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise UserError(f"{self.url(folder)}: is a file, and a folder is wanted: check the path") from None
        except PermissionError:  # not skipped: what lies in it would look deleted
            raise UserError(f"{self.url(folder)}: this folder may not be read: change its permissions") from None
        for child, is_link in children:
            name = os.path.join(folder, os.fsdecode(child))
            if not name.endswith("/"):
                yield name, is_link
            elif folders:
                yield from self._walk(name[:-1], folders)

    def version_of(self, name: str) -> str:
        with open(self._path(name), "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def read(self, name: str) -> Blob:
        path = self._path(name)
        try:
            mode = os.stat(path).st_mode
        except PermissionError:
            raise self._unreadable(name) from None
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        # A link may lead to a device, which has no end. A pipe may be what a shell makes of <(command).
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISDIR(mode)):  # open refuses a folder
            raise UserError(f"{self.url(name)}: is no file: check the path")
        try:
            with open(path, "rb") as file:
                data = file.read()
        except PermissionError:
            raise self._unreadable(name) from None
        return Blob(data, _hash(data))

    def _unreadable(self, name: str) -> UserError:
        return UserError(f"{self.url(name)}: may not be read: change its permissions")

    def create(self, name: str, data: bytes, token: str = "") -> str:
        target = self._path(name)
        with self._written(data) as temporary, self._locked():
            _make_folders(os.path.dirname(target), self.root)
            try:
                os.link(temporary, target)
            except FileExistsError:
                # NFS may lose the reply of a link that was made, and then says that the name exists.
                if not os.path.samefile(temporary, target):
                    raise LostRace(self.url(name)) from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if os.path.lexists(target):
                    raise LostRace(self.url(name)) from None
                os.rename(temporary, target)
            _sync(os.path.dirname(target))
        return _hash(data)

    def replace(self, name: str, data: bytes, expected_version: str) -> str:
        with self._written(data) as temporary, self._locked():
            self._require(name, expected_version)
            os.replace(temporary, self._path(name))
            _sync(os.path.dirname(self._path(name)))
        return _hash(data)

    def put(self, name: str, data: bytes) -> None:
        with self.open_output(name) as file:
            file.write(data)

    @contextlib.contextmanager
    def open_output(self, name: str) -> Iterator[IO[bytes]]:
        target = self._path(name)
        with self._temporary() as temporary:
            with self._open_hidden(temporary, "xb") as file:
                yield file
            _sync(temporary)
            with self._locked():
                _make_folders(os.path.dirname(target), self.root)
                os.replace(temporary, target)
                _sync(os.path.dirname(target))

    def delete(self, name: str, expected_version: str | None = None) -> None:
        if not os.path.lexists(self._path(name)):
            return
        with self._locked(), contextlib.suppress(FileNotFoundError):
            if expected_version is not None and os.path.lexists(self._path(name)):
                self._require(name, expected_version)
            os.unlink(self._path(name))
            _sync(os.path.dirname(self._path(name)))

    def move(self, source: str, target: str) -> None:
        old, new = self._path(source), self._path(target)
        with self._locked():
            if os.path.lexists(new) and not os.path.lexists(old):
                return
            _sync(old)  # pyarrow wrote it, and does not flush to disk
            _make_folders(os.path.dirname(new), self.root)
            os.replace(old, new)
            _sync(os.path.dirname(new))
            _sync(os.path.dirname(old))

    @contextlib.contextmanager
    def fetch(self, name: str, version: str, stamp: str) -> Iterator[str]:
        path = self._path(name)
        if _stamp_of(path) != stamp:
            raise changed()
        if not os.access(path, os.R_OK):
            raise RecordingError("read", "permission denied", False)
        try:
            yield path
        except RecordingError:
            if _stamp_of(path) != stamp:
                raise changed() from None
            raise
        if _stamp_of(path) != stamp:
            raise changed()

    def filesystem(self) -> tuple[Any, str]:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.root

    def _path(self, name: str) -> str:
        # Names also come out of manifests and shards: none may lead out of the root.
        if not is_name(name) or HIDDEN in name.split("/"):
            raise ValueError(f"{name!r} is no name in {self.place}")
        return os.path.join(self.root, name)

    def _require(self, name: str, version: str) -> None:
        try:
            found = self.version_of(name)
        except FileNotFoundError:
            found = ""
        if found != version:
            raise LostRace(self.url(name))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[str]:
        folder = self._hidden()
        for leftover in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if leftover.name.startswith("tmp-") and time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                    os.unlink(leftover.path)
        path = os.path.join(folder, f"tmp-{secrets.token_hex(8)}")
        try:
            with room(f"{self.place}: the disk is full: make room and run the same command again"):
                yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[str]:
        with self._temporary() as path:
            with self._open_hidden(path, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._open_hidden(os.path.join(self._hidden(), "lock"), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed, and by the kernel if we are killed
            yield

    def _open_hidden(self, path: str, mode: str) -> IO[bytes]:
        try:
            return open(path, mode)
        except PermissionError:
            raise UserError(
                f"{self.place}: another user has worked there, and {HIDDEN} may not be written to: give it to you both"
            ) from None

    def _hidden(self) -> str:
        path = os.path.join(self.root, HIDDEN)
        try:
            os.makedirs(path, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{self.place}: cannot be written to ({error.strerror}): choose another folder") from None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise UserError(f"{self.place}: lies on a read-only disk: choose another folder") from None
        return path


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _stamp(info: os.stat_result) -> str:
    return f"{info.st_size}-{info.st_mtime_ns}"


def _stamp_of(path: str) -> str:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return ""


def _within(path: str, root: str) -> bool:
    return os.path.commonpath([path, root]) == root


def _sync(path: str) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(path: str, root: str) -> None:
    """Make a folder under the root, each new name flushed to disk in the folder above it."""
    if os.path.isdir(path) or path == root:
        return
    _make_folders(os.path.dirname(path), root)
    os.makedirs(path, exist_ok=True)
    _sync(os.path.dirname(path))
