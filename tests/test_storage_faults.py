"""Disks that fill up, clocks that jump, servers that stall: what a person sees and what a reader finds."""

import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from samplecnn import garbage, leases
from samplecnn.audio import Decoder
from samplecnn.commits import DONE, CommitLog, newest
from samplecnn.contract import LEASE, RECORDING
from samplecnn.errors import JobError, RecordingError, UserError
from samplecnn.leases import Holder, hold
from samplecnn.recordings import plan
from samplecnn.store import Store, open_store
from tests.fixtures.audio import noise, write_audio
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate, gcs_store

# --- a full disk -----------------------------------------------------------------------------------------------------

DISK_BYTES = 256 * 1024


@pytest.fixture
def small_disk(disk_of: Callable[[int], Path]) -> Path:
    return disk_of(DISK_BYTES)


@pytest.fixture
def small_temporary_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small disk, as TMPDIR."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    monkeypatch.setenv("TMPDIR", str(small_disk))
    return small_disk


def test_a_recording_that_does_not_fit_the_temporary_disk_ends_the_job_in_one_line(
    gate: Gate, bucket: str, small_temporary_disk: Path
) -> None:
    store = gcs_store(gate, bucket)
    store.put("take.wav", b"x" * (2 * DISK_BYTES))
    entry = next(store.list())
    with (
        pytest.raises(JobError, match="the disk for temporary files is full: make room, or set TMPDIR to another"),
        store.fetch(entry.name, entry.version, entry.stamp),
    ):
        pytest.fail("half a recording was handed out")
    assert list(small_temporary_disk.iterdir()) == []


def test_an_output_that_does_not_fit_the_temporary_disk_does_not_appear(
    gate: Gate, bucket: str, small_temporary_disk: Path
) -> None:
    store = gcs_store(gate, bucket)
    with pytest.raises(JobError, match="set TMPDIR to another"), store.open_output("data/1.parquet") as sink:
        sink.write(b"x" * (2 * DISK_BYTES))
    assert list(store.list()) == []
    assert list(small_temporary_disk.iterdir()) == []


def test_a_recording_whose_samples_do_not_fit_the_temporary_disk_may_be_tried_again(
    tmp_path: Path, small_temporary_disk: Path
) -> None:
    long = write_audio(tmp_path / "long.wav", noise(20.0, 8000), 8000)
    short = write_audio(tmp_path / "short.wav", noise(2.0, 8000), 8000)
    with Decoder(8000) as decoder:  # 20 s at 8000 Hz are 640 kB of samples
        with pytest.raises(RecordingError, match="No space left on device") as caught:
            decoder.decode(str(long))
        assert not caught.value.permanent
        assert len(decoder.decode(str(short)).samples_T) == 16_000


