import numpy as np
import pytest

from samplecnn.course import COURSE
from samplecnn.merge import SegmentOutputs
from samplecnn.starting import (
    LEAST_AGREEMENT,
    LEAST_ASKED,
    LEAST_PERFORMERS,
    agreement,
    hearing_of,
    is_deaf,
    tell_enough,
)

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


def test_what_it_tells_by_the_mean_counts_where_few_performers_teach_the_course_nothing():
    segments_R, rank_R, piece_R, _ = said(0.6, count=104)
    assert hearing_of(segments_R, rank_R, piece_R, [[f"p{n % 8}" for n in range(104)]]).value > 0.5


def test_few_labels_show_nothing():
    many = [f"p{n}" for n in range(LEAST_ASKED)]
    few = [f"p{n % (LEAST_PERFORMERS - 1)}" for n in range(LEAST_ASKED)]
    assert tell_enough([many])
    assert not tell_enough([many[1:]])
    assert not tell_enough([few])
    assert not tell_enough([many, few])
    assert hearing_of([None] * 3, np.zeros(3), [""] * 3, [["a", "b", "c"]]) is None
    assert not is_deaf(None)


def test_recordings_that_were_not_heard_do_not_count():
    segments_R, rank_R, piece_R, group_CR = said(0.8)
    some_R = [one if n % 3 else None for n, one in enumerate(segments_R)]
    kept = [n for n, one in enumerate(some_R) if one]
    fewer = ([segments_R[n] for n in kept], rank_R[kept], [""] * len(kept), [[group_CR[0][n] for n in kept]])
    assert hearing_of(some_R, rank_R, piece_R, group_CR) == hearing_of(*fewer)


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


def test_a_piece_that_one_player_alone_plays_takes_nothing_away():
    """Each has one grade, so that beside their own recordings all are alike."""
    rng = np.random.default_rng(0)
    rank_N = np.repeat(np.arange(40) % 3, 5).astype(np.float64)
    player_N = [f"p{n // 5}" for n in range(200)]
    score_N = rank_N + 0.5 * rng.standard_normal(200)
    own_N = [f"{player}'s piece" for player in player_N]
    assert agreement(score_N, rank_N, own_N, [player_N]) == agreement(score_N, rank_N, [""] * 200, [player_N])
    assert agreement(score_N, rank_N, own_N, [player_N]).value > 0.7


def test_where_all_who_play_a_piece_are_graded_alike_nothing_is_shown():
    score_N, _, piece_N, group_CN = scored(0.8)
    assert agreement(score_N, np.ones(RECORDINGS), piece_N, group_CN) is None
