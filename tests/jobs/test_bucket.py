"""The four jobs over gs:// places, against a real storage server: the same code, the same results."""

import json

import pyarrow.parquet as pq
import pytest

from samplecnn.contract import GRADED_AT, LATEST_PARQUET, METRICS_JSON
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store
from tests.fixtures.jobs import write_labels, write_recordings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SETTINGS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FIT = FitSettings(epochs=2, crops=2, batch_size=12)


def whole_job(place: str) -> tuple[list[dict], dict]:
    """Every job on recordings/ and labels.csv of a place: (latest grades, metrics)."""
    recordings, segments, labels = f"{place}/recordings", f"{place}/segments", f"{place}/labels.csv"
    prepare(recordings, segments, SETTINGS, workers=1)  # most of the time goes into starting workers
    assert prepare(recordings, segments, SETTINGS).kept == 6
    evaluate(segments, labels, f"{place}/evaluation", LabelSettings(), EvaluationSettings(folds=2), FIT, seed=0)
    train(segments, labels, f"{place}/model", LabelSettings(), FIT, seed=0)
    assert "nothing to do" in train(segments, labels, f"{place}/model", LabelSettings(), FIT, seed=0)
    grade(recordings, f"{place}/model", f"{place}/grades", workers=1)
    assert grade(recordings, f"{place}/model", f"{place}/grades").kept == 6
    filesystem, base = open_store(place).filesystem()
    latest = pq.read_table(f"{base}/grades/{LATEST_PARQUET}", filesystem=filesystem).drop_columns(
        [GRADED_AT, "version"]
    )
    return latest.to_pylist(), json.loads(open_store(f"{place}/evaluation").read(METRICS_JSON).data)


def test_a_bucket_gives_what_a_folder_gives(bucket, gate, tmp_path, monkeypatch):
    rows = write_recordings(tmp_path / "recordings", 6)
    labels = write_labels(tmp_path / "labels.csv", rows)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    place = f"gs://{bucket}/school"
    store = open_store(place)
    for name, _ in rows:
        store.put(f"recordings/{name}", (tmp_path / "recordings" / name).read_bytes())
    store.put("labels.csv", labels.read_bytes())

    local_grades, local_metrics = whole_job(str(tmp_path))
    grades, metrics = whole_job(place)

    assert grades == local_grades
    assert metrics == local_metrics
    assert not list(store.list("model.checkpoints/"))
    assert not list(store.list("segments/staging/"))
