from dataclasses import replace

import numpy as np
import pytest

from samplecnn.calibration import Heard, Played, calibrate
from samplecnn.errors import UserError
from samplecnn.folds import splits
from samplecnn.marks import MarkMap
from samplecnn.merge import Merged, expected_score, moved_along
from samplecnn.set_pieces import (
    PieceCalibration,
    SetPieces,
    fit_shifts,
    log_odds_of_shares,
    mean_log_odds,
    moved_by,
    piece_calibration_from_json,
    read_pieces,
    set_pieces_from_json,
    telling,
)

EQUAL_G = np.full(3, 1 / 3)


def at(odds: float) -> Merged:
    """A recording whose log odds are those of equal shares, so much moved."""
    probs_G = moved_along(EQUAL_G, 1.0, odds)
    return Merged(probs_G, expected_score(probs_G), np.ones(1))


def corpus(offsets: dict[str, float], each: int, noise: float, seed: int = 0):
    """(merged_R, grade_R, piece_R): log odds are one a grade, the piece's offset, and noise."""
    rng = np.random.default_rng(seed)
    grade_R = np.tile(np.arange(each) % 3, len(offsets))
    piece_R = [piece for piece in offsets for _ in range(each)]
    odds_R = grade_R - 1 + np.array([offsets[piece] for piece in piece_R]) + noise * rng.standard_normal(len(piece_R))
    return [at(odds) for odds in odds_R.tolist()], grade_R, piece_R


def test_a_piece_that_sounds_better_than_it_was_graded_is_moved_down_by_as_much():
    shift = fit_shifts(*corpus({"nocturne": 1.5, "étude": -1.5, "fugue": 0.0}, each=30, noise=0.3), 0.0)
    assert shift == pytest.approx({"nocturne": -1.5, "étude": 1.5, "fugue": 0.0}, abs=0.15)
    assert mean_log_odds(moved_by(at(0.7), -0.5).probs_G) == pytest.approx(mean_log_odds(at(0.2).probs_G))
    assert moved_by(at(0.7), -0.5).score < at(0.7).score


def test_what_grades_account_for_is_no_pieces_doing():
    """Better players chose the one piece: it is graded higher, and sounds as much better."""
    merged_R, grade_R, _ = corpus({"all": 0.0}, each=300, noise=0.2)
    rng = np.random.default_rng(1)
    piece_R = ["hard" if rng.random() < (grade + 1) / 4 else "easy" for grade in grade_R]
    assert fit_shifts(merged_R, grade_R, piece_R, 0.0) == pytest.approx({"hard": 0.0, "easy": 0.0}, abs=0.05)


def test_a_piece_is_known_from_three_recordings_on_and_pieces_are_two_at_least():
    merged_R, grade_R, piece_R = corpus({"a": 1.0, "b": -1.0}, each=6, noise=0.1)
    assert set(fit_shifts([*merged_R, at(0), at(0)], np.r_[grade_R, 0, 1], [*piece_R, "c", "c"], 0.0)) == {"a", "b"}
    assert fit_shifts(merged_R, grade_R, ["a"] * 12, 0.0) == {}
    assert fit_shifts(merged_R, grade_R, [""] * 12, 0.0) == {}


def test_what_a_network_remembers_of_a_piece_is_taken_off_though_its_grades_are_as_high():
    """Good players of a piece are held out: what is left of it was graded lower by chance alone, and so remembered."""
    rng = np.random.default_rng(2)
    grade_R = np.array([[0, 1, 1, 2, 0, 1], [0, 1, 2, 2, 1, 1], [0, 2, 1, 0, 2, 1]]).ravel()
    piece_R = [piece for piece in "abc" for _ in range(6)]
    mean_P = grade_R.reshape(3, 6).mean(axis=1)
    odds_R = 2.0 * (grade_R - 1) + 0.05 * rng.standard_normal(18)
    centre = log_odds_of_shares(grade_R, 3)
    shift = fit_shifts([at(odds) for odds in odds_R.tolist()], grade_R, piece_R, centre)
    # Centred on what the network says of each piece: a new player is held against these, not against their grades.
    np.testing.assert_allclose([shift[piece] for piece in "abc"], centre - 2.0 * (mean_P - 1), atol=0.1)


def test_the_centre_is_what_the_shares_of_grades_say():
    assert log_odds_of_shares(np.array([0, 1, 2]), 3) == pytest.approx(0)
    assert log_odds_of_shares(np.array([0, 1, 2, 2, 2, 2, 2]), 3) > 0.5


def heard_as(merged_R: list[Merged]) -> list[Heard]:
    """Recordings of one segment, of which a network says that."""
    return [
        Heard(np.log(m.probs_G)[None].astype(np.float32), np.ones(1, np.float32), np.zeros(1), np.zeros(20))
        for m in merged_R
    ]


