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


def test_up_a_worker_from_none_down_and_nothing_is_left():
    if why := lacks():
        pytest.skip(why)
    done = subprocess.run(
        in_a_world("tests.cluster.first_day"), cwd=ROOT, capture_output=True, text=True, timeout=1100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
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
