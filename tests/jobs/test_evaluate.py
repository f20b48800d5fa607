import json

import numpy as np
import pytest

from samplecnn.contract import METRICS_CSV, METRICS_JSON, PREDICTIONS_CSV, RECORDING
from samplecnn.errors import UserError
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.prepare import prepare
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.tables import read_csv

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
FIT = FitSettings(epochs=2, crops=4, batch_size=16)


@pytest.fixture(scope="module")
def segments(recordings, one_ray, tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("evaluate") / "segments")
    prepare(str(recordings[0]), place, SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0))
    return place


def evaluated(segments, labels, place, **changes) -> str:
    settings = EvaluationSettings(folds=changes.pop("folds", 3))
    return evaluate(segments, str(labels), str(place), LabelSettings(**changes), settings, FIT, seed=0)


def test_every_labelled_recording_is_predicted_once_while_held_out(segments, recordings, tmp_path):
    said = evaluated(segments, recordings[1], tmp_path)

    predictions = read_csv((tmp_path / PREDICTIONS_CSV).read_bytes(), "predictions")
    assert len({row[RECORDING] for row in predictions}) == len(predictions) == 12
    for row in predictions:
        assert sum(float(row[f"p_{grade}"]) for grade in "ABC") == pytest.approx(1, abs=1e-5)
        assert 0 <= float(row["score"]) <= 1
    metrics = json.loads((tmp_path / METRICS_JSON).read_text())
    accuracy = np.mean([row["grade"] == row["predicted"] for row in predictions])
    assert metrics["graders"]["SampleCNN"]["accuracy"]["value"] == pytest.approx(accuracy)
    table = read_csv((tmp_path / METRICS_CSV).read_bytes(), "metrics")
    assert [row["grader"] for row in table] == ["majority", "loudness and duration", "SampleCNN"]
    assert all(float(row["kappa_low"]) <= float(row["kappa"]) <= float(row["kappa_high"]) for row in table)
    assert metrics["conclusion"] in said
    assert "majority" in said


def test_the_same_evaluation_gives_the_same_bytes(segments, recordings, tmp_path):
    evaluated(segments, recordings[1], tmp_path / "one")
    evaluated(segments, recordings[1], tmp_path / "two")
    for name in (METRICS_JSON, METRICS_CSV, PREDICTIONS_CSV):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_performer_is_never_on_both_sides(segments, recordings, tmp_path):
    lines = recordings[1].read_text(encoding="utf-8").splitlines()[1:]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "recording,grade,performer\n" + "".join(f"{line},p{i // 2}\n" for i, line in enumerate(lines)), encoding="utf-8"
    )
    evaluated(segments, labels, tmp_path)
    performer = {line.rpartition(",")[0]: i // 2 for i, line in enumerate(lines)}
    fold_of: dict[int, set[str]] = {}
    for row in read_csv((tmp_path / PREDICTIONS_CSV).read_bytes(), "predictions"):
        fold_of.setdefault(performer[row[RECORDING]], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in fold_of.values())


def test_more_folds_than_recordings_are_refused(segments, recordings, tmp_path):
    with pytest.raises(UserError, match="--folds 40"):
        evaluated(segments, recordings[1], tmp_path, folds=40)


def test_an_unknown_group_is_refused(segments, recordings, tmp_path):
    with pytest.raises(UserError, match="--group teacher"):
        evaluated(segments, recordings[1], tmp_path, group="teacher")
