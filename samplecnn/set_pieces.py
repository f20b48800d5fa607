"""Set pieces: where everybody plays the same music, a recording is judged beside others of that piece.

Some music sounds better to a network than other music, however it is played. What the labelled recordings of a piece
score more, or less, than their grades account for is taken off from then on: a shift for each piece, kept in the model,
so that tomorrow's uploads never change tonight's grade. The scores are those that the very network gives them which is
to grade, though it learnt from them: how it takes a piece is its own, another network's reference brings nothing
(docs/rated-playing.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.contract import PIECE, RECORDING, cell_key, match_key, name_in_cell
from samplecnn.errors import UserError
from samplecnn.marks import MarkMap
from samplecnn.merge import Merged, expected_score, log_odds, moved_along
from samplecnn.store import read_file
from samplecnn.tables import read_csv

# R recordings, G grades (0 = worst), K steps between grades.
Float64 = npt.NDArray[np.float64]

LEAST_RECORDINGS = 3  # of a piece; fewer do not show what it sounds like
LEAST_PIECES = 2
MOST_HEARD = 2000  # recordings that shifts are fitted on; more tell pieces no better


@dataclass(frozen=True)
class PieceCalibration:
    """How sure a model may be of recordings that are judged beside others of their piece: cuts, least_confidence and
    marks as in the model, but of scores that are so moved."""

    cuts: tuple[float, ...]
    least_confidence: float
    marks: MarkMap | None = None

    def __post_init__(self) -> None:
        if list(self.cuts) != sorted(self.cuts) or not 0 <= self.least_confidence <= 1:
            raise ValueError("cuts must rise, and the least confidence lie between 0 and 1")

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {**asdict(self), "cuts": list(self.cuts)}


@dataclass(frozen=True)
class SetPieces:
    """What a model knows of pieces. shift: by the piece's key (match_key), added to the log odds of being beyond each
    step between grades."""

    shift: Mapping[str, float]
    calibration: PieceCalibration

    def __post_init__(self) -> None:
        if not self.shift or not all(math.isfinite(shift) for shift in self.shift.values()):
            raise ValueError("a piece has no number")

    def knows(self, piece: str) -> bool:
        """Was it judged by enough recordings?"""
        return match_key(piece) in self.shift

    def to_json(self) -> dict[str, Any]:
        """For model.json."""
        return {"shift": dict(self.shift), **self.calibration.to_json()}


def piece_calibration_from_json(told: Mapping[str, Any]) -> PieceCalibration:
    """What to_json made. Raises ValueError, KeyError or TypeError for anything else."""
    marks = MarkMap(**told["marks"]) if told["marks"] else None
    return PieceCalibration(tuple(map(float, told["cuts"])), float(told["least_confidence"]), marks)


def set_pieces_from_json(told: Mapping[str, Any]) -> SetPieces:
    """What to_json made. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    shift = {str(piece): float(value) for piece, value in told["shift"].items()}
    return SetPieces(shift, piece_calibration_from_json(told))


def beside(merged: Merged, piece: str, shift: Mapping[str, float]) -> Merged:
    """A recording beside others of its piece; as it is where no shift is known of that ("": none is named)."""
    key = match_key(piece)
    return moved_by(merged, shift[key]) if key in shift else merged


def moved_by(merged: Merged, shift: float) -> Merged:
    """The same recording with its log odds moved."""
    probs_G = moved_along(merged.probs_G, 1.0, shift)
    return replace(merged, probs_G=probs_G, score=expected_score(probs_G))


