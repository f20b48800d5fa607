import json
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from samplecnn import model_folder
from samplecnn.contract import (
    CONFIDENCE,
    CORRECTED_BY,
    DURATION_S,
    FAILURES_CSV,
    GRADABLE,
    GRADE,
    GRADED_AT,
    LATEST_CSV,
    LATEST_PARQUET,
    LEVEL_S,
    LEVELS,
    MACHINE_GRADE,
    MESSAGE,
    MODEL_FILE,
    MODEL_ID,
    PLAYING_S,
    REASON,
    RECORDING,
    REPORT_HTML,
    RMS_DBFS,
    SCORE,
    SKETCH,
    SOURCE_RATE,
    VERSION,
    WARNING,
    WEIGHT,
    WEIGHTS_FILE,
)
from samplecnn.corrections import correct
from samplecnn.errors import UserError
from samplecnn.operations.machines import Wanted
from samplecnn.operations.night import MARK
from samplecnn.operations.night_job import grade_night
from samplecnn.pipelines import grade as grading
from samplecnn.pipelines.grade_few import grade_few
from samplecnn.sketch import NUMBERS
from samplecnn.tables import read_csv
from samplecnn.terminal import grade_line, heading, width_of
from tests.fixtures.audio import noise, tone, truncate, write_audio
from tests.fixtures.files import allowed
from tests.fixtures.jobs import RATE, kill_job_when, run_job, write_recordings
from tests.fixtures.models import SETTINGS, publish
from tests.fixtures.scripts import run_script

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
# One worker of a kind: most of what a test waits for is workers that start, two at a time on two cores.
grade = partial(grading.grade, workers=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return publish(tmp_path_factory.mktemp("model") / "model")


def latest(grades: Path) -> dict[str, dict]:
    """Rows by recording, without the time at which they were made."""
    rows = pq.read_table(grades / LATEST_PARQUET).drop_columns([GRADED_AT]).to_pylist()
    return {row[RECORDING]: row for row in rows}


def segment_rows(grades: Path) -> list[tuple]:
    """What the parts that the log names say of the segments."""
    parts = [
        part["path"]
        for p in sorted((grades / "manifests").glob("*.json"))
        for part in json.loads(p.read_text())["parts"]
    ]
    table = ds.dataset([str(grades / path) for path in parts if "segments-" in path], format="parquet").to_table()
    return sorted(tuple(row.values()) for row in table.to_pylist())


@pytest.fixture(scope="module")
def undisturbed(recordings, model, one_ray, tmp_path_factory) -> Path:
    grades = tmp_path_factory.mktemp("undisturbed") / "grades"
    outcome = grade(str(recordings[0]), model, str(grades))
    assert (outcome.done, outcome.failed, outcome.kept) == (12, 0, 0)
    return grades


def test_every_recording_gets_one_grade_that_people_and_programs_can_read(recordings, undisturbed):
    rows = latest(undisturbed)
    assert set(rows) == set(os.listdir(recordings[0]))
    for row in rows.values():
        assert row[GRADE] in "ABC"
        assert 0 <= row[SCORE] <= 1
        assert row["p_A"] + row["p_B"] + row["p_C"] == pytest.approx(1)
        assert row[CONFIDENCE] == row[f"p_{row[GRADE]}"]
        assert 0 < row[PLAYING_S] <= row[DURATION_S]
        assert -40 < row[RMS_DBFS] < 0
        assert row[SOURCE_RATE] in (RATE, 48_000)  # Opus knows no 8 kHz outside
    for row in read_csv((undisturbed / LATEST_CSV).read_bytes(), "latest"):
        assert row[GRADE] == rows[row[RECORDING]][GRADE]
    weights: dict[str, float] = {}
    table = ds.dataset(undisturbed / "parts", format="parquet", exclude_invalid_files=True)
    for path in table.files:
        if "segments-" in path:
            for row in pq.read_table(path).to_pylist():
                weights[row[RECORDING]] = weights.get(row[RECORDING], 0) + row[WEIGHT]
                assert len(row[LEVELS]) == SETTINGS.segment_s / LEVEL_S
                assert -120 <= min(row[LEVELS]) <= max(row[LEVELS]) < 0
                assert np.isfinite(row[SKETCH]).all()
                assert len(row[SKETCH]) == NUMBERS
    assert set(weights) == set(rows)
    assert all(total == pytest.approx(1) for total in weights.values())


def test_a_few_recordings_graded_from_the_terminal_get_the_grades_of_the_folder(recordings, model, undisturbed):
    lines: list[str] = []
    outcome = grade_few([str(recordings[0])], model, lines.append)
    assert (outcome.done, outcome.failed) == (12, 0)
    rows = [{**row, RECORDING: f"{recordings[0]}/{name}"} for name, row in sorted(latest(undisturbed).items())]
    width = width_of([row[RECORDING] for row in rows])
    assert sorted(lines) == sorted([heading(width), *(grade_line(row, width) for row in rows)])


def test_a_night_in_which_nothing_is_new_ends_with_the_report(recordings, model, undisturbed, tmp_path):
    grades = tmp_path / "grades"
    shutil.copytree(undisturbed, grades)
    ended = run_script("grade_night", "--recordings", recordings[0], "--model", model, "--grades", grades)
    assert ended.returncode == 0, ended.stderr
    kept, record, *counts, last = ended.stdout.splitlines()
    assert kept.startswith("12 recordings: 0 graded, 12 kept")
    assert json.loads(record.removeprefix(MARK))["counts"]["kept"] == 12
    assert counts[0].endswith("0 not gradable, 0 failed")
    assert last.endswith(f": {grades}/{REPORT_HTML}")
    assert (grades / REPORT_HTML).stat().st_size > 30_000


def test_grading_again_keeps_every_grade(recordings, model, undisturbed):
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*.*") if p.is_file()}
    outcome = grade(str(recordings[0]), model, str(undisturbed))
    assert (outcome.done, outcome.kept) == (0, 12)
    assert {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*.*") if p.is_file()} == before


@pytest.mark.parametrize(("workers", "count"), [(2, 12), (1, 3)])
def test_grades_are_the_same_bit_for_bit_with_other_workers_and_other_company(
    workers, count, recordings, model, undisturbed, tmp_path
):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in sorted(os.listdir(recordings[0]))[:count]:
        shutil.copy(recordings[0] / name, folder)
    grade(str(folder), model, str(tmp_path / "grades"), workers=workers)
    found, all_of_them = latest(tmp_path / "grades"), latest(undisturbed)
    assert len(found) == count
    for name, row in found.items():
        assert row == all_of_them[name]
    names = set(found)
    assert segment_rows(tmp_path / "grades") == [row for row in segment_rows(undisturbed) if row[0] in names]


def test_a_stored_recording_and_the_same_one_decoded_get_the_same_grade(recordings, model, undisturbed, tmp_path):
    """Evaluation hears recordings rebuilt from segments, grading decodes them: nothing may lie between the two."""
    from samplecnn.batches import read_recordings
    from samplecnn.infer import Grader
    from samplecnn.labels import Label
    from samplecnn.pipelines.prepare import prepare
    from samplecnn.segment_folder import open_segments

    prepare(str(recordings[0]), str(tmp_path / "segments"), SETTINGS)
    folder = open_segments(str(tmp_path / "segments"))
    labels = {name: [Label(name, 0, name)] for name in os.listdir(recordings[0])}
    stored = read_recordings(folder.filesystem, folder.paths, labels, SETTINGS, str(tmp_path))
    torch.set_num_threads(1)
    grader = Grader(*model_folder.load(model), torch.device("cpu"))
    rows = latest(undisturbed)
    for i, name in enumerate(stored.names):
        merged = grader.grade(stored.waveform(i), stored.active_RF[i]).merged
        assert merged.probs_G.tolist() == [rows[name][f"p_{g}"] for g in "CBA"]


def test_what_cannot_be_graded_says_why_and_the_rest_goes_on(model, tmp_path):
    folder, grades = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_audio(folder / "good.wav", tone(100, 5, 8000), 8000)
    write_audio(folder / "silent.wav", np.zeros((1, 40_000), np.float32), 8000)
    write_audio(folder / "short.wav", tone(100, 0.9, 8000), 8000)
    treble = tone(3000, 5, 8000) * np.hanning(40_000).astype(np.float32)  # nothing of it is left at 500 Hz
    write_audio(folder / "treble.wav", treble, 8000)
    truncate(write_audio(folder / "half.flac", noise(20, 8000), 8000), 0.5)
    (folder / "text.mp3").write_text("no sound")

    outcome = grade(str(folder), model, str(grades))

    assert (outcome.done, outcome.failed) == (5, 1)
    assert str(outcome).startswith("6 recordings: 2 graded, 3 not gradable, 1 failed")
    rows = latest(grades)
    assert set(rows) == {"good.wav", "silent.wav", "treble.wav", "short.wav", "half.flac"}
    assert rows["good.wav"][GRADABLE]
    for name, reason in (
        ("silent.wav", "silent: "),
        ("treble.wav", "silent: "),
        ("short.wav", "too little playing: 0.9"),
    ):
        assert not rows[name][GRADABLE]
        assert rows[name][REASON].startswith(reason)
        assert rows[name][GRADE] is rows[name][SCORE] is rows[name]["p_A"] is None
    assert "decoded in part" in rows["half.flac"][WARNING]
    assert [row[RECORDING] for row in read_csv((grades / FAILURES_CSV).read_bytes(), "failures")] == ["text.mp3"]
    assert outcome.exit_code(strict=False) == 0
    assert outcome.exit_code(strict=True) == 1


def test_another_models_grades_are_kept_or_made_again_only_when_asked(recordings, model, tmp_path):
    folder, grades = tmp_path / "recordings", tmp_path / "grades"
    rows = write_recordings(folder, 2)
    grade(str(folder), model, str(grades))
    other = publish(tmp_path / "other", seed=5)
    first = latest(grades)
    write_recordings(folder, 1, first=2)

    with pytest.raises(UserError, match="--new-only keeps those, --regrade"):
        grade(str(folder), other, str(grades))
    night = grade(str(folder), other, str(grades), new_only=True)
    assert (night.done, night.kept) == (1, 2)
    assert all(latest(grades)[name] == first[name] for name, _ in rows)

    again = grade(str(folder), other, str(grades), regrade=True)
    assert (again.done, again.kept) == (2, 1)

    manifests = sorted(grades.glob("manifests/*.json"))
    folder.rename(tmp_path / "unmounted")
    with pytest.raises(UserError, match="--recordings"):
        grade(str(folder), model, str(grades), regrade=True)
    assert sorted(grades.glob("manifests/*.json")) == manifests
    (tmp_path / "unmounted").rename(folder)

    assert len({row[MODEL_ID] for row in latest(grades).values()}) == 1
    assert grade(str(folder), other, str(grades)).kept == 3

    back = grade(str(folder), model, str(grades), regrade=True)
    assert (back.done, back.kept) == (1, 2)  # its earlier grades count again
    assert all(latest(grades)[name] == first[name] for name, _ in rows)
    assert len({row[MODEL_ID] for row in latest(grades).values()}) == 1
    with pytest.raises(UserError, match="contradict"):
        grade(str(folder), other, str(grades), regrade=True, new_only=True)


def test_a_correction_outlives_models_and_not_the_upload_that_was_heard(model, tmp_path):
    folder, grades = tmp_path / "recordings", tmp_path / "grades"
    (name, _), (other, _), (broken, _) = write_recordings(folder, 3)
    (folder / broken).write_text("no sound")
    grade(str(folder), model, str(grades))
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(f"recording,grade,by,why\n{name},A,Ann,x\n{other},C,Ann,x\n{broken},B,Ann,heard it live\n")
    assert correct(str(grades), str(corrections), None).startswith("3 corrections: 3 new, 1 of recordings that failed")

    grade(str(folder), publish(tmp_path / "other", seed=5), str(grades), regrade=True)
    by_other = latest(grades)
    assert {n: row[GRADE] for n, row in by_other.items()} == {name: "A", other: "C", broken: "B"}
    assert len({row[MODEL_ID] for row in by_other.values()} - {by_other[broken][MODEL_ID]}) == 1

    write_audio(folder / name, tone(90, 7, 8000), 8000)
    write_audio(folder / broken, tone(90, 6, 8000), 8000)
    closing = str(grade(str(folder), model, str(grades), regrade=True))
    now = latest(grades)
    assert {n: row[CORRECTED_BY] for n, row in now.items()} == {name: None, other: "Ann", broken: None}
    assert now[name][GRADE] == now[name][MACHINE_GRADE]
    counted = Counter(row[GRADE] for row in now.values())  # as they stand, corrections and all
    assert "; now " + ", ".join(f"{counted[g]} {g}" for g in "ABC" if counted[g]) in closing


def test_changed_recordings_are_graded_again_and_deleted_ones_leave_the_latest_view(model, tmp_path):
    folder, grades = tmp_path / "recordings", tmp_path / "grades"
    rows = write_recordings(folder, 3)
    grade(str(folder), model, str(grades))
    before = latest(grades)
    (folder / rows[0][0]).unlink()
    write_audio(folder / rows[1][0], tone(90, 7, 8000), 8000)

    outcome = grade(str(folder), model, str(grades))

    assert (outcome.done, outcome.kept) == (1, 1)
    now = latest(grades)
    assert set(now) == {rows[1][0], rows[2][0]}
    assert now[rows[1][0]][VERSION] != before[rows[1][0]][VERSION]
    assert now[rows[2][0]] == before[rows[2][0]]


def test_a_recording_that_cannot_be_read_for_a_night_keeps_its_grade_and_is_not_graded_twice(model, tmp_path):
    folder, grades = tmp_path / "recordings", tmp_path / "grades"
    (name, _), (other, _) = write_recordings(folder, 2)
    grade(str(folder), model, str(grades))
    before = latest(grades)
    os.utime(folder / name, (0, 0))  # touched, so that it must be read

    with allowed(folder / name, 0):
        night = grade(str(folder), model, str(grades))
    assert (night.done, night.failed, night.kept) == (0, 1, 1)
    assert latest(grades) == before
    assert [(row[RECORDING], row[MESSAGE]) for row in read_csv((grades / FAILURES_CSV).read_bytes(), "failures")] == [
        (name, "Permission denied")
    ]

    morning = grade(str(folder), model, str(grades))
    assert (morning.done, morning.failed, morning.kept) == (0, 0, 2)
    assert latest(grades) == before
    assert read_csv((grades / FAILURES_CSV).read_bytes(), "failures") == []
    assert {row[0] for row in segment_rows(grades)} == {name, other}
    assert len(list(grades.glob("parts/*"))) == 1


def test_a_grades_folder_belongs_to_its_recordings_and_grades(model, undisturbed, recordings, tmp_path):
    write_recordings(tmp_path / "elsewhere", 1)
    with pytest.raises(UserError, match="--recordings"):
        grade(str(tmp_path / "elsewhere"), model, str(undisturbed))
    with pytest.raises(UserError, match="holds grades A,B,C, and this model gives gold,silver,bronze"):
        grade(str(recordings[0]), publish(tmp_path / "m", grades="gold,silver,bronze"), str(undisturbed))


def test_a_model_of_other_constants_or_a_broken_one_is_refused(recordings, tmp_path):
    model = publish(tmp_path / "model")
    (weights,) = (tmp_path / "model").glob("*/model.safetensors")
    weights.write_bytes(b"pickle")
    with pytest.raises(UserError, match="--model"):
        grade(str(recordings[0]), model, str(tmp_path / "grades"))
    with pytest.raises(UserError, match=r"no model\.json"):
        grade(str(recordings[0]), str(tmp_path / "none"), str(tmp_path / "grades"))


def test_most_of_many_failing_is_a_failed_job(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_audio(folder / "good.wav", tone(100, 3, 8000), 8000)
    for number in range(11):
        (folder / f"bad {number}.mp3").write_text("no sound")
    outcome = grade(str(folder), model, str(tmp_path / "out"))
    assert (outcome.done, outcome.failed) == (1, 11)
    assert outcome.exit_code(strict=False) == 1


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_in_the_same_grades(recordings, model, undisturbed, tmp_path):
    grades = tmp_path / "grades"
    args = ("grade", "--recordings", recordings[0], "--model", model, "--grades", grades)

    def manifests() -> int:
        return len(list(grades.glob("manifests/*.json")))

    kill_job_when(lambda: any(grades.glob("parts/*/*.parquet")), *args, commit=3)  # a part, perhaps no manifest
    kill_job_when(lambda: manifests() >= 2, *args, commit=3)  # between two commits
    kill_job_when(lambda: manifests() >= 3, *args, commit=2)  # later, views not written
    assert not (grades / LATEST_PARQUET).exists()
    ended = run_job(*args)

    assert ended.returncode == 0, ended.stderr
    assert latest(grades) == latest(undisturbed)
    assert segment_rows(grades) == segment_rows(undisturbed)


def test_a_night_by_a_copy_of_a_models_two_files_names_the_model_that_graded(recordings, model, undisturbed, tmp_path):
    plain = tmp_path / "model"
    plain.mkdir()
    model_id = model_folder.current_id(model)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        shutil.copy(Path(model) / model_id / name, plain)
    outcome, line = grade_night(str(recordings[0]), str(plain), str(tmp_path / "grades"), Wanted(gpus=0, cpus=1))
    assert outcome.done == 12
    assert json.loads(line.removeprefix(MARK))["model_id"] == model_id


def test_grading_again_where_nothing_was_graded_is_grading(recordings, model, undisturbed, tmp_path):
    grade(str(recordings[0]), str(model), str(tmp_path / "grades"), regrade=True, workers=1)
    assert latest(tmp_path / "grades") == latest(undisturbed)
