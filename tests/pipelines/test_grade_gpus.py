"""Grading where Ray has GPUs: decoders and graders are two pools. Here it believes in one that the machine may lack."""

import json

import pyarrow.parquet as pq
import pytest
import ray

from samplecnn.contract import GRADE, GRADED_AT, RECORDING, SCORE
from samplecnn.pipelines import grade as grading
from samplecnn.pipelines.runtime import start_ray
from tests.fixtures.jobs import write_recordings
from tests.fixtures.models import publish


@pytest.mark.ray
def test_graders_on_gpus_hold_no_core_and_say_what_one_worker_for_both_says(tmp_path, monkeypatch):
    """Decoders hold their cores until graders have taken what they decoded: on cores of their own, several runs at once
    could wait for each other for ever."""
    recordings, model = tmp_path / "recordings", publish(tmp_path / "model")
    write_recordings(recordings, 2)
    note = tmp_path / "held.json"

    class Telling(grading.WindowGrader):
        def __call__(self, batch):
            note.write_text(json.dumps(ray.get_runtime_context().get_assigned_resources()))
            return super().__call__(batch)

    found = []
    for gpus in (0, 1):
        grades = tmp_path / f"grades {gpus}"
        start_ray(num_cpus=2, num_gpus=gpus)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(grading, "WindowGrader", Telling if gpus else grading.WindowGrader)
                grading.grade(str(recordings), model, str(grades), workers=1)
        finally:
            ray.shutdown()
        found.append(pq.read_table(grades / "latest.parquet").drop_columns([GRADED_AT]).to_pylist())
    held = json.loads(note.read_text())
    assert (held.get("CPU", 0), held["GPU"]) == (0, 1)
    apart, together = found
    assert [(row[RECORDING], row[GRADE]) for row in apart] == [(row[RECORDING], row[GRADE]) for row in together]
    assert [row[SCORE] for row in apart] == pytest.approx([row[SCORE] for row in together], abs=1e-5)
