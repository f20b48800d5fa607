import json
import os
import shutil
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from samplecnn.contract import FAILURES_CSV, MESSAGE, RECORDING, SEGMENT, VERSION, WARNING, WAVEFORM
from samplecnn.errors import UserError
from samplecnn.pipelines import prepare as preparing
from samplecnn.segments import SegmentSettings
from samplecnn.tables import read_csv
from tests.fixtures.audio import noise, tone, truncate, write_audio, write_silent_film
from tests.fixtures.files import allowed
from tests.fixtures.jobs import kill_job_when, run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SETTINGS = SegmentSettings()
# One worker of a kind: most of what a test waits for is workers that start, two at a time on two cores.
prepare = partial(preparing.prepare, workers=1)


def rows(segments: Path) -> list[tuple]:
    """All of data/, as any reader of a folder of Parquet sees it, in an order of its own."""
    table = ds.dataset(segments / "data", format="parquet").to_table()
    keys = zip(*(table[name].to_pylist() for name in (RECORDING, VERSION, SEGMENT)), strict=True)
    waves = table[WAVEFORM].to_pylist()
    return sorted((*key, np.float32(wave).tobytes()) for key, wave in zip(keys, waves, strict=True))


def failures(folder: Path) -> dict[str, str]:
    return {row[RECORDING]: row[MESSAGE] for row in read_csv((folder / FAILURES_CSV).read_bytes(), "failures")}


def files(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(recordings, one_ray, tmp_path_factory) -> Path:
    segments = tmp_path_factory.mktemp("undisturbed") / "segments"
    outcome = prepare(str(recordings[0]), str(segments), SETTINGS)
    assert (outcome.done, outcome.failed, outcome.kept) == (12, 0, 0)
    return segments


def test_every_recording_becomes_segments_that_any_parquet_reader_reads(recordings, undisturbed):
    found = duckdb.sql(
        f"select recording, count(*), max(start_s), min(len(waveform)) from '{undisturbed}/data/*.parquet' group by all"
    ).fetchall()
    assert {name for name, *_ in found} == set(os.listdir(recordings[0]))
    assert {(count, last, samples) for _, count, last, samples in found} == {(2, 10.0, 5000)}


def test_preparing_the_same_input_twice_writes_nothing(recordings, undisturbed):
    before = files(undisturbed)
    outcome = prepare(str(recordings[0]), str(undisturbed), SETTINGS)
    assert (outcome.done, outcome.kept) == (0, 12)
    assert files(undisturbed) == before


def test_other_settings_into_the_same_folder_are_refused(recordings, undisturbed):
    with pytest.raises(UserError, match=r"--hop-s 10.0 .*now 5.0"):
        prepare(str(recordings[0]), str(undisturbed), SegmentSettings(hop_s=5.0))


def test_new_changed_and_deleted_recordings_are_followed(recordings, tmp_path):
    folder, segments = tmp_path / "recordings", tmp_path / "segments"
    folder.mkdir()
    for name in sorted(os.listdir(recordings[0]))[:4]:
        shutil.copy2(recordings[0] / name, folder)
    prepare(str(folder), str(segments), SETTINGS)
    first, second, third, fourth = sorted(p.name for p in folder.iterdir())
    kept = [row for row in rows(segments) if row[0] == fourth]
    (folder / first).unlink()
    write_audio(folder / second, tone(100, 25, 8000), 8000)
    os.utime(folder / third)  # touched, not changed
    write_audio(folder / "new.wav", tone(100, 3, 8000), 8000)

    outcome = prepare(str(folder), str(segments), SETTINGS)

    assert (outcome.done, outcome.kept) == (2, 2)
    found = rows(segments)
    assert {row[0] for row in found} == {second, third, fourth, "new.wav"}
    assert [row[2] for row in found if row[0] == second] == [0, 1, 2]
    assert [row for row in found if row[0] == fourth] == kept
    assert len({row[1] for row in found if row[0] == second}) == 1
    assert set(pq.read_table(segments / "recordings.parquet")[RECORDING].to_pylist()) == {row[0] for row in found}


def test_what_cannot_be_used_is_a_row_with_its_reason_and_the_rest_goes_on(tmp_path):
    folder, segments = tmp_path / "in", tmp_path / "out"
    (folder / "ünter ordner").mkdir(parents=True)
    write_audio(folder / "ünter ordner" / ("long name " * 20 + ".flac"), tone(100, 12, 8000), 8000)
    write_audio(folder / "short.wav", tone(100, 1, 8000), 8000)
    write_audio(folder / "silent.wav", np.zeros((1, 8000 * 12), np.float32), 8000)
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    (folder / "random.ogg").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "notes.txt").write_text("left alone")
    write_silent_film(folder / "film.mp4")
    truncate(write_audio(folder / "half.flac", noise(20, 8000), 8000), 0.5)
    wave = tone(100, 12, 8000)
    wave[0, 100:200] = np.nan
    write_audio(folder / "nan.wav", wave, 8000, encoder="pcm_f32le")
    os.mkfifo(folder / "pipe.wav")

    outcome = prepare(str(folder), str(segments), SETTINGS)

    found = failures(segments)
    assert set(found) == {"empty.mp3", "text.wav", "random.ogg", "film.mp4"}
    assert all(message and "\n" not in message for message in found.values())
    assert outcome.failed == 4
    prepared = {row[RECORDING]: row for row in pq.read_table(segments / "recordings.parquet").to_pylist()}
    assert len(prepared) == outcome.done == 5
    assert "decoded in part" in prepared["half.flac"][WARNING]
    assert "not numbers" in prepared["nan.wav"][WARNING]
    assert prepared["short.wav"]["segments"] == 1
    assert "other files" not in outcome.summary

    again = prepare(str(folder), str(segments), SETTINGS)
    assert (again.done, again.failed, again.given_up) == (
        0,
        0,
        4,
    )  # broken for good: not tried again, still in the table
    assert again.exit_code(strict=True) == 1
    assert set(failures(segments)) == set(found)

    (folder / "empty.mp3").unlink()
    write_audio(folder / "text.wav", tone(100, 12, 8000), 8000)
    mended = prepare(str(folder), str(segments), SETTINGS)
    assert (mended.done, mended.failed) == (1, 0)
    assert set(failures(segments)) == {"random.ogg", "film.mp4"}
    assert prepare(str(folder), str(segments), SETTINGS).done == 0


