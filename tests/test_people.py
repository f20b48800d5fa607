"""Does the benchmark of rated pianists judge by what it says? What is said of recordings is made up here."""

import numpy as np
import pytest

from benchmarks.people import (
    ELSEWHERE,
    EXCERPTS,
    FOLDS,
    TAKES,
    WORK,
    Fold,
    averaged,
    judged,
    perfect,
    scores_of,
    split_of,
)
from samplecnn.contract import GRADE, MARK, PERFORMER, PIECE, RECORDING

WORKS = ("fugue", "waltz", "march", "étude")
LEANING = dict(zip(WORKS, (0.25, -0.25, 0.1, -0.1), strict=True))  # how a network takes a work, all players alike


def rows_of_players() -> list[dict[str, str]]:
    """14 players of four works: a take and an excerpt each, and the take on the other piano."""
    rng, rows = np.random.default_rng(0), []
    for work in WORKS:
        marks = rng.permutation(14) / 14
        for player, mark in enumerate(marks.tolist()):
            told = {GRADE: "CBA"[int(3 * mark)], MARK: f"{mark:.4f}", PERFORMER: f"p{player:02}", WORK: work}
            for folder in (TAKES, ELSEWHERE, EXCERPTS):
                piece = work + " excerpts" * (folder == EXCERPTS)
                rows.append({RECORDING: f"{folder}{work}_p{player:02}.flac", **told, PIECE: piece})
    return rows


def probs(row: dict[str, str], fold: Fold) -> list[float]:
    """A network that knows the mark, and takes each work, and each fold, in its own way."""
    odds = 4 * (float(row[MARK]) - 0.5) + 20 * LEANING[row[WORK]] * (-1) ** fold.number
    beyond = 1 / (1 + np.exp(-(odds + np.array([1.0, -1.0]))))
    return [1 - beyond[0], beyond[0] - beyond[1], beyond[1]]


def test_who_knows_the_marks_is_told_so_if_the_piece_is_given_and_not_without() -> None:
    rows = rows_of_players()
    names = sorted(row[RECORDING] for row in rows)
    by_name = {row[RECORDING]: row for row in rows}
    said = {}
    for by, folds in FOLDS.items():
        for fold in (Fold("segments", "default", by, number, 0, False) for number in range(folds)):
            split = split_of(rows, names, fold)
            held, learnt = (
                {names[i]: probs(by_name[names[i]], fold) for i in np.flatnonzero(rows_R)}
                for rows_R in (split.held_R, split.learn_R)
            )
            assert not any(name.startswith(ELSEWHERE) for name in learnt)
            said[fold] = held, learnt
    scores = scores_of(rows, said)
    kappa, by_piece, right, r2, correlation, elsewhere, between, unheard = judged(rows, scores, 0)
    assert float(str(kappa).split()[0]) < 0.4
    assert float(str(by_piece).split()[0]) > 0.9
    assert float(right) > 0.9
    assert float(str(r2).split()[0]) > 0.8
    assert float(str(correlation).split()[0]) > 0.9
    assert elsewhere == by_piece
    assert between == pytest.approx(1)
    assert float(str(unheard).split()[0]) < 0.4
    assert judged(rows, averaged([scores, scores]), 0) == judged(rows, scores, 0)


def test_nobody_agrees_with_noisy_marks_better_than_the_ceiling() -> None:
    assert perfect(0.79) == "a perfect grader: kappa 0.79, accuracy 0.73"
    assert perfect(1.0) == "a perfect grader: kappa 1.00, accuracy 1.00"
