"""The report job: where its page goes, what it refuses, what a correction looks like."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from samplecnn import grades_folder
from samplecnn.commits import CommitLog
from samplecnn.errors import UserError
from samplecnn.report.grading import FAILED, GRADED, NOT_GRADABLE, read_grades, table_data
from samplecnn.report.settings import Sources
from samplecnn.report.write import MOST_UNASKED, report_after, write_report
from samplecnn.store import open_store
from tests.fixtures.gcs import Gate, gcs_store
from tests.fixtures.heard import GRADES, commit, heard
from tests.fixtures.jobs import run_job
from tests.fixtures.models import publish
from tests.fixtures.scripts import run_script


def data_of(page: str) -> dict:
    """What the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_job_writes_the_page_beside_the_grades_and_says_where(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/grades")
    commit(store, "20261126-r1", [heard("a.wav", 1), heard("b.wav", 2)], {"c.wav": "no sound"})
    ended = run_job("report", "--grades", tmp_path / "grades")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].endswith(f": {tmp_path}/grades/report.html")
    grades = [line.split(" grade ")[1] for line in ended.stdout.splitlines()[0].split(", ")[:3]]
    assert grades == ["A", "B", "C"]
    assert ended.stdout.splitlines()[0].endswith("0 not gradable, 1 failed")
    page = (tmp_path / "grades/report.html").read_text(encoding="utf-8")
    assert "A grade is an aid for people who listen, not a judge" in page
    assert "overrules it, with a reason, and that stands from then on (jobs/correct.py)" in page
    rows = data_of(page)["rows"]
    assert rows["name"] == ["c.wav", "a.wav", "b.wav"]
    assert rows["remark"] == ["failed: decode: no sound", None, None]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "error: nothing to report of: give --grades, --evaluation or --model"),
        (("--grades", "none"), "error: --grades none: no grades there: run jobs/grade.py first"),
    ],
)
def test_what_cannot_be_reported_of_is_refused_in_a_line(args: tuple[str, ...], said: str) -> None:
    ended = run_job("report", *args)
    assert (ended.returncode, ended.stderr.strip()) == (2, said)


@pytest.mark.parametrize("metrics", [{"history": [{"epoch": 1}]}, {"history": 5}, {"history": [7]}])
def test_a_model_that_says_nonsense_of_itself_is_named_in_a_line(metrics: dict, tmp_path: Path) -> None:
    place = publish(tmp_path / "model", metrics=metrics)
    with pytest.raises(UserError, match=r"^model [0-9a-f]{16}: its metrics are damaged \(.*\): train it again$"):
        write_report(Sources(model=place))


def test_measures_that_are_none_are_named_in_a_line(tmp_path: Path) -> None:
    commit(open_store(f"{tmp_path}/grades"), "20261126-r1", [heard("a.wav", 1)])
    place = publish(tmp_path / "model", metrics={"inputs": {"level": "loud"}})
    with pytest.raises(UserError, match="its metrics are damaged"):
        write_report(Sources(grades=f"{tmp_path}/grades", model=place))


def test_in_a_bucket_the_page_is_served_as_a_page(gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = gcs_store(gate, bucket)
    commit(store, "20261126-r1", [heard("a.wav", 1)])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    assert write_report(Sources(grades=store.url())).endswith(f": gs://{bucket}/school/grades/report.html")
    address = f"{gate.address}/storage/v1/b/{bucket}/o/school%2Fgrades%2Freport.html"
    with urllib.request.urlopen(address) as told:
        assert json.load(told)["contentType"] == "text/html"


def test_segments_are_those_of_the_grade_that_stands(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/grades")
    commit(store, "20261126-r1", [heard("a.wav", 1, segments=5), heard("b.wav", 2, segments=3)])
    commit(store, "20261127-r2", [heard("b.wav", 3, segments=7, model_id="m2"), heard("0.wav", 4, gradable=False)])
    data = table_data(read_grades(f"{tmp_path}/grades"))
    assert (data["rows"]["name"], data["segments"]["count"]) == (["0.wav", "a.wav", "b.wav"], [12, 5, 7])
    assert data["rows"]["status"] == [NOT_GRADABLE, GRADED, GRADED]
    latest = grades_folder.latest(store, CommitLog(store, "grades").state(), GRADES).to_pylist()
    assert data["rows"]["score"] == [None, *(round(10_000 * row["score"]) for row in latest[1:])]
    weights = data["segments"]["weight"]
    assert sum(weights[:12]) == 0
    assert sum(weights[12:17]) == pytest.approx(100_000, abs=5)


def test_a_folder_that_holds_failures_alone_has_a_page(tmp_path: Path) -> None:
    commit(open_store(f"{tmp_path}/grades"), "20261126-r1", [], {"a.wav": "broken \udcff"})
    write_report(Sources(grades=f"{tmp_path}/grades"))
    rows = data_of((tmp_path / "grades/report.html").read_text(encoding="utf-8"))["rows"]
    assert rows["status"] == [FAILED]


def test_nothing_at_all_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="nothing to report of"):
        write_report(Sources())


@pytest.mark.browser
def test_the_script_takes_the_pictures_of_a_report(tmp_path: Path, browser: object) -> None:
    commit(open_store(f"{tmp_path}/grades"), "20261126-r1", [heard("a.wav", 1), heard("b.wav", 2)])
    refused = run_script("take_screenshots", "--grades", tmp_path / "grades", "--out", tmp_path / "images")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    write_report(Sources(grades=f"{tmp_path}/grades"))
    taken = run_script("take_screenshots", "--grades", tmp_path / "grades", "--out", tmp_path / "images")
    assert taken.returncode == 0, taken.stderr
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert set(pictures) == {"report.png", "report-night.png", "report-segments.png", "report-recording.png"}
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())


def test_a_job_that_has_ended_says_where_its_page_is_or_why_there_is_none(tmp_path: Path) -> None:
    place = f"{tmp_path}/grades of may"
    commit(open_store(place), "20261126-r1", [heard("a.wav", 1)])
    assert report_after(Sources(grades=place), 1).endswith(f": {place}/report.html")
    command = f"python jobs/report.py --grades '{place}'"
    assert report_after(Sources(grades=place), MOST_UNASKED + 1).endswith(f"unasked: {command}")
    (tmp_path / "grades of may" / "report.html").unlink()
    (tmp_path / "grades of may" / "report.html").mkdir()  # something is in the way
    said = report_after(Sources(grades=place), 1)
    assert said.startswith("no report (")
    assert said.endswith(command)


def test_a_page_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/grades")
    commit(store, "20261126-r1", [heard("a.wav", 1)])
    page = tmp_path / "grades/report.html"
    write_report(Sources(grades=store.url()))
    page.write_text(re.sub(r"Made at .* UTC", "Made at 2001-01-01 00:00 UTC", page.read_text("utf-8")), "utf-8")
    write_report(Sources(grades=store.url()))
    assert "Made at 2001-01-01" in page.read_text("utf-8")
    commit(store, "20261127-r2", [heard("b.wav", 2)])
    write_report(Sources(grades=store.url()))
    assert "Made at 2001-01-01" not in page.read_text("utf-8")