def test_a_recording_that_cannot_be_read_for_a_night_keeps_its_segments(tmp_path):
    folder, segments = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        write_audio(folder / name, tone(100, 12, 8000), 8000)
    prepare(str(folder), str(segments), SETTINGS)
    before = rows(segments)
    os.utime(folder / "a.wav", (0, 0))  # touched, so that it must be read

    with allowed(folder / "a.wav", 0):
        night = prepare(str(folder), str(segments), SETTINGS)
    assert (night.done, night.failed, night.kept) == (0, 1, 1)
    assert rows(segments) == before
    assert failures(segments) == {"a.wav": "Permission denied"}

    morning = prepare(str(folder), str(segments), SETTINGS)
    assert (morning.done, morning.failed, morning.kept) == (0, 0, 2)
    assert rows(segments) == before
    assert failures(segments) == {}


def test_a_folder_of_nothing_but_broken_recordings_fails_and_says_so_every_time(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.wav").write_text("no sound")
    for _ in range(2):
        outcome = prepare(str(tmp_path / "in"), str(tmp_path / "out"), SETTINGS)
        assert outcome.exit_code(strict=False) == 1
        assert "failures.csv" in outcome.summary


def test_an_emptied_folder_is_refused_rather_than_taken_for_deletions(tmp_path):
    write_audio(tmp_path / "in.wav", tone(100, 2, 8000), 8000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.wav").rename(tmp_path / "folder" / "in.wav")
    prepare(str(tmp_path / "folder"), str(tmp_path / "out"), SETTINGS)
    (tmp_path / "folder" / "in.wav").unlink()
    with pytest.raises(UserError, match="1 were there before"):
        prepare(str(tmp_path / "folder"), str(tmp_path / "out"), SETTINGS)
    assert len(rows(tmp_path / "out")) == 1


def test_another_folder_s_recordings_do_not_take_the_place_of_many(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        for number in range(10):
            write_audio(tmp_path / folder / f"{folder} {number}.wav", tone(100, 2, 8000), 8000)
    prepare(str(tmp_path / "first"), str(tmp_path / "out"), SETTINGS)
    with pytest.raises(UserError, match=r"none of the 10 recordings that .*out was made of is there, and 10 others"):
        prepare(str(tmp_path / "second"), str(tmp_path / "out"), SETTINGS)
    assert len({row[0] for row in rows(tmp_path / "out")}) == 10
    (tmp_path / "first" / "first 0.wav").rename(tmp_path / "second" / "first 0.wav")  # one of them is the same
    assert prepare(str(tmp_path / "second"), str(tmp_path / "out"), SETTINGS).done == 10


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="holds no recordings"):
        prepare(str(tmp_path), str(tmp_path / "out"), SETTINGS)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recordings", "/nowhere", "--segments", "OUT"], "/nowhere"),
        (["--recordings", "IN", "--segments", "OUT", "--hop-s", "20"], "--hop-s 20.0"),
        (["--recordings", "gs:/bucket/x", "--segments", "OUT"], "gs://"),
        (["--recordings", "IN"], "--segments"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(args, words, recordings, tmp_path):
    ended = run_job("prepare", *[{"IN": recordings[0], "OUT": tmp_path / "out"}.get(arg, arg) for arg in args])
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert words in ended.stderr


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_in_the_same_segments(recordings, undisturbed, tmp_path):
    segments = tmp_path / "segments"
    args = ("prepare", "--recordings", recordings[0], "--segments", segments)
    staged = segments / "staging"

    def shards() -> int:
        return len(list(staged.rglob("*.parquet")))

    kill_job_when(lambda: shards() >= 3, *args)  # staged, nothing committed
    kill_job_when(lambda: (segments / "manifests" / "000000001.json").exists(), *args, commit=2)  # adopted, moving in
    kill_job_when(lambda: (segments / "manifests" / "000000004.json").exists(), *args, commit=2)  # between commits
    ended = run_job(*args)

    assert ended.returncode == 0, ended.stderr
    assert rows(segments) == rows(undisturbed)
    assert not shards()
    named = {
        part["path"] for p in (segments / "manifests").glob("*.json") for part in json.loads(p.read_text())["parts"]
    }
    assert named == {f"data/{p.name}" for p in (segments / "data").iterdir()}
