"""Storage that fails: what a person sees, how the job ends, what a reader finds, and what the next run makes good."""

import csv
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from samplecnn.architecture import NetworkSettings
from samplecnn.contract import ERROR, FAILURES_CSV, LATEST_PARQUET, MESSAGE, RECORDING
from samplecnn.flags import run
from samplecnn.labels import LabelSettings
from samplecnn.pipelines import grade as grading
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.store import Store, open_store
from tests.fixtures import HANGS_S
from tests.fixtures.audio import noise, write_audio
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate
from tests.fixtures.jobs import ROOT
from tests.jobs.test_grade import publish

SETTINGS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FOREVER = float("inf")

Ended = Callable[..., tuple[int, str]]


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Ended:
    """Calls a job as its file in jobs/ does: (exit code, what it says on stderr)."""

    def end(job: Callable[[], object]) -> tuple[int, str]:
        def main() -> int:
            outcome = job()
            assert isinstance(outcome, grading.Outcome)
            return outcome.exit_code(strict=False)

        capsys.readouterr()
        return run(main), capsys.readouterr().err

    return end


# --- places that cannot be used --------------------------------------------------------------------------------------

WRONG = "gs://no-such-bucket/school"
NO_BUCKET = "error: gs://no-such-bucket: no such bucket, or this account may not see it\n"
NO_MODEL = (
    f"error: --model {WRONG}: no such bucket, or no model.json there: check the path, or train a model into it first\n"
)
JOBS: dict[str, tuple[Callable[[str], object], str]] = {
    "prepare, recordings": (lambda here: prepare(WRONG, f"{here}/segments", SETTINGS), NO_BUCKET),
    "prepare, segments": (lambda here: prepare(f"{here}/recordings", WRONG, SETTINGS), NO_BUCKET),
    "train, segments": (
        lambda here: train(
            WRONG, f"{here}/labels.csv", f"{here}/new", LabelSettings(), NetworkSettings(), FitSettings(), seed=0
        ),
        NO_BUCKET,
    ),
    "grade, recordings": (lambda here: grading.grade(WRONG, f"{here}/model", f"{here}/grades"), NO_BUCKET),
    "grade, model": (lambda here: grading.grade(f"{here}/recordings", WRONG, f"{here}/grades"), NO_MODEL),
    "grade, grades": (lambda here: grading.grade(f"{here}/recordings", f"{here}/model", WRONG), NO_BUCKET),
}


@pytest.mark.parametrize("job", JOBS)
def test_a_wrong_bucket_is_one_line_and_nothing_is_written(
    job: str, gate: Gate, ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    (tmp_path / "recordings").mkdir()
    write_audio(tmp_path / "recordings" / "take.wav", noise(2.0, 8000), 8000)
    (tmp_path / "labels.csv").write_text("recording,grade\ntake.wav,A\n")
    publish(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    do, line = JOBS[job]
    assert ended(lambda: do(str(tmp_path))) == (2, line)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []


def test_missing_credentials_are_one_line(tmp_path: Path) -> None:
    # As on a machine outside Google Cloud that nobody has logged in on; without looking for Google's metadata server.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    command = [sys.executable, str(ROOT / "jobs" / "prepare.py"), "--recordings", "gs://school/uploads"]
    done = subprocess.run(
        [*command, "--segments", str(tmp_path / "segments")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    line = "error: gs://school/uploads: no Google Cloud credentials: run `gcloud auth application-default login`, "
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == line + "or set GOOGLE_APPLICATION_CREDENTIALS to a key file\n"
    assert list(tmp_path.iterdir()) == []


# --- a bucket that fails in part, or for a while ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stores that jobs open from now on give up after so many seconds, not after two minutes."""

    def set_patience(retry_s: float) -> None:
        monkeypatch.setattr(grading, "open_store", lambda place: replace(open_store(place), retry_s=retry_s))

    return set_patience


@pytest.fixture
def school(gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A bucket with six recordings under uploads/."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    store = open_store(f"gs://{bucket}")
    for number in range(6):
        path = write_audio(tmp_path / f"{number}.wav", noise(2.0, 8000, seed=number), 8000)
        store.put(f"uploads/{number}.wav", path.read_bytes())
    gate.clear()
    return store


def night(school: Store, model: str) -> grading.Outcome:
    return grading.grade(school.url("uploads"), model, school.url("grades"), new_only=True, workers=1)


def latest(school: Store) -> list[str]:
    filesystem, base = school.filesystem()
    rows = pq.read_table(f"{base}/grades/{LATEST_PARQUET}", filesystem=filesystem)
    return [str(name) for name in rows[RECORDING].to_pylist()]


def failures(school: Store) -> dict[str, tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(school.read(f"grades/{FAILURES_CSV}").data.decode("utf-8-sig")))
    return {row[RECORDING]: (row[ERROR], row[MESSAGE]) for row in rows}


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_objects_that_cannot_be_read_are_failures_that_the_next_night_tries_again(
    gate: Gate, school: Store, model: str, patience: Callable[[float], None], ended: Ended
) -> None:
    patience(1.0)
    gate.faults(
        Fault("403", match="uploads/0.wav", times=FOREVER),
        Fault("503", match="uploads/1.wav", times=FOREVER),
        Fault("404", match="uploads/2.wav", times=FOREVER),  # as if deleted since it was listed
    )
    code, _ = ended(partial(night, school, model))
    assert code == 0
    assert latest(school) == ["3.wav", "4.wav", "5.wav"]
    told = failures(school)
    assert {name: error for name, (error, _) in told.items()} == dict.fromkeys(["0.wav", "1.wav", "2.wav"], "transient")
    assert "access denied" in told["0.wav"][1]
    assert "did not answer within 1 s" in told["1.wav"][1]
    assert told["2.wav"][1] == "changed while being read: left for the next run"

    gate.faults()
    school.delete("uploads/2.wav")
    again = night(school, model)
    assert (again.done, again.kept, again.failed) == (2, 3, 0)
    assert latest(school) == ["0.wav", "1.wav", "3.wav", "4.wav", "5.wav"]
    assert failures(school) == {}


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
def test_a_bucket_that_goes_away_ends_the_impatient_and_is_waited_for_by_the_patient(
    gate: Gate, school: Store, model: str, patience: Callable[[float], None], ended: Ended
) -> None:
    away = Fault("503", times=FOREVER, skip=6)  # the log, the listing and one recording get through

    patience(1.0)
    gate.faults(away)
    code, said = ended(partial(night, school, model))
    assert code == 1
    assert said.count("\n") == 1
    assert "the storage did not answer within 1 s" in said
    assert said.endswith("run the same command again\n")
    assert gate.fired()
    gate.faults()
    assert list(school.list("grades/manifests/")) == []
    assert list(school.list("grades/latest")) == []

    patience(60.0)
    gate.clear()
    gate.faults(away)
    back = threading.Thread(target=come_back, args=(gate, 3.0))
    back.start()
    outcome = night(school, model)
    back.join()
    assert any("503 GET" in fault and "uploads/" in fault for fault in gate.fired())
    assert (outcome.done, outcome.failed) == (6, 0)
    assert latest(school) == [f"{number}.wav" for number in range(6)]


def come_back(gate: Gate, after_s: float) -> None:
    """End the faults so long after the first of them."""
    deadline = time.monotonic() + HANGS_S
    while not gate.fired() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(after_s)
    gate.faults()
