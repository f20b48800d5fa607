"""The evaluation of graders over folds: out-of-fold predictions in, one honest table out.

Every grader, the model and the baselines alike, is fitted on the same folds, predicts each recording once, while it was
held out, and is scored by the same metrics over recordings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from samplecnn.contract import (
    CONFIDENCE,
    END_S,
    FOLD,
    GRADE,
    MARK,
    MARK_HIGH,
    MARK_LOW,
    METRICS_CSV,
    METRICS_JSON,
    PREDICTED,
    PREDICTED_MARK,
    PREDICTIONS_CSV,
    RECORDING,
    RISK_COVERAGE_CSV,
    SAMPLE_RATE,
    SCORE,
    START_S,
    predictions_schema,
    probability_column,
)
from samplecnn.errors import UserError
from samplecnn.flags import flag
from samplecnn.marks import MarkMap
from samplecnn.merge import expected_score
from samplecnn.metrics import (
    MarkMetrics,
    Metrics,
    chance_kappa,
    conclusion,
    evaluate,
    evaluate_marks,
    risk_coverage,
    stated_probability,
)
from samplecnn.raters import Agreement
from samplecnn.set_pieces import PieceCalibration, piece_calibration_from_json
from samplecnn.tables import csv_bytes
from samplecnn.untrusted import read_json

# R recordings, G grades (0 = worst).
Probs = npt.NDArray[np.float64]

MAJORITY = "majority"  # the grader that every other one is held against
# Of graders that are networks, to the networks' (architecture.NETWORK_NAMES).
NETWORKS = {"SampleCNN": "samplecnn", "rhythm": "rhythm", "rhythms": "rhythms", "SampleCNN + rhythm": "joined"}
COMPARED = ("SampleCNN", "rhythm", "SampleCNN + rhythm")  # beside whatever the model is


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How the recordings are split."""

    folds: int = flag(5, "folds of the cross-validation (of each column, where --group names several)")

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UserError(f"--folds {self.folds}: choose 2 or more")


@dataclass(frozen=True)
class Task:
    """What is to be predicted: recordings, their given grades and folds, all [R]; grades worst first.

    group_CR: the groups by each column that splits keep apart; sample_rate: what the model hears them at; seed: of the
    folds and of every draw; agreement: of the raters, where several graded a recording; mark_R: the marks given,
    if any; part_R: start and end, in s, of what was judged, None: the whole, where any is a part: a recording stands
    there once for each of its parts.
    """

    recordings: list[str]
    grade_R: npt.NDArray[np.int64]
    group_CR: list[list[str]]
    fold_R: npt.NDArray[np.int32]
    grades: tuple[str, ...]
    sample_rate: int
    seed: int
    agreement: Agreement | None = None
    mark_R: npt.NDArray[np.float64] | None = None
    part_R: list[tuple[float, float] | None] | None = None

    @property
    def groups(self) -> list[int]:
        """How many groups each column has."""
        return [len(set(group_R)) for group_R in self.group_CR]


@dataclass(frozen=True)
class Predicted:
    """Out-of-fold probabilities and stated grades of one grader, and the CPU seconds of its fits and predictions.

    graded_R: was it as sure as recordings of the other folds ask for? None: a grader that is not asked. mark_RM: mark,
    least and most of each (calibration.Calibrated); None: of a grader that tells none.
    """

    probs_RG: Probs
    grade_R: npt.NDArray[np.int64]
    cpu_s: float
    graded_R: npt.NDArray[np.bool_] | None = None
    mark_RM: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Model:
    """Which of the graders is the model that `train` would train: its name, the fingerprint of data and settings
    (labelled.py), the rule by which most splits merged, and the temperature, the cuts between grades and the least
    confidence that its out-of-fold predictions, all merged by that rule, ask for; marks: the way from its score to
    the jury's mark, where people gave marks; pieces: the same of recordings judged beside others of their piece."""

    name: str
    fingerprint: str
    merge: str
    temperature: float
    cuts: tuple[float, ...]
    least_confidence: float
    marks: MarkMap | None = None
    pieces: PieceCalibration | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "pieces": self.pieces and self.pieces.to_json()}


