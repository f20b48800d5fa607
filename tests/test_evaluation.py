import json

import numpy as np
import pytest

from samplecnn.baselines import majority
from samplecnn.contract import METRICS_CSV, METRICS_JSON, PREDICTIONS_CSV
from samplecnn.errors import UserError
from samplecnn.evaluation import MAJORITY, EvaluationSettings, Task, score_graders
from samplecnn.tables import read_csv

GRADE_R = np.tile([0, 1, 2], 5)
TASK = Task(
    [f"={i}.wav" for i in range(15)], GRADE_R, [str(i) for i in range(15)], GRADE_R.astype(np.int32), ("C", "B", "A")
)


@pytest.fixture(scope="module")
def evaluation():
    probs = {MAJORITY: majority(GRADE_R, 3), "model": np.eye(3)[GRADE_R]}
    return score_graders(TASK, probs, "model", {"seed": 0}, seed=0)


def test_a_perfect_model_stands_above_the_majority_in_every_form(evaluation):
    assert "model     1.00 [0.78, 1.00]" in evaluation.table()
    assert "better than chance" in evaluation.table()
    files = evaluation.files()
    assert json.loads(files[METRICS_JSON])["graders"]["model"]["confusion"] == [[5, 0, 0], [0, 5, 0], [0, 0, 5]]
    rows = read_csv(files[METRICS_CSV], "metrics")
    assert [(row["grader"], row["accuracy"]) for row in rows] == [(MAJORITY, "0.333333"), ("model", "1")]
    predictions = read_csv(files[PREDICTIONS_CSV], "predictions")
    assert predictions[2] == {
        "recording": "=2.wav",
        "grade": "A",
        "predicted": "A",
        "score": "1",
        "fold": "2",
        "p_A": "1",
        "p_B": "0",
        "p_C": "0",
    }
    assert b"'=2.wav" in files[PREDICTIONS_CSV]  # a spreadsheet must not run a recording's name


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="--folds 1"):
        EvaluationSettings(folds=1)