def test_a_disk_that_is_full_costs_no_recording_for_good(tmp_path: Path, small_temporary_disk: Path) -> None:
    """At 500 Hz: what is left in a file's buffer finds no room when the file is closed, after the answer."""
    long = write_audio(tmp_path / "long.wav", noise(200.0, 8000), 8000)
    short = write_audio(tmp_path / "short.wav", noise(2.0, 8000), 8000)
    with Decoder(500) as decoder:
        for _ in range(3):
            with pytest.raises(RecordingError, match="No space left on device") as caught:
                decoder.decode(str(long))
            assert not caught.value.permanent
            assert len(decoder.decode(str(short)).samples_T) == 1000
    other = small_temporary_disk / "other"
    with Decoder(500) as decoder:
        decoder.decode(str(short))  # the child has looked where temporary files may lie
        for _ in range(10):  # the child answers before it lets go of its files
            with suppress(OSError), other.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)
            time.sleep(0.05)
        with pytest.raises(RecordingError, match="No space left on device") as caught:
            decoder.decode(str(short))
        assert not caught.value.permanent
        other.unlink()
        assert len(decoder.decode(str(short)).samples_T) == 1000


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    store = open_store(str(small_disk / "grades"))
    version = store.create("latest.csv", b"old")
    log = CommitLog(store, "grades")
    state = log.commit("r1", {}, [{"recording": "a.wav", "version": "1", "outcome": DONE}])
    (small_disk / "other").write_bytes(b"x" * (DISK_BYTES // 2))
    more = b"x" * DISK_BYTES
    many = [{"recording": f"{number}.wav", "version": "1", "outcome": DONE} for number in range(3_000)]
    full = "grades: the disk is full: make room and run the same command again"
    with pytest.raises(JobError, match=full):
        store.create("new.csv", more)
    with pytest.raises(JobError, match=full):
        store.replace("latest.csv", more, version)
    with pytest.raises(JobError, match=full):
        store.put("latest.csv", more)
    with pytest.raises(JobError, match=full):
        log.commit("r2", {}, many)
    assert [entry.name for entry in store.list()] == ["latest.csv", "manifests/000000001.json"]
    assert store.read("latest.csv").data == b"old"
    assert CommitLog(store, "grades").state().items.equals(state.items)
    assert not list((small_disk / "grades" / ".samplecnn").glob("tmp-*"))
    (small_disk / "other").unlink()
    assert log.commit("r2", {}, many[:10]).last == 2


# --- a clock that jumps ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "local":
        return open_store(str(request.getfixturevalue("tmp_path") / "grades"))
    return gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket"))


def test_the_order_of_the_log_is_that_of_its_manifests_whatever_the_clocks_said(store: Store) -> None:
    today = datetime(2026, 11, 24, tzinfo=UTC)
    clocks = [today, today + timedelta(days=3650), today - timedelta(days=3650)]
    for version, clock in enumerate(clocks, 1):
        log = CommitLog(store, "grades", now=lambda clock=clock: clock)  # type: ignore[misc]
        log.state()
        log.commit(f"r{version}", {}, [{"recording": "a.wav", "version": str(version), "outcome": DONE}])
    items = CommitLog(store, "grades").state().items
    assert items["version"].to_pylist() == ["1", "2", "3"]
    assert newest(items, [RECORDING])["version"].to_pylist() == ["3"]


@pytest.mark.parametrize("years", [-30, 30])
def test_recordings_from_another_time_are_planned_once(tmp_path: Path, years: int) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for name in ("a.wav", "b.wav"):
        (uploads / name).write_text(name)
        os.utime(uploads / name, (time.time() + years * 365 * garbage.DAY_S,) * 2)
    source, log = open_store(str(uploads)), CommitLog(open_store(str(tmp_path / "segments")), "segments")
    todo = plan(source, log.state().items).todo
    rows = [{"recording": i.recording, "version": i.version, "stamp": i.stamp, "outcome": DONE} for i in todo]
    known = log.commit("r", {}, rows).items
    assert (plan(source, known).todo, plan(source, known).kept) == ([], 2)
    (uploads / "a.wav").write_text("A.wav")  # as long as before, by a clock that is right again
    assert [item.recording for item in plan(source, known).todo] == ["a.wav"]


def test_a_lease_goes_by_no_clock_that_can_jump(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.count(1e9, 1e6)  # eleven days at every look
    monkeypatch.setattr(leases.time, "time", lambda: next(jumps))
    with hold(store, "prepare", beat_s=0.05, lapse_s=0.5) as lease:
        while (mine := Holder(**json.loads(store.read(LEASE).data))).beat == 0:
            time.sleep(0.05)
        lease.check()
    elsewhere = replace(mine, machine="another", host="studio", token="theirs")
    store.put(LEASE, json.dumps(asdict(elsewhere)).encode())
    over = threading.Event()

    def beats() -> None:
        for number in itertools.count(10**6):
            if over.wait(2.5):
                return
            store.put(LEASE, json.dumps(asdict(replace(elsewhere, beat=number))).encode())

    beating = threading.Thread(target=beats)
    beating.start()
    try:
        with pytest.raises(UserError, match="on studio"):  # by a clock that jumps it would have been silent for ages
            hold(store, "prepare", lapse_s=60.0).__enter__()
    finally:
        over.set()
        beating.join()
    assert json.loads(store.read(LEASE).data)["token"] == "theirs"


@pytest.mark.parametrize("days", [-8, 8])
def test_no_garbage_goes_by_a_clock_that_differs_from_the_storages(store: Store, days: int) -> None:
    store.put("parts/running/recordings-00001.parquet", b"rows of a run that has yet to commit them")
    CommitLog(store, "grades").commit("r1", {"grade_names": "A,B"}, [])
    before = [entry.name for entry in store.list()]
    with pytest.raises(JobError, match=r"this machine's clock is 192\.0 h off: nothing was deleted"):
        garbage.require_same_clock(store, time.time() + days * garbage.DAY_S)
    garbage.require_same_clock(store, time.time())
    assert [entry.name for entry in store.list()] == before


# --- a server that stalls --------------------------------------------------------------------------------------------


def test_an_answer_that_does_not_come_is_asked_for_again(gate: Gate, bucket: str) -> None:
    store = replace(gcs_store(gate, bucket), request_s=0.5)
    asked = [("POST", "upload"), ("GET", "prefix="), ("GET", "alt=media"), ("DELETE", "take.wav")]
    gate.faults(*(Fault("stall", method=method, match=match, stall_s=2.0) for method, match in asked))
    version = store.create("take.wav", b"sound")
    assert [entry.version for entry in store.list()] == [version]
    with store.fetch("take.wav", version, version) as path:
        assert Path(path).read_bytes() == b"sound"
    store.delete("take.wav", version)
    assert len(gate.fired()) == len(asked)
    assert len(gate.requests()) >= 2 * len(asked)  # asked again, not waited for
    time.sleep(2.5)  # what the server was late with is done now, or refused
    with pytest.raises(FileNotFoundError):
        store.read("take.wav")
