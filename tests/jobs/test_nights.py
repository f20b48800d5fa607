"""Nights of grading in which everything goes wrong at once; what must hold of the grades afterwards, and all the while.

python -m pytest tests/jobs/test_nights.py -s prints the counts.
"""

import csv
import io
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest

from samplecnn import model_folder
from samplecnn.commits import CommitLog
from samplecnn.pipelines import grade as grading
from samplecnn.recordings import Plan
from samplecnn.store.gcs import GcsStore
from tests.fixtures import HANGS_S
from tests.fixtures.audio import write_audio
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate
from tests.fixtures.jobs import RATE, ROOT, played
from tests.jobs.test_grade import publish

FOREVER = float("inf")
KINDS = ("503", "429", "lose_reply", "reset", "truncate", "stall")
LISTS = Fault("", method="GET", match="prefix=")
READS = Fault("", method="GET", match="/o/raw/")
PARTS = Fault("", method="POST", match=" grades/parts/")
MANIFESTS = Fault("", method="POST", match=" grades/manifests/")
LATEST_PARQUET = Fault("", method="POST", match=" grades/latest.parquet")
LATEST_CSV = Fault("", method="POST", match=" grades/latest.csv")
PLACES = {"lists": LISTS, "reads": READS, "parts": PARTS, "manifests": MANIFESTS}

# A job as a person runs it, but for these two: with fewer recordings a commit a small night has several, and who does
# not wait a minute for an answer is sooner done with a storage that gives none.
GRADE = """
import runpy, sys
import samplecnn.pipelines.grade as job, samplecnn.store.gcs as gcs
job.COMMIT_RECORDINGS = int(sys.argv[1])
gcs.GcsStore.__init__.__defaults__ = ("", 120.0, float(sys.argv[2]))
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# More logical CPUs than there are: four runs at once each have their workers.
CLUSTER = """
import ray, sys
from samplecnn.pipelines.runtime import start_ray
start_ray(num_cpus=8)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


