"""Splits that keep a group (a performer, a piece, a recording) on one side, with the grades spread evenly.

Never split by segment: segments of one recording are near copies, and a model that knows a recording knows its grade.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from samplecnn.errors import UserError

log = logging.getLogger(__name__)


# R recordings, C columns to group by.


@dataclass(frozen=True)
class Split:
    """One training of a cross-validation, bool [R]: what is learnt from, and what is held out and predicted. A
    recording may be neither."""

    learn_R: npt.NDArray[np.bool_]
    held_R: npt.NDArray[np.bool_]


def splits(grade_R: npt.NDArray[np.int64], group_CR: Sequence[list[str]], folds: int, seed: int) -> list[Split]:
    """A cross-validation: each recording is held out once, and none that is learnt from shares a group with it.

    By several columns (performer and piece) the folds of one are crossed with those of the other: a split holds out
    what lies in a fold of each, and learns from what lies in neither. So there are up to folds ** C splits, and the
    rest, of a known performer or a known piece, is left out of both sides. Raises UserError where grouped_folds does,
    or where too little is left to learn from.
    """
    fold_CR = [grouped_folds(grade_R, group_R, folds, seed) for group_R in group_CR]
    found = []
    for cell in product(range(folds), repeat=len(fold_CR)):
        inside_CR = np.stack([fold_R == fold for fold_R, fold in zip(fold_CR, cell, strict=True)])
        split = Split(learn_R=np.asarray(~inside_CR.any(axis=0)), held_R=np.asarray(inside_CR.all(axis=0)))
        if not split.held_R.any():
            continue
        if len(set(grade_R[split.learn_R].tolist())) < 2:
            raise UserError(f"--folds {folds}: a fold leaves fewer than two grades to learn from: choose more folds")
        found.append(split)
    return found


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
