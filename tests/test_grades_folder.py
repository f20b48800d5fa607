"""A grades folder: the latest view takes old rows from itself and new ones from parts; a model's grades come back."""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samplecnn import grades_folder
from samplecnn.commits import DELETED, CommitLog, LogState, outdated
from samplecnn.contract import LATEST_CSV, LATEST_PARQUET, latest_schema
from samplecnn.errors import JobError, UserError
from samplecnn.store import Store, open_store
from samplecnn.tables import parquet_bytes
from tests.fixtures.gcs import Gate, gcs_store
from tests.fixtures.grades import GRADES, SETTINGS, grade
from tests.fixtures.scripts import run_script


@pytest.fixture
def folder(tmp_path: object) -> Store:
    return open_store(f"{tmp_path}/grades")


def view(store: Store, state: LogState) -> list[tuple[str, str, str]]:
    """(recording, version, model) of latest.*, written anew; the log alone says the same."""
    rows = grades_folder.write_views(store, state, GRADES)
    written = pq.read_table(io.BytesIO(store.read(LATEST_PARQUET).data))
    assert written.equals(rows)
    store.put(LATEST_PARQUET, b"broken")
    assert grades_folder.latest(store, state, GRADES).equals(rows)
    store.put(LATEST_PARQUET, parquet_bytes(written))
    return [tuple(row.values()) for row in rows.select(["recording", "version", "model_id"]).to_pylist()]


def test_the_latest_view_follows_the_log_step_by_step(folder: Store) -> None:
    assert view(folder, grade(folder, "r1", "abc")) == [("a", "v1", "m1"), ("b", "v1", "m1"), ("c", "v1", "m1")]
    assert view(folder, grade(folder, "r2", "b", version="v2")) == [
        ("a", "v1", "m1"),
        ("b", "v2", "m1"),
        ("c", "v1", "m1"),
    ]
    state = grade(folder, "r3", "ad", "m2")
    expected = [("a", "v1", "m2"), ("b", "v2", "m1"), ("c", "v1", "m1"), ("d", "v1", "m2")]
    assert view(folder, state) == expected
    log = CommitLog(folder, "grades", known=state)
    state = log.commit("r4", SETTINGS, outdated(state, [], ["a", "c"]))
    assert view(folder, state) == [expected[1], expected[3]]
    assert view(folder, grade(folder, "r5", "a")) == [("a", "v1", "m1"), expected[1], expected[3]]


def test_a_night_reads_its_own_parts_alone(gate: Gate, bucket: str) -> None:
    store = gcs_store(gate, bucket)
    for number in range(1, 4):
        state = grade(store, f"r{number}", [f"{number}.wav"])
    grades_folder.write_views(store, state, GRADES)
    state = grade(store, "r4", ["new.wav"])
    gate.clear()
    grades_folder.write_views(store, state, GRADES)
    asked = gate.requests()
    assert sum("/o/school/grades/parts/" in request for request in asked) == 1
    besides = [request for request in asked if "prefix=" not in request]
    assert [request.split()[0] for request in besides] == ["GET", "GET", "POST", "POST"]  # failures.csv is as it was
    gate.clear()
    grades_folder.write_views(store, state, GRADES)
    assert [request.split()[0] for request in gate.requests() if "prefix=" not in request] == ["GET"]


def test_a_part_in_hand_is_not_read_back_and_one_that_the_log_does_not_name_does_not_count(folder: Store) -> None:
    state = grade(folder, "r1", "abc")
    path = grades_folder.recordings_part("r1", 1)
    rows = pq.read_table(io.BytesIO(folder.read(path).data))
    ours = rows.set_column(3, rows.schema.field(3), pa.array([0.0] * 3))  # as good as the log's, but not the log's
    in_hand = {path: rows, grades_folder.recordings_part("r9", 1): ours}
    folder.delete(path)
    assert grades_folder.write_views(folder, state, GRADES, in_hand).select(rows.column_names).equals(rows)
    other = grade(folder, "r2", "c", "m2")  # another run goes on meanwhile: its rows come from its own part
    assert grades_folder.write_views(folder, state, GRADES, in_hand)["model_id"].to_pylist() == ["m1", "m1", "m2"]
    assert other.last == state.last + 1


