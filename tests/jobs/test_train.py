import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings
from samplecnn.contract import METRICS_JSON, RECORDING, RECORDINGS_CSV, VERSION
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.labelled import labelled
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.tables import read_csv
from tests.fixtures.jobs import kill_job_when, run_job, write_labels

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
# One second at 100 Hz: the paths are those of any length, and an epoch takes a moment.
SEGMENTS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FIT = FitSettings(epochs=4, crops=4, batch_size=16)
FLAGS = ("--epochs", 4, "--crops", 4, "--batch-size", 16)


@pytest.fixture(scope="module")
def segments(recordings, one_ray, tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("train") / "segments")
    prepare(str(recordings[0]), place, SEGMENTS)
    return place


@pytest.fixture(scope="module")
def undisturbed(segments, recordings, tmp_path_factory) -> Path:
    model = tmp_path_factory.mktemp("undisturbed") / "model"
    ended = run_job("train", "--segments", segments, "--labels", recordings[1], "--model", model, *FLAGS)
    assert ended.returncode == 0, ended.stderr
    assert "epoch 4/4" in ended.stderr
    assert "not calibrated" in ended.stdout
    return model


def history(model: Path) -> list[dict]:
    return model_folder.load(str(model))[0].metrics["history"]


def weights(model: Path) -> dict[str, torch.Tensor]:
    return model_folder.load(str(model))[1].state_dict()


def test_a_model_comes_out_that_says_what_it_was_trained_on(undisturbed):
    card, network = model_folder.load(str(undisturbed))
    assert card.grades == ("C", "B", "A")
    assert card.settings == SEGMENTS
    assert card.metrics["recordings"] == 12
    assert [row["epoch"] for row in card.metrics["history"]] == [1, 2, 3, 4]
    assert network(torch.zeros(2, 100)).shape == (2, 3)
    assert not Path(f"{undisturbed}.checkpoints").exists()


def test_a_finished_run_is_not_trained_again(undisturbed, segments, recordings):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    ended = run_job("train", "--segments", segments, "--labels", recordings[1], "--model", undisturbed, *FLAGS)
    assert "nothing to do" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_a_model_of_an_earlier_version_gets_what_was_not_kept_then(undisturbed, segments, recordings, tmp_path):
    card, network = model_folder.load(str(undisturbed))
    assert card.likeness
    args = (LabelSettings(), NetworkSettings(), FIT)

    unlike = str(tmp_path / "without likeness")
    before = model_folder.publish(unlike, replace(card, likeness=None), network.state_dict())
    said = train(segments, str(recordings[1]), unlike, *args, seed=0)
    assert f"model {card.model_id} (before: {before.model_id}), trained already; new: the distance by which" in said
    assert model_folder.load(unlike)[0] == card
    assert model_folder.trained_on(unlike) == model_folder.trained_on(str(undisturbed))

    silent = str(tmp_path / "without hashes")
    model_folder.publish(silent, card, network.state_dict())
    said = train(segments, str(recordings[1]), silent, *args, seed=0)
    assert said == f"{silent}: model {card.model_id}, trained already; new: hashes of what it was trained on"
    assert model_folder.trained_on(silent) == model_folder.trained_on(str(undisturbed))
    assert "nothing to do" in train(segments, str(recordings[1]), silent, *args, seed=0)


def test_an_evaluation_of_the_same_model_calibrates_it_and_of_another_is_refused(
    undisturbed, segments, recordings, tmp_path
):
    model, place = tmp_path / "model", str(tmp_path / "evaluation")
    shutil.copytree(undisturbed, model)
    before = model_folder.load(str(model))[0]
    evaluate(
        [segments],
        str(recordings[1]),
        place,
        LabelSettings(),
        EvaluationSettings(folds=2),
        NetworkSettings(),
        FIT,
        seed=1,
    )

    def trained(fit: FitSettings) -> str:
        args = (segments, str(recordings[1]), str(model), LabelSettings(), NetworkSettings(), fit)
        return train(*args, seed=0, evaluation=place)

    with pytest.raises(UserError, match=r"--evaluation .*of other segments, labels or settings"):
        trained(FitSettings(epochs=4, crops=4, batch_size=16, augment="gain"))
    said = trained(FIT)

    card = model_folder.load(str(model))[0]
    assert (before.temperature, card.training_data) == (1.0, before.training_data)
    assert card.temperature != 1.0
    assert f"calibrated (temperature {card.temperature:.2f})" in said
    assert 0 <= card.metrics["evaluation"]["kappa"]["low"] + 1 <= 2
    assert all(torch.equal(tensor, weights(model)[name]) for name, tensor in weights(undisturbed).items())
    assert "nothing to do" in trained(FIT)

    told = Path(place, METRICS_JSON).read_text()
    assert f'"least_confidence": {card.least_confidence}' in told
    Path(place, METRICS_JSON).write_text(re.sub('"least_confidence": [0-9.]+', '"least_confidence": 0.41', told))
    assert "no grade below a confidence of 0.41" in trained(FIT)
    assert model_folder.load(str(model))[0].least_confidence == 0.41
    told = model_folder.trained_on(str(model))
    versions = read_csv(Path(segments, RECORDINGS_CSV).read_bytes(), RECORDINGS_CSV)
    assert len(told.hashes) == 2 * len(versions)  # kept through both calibrations
    assert all(told.holds(row[RECORDING], "") and told.holds("", row[VERSION]) for row in versions)


