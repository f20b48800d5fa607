"""jobs/correct.py as people run it: killed at each of its writes, two at once, in a folder and in a bucket."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from samplecnn import grades_folder
from samplecnn.commits import CommitLog, failed_item
from samplecnn.contract import LATEST_PARQUET
from samplecnn.corrections import correct
from samplecnn.errors import RecordingError
from samplecnn.store import Store, open_store
from tests.fixtures import HANGS_S
from tests.fixtures.grades import GRADES, SETTINGS, grade
from tests.fixtures.jobs import ROOT, killed_at_write, run_job

ANN = "recording,grade,by,why\na.wav,B,Ann,wrong notes\nsilent.wav,A,Ann,4'33\nbroken.mp3,B,Ann,heard it live\n"
BEN = "recording,grade,by,why\na.wav,A,Ben,they are in the score\nb.wav,B,Ben,wrong notes\n"


def graded(place: str) -> Store:
    store = open_store(f"{place}/grades")
    grade(store, "r1", ["a.wav", "b.wav"], silent=["silent.wav"])
    failure = {**failed_item("broken.mp3", "v1", "", RecordingError("decode", "no sound")), "model_id": "m1"}
    state = CommitLog(store, "grades").commit("r2", SETTINGS, [failure])
    grades_folder.write_views(store, state, GRADES)
    files = open_store(place)
    files.put("ann.csv", ANN.encode())
    files.put("ben.csv", BEN.encode())
    return store


def everything(store: Store) -> tuple[list[dict], list[dict]]:
    """(latest, the log's corrections), without times and names of runs."""
    latest = pq.read_table(io.BytesIO(store.read(LATEST_PARQUET).data))
    times = ["corrected_at", "graded_at"]
    corrections = CommitLog(store, "grades").state().corrections.select(["recording", "version", "grade", "by", "why"])
    return latest.drop_columns(times).to_pylist(), corrections.to_pylist()


def flags(place: str, who: str = "ann") -> list[str]:
    return [f"--grades={place}/grades", f"--corrections={place}/{who}.csv", f"--export={place}/labels.csv"]


@pytest.mark.slow
def test_killed_at_any_write_the_same_command_gives_the_same(folder_at: Callable[[str], str]) -> None:
    undisturbed = graded(folder_at("undisturbed"))
    ended = run_job("correct", *flags(folder_at("undisturbed")))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("3 corrections: 3 new, 1 of recordings that failed; see ")
    expected = everything(undisturbed)
    assert len(expected[0]) == 4
    kills = 0
    for number in range(1, 9):
        here = folder_at(str(number))
        store = graded(here)
        if not killed_at_write(number, "correct", *flags(here)):
            break
        kills += 1
        assert len(CommitLog(store, "grades").state().corrections) in (0, 3)  # all of a file or nothing
        correct(f"{here}/grades", f"{here}/ann.csv", f"{here}/labels.csv")
        assert everything(store) == expected
        assert sum(b'"corrections"' in store.read(m.name).data for m in store.list("manifests/0")) == 1
        labels = open_store(here).read("labels.csv").data.decode()
        assert [line.split(",")[:3] for line in labels.splitlines()[1:]] == [
            ["a.wav", "B", "Ann"],
            ["broken.mp3", "B", "Ann"],
            ["silent.wav", "A", "Ann"],
        ]
    assert kills == 4  # the manifest, latest.parquet, latest.csv, the export


def test_people_who_correct_at_once_lose_nothing(folder_at: Callable[[str], str]) -> None:
    store = graded(folder_at("here"))
    command = [sys.executable, str(ROOT / "jobs" / "correct.py")]
    people = [
        subprocess.Popen([*command, *flags(folder_at("here"), who)[:2]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for who in ("ann", "ben", "ann", "ben")
    ]
    for person in people:
        _, err = person.communicate(timeout=HANGS_S)
        assert person.returncode == 0, err
    latest, corrections = everything(store)
    assert sorted((row["recording"], row["grade"], row["by"]) for row in corrections) == [
        ("a.wav", "A", "Ben"),
        ("a.wav", "B", "Ann"),
        ("b.wav", "B", "Ben"),
        ("broken.mp3", "B", "Ann"),
        ("silent.wav", "A", "Ann"),
    ]
    last = [row["by"] for row in corrections if row["recording"] == "a.wav"][-1]
    stands = {row["recording"]: (row["grade"], row["machine_grade"], row["corrected_by"]) for row in latest}
    assert stands == {
        "a.wav": ("B" if last == "Ann" else "A", "A", last),
        "b.wav": ("B", "A", "Ben"),
        "broken.mp3": ("B", None, "Ann"),
        "silent.wav": ("A", None, "Ann"),
    }


def test_what_the_user_got_wrong_is_one_line(tmp_path: Path) -> None:
    store = graded(str(tmp_path))
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("recording,grade,by,why\nc.wav,A,Ann,x\n")
    before = everything(store)
    for args, line in (
        ([], "--grades"),
        (["--grades", tmp_path / "grades"], "--corrections or --export is needed"),
        (["--grades", tmp_path / "none", "--corrections", wrong], "no grades there"),
        (["--grades", tmp_path / "grades", "--corrections", tmp_path / "no.csv"], "no.csv: no such file"),
        (["--grades", tmp_path / "grades", "--corrections", wrong], "wrong.csv, correction 1: 'c.wav' is in no grade"),
    ):
        ended = run_job("correct", *args)
        assert ended.returncode == 2
        assert line in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert ended.stdout == ""
    assert everything(store) == before


def shown_grades(place: Path) -> str:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "show_grades.py"), "--grades", str(place / "grades")],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGS_S,
    ).stdout


def test_the_table_on_the_terminal_says_who_corrected(tmp_path: Path) -> None:
    graded(str(tmp_path))
    run_job("correct", *flags(str(tmp_path)))
    shown = shown_grades(tmp_path)
    assert "corrected by Ann (the model: A): wrong notes" in shown
    assert "corrected by Ann (the model: none): 4'33; silent: check the recording" in shown
    assert "corrected by Ann (the model: none): heard it live; failed: decode: no sound" in shown
    assert len(shown.splitlines()) == 5
    (tmp_path / "marks.csv").write_text("recording,mark,by,why\nb.wav,88.5,Ann,fine\n")
    given = ("--grades", tmp_path / "grades", "--corrections", tmp_path / "marks.csv")
    assert "say with --cuts which marks lie between grades" in run_job("correct", *given).stderr
    ended = run_job("correct", *given, "--cuts", "60")
    assert ended.returncode == 0, ended.stderr
    assert "corrected by Ann, mark 88.5 (the model: A): fine" in shown_grades(tmp_path)
