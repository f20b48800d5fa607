"""How good the grades are, by recording, with intervals: what a statistician would ask to see.

Every figure comes with a 95 % interval, because 15 recordings prove little: a kappa below 0.40 is then no more than
chance gives one time in twenty (facts: 40,000 permutations of 5/5/5).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Grades = npt.NDArray[np.int64]

BOOTSTRAPS = 2000
PERMUTATIONS = 2000


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Metrics:
    """Agreement of predicted with given grades over recordings.

    kappa: quadratic weighted; mae: mean distance in grades; p_value: how often shuffled labels agree as well by kappa;
    confusion[given][predicted], index 0 = worst.
    """

    recordings: int
    accuracy: Figure
    kappa: Figure
    mae: Figure
    p_value: float
    confusion: list[list[int]]


def kappa(given_R: Grades, predicted_R: Grades) -> float:
    """Quadratic weighted kappa (Cohen 1968); 0 where either side is constant: that shows no skill.

    With squared weights the disagreement expected by chance is var + var + (difference of means)^2, which is a
    hundred times faster than a library's confusion matrix; a test holds it against scikit-learn's.
    """
    given, predicted = given_R.astype(np.float64), predicted_R.astype(np.float64)
    if np.ptp(given) == 0 or np.ptp(predicted) == 0:
        return 0.0
    chance = given.var() + predicted.var() + (given.mean() - predicted.mean()) ** 2
    return float(1 - ((given - predicted) ** 2).mean() / chance)


def evaluate(given_R: Grades, predicted_R: Grades, grades: int, group_R: list[str], seed: int) -> Metrics:
    """All figures of one grader.

    Intervals are bootstrapped over groups, since two recordings of one performer are not two independent trials.
    Accuracy's is widened to the exact one (Clopper-Pearson), which a bootstrap of few recordings falls short of.
    """
    right = int((given_R == predicted_R).sum())
    exact = binomtest(right, len(given_R)).proportion_ci(method="exact")
    rng = np.random.default_rng(seed)

    def figure(measure: Callable[[Grades, Grades], float]) -> Figure:
        draws = [measure(given_R[rows], predicted_R[rows]) for rows in group_bootstrap(group_R, rng)]
        low, high = np.percentile(draws, [2.5, 97.5])
        return Figure(measure(given_R, predicted_R), float(low), float(high))

    accuracy = figure(lambda given, predicted: float((given == predicted).mean()))
    return Metrics(
        recordings=len(given_R),
        accuracy=Figure(accuracy.value, min(accuracy.low, float(exact.low)), max(accuracy.high, float(exact.high))),
        kappa=figure(kappa),
        mae=figure(lambda given, predicted: float(np.abs(given - predicted).mean())),
        p_value=permutation_p(given_R, predicted_R, group_R, rng),
        confusion=np.histogram2d(given_R, predicted_R, bins=[np.arange(grades + 1)] * 2)[0].astype(int).tolist(),
    )


def group_bootstrap(group_R: list[str], rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Row numbers of resampled data sets: whole groups drawn with replacement, as many as there are."""
    _, group = np.unique(np.array(group_R), return_inverse=True)
    rows_N = [np.flatnonzero(group == n) for n in range(group.max() + 1)]
    return [np.concatenate([rows_N[n] for n in rng.integers(0, len(rows_N), len(rows_N))]) for _ in range(BOOTSTRAPS)]


def permutation_p(given_R: Grades, predicted_R: Grades, group_R: list[str], rng: np.random.Generator) -> float:
    """One-sided p-value of kappa: how often do shuffled labels agree as well? Never below 1/(draws + 1).

    Each group gets the labels of a group drawn for it, in any order, repeated or cut to its own size: a performer's
    recordings are mostly graded alike, and shuffling labels one by one would make chance look weaker than it is.
    """
    _, group = np.unique(np.array(group_R), return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    given_N = np.split(given_R[by_group], np.flatnonzero(np.diff(group[by_group])) + 1)
    predicted = predicted_R[by_group]
    observed = kappa(given_R, predicted_R)

    def shuffled() -> Grades:
        donors = rng.permutation(len(given_N))
        drawn = [np.resize(rng.permutation(given_N[n]), len(own)) for n, own in zip(donors, given_N, strict=True)]
        return np.concatenate(drawn)

    as_good = sum(kappa(shuffled(), predicted) >= observed for _ in range(PERMUTATIONS))
    return (as_good + 1) / (PERMUTATIONS + 1)


def conclusion(metrics: Metrics, majority_accuracy: float) -> str:
    """What can be said of this grader, in one plain sentence."""
    n = metrics.recordings
    if metrics.p_value > 0.05:
        return (
            f"On {n} recordings this grader cannot be told from chance (p = {metrics.p_value:.2f}): "
            "do not rely on its grades; label more recordings by more performers."
        )
    few = " With so few recordings the interval is wide: treat it as a first sign." if n < 60 else ""
    better = "above" if metrics.accuracy.low > majority_accuracy else "not surely above"
    return (
        f"On {n} recordings this grader agrees with the given grades better than chance (p = {metrics.p_value:.3f}), "
        f"its accuracy {better} the majority's {majority_accuracy:.2f}.{few}"
    )