def test_calibration_moves_what_is_held_out_by_what_its_network_makes_of_the_others():
    """Grades are thirds within each piece, and networks hear the piece louder than the playing, each in its own way."""
    merged_R, grade_R, piece_R = corpus({"a": 0.0, "b": 0.0, "c": 0.0}, each=30, noise=0.5)
    group_R = [f"player {n % 15}" for n in range(len(grade_R))]
    parted = splits(grade_R, [group_R], 5, 0)
    rng = np.random.default_rng(3)
    offset_KR = [np.repeat(rng.permutation([4.0, -4.0, 0.0]), 30) for _ in parted]
    heard_K = [
        heard_as([moved_by(one, off) for one, off in zip(merged_R, offset_R.tolist(), strict=True)])
        for offset_R in offset_KR
    ]
    heard_R = [next(h[i] for h, s in zip(heard_K, parted, strict=True) if s.held_R[i]) for i in range(len(grade_R))]
    learnt_K = [{i: h[i] for i in np.flatnonzero(s.learn_R).tolist()} for h, s in zip(heard_K, parted, strict=True)]
    plain = calibrate(heard_R, grade_R, [group_R], parted, 3, "cross-entropy")
    known = calibrate(heard_R, grade_R, [group_R], parted, 3, "cross-entropy", played=Played(piece_R, learnt_K))
    assert known.beside_R.all()
    assert not plain.beside_R.any()
    assert (plain.grade_R == grade_R).mean() < 0.6
    assert (known.grade_R == grade_R).mean() > 0.7
    # A fold is moved by what its network makes of the others: other grades in it change nothing of that.
    held_R = parted[0].held_R
    other_R = np.where(held_R, 2 - grade_R, grade_R)
    again = calibrate(heard_R, other_R, [group_R], parted, 3, "cross-entropy", played=Played(piece_R, learnt_K))
    np.testing.assert_array_equal(again.probs_RG[held_R], known.probs_RG[held_R])


def test_recordings_whose_piece_no_split_knows_stay_as_they_are():
    merged_R, grade_R, piece_R = corpus({"a": 4.0, "b": -4.0, "c": 0.0, "d": 1.0}, each=12, noise=0.5)
    heard_R, parted = heard_as(merged_R), splits(grade_R, [piece_R], 4, 0)
    learnt_K = [{i: heard_R[i] for i in np.flatnonzero(split.learn_R).tolist()} for split in parted]
    plain = calibrate(heard_R, grade_R, [piece_R], parted, 3, "cross-entropy")
    known = calibrate(heard_R, grade_R, [piece_R], parted, 3, "cross-entropy", played=Played(piece_R, learnt_K))
    assert not known.beside_R.any()
    np.testing.assert_array_equal(known.probs_RG, plain.probs_RG)


def test_a_piece_is_told_by_those_that_name_it_and_by_no_more_than_are_needed(monkeypatch):
    piece_R = ["a", "", "b", "a", "b", "", "a", "b"]
    assert telling(piece_R, np.arange(1, 8)).tolist() == [2, 3, 4, 6, 7]
    monkeypatch.setattr("samplecnn.set_pieces.MOST_HEARD", 3)
    assert [piece_R[row] for row in telling(piece_R, np.arange(8))] == ["a", "b", "a"]


PIECES = SetPieces({"a": 0.5}, PieceCalibration((0.3, 0.6), 0.4, MarkMap(10, 80, 5, 0, 100)))


def test_pieces_come_back_from_json():
    assert set_pieces_from_json(PIECES.to_json()) == PIECES
    assert piece_calibration_from_json(PIECES.calibration.to_json()) == PIECES.calibration
    assert set_pieces_from_json({**PIECES.to_json(), "marks": None}).calibration.marks is None
    for damaged in ({}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="no number"):
            set_pieces_from_json({**PIECES.to_json(), "shift": damaged})
    with pytest.raises(ValueError, match="cuts must rise"):
        set_pieces_from_json({**PIECES.to_json(), "cuts": [0.6, 0.3]})


def test_a_piece_may_be_spelled_in_either_way():
    pieces = replace(PIECES, shift={"\u00e9tude": 0.5})
    assert pieces.knows("e\u0301tude")
    assert not pieces.knows("etude")


def test_a_table_of_pieces():
    told = read_pieces(b"recording,piece\nann/a.wav,fugue\n./b.wav,\nc.wav,fugue\nc.wav,fugue\n", "pieces.csv")
    assert told == {"ann/a.wav": "fugue", "c.wav": "fugue"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no pieces in it"),
        ("recording\na.wav\n", "no column piece in recording"),
        ("name,piece\na.wav,fugue\n", "no column recording in name,piece"),
        ("recording,piece\n,fugue\n", "row 1: no recording named"),
        ("recording,piece\na.wav,fugue\na.wav,waltz\n", "'a.wav' stands there with two pieces"),
    ],
)
def test_a_table_of_pieces_that_cannot_be_meant_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        read_pieces(text.encode(), "pieces.csv")
