"""The evaluation of graders over folds: out-of-fold predictions in, one honest table out.

Every grader, the model and the baselines alike, is fitted on the same folds, predicts each recording once, while it was
held out, and is scored by the same metrics over recordings.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from samplecnn.contract import (
    FOLD,
    GRADE,
    METRICS_CSV,
    METRICS_JSON,
    PREDICTED,
    PREDICTIONS_CSV,
    RECORDING,
    SCORE,
    predictions_schema,
    probability_column,
)
from samplecnn.errors import UserError
from samplecnn.flags import flag
from samplecnn.merge import expected_score, stated_grade
from samplecnn.metrics import Metrics, conclusion, evaluate
from samplecnn.tables import csv_bytes

# R recordings, G grades (0 = worst).

MAJORITY = "majority"  # the grader that every other one is held against


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How the recordings are split."""

    folds: int = flag(5, "folds of the cross-validation")

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UserError(f"--folds {self.folds}: choose 2 or more")


@dataclass(frozen=True)
class Task:
    """What is to be predicted: recordings, their given grades, groups and folds, all [R]; grades worst first."""

    recordings: list[str]
    grade_R: npt.NDArray[np.int64]
    group_R: list[str]
    fold_R: npt.NDArray[np.int32]
    grades: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of each grader by name, in the order of the table, and the model's own predictions [R, G]."""

    task: Task
    metrics: dict[str, Metrics]
    model: str
    probs_RG: npt.NDArray[np.float64]
    settings: dict[str, Any]

    def table(self) -> str:
        """For a terminal: one line a grader, figures with their 95 % intervals, then what can be concluded."""
        width = max(len(name) for name in self.metrics)
        lines = [f"{'grader':{width}}  {'accuracy':20}{'kappa':22}{'mean distance':20}{'p':>7}"]
        for name, m in self.metrics.items():
            lines.append(f"{name:{width}}  {m.accuracy!s:20}{m.kappa!s:22}{m.mae!s:20}{m.p_value:7.4f}")
        return "\n".join([*lines, "", self.conclusion()])

    def conclusion(self) -> str:
        """One plain sentence on the model."""
        return conclusion(self.metrics[self.model], self.metrics[MAJORITY].accuracy.value)

    def files(self) -> dict[str, bytes]:
        """metrics.json, metrics.csv and predictions.csv."""
        whole = {
            "settings": self.settings,
            "grades": list(reversed(self.task.grades)),
            "recordings": len(self.task.recordings),
            "groups": len(set(self.task.group_R)),
            "graders": {name: asdict(metrics) for name, metrics in self.metrics.items()},
            "model": self.model,
            "conclusion": self.conclusion(),
            "note": "confusion[given][predicted] counts recordings, worst grade first",
        }
        return {
            METRICS_JSON: (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode(),
            METRICS_CSV: csv_bytes(metrics_table(self.metrics)),
            PREDICTIONS_CSV: csv_bytes(predictions_table(self.task, self.probs_RG)),
        }


def score_graders(
    task: Task, probs: dict[str, npt.NDArray[np.float64]], model: str, settings: dict[str, Any], seed: int
) -> Evaluation:
    """Score out-of-fold probabilities [R, G] of each grader."""
    metrics = {
        name: evaluate(task.grade_R, predicted_grades(probs_RG), len(task.grades), task.group_R, seed)
        for name, probs_RG in probs.items()
    }
    return Evaluation(task, metrics, model, probs[model], settings)


def predicted_grades(probs_RG: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The stated grade of each recording, by the rule that grading uses (merge.stated_grade)."""
    return np.array([stated_grade(probs_G) for probs_G in probs_RG], dtype=np.int64)


def metrics_table(metrics: dict[str, Metrics]) -> pa.Table:
    """One row a grader."""
    rows = []
    for name, m in metrics.items():
        row: dict[str, Any] = {"grader": name, "recordings": m.recordings}
        for measure in ("accuracy", "kappa", "mae"):
            figure = getattr(m, measure)
            row |= {measure: figure.value, f"{measure}_low": figure.low, f"{measure}_high": figure.high}
        rows.append({**row, "p_value": m.p_value})
    return pa.Table.from_pylist(rows)


def predictions_table(task: Task, probs_RG: npt.NDArray[np.float64]) -> pa.Table:
    """contract.predictions_schema: one row a recording."""
    columns: dict[str, Any] = {
        RECORDING: task.recordings,
        GRADE: [task.grades[grade] for grade in task.grade_R],
        PREDICTED: [task.grades[grade] for grade in predicted_grades(probs_RG)],
        SCORE: [expected_score(probs_G) for probs_G in probs_RG],
        FOLD: task.fold_R,
    }
    columns |= {probability_column(grade): probs_RG[:, index] for index, grade in enumerate(task.grades)}
    schema = predictions_schema(task.grades)
    return pa.table([pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema)
