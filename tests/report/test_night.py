"""The last run: what it brought, what it is unlike, and which recordings a person should grade next."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samplecnn.audio import Decoded
from samplecnn.commits import DONE, OUTCOME, PART, CommitLog
from samplecnn.contract import LABEL_NEXT_CSV
from samplecnn.corrections import correct
from samplecnn.inputs import inputs_of_grades, inputs_of_segments
from samplecnn.report.grading import read_grades
from samplecnn.report.night import LABELS, drifts, label_next, last_night
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.segment_folder import data_path, open_segments
from samplecnn.segments import SegmentSettings, activity, cut, playing_dbfs
from samplecnn.store import open_store
from samplecnn.tables import read_csv
from tests.fixtures.heard import commit, heard
from tests.fixtures.jobs import run_job
from tests.report.test_write import data_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Forty recordings of one night, and ten of the next, which are far louder, one of them odd."""
    store = open_store(f"{tmp_path}/grades")
    commit(store, "20261126-r1", [heard(f"first {n}.wav", n) for n in range(40)], {"bad.mp3": "no sound"})
    loud = [heard(f"loud {n}.wav", 100 + n, rms_dbfs=-8.0 - n / 10) for n in range(10)]
    for row in loud[4]["segment_rows"]:
        row["sketch"] = [9.0] * 8
    commit(store, "20261127-r2", loud, {"worse.mp3": "no sound"})
    return tmp_path / "grades"


def test_the_last_run_is_told_apart_and_its_drift_is_a_warning(place: Path) -> None:
    night = last_night(read_grades(str(place)), {})
    assert (night.run, night.graded, night.not_gradable, night.failed) == ("20261127-r2", 10, 0, 1)
    assert [drift.name for drift in night.drifts if drift.is_unlike] == ["level"]
    (level,) = (drift for drift in night.drifts if drift.name == "level")
    assert level.sentence.startswith("level: median -8.45 dBFS, before -2")
    said = write_report(Sources(grades=str(place))).splitlines()
    assert said[1].startswith("warning: the last run is unlike the recordings before: level: median")
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "are unlike the recordings before" in page
    assert replace(night, run="20261127T031500-1a2b").began == "2026-11-27 03:15 UTC"
    rows = data_of(page)["rows"]
    assert {name for name, of_it in zip(rows["name"], rows["night"], strict=True) if of_it} == {
        "worse.mp3",
        *(f"loud {n}.wav" for n in range(10)),
    }


def test_a_failed_recording_that_a_person_graded_was_graded_by_no_run(place: Path) -> None:
    path = place.parent / "corrections.csv"
    path.write_text("recording,grade,by,why\nworse.mp3,A,Ann,heard it\n", encoding="utf-8")
    correct(str(place), str(path), None)
    night = last_night(read_grades(str(place)), {})
    assert (night.graded, night.not_gradable, night.failed) == (10, 0, 1)
    assert int(night.row_R.sum()) == 11  # and it came in that run
    assert [drift.name for drift in night.drifts if drift.is_unlike] == ["level"]


def test_what_is_like_before_gives_no_warning_in_ninety_nine_of_a_hundred_nights() -> None:
    rng = np.random.default_rng(0)
    names = ("level", "length", "sample rate", "share of playing", "score")
    nights = 400
    warned = 0
    for _ in range(nights):
        tonight, before = ({name: rng.standard_normal(size) for name in names} for size in (30, 300))
        warned += any(drift.is_unlike for drift in drifts(tonight, before))
    assert warned / nights < 0.03
    assert drifts({name: np.ones(4) for name in names}, {name: np.ones(40) for name in names}) == []


def test_prepared_and_graded_recordings_are_measured_alike(tmp_path: Path) -> None:
    """What a shard says of a recording is what grade says of it."""
    power_F = np.repeat([1e-8, 0.01, 0.0, 0.04], [100, 200, 60, 190])  # 27.5 s, silent between
    wave_T = np.zeros(13_750, np.float32)
    settings = SegmentSettings()
    batches = list(cut("a.wav", "v1", Decoded(wave_T, 500, power_F, 27.5, 48_000, 1, "flac", ()), settings))
    store = open_store(f"{tmp_path}/segments")
    with store.open_output(data_path("s.parquet")) as sink:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_batches(batches), sink)
    item = {"recording": "a.wav", "version": "v1", OUTCOME: DONE, PART: data_path("s.parquet")}
    item |= {"segments": 3, "duration_s": 27.5, "source_rate": 48_000, "channels": 1, "codec": "flac"}
    parts = [{"path": data_path("s.parquet"), "rows": 3}]
    CommitLog(store, "segments").state()
    CommitLog(store, "segments").commit("r1", vars(settings), [item], parts)
    (level,), (length,), (rate,), (share,) = inputs_of_segments(open_segments(str(tmp_path / "segments"))).values()
    active_F = activity(power_F)
    assert (length, rate) == (27.5, 48_000)
    assert share == pytest.approx(active_F.mean(), abs=0.01)
    assert level == pytest.approx(playing_dbfs(power_F, active_F), abs=0.1)


def test_what_to_label_next_is_what_is_unsure_or_unlike_and_fits_the_correct_job(place: Path) -> None:
    (place.parent / "corrections.csv").write_text("recording,grade,by,why\nfirst 3.wav,A,Ann,heard\n")
    correct(str(place), f"{place.parent}/corrections.csv", None)
    ended = run_job("report", "--grades", place)
    assert ended.returncode == 0, ended.stderr
    rows = read_csv((place / LABEL_NEXT_CSV).read_bytes(), "label_next")
    folder = read_grades(str(place))
    confidence = dict(zip(*(folder.recordings[name].to_pylist() for name in ("recording", "confidence")), strict=True))
    del confidence["first 3.wav"]
    assert len(rows) == len({row["recording"] for row in rows}) == LABELS
    assert rows[0]["recording"] == min(confidence, key=confidence.get)
    assert (rows[1]["recording"], rows[1]["because"]) == ("loud 4.wav", "it sounds unlike the others to the model")
    assert "first 3.wav" not in {row["recording"] for row in rows}
    filled = "recording,grade,by,why,version,because\n" + "".join(
        f"{row['recording']},B,Ben,heard,{row['version']},{row['because']}\n" for row in rows
    )
    (place.parent / "corrections.csv").write_text(filled)
    assert correct(str(place), f"{place.parent}/corrections.csv", None).startswith(f"{LABELS} corrections")
    assert not {row["recording"] for row in rows} & set(label_next(read_grades(str(place)))["recording"].to_pylist())


def test_grades_made_before_levels_were_kept_are_compared_by_what_they_have(tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/grades")
    older = {"playing_s": None, "rms_dbfs": None, "source_rate": None}
    commit(store, "20261126-r1", [heard(f"{n}.wav", n, **older) for n in range(9)])
    commit(store, "20261127-r2", [heard(f"b{n}.wav", n) for n in range(9)])
    folder = read_grades(str(tmp_path / "grades"))
    assert np.isnan(inputs_of_grades(folder.recordings)["level"][:9]).all()
    assert [drift.name for drift in last_night(folder, {}).drifts] == ["length", "score"]
    assert "the training data" in last_night(folder, {"level": np.zeros(9)}, [0.5] * 9).compared_with
    of_model = {"level": np.zeros(9), "score": np.zeros(9)}
    assert last_night(folder, of_model).compared_with == "the training data, scores with those of the evaluation"


def test_training_data_without_grades_is_refused(tmp_path: Path) -> None:
    ended = run_job("report", "--evaluation", tmp_path, "--segments", tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
