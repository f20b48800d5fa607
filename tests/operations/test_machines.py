"""Waiting for machines, on an embedded Ray of two cores and one declared GPU."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util import placement_group_table

from samplecnn.errors import JobError, UserError
from samplecnn.operations.machines import LogWatch, Machines, Wanted, wait_for_machines
from samplecnn.pipelines.runtime import start_ray

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def one_gpu() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    start_ray(num_cpus=2, num_gpus=1)
    yield
    ray.shutdown()


def nothing_is_asked_for() -> bool:
    """No request stays behind: it would keep machines alive, and money going."""
    return {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}


def test_what_is_there_is_given_at_once():
    started = time.monotonic()
    assert wait_for_machines(Wanted(gpus=1, cpus=8, minutes=60.0)) == Machines(1, 0, "")
    assert time.monotonic() - started < 60
    assert nothing_is_asked_for()


def test_without_gpus_cores_will_do():
    found = wait_for_machines(Wanted(gpus=2, cpus=2, minutes=0.4))
    assert found.remark == "no GPU: 2 GPU did not come in 0 minutes: the autoscaler gave no reason"
    assert nothing_is_asked_for()


def test_a_job_that_wants_gpus_alone_does_not_start_without():
    with pytest.raises(JobError, match="no GPU: 2 GPU did not come"):
        wait_for_machines(Wanted(gpus=2, cpus=0, minutes=0.02))
    with pytest.raises(JobError, match=r"no GPU: .*; no CPU: 99 CPU did not come"):
        wait_for_machines(Wanted(gpus=2, cpus=99, minutes=0.02))
    assert nothing_is_asked_for()


def test_what_was_in_the_log_before_does_not_count(tmp_path):
    node = ray._private.worker.global_worker.node
    log = os.path.join(node.get_logs_dir_path(), "monitor.test")
    with open(log, "w", encoding="utf-8") as file:
        file.write("Quota 'OLD' exceeded.\n")
    try:
        watch = LogWatch()
        assert watch.failures() == []
        with open(log, "a", encoding="utf-8") as file:
            file.write("Quota 'NEW' exceeded.\n")
        assert [failure.what for failure in watch.failures()] == ["quota NEW is used up"]
    finally:
        os.unlink(log)


def test_a_quota_of_gpus_does_not_end_the_waiting_for_cores():
    node = ray._private.worker.global_worker.node
    log = Path(node.get_logs_dir_path(), "monitor.test")
    over = threading.Event()

    def autoscaler() -> None:
        while not over.wait(0.5):
            with log.open("a", encoding="utf-8") as file:
                file.write("Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.\n")

    thread = threading.Thread(target=autoscaler)
    thread.start()
    try:
        with pytest.raises(JobError, match=r"^no GPU: quota GPUS_ALL_REGIONS .*; no CPU: 99 CPU did not come in 0 min"):
            wait_for_machines(Wanted(gpus=2, cpus=99, minutes=0.15))
    finally:
        over.set()
        thread.join()
        log.unlink()


@pytest.mark.parametrize("words", [{"gpus": -1}, {"gpus": 0, "cpus": 0}, {"minutes": 0.0}])
def test_what_makes_no_sense_is_refused(words):
    with pytest.raises(UserError):
        Wanted(**words)
