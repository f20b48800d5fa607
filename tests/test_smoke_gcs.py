"""The smoke test for real buckets, against the test server: what it says, how it ends, and what it leaves behind."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest

from samplecnn.flags import run
from scripts import smoke_gcs
from tests.fixtures import HANGS_S
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate
from tests.fixtures.jobs import ROOT
from tests.fixtures.scripts import SCRIPTS, run_script

LISTED = re.findall(
    r"storage\.objects\.\w+",
    re.findall(r"^\| scripts/smoke_gcs.py \| place \| (.+) \|$", (ROOT / "docs" / "permissions.md").read_text(), re.M)[
        0
    ],
)


def left_in(gate: Gate, bucket: str) -> list[str]:
    """Every object of a bucket, the markers of folders included."""
    with urllib.request.urlopen(f"{gate.address}/storage/v1/b/{bucket}/o", timeout=HANGS_S) as response:
        return [item["name"] for item in json.loads(response.read()).get("items", [])]


@pytest.fixture
def smoke(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The script in this process: its exit code."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)

    def run_here(place: str) -> int:
        monkeypatch.setattr(sys, "argv", ["smoke_gcs.py", place])
        return run(smoke_gcs.main)

    return run_here


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
def test_it_says_what_it_verified_and_leaves_nothing(
    gate: Gate, bucket: str, smoke: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    gate.permit([(permission, f"{bucket}/school/smoke") for permission in LISTED])
    assert smoke(f"gs://{bucket}/school/smoke/") == 0
    told = capsys.readouterr().out
    assert told.count("ok  ") == len(smoke_gcs.CHECKS) + 4
    assert told.endswith("all of it holds\n")
    assert f"removed all that was written under gs://{bucket}/school/smoke/samplecnn-smoke-" in told
    gate.permit(None)
    assert left_in(gate, bucket) == []
    written = {request for request in gate.requests() if request.startswith("POST")}
    assert len(written) > 40
    here = re.compile(rf"/b/{bucket}/o(/|\?\S+ )school/smoke/samplecnn-smoke-")
    assert [request for request in written if not here.search(request)] == []


def test_a_bucket_that_keeps_old_versions_holds_too_and_is_told(
    gate: Gate,
    bucket: str,
    smoke: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(smoke_gcs, "whole_job", lambda place: None)  # the bucket makes no difference to it
    gate.make_bucket(f"{bucket}-versions", versioning=True)
    for name, told in ((bucket, "refused"), (f"{bucket}-versions", "still read as what it was: this bucket keeps")):
        assert smoke(f"gs://{name}/smoke") == 0
        said = capsys.readouterr().out
        assert said.count("ok  ") == len(smoke_gcs.CHECKS)
        assert f"ok  read: a version that was replaced is {told}" in said
        assert left_in(gate, name) == []


def test_a_promise_that_is_not_kept_is_named_and_nothing_stays(
    gate: Gate, bucket: str, smoke: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    gate.faults(Fault("403", match="store/deleted"))
    assert smoke(f"gs://{bucket}") == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "store/deleted: access denied" in told.err
    assert left_in(gate, bucket) == []


def test_what_cannot_be_removed_is_told(
    gate: Gate, bucket: str, smoke: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    gate.faults(Fault("403", method="DELETE", times=10**6))
    assert smoke(f"gs://{bucket}/x") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "could not be removed, do it by hand" in first
    assert "access denied" in second


def test_what_lay_there_stays(gate: Gate, bucket: str, smoke: Callable[[str], int]) -> None:
    store = smoke_gcs.open_store(f"gs://{bucket}")
    store.put("school/", b"")
    store.put("school/take.wav", b"x")
    gate.faults(Fault("403", match="store/data/a.parquet"))
    assert smoke(f"gs://{bucket}/school") == 2
    assert left_in(gate, bucket) == ["school/", "school/take.wav"]


def test_ctrl_c_leaves_nothing(gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    gate.faults(Fault("hold", match="store/deleted"))
    command = [sys.executable, str(SCRIPTS / "smoke_gcs.py"), f"gs://{bucket}/smoke"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + HANGS_S
        while not gate.fired():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert left_in(gate, bucket)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGS_S)
    gate.release("store/deleted")
    assert process.returncode == 130, err
    assert "removed all that was written" in out
    assert left_in(gate, bucket) == []


def test_a_wrong_bucket_is_one_line(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    for place, line in (
        ("gs://no-such-bucket/x", "error: gs://no-such-bucket: no such bucket, or this account may not see it\n"),
        ("/tmp/folder", "error: /tmp/folder: is no bucket: write gs://bucket/prefix\n"),
    ):
        ended = run_script("smoke_gcs", place)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", line)