@dataclass(frozen=True)
class Evaluation:
    """Metrics and predictions of each grader by name, in the order of the table. settings: all that was decided;
    chance_kappa: up to this one nothing can be told from chance on these recordings; marks: how good the model's are,
    where people gave marks."""

    task: Task
    metrics: dict[str, Metrics]
    predicted: dict[str, Predicted]
    model: Model
    settings: dict[str, Any]
    chance_kappa: float
    marks: MarkMetrics | None = None

    def table(self) -> str:
        """For a terminal: one line a grader, figures with their 95 % intervals, then what can be concluded."""
        task = self.task
        width = max(len(name) for name in self.metrics)
        lines = [
            f"{task.sample_rate} Hz, {len(task.recordings)} recordings in {' x '.join(map(str, task.groups))} groups, "
            f"{len(set(task.fold_R.tolist()))} folds, seed {task.seed}",
            f"{'grader':{width}}  {'accuracy':20}{'kappa':22}{'mean distance':20}{'p':>7}{'CPU s':>8}",
        ]
        for name, m in self.metrics.items():
            cpu_s = f"{self.predicted[name].cpu_s:8.1f}"
            lines.append(f"{name:{width}}  {m.accuracy!s:20}{m.kappa!s:22}{m.mae!s:20}{m.p_value:7.4f}{cpu_s}")
        raters = [str(task.agreement)] if task.agreement else []
        return "\n".join([*lines, "", *raters, *self._marks(), self.conclusion()])

    def _marks(self) -> list[str]:
        """How good its marks are, in a sentence."""
        if self.marks is None:
            return []
        m = self.marks
        return [
            f"Its marks, while held out: R2 {m.r2}, rank correlation {m.spearman}, mean distance {m.mae}; "
            f"{m.within:.0%} of the marks given lie in the intervals told, which are {m.width:.3g} wide on average."
        ]

    def conclusion(self) -> str:
        """Plain sentences on the model."""
        majority = self.metrics[MAJORITY].accuracy.value
        return f"{conclusion(self.metrics[self.model.name], majority, self.chance_kappa)} {self._not_graded()}"

    def _not_graded(self) -> str:
        """What its least confidence does, in a sentence."""
        least, held = self.model.least_confidence, self.held_out()
        if not least:
            return "It grades what it is least sure of too: nothing shows that a person had better hear it."
        return (
            f"Below a confidence of {least:.2f} it gives no grade: while held out, by what the other folds ask for, "
            f"that was {held['not_graded']} of {len(self.task.recordings)} recordings, {held['right_of_not_graded']} "
            f"of which it would have graded right; of the other {held['graded']} it graded "
            f"{held['right_of_graded']} right."
        )

    def held_out(self) -> dict[str, int]:
        """How many recordings the model was sure enough to grade, each by what the other folds ask for, and how many
        grades were right or would have been."""
        model = self.predicted[self.model.name]
        right_R = model.grade_R == self.task.grade_R
        graded_R = np.ones_like(right_R) if model.graded_R is None else model.graded_R
        return {
            "graded": int(graded_R.sum()),
            "right_of_graded": int(right_R[graded_R].sum()),
            "not_graded": int((~graded_R).sum()),
            "right_of_not_graded": int(right_R[~graded_R].sum()),
        }

    def to_json(self) -> dict[str, Any]:
        """One entry of metrics.json."""
        return {
            "sample_rate": self.task.sample_rate,
            "settings": self.settings,
            "grades": list(reversed(self.task.grades)),
            "recordings": len(self.task.recordings),
            "groups": self.task.groups,
            "splits": len(set(self.task.fold_R.tolist())),
            "graders": {
                name: {**asdict(metrics), "cpu_s": round(self.predicted[name].cpu_s, 1)}
                for name, metrics in self.metrics.items()
            },
            "model": self.model.to_json(),
            "held_out": self.held_out(),
            "chance_kappa": self.chance_kappa,
            "raters": asdict(self.task.agreement) if self.task.agreement else None,
            "marks": asdict(self.marks) if self.marks else None,
            "conclusion": self.conclusion(),
            "note": "confusion[given][predicted] counts recordings, worst grade first",
        }


def score_graders(task: Task, predicted: dict[str, Predicted], model: Model, settings: dict[str, Any]) -> Evaluation:
    """Score each grader's out-of-fold probabilities."""
    metrics = {
        name: evaluate(task.grade_R, p.grade_R, p.probs_RG, task.group_CR, task.seed) for name, p in predicted.items()
    }
    by_chance = chance_kappa(task.grade_R, task.group_CR, task.seed)
    mark_R, mark_RM = task.mark_R, predicted[model.name].mark_RM
    marks = None
    if mark_R is not None and mark_RM is not None and np.isfinite(mark_RM).any():
        marks = evaluate_marks(mark_R, mark_RM, task.group_CR, task.seed)
    return Evaluation(task, metrics, predicted, model, settings, by_chance, marks)


