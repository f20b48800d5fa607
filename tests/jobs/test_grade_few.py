"""grade without a grades folder: a few recordings graded from the terminal, without Ray, and nothing written."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from soxr import resample

from samplecnn.contract import LATEST_CSV
from samplecnn.likeness import fit_likeness
from samplecnn.sound import measures_of
from samplecnn.store import open_store
from samplecnn.tables import read_csv
from tests.fixtures.audio import noise, tone, truncate, write_audio
from tests.fixtures.gcs import Gate
from tests.fixtures.jobs import RATE, ROOT, played, run_job
from tests.fixtures.models import publish


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "uploads"
    made.mkdir()
    write_audio(made / "good.wav", tone(100, 5, 8000), 8000)
    return made


def everything_under(path: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime_ns for p in path.rglob("*")}


def test_one_file_is_graded_without_ray_and_nothing_is_written(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything_under(tmp_path)
    ended = run_job("grade", "--recordings", folder / "good.wav", "--model", model)
    assert ended.returncode == 0, ended.stderr
    heading, line, empty, closing = ended.stdout.splitlines()
    assert heading.split() == ["grade", "score", "confidence", "minutes", "recording", "remark"]
    grade, score, confidence, minutes, name = line.split()
    assert grade in "ABC"
    assert 0 <= float(score) <= 1
    assert 1 / 3 <= float(confidence) <= 1
    assert (minutes, name, empty) == ("0.1", str(folder / "good.wav"), "")
    assert closing.startswith("1 recordings: 1 graded by model ")
    assert everything_under(tmp_path) == before

    # Again in this process, with a Ray that cannot be imported.
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["grade", "--recordings", str(folder / "good.wav"), "--model", model])
    assert runpy.run_path(str(ROOT / "jobs" / "grade.py"))["main"]() == 0
    assert capsys.readouterr().out == ended.stdout


def test_a_bad_file_is_a_line_with_its_reason_and_the_rest_goes_on(model: str, folder: Path) -> None:
    (folder / "text.mp3").write_text("no sound")
    (folder / "notes.txt").write_text("no recording")
    write_audio(folder / "silent.wav", np.zeros((1, 40_000), np.float32), 8000)
    truncate(write_audio(folder / "half.flac", noise(20, 8000), 8000), 0.5)
    shutil.copy(folder / "good.wav", folder.parent / "no suffix")

    ended = run_job("grade", "--recordings", folder, "--recordings", folder.parent / "no suffix", "--model", model)

    assert ended.returncode == 0, ended.stderr
    told = {line[36:].strip().split("  ")[0]: line for line in ended.stdout.splitlines()[1:-2]}
    assert set(told) == {
        *(str(folder / name) for name in ("good.wav", "half.flac", "silent.wav", "text.mp3")),
        str(folder.parent / "no suffix"),
    }
    assert told[str(folder / "good.wav")][:34] == told[str(folder.parent / "no suffix")][:34]
    assert "decoded in part" in told[str(folder / "half.flac")]
    assert told[str(folder / "silent.wav")].startswith("- ")
    assert "silent: " in told[str(folder / "silent.wav")]
    assert "failed: decode: " in told[str(folder / "text.mp3")]
    assert "5 recordings: 3 graded, 1 not gradable, 1 failed" in ended.stdout
    strict = run_job("grade", "--recordings", folder, "--model", model, "--strict")
    assert strict.returncode == 1
    alone = run_job("grade", "--recordings", folder / "text.mp3", "--model", model)
    assert alone.returncode == 1
    assert "failed: decode: " in alone.stdout
    assert "Traceback" not in alone.stderr


def test_what_the_user_got_wrong_is_one_line(model: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    good = str(folder / "good.wav")
    for args, said in (
        (["--recordings", str(folder / "gone.wav"), "--model", model], "gone.wav: no such file or folder"),
        (["--recordings", good, "--recordings", str(tmp_path / "empty"), "--model", model], "holds no recordings"),
        (["--recordings", good, "--model", str(tmp_path / "none")], "no model.json there"),
        (["--recordings", good, "--model", model, "--regrade"], "want --grades"),
        (["--recordings", good, "--recordings", good, "--model", model, "--grades", "g"], "give one folder"),
        (["--recordings", good, "--model", model, "--grades", str(tmp_path / "g")], "is a file: give the folder"),
    ):
        ended = run_job("grade", *args)
        assert ended.returncode == 2, ended
        assert said in ended.stderr
        assert ended.stderr.count("error:") == 1
        assert "Traceback" not in ended.stderr
        assert ended.stdout == ""
    assert not (tmp_path / "g").exists()


def test_a_bucket_gives_the_grades_of_the_folder(
    model: str, folder: Path, gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "text.mp3").write_text("no sound")
    here = run_job("grade", "--recordings", folder, "--model", model)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    place = f"gs://{bucket}/school"
    for root, prefix in ((folder, "uploads"), (Path(model), "model")):
        for path in sorted(p for p in root.rglob("*") if p.is_file() and ".samplecnn" not in p.parts):
            open_store(place).put(f"{prefix}/{path.relative_to(root)}", path.read_bytes())
    gate.clear()
    there = run_job("grade", "--recordings", f"{place}/uploads", "--model", f"{place}/model")
    assert [line[:34] for line in there.stdout.splitlines()] == [line[:34] for line in here.stdout.splitlines()]
    assert there.returncode == here.returncode == 0
    one = run_job("grade", "--recordings", f"{place}/uploads/good.wav", "--model", f"{place}/model")
    assert one.stdout.splitlines()[1].split()[:4] == here.stdout.splitlines()[1].split()[:4]
    assert all(request.startswith("GET") for request in gate.requests())
    gone = run_job("grade", "--recordings", f"{place}/uploads/gone.wav", "--model", f"{place}/model")
    assert gone.returncode == 2
    assert "no such file or folder" in gone.stderr


@pytest.mark.ray
def test_what_is_unlike_the_training_recordings_gets_no_grade_but_a_persons(
    tmp_path: Path, folder_at: Callable[[str], str]
) -> None:
    learnt = np.array([measures_at(500, played(i, i % 3, 20.0)[0]) for i in range(9)])
    model = publish(folder_at("model"), likeness=fit_likeness(learnt, [str(i) for i in range(9)]))
    uploads, grades = open_store(folder_at("uploads")), open_store(folder_at("grades"))
    for name, wave_CT in (("good.wav", played(100, 1, 20.0)), ("rain.wav", noise(20, RATE, seed=1))):
        path = tmp_path / "written.wav"
        write_audio(path, wave_CT, RATE)
        uploads.put(name, path.read_bytes())
    ended = run_job("grade", "--recordings", uploads.url(), "--model", model)
    assert ended.returncode == 0, ended.stderr
    good, rain = ended.stdout.splitlines()[1:3]
    assert good.split()[0] in "ABC"
    assert rain.split()[0] == "-"
    assert "unlike the training recordings: " in rain
    assert "2 recordings: 1 graded, 1 not gradable by model " in ended.stdout

    ended = run_job("grade", "--recordings", uploads.url(), "--model", model, "--grades", grades.url(), "--workers", 1)
    assert ended.returncode == 0, ended.stderr
    told = {row["recording"]: row for row in read_csv(grades.read(LATEST_CSV).data, LATEST_CSV)}
    assert told["good.wav"]["grade"] == good.split()[0]
    assert (told["rain.wav"]["grade"], told["rain.wav"]["gradable"]) == ("", "false")
    assert told["rain.wav"]["reason"] in rain
    (tmp_path / "heard.csv").write_text("recording,grade,by,why\nrain.wav,B,Ann,prepared piano\n")
    ended = run_job("correct", "--grades", grades.url(), "--corrections", tmp_path / "heard.csv")
    assert ended.returncode == 0, ended.stderr
    told = {row["recording"]: row for row in read_csv(grades.read(LATEST_CSV).data, LATEST_CSV)}
    assert (told["rain.wav"]["grade"], told["rain.wav"]["gradable"]) == ("B", "true")


def measures_at(rate: int, wave_T: np.ndarray) -> np.ndarray:
    measures_M = measures_of(resample(wave_T, RATE, rate), np.ones(20 * 20, np.bool_), rate)
    assert measures_M is not None
    return measures_M
