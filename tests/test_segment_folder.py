import json

import pyarrow.parquet as pq
import pytest

from samplecnn.commits import DONE, OUTCOME, PART, STAMP, CommitLog, failed_item, restamped
from samplecnn.contract import RECORDING, VERSION, segments_schema
from samplecnn.errors import RecordingError, UserError
from samplecnn.segment_folder import (
    OUTCOMES_KEY,
    SETTINGS_KEY,
    finish_commit,
    open_segments,
    settings_json,
    staged_path,
    staged_shards,
    without,
)
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store
from tests.fixtures.child import LISA, school

SETTINGS = SegmentSettings()
DONE_ITEM = {RECORDING: "a.wav", VERSION: "1", STAMP: "s", OUTCOME: DONE}


def stage(store, items, settings=SETTINGS) -> None:
    with (
        store.open_output(staged_path("run", "shard.parquet")) as sink,
        pq.ParquetWriter(sink, segments_schema(5000, 500)) as writer,
    ):
        writer.add_key_value_metadata({OUTCOMES_KEY: json.dumps(items), SETTINGS_KEY: settings_json(settings)})


@pytest.mark.parametrize(
    ("items", "settings", "adopted"),
    [
        ([DONE_ITEM], SETTINGS, True),
        ([failed_item("a.wav", "1", "s", RecordingError("decode", "broken"))], SETTINGS, True),
        ([failed_item("a.wav", "1", "s", RecordingError("read", "storage is away", False))], SETTINGS, False),
        ([{**DONE_ITEM, VERSION: "0"}], SETTINGS, False),
        ([{**DONE_ITEM, RECORDING: "gone.wav"}], SETTINGS, False),
        ([DONE_ITEM], SegmentSettings(hop_s=5.0), False),
    ],
    ids=["whole", "broken for good", "failed in passing", "older version", "deleted", "other settings"],
)
def test_a_shard_of_a_killed_run_is_taken_over_only_where_it_still_fits(items, settings, adopted, tmp_path):
    store = open_store(str(tmp_path))
    stage(store, items, settings)
    adopt, remove = staged_shards(store, SETTINGS, {"a.wav": "1"})
    assert (len(adopt), len(remove)) == ((1, 0) if adopted else (0, 1))


def test_half_a_shard_is_cleared_away(tmp_path):
    store = open_store(str(tmp_path))
    store.put(staged_path("run", "shard.parquet"), b"PAR1 and then the power went")
    assert staged_shards(store, SETTINGS, {"a.wav": "1"}) == ([], [staged_path("run", "shard.parquet")])


def test_a_parquet_file_that_says_nothing_of_its_recordings_is_cleared_away(tmp_path):
    store = open_store(str(tmp_path))
    with (
        store.open_output(staged_path("run", "shard.parquet")) as sink,
        pq.ParquetWriter(sink, segments_schema(5000, 500)) as writer,
    ):
        writer.add_key_value_metadata({SETTINGS_KEY: settings_json(SETTINGS)})
    assert staged_shards(store, SETTINGS, {"a.wav": "1"}) == ([], [staged_path("run", "shard.parquet")])


def test_a_shard_is_rewritten_as_often_as_may_be_and_keeps_what_the_log_says_of_its_others(tmp_path):
    school(str(tmp_path))
    store = open_store(str(tmp_path / "segments"))
    commits = CommitLog(store, "segments")
    state = commits.state()
    newer = restamped(state, {("a.wav", "v1"): "touched"})
    state = commits.commit("r2", state.settings, newer)
    path = "data/s1.parquet"
    for number in range(12):
        rest = without(store, path, {"gone.wav"}, f"run{number}", state)
        if number == 0:
            assert {item[RECORDING]: item[STAMP] for item in rest.items} == {"a.wav": "touched", LISA: "", "b.wav": ""}
        path = rest.path
        assert len(rest.name) < 40
        assert rest.rows == 9


def test_a_driver_with_an_old_log_removes_nothing_that_another_one_has_committed_since(tmp_path):
    school(str(tmp_path))
    store = open_store(str(tmp_path / "segments"))
    old = CommitLog(store, "segments").state()  # and here this driver fell asleep
    rest = without(store, "data/s1.parquet", {"b.wav"}, "other", old)
    new = f"data/{rest.name}"
    state = CommitLog(store, "segments")
    state.state()
    parts = [{"path": new, "rows": rest.rows}]
    items = [{**item, PART: new} for item in rest.items]
    finish_commit(store, state.commit("other", old.settings, items, parts, removed=["data/s1.parquet"]))
    store.put("data/orphan.parquet", b"PAR1")
    finish_commit(store, old)
    assert [entry.name for entry in store.list("data/")] == [new]


def test_settings_of_another_version_are_refused_with_the_cure(tmp_path):
    CommitLog(open_store(str(tmp_path)), "segments").commit("r", {"sample_rate": 500, "mood": "sad"}, [])
    with pytest.raises(UserError, match=r"another version of samplecnn \(.*mood.*\): prepare again"):
        open_segments(str(tmp_path))
