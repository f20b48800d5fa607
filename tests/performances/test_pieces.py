"""The music is right: bars add up, hands fit, every pitch lies on a piano and the left hand is heard at 500 Hz."""

import numpy as np
import pytest

from samplecnn.performances import pieces
from samplecnn.performances.pieces import LEFT, MELODY, PIECES, Piece, Section, midi_pitch, parse_hand, write_out


def test_there_are_at_least_ten_pieces_with_titles_of_their_own() -> None:
    assert len(PIECES) >= 10
    assert len({piece.title for piece in PIECES.values()}) == len(PIECES)


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_piece_is_whole_bars_of_two_hands_on_the_keyboard(piece: Piece) -> None:
    score = write_out(piece)  # parsing checks every bar's length
    assert score.end % piece.bar == pytest.approx(0.0, abs=1e-6)
    assert score.end >= 8 * piece.bar
    assert score.pitch_N.min() >= 28
    assert score.pitch_N.max() <= 100
    assert (np.diff(score.onset_N) >= 0).all()
    assert (score.duration_N > 0).all()
    assert (score.onset_N + score.duration_N <= score.end + 1e-6).all()
    assert {MELODY, LEFT} == set(score.voice_N.tolist())


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_half_of_the_bars_strike_notes_under_250_hz(piece: Piece) -> None:
    score = write_out(piece)
    low = score.pitch_N <= 59
    bars = np.unique(np.floor(score.onset_N[low] / piece.bar))
    assert len(bars) >= 0.5 * score.end / piece.bar
    assert low.mean() >= 0.25


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_no_key_is_struck_twice_at_once(piece: Piece) -> None:
    score = write_out(piece)
    struck = list(zip(score.onset_N.round(4).tolist(), score.pitch_N.tolist(), strict=True))
    assert len(struck) == len(set(struck))


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_the_melody_fits_its_harmony(piece: Piece) -> None:
    score = write_out(piece)
    strong = (score.onset_N % piece.bar < 1e-6) & (score.voice_N == MELODY)
    clashes = 0
    for onset, pitch in zip(score.onset_N[strong], score.pitch_N[strong], strict=True):
        under = score.pitch_N[(score.voice_N == LEFT) & (np.abs(score.onset_N - onset) < 1e-6)]
        clashes += any((pitch - other) % 12 in (1, 11) for other in under)  # a semitone on a downbeat
    assert clashes <= 0.15 * max(strong.sum(), 1)


def test_known_openings_have_their_notes() -> None:
    def opening(name: str, notes: int) -> list[int]:
        score = write_out(PIECES[name])
        return score.pitch_N[score.voice_N == MELODY][:notes].tolist()

    assert opening("ode", 6) == [66, 66, 67, 69, 69, 67]
    assert opening("elise", 9) == [76, 75, 76, 75, 76, 71, 74, 72, 69]
    assert opening("minuet", 6) == [74, 67, 69, 71, 72, 74]
    assert len(write_out(PIECES["minuet"]).phrase_starts) == 16
    assert write_out(PIECES["prelude"]).end == 35 * 4


def test_form_is_repeated_until_it_is_long_enough() -> None:
    piece = PIECES["moonlight"]
    once, more = write_out(piece), write_out(piece, 100.0)
    assert more.end == pytest.approx(np.ceil(100.0 / once.end) * once.end)
    assert len(more.onset_N) == round(more.end / once.end) * len(once.onset_N)


def test_notation_reads_ties_chords_triplets_and_accidentals() -> None:
    notes = parse_hand("c4q3 d4 e4 c4+eb4h | ~q f#5q. rs bb3s ~q", 4.0, MELODY)
    assert [note.pitch for note in notes] == [60, 62, 64, 60, 63, 78, 58]
    assert [note.onset for note in notes] == pytest.approx([0, 2 / 3, 4 / 3, 2, 2, 5, 6.75])
    assert [note.duration for note in notes] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 3, 3, 1.5, 1.25])
    assert midi_pitch("C4") == 60


@pytest.mark.parametrize(
    ("melody", "left", "message"),
    [
        ("c4q c4", "C", "bar 1 has 2 quarters, not 4"),
        ("c4w", "C | G", "melody has 1 bars, left hand 2"),
        ("h4w", "C", "no note"),
        ("c4w", "H", "no chord"),
    ],
)
def test_faulty_music_is_refused(melody: str, left: str, message: str) -> None:
    section = Section(melody=melody, left=left, pattern="block")
    with pytest.raises(ValueError, match=message):
        write_out(Piece(name="x", title="x", bar=4, tempo_bpm=100, form=(section,)))


def test_every_accompaniment_fills_its_chord() -> None:
    for pattern in pieces.PATTERNS:
        notes, starts = pieces.parse_chords("C G7 | Am", 4.0, pattern)
        assert starts == [0.0, 2.0, 4.0]
        assert max(note.onset + note.duration for note in notes) == pytest.approx(8.0)
        assert all(note.pitch <= 72 for note in notes)
