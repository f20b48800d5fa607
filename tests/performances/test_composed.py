"""A composed piece is music that two hands can play, and no two are alike."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from samplecnn.performances.composed import DENSEST, FASTEST_BPM, SLOWEST_BPM, SPARSEST, compose
from samplecnn.performances.pieces import HIGHEST, LEFT, LOWEST, MELODY, PIECES, Piece, write_out


def melody_steps(piece: Piece, notes: int = 12) -> tuple[int, ...]:
    score = write_out(piece)
    return tuple(np.diff(score.pitch_N[score.voice_N == MELODY][:notes]).tolist())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
@example(seed=74)  # syncopated, with rests at the ends of phrases
def test_any_seed_is_whole_bars_of_two_hands_on_the_keyboard(seed: int) -> None:
    piece = compose(seed)
    assert piece == compose(seed)
    score = write_out(piece)  # parsing checks every bar's length
    bars = score.end / piece.bar
    assert bars == pytest.approx(round(bars))
    assert bars >= 8
    assert (np.diff(score.onset_N) >= 0).all()
    assert (score.duration_N > 0.05).all()
    assert (score.onset_N + score.duration_N <= score.end + 1e-6).all()
    assert (score.pitch_N >= LOWEST).all()
    assert (score.pitch_N <= HIGHEST).all()
    assert {MELODY, LEFT} == set(score.voice_N.tolist())
    struck = np.unique(np.floor(score.onset_N / piece.bar + 1e-6))
    assert len(struck) == round(bars)  # no bar is empty
    assert (np.diff(score.phrase_starts) >= 2 * piece.bar - 1e-6).all()

    for section in piece.form:  # a tie has a note to hold on
        tokens = ["r", *section.melody.replace("|", " ").split()]
        assert not [pair for pair in pairwise(tokens) if pair[0].startswith("r") and pair[1].startswith("~")]

    notes_a_second = len(score.onset_N) / score.end * piece.tempo_bpm / 60.0
    assert SLOWEST_BPM <= piece.tempo_bpm <= FASTEST_BPM
    assert SPARSEST - 1e-6 <= notes_a_second <= DENSEST + 1e-6

    released: dict[int, float] = {}
    still_held = 0
    for onset, duration, pitch in zip(score.onset_N, score.duration_N, score.pitch_N.tolist(), strict=True):
        still_held += released.get(pitch, 0.0) > onset + 1e-6
        released[pitch] = max(released.get(pitch, 0.0), onset + duration)
    assert still_held <= 0.04 * len(score.pitch_N)  # in PIECES up to 0.039


def test_pieces_differ_from_each_other_and_from_known_ones_in_all_that_is_heard() -> None:
    composed = [compose(seed) for seed in range(100)]
    openings = {melody_steps(piece) for piece in composed}
    assert len(openings) > 92  # long repeated notes can begin alike
    assert not openings & {melody_steps(piece) for piece in PIECES.values()}
    assert len({piece.bar for piece in composed}) >= 8
    assert {piece.pedal for piece in composed} == {False, True}
    scores = [write_out(piece) for piece in composed]
    tempi = [piece.tempo_bpm for piece in composed]
    densities = [
        len(score.onset_N) / score.end * piece.tempo_bpm / 60 for piece, score in zip(composed, scores, strict=True)
    ]
    centres = [score.pitch_N.mean() for score in scores]
    for values, low, high in ((tempi, 55.0, 140.0), (densities, 3.5, 9.0), (centres, 56.0, 68.0)):
        assert np.quantile(values, 0.1) < low
        assert np.quantile(values, 0.9) > high
    lengths = {round(duration, 3) for score in scores for duration in score.duration_N}
    assert {0.25, 0.333, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0} <= lengths


def test_a_melody_fits_its_harmony_where_a_bar_begins() -> None:
    clashes = strong = 0
    for seed in range(60):
        piece = compose(seed)
        score = write_out(piece)
        for onset in score.onset_N[(score.onset_N % piece.bar < 1e-6) & (score.voice_N == MELODY)]:
            at = np.abs(score.onset_N - onset) < 1e-6
            under = score.pitch_N[at & (score.voice_N == LEFT)]
            for pitch in score.pitch_N[at & (score.voice_N == MELODY)]:
                clashes += any((pitch - other) % 12 in (1, 11) for other in under)
                strong += 1
    assert clashes <= 0.15 * strong  # as the pieces of pieces.py
