"""Nights on a real Ray head with a job server, in a bucket of the storage server."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from samplecnn.store import open_store
from tests.fixtures.gcs import Gate, running_gate
from tests.fixtures.head import Head, running_head
from tests.fixtures.jobs import ROOT, write_recordings
from tests.fixtures.models import publish

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class School:
    """A bucket with recordings and a model, a head, and the cluster's file."""

    head: Head
    gate: Gate
    place: str
    cluster: Path

    def start(self, night: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "scripts" / "nightly.py"), "--address", self.head.address]
        command += ["--cluster", str(self.cluster), "--night", night, *map(str, args)]
        environment = {**self.head.environment, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def run(self, night: str, *args: object) -> tuple[int, str, str]:
        process = self.start(night, *args)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def record(self, night: str) -> dict:
        return json.loads(open_store(self.place).read(f"nights/{night}.json").data)

    def upload(self, folder: Path, first: int, count: int) -> None:
        write_recordings(folder, count, first)
        store = open_store(f"{self.place}/recordings")
        for path in folder.iterdir():
            store.put(path.name, path.read_bytes())


@pytest.fixture(scope="module")
def school(tmp_path_factory) -> Iterator[School]:
    root = tmp_path_factory.mktemp("school")
    with running_gate() as gate:
        gate.make_bucket("school")
        before = os.environ.get("STORAGE_EMULATOR_HOST")
        os.environ["STORAGE_EMULATOR_HOST"] = gate.address
        try:
            place = "gs://school/piano"
            cluster = root / "cluster.yaml"
            text = (ROOT / "cluster.yaml").read_text(encoding="utf-8").replace("gs://my-bucket", place)
            cluster.write_text(text, encoding="utf-8")
            publish(f"{place}/model")
            with running_head({"STORAGE_EMULATOR_HOST": gate.address}) as head:
                found = School(head, gate, place, cluster)
                found.upload(root / "first", 0, 3)
                yield found
        finally:
            del os.environ["STORAGE_EMULATOR_HOST"]
            if before is not None:
                os.environ["STORAGE_EMULATOR_HOST"] = before


def test_two_starts_at_once_make_one_night(school):
    both = [school.start("2026-11-01", "--gpus=0", "--cpus=1") for _ in range(2)]
    told = [(*process.communicate(timeout=600), process.returncode) for process in both]
    assert [code for *_, code in told] == [0, 0], told
    assert sum("nothing was started" in out for out, *_ in told) == 1, told
    record = school.record("2026-11-01")
    assert record["state"] == "done"
    assert record["counts"] == {"done": 3, "failed": 0, "kept": 0, "failed_before": 0}
    assert record["workers"] == {"gpu": 0, "cpu": 1}
    assert [attempt["job"] for attempt in record["attempts"]] == ["night-2026-11-01-1"]
    assert record["duration_s"] > 0
    assert record["cost_usd"] > 0
    code, out, _ = school.run("2026-11-01")
    assert (code, out) == (0, "night 2026-11-01: done already: nothing was started\n")


def test_a_night_with_nothing_new_asks_for_no_machines(school, tmp_path):
    # 99 GPUs would be waited for, were there anything to grade.
    code, out, err = school.run("2026-11-02", "--gpus=99", "--minutes=60", f"--hook=cat > {tmp_path}/told")
    assert code == 0, err
    assert "3 kept" in out
    record = school.record("2026-11-02")
    assert record["counts"] == {"done": 0, "failed": 0, "kept": 3, "failed_before": 0}
    assert record["workers"] == {"gpu": 0, "cpu": 0}
    assert record["cost_usd"] == 0
    assert json.loads((tmp_path / "told").read_text(encoding="utf-8")) == record


def test_gpus_that_never_come_are_waited_for_a_while_and_then_cpus_grade(school, tmp_path):
    school.upload(tmp_path / "second", 3, 1)
    code, _, err = school.run("2026-11-03", "--gpus=1", "--minutes=0.1", "--cpus=1")
    assert code == 0, err
    record = school.record("2026-11-03")
    assert record["counts"]["done"] == 1
    assert record["remark"].startswith("no GPU: 1 GPU did not come in 0 minutes")


def test_what_google_answered_ends_the_waiting_and_stands_in_the_record(school, tmp_path):
    school.upload(tmp_path / "third", 4, 1)
    over = threading.Event()

    def autoscaler() -> None:
        while not over.wait(1.0):
            with (school.head.logs / "monitor.log").open("a", encoding="utf-8") as log:
                log.write("Exception: {'errors': [{'code': 'QUOTA_EXCEEDED', 'message': \"Quota 'GPUS_ALL_REGIONS' ")
                log.write('exceeded.  Limit: 0.0 globally."}]}\n')

    thread = threading.Thread(target=autoscaler)
    thread.start()
    try:
        code, _, err = school.run("2026-11-04", "--gpus=1", "--minutes=60", "--cpus=1")
    finally:
        over.set()
        thread.join()
    assert code == 0, err
    record = school.record("2026-11-04")
    assert record["counts"]["done"] == 1
    assert "no GPU: quota GPUS_ALL_REGIONS is used up (limit 0.0): ask for more" in record["remark"]


def test_a_failed_night_is_tried_twice_and_may_be_started_again(school, tmp_path):
    school.upload(tmp_path / "fourth", 5, 1)
    hook = f"--hook=cat > {tmp_path}/told; false"
    code, out, err = school.run("2026-11-05", "--gpus=0", "--cpus=99", "--minutes=0.05", hook)
    assert code == 1
    assert "no CPU: 99 CPU did not come" in out
    assert "the hook ended with 1" in err
    record = school.record("2026-11-05")
    assert record["state"] == "failed"
    assert [attempt["exit_code"] for attempt in record["attempts"]] == [1, 1]
    assert json.loads((tmp_path / "told").read_text(encoding="utf-8")) == record
    code, _, err = school.run("2026-11-05", "--gpus=0", "--cpus=1")
    assert code == 0, err
    record = school.record("2026-11-05")
    assert (record["state"], record["counts"]["done"]) == ("done", 1)
    assert [attempt["job"] for attempt in record["attempts"]] == [f"night-2026-11-05-{number}" for number in (1, 2, 3)]


def test_a_start_whose_watcher_was_killed_is_told_of_by_the_next_one(school):
    process = school.start("2026-11-06", "--gpus=0", "--cpus=1")
    assert process.stderr
    while "started" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 300
    while (out := school.run("2026-11-06")[1]).endswith("nothing was started\n"):
        assert "at work already" in out
        assert time.monotonic() < deadline
        time.sleep(1)
    record = school.record("2026-11-06")
    assert (record["state"], len(record["attempts"])) == ("done", 1)


def test_a_mistake_is_not_tried_twice(school, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("provider: {type: local, bucket: 'gs://school/violin'}", encoding="utf-8")
    code, out, _ = school.run("2026-11-07", "--cluster", cluster)
    assert code == 1
    assert out.count("\n") == 1
    assert "gs://school/violin/model" in out
    record = json.loads(open_store("gs://school/violin").read("nights/2026-11-07.json").data)
    assert [attempt["exit_code"] for attempt in record["attempts"]] == [2]


def test_an_attempt_that_takes_too_long_is_stopped(school):
    code, out, _ = school.run("2026-11-08", "--hours=0.0000001")
    assert code == 1
    assert [attempt["status"] for attempt in school.record("2026-11-08")["attempts"]] == ["STOPPED", "STOPPED"]
    assert "night-2026-11-08-2 stopped" in out


def test_without_the_token_nothing_is_started(school):
    head = school.head
    environment = {key: value for key, value in head.environment.items() if not key.startswith("RAY_AUTH")}
    other = School(Head(head.address, head.gcs, environment, head.folder), school.gate, school.place, school.cluster)
    code, _, err = other.run("2026-11-09")
    assert code == 1
    assert err.count("error: ") == 1
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{head.address}/api/jobs/", timeout=30)
    assert refused.value.code == 401
    refused.value.close()


def test_a_head_that_is_not_there_is_told_in_one_line(school, tmp_path):
    gone = Head("http://127.0.0.1:9", school.head.gcs, school.head.environment, school.head.folder)
    other = School(gone, school.gate, school.place, school.cluster)
    code, _, err = other.run("2026-11-10", f"--hook=cat > {tmp_path}/told")
    assert code == 1
    assert "http://127.0.0.1:9: no job server answers" in err
    assert json.loads((tmp_path / "told").read_text(encoding="utf-8"))["state"] == "failed"


def test_a_submitted_job_waits_for_machines_and_runs_on_them(school):
    command = [sys.executable, str(ROOT / "scripts" / "cluster.py"), "submit", "prepare", "--cluster", school.cluster]
    command += ["--address", school.head.address, "--cpus", "1", "--", "--recordings", f"{school.place}/recordings"]
    environment = {**school.head.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*map(str, command), "--segments", f"{school.place}/segments"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 workers with GPUs and 1 without are there" in done.stdout
    assert "segments in gs://school/piano/segments" in done.stdout
    assert list(open_store(f"{school.place}/segments").list("data/"))
