"""Graders that a model must beat before anybody believes it, on the same folds and by the same metrics.

The majority knows only how often each grade was given; outer.py what can be known without listening; log_mel.py hears a
spectrogram, as statistics for a logistic regression and as a small network; onsets.py the rhythm, as statistics.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from samplecnn.folds import Split

OUTER = "loudness, duration, format"
LOG_MEL = "log-mel statistics"
LOG_MEL_CNN = "log-mel CNN"
ONSETS = "rhythm statistics"

# R recordings, F features, G grades (0 = worst).
Float64 = npt.NDArray[np.float64]
Grades = npt.NDArray[np.int64]


def majority(grade_R: Grades, grades: int) -> Float64:
    """Always the commonest of all given grades (the middle one of several), [R, G]: the no-information rate.

    Not cross-validated: the commonest grade of the other folds is by construction rare in the held-out one, and so
    would look worse than knowing nothing.
    """
    count_G = np.bincount(grade_R, minlength=grades)
    commonest = np.flatnonzero(count_G == count_G.max())
    probs_G = np.zeros(grades)
    probs_G[commonest[len(commonest) // 2]] = 1.0
    return np.tile(probs_G, (len(grade_R), 1))


def logistic(learn_RF: Float64, grade_R: Grades, held_RF: Float64, grades: int) -> Float64:
    """Probabilities of held-out recordings, [R, G]: logistic regression on features of unit spread."""
    probs_RG = np.zeros((len(held_RF), grades))
    if len(set(grade_R.tolist())) < 2:
        probs_RG[:, grade_R[0]] = 1.0
        return probs_RG
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(learn_RF, grade_R)
    probs_RG[:, model.classes_] = model.predict_proba(held_RF)
    return probs_RG


def held_out_logistic(features_RF: Float64, grade_R: Grades, parted: Sequence[Split], grades: int) -> Float64:
    """Probabilities of each recording, [R, G], by the regression on what its split learns from.

    A recording without features (NaN: nothing is to be heard in it) is not learnt from; it gets the shares of the
    grades that its split learns from.
    """
    known_R = np.isfinite(features_RF).all(axis=1)
    probs_RG = np.zeros((len(features_RF), grades))
    for split in parted:
        learn_R, held_R = split.learn_R & known_R, split.held_R & known_R
        probs_RG[split.held_R] = np.bincount(grade_R[split.learn_R], minlength=grades) / split.learn_R.sum()
        if learn_R.any() and held_R.any():
            probs_RG[held_R] = logistic(features_RF[learn_R], grade_R[learn_R], features_RF[held_R], grades)
    return probs_RG
