import json
from dataclasses import replace

import numpy as np
import pytest

from samplecnn.baselines import majority
from samplecnn.contract import METRICS_CSV, METRICS_JSON, PREDICTIONS_CSV, RISK_COVERAGE_CSV
from samplecnn.errors import UserError
from samplecnn.evaluation import (
    MAJORITY,
    Calibration,
    EvaluationSettings,
    Model,
    Predicted,
    Task,
    calibration_of,
    evaluation_files,
    score_graders,
)
from samplecnn.tables import read_csv

GRADE_R = np.tile([0, 1, 2], 5)
MODEL = Model("model", "f00d", "course", 1.5, (0.4, 0.6), 0.45)


def scored(sample_rate=500):
    task = Task(
        [f"={i}.wav" for i in range(15)],
        GRADE_R,
        [[str(i) for i in range(15)]],
        GRADE_R.astype(np.int32),
        ("C", "B", "A"),
        sample_rate,
        seed=0,
    )
    predicted = {
        MAJORITY: Predicted(majority(GRADE_R, 3), np.ones(15, np.int64), 0.0),
        "model": Predicted(np.eye(3)[GRADE_R], GRADE_R, 12.34),
    }
    return score_graders(task, predicted, MODEL, {"seed": 0})


@pytest.fixture(scope="module")
def evaluation():
    return scored()


def test_a_perfect_model_stands_above_the_majority_in_every_form(evaluation):
    assert "model     1.00 [0.78, 1.00]" in evaluation.table()
    assert "better than chance" in evaluation.table()
    assert f"a kappa of {evaluation.chance_kappa:.2f} or less is not distinguishable" in evaluation.table()
    files = evaluation_files([evaluation])
    (told,) = json.loads(files[METRICS_JSON])["evaluations"]
    assert (told["groups"], told["chance_kappa"]) == ([15], evaluation.chance_kappa)
    assert told["graders"]["model"]["confusion"] == [[5, 0, 0], [0, 5, 0], [0, 0, 5]]
    rows = read_csv(files[METRICS_CSV], "metrics")
    assert [(row["grader"], row["accuracy"]) for row in rows] == [(MAJORITY, "0.333333"), ("model", "1")]
    assert (rows[0]["log_loss"], float(rows[1]["log_loss"]), rows[1]["cpu_s"]) == ("", 0, "12.3")
    predictions = read_csv(files[PREDICTIONS_CSV], "predictions")
    assert predictions[2] == {
        "recording": "=2.wav",
        "sample_rate": "500",
        "grade": "A",
        "predicted": "A",
        "score": "1",
        "fold": "2",
        "p_A": "1",
        "p_B": "0",
        "p_C": "0",
    }
    assert b"'=2.wav" in files[PREDICTIONS_CSV]  # a spreadsheet must not run a recording's name


def test_the_risk_coverage_curve_of_each_grader_lies_beside_the_metrics(evaluation):
    files = evaluation_files([evaluation, scored(2000)])
    assert list(files)[-1] == METRICS_JSON  # which speaks for the others
    rows = read_csv(files[RISK_COVERAGE_CSV], "risk_coverage")
    assert [(row["sample_rate"], row["grader"]) for row in rows] == [
        (rate, grader) for rate in ("500", "2000") for grader in (MAJORITY, "model")
    ]
    told = {"coverage": "1", "error_rate": "0.666667", "mae": "0.666667"}  # sure of every recording alike: one point
    assert rows[0] == {"sample_rate": "500", "grader": MAJORITY, "confidence": "1", **told}
    graders = json.loads(files[METRICS_JSON])["evaluations"][0]["graders"]
    assert (graders["model"]["risk_area"], graders["model"]["ideal_risk_area"]) == (0, 0)
    assert graders[MAJORITY]["risk_area"] == pytest.approx(2 / 3)
    assert graders[MAJORITY]["ideal_risk_area"] < 0.4


def test_what_is_too_little_sure_to_be_graded_is_counted_and_said(evaluation):
    stated_R = np.where(np.arange(15) >= 13, (GRADE_R + 1) % 3, GRADE_R)
    model = replace(evaluation.predicted["model"], grade_R=stated_R, graded_R=np.arange(15) < 12)
    found = replace(evaluation, predicted=evaluation.predicted | {"model": model})
    told = {"graded": 12, "right_of_graded": 12, "not_graded": 3, "right_of_not_graded": 1}
    assert found.to_json()["held_out"] == told
    assert "Below a confidence of 0.45 it gives no grade" in found.table()
    assert (
        "3 of 15 recordings, 1 of which it would have graded right; of the other 12 it graded 12 right."
        in (found.to_json()["conclusion"])
    )
    assert calibration_of(evaluation_files([found])[METRICS_JSON], "e", "f00d").evaluation["held_out"] == told


def test_a_model_that_grades_all_says_so(evaluation):
    all_of_them = replace(evaluation, model=replace(MODEL, least_confidence=0.0))
    assert "It grades what it is least sure of too" in all_of_them.conclusion()
    assert all_of_them.held_out()["not_graded"] == 0


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="--folds 1"):
        EvaluationSettings(folds=1)


def test_a_sweep_has_a_row_for_each_rate_and_grader_and_the_predictions_of_each_rate():
    files = evaluation_files([scored(500), scored(2000)])
    rows = read_csv(files[METRICS_CSV], "metrics")
    assert [(row["sample_rate"], row["grader"]) for row in rows] == [
        (rate, grader) for rate in ("500", "2000") for grader in (MAJORITY, "model")
    ]
    predictions = read_csv(files[PREDICTIONS_CSV], "predictions")
    assert [row["sample_rate"] for row in predictions] == ["500"] * 15 + ["2000"] * 15


def test_the_temperature_of_the_same_model_is_found_with_what_was_found_of_it(evaluation):
    data = evaluation_files([evaluation])[METRICS_JSON]
    calibration = calibration_of(data, "e", "f00d")
    assert isinstance(calibration, Calibration)
    assert (calibration.merge, calibration.temperature, calibration.cuts) == ("course", 1.5, (0.4, 0.6))
    assert calibration.least_confidence == 0.45
    assert calibration.evaluation["accuracy"]["value"] == 1
    assert "better than chance" in calibration.evaluation["conclusion"]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"{}", "damaged"), (b"[", "damaged"), (None, "of other segments, labels or settings")],
)
def test_the_temperature_of_anything_else_is_refused(evaluation, data, words):
    with pytest.raises(UserError, match=words):
        calibration_of(data or evaluation_files([evaluation])[METRICS_JSON], "e", "0bad")
