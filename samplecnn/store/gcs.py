"""A store in a bucket of Google Cloud Storage.

Every condition is one on the object's generation, which the server checks. After a lost reply the client's own retry
is refused as if another writer had been first: a token in the object's metadata tells the two apart. Credentials are
Application Default Credentials, the endpoint Google's or that of STORAGE_EMULATOR_HOST.
"""

import base64
import contextlib
import errno
import mimetypes
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from samplecnn.errors import JobError, LostRace, RecordingError, UserError, one_line
from samplecnn.store.base import Blob, Entry, changed, room

PAGE = 1000  # objects a page of a listing, the most that Google gives
TOKEN = "samplecnn-token"  # in an object's metadata: which call wrote it

_UNANSWERED = (
    api.RetryError,
    api.ServerError,
    api.TooManyRequests,
    auth.TransportError,
    requests.RequestException,
    DataCorruption,
    ConnectionError,
)
_clients = threading.local()  # a client a thread: its HTTP session is not made to be shared


@dataclass(frozen=True)
class GcsStore:
    """emulator: address of a test server, or ""; carried along so that Ray's workers need no environment.

    retry_s: a storage that does not answer for so long is given up; request_s: so long for one answer.
    """

    bucket: str
    prefix: str
    emulator: str = ""
    retry_s: float = 120.0
    request_s: float = 60.0

    @property
    def root(self) -> str:
        return self.url()

    def exists(self) -> bool:
        return next(self.list(), None) is not None

    def url(self, name: str = "") -> str:
        return "/".join(["gs://" + self.bucket, *filter(None, (self.prefix, name))])

    def inside(self, place: str) -> str | None:
        root, other = self.url() + "/", place.rstrip("/") + "/"
        return other.removeprefix(root) if other.startswith(root) and other != root else None

    def list(self, prefix: str = "", *, folders: bool = True) -> Iterator[Entry]:
        start = self._full("")
        with self._plainly("", "bucket"):
            blobs = self._client().list_blobs(
                self.bucket,
                prefix=start + prefix,
                delimiter=None if folders else "/",
                page_size=PAGE,
                fields="items(name,generation,size,updated,md5Hash),nextPageToken",
                **self._limits(),
            )
            for blob in blobs:
                if not blob.name.endswith("/"):  # a marker of an empty folder, made by some tools
                    version = str(blob.generation)
                    md5 = base64.b64decode(blob.md5_hash or "").hex()  # none where parts were composed
                    yield Entry(
                        blob.name.removeprefix(start), blob.size, version, version, blob.updated.timestamp(), md5
                    )

    def version_of(self, name: str) -> str:
        with self._plainly(name, "object"):
            blob = self._blob(name)
            blob.reload(**self._limits())
            return str(blob.generation)

    def read(self, name: str) -> Blob:
        with self._plainly(name, "object"):
            blob = self._blob(name)
            data = blob.download_as_bytes(**self._limits())
            return Blob(data, str(blob.generation))  # that of the bytes: it came with them

    def create(self, name: str, data: bytes, token: str = "") -> str:
        return self._upload_if(name, data, 0, token or secrets.token_hex(8))

    def replace(self, name: str, data: bytes, expected_version: str) -> str:
        return self._upload_if(name, data, int(expected_version), secrets.token_hex(8))

    def _upload_if(self, name: str, data: bytes, generation: int, token: str) -> str:
        with self._plainly(name, "bucket"):
            blob = self._blob(name)
            blob.metadata = {TOKEN: token}
            try:
                blob.upload_from_string(data, if_generation_match=generation, **self._limits())
                return str(blob.generation)
            except (api.PreconditionFailed, api.NotFound):
                # Refused; but perhaps because our own first try went through and its reply was lost.
                found = self._client().bucket(self.bucket).get_blob(self._full(name), **self._limits())
                if found is None and not self._bucket_exists():
                    raise
                if found is None or (found.metadata or {}).get(TOKEN) != token:
                    raise LostRace(self.url(name)) from None
                return str(found.generation)

    def _bucket_exists(self) -> bool:
        try:
            next(self.list(), None)
        except UserError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        with self._plainly(name, "bucket"):
            # As what it is: a browser shows report.html, and does not offer it as a text to save.
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            self._blob(name).upload_from_string(data, content_type=kind, **self._limits())

    @contextlib.contextmanager
    def open_output(self, name: str) -> Iterator[IO[bytes]]:
        # By way of the local disk: a stream that an error cuts off would be closed, and so published, half written.
        with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder, _room(folder):
            path = os.path.join(folder, "output")
            with open(path, "xb") as file:
                yield file
            with self._plainly(name, "bucket"):
                self._blob(name).upload_from_filename(path, **self._limits())

    def delete(self, name: str, expected_version: str | None = None) -> None:
        condition = None if expected_version is None else int(expected_version)
        try:
            with self._plainly(name, "object"):
                self._blob(name).delete(if_generation_match=condition, **self._limits())
        except FileNotFoundError:
            pass
        except api.PreconditionFailed:
            with self._plainly(name, "object"):
                found = self._client().bucket(self.bucket).get_blob(self._full(name), **self._limits())
            if found is not None:
                raise LostRace(self.url(name)) from None

    def move(self, source: str, target: str) -> None:
        old, new = self._blob(source), self._blob(target)
        with self._plainly(source, "object"):
            token = None
            try:
                while True:
                    token, _, _ = new.rewrite(old, token=token, **self._limits())
                    if token is None:
                        break
            except api.NotFound:  # moved already, or never there
                new.reload(**self._limits())
                return
        self.delete(source)

    @contextlib.contextmanager
    def fetch(self, name: str, version: str, stamp: str) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
            path = os.path.join(folder, "recording")
            with _room(folder):
                try:
                    with self._plainly(name, "object"):
                        blob = self._client().bucket(self.bucket).blob(self._full(name), generation=int(version))
                        blob.download_to_filename(path, **self._limits())
                except FileNotFoundError:
                    raise changed() from None
                except (
                    UserError,
                    JobError,
                ) as error:  # perhaps this object's alone: it costs this recording, not the run
                    raise RecordingError("read", str(error), False) from None
            yield path

    def filesystem(self) -> tuple[Any, str]:
        from pyarrow.fs import GcsFileSystem

        limit = timedelta(seconds=self.retry_s)
        base = self._full("").rstrip("/")
        path = f"{self.bucket}/{base}" if base else self.bucket
        if not self.emulator:
            return GcsFileSystem(retry_time_limit=limit), path
        scheme, host = _emulator_address(self.emulator).split("://")
        return GcsFileSystem(anonymous=True, endpoint_override=host, scheme=scheme, retry_time_limit=limit), path

    def _full(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _blob(self, name: str) -> Any:
        return self._client().bucket(self.bucket).blob(self._full(name))

    def _limits(self) -> dict[str, Any]:
        return {"retry": DEFAULT_RETRY.with_timeout(self.retry_s), "timeout": self.request_s}

    def _client(self) -> Any:
        key = (os.getpid(), self.emulator)  # a forked child must not share its parent's connections
        if getattr(_clients, "key", None) != key:
            with self._plainly("", "bucket"):
                _clients.client = _new_client(self.emulator)
            _clients.key = key
        return _clients.client

    @contextlib.contextmanager
    def _plainly(self, name: str, missing: str) -> Iterator[None]:
        """Google's errors in the words of our callers. missing: what a 404 means here, the "bucket" or the "object"."""
        try:
            yield
        except api.NotFound:
            if missing == "object":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url(name)) from None
            raise UserError(f"gs://{self.bucket}: no such bucket, or this account may not see it") from None
        except (api.Forbidden, api.Unauthorized) as error:
            # Google's own sentence, out of the request's address and a reply in JSON or not.
            told = re.search(r': "?([^":]+ does not have storage\.\w+\.\w+ access)', error.message)
            reason = told[1] if told else one_line(error.message, 300)
            raise UserError(f"{self.url(name)}: access denied ({reason}): grant this account the permission") from None
        except (auth.DefaultCredentialsError, auth.RefreshError):
            raise UserError(
                f"{self.url()}: no Google Cloud credentials: run `gcloud auth application-default login`, "
                "or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
            ) from None
        except _UNANSWERED as error:
            reason = one_line(error)
            raise JobError(
                f"{self.url(name)}: the storage did not answer within {self.retry_s:.0f} s ({reason}): "
                "run the same command again"
            ) from None


def _emulator_address(emulator: str) -> str:
    return (emulator if "://" in emulator else f"http://{emulator}").rstrip("/")


def _new_client(emulator: str) -> Any:
    # For its traces, client 3.17 asks for each bucket's metadata from a thread of its own: a request and a permission
    # (storage.buckets.get) that no job needs.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    if not emulator:
        return storage.Client(project=None)  # no call of ours needs a project, and some credentials name none
    address = _emulator_address(emulator)
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return storage.Client(project=None, credentials=anonymous, client_options={"api_endpoint": address})


@contextlib.contextmanager
def _room(folder: str) -> Iterator[None]:
    with room(f"{folder}: the disk for temporary files is full: make room, or set TMPDIR to another"):
        yield