def telling(piece_R: Sequence[str], among: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Which of these (row numbers) tell what pieces sound like; more than MOST_HEARD are thinned out evenly."""
    named = [row for row in among.tolist() if piece_R[row]]
    named.sort(key=lambda row: match_key(piece_R[row]))  # so that each piece is thinned alike
    return np.sort(np.array(named[:: max(1, -(-len(named) // MOST_HEARD))], np.int64))


def fit_shifts(
    merged_R: Sequence[Merged], grade_R: npt.NDArray[np.int64], piece_R: Sequence[str], centre: float
) -> dict[str, float]:
    """The shift of each piece, by its key, with LEAST_RECORDINGS or more; none where fewer than LEAST_PIECES have them.

    merged_R: of labelled recordings, by the network that is to judge others beside them; piece_R: "" where none was
    named; centre: log_odds_of_shares. Whoever plays a piece as its labelled recordings do on average comes to lie at
    the centre, or as far above it as the better grades of that piece account for (by the line of scores in grades
    within pieces), grades that are better beyond chance (_effects): a network remembers of what it learnt from that the
    players of a piece were graded higher, and that may be chance.
    """
    key_R = np.array([match_key(piece) for piece in piece_R], dtype=np.str_)
    named, count_P = np.unique(key_R[key_R != ""], return_counts=True)
    pieces = named[count_P >= LEAST_RECORDINGS]
    if len(pieces) < LEAST_PIECES:
        return {}
    rows = np.flatnonzero(np.isin(key_R, pieces))
    piece_N = np.searchsorted(pieces, key_R[rows])
    odds_N = np.array([mean_log_odds(merged_R[row].probs_G) for row in rows.tolist()])
    given_N = grade_R[rows].astype(np.float64)
    above_N = given_N - _means(given_N, piece_N)[piece_N]
    squares = float(above_N @ above_N)
    slope = max(0.0, float(odds_N @ above_N) / squares) if squares else 0.0
    shift_P = centre + slope * _effects(given_N, piece_N) - _means(odds_N, piece_N)
    return dict(zip(pieces.tolist(), shift_P.tolist(), strict=True))


def log_odds_of_shares(grade_R: npt.NDArray[np.int64], grades: int) -> float:
    """Of being beyond a step, the mean over steps, for who knows only how often each grade was given."""
    return mean_log_odds(np.bincount(grade_R, minlength=grades) / len(grade_R))


def _means(x_N: Float64, piece_N: npt.NDArray[np.int64]) -> Float64:
    """Of each piece, [P]."""
    return np.bincount(piece_N, x_N) / np.bincount(piece_N)


def _effects(x_N: Float64, piece_N: npt.NDArray[np.int64]) -> Float64:
    """How far each piece lies from the mean, [P]: a random effect, whose variance is found by moments, and which is
    held back the more, the fewer recordings tell it (Robinson 1991, doi 10.1214/ss/1177011926). Where pieces differ no
    more than chance lets them, all are 0."""
    count_P, mean_P, mean = np.bincount(piece_N), _means(x_N, piece_N), float(x_N.mean())
    within = float(((x_N - mean_P[piece_N]) ** 2).sum()) / max(1, len(x_N) - len(count_P))
    between = float((count_P * (mean_P - mean) ** 2).sum()) / (len(count_P) - 1)
    typical = (len(x_N) - float((count_P**2).sum()) / len(x_N)) / (len(count_P) - 1)
    variance = max(0.0, (between - within) / typical)
    held_P = variance / (variance + within / count_P) if variance else np.zeros(len(count_P))
    effect_P: Float64 = held_P * (mean_P - mean)
    return effect_P


def mean_log_odds(probs_G: Float64) -> float:
    """Of being beyond a step between grades, the mean over steps."""
    return float(log_odds(probs_G).mean())


def read_pieces(data: bytes, place: str) -> dict[str, str]:
    """Which piece is played, by the recording's key (cell_key), of a table with the columns recording,piece; without
    rows that name no piece. Raises UserError, naming place and row, for what cannot be meant."""
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
            raise UserError(f"{place}, row {number}: no recording named")
        if piece and match_key(found.setdefault(cell_key(name), piece)) != match_key(piece):
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
            "--pieces: this model knows no set pieces: evaluate, split by another column than piece, and train with "
            "--evaluation, on labels that have a column piece"
        )
    return read_pieces(read_file(place, "--pieces"), place)
