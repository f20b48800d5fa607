"""One writer a folder, and no longer than it lives."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from samplecnn import leases
from samplecnn.contract import LEASE
from samplecnn.errors import JobError, UserError
from samplecnn.leases import Holder, hold
from samplecnn.store import Store, open_store
from tests.fixtures import HANGS_S
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate, gcs_store

ELSEWHERE = Holder(token="t", job="prepare", pid=4711, host="studio", machine="another boot", started="1")
QUICK = {"beat_s": 0.05, "lapse_s": 0.5}

STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "local": lambda request: open_store(str(request.getfixturevalue("tmp_path") / "segments")),
    "gcs": lambda request: gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket")),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param](request)


def write(store: Store, holder: Holder) -> None:
    store.put(LEASE, json.dumps(asdict(holder)).encode())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_lease_is_taken_kept_alive_and_given_back(store: Store) -> None:
    with hold(store, "prepare", **QUICK) as lease:
        first = store.read(LEASE)
        assert json.loads(first.data)["pid"] == os.getpid()
        until(lambda: store.version_of(LEASE) != first.version)
        lease.check()
    with pytest.raises(FileNotFoundError):
        store.read(LEASE)
    with hold(store, "prepare", **QUICK):
        pass


def test_it_is_given_back_after_an_error(store: Store) -> None:
    with pytest.raises(RuntimeError), hold(store, "prepare", **QUICK):
        raise RuntimeError
    with pytest.raises(FileNotFoundError):
        store.read(LEASE)


def test_a_living_holder_on_this_machine_is_named(store: Store) -> None:
    with hold(store, "prepare", **QUICK):
        with pytest.raises(UserError, match=rf"prepare \(process {os.getpid()} on .*\) is writing here"):
            hold(store, "grade", **QUICK).__enter__()
        store.read(LEASE)


def test_a_killed_holder_on_this_machine_is_taken_over_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place = str(tmp_path / "segments")
    script = (
        "import sys, time\nfrom samplecnn.leases import hold\nfrom samplecnn.store import open_store\n"
        "with hold(open_store(sys.argv[1]), 'prepare'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, place], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        store = open_store(place)
        with pytest.raises(UserError, match=f"process {process.pid}"):
            hold(store, "prepare").__enter__()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # what remains of it is still there: not alive
        with hold(store, "prepare", lapse_s=3600):
            pass
    assert "took over from prepare" in caplog.text


def test_a_pid_that_is_used_again_is_not_the_holder(store: Store) -> None:
    with hold(store, "prepare", **QUICK):
        mine = Holder(**json.loads(store.read(LEASE).data))
    write(store, replace(mine, started="1"))
    with hold(store, "prepare", lapse_s=3600):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]", json.dumps(asdict(ELSEWHERE)).encode()])
def test_a_silent_holder_elsewhere_is_waited_for_and_then_taken_over(
    store: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.put(LEASE, content)
    with hold(store, "prepare", **QUICK):
        assert json.loads(store.read(LEASE).data)["pid"] == os.getpid()
    assert "waiting up to" in caplog.text
    assert "took over" in caplog.text


def test_a_living_holder_elsewhere_is_named(store: Store) -> None:
    write(store, ELSEWHERE)
    stop = threading.Event()

    def beat() -> None:
        for number in range(10**6):
            if stop.wait(0.02):
                return
            write(store, replace(ELSEWHERE, beat=number))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match=r"prepare \(process 4711 on studio\) is writing here"):
            hold(store, "prepare", lapse_s=30).__enter__()
    finally:
        stop.set()
        thread.join()


def test_who_slept_too_long_learns_that_the_lease_is_lost(store: Store) -> None:
    with hold(store, "prepare", **QUICK) as lease:
        write(store, ELSEWHERE)

        def lost() -> bool:
            try:
                lease.check()
            except JobError:
                return True
            return False

        until(lost)
    assert json.loads(store.read(LEASE).data)["host"] == "studio"  # not ours to take away


def test_a_beat_that_fails_is_made_up_for(gate: Gate, bucket: str) -> None:
    patient = gcs_store(gate, bucket)
    store = replace(patient, retry_s=0.2)
    with hold(store, "prepare", **QUICK) as lease:
        gate.faults(Fault("lose_reply", method="POST"), Fault("503", method="POST", times=5), Fault("503", times=5))
        until(lambda: len(gate.fired()) == 11)  # all of them
        lease.check()


def test_two_containers_of_one_host_are_two_machines() -> None:
    assert leases._machine().endswith(str(os.stat("/proc/self/ns/pid").st_ino))
