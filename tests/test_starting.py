import numpy as np
import pytest

from samplecnn.course import COURSE
from samplecnn.merge import SegmentOutputs
from samplecnn.starting import LEAST_AGREEMENT, LEAST_GROUPS, LEAST_HEARD, agreement, hearing_of, is_deaf

RECORDINGS, PERFORMERS = 300, 25
SLOPE = COURSE.index("tempo_slope")


def said(by_segments: float, by_course: float = 0.0, seed: int = 0, count: int = RECORDINGS, players: int = PERFORMERS):
    """(segments_R, rank_R, piece_R, group_CR): what a network says, and what the labels do, of which the one tells
    these shares."""
    rng = np.random.default_rng(seed)
    rank_R = rng.permutation(np.arange(count) % 3).astype(np.float64)
    segments_R = []
    for rank in rank_R.tolist():
        heard = by_segments * (rank - 1) + np.sqrt(1 - by_segments**2) * rng.standard_normal() * np.ones(3)
        logits_SG = np.stack([-heard, np.zeros(3), heard], axis=1)
        probs_SG = np.exp(logits_SG) / np.exp(logits_SG).sum(axis=1, keepdims=True)
        course_C = 0.1 * rng.standard_normal(len(COURSE))
        course_C[SLOPE] += 0.2 * by_course * (1 - rank)
        nothing_S0, playing_S = np.zeros((3, 0), np.float32), np.ones(3, np.float32)
        segments_R.append(SegmentOutputs(probs_SG, nothing_S0, playing_S, 10.0 * np.arange(3), course_C))
    return segments_R, rank_R, [""] * count, [[f"p{n // 3 % players}" for n in range(count)]]


@pytest.mark.parametrize("seed", range(3))
def test_a_starter_that_tells_nothing_of_the_labels_is_deaf_and_one_that_does_is_not(seed):
    assert is_deaf(hearing_of(*said(0.0, seed=seed)))
    assert not is_deaf(hearing_of(*said(0.8, seed=seed)))


def test_what_it_tells_by_the_course_of_the_whole_recording_alone_counts():
    assert not is_deaf(hearing_of(*said(0.0, by_course=1.0)))


@pytest.mark.parametrize(("count", "players"), [(LEAST_HEARD - 1, PERFORMERS), (RECORDINGS, LEAST_GROUPS - 1), (15, 9)])
def test_few_labels_show_nothing(count, players):
    assert hearing_of(*said(0.0, count=count, players=players)) is None
    assert not is_deaf(None)


def test_recordings_that_were_not_heard_do_not_count():
    segments_R, *labels = said(0.0, count=LEAST_HEARD + 20)
    assert hearing_of(segments_R, *labels) is not None
    assert hearing_of([one if n >= 21 else None for n, one in enumerate(segments_R)], *labels) is None


def scored(share: float, seed: int = 0, count: int = RECORDINGS, players: int = PERFORMERS):
    """(score_N, rank_N, piece_N, group_CN): scores that tell this share of the labels."""
    rng = np.random.default_rng(seed)
    rank_N = (np.arange(count) % 3).astype(np.float64)
    score_N = share * (rank_N - 1) + np.sqrt(1 - share**2) * rng.standard_normal(count)
    return score_N, rank_N, [""] * count, [[f"p{n // 3 % players}" for n in range(count)]]


def test_what_is_not_sure_leaves_the_starter():
    unsure = agreement(*scored(0.15, 3, 110, 12))
    assert unsure.value < LEAST_AGREEMENT < unsure.high
    assert not is_deaf(unsure)
    assert is_deaf(agreement(*scored(-0.8)))


def test_recordings_are_held_beside_others_of_their_piece():
    score_N, rank_N, _, group_CN = scored(0.8)
    piece_N = [("nocturne", "étude")[n % 2] for n in range(RECORDINGS)]
    moved_N = score_N + np.where(np.array(piece_N) == "étude", 20.0, 0.0)  # easier on the ear, however it is played
    assert agreement(moved_N, rank_N, [""] * RECORDINGS, group_CN).value < 0.5
    assert agreement(moved_N, rank_N, piece_N, group_CN).value > 0.6


def test_pieces_of_one_recording_each_take_nothing_away():
    score_N, rank_N, piece_N, group_CN = scored(0.8)
    own_N = [f"piece {n}" for n in range(RECORDINGS)]
    assert agreement(score_N, rank_N, own_N, group_CN) == agreement(score_N, rank_N, piece_N, group_CN)