def _of_other_grades(data: bytes) -> bytes:
    return parquet_bytes(
        latest_schema(("C", "B", "A")).empty_table().replace_schema_metadata({"samplecnn.manifest": "1"})
    )


def _of_a_later_log(data: bytes) -> bytes:
    rows = pq.read_table(io.BytesIO(data))
    score = rows.schema.get_field_index("score")
    wrong = rows.set_column(score, rows.schema.field(score), pa.array([0.0] * len(rows)))
    return parquet_bytes(wrong.replace_schema_metadata({"samplecnn.manifest": "99"}))


def _rotten(data: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


def _edited(data: bytes) -> bytes:
    sink = io.BytesIO()
    pq.read_table(io.BytesIO(data)).to_pandas().assign(score=0.0).to_parquet(sink)
    return sink.getvalue()


def _of_no_log(data: bytes) -> bytes:
    return parquet_bytes(pq.read_table(io.BytesIO(data)).replace_schema_metadata({"samplecnn.manifest": "the last"}))


@pytest.mark.parametrize("change", [_of_other_grades, _of_a_later_log, _of_no_log, _rotten, _edited, lambda data: b""])
def test_a_latest_view_that_is_not_ours_is_made_again_from_the_parts(
    folder: Store, change: Callable[[bytes], bytes]
) -> None:
    rows = grades_folder.write_views(folder, grade(folder, "r1", "abc"), GRADES)
    data = folder.read(LATEST_PARQUET).data
    folder.put(LATEST_PARQUET, change(data))
    assert grades_folder.write_views(folder, CommitLog(folder, "grades").state(), GRADES).equals(rows)
    assert folder.read(LATEST_PARQUET).data == data


def test_a_part_that_is_lost_is_named(folder: Store) -> None:
    state = grade(folder, "r1", "abc")
    folder.delete(grades_folder.recordings_part("r1", 1))
    with pytest.raises(JobError, match=r"parts/r1/recordings-00001\.parquet: missing, though the log names it"):
        grades_folder.write_views(folder, state, GRADES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.rename_columns({"recording": "file"}), "it lacks recording"),
        (lambda rows: rows.drop_columns(["model_id", "version"]), "it lacks model_id, version"),
        (lambda rows: rows.set_column(rows.schema.get_field_index("score"), "score", [["high"] * len(rows)]), "high"),
        (lambda rows: rows.set_column(0, "recording", [[[1.0]] * len(rows)]), "list"),
    ],
)
def test_a_part_of_other_columns_is_named(folder: Store, change: Callable[[pa.Table], pa.Table], words: str) -> None:
    state = grade(folder, "r1", "abc")
    path = grades_folder.recordings_part("r1", 1)
    folder.put(path, parquet_bytes(change(pq.read_table(io.BytesIO(folder.read(path).data)))))
    with pytest.raises(JobError, match=rf"parts/r1/recordings-00001\.parquet: .*no part of these grades.*{words}"):
        grades_folder.write_views(folder, state, GRADES)


@pytest.mark.parametrize("damage", [_rotten, lambda data: data[:50], lambda data: b"PAR1"])
def test_a_damaged_part_is_named(folder: Store, damage: Callable[[bytes], bytes]) -> None:
    state = grade(folder, "r1", "abc")
    path = grades_folder.recordings_part("r1", 1)
    folder.put(path, damage(folder.read(path).data))
    with pytest.raises(JobError, match=r"parts/r1/recordings-00001\.parquet: damaged"):
        grades_folder.write_views(folder, state, GRADES)


