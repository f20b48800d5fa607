"""Labels that say what the starter does not hear, from a folder of recordings to a calibrated model."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings
from samplecnn.contract import METRICS_JSON
from samplecnn.errors import UserError
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines import ways
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FROM_NOTHING, FitSettings, Way
from samplecnn.segments import SegmentSettings
from tests.fixtures.audio import noise, write_audio

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
ASKED = (NetworkSettings(), FitSettings(epochs=1, crops=1))
OTHERWISE = Way(NetworkSettings(network="rhythms"), FitSettings(recipe=FROM_NOTHING, epochs=1, crops=1))
TOLD, OTHERS = "training starts from nothing", "choose another way to train"


@pytest.fixture(scope="module")
def labelled_noise(tmp_path_factory) -> tuple[str, str]:
    """(segments, labels) of noise, which is graded by its number: nobody hears that."""
    folder = tmp_path_factory.mktemp("noise")
    rng, rows = np.random.default_rng(0), ["recording,grade,performer"]
    (folder / "recordings").mkdir()
    for n in range(160):
        write_audio(folder / "recordings" / f"{n:03}.wav", noise(10.0, 1000, seed=n), 1000)
        rows.append(f"{n:03}.wav,{'ABC'[rng.integers(3)]},p{n % 16}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    prepare(str(folder / "recordings"), str(folder / "segments"), SegmentSettings())
    return str(folder / "segments"), str(folder / "labels.csv")


def test_where_the_starter_hears_nothing_of_the_labels_training_starts_from_nothing(labelled_noise, tmp_path, caplog):
    segments, labels = labelled_noise
    model, evaluation = str(tmp_path / "model"), str(tmp_path / "evaluation")
    folds = EvaluationSettings(folds=3)
    with caplog.at_level(logging.INFO):
        said = evaluate([segments], labels, evaluation, LabelSettings(), folds, *ASKED, seed=0, otherwise=OTHERWISE)
    assert TOLD in caplog.text
    assert OTHERS not in caplog.text
    assert "rhythms" in said
    (metrics,) = json.loads(Path(evaluation, METRICS_JSON).read_text())["evaluations"]
    assert metrics["settings"]["starter_hears"].startswith("rank correlation of the starter's scores")
    assert "no starter" not in said
    told = train(segments, labels, model, LabelSettings(), *ASKED, seed=0, otherwise=OTHERWISE, evaluation=evaluation)
    assert "calibrated (temperature" in told
    card, _ = model_folder.load(model)
    assert (card.network, card.metrics["starter"], card.merge) == ("rhythms", "none", "mean")
    again = train(segments, labels, model, LabelSettings(), *ASKED, seed=0, otherwise=OTHERWISE, evaluation=evaluation)
    assert again.endswith("nothing to do")
    # What the user asks for is done, whatever the labels show.
    asked = train(segments, labels, str(tmp_path / "asked"), LabelSettings(), *ASKED, seed=0)
    assert model_folder.load(str(tmp_path / "asked"))[0].network == "joined", asked
    with pytest.raises(UserError, match="of other segments, labels or settings"):
        train(segments, labels, model, LabelSettings(), *ASKED, seed=0, evaluation=evaluation)


def test_each_split_chooses_by_the_labels_that_are_left_to_it(labelled_noise, tmp_path, caplog, monkeypatch):
    """Here all of them say nothing, a first split's something, a second one's nothing."""
    segments, labels = labelled_noise
    place, found = str(tmp_path / "evaluation"), iter((True, False, True, True))
    monkeypatch.setattr(ways, "is_deaf", lambda _: next(found))
    evaluate(
        [segments], labels, place, LabelSettings(), EvaluationSettings(folds=2), *ASKED, seed=0, otherwise=OTHERWISE
    )
    assert f"in 1 of 2 splits the labels that are left {OTHERS}" in caplog.text
    (metrics,) = json.loads(Path(place, METRICS_JSON).read_text())["evaluations"]
    assert metrics["settings"]["splits_trained_in_another_way"] == 1
    model = str(tmp_path / "model")
    told = train(segments, labels, model, LabelSettings(), *ASKED, seed=0, otherwise=OTHERWISE, evaluation=place)
    assert "calibrated (temperature" in told


def test_ten_recordings_keep_the_starter_and_nobody_listens(labelled_noise, tmp_path, caplog):
    segments, labels = labelled_noise
    few = tmp_path / "few.csv"
    few.write_text("\n".join(Path(labels).read_text().splitlines()[:11]) + "\n")
    with caplog.at_level(logging.INFO):
        train(segments, str(few), str(tmp_path / "model"), LabelSettings(), *ASKED, seed=0, otherwise=OTHERWISE)
    assert "does the starter hear" not in caplog.text
    assert model_folder.load(str(tmp_path / "model"))[0].network == "joined"
