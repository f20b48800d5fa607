"""Set pieces: where everybody plays the same music, a recording is judged beside others of that piece.

Some music sounds better to a model than other music, however it is played. What labelled recordings of a piece scored
more, or less, than their grades account for is taken off from then on: a shift for each piece, fitted on scores of
recordings that the model had not heard, and kept in the model, so that tomorrow's uploads never change tonight's grade.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.contract import PIECE, RECORDING, match_key, name_in_cell
from samplecnn.errors import UserError
from samplecnn.marks import MarkMap
from samplecnn.merge import Merged, expected_score, log_odds, moved_along
from samplecnn.store import read_file
from samplecnn.tables import read_csv

# R recordings, G grades (0 = worst), K steps between grades.
Float64 = npt.NDArray[np.float64]

LEAST_RECORDINGS = 3  # of a piece; fewer do not show what it sounds like
LEAST_PIECES = 2


@dataclass(frozen=True)
class SetPieces:
    """What a model knows of pieces. shift: by the piece's key (match_key), added to the log odds of being beyond each
    step between grades; cuts, least_confidence, marks: as in the model, but of scores that are so moved."""

    shift: Mapping[str, float]
    cuts: tuple[float, ...]
    least_confidence: float
    marks: MarkMap | None = None

    def __post_init__(self) -> None:
        if not self.shift or not all(math.isfinite(shift) for shift in self.shift.values()):
            raise ValueError("a piece has no number")
        if list(self.cuts) != sorted(self.cuts) or not 0 <= self.least_confidence <= 1:
            raise ValueError("cuts must rise, and the least confidence lie between 0 and 1")

    def knows(self, piece: str) -> bool:
        """Was it judged by enough recordings?"""
        return match_key(piece) in self.shift

    def to_json(self) -> dict[str, Any]:
        """For model.json and metrics.json."""
        return {**asdict(self), "shift": dict(self.shift), "cuts": list(self.cuts)}


def set_pieces_from_json(told: Mapping[str, Any]) -> SetPieces:
    """What to_json made. Raises ValueError, KeyError or TypeError for anything else."""
    shift = {str(piece): float(value) for piece, value in told["shift"].items()}
    marks = MarkMap(**told["marks"]) if told["marks"] else None
    return SetPieces(shift, tuple(map(float, told["cuts"])), float(told["least_confidence"]), marks)


def beside(merged: Merged, piece: str, shift: Mapping[str, float]) -> Merged:
    """A recording beside others of its piece; as it is where no shift is known of that ("": none is named)."""
    key = match_key(piece)
    return moved_by(merged, shift[key]) if key in shift else merged


def moved_by(merged: Merged, shift: float) -> Merged:
    """The same recording with its log odds moved."""
    probs_G = moved_along(merged.probs_G, 1.0, shift)
    return replace(merged, probs_G=probs_G, score=expected_score(probs_G))


def fit_shifts(merged_R: Sequence[Merged], grade_R: npt.NDArray[np.int64], piece_R: Sequence[str]) -> dict[str, float]:
    """The shift of each piece, by its key, with LEAST_RECORDINGS or more; none where fewer than LEAST_PIECES have them.

    merged_R: out of fold; piece_R: "" where none was named. Log odds are a line in the given grade, the same for all
    pieces (fitted within pieces), and an offset of the piece: a random effect, whose variance is found by moments, and
    which is held back the more, the fewer recordings tell it (Robinson 1991, doi 10.1214/ss/1177011926). Where pieces
    differ no more than chance lets them, all shifts are 0.
    """
    key_R = np.array([match_key(piece) for piece in piece_R], object)
    named, count_P = np.unique([key for key in key_R if key], return_counts=True)
    pieces = named[count_P >= LEAST_RECORDINGS]
    if len(pieces) < LEAST_PIECES:
        return {}
    rows = np.flatnonzero(np.isin(key_R.astype(str), pieces))
    piece_N = np.searchsorted(pieces, key_R[rows].astype(str))
    odds_N = np.array([mean_log_odds(merged_R[row].probs_G) for row in rows.tolist()])
    count_P = np.bincount(piece_N)
    given_N = grade_R[rows].astype(np.float64)

    def mean_of_piece(x_N: Float64) -> Float64:
        return np.bincount(piece_N, x_N) / count_P

    off_N, above_N = odds_N - mean_of_piece(odds_N)[piece_N], given_N - mean_of_piece(given_N)[piece_N]
    squares = float(above_N @ above_N)
    slope = max(0.0, float(off_N @ above_N) / squares) if squares else 0.0
    left_N = odds_N - slope * given_N
    mean_P = mean_of_piece(left_N)
    within = float(((left_N - mean_P[piece_N]) ** 2).sum()) / max(1, len(rows) - len(pieces))
    mean = float(left_N.mean())
    between = float((count_P * (mean_P - mean) ** 2).sum()) / (len(pieces) - 1)
    typical = (len(rows) - float((count_P**2).sum()) / len(rows)) / (len(pieces) - 1)
    variance = max(0.0, (between - within) / typical)
    held_P = variance / (variance + within / count_P) if variance else np.zeros(len(pieces))
    return dict(zip(pieces.tolist(), (-held_P * (mean_P - mean)).tolist(), strict=True))


def mean_log_odds(probs_G: Float64) -> float:
    """Of being beyond a step between grades, the mean over steps."""
    return float(log_odds(probs_G).mean())


def read_pieces(data: bytes, place: str) -> dict[str, str]:
    """Which piece is played, by the recording's key (match_key), of a table with the columns recording,piece; without
    rows that name no piece. Raises UserError, naming place and line, for what cannot be meant."""
    rows = read_csv(data, place)
    if not rows:
        raise UserError(f"{place}: no pieces in it: write a line {RECORDING},{PIECE} and one line a recording")
    for column in (RECORDING, PIECE):
        if column not in rows[0]:
            raise UserError(f"{place}: no column {column} in {','.join(rows[0])}: the first line must name the columns")
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        name, piece = name_in_cell(row[RECORDING]), row[PIECE]
        if not name:
            raise UserError(f"{place}, line {number + 1}: no recording named")
        if piece and match_key(found.setdefault(match_key(name), piece)) != match_key(piece):
            raise UserError(f"{place}: {name!r} stands there with two pieces: keep one line of it")
    return found


def pieces_played(place: str | None, known: SetPieces | None) -> dict[str, str]:
    """Which piece is played, as read_pieces has it, of the table at a place; nothing without one.

    known: of the model. Raises UserError for a table that cannot be meant, and for a model that knows no pieces.
    """
    if place is None:
        return {}
    if known is None:
        raise UserError(
            "--pieces: this model knows no set pieces: evaluate, and train with --evaluation, on labels that have a "
            "column piece"
        )
    return read_pieces(read_file(place, "--pieces"), place)