def test_from_recordings_a_model_learns_how_much_a_segment_counts_and_grades(segments, recordings, tmp_path):
    on_recordings = replace(FIT, learn_from="recordings", epochs=1)
    model, grades = str(tmp_path / "model"), tmp_path / "grades"
    train(segments, str(recordings[1]), model, LabelSettings(), NetworkSettings(), on_recordings, seed=0, workers=2)

    card, network = model_folder.load(model)
    assert card.attention
    assert network.attention is not None
    assert "attention" in card.metrics["rules"]
    by_attention = replace(card, merge="attention", merge_parameters=card.metrics["rules"]["attention"])
    model_folder.publish(model, by_attention, network.state_dict())
    assert grade(str(recordings[0]), model, str(grades), workers=1).done == 12


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(undisturbed, segments, recordings, tmp_path):
    train(
        segments,
        str(recordings[1]),
        str(tmp_path / "model"),
        LabelSettings(),
        NetworkSettings(),
        FIT,
        seed=0,
        workers=2,
    )
    for name in ("train_loss", "valid_loss"):
        one, two = ([row[name] for row in history(model)] for model in (undisturbed, tmp_path / "model"))
        np.testing.assert_allclose(two, one, rtol=2e-3)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_in_the_same_model(undisturbed, segments, recordings, tmp_path):
    model = tmp_path / "model"
    args = ("train", "--segments", segments, "--labels", recordings[1], "--model", model, *FLAGS)
    checkpoints = Path(f"{model}.checkpoints")

    def written() -> int:
        return len(list(checkpoints.glob("*/checkpoint_*/state.pt")))

    kill_job_when(checkpoints.exists, *args)  # before the first epoch
    kill_job_when(lambda: written() >= 1, *args)  # between epochs
    kill_job_when(lambda: any(model.glob("*/model.safetensors")), *args)  # while the model is published
    ended = run_job(*args)

    assert ended.returncode == 0, ended.stderr
    assert not checkpoints.exists()
    assert history(model) == history(undisturbed)
    for name, tensor in weights(undisturbed).items():
        assert torch.equal(tensor, weights(model)[name]), name


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no labels"),
        ([("elsewhere.wav", "A"), ("nowhere.wav", "B")], "none of its recordings has segments"),
        (
            [("take 00 für Élise.wav", "A"), ("take 01 für Élise.flac", "A")],
            "every recording with segments has grade A",
        ),
        ([("take 00 für Élise.wav", "D")], "grade 'D'"),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_refused_in_one_line(rows, words, segments, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", rows)
    with pytest.raises(UserError, match=words):
        train(segments, str(labels), str(tmp_path / "model"), LabelSettings(), NetworkSettings(), FIT, seed=0)


def test_a_loss_that_is_no_number_ends_training_at_once_in_one_line(segments, recordings, tmp_path):
    wild = FitSettings(epochs=2, crops=4, batch_size=16, learning_rate=1e30)
    with pytest.raises(JobError, match="lower --learning-rate"):
        train(segments, str(recordings[1]), str(tmp_path / "model"), LabelSettings(), NetworkSettings(), wild, seed=0)


def test_other_segments_and_a_corrected_label_are_other_runs(undisturbed, segments, recordings, tmp_path):
    other, corrected = str(tmp_path / "segments"), tmp_path / "labels.csv"
    prepare(str(recordings[0]), other, SegmentSettings(sample_rate=200, segment_s=1.0, hop_s=1.0))
    corrected.write_text(recordings[1].read_text(encoding="utf-8").replace(",C\n", ",B\n", 1), encoding="utf-8")
    same, *others = (
        labelled(place, str(labels), LabelSettings()).fingerprint(NetworkSettings(), FIT, None, seed=0)
        for place, labels in ((segments, recordings[1]), (other, recordings[1]), (segments, corrected))
    )
    assert model_folder.load(str(undisturbed))[0].training_data == same
    assert same not in others
    whole, on_all = labelled(segments, str(recordings[1]), LabelSettings()), replace(FIT, train_on_all=True)
    assert whole.fingerprint(NetworkSettings(), on_all, None, seed=0) != same


def test_missing_places_are_named(segments, recordings, tmp_path):
    with pytest.raises(UserError, match="no segments there"):
        train(
            str(tmp_path / "none"),
            str(recordings[1]),
            str(tmp_path / "m"),
            LabelSettings(),
            NetworkSettings(),
            FIT,
            seed=0,
        )
    with pytest.raises(UserError, match=r"--labels .*no such file"):
        train(
            segments, str(tmp_path / "none.csv"), str(tmp_path / "m"), LabelSettings(), NetworkSettings(), FIT, seed=0
        )


def test_a_whole_bucket_is_no_place_for_a_model(segments, recordings):
    with pytest.raises(UserError, match="is a whole bucket: name a folder in it, such as gs://school/model"):
        train(segments, str(recordings[1]), "gs://school/", LabelSettings(), NetworkSettings(), FIT, seed=0)
