"""Marks from labels.csv to latest.csv, through real jobs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings
from samplecnn.contract import LATEST_CSV, METRICS_JSON, PREDICTIONS_CSV
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.tables import read_csv

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
FIT = FitSettings(epochs=1, crops=4, batch_size=16)
GIVEN = LabelSettings(cuts="50,75", mark_range="0,100")


def test_marks_are_learnt_and_told_in_the_jurys_range(recordings, tmp_path):
    place = {name: str(tmp_path / name) for name in ("segments", "labels.csv", "evaluation", "model", "grades")}
    prepare(str(recordings[0]), place["segments"], SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0))
    rows = read_csv(Path(recordings[1]).read_bytes(), "labels")
    marks = {"A": 88, "B": 66, "C": 33}
    marked = [f"{row['recording']},{marks[row['grade']] + n % 5}" for n, row in enumerate(rows)]
    Path(place["labels.csv"]).write_text("\n".join(["recording,mark", *marked]) + "\n")

    said = evaluate(
        [place["segments"]],
        place["labels.csv"],
        place["evaluation"],
        GIVEN,
        EvaluationSettings(folds=2),
        NetworkSettings(),
        FIT,
        seed=0,
    )
    (metrics,) = json.loads(Path(place["evaluation"], METRICS_JSON).read_text())["evaluations"]
    assert metrics["marks"]["recordings"] == len(rows)
    assert f"Its marks, while held out: R2 {metrics['marks']['r2']['value']:.2f}" in said
    predictions = read_csv(Path(place["evaluation"], PREDICTIONS_CSV).read_bytes(), "predictions")
    assert {(row["recording"], row["grade"]) for row in predictions} == {(r["recording"], r["grade"]) for r in rows}
    assert all(
        0 <= float(row["mark_low"]) <= float(row["predicted_mark"]) <= float(row["mark_high"]) <= 100
        for row in predictions
    )

    args = (place["segments"], place["labels.csv"], place["model"], GIVEN, NetworkSettings(), FIT)
    train(*args, seed=0, evaluation=place["evaluation"])
    card, _ = model_folder.load(place["model"])
    assert card.marks
    assert (card.marks.least, card.marks.most) == (0, 100)
    assert "nothing to do" in train(*args, seed=0, evaluation=place["evaluation"])

    grade(str(recordings[0]), place["model"], place["grades"], workers=1)
    graded = [row for row in read_csv(Path(place["grades"], LATEST_CSV).read_bytes(), "latest") if row["grade"]]
    assert graded
    for row in graded:
        mark, low, high = card.marks.told(float(row["score"]))
        assert [float(row[name]) for name in ("mark", "mark_low", "mark_high")] == pytest.approx(
            [mark, low, high], abs=1e-3
        )
    unmarked = replace(card, marks=None)
    assert unmarked.model_id != card.model_id


def test_parts_of_a_recording_are_learnt_and_evaluated_each_by_itself(recordings, tmp_path):
    place = {name: str(tmp_path / name) for name in ("segments", "labels.csv", "evaluation", "model", "grades")}
    prepare(str(recordings[0]), place["segments"], SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0))
    rows = read_csv(Path(recordings[1]).read_bytes(), "labels")
    parted = [f"{row['recording']},{row['grade']},{part}" for row in rows for part in ("0,4", "4,8")]
    Path(place["labels.csv"]).write_text("\n".join(["recording,grade,start_s,end_s", *parted]) + "\n")

    args = (place["labels.csv"], place["evaluation"], LabelSettings(), EvaluationSettings(folds=2))
    evaluate([place["segments"]], *args, NetworkSettings(), FIT, seed=0)
    predictions = read_csv(Path(place["evaluation"], PREDICTIONS_CSV).read_bytes(), "predictions")
    told = sorted(f"{r['recording']},{r['grade']},{float(r['start_s']):g},{float(r['end_s']):g}" for r in predictions)
    assert told == sorted(parted)
    fold = {row["recording"]: row["fold"] for row in predictions}
    assert all(row["fold"] == fold[row["recording"]] for row in predictions)  # no split parts a recording

    train(place["segments"], place["labels.csv"], place["model"], LabelSettings(), NetworkSettings(), FIT, seed=0)
    card, _ = model_folder.load(place["model"])
    assert card.metrics["recordings"] == len(parted)
    grade(str(recordings[0]), place["model"], place["grades"], workers=1)
    latest = read_csv(Path(place["grades"], LATEST_CSV).read_bytes(), "latest")
    assert len({row["recording"] for row in latest}) == len(latest)  # a grade is of a recording