def evaluation_files(evaluations: Sequence[Evaluation]) -> dict[str, bytes]:
    """The tables, and last metrics.json, of one evaluation or of a sweep over sample rates: who finds that one may
    believe the others to be of it."""
    whole = {"evaluations": [evaluation.to_json() for evaluation in evaluations]}
    return {
        METRICS_CSV: csv_bytes(pa.concat_tables([metrics_table(evaluation) for evaluation in evaluations])),
        PREDICTIONS_CSV: csv_bytes(pa.concat_tables([predictions_table(evaluation) for evaluation in evaluations])),
        RISK_COVERAGE_CSV: csv_bytes(pa.concat_tables([risk_table(evaluation) for evaluation in evaluations])),
        METRICS_JSON: (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def metrics_table(evaluation: Evaluation) -> pa.Table:
    """One row a grader."""
    rows = []
    for name, m in evaluation.metrics.items():
        row: dict[str, Any] = {SAMPLE_RATE: evaluation.task.sample_rate, "grader": name, "recordings": m.recordings}
        for measure in ("accuracy", "kappa", "mae", "rps", "log_loss"):
            figure = getattr(m, measure)
            value, low, high = (figure.value, figure.low, figure.high) if figure else (None, None, None)
            row |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
        row |= {"spearman": m.spearman, "off_by_two": m.off_by_two, "p_value": m.p_value}
        rows.append({**row, "cpu_s": round(evaluation.predicted[name].cpu_s, 1), "seed": evaluation.task.seed})
    return pa.Table.from_pylist(rows)


def predictions_table(evaluation: Evaluation) -> pa.Table:
    """The model's predictions (contract.predictions_schema): one row a recording, or judged part of it."""
    task, model = evaluation.task, evaluation.predicted[evaluation.model.name]
    probs_RG = model.probs_RG
    columns: dict[str, Any] = {
        RECORDING: task.recordings,
        SAMPLE_RATE: [task.sample_rate] * len(task.recordings),
        GRADE: [task.grades[grade] for grade in task.grade_R],
        PREDICTED: [task.grades[grade] for grade in model.grade_R],
        SCORE: [expected_score(probs_G) for probs_G in probs_RG],
        FOLD: task.fold_R,
    }
    columns |= {probability_column(grade): probs_RG[:, index] for index, grade in enumerate(task.grades)}
    if task.part_R is not None:
        columns[START_S], columns[END_S] = zip(*(part or (None, None) for part in task.part_R), strict=True)
    if task.mark_R is not None:
        told_RM = np.full((len(task.recordings), 3), np.nan) if model.mark_RM is None else model.mark_RM
        columns[MARK] = task.mark_R
        for name, told_R in zip((PREDICTED_MARK, MARK_LOW, MARK_HIGH), told_RM.T, strict=True):
            columns[name] = [mark if np.isfinite(mark) else None for mark in told_R.tolist()]
    schema = predictions_schema(task.grades, marked=task.mark_R is not None, parted=task.part_R is not None)
    return pa.table([pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema)


def risk_table(evaluation: Evaluation) -> pa.Table:
    """The risk-coverage curve of each grader: one row a confidence."""
    tables = []
    for name, predicted in evaluation.predicted.items():
        confidence_R = stated_probability(predicted.probs_RG, predicted.grade_R)
        curve = risk_coverage(evaluation.task.grade_R, predicted.grade_R, confidence_R)
        rows = len(curve.coverage_K)
        columns: dict[str, Any] = {SAMPLE_RATE: [evaluation.task.sample_rate] * rows, "grader": [name] * rows}
        columns |= {CONFIDENCE: curve.confidence_K, "coverage": curve.coverage_K}
        tables.append(pa.table(columns | {"error_rate": curve.error_rate_K, "mae": curve.mae_K}))
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class Calibration:
    """What `train` takes from an evaluation of the model that it trains: the merge rule, temperature, cuts, least
    confidence and the way to marks, set pieces, and how good that model was on recordings it had not heard (JSON
    values); scores: how those that it gave them were spread (inputs.spread_of)."""

    merge: str
    temperature: float
    cuts: tuple[float, ...]
    least_confidence: float
    evaluation: dict[str, Any]
    marks: MarkMap | None = None
    pieces: PieceCalibration | None = None
    scores: dict[str, list[float]] = field(default_factory=dict)


def of_the_model(told: dict[str, Any]) -> dict[str, Any]:
    """What `train` keeps in model.json of an entry of metrics.json (JSON values): how good its model was."""
    kept = {name: told[name] for name in ("held_out", "conclusion")}
    return {**told["graders"][told["model"]["name"]], **kept}


def calibration_of(data: bytes, place: str, fingerprint: str) -> Calibration:
    """The calibration in a metrics.json for the model of this fingerprint.

    Raises UserError where the evaluation was of other data or settings, or is none.
    """
    try:
        for told in read_json(data)["evaluations"]:
            model = told["model"]
            if model["fingerprint"] == fingerprint:
                of_model = of_the_model(told)
                cuts, least = tuple(map(float, model["cuts"])), float(model["least_confidence"])
                marks = MarkMap(**model["marks"]) if model.get("marks") else None
                pieces = piece_calibration_from_json(model["pieces"]) if model.get("pieces") else None
                merge, temperature = str(model["merge"]), float(model["temperature"])
                return Calibration(merge, temperature, cuts, least, of_model, marks, pieces)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--evaluation {place}: {METRICS_JSON} is damaged ({error!r}): evaluate again") from None
    raise UserError(
        f"--evaluation {place}: of other segments, labels or settings than this training: evaluate with the same "
        "flags first, or leave --evaluation out"
    )