def models(store: Store) -> list[tuple[str, int, int]]:
    found = grades_folder.graded_by(store, CommitLog(store, "grades").state())
    return [(model.model_id, model.graded, model.current) for model in found]


def test_an_earlier_models_grades_become_the_current_ones_and_nothing_is_lost(folder: Store) -> None:
    grade(folder, "r1", "abcd")
    grade(folder, "r2", "d", version="v2")
    grade(folder, "r3", "abe", "m2")
    state = grade(folder, "r4", "d", "m2", version="v2")
    assert models(folder) == [("m1", 4, 1), ("m2", 4, 4)]

    back, changed, without = grades_folder.use_model(CommitLog(folder, "grades"), "back", "m1")

    assert (back.last, changed, without) == (state.last + 1, 3, 1)
    assert view(folder, back) == [
        ("a", "v1", "m1"),
        ("b", "v1", "m1"),
        ("c", "v1", "m1"),
        ("d", "v2", "m1"),
        ("e", "v1", "m2"),
    ]
    assert len(back.items) == len(state.items)
    assert models(folder) == [("m1", 4, 4), ("m2", 4, 1)]
    again, changed, _ = grades_folder.use_model(CommitLog(folder, "grades"), "again", "m1")
    assert (again.last, changed) == (back.last, 0)
    grades_folder.use_model(CommitLog(folder, "grades"), "forth", "m2")
    assert models(folder) == [("m1", 4, 1), ("m2", 4, 4)]
    with pytest.raises(UserError, match="--model-id m3: has no grade here"):
        grades_folder.use_model(CommitLog(folder, "grades"), "r", "m3")


def test_going_back_does_not_bring_back_what_another_run_replaced_meanwhile(folder: Store) -> None:
    grade(folder, "r1", "ab")
    grade(folder, "r2", "ab", "m2")
    back = CommitLog(folder, "grades")
    state = back.state

    def overtaken() -> LogState:
        found = state()
        grade(folder, "r3", "a", "m2", version="v2")
        CommitLog(folder, "grades").commit("r4", SETTINGS, [])
        return found

    back.state = overtaken  # type: ignore[method-assign]
    log, changed, _ = grades_folder.use_model(back, "back", "m1")
    assert changed == 1
    assert view(folder, log) == [("a", "v2", "m2"), ("b", "v1", "m1")]
    assert DELETED in log.items["outcome"].to_pylist()


def test_the_script_lists_the_models_and_goes_back(folder: Store) -> None:
    grade(folder, "r1", "ab")
    grade(folder, "r2", "ab", "m2")
    listed = run_script("use_model", "--grades", folder.url())
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["model", "graded", "current", "first", "last", "(UTC)"],
        ["m1", "2", "0", "2026-11-01", "00:00", "2026-11-01", "00:00"],
        ["m2", "2", "2", "2026-11-02", "00:00", "2026-11-02", "00:00"],
    ], listed.stderr
    said = run_script("use_model", "--grades", folder.url(), "--model-id", "m1")
    assert said.stdout.startswith("2 grades changed to those of model m1; see "), said.stderr
    assert folder.read(LATEST_CSV).data.count(b"m1") == 2
    ended = run_script("use_model", "--grades", folder.url() + "-none")
    assert ended.returncode == 2
    assert "no grades there" in ended.stderr


def test_grades_made_before_a_column_was_kept_are_read_with_nothing_in_it(folder: Store) -> None:
    state = grade(folder, "r1", ["a"])
    path = grades_folder.recordings_part("r1", 1)
    part = pq.read_table(io.BytesIO(folder.read(path).data))
    folder.put(path, parquet_bytes(part.drop_columns(["playing_s", "rms_dbfs", "source_rate"])))
    rows = grades_folder.write_views(folder, state, GRADES)
    assert rows["rms_dbfs"].to_pylist() == [None]
    assert rows["grade"].to_pylist() == ["A"]
