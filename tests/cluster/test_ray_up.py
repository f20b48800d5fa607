"""A real `ray up` of our own cluster.yaml, Ray unpatched, in a world of namespaces (world.py): `make test-cluster`."""

import json
import os
import shutil
import subprocess

import pytest

from tests.cluster.world import in_a_world
from tests.fixtures.jobs import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def lacks() -> str:
    """Why there can be no world here; "" if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "namespaces want root"
    tools = ("unshare", "ip", "rsync", "openssl", "ssh", "/usr/sbin/sshd")
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: openssh-server, openssh-client, rsync, iproute2, openssl)"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "ip", "link",
                            "add", "cloud", "type", "bridge"], capture_output=True, text=True, check=False)  # fmt: skip
    return f"no namespaces or bridges here: {tried.stderr.strip()}" if tried.returncode else ""


def day(module: str, limit_s: float = 1100) -> dict:
    """What a module found in a world of its own."""
    if why := lacks():
        pytest.skip(why)
    done = subprocess.run(
        in_a_world(f"tests.cluster.{module}"), cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_jobs_on_two_workers_lose_nothing_when_one_goes_in_the_middle_of_each():
    found = day("working_day")
    assert {job: told["code"] for job, told in found["alone"].items()} == {"prepare": 0, "train": 0, "grade": 0}, found
    assert found["up"]["code"] == 0, found["up"]["out"]
    assert set(found["untold"].values()) == {401}, found["untold"]
    for job, told in found["jobs"].items():
        assert (told["code"], told["missed"]) == (0, ""), f"{job}: {told}"
    assert {job: told["how"] for job, told in found["jobs"].items()} == {
        "prepare": "killed", "train": "killed", "grade": "given notice", "again": "cut off",
    }  # fmt: skip
    assert "drained: this machine goes" in found["jobs"]["grade"]["drained"]
    assert found["differences"] == []
    assert (found["down"]["code"], found["after_down"], found["machines"], found["refused"]) == (0, [], 0, [])


def test_machines_of_ones_own_are_launched_and_work():
    found = day("own_machines")
    assert found["up"]["code"] == 0, found["up"]["out"]
    assert "on own-0 own-1 own-2" in found["task"]["out"], found["task"]
    assert found["untold"]["code"] != 0
    assert "Missing authentication token" in found["untold"]["out"]
    assert (found["down"]["code"], found["calls"]) == (0, []), found["down"]
    # Ray leaves the workers running: docs/operations.md says how to end them.
    assert found["raylets"] == {"own-0": False, "own-1": True, "own-2": True}


def test_nights_begin_once_wait_for_what_never_comes_and_go_on_after_a_failure():
    found = day("nights")
    assert found["up"]["code"] == 0, found["up"]["out"]
    nights = found["nights"]
    overlapping = nights["overlapping"]
    assert [told["code"] for told in overlapping] == [0, 0], overlapping
    assert sum("nothing was started" in told["out"] for told in overlapping) == 1, overlapping
    records = {name: told["record"] for name, told in nights.items() if name != "overlapping"}
    records["first"] = max((told["record"] for told in overlapping), key=len)
    assert {name: record["state"] for name, record in records.items()} == {
        "first": "done", "nothing new": "done", "no GPUs": "done", "failed": "failed", "again": "done",
    }, f"{nights}\n{found['why']}"  # fmt: skip
    assert {name: record["counts"]["done"] for name, record in records.items() if record["state"] == "done"} == {
        "first": 3, "nothing new": 0, "no GPUs": 1, "again": 1,
    }  # fmt: skip
    assert records["first"]["workers"] == {"gpu": 0, "cpu": 1}
    assert records["nothing new"]["workers"] == {"gpu": 0, "cpu": 0}
    assert "quota GPUS_ALL_REGIONS is used up" in records["no GPUs"]["remark"]
    assert nights["failed"]["code"] != 0
    assert [attempt["status"] for attempt in records["again"]["attempts"]] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert len(set(found["graded"])) == len(found["graded"]) == 5
    (head,) = found["after_up"]  # workers came when a night wanted them
    assert "-head-" in head
    assert found["types"] == ["cpu", "head"]
    assert found["untold"]["jobs"]["code"] != 0, "a request without the token was answered"
    assert "Missing authentication token" in found["untold"]["jobs"]["out"]
    assert found["untold"]["store"]["code"] != 0, "the cluster's store answered without the token"
    assert "InvalidAuthToken" in found["untold"]["store"]["out"]
    assert (found["down"]["code"], found["after_down"], found["machines"], found["refused"]) == (0, [], 0, [])
