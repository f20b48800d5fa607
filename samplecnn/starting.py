"""What to start from: does the starter hear what these labels say?

It was taught by generated performances, where skill is what a program made of it. Where a jury hears the same, a few
labels are enough to go on from there. Where it hears something else, as of real pianists (docs/rated-playing.md), the
starter is only in the way, and what it knows is worth less than a start from nothing. What it says of the labelled
recordings tells which, before anything is trained.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samplecnn.contract import match_key
from samplecnn.merge import SegmentOutputs
from samplecnn.merging import scores_out_of_fold
from samplecnn.metrics import Figure, evaluate_marks
from samplecnn.set_pieces import LEAST_RECORDINGS

# R recordings, N of them that were heard, C columns to group by.
Float64 = npt.NDArray[np.float64]

MOST_HEARD = 400  # recordings; more tell it no better
LEAST_HEARD = 100  # of fewer nothing is learnt from nothing, so that the starter is no loss
LEAST_GROUPS = 8  # of fewer the interval over them is too uncertain itself
LEAST_AGREEMENT = 0.3  # a rank correlation: a tenth of what the labels say


def hearing_of(
    segments_R: Sequence[SegmentOutputs | None],
    rank_R: Float64,
    piece_R: Sequence[str],
    group_CR: Sequence[list[str]],
) -> Figure | None:
    """How well a starter hears what labels say: agreement of its scores with them. None: too few show it.

    segments_R: what it says of each recording, None where nothing was heard. Its scores are by the course of the whole
    recording too, since that alone may tell the grade; the rule is fitted without the group that it is asked of.
    """
    heard = [i for i, segments in enumerate(segments_R) if segments]
    groups_CN = [[group_R[i] for i in heard] for group_R in group_CR]
    if len(heard) < LEAST_HEARD or min(len(set(group_N)) for group_N in groups_CN) < LEAST_GROUPS:
        return None
    rank_N = rank_R[heard]
    score_N = scores_out_of_fold([told for told in segments_R if told], rank_N, groups_CN[0], seed=0)
    return None if score_N is None else agreement(score_N, rank_N, [piece_R[i] for i in heard], groups_CN)


def is_deaf(hearing: Figure | None) -> bool:
    """Is it shown that the starter does not hear what labels say? hearing: hearing_of these."""
    return hearing is not None and hearing.high < LEAST_AGREEMENT


def agreement(score_N: Float64, rank_N: Float64, piece_N: Sequence[str], group_CN: Sequence[list[str]]) -> Figure:
    """The rank correlation of scores and labels, of recordings of the same piece where there are enough; its interval
    over groups."""
    keys, piece, count_P = np.unique([match_key(one) for one in piece_N], return_inverse=True, return_counts=True)
    piece = np.where(count_P >= LEAST_RECORDINGS, np.arange(len(keys)), len(keys))[piece]  # the others are one
    above_N, given_N = (
        x_N - (np.bincount(piece, x_N) / np.maximum(1, np.bincount(piece)))[piece] for x_N in (score_N, rank_N)
    )
    return evaluate_marks(given_N, np.repeat(above_N[:, None], 3, axis=1), group_CN, seed=0).spearman
