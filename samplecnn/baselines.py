"""Graders that hear nothing of the playing: what a model must beat before anybody believes it.

The majority knows only how often each grade was given. The others get what can be known of a recording without
listening (level, duration, silence), are fitted on the same folds as the model and scored by the same metrics.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from samplecnn.contract import ACTIVITY, RECORDING, RMS_DBFS, SAMPLE_RATE, START_S, VALID_SAMPLES

Features = npt.NDArray[np.float64]
Grades = npt.NDArray[np.int64]
# (features of training recordings, their grades, features of held-out ones, number of grades) -> probabilities [R, G]
Baseline = Callable[[Features, Grades, Features, int], npt.NDArray[np.float64]]

FEATURE_COLUMNS = [RECORDING, START_S, VALID_SAMPLES, SAMPLE_RATE, ACTIVITY, RMS_DBFS]


def outer_features(segments: pa.Table, recordings: list[str]) -> Features:
    """Level and duration of each recording, [R, 6]: mean, spread and range of the segments' level (dBFS), duration (s),
    mean and least activity.

    segments: at least FEATURE_COLUMNS. Silent segments count: that somebody pauses is known without hearing how.
    """
    end_s = pc.add(segments[START_S], pc.divide(pc.cast(segments[VALID_SAMPLES], pa.float64()), segments[SAMPLE_RATE]))
    level, activity = segments[RMS_DBFS], segments[ACTIVITY]
    by_recording = pa.table(
        {RECORDING: segments[RECORDING], "level": level, "end": end_s, "active": activity}
    ).group_by(RECORDING)
    measures = ["level mean", "level stddev", "level min", "level max", "end max", "active mean", "active min"]
    grouped = by_recording.aggregate([(m.split()[0], m.split()[1]) for m in measures])
    row = {name: i for i, name in enumerate(grouped[RECORDING].to_pylist())}
    order = np.array([row[name] for name in recordings])
    mean, spread, low, high, duration, active, least = (
        grouped[name].to_numpy()[order].astype(np.float64)
        for name in (measure.replace(" ", "_") for measure in measures)
    )
    return np.stack([mean, spread, high - low, duration, active, least], axis=1)


def majority(grade_R: Grades, grades: int) -> npt.NDArray[np.float64]:
    """Always the commonest of all given grades (the middle one of several), [R, G]: the no-information rate.

    Not cross-validated: the commonest grade of the other folds is by construction rare in the held-out one, and so
    would look worse than knowing nothing.
    """
    count_G = np.bincount(grade_R, minlength=grades)
    commonest = np.flatnonzero(count_G == count_G.max())
    probs_G = np.zeros(grades)
    probs_G[commonest[len(commonest) // 2]] = 1.0
    return np.tile(probs_G, (len(grade_R), 1))


def loudness_and_duration(train: Features, grade: Grades, held_out: Features, grades: int) -> npt.NDArray[np.float64]:
    """Logistic regression on level, duration and silence: if this grades well, the recordings give the grade away."""
    probs = np.zeros((len(held_out), grades))
    if len(set(grade.tolist())) < 2:
        probs[:, grade[0]] = 1.0
        return probs
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, grade)
    probs[:, model.classes_] = model.predict_proba(held_out)
    return probs


BASELINES: dict[str, Baseline] = {"loudness and duration": loudness_and_duration}
