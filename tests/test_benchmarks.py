"""Do the benchmarks run? Their figures are for people on a quiet machine: nothing here asserts a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.held_out_faults import KINDS
from benchmarks.measure import Table, cpu_s, descendants, peak_mb, rounds
from samplecnn.performances.drawn import TARGETS
from samplecnn.performances.player import FAULTS
from samplecnn.pretraining import NOT_TAUGHT
from tests.fixtures import HANGS_S

ROOT = Path(__file__).parent.parent


def run_benchmarks(*args: str) -> subprocess.CompletedProcess[str]:
    ended = [sys.executable, "-m", "benchmarks", *args]
    return subprocess.run(ended, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("decode", "peers", "memory", "plans", "network", "network_profile", "planning", "report"),
        pytest.param(("prepare_job", "grade_job"), marks=pytest.mark.ray),
    ],
)
def test_a_quick_run_prints_a_table_for_each_question(names):
    ended = run_benchmarks("--quick", *names)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("| --- |") >= len(names)


def test_every_module_is_run_or_known_as_slow():
    helpers = {"__init__.py", "__main__.py", "measure.py", "trials.py"}
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.name not in helpers}
    assert modules == {*command.MODULES, *command.SLOW, *command.BY_HAND}


def test_every_fault_and_every_target_that_tells_of_one_is_held_out_with_one_kind():
    assert sorted(name for kind in KINDS.values() for name in kind.faults) == sorted(FAULTS)
    of_faults = set(TARGETS) - {*NOT_TAUGHT, "skill", "log_tempo", "log_density"}
    assert sorted(name for kind in KINDS.values() for name in kind.targets) == sorted(of_faults)


def test_an_unknown_name_is_a_users_mistake():
    ended = run_benchmarks("nonsense")
    assert ended.returncode == 2
    assert "nonsense" in ended.stderr


def test_a_second_run_of_the_day_replaces_only_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    command.write({"decode": [Table("one", ("a",), [(1.0,)])], "plans": [Table("two", ("b",), [("x",)])]})
    written = command.write({"plans": [Table("two", ("b",), [("y",)])]})
    tables = json.loads(Path(written).read_text())["tables"]
    assert tables["decode"][0]["rows"] == [[1.0]]
    assert tables["plans"][0]["rows"] == [["y"]]


def test_another_process_is_measured_by_its_own_clock_and_memory():
    code = "x = b'x' * 80_000_000; [n * n for n in range(10**6)]; print('done', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in descendants()
        assert cpu_s(process.pid) > 0
        assert peak_mb(process.pid) > 50
        process.communicate(b"\n")
    assert process.pid not in descendants()
    assert os.getpid() not in descendants()


def test_contestants_take_turns_and_the_first_turn_does_not_count():
    turns = []

    def contestant(name):
        turns.append(name)
        return float(len(turns))

    results = rounds({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, count=2)
    assert turns == ["a", "b"] * 3
    assert results == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
