"""Is a recording like those that a model was trained on? One that is not, speech or noise, gets no grade.

The distance is Mahalanobis': of the measures of its sound (sound.py) from their mean over the training recordings, by
their covariance, shrunk as Ledoit and Wolf (2004) do, to which each measure's own spread in playing at large is added.
So fifteen recordings of one piano do not make every other piano a stranger, and a distance means the same whatever the
model. How far is too far is learnt from recordings that were held out, within bounds (docs/not-playing.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.sound import MEASURES

# R recordings, M measures.
Float64 = npt.NDArray[np.float64]

LEAST_RECORDINGS = 5  # fewer say nothing of what playing is
FOLDS = 5
BEYOND = 0.005  # of playing lies further than the bound, were the logarithms of distances normal
# Nearer is never unlike, further always is: between them, on generated corpora, lie neither playing nor speech.
NEAREST, FURTHEST = 4.5, 4.75
LEAST_DISTANCE = 1e-3  # of copies of one recording: 0 has no logarithm


@dataclass(frozen=True)
class Likeness:
    """mean, precision (inverse covariance): of the measures over MEASURES' spreads; limit: the greatest distance of
    what is alike. Plain numbers: model.json holds them."""

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float

    def __post_init__(self) -> None:
        count, numbers = len(MEASURES), np.array([self.mean, *self.precision], np.float64)
        if numbers.shape != (count + 1, count) or not np.isfinite(numbers).all() or not self.limit > 0:
            raise ValueError(f"a likeness of {count} measures is needed")
        if np.linalg.eigvalsh(numbers[1:]).min() <= 0:
            raise ValueError("a precision makes no distance")

    def distance(self, measures_M: Float64) -> float:
        """How far from the training recordings, in spreads."""
        return float(_distances(measures_M[None], np.array(self.mean), np.array(self.precision))[0])

    def to_json(self) -> dict[str, Any]:
        """As model.json holds it."""
        told = {"mean": list(self.mean), "precision": [list(row) for row in self.precision], "limit": self.limit}
        return {"measures": list(MEASURES), **told}


def likeness_from_json(told: Mapping[str, Any]) -> Likeness:
    """What to_json wrote. Raises ValueError, KeyError or TypeError for anything else."""
    if told["measures"] != list(MEASURES):
        raise ValueError("other measures of sound than this version's")
    precision = tuple(tuple(float(value) for value in row) for row in told["precision"])
    return Likeness(tuple(float(value) for value in told["mean"]), precision, float(told["limit"]))


def fit_likeness(measures_RM: Float64, groups: Sequence[str]) -> Likeness | None:
    """What these recordings have in common; None for fewer than LEAST_RECORDINGS.

    groups: no two recordings of one lie on both sides where distances of held-out recordings are taken.
    """
    if len(measures_RM) < LEAST_RECORDINGS:
        return None
    mean_M, precision_MM = _fitted(measures_RM)
    limit = min(max(_bound(measures_RM, groups), NEAREST), FURTHEST)
    return Likeness(tuple(mean_M.tolist()), tuple(tuple(row) for row in precision_MM.tolist()), limit)


def _fitted(measures_RM: Float64) -> tuple[Float64, Float64]:
    from sklearn.covariance import LedoitWolf  # here: a second to import, and who grades never fits

    scaled_RM = measures_RM / _spreads()
    mean_M = scaled_RM.mean(axis=0)
    covariance_MM = LedoitWolf(assume_centered=True).fit(scaled_RM - mean_M).covariance_
    return mean_M, np.linalg.inv(covariance_MM + np.eye(len(mean_M)))


def _bound(measures_RM: Float64, groups: Sequence[str]) -> float:
    """The distance that BEYOND of recordings held out pass: a prediction interval for one more, of log distances."""
    from scipy.stats import t
    from sklearn.model_selection import GroupKFold

    folds = min(FOLDS, len(set(groups)))
    if folds < 2:
        return NEAREST
    held = [
        _distances(measures_RM[held_R], *_fitted(measures_RM[learn_R]))
        for learn_R, held_R in GroupKFold(folds).split(measures_RM, groups=groups)
    ]
    log_R = np.log(np.maximum(np.concatenate(held), LEAST_DISTANCE))
    count = len(log_R)
    beyond = t.ppf(1 - BEYOND, count - 1) * log_R.std(ddof=1) * math.sqrt(1 + 1 / count)
    return float(np.exp(log_R.mean() + beyond))


def _distances(measures_RM: Float64, mean_M: Float64, precision_MM: Float64) -> Float64:
    off_RM = measures_RM / _spreads() - mean_M
    squares_R: Float64 = np.einsum("rm,mn,rn->r", off_RM, precision_MM, off_RM)
    return np.sqrt(squares_R)


def _spreads() -> Float64:
    return np.array(list(MEASURES.values()))