class Bucket:
    """The bucket as its users see it: plain HTTP, none of the code that is tested."""

    def __init__(self, gate: Gate, name: str, folder: Path) -> None:
        self._address, self.name, self._folder = gate.address, name, folder
        self.seconds: dict[tuple[str, str], float] = {}  # how long the recording of each (name, generation) is

    def upload(self, name: str) -> None:
        """A new recording, or another one under an old name; no two are equally long."""
        number = len(self.seconds)
        seconds = 1.3 + number / 100
        data = write_audio(self._folder / name, played(number, number % 3, seconds), RATE).read_bytes()
        self.seconds[name, self.put(name, data)] = seconds

    def put(self, name: str, data: bytes) -> str:
        """Any bytes as a recording; returns their generation."""
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={quote(f'raw/{name}', safe='')}"
        return str(json.loads(self._ask("POST", path, data))["generation"])

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{self.name}/o/{quote(f'raw/{name}', safe='')}")

    def read(self, name: str) -> bytes | None:
        """An object whole; None if there is none."""
        try:
            return self._ask("GET", f"/storage/v1/b/{self.name}/o/{quote(name, safe='')}?alt=media")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            error.close()
            return None

    def generations(self, prefix: str) -> dict[str, str]:
        """Generation by name, less the prefix."""
        told = json.loads(self._ask("GET", f"/storage/v1/b/{self.name}/o?prefix={prefix}"))
        return {item["name"].removeprefix(prefix): item["generation"] for item in told.get("items", [])}

    def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(self._address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()


Key = tuple[str, str, str]  # recording, version, model


def key_of(row: dict[str, Any]) -> Key:
    return row["recording"], row["version"], row["model_id"]


class Reader:
    """Someone who reads the grades without our code: the manifests, the parts that they name, the views."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.manifests = 0
        self.done: Counter[Key] = Counter()  # how often manifests say of an item that it is graded
        self.rows: Counter[Key] = Counter()  # how many rows their parts have of it
        self.grades: dict[Key, dict[str, Any]] = {}
        self.parts: set[str] = set()
        self.seen = 0  # the manifest that the latest view was made from
        self.looks = 0
        self.wrong: list[str] = []  # what no reader may ever see

    def look(self) -> None:
        """Views first: of what stood in them then, the log must tell now."""
        latest, text = (self._bucket.read(f"grades/{name}") for name in ("latest.parquet", "latest.csv"))
        while data := self._bucket.read(f"grades/manifests/{self.manifests + 1:09d}.json"):
            self._read(json.loads(data))
        if latest is not None:
            table = pq.read_table(io.BytesIO(latest), page_checksum_verification=True)
            rows = [{**row, **self.grades.get(key_of(row), {})} == row for row in table.to_pylist()]
            self._require(all(rows), "latest.parquet")
            made_from = int(table.schema.metadata[b"samplecnn.manifest"])
            self._require(self.seen <= made_from <= self.manifests, "latest.parquet went back")
            self.seen = made_from
        if text is not None:
            rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True))
            whole = text.endswith(b"\n") and all(None not in row and None not in row.values() for row in rows)
            self._require(whole and all(key_of(row) in self.grades for row in rows), "latest.csv")
        self.looks += 1

    def _read(self, manifest: dict[str, Any]) -> None:
        self.manifests += 1
        said = [key_of(item) for item in manifest["items"] if item["outcome"] == "done"]
        self.done.update(said)
        found: list[Key] = []
        for part in manifest["parts"]:
            self.parts.add(part["path"])
            data = self._bucket.read(f"grades/{part['path']}")
            rows = pq.read_table(io.BytesIO(data), page_checksum_verification=True).to_pylist() if data else []
            self._require(len(rows) == part["rows"], part["path"])
            if "/recordings-" in part["path"]:
                found += [key_of(row) for row in rows]
                self.grades |= {key_of(row): row for row in rows}
            else:
                self._require({key_of(row) for row in rows} == set(said), part["path"])
        self.rows.update(found)
        self._require(sorted(found) == sorted(said), f"manifest {self.manifests}")

    def _require(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Looks again and again, on a thread of its own."""
        end = threading.Event()

        def look() -> None:
            try:
                while not end.wait(0.05):
                    self.look()
            except Exception as error:  # of a broken file
                self.wrong.append(repr(error))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


class Cluster:
    """A Ray of its own process, which jobs join as they would join the cluster in the cloud."""

    def __init__(self, gate: Gate, bucket: Bucket, folder: Path) -> None:
        self._bucket, self._folder = bucket, folder
        self.runs: list[subprocess.Popen[str]] = []
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        self._environment = {**os.environ, **token, **quiet, "STORAGE_EMULATOR_HOST": gate.address}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self.process.stdout
        self._environment["RAY_ADDRESS"] = self.process.stdout.readline().strip()

    def grade(self, commit: int = 5, request_s: float = 60.0) -> subprocess.Popen[str]:
        """A run of jobs/grade.py, started."""
        place = f"gs://{self._bucket.name}"
        command = [sys.executable, "-c", GRADE, str(commit), str(request_s), str(ROOT / "jobs" / "grade.py")]
        flags = ["--recordings", f"{place}/raw", "--model", f"{place}/model", "--grades", f"{place}/grades"]
        flags += ["--new-only", "--workers", "1"]
        with (self._folder / f"run {len(self.runs)}.log").open("w") as log:
            run = subprocess.Popen([*command, *flags], env=self._environment, stdout=log, stderr=log, text=True)
        self.runs.append(run)
        return run

    def told(self) -> str:
        """What all runs printed."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("run *.log")))

    def worker(self, name: str) -> int:
        """The process of the one actor with this in its name."""
        ids = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if name in title(pid)]
        (found,) = [pid for pid in ids if parent(parent(pid)) == self.process.pid]  # between them Ray's raylet
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for run in self.runs:
            run.kill()  # if the test failed: they have ended otherwise
            run.wait()
        with self.process:  # closes its stdin, at which it ends, and waits
            pass


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:  # ended meanwhile
        return ""


def parent(pid: int) -> int:
    try:
        return int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    except OSError:
        return 0


def until(moment: Callable[[], object], *runs: subprocess.Popen[str]) -> None:
    """Wait for a moment before which none of these runs may end."""
    deadline = time.monotonic() + HANGS_S
    while not moment():
        assert all(run.poll() is None for run in runs), "a run ended before the moment: see its log"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)


class Nights:
    """Uploads and runs, night by night."""

    def __init__(self, gate: Gate, bucket: Bucket, cluster: Cluster) -> None:
        self._gate, self._bucket, self._cluster = gate, bucket, cluster
        self.drivers_killed = self.workers_killed = 0

    def held(self, fault: Fault) -> list[str]:
        """The requests that were held by this fault, so far."""
        return [line for line in self._gate.fired() if line.startswith(f"hold {fault.method}") and fault.match in line]

    def driver_killed(self, moment: Fault, *faults: Fault) -> None:
        """A run whose driver is killed while such a request waits."""
        self._gate.faults(*faults, moment)
        before = len(self.held(moment))
        run = self._cluster.grade()
        until(lambda: len(self.held(moment)) > before, run)
        run.kill()
        run.wait()
        self._gate.release(moment.match)  # what the dead asked for is not done
        self.drivers_killed += 1

    def worker_killed(self, reader: Reader, *faults: Fault) -> None:
        """A run whose inference worker is killed with work in its hands; a recording is replaced while it is read."""
        read = hold(READS, skip=13)  # the fourth task's, of four recordings each
        self._gate.faults(*faults, read)
        held, manifests = len(self.held(read)), reader.manifests
        run = self._cluster.grade(commit=2, request_s=1.0)
        until(lambda: len(self.held(read)) > held and reader.manifests > manifests, run)
        self._bucket.upload(re.search(r"/o/raw/([^?]+)", self.held(read)[-1])[1])
        os.kill(self._cluster.worker("RecordingHearer"), signal.SIGKILL)
        self._gate.release(read.match)
        self.workers_killed += 1
        assert run.wait(HANGS_S) == 0

    def overlapping(self, count: int, change: Callable[[], None]) -> None:
        """Runs at once, in commits of different sizes; the later half lists after a change. All commit at one time."""
        lists, commits = hold(replace(LISTS, match="prefix=raw/"), skip=count // 2), hold(MANIFESTS)
        self._gate.faults(lists, commits)
        before = len(self.held(commits))
        runs = [self._cluster.grade(commit=2 + number) for number in range(count)]
        until(lambda: len(self.held(lists)) >= count - count // 2, *runs)  # one may have asked twice
        change()
        self._gate.release(lists.match)
        until(lambda: len(self.held(commits)) >= before + count, *runs)
        self._gate.release(commits.match)
        assert [run.wait(HANGS_S) for run in runs] == [0] * count

    def quiet(self) -> None:
        """A run in which nothing happens."""
        self._gate.faults()
        assert self._cluster.grade().wait(HANGS_S) == 0


def hold(fault: Fault, skip: int = 0) -> Fault:
    return replace(fault, action="hold", times=FOREVER, skip=skip)


def everywhere(kind: str, *places: Fault) -> list[Fault]:
    """This fault, once in each of these places."""
    return [replace(place, action=kind, stall_s=1.5) for place in places or PLACES.values()]


class School:
    """Recordings come, change and go, a little every day."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._names = (f"take {number:03d}.wav" for number in itertools.count())
        self._old: list[str] = []
        self._gone: list[str] = []

    def day(self, new: int) -> None:
        """New recordings, two changed ones, one deleted; the one that was deleted the day before is back."""
        changed, back = self._old[:2], self._gone[-1:]
        for name in self._old[2:3]:
            self._bucket.delete(name)
            self._gone.append(name)
        added = [next(self._names) for _ in range(new)]
        for name in [*changed, *back, *added]:
            self._bucket.upload(name)
        self._old = self._old[3:] + added


def the_nights(nights: Nights, school: School, reader: Reader) -> None:
    school.day(16)
    nights.driver_killed(hold(PARTS), *everywhere("503", LISTS, READS, PARTS))
    school.day(4)
    nights.driver_killed(hold(MANIFESTS), *everywhere("429"), *everywhere("503", MANIFESTS))
    school.day(4)
    nights.driver_killed(hold(MANIFESTS), *everywhere("lose_reply"))  # it is committed, and nobody was told
    school.day(4)
    nights.driver_killed(hold(LATEST_PARQUET), *everywhere("reset"))
    school.day(4)
    nights.driver_killed(hold(LATEST_CSV), *everywhere("truncate"))
    school.day(20)
    nights.worker_killed(reader, *everywhere("stall"))
    school.day(6)
    nights.overlapping(4, lambda: school.day(4))
    nights.quiet()


@pytest.mark.ray
@pytest.mark.slow
def test_whatever_happens_at_night_each_recording_is_graded_once(gate, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    publish(f"gs://{bucket}/model")
    users = Bucket(gate, bucket, tmp_path)
    reader = Reader(users)
    with Cluster(gate, users, tmp_path) as cluster, reader.looking():
        nights = Nights(gate, users, cluster)
        the_nights(nights, School(users), reader)
    reader.look()

    latest = pq.read_table(io.BytesIO(users.read("grades/latest.parquet"))).to_pylist()
    shown = {(row["recording"], row["version"]) for row in latest}
    live = set(users.generations("raw/").items())
    twice = [key for key in reader.done if max(reader.done[key], reader.rows[key]) > 1]
    lost = re.findall(r"(\d+) of \d+ items were settled by another run meanwhile", cluster.told())
    orphans = {name for name in users.generations("grades/") if name.startswith("parts/")} - reader.parts
    fired = gate.fired()
    faults = {
        (kind, place): sum(line.startswith(f"{kind} {fault.method}") and fault.match in line for line in fired)
        for kind in KINDS
        for place, fault in PLACES.items()
    }
    print(
        f"\n{len(reader.done)} graded in {len(cluster.runs)} runs: {len(twice)} twice, {len(live - shown)} missing, "
        f"{len(reader.wrong)} partial results visible in {reader.looks} looks; {nights.drivers_killed} drivers and "
        f"{nights.workers_killed} inference worker killed, {len(lost)} races lost, {len(orphans)} parts orphaned"
    )
    for kind in KINDS:
        print(f"{kind}: " + ", ".join(f"{faults[kind, place]} on {place}" for place in PLACES))

    assert reader.wrong == []
    assert twice == []
    assert shown == live
    assert len(reader.done) >= 60
    for row in reader.grades.values():  # under the version that was heard
        assert row["duration_s"] == pytest.approx(users.seconds[row["recording"], row["version"]], abs=0.001)
    assert len(lost) >= 3
    assert min(faults.values()) == 1


def heard(recording: str) -> dict[str, Any]:
    """A row as inference workers send it: of a recording of one segment."""
    item = {"recording": recording, "version": "1", "stamp": "1"}
    told = {"start_s": [0.0], "activity": [1.0], "playing_s": 2.0, "course": None, "duration_s": 2.0, "warning": None}
    told |= {"levels": [[-20]], "rms_dbfs": -20.0, "source_rate": RATE, "sound": None}
    meta = {"item": item, "rows": 1, **told}
    probs_SG, embedding_SE, attention_S = np.full((1, 3), 1 / 3), np.zeros((1, 8), np.float32), np.zeros(1)
    return {
        "meta": json.dumps(meta),
        "number": 0,
        "probs": probs_SG.tobytes(),
        "embedding": embedding_SE.tobytes(),
        "attention": attention_S.tobytes(),
    }


def test_an_upload_that_was_given_up_and_comes_late_changes_no_part(gate, bucket, tmp_path):
    model = publish(str(tmp_path / "model"))
    card, _ = model_folder.load(model)
    target = GcsStore(bucket, "grades", gate.address, request_s=1.0)

    def run(*recordings: str) -> grading._Run:
        commits = CommitLog(target, "grades")
        begun = grading._Run(target, commits, commits.state(), card, {"recordings": "raw", "grade_names": "A,B,C"}, {})
        for recording in recordings:
            begun.take(heard(recording))
        return begun

    first, second = run("a.wav"), run("a.wav", "b.wav")
    nothing = Plan([], [], 0, 0, [], 0)
    first.finish(nothing)
    gate.faults(replace(PARTS, action="stall", stall_s=3.0))
    late = second.finish(nothing)  # its first upload has both recordings, the one that counts has b.wav alone
    time.sleep(3)

    reader = Reader(Bucket(gate, bucket, tmp_path))
    reader.look()
    assert [line.split()[0] for line in gate.fired()] == ["stall"]
    assert reader.wrong == []
    assert (late.done, late.kept) == (1, 1)
    assert set(reader.done.values()) == set(reader.rows.values()) == {1}
    assert {recording for recording, _, _ in reader.done} == {"a.wav", "b.wav"}
