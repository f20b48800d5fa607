"""What to start from: does the starter hear what these labels say?

It was taught by generated performances, where skill is what a program made of it. Where a jury hears the same, a few
labels are enough to go on from there. Where it hears something else, as of real pianists (docs/rated-playing.md), the
starter is only in the way, and what it knows is worth less than a start from nothing. What it says of the labelled
recordings tells which, before anything is trained.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samplecnn.contract import match_key
from samplecnn.merge import SegmentOutputs
from samplecnn.merging import scores_by_rule
from samplecnn.metrics import Figure, rank_correlation
from samplecnn.set_pieces import LEAST_RECORDINGS

# R recordings, N of them that were heard, C columns to group by.
Float64 = npt.NDArray[np.float64]

LEAST_ASKED = 100  # of fewer nothing is learnt from nothing, so that the starter is no loss
LEAST_PERFORMERS = 8  # or other groups: of fewer the interval over them says too little (14 were tried)
LEAST_AGREEMENT = 0.3  # a rank correlation: a tenth of what the labels say


def tell_enough(group_CR: Sequence[list[str]]) -> bool:
    """Can so many labels show that a starter does not hear what they say, and teach another network?"""
    return len(group_CR[0]) >= LEAST_ASKED and min(len(set(group_R)) for group_R in group_CR) >= LEAST_PERFORMERS


def hearing_of(
    segments_R: Sequence[SegmentOutputs | None],
    rank_R: Float64,
    piece_R: Sequence[str],
    group_CR: Sequence[list[str]],
) -> Figure | None:
    """How well a starter hears what labels say: agreement of its scores with them. None: nothing shows it.

    segments_R: what it says of each recording, None where nothing was heard. Its scores are the mean over segments, or
    what the course of the whole recording tells beside it (fitted without the group that is asked), whichever agrees
    better: each alone may tell the grade.
    """
    heard = [i for i, segments in enumerate(segments_R) if segments]
    if not heard:
        return None
    piece_N, rank_N, groups_CN = (
        [piece_R[i] for i in heard],
        rank_R[heard],
        [[one[i] for i in heard] for one in group_CR],
    )
    scores = scores_by_rule([told for told in segments_R if told], rank_N, groups_CN[0], seed=0)
    found = [agreement(score_N, rank_N, piece_N, groups_CN) for score_N in scores.values()]
    return max((figure for figure in found if figure), key=lambda figure: figure.high, default=None)


def is_deaf(hearing: Figure | None) -> bool:
    """Is it shown that the starter does not hear what labels say? hearing: hearing_of these."""
    return hearing is not None and hearing.high < LEAST_AGREEMENT


def agreement(
    score_N: Float64, rank_N: Float64, piece_N: Sequence[str], group_CN: Sequence[list[str]]
) -> Figure | None:
    """The rank correlation of scores and labels, of recordings of the same piece where several play it; its interval
    over groups. None where labels differ in nothing."""
    keys = [match_key(piece) for piece in piece_N]
    players = Counter(key for key, _ in set(zip(keys, group_CN[0], strict=True)))
    # Who alone plays a piece is held beside all others who do: what sets players apart must not be taken away.
    shared = [key if players[key] >= LEAST_RECORDINGS else None for key in keys]
    number = {key: n for n, key in enumerate(dict.fromkeys(shared))}
    at_N = np.array([number[key] for key in shared])
    above_N, given_N = (x_N - (np.bincount(at_N, x_N) / np.bincount(at_N))[at_N] for x_N in (score_N, rank_N))
    return None if np.allclose(given_N, 0) else rank_correlation(given_N, above_N, group_CN, seed=0)
