"""No secret that a job is given stands in anything that it writes: its output, its results, Ray's logs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from samplecnn.store import Store
from tests.fixtures import HANGS_S
from tests.fixtures.audio import noise, write_audio
from tests.fixtures.gcs import Gate, gcs_store
from tests.fixtures.jobs import ROOT
from tests.fixtures.models import publish

KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC-not-a-key"
TOKEN = "5e1f-ray-token-of-this-test-" + "0" * 40
SECRET = "hunter2-in-the-environment"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A person's, with a key file, Ray's token and a password in it; Ray keeps its session beside."""
    key_file = tmp_path / "key.json"
    key_file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "school",
                "private_key_id": "0123abcd",
                "private_key": f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n",
                "client_email": "night@school.iam.gserviceaccount.com",
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )
    )
    given = {"GOOGLE_APPLICATION_CREDENTIALS": str(key_file), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return {**os.environ, **given, "DATABASE_PASSWORD": SECRET, "NO_GCE_CHECK": "true"}


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Short: Ray's sockets lie in it, and their paths may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def run(environment: dict[str, str], job: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *map(str, args), "--traceback"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANGS_S, check=False)


def told_in(folder: Path) -> list[str]:
    """The files in a folder that hold a secret."""
    secrets = [secret.encode() for secret in (KEY, TOKEN, SECRET)]
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "key.json"]
    assert files
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.ray
def test_no_secret_stands_in_what_a_night_writes(
    gate: Gate, bucket: str, environment: dict[str, str], tmp_path: Path, ray_folder: Path
) -> None:
    store: Store = gcs_store(gate, bucket, prefix="")
    take = write_audio(tmp_path / "take.wav", noise(4.0, 8000), 8000)
    store.put("uploads/take.wav", Path(take).read_bytes())
    store.put("uploads/broken.wav", b"no sound")
    model = publish(tmp_path / "model")
    environment |= {"STORAGE_EMULATOR_HOST": gate.address, "RAY_TMPDIR": str(ray_folder)}

    ended = run(
        environment, "grade", "--recordings", f"gs://{bucket}/uploads", "--model", model, "--grades",
        f"gs://{bucket}/grades", "--workers", 1,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    for secret in (KEY, TOKEN, SECRET):
        assert secret not in ended.stdout + ended.stderr
        assert not [entry.name for entry in store.list() if secret.encode() in store.read(entry.name).data]
    assert told_in(ray_folder) == []


def test_a_key_file_that_is_none_is_refused_without_being_told(environment: dict[str, str], tmp_path: Path) -> None:
    ended = run(environment, "prepare", "--recordings", "gs://school/uploads", "--segments", tmp_path / "segments")
    assert ended.returncode in (1, 2)
    assert KEY not in ended.stdout + ended.stderr
    assert ended.stderr.rstrip().splitlines()[-1].startswith("error: ")
