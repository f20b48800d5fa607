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


def test_up_a_worker_from_none_down_and_nothing_is_left():
    found = day("first_day")
    assert found["refused"] == []
    assert found["up"]["code"] == 0, found["up"]["out"]
    assert len(found["after_up"]) == 1
    assert "-head-" in found["after_up"][0]
    assert found["task"]["code"] == 0, f"{found['task']}\n{found['why']}"
    assert found["types"] == ["cpu", "head"]
    (worker,) = set(found["after_task"]) - set(found["after_up"])
    assert worker in found["task"]["out"]
    assert found["untold"]["code"] != 0, "a request without the token was answered"
    assert "Missing authentication token" in found["untold"]["out"]
    assert found["down"]["code"] == 0, found["down"]["out"]
    assert (found["after_down"], found["machines"]) == ([], 0)


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
