"""Corrections: bound to the upload that was heard, before any model's grade, and refused in one line where unclear."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from samplecnn import grades_folder
from samplecnn.commits import CommitLog, LogState, failed_item, manifest_name, outdated
from samplecnn.contract import LATEST_CSV, LATEST_PARQUET
from samplecnn.corrections import correct
from samplecnn.errors import RecordingError, UserError
from samplecnn.labels import LabelSettings, MarkSettings, read_labels
from samplecnn.store import Store, open_store
from samplecnn.tables import parquet_bytes, read_csv
from tests.fixtures.grades import GRADES, SETTINGS, grade

HEAD = "recording,grade,by,why\n"


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    store = open_store(f"{tmp_path}/grades")
    grade(store, "r1", ["a.wav", "b.wav"], silent=["silent.wav"])
    fail(store, "broken.mp3")
    return store


def fail(store: Store, name: str, version: str = "v1") -> LogState:
    """A run that cannot decode this recording."""
    log = CommitLog(store, "grades")
    item = {**failed_item(name, version, "", RecordingError("decode", "no sound")), "model_id": "m1"}
    state = log.commit("r2", SETTINGS, [item, *outdated(log.state(), [item], [])])
    grades_folder.write_views(store, state, GRADES)
    return state


def said(store: Store, text: str, export: str | None = None, marks: MarkSettings | None = None) -> str:
    """Correct by these lines; returns the closing line."""
    store.put("corrections.csv", text.encode())
    return correct(store.url(), store.url("corrections.csv"), export, marks)


def rows(store: Store) -> dict[str, dict]:
    """latest.*, which both say the same, and which the log alone says too."""
    written = pq.read_table(io.BytesIO(store.read(LATEST_PARQUET).data))
    in_csv = {row["recording"]: row["grade"] for row in read_csv(store.read(LATEST_CSV).data, "latest")}
    assert in_csv == {row["recording"]: row["grade"] or "" for row in written.to_pylist()}
    store.delete(LATEST_PARQUET)
    state = CommitLog(store, "grades").state()
    assert grades_folder.latest(store, state, GRADES).equals(written)
    store.put(LATEST_PARQUET, parquet_bytes(written))
    return {row["recording"]: row for row in written.to_pylist()}


def stands(row: dict) -> tuple:
    return tuple(row[name] for name in ("grade", "machine_grade", "gradable", "corrected_by", "corrected_why"))


def test_a_correction_stands_beside_what_the_model_says_for_graded_silent_and_broken_recordings(folder: Store) -> None:
    before = rows(folder)
    told = said(folder, HEAD + "a.wav,B,Ann,wrong notes\nsilent.wav,A,Ann,4'33\nbroken.mp3,B,Ben,played live\n")
    assert told == f"3 corrections: 3 new, 1 of recordings that failed; see {folder.url(LATEST_CSV)}"
    now = rows(folder)
    assert stands(now["a.wav"]) == ("B", "A", True, "Ann", "wrong notes")
    assert stands(now["silent.wav"]) == ("A", None, True, "Ann", "4'33")
    assert stands(now["broken.mp3"]) == ("B", None, True, "Ben", "played live")
    assert stands(now["b.wav"]) == ("A", "A", True, None, None)
    assert now["b.wav"] == before["b.wav"]
    for name in ("score", "p_A", "p_B", "confidence", "version", "model_id", "graded_at", "reason"):
        assert now["a.wav"][name] == before["a.wav"][name]
        assert now["silent.wav"][name] == before["silent.wav"][name]
    assert now["silent.wav"]["reason"].startswith("silent")
    assert now["broken.mp3"]["reason"] == "failed: decode: no sound"
    assert now["a.wav"]["corrected_at"].tzinfo is not None


def test_a_correction_survives_a_new_model_and_goes_with_the_upload_that_was_heard(folder: Store) -> None:
    said(folder, HEAD + "a.wav,B,Ann,wrong notes\nbroken.mp3,B,Ann,heard it\n")
    state = grade(folder, "r3", ["a.wav", "b.wav"], model="m2", says="A")
    grades_folder.write_views(folder, state, GRADES)
    assert stands(rows(folder)["a.wav"]) == ("B", "A", True, "Ann", "wrong notes")
    assert rows(folder)["a.wav"]["model_id"] == "m2"
    grades_folder.write_views(folder, grade(folder, "r4", ["a.wav", "broken.mp3"], model="m2", version="v2"), GRADES)
    assert stands(rows(folder)["a.wav"]) == ("A", "A", True, None, None)
    assert stands(rows(folder)["broken.mp3"]) == ("A", "A", True, None, None)
    fail(folder, "a.wav", "v1")  # the first upload again, and now it cannot be read
    assert stands(rows(folder)["a.wav"]) == ("B", None, True, "Ann", "wrong notes")
    said(folder, "recording,grade,by,why,version\nb.wav,B,Ann,heard it,v1\n")
    with pytest.raises(UserError, match=r"correction 1: 'b\.wav' is version v1 now, not v0: hear it again"):
        said(folder, "recording,grade,by,why,version\nb.wav,A,Ann,heard it,v0\n")


def test_the_last_correction_stands_and_none_is_forgotten(folder: Store) -> None:
    first = HEAD + "a.wav,B,Ann,wrong notes\n"
    said(folder, first)
    said(folder, HEAD + "a.wav,A,Ben,they are in the score\n")
    assert stands(rows(folder)["a.wav"])[0::3] == ("A", "Ben")
    manifests = len(list(folder.list("manifests/")))
    assert said(folder, first).startswith("1 corrections: 0 new, 1 known already, 1 overruled by a later one")
    assert stands(rows(folder)["a.wav"])[0::3] == ("A", "Ben")
    assert len(list(folder.list("manifests/"))) == manifests
    said(folder, HEAD + "a.wav,B,Ann,not in this edition\n")
    assert stands(rows(folder)["a.wav"])[0::3] == ("B", "Ann")
    found = CommitLog(folder, "grades").state().corrections.to_pylist()
    assert [row["why"] for row in found] == ["wrong notes", "they are in the score", "not in this edition"]


def test_the_export_is_labels_of_what_is_there_now(folder: Store, tmp_path: Path) -> None:
    said(folder, HEAD + "a.wav,B,Ann,x\nb.wav,A,Ann,x\nbroken.mp3,B,Ann,=cmd\n")
    said(folder, HEAD + "a.wav,A,Ben,y\n")
    grades_folder.write_views(folder, grade(folder, "r5", ["b.wav"], version="v2"), GRADES)
    export = str(tmp_path / "labels.csv")
    told = correct(folder.url(), None, export)
    assert (
        told == f"2 corrections as labels in {export}; 1 of recordings that were replaced or deleted since are left out"
    )
    labels = read_labels(Path(export).read_bytes(), export, LabelSettings(grades="A,B")).labels
    assert [(label.recording, label.grade) for label in labels] == [("a.wav", 1), ("broken.mp3", 0)]
    assert [row["corrected_why"] for row in read_csv(Path(export).read_bytes(), export)] == ["y", "=cmd"]
    assert b"'=cmd" in Path(export).read_bytes()
    correct(folder.url(), None, export)  # over an earlier export
    Path(export).write_text("recording,grade\na.wav,A\n")
    with pytest.raises(UserError, match="is no earlier export: choose another name"):
        said(folder, HEAD + "b.wav,B,Ann,z\n", export)
    assert rows(folder)["b.wav"]["grade"] == "A"  # refused before anything was written
    with pytest.raises(UserError, match="is a folder"):
        correct(folder.url(), None, str(tmp_path))


MARKED = MarkSettings(cuts="60", mark_range="0,100")


def test_a_mark_instead_of_a_grade_is_kept_and_the_grade_follows(folder: Store, tmp_path: Path) -> None:
    before = rows(folder)["a.wav"]
    head = "recording,mark,by,why\n"
    said(folder, head + 'a.wav,"59,5",Ann,wrong notes\nsilent.wav,60,Ann,4\'33\nbroken.mp3,7,Ben,live\n', marks=MARKED)
    now = rows(folder)
    assert [(now[name]["grade"], now[name]["corrected_mark"]) for name in ("a.wav", "silent.wav", "broken.mp3")] == [
        ("B", 59.5),
        ("A", 60.0),
        ("B", 7.0),
    ]
    assert now["b.wav"]["corrected_mark"] is None
    assert now["a.wav"]["mark"] == before["mark"]  # the model's
    # Another mark is another correction, though the grade stays; in a snapshot of the log it stands too.
    said(folder, head + "a.wav,50,Ann,wrong notes\n", marks=MARKED)
    log = CommitLog(folder, "grades")
    assert log.state().corrections["mark"].to_pylist() == [59.5, 60.0, 7.0, 50.0]
    log._compact(json.loads(folder.read(manifest_name(log.state().last)).data)["token"])
    for manifest in list(folder.list("manifests/00000000")):
        if manifest.name.endswith(".json") and manifest.name != manifest_name(log.state().last):
            folder.put(manifest.name, b"{}")  # what a reader that starts from the snapshot does not look at
    assert CommitLog(folder, "grades").state().corrections.equals(log.state().corrections)
    said(folder, head + "b.wav,80,Ann,fine\n", marks=MARKED)
    export = str(tmp_path / "labels.csv")
    assert correct(folder.url(), None, export) == f"4 corrections as labels in {export}"
    labels = read_labels(Path(export).read_bytes(), export, LabelSettings(grades="A,B")).labels
    assert {label.recording: label.mark for label in labels}["silent.wav"] == 60.0
    told = said(folder, HEAD + "b.wav,B,Ann,no mark\n", export)
    assert told.endswith(f"4 corrections as labels in {export}; no marks, since 3 give one and the others a grade")
    assert "mark" not in read_csv(Path(export).read_bytes(), export)[0]
    low = MarkSettings(cuts="3", mark_best="low", mark_range="1,6")
    said(folder, head + "b.wav,2,Ann,German school marks\n", marks=low)
    assert (rows(folder)["b.wav"]["grade"], rows(folder)["b.wav"]["corrected_mark"]) == ("A", 2.0)


def test_the_models_mark_in_a_copied_row_is_no_persons(folder: Store) -> None:
    said(folder, "recording,grade,mark,by,why\na.wav,B,88.5,Ann,wrong notes\n")
    assert (rows(folder)["a.wav"]["grade"], rows(folder)["a.wav"]["corrected_mark"]) == ("B", None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.wav,70,Ann,x\n", r"correction 1: 'a\.wav' has a mark and no grade: say with --cuts which marks"),
        ("a.wav,101,Ann,x\n", r"mark 101 of 'a\.wav' lies outside 0 to 100"),
        ("a.wav,good,Ann,x\n", r"mark 'good' of 'a\.wav' is no number"),
        ("a.wav,,Ann,x\n", "correction 1: grade is empty: fill it in"),
        ("a.wav,70,Ann,x\na.wav,71,Ben,x\n", "correction 2: 'a.wav' is to be 71, and 70 by correction 1: keep one"),
    ],
)
def test_a_mark_that_cannot_be_meant_is_refused(folder: Store, text: str, line: str) -> None:
    marks = None if "--cuts" in line else MARKED
    with pytest.raises(UserError, match=line):
        said(folder, "recording,mark,by,why\n" + text, marks=marks)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + "c.wav,A,Ann,x\n", r"correction 1: 'c\.wav' is in no grade and no failure: write the name as"),
        (HEAD + "a.wav,A,Ann,x\na.wav,C,Ann,x\n", r"correction 2: grade 'C' of 'a\.wav' is none of A,B"),
        ("recording,grade,by\na.wav,A,Ann\n", "no column why in recording,grade,by: the first line must name"),
        (HEAD + "a.wav,A,Ann,x\na.wav,B,Ben,x\n", "correction 2: 'a.wav' is to be B, and A by correction 1: keep one"),
        (HEAD + "a.wav,A,,x\n", "correction 1: by is empty: fill it in"),
        (HEAD + "a.wav,A,Ann,\n", "correction 1: why is empty: fill it in"),
        (HEAD, "no corrections in it"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line_and_nothing_is_written(
    folder: Store, text: str, line: str
) -> None:
    before = rows(folder), len(list(folder.list("manifests/")))
    with pytest.raises(UserError, match=line) as refused:
        said(folder, text)
    assert "\n" not in str(refused.value)
    assert (rows(folder), len(list(folder.list("manifests/")))) == before


def test_names_match_in_either_spelling_and_semicolons_will_do(folder: Store) -> None:
    grades_folder.write_views(folder, grade(folder, "r6", ["f\u00fcr \u00c9lise.wav"]), GRADES)
    said(
        folder, "why;by;grade;recording\nlovely;Ann;B;fu\u0308r E\u0301lise.wav\nlovely;Ann;B;f\u00fcr \u00c9lise.wav\n"
    )
    assert stands(rows(folder)["f\u00fcr \u00c9lise.wav"])[0::3] == ("B", "Ann")
    assert len(CommitLog(folder, "grades").state().corrections) == 1


def test_a_file_that_nobody_could_read_or_that_is_gone_has_no_version_to_correct(folder: Store) -> None:
    log = CommitLog(folder, "grades")
    state = log.state()
    unread = {**failed_item("denied.wav", "", "", RecordingError("read", "Permission denied", False)), "model_id": "m1"}
    log.commit("r7", SETTINGS, [unread, *outdated(state, [], ["a.wav"])])
    for name in ("denied.wav", "a.wav"):
        with pytest.raises(UserError, match=f"'{name}' could not be read, or is gone"):
            said(folder, HEAD + f"{name},A,Ann,x\n")


def test_a_folder_without_grades_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no grades there"):
        correct(str(tmp_path / "none"), None, str(tmp_path / "labels.csv"))
    assert not (tmp_path / "none").exists()
