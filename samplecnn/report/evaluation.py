"""What an evaluation says: its metrics.json and the two tables beside it, read back as they were written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from samplecnn.contract import (
    GRADE,
    METRICS_JSON,
    PREDICTED,
    PREDICTIONS_CSV,
    RISK_COVERAGE_CSV,
    SAMPLE_RATE,
    SCORE,
    probability_column,
)
from samplecnn.errors import UserError
from samplecnn.metrics import Figure
from samplecnn.store import Store, open_store
from samplecnn.tables import read_csv
from samplecnn.untrusted import read_json

MEASURES = ("accuracy", "kappa", "mae")
A_BIN, BINS = 5, 8  # recordings at least in a bin of the reliability curve; so many bins at most


@dataclass(frozen=True)
class Grader:
    """One grader's figures. confusion[given][predicted]: recordings, best grade first; coverage, error_rate: its
    risk-coverage curve."""

    name: str
    is_model: bool
    figures: Mapping[str, Figure]
    p_value: float
    confusion: list[list[int]]
    coverage: list[float]
    error_rate: list[float]


@dataclass(frozen=True)
class Reliable:
    """A bin of the reliability curve: recordings of about one confidence, and the share of them that was graded right,
    with its exact 95 % interval (Clopper-Pearson)."""

    confidence: float
    right: Figure
    recordings: int


@dataclass(frozen=True)
class Evaluated:
    """The evaluation at one sample rate. grades: best first; scores: of the model, out of fold."""

    sample_rate: int
    grades: list[str]
    recordings: int
    groups: list[int]
    conclusion: str
    chance_kappa: float
    graders: list[Grader]
    reliability: list[Reliable]
    scores: list[float]

    @property
    def model(self) -> Grader:
        return next(grader for grader in self.graders if grader.is_model)


def read_evaluation(place: str) -> tuple[Store, list[Evaluated]]:
    """The evaluations of a folder, one a sample rate. Raises UserError where there is none, or it is damaged."""
    store = open_store(place)
    try:
        told = read_json(store.read(METRICS_JSON).data)
        predictions = read_csv(store.read(PREDICTIONS_CSV).data, store.url(PREDICTIONS_CSV))
        risks = read_csv(store.read(RISK_COVERAGE_CSV).data, store.url(RISK_COVERAGE_CSV))
    except FileNotFoundError:
        raise UserError(f"--evaluation {place}: no evaluation there: run jobs/evaluate.py first") from None
    except ValueError as error:
        raise UserError(f"--evaluation {place}: {METRICS_JSON} is damaged ({error}): evaluate again") from None
    try:
        return store, [_evaluated(one, predictions, risks) for one in told["evaluations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--evaluation {place}: damaged, or of another version ({error!r}): evaluate again") from None


def _evaluated(
    told: Mapping[str, Any], predictions: Sequence[Mapping[str, str]], risks: Sequence[Mapping[str, str]]
) -> Evaluated:
    rate = int(told["sample_rate"])
    rows = [row for row in predictions if int(row[SAMPLE_RATE]) == rate]
    curves = [row for row in risks if int(row[SAMPLE_RATE]) == rate]
    graders = []
    for name, metrics in told["graders"].items():
        curve = [row for row in curves if row["grader"] == name]
        graders.append(
            Grader(
                name,
                name == told["model"]["name"],
                {measure: Figure(**metrics[measure]) for measure in MEASURES},
                float(metrics["p_value"]),
                [list(reversed(row)) for row in reversed(metrics["confusion"])],
                [float(row["coverage"]) for row in curve],
                [float(row["error_rate"]) for row in curve],
            )
        )
    confidence_R = np.array([float(row[probability_column(row[PREDICTED])]) for row in rows])
    right_R = np.array([row[GRADE] == row[PREDICTED] for row in rows])
    return Evaluated(
        rate,
        list(told["grades"]),
        int(told["recordings"]),
        list(told["groups"]),
        str(told["conclusion"]),
        float(told["chance_kappa"]),
        graders,
        reliability(confidence_R, right_R),
        [float(row[SCORE]) for row in rows],
    )


def reliability(confidence_R: npt.NDArray[np.float64], right_R: npt.NDArray[np.bool_]) -> list[Reliable]:
    """Bins of equally many recordings, by rising confidence. Fewer than A_BIN recordings say nothing."""
    bins = min(BINS, len(right_R) // A_BIN)
    found = []
    for of_bin in np.array_split(np.argsort(confidence_R, kind="stable"), bins) if bins else []:
        exact = binomtest(int(right_R[of_bin].sum()), len(of_bin)).proportion_ci(method="exact")
        right = Figure(float(right_R[of_bin].mean()), float(exact.low), float(exact.high))
        found.append(Reliable(float(confidence_R[of_bin].mean()), right, len(of_bin)))
    return found
