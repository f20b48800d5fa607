"""Splits that keep a group (a performer, a piece, a recording) on one side, with the grades spread evenly.

Never split by segment: segments of one recording are near copies, and a model that knows a recording knows its grade.
"""

import logging
import warnings

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from samplecnn.errors import UserError

log = logging.getLogger(__name__)


def grouped_folds(grade_R: npt.NDArray[np.int64], group_R: list[str], folds: int, seed: int) -> npt.NDArray[np.int32]:
    """The fold of each recording, 0-based: groups whole, the grades as even as groups allow, no fold empty.

    Raises UserError where there are fewer groups than folds, or so uneven ones that a fold stays empty.
    """
    groups = len(set(group_R))
    if groups < folds:
        raise UserError(f"--folds {folds}: the labels have only {groups} groups: choose fewer, or --group recording")
    fold_R = np.full(len(grade_R), -1, dtype=np.int32)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns where a grade has fewer recordings than folds; the metrics' intervals say what that costs.
        warnings.simplefilter("ignore", UserWarning)
        try:
            parts = list(splitter.split(grade_R, grade_R, group_R))
        except ValueError:  # more folds than recordings of every grade
            most = int(np.bincount(grade_R).max())
            raise UserError(
                f"--folds {folds}: no grade has more than {most} recordings: choose {most} or fewer"
            ) from None
    for fold, (_, held_out) in enumerate(parts):
        fold_R[held_out] = fold
    if len(set(fold_R.tolist())) < folds:
        raise UserError(f"--folds {folds}: the groups are too uneven for so many: choose fewer")
    return fold_R


def holdout(grade_R: npt.NDArray[np.int64], group_R: list[str], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which recordings validate: about `share` of them, groups whole; none where the labels are too few to part.

    Early stopping looks at these; without any, training runs its full number of epochs.
    """
    most = min(round(1 / share), len(set(group_R)), int(np.bincount(grade_R).max()))
    for folds in range(most, 1, -1):
        try:
            fold_R = grouped_folds(grade_R, group_R, folds, seed)
        except UserError:  # too uneven for so many folds
            continue
        for fold in range(folds):
            held = np.asarray(fold_R == fold, dtype=np.bool_)
            if len(set(grade_R[~held].tolist())) == len(set(grade_R.tolist())):  # every grade is left to learn from
                return held
    log.warning("too few recordings or groups to hold any back: training runs its full number of epochs")
    return np.zeros(len(group_R), dtype=np.bool_)
