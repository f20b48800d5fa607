"""scripts/cluster.py and what it prints: the exact commands, what they cost, and what a project needs."""

import json
import os
import shlex
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from samplecnn.errors import UserError
from samplecnn.operations.cluster_file import Cluster, configured, read_cluster
from samplecnn.operations.machines import Wanted
from samplecnn.operations.prices import hourly_usd
from samplecnn.operations.project import steps
from samplecnn.operations.submission import cost_line, submission, wanted_by
from tests.fixtures.jobs import ROOT

PATH = ROOT / "cluster.yaml"


def cluster(**words: str) -> Cluster:
    return Cluster(PATH, yaml.safe_load(configured(PATH.read_text(encoding="utf-8"), **words)))


def run(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "cluster.py"), *map(str, args)]
    known = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which ray and gcloud write down what they are called with; "describe" and "down" fail."""
    for name in ("ray", "gcloud"):
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\npwd >> {tmp_path}/where\n'
            'case "$*" in *describe*|*exec*) exit 1;; esac\n',
            encoding="utf-8",
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLED": str(tmp_path / "called")}


def called(commands: dict[str, str]) -> list[str]:
    path = Path(commands["CALLED"])
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_setup_prints_first_and_runs_with_yes_alone(commands):
    printed = run("setup", **commands)
    assert printed.returncode == 0
    assert called(commands) == []
    told = [shlex.split(line) for line in printed.stdout.splitlines() if not line.startswith("#")]
    assert told == [step.command for step in steps(cluster())]
    assert run("setup", "--yes", **commands).returncode == 0
    made = [line for line in called(commands) if " describe " not in line]
    assert made == [" ".join(words) for words in told]


def test_the_accounts_may_do_what_they_must_and_no_more():
    text = "\n".join(shlex.join(step.command) for step in steps(cluster(project="our-school")))
    assert {word for word in text.split() if word.startswith("--role=")} == {
        "--role=roles/compute.instanceAdmin.v1",  # head, on the project
        "--role=roles/iam.serviceAccountUser",  # head, on the workers' account
        "--role=roles/storage.objectAdmin",  # both, on the bucket
    }
    assert "add-iam-policy-binding our-school --member=serviceAccount:samplecnn-worker" not in text
    assert "0.0.0.0" not in text
    types = cluster(project="our-school").node_types()
    emails = {account["email"] for kind in types.values() for account in kind["node_config"]["serviceAccounts"]}
    for email in emails:
        assert f"iam service-accounts create {email.partition('@')[0]} " in text


def test_launch_and_teardown_print_first(commands):
    for command, line in (("launch", "ray up cluster.yaml --yes"), ("teardown", "ray down cluster.yaml --yes")):
        printed = run(command, **commands)
        assert (printed.returncode, printed.stdout) == (0, line + "\n")
        assert line not in called(commands)
        assert run(command, "--yes", **commands).returncode == 0
        assert called(commands)[-1] == line


def test_the_file_that_was_checked_is_the_one_that_ray_is_given(commands, tmp_path):
    path = tmp_path / "elsewhere" / "cluster.yaml"
    path.parent.mkdir()
    path.write_text(PATH.read_text(encoding="utf-8"), encoding="utf-8")
    script = [sys.executable, str(ROOT / "scripts" / "cluster.py"), "teardown", "cluster.yaml", "--yes"]
    done = subprocess.run(
        script, cwd=path.parent, env={**os.environ, **commands}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert called(commands)[-1] == f"ray down {path} --yes"
    looked = [sys.executable, str(ROOT / "scripts" / "cluster.py"), "status", "../cluster.yaml"]
    subprocess.run(looked, cwd=ROOT / "docs", env={**os.environ, **commands}, capture_output=True, check=False)
    assert called(commands)[-1].startswith("ray exec cluster.yaml ")
    assert (path.parent.parent / "where").read_text(encoding="utf-8").split() == [str(ROOT), str(ROOT)]


def test_submit_prints_the_exact_command_and_its_cost(commands):
    words = ["--segments", "gs://b/segments", "--labels", "gs://b/labels (1).csv"]
    done = run("submit", "train", "--gpus", "2", "--hours", "3", "--", *words, **commands)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("cost: 2 gpu workers for 3 hours: 1.75 USD at prices of 2026-11-27, us-central1")
    told = shlex.split(done.stdout)
    assert told[-len(words) :] == words
    waits = ["--gpus=2", "--cpus=0", "--minutes=15", "--", "python", "jobs/train.py"]
    assert told[told.index("scripts/with_machines.py") :][1 : 1 + len(waits)] == waits
    assert called(commands) == [" ".join(told)]
    assert run("submit", "dance", **commands).returncode == 2


def test_a_command_that_fails_is_told_in_one_line(commands):
    failed = run("status", **commands)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: ray exec ended with 1")


def test_what_jobs_wait_for():
    assert wanted_by("prepare", None, None, 15.0) == Wanted(gpus=0, cpus=8, minutes=15.0)
    assert wanted_by("train", 0, None, 15.0) == Wanted(gpus=0, cpus=8, minutes=15.0)
    assert wanted_by("grade", None, None, 5.0) == Wanted(gpus=1, cpus=8, minutes=5.0)
    with pytest.raises(UserError, match="choose 0 or more"):
        wanted_by("train", 0, 0, 15.0)
    with pytest.raises(UserError, match="--minutes"):
        wanted_by("train", 1, 0, 0.0)


def test_a_submission_has_a_name_of_its_own_and_leaves_out_what_no_job_needs():
    command = submission("grade", [], Wanted(), "http://127.0.0.1:8265", datetime(2026, 11, 27, 2, 0, 1, tzinfo=UTC))
    assert "grade-20261127-020001" in command
    assert ".git" in json.loads(command[command.index("--runtime-env-json") + 1])["excludes"]


def test_prices_of_machines_with_their_gpus():
    assert hourly_usd(cluster().node_types()["t4"]) == pytest.approx(0.11605 + 0.175)
    assert hourly_usd(cluster().node_types()["l4"]) == pytest.approx(0.11747 + 0.2231)
    assert hourly_usd(cluster().node_types()["head"]) == pytest.approx(0.13402)
    assert hourly_usd(cluster().node_types()["k80"]) is None
    assert "no such machine" in cost_line(cluster(gpu="K80"), Wanted(), 1.0)
    assert cost_line(read_cluster(ROOT / "docs/cluster-k80.yaml"), Wanted(), 1.0) == "cost: your own machines"
    assert "1 cpu worker for 2 hours" in cost_line(cluster(), Wanted(gpus=0, cpus=8), 2.0)


def test_fetch_copies_what_lies_at_a_place(tmp_path):
    (tmp_path / "from" / "a").mkdir(parents=True)
    (tmp_path / "from" / "a" / "report.html").write_text("page", encoding="utf-8")
    done = run("fetch", tmp_path / "from", tmp_path / "to")
    assert done.stdout == f"1 files copied to {tmp_path}/to\n"
    assert (tmp_path / "to" / "a" / "report.html").read_text(encoding="utf-8") == "page"
    assert run("fetch", tmp_path / "nowhere", tmp_path / "to").returncode == 2


def test_the_nights_units_run_what_the_cluster_mounts():
    unit = (ROOT / "scripts" / "nightly.service").read_text(encoding="utf-8")
    mounts = yaml.safe_load(PATH.read_text(encoding="utf-8"))["file_mounts"]
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    folder = next(line for line in unit.splitlines() if line.startswith("WorkingDirectory=")).partition("=")[2]
    _, script, *_ = start.split()
    assert mounts[f"{folder}/{Path(script).parent}"] == str(Path(script).parent)
    assert (ROOT / script).exists()


@pytest.mark.parametrize("fails", ["none", "up", "exec"])
def test_a_night_without_a_standing_head_always_takes_the_cluster_down(tmp_path, fails):
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/called\n[ "$1" != {fails} ]\n', encoding="utf-8")
    ray.chmod(0o755)
    known = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "scripts" / "night_once.sh"], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == (fails != "none"), done.stderr
    expected = ["up", "down"] if fails == "up" else ["up", "exec", "down"]
    assert (tmp_path / "called").read_text(encoding="utf-8").split() == expected


def test_a_night_is_of_the_file_that_is_named_where_it_was_called(tmp_path):
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$1 $2" >> {tmp_path}/called\n', encoding="utf-8")
    ray.chmod(0o755)
    (tmp_path / "ours.yaml").write_text("", encoding="utf-8")
    known = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([ROOT / "scripts" / "night_once.sh", "ours.yaml"], env=known, cwd=tmp_path, check=True)
    lines = (tmp_path / "called").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{command} {tmp_path / 'ours.yaml'}" for command in ("up", "exec", "down")]
