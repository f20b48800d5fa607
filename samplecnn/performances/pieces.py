"""Public-domain piano pieces, written into the code: melody, left hand, bars, phrases and form.

They exist so that demos, tests and pre-training have real music without a download. Notes are written in a small
notation that is checked bar by bar; how a piece is *played* is player.py's business. Several pieces are arranged in
an easy piano setting, as in a pupil's album, with the left hand low enough (mostly under 250 Hz) to be heard at 500 Hz.

Notation of a hand: bars divided by "|"; a note is name, octave and length (w h q e s = whole .. sixteenth; "." dotted,
"3" a triplet), middle C = c4; a length stays until another is given. "c4+e4q" is a chord, "rq" a rest, "~h" holds the
note before it on. A left hand can be chord symbols instead, played by one of PATTERNS; the chords of a bar share it
equally.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MELODY, LEFT = 0, 1  # voices
LOWEST, HIGHEST = 21, 108  # MIDI pitches of the piano

_LENGTHS = {"w": 4.0, "h": 2.0, "q": 1.0, "e": 0.5, "s": 0.25}
_STEPS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_TOKEN = re.compile(r"(r|~|[a-g][#b]?\d(?:\+[a-g][#b]?\d)*)([whqes]?)(\.?)(3?)")
_CHORD = re.compile(r"([A-G][#b]?)(m7|maj7|dim|m|7|)(?:/([A-G][#b]?))?")
# Root, and the two tones that tell the chord: a seventh chord does without its fifth.
_TONES = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 10), "m7": (0, 3, 10), "maj7": (0, 4, 11), "dim": (0, 3, 6)}

# Accompaniment: (quarters, tones) in turn until the chord ends; b is the bass, 1 2 3 the close chord above it from
# the bottom, 4 its lowest tone an octave up; no tone is a rest. Length 0: as long as the chord.
PATTERNS: dict[str, tuple[tuple[float, str], ...]] = {
    "block": ((0.0, "b123"),),
    "alberti": ((0.5, "1"), (0.5, "3"), (0.5, "2"), (0.5, "3")),
    "waltz": ((1.0, "b"), (1.0, "123"), (1.0, "123")),
    "sway": ((1.0, "b"), (2.0, "123")),
    "stride": ((1.0, "b"), (1.0, "123")),
    "walk": ((0.5, "b"), (0.5, "123")),
    "broken": tuple((0.5, tone) for tone in "b1232143"),
    "rolling": tuple((0.5, tone) for tone in "b12321"),
    "ripple": tuple((0.25, tone) for tone in "b1232321"),
    "bass": ((0.0, "b"),),
    "fifths": ((0.0, "b3"),),
    "pulse": ((0.5, "123"),),
    "afterbeat": ((0.5, ""), (0.5, "123")),
    "tango": ((1.5, "b"), (0.5, "123"), (1.0, "1"), (1.0, "3")),
    "march": ((1.0, "b"), (0.5, "123"), (0.5, "123")),
    "triplet": tuple((1 / 3, tone) for tone in "123"),
    "harp": tuple((0.5, tone) for tone in "b1234"),
}


class Note(NamedTuple):
    """One written note: onset and duration in quarters from the start of its section or score."""

    onset: float
    duration: float
    pitch: int
    voice: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """Some bars of a piece. left: notes, or chord symbols if a pattern is named; transpose: semitones, both hands."""

    melody: str
    left: str
    pattern: str = ""
    phrase_bars: int = 4
    transpose: int = 0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """title: as in file names. bar: quarters. tempo_bpm: quarters a minute. form: the sections as they are played."""

    name: str
    title: str
    bar: float
    tempo_bpm: float
    form: tuple[Section, ...]
    pedal: bool = True


@dataclass(frozen=True)
class Score:
    """A piece written out: N notes sorted by onset (float64 quarters), both hands.

    phrase_starts, harmony_changes: quarters, ascending, the first 0; end: quarters, a whole number of bars.
    """

    bar: float
    end: float
    onset_N: npt.NDArray[np.float64]
    duration_N: npt.NDArray[np.float64]
    pitch_N: npt.NDArray[np.int64]
    voice_N: npt.NDArray[np.int64]
    phrase_starts: npt.NDArray[np.float64]
    harmony_changes: npt.NDArray[np.float64]


def midi_pitch(name: str) -> int:
    """The MIDI number of a note name: "c4" is 60."""
    sharps = {"#": 1, "b": -1}.get(name[1:-1], 0)
    return 12 * (int(name[-1]) + 1) + _STEPS[name[0].lower()] + sharps


def parse_hand(text: str, bar: float, voice: int) -> list[Note]:
    """The notes of one hand. Raises ValueError where a token is unknown or a bar is not `bar` quarters long."""
    notes: list[Note] = []
    length = 1.0
    held = 0  # how many notes the last token struck: a tie holds them all
    for number, written in enumerate(text.split("|")):
        at = number * bar
        for token in written.split():
            match = _TOKEN.fullmatch(token)
            if match is None:
                raise ValueError(f"bar {number + 1}: {token!r} is no note")
            names, letter, dot, triplet = match.groups()
            if letter:
                length = _LENGTHS[letter] * (1.5 if dot else 1.0) * (2 / 3 if triplet else 1.0)
            if names == "~":
                notes[-held:] = [note._replace(duration=note.duration + length) for note in notes[-held:]]
            elif names != "r":
                pitches = [midi_pitch(name) for name in names.split("+")]
                notes += [Note(at, length, pitch, voice) for pitch in pitches]
                held = len(pitches)
            at += length
        if abs(at - (number + 1) * bar) > 1e-6:
            raise ValueError(f"bar {number + 1} has {at - number * bar:g} quarters, not {bar:g}: {written.strip()!r}")
    return notes


def parse_chords(text: str, bar: float, pattern: str) -> tuple[list[Note], list[float]]:
    """The left hand of chord symbols, and where its chords begin. Raises ValueError for an unknown symbol."""
    notes: list[Note] = []
    starts: list[float] = []
    for number, written in enumerate(text.split("|")):
        symbols = written.split()
        span = bar / len(symbols)
        for place, symbol in enumerate(symbols):
            start = number * bar + place * span
            starts.append(start)
            notes += [note._replace(onset=start + note.onset) for note in _accompany(symbol, span, pattern)]
    return notes, starts


@cache
def _accompany(symbol: str, span: float, pattern: str) -> tuple[Note, ...]:
    match = _CHORD.fullmatch(symbol)
    if match is None:
        raise ValueError(f"{symbol!r} is no chord")
    root, quality, bass = match.groups()
    root_class = midi_pitch(f"{root}4") % 12
    close = sorted(48 + (root_class + tone) % 12 for tone in _TONES[quality])  # C3 to B3: under 250 Hz
    pitches = {
        "b": 36 + midi_pitch(f"{bass or root}4") % 12,
        "4": close[0] + 12,
        **dict(zip("123", close, strict=True)),
    }
    notes: list[Note] = []
    at = 0.0
    step = 0
    while at < span - 1e-6:
        length, tones = PATTERNS[pattern][step % len(PATTERNS[pattern])]
        length = min(length or span, span - at)
        notes += [Note(at, length, pitches[tone], LEFT) for tone in tones]
        at += length
        step += 1
    return tuple(notes)


@lru_cache(256)  # not cache: composed pieces never end
def _section(section: Section, bar: float) -> tuple[tuple[Note, ...], int, tuple[float, ...]]:
    """Its notes, its number of bars, and where its harmonies begin (every bar, where the left hand is written out)."""
    melody = parse_hand(section.melody, bar, MELODY)
    bars = section.melody.count("|") + 1
    if section.pattern:
        left, starts = parse_chords(section.left, bar, section.pattern)
    else:
        left, starts = parse_hand(section.left, bar, LEFT), [bar * number for number in range(bars)]
    if section.left.count("|") + 1 != bars:
        raise ValueError(f"melody has {bars} bars, left hand {section.left.count('|') + 1}: {section.melody[:40]!r}")
    notes = [note._replace(pitch=note.pitch + section.transpose) for note in melody + left]
    return tuple(notes), bars, tuple(starts)


def write_out(piece: Piece, quarters: float = 0.0) -> Score:
    """The piece in its form, repeated from the start until it has at least this many quarters (at least once).

    Notes of both hands on one key at one time are one note, the melody's. Raises ValueError for a faulty piece.
    """
    notes: dict[tuple[float, int], Note] = {}
    phrases: list[float] = []
    changes: list[float] = []
    end = 0.0
    while end < quarters or end == 0.0:
        for section in piece.form:
            written, bars, starts = _section(section, piece.bar)
            for note in written:
                onset = end + note.onset
                # Not _replace, which takes half of the time of writing out.
                notes.setdefault((round(onset, 6), note.pitch), Note(onset, note.duration, note.pitch, note.voice))
            phrases += [end + piece.bar * first for first in range(0, bars, section.phrase_bars)]
            changes += [end + start for start in starts]
            end += bars * piece.bar
    ordered = sorted(notes.values())
    return Score(
        bar=piece.bar,
        end=end,
        onset_N=np.array([note.onset for note in ordered]),
        duration_N=np.array([note.duration for note in ordered]),
        pitch_N=np.array([note.pitch for note in ordered]),
        voice_N=np.array([note.voice for note in ordered]),
        phrase_starts=np.array(phrases),
        harmony_changes=np.array(changes),
    )


# --- the music -------------------------------------------------------------------------------------------------------


def _ode() -> Piece:
    first = "f#4q f#4 g4 a4 | a4 g4 f#4 e4 | d4 d4 e4 f#4 | f#4q. e4e e4h"
    second = "f#4q f#4 g4 a4 | a4 g4 f#4 e4 | d4 d4 e4 f#4 | e4q. d4e d4h"
    middle = "e4q e4 f#4 d4 | e4 f#4e g4 f#4q d4 | e4q f#4e g4 f#4q e4 | d4 e4 a3h"
    chords = ("D | A7 | D | D A7", "D | A7 | D | A7 D", "A7 D | A7 D | A7 D | E7 A7", "D | A7 | D | A7 D")
    melodies = (first, second, middle, second)
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern, transpose=transpose)
        for pattern, transpose in (("block", 0), ("alberti", 0), ("broken", 0))
        for melody, left in zip(melodies, chords, strict=True)
    )
    return Piece(name="ode", title="ode to joy", bar=4, tempo_bpm=116, form=form)


def _minuet() -> Piece:
    opening = "d5q g4e a4 b4 c5 | d5q g4 g4 | e5q c5e d5 e5 f#5 | g5q g4 g4 | c5q d5e c5 b4 a4 | b4q c5e b4 a4 g4"
    first = Section(
        melody=f"{opening} | f#4q g4e a4 b4 g4 | a4h. | {opening} | a4q b4e a4 g4 f#4 | g4h.",
        left="g3+b3h a3q | b3h. | c4h. | b3h. | a3h. | g3h. | d4q b3 g3 | d4q d3e c4 b3 a3 | "
        "b3h a3q | g3q b3 g3 | c4h. | b3q c4e b3 a3 g3 | a3h f#3q | g3h b3q | c4q d4 d3 | g3h g2q",
    )
    second = Section(
        melody="b5q g5e a5 b5 g5 | a5q d5e e5 f#5 d5 | g5q e5e f#5 g5 d5 | c#5q b4e c#5 a4q | a4e b4 c#5 d5 e5 f#5 | "
        "g5q f#5 e5 | f#5q a4 c#5 | d5h. | d5q g4e f#4 g4q | e5q g4e f#4 g4q | d5q c5 b4 | a4e g4 f#4 g4 a4q | "
        "d4e e4 f#4 g4 a4 b4 | c5q b4 a4 | b4e d5 g4q f#4 | g4h.",
        left="g3h. | f#3h. | e3q g3 e3 | a3h a2q | a3h. | b3q d4 c#4 | d4q f#3 a3 | d4q d3 c4 | b3h. | c4h. | "
        "b3q a3 g3 | d4h d3q | d3h f#3q | e3q g3 f#3 | g3q b2 d3 | g3q d3 g2",
    )
    return Piece(name="minuet", title="menuet", bar=3, tempo_bpm=122, form=(first, first, second, second), pedal=False)


def _elise() -> Piece:
    turn = "e5s d#5 e5 b4 d5 c5"
    theme = f"{turn} | a4e rs c4s e4 a4 | b4e rs e4s g#4 b4 | c5e rs e4s e5 d#5 | {turn} | a4e rs c4s e4 a4 | "
    theme += "b4e rs e4s c5 b4"
    low = "rq. | a2s e3 a3 rs re | e2s e3 g#3 rs re | a2s e3 a3 rs re"
    lefts = f"{low} | {low}"
    upbeat = Section(melody="rq e5s d#5", left="rq.")
    first = Section(melody=f"{theme} | a4q e5s d#5", left=lefts)
    on = Section(melody=f"{theme} | a4e rs b4s c5 d5", left=lefts)
    last = Section(melody=f"{theme} | a4q.", left=lefts)
    middle = Section(
        melody="e5e. g4s f5 e5 | d5e. f4s e5 d5 | c5e. e4s d5 c5 | b4e rs e4s e5 rs | rs e5s e6 rs rs d#5s | "
        "e5s rs rs d#5s e5 d#5",
        left="c3s g3 c4 rs re | g2s g3 b3 rs re | a2s e3 a3 rs re | e2s e3 rs rs rs e4s | rq. | rq.",
        phrase_bars=6,
    )
    form = (upbeat, first, on, middle, on, middle, last)
    return Piece(name="elise", title="für elise", bar=1.5, tempo_bpm=66, form=form)


def _twinkle() -> Piece:
    line = "c5q c5 g5 g5 | a5 a5 g5h | f5q f5 e5 e5 | d5 d5 c5h"
    answer = "g5q g5 f5 f5 | e5 e5 d5h | g5q g5 f5 f5 | e5 e5 d5h"
    varied = "c5e e5 c5 e5 g5 e5 g5 e5 | a5 f5 a5 f5 g5 e5 g5q | f5e d5 f5 d5 e5 c5 e5 c5 | d5 b4 d5 b4 c5h"
    varied_answer = (
        "g5e e5 g5 e5 f5 d5 f5 d5 | e5 c5 e5 c5 d5 b4 d5q | g5e e5 g5 e5 f5 d5 f5 d5 | e5 c5 e5 c5 d5 b4 d5q"
    )
    chords, answer_chords = "C | F C | G7 C | G7 C", "C G7 | C G | C G7 | C G"
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern)
        for a, b, pattern in ((line, answer, "stride"), (varied, varied_answer, "stride"), (line, answer, "alberti"))
        for melody, left in ((a, chords), (b, answer_chords), (a, chords))
    )
    return Piece(name="twinkle", title="ah vous dirai-je", bar=4, tempo_bpm=104, form=form)


def _greensleeves() -> Piece:
    verse = "c5q d5e e5e. f#5s e5e | d5q b4e g4e. a4s b4e | c5q a4e a4e. g#4s a4e | b4q g#4e e4q a4e | "
    verse += "c5q d5e e5e. f#5s e5e | d5q b4e g4e. a4s b4e | c5e. b4s a4e g#4e. f#4s g#4e | a4q. "
    chorus = "g5q. g5e. f#5s e5e | d5q b4e g4e. a4s b4e | c5q a4e a4e. g#4s a4e | b4q g#4e e4q. | "
    chorus += "g5q. g5e. f#5s e5e | d5q b4e g4e. a4s b4e | c5e. b4s a4e g#4e. f#4s g#4e | a4q. "
    chords = "Am | G | Am | E | Am | G | Am E | Am"
    high_chords = "C | G | Am | E | C | G | Am E | Am"
    form = (
        Section(melody=f"{verse} a4q a4e", left=chords, pattern="rolling"),
        Section(melody=f"{verse} a4q.", left=chords, pattern="rolling"),
        Section(melody=f"{chorus} a4q.", left=high_chords, pattern="rolling"),
        Section(melody=f"{chorus} a4q a4e", left=high_chords, pattern="rolling"),
    )
    return Piece(name="greensleeves", title="greensleeves", bar=3, tempo_bpm=88, form=form)


def _canon() -> Piece:
    chords = "D A | Bm F#m | G D | G A"
    variations = (
        "f#5h e5 | d5 c#5 | b4 a4 | b4 c#5",
        "d5h c#5 | b4 a4 | g4 f#4 | g4 e4",
        "d5q f#5 a5 g5 | f#5 d5 f#5 e5 | d5 b4 d5 a5 | g5 b5 a5 g5",
        "f#5q d5 e5 c#6 | d6 f#6 a6 a5 | b5 g5 a5 f#5 | d5 d6 d6q. c#6e",
        "a5e f#5s g5 a5e f#5s g5 a5 a4 b4 c#5 d5 e5 f#5 g5 | f#5e d5s e5 f#5e f#4s g4 a4 b4 a4 g4 a4 f#4 g4 a4 | "
        "g4e b4s a4 g4e f#4s e4 f#4 e4 d4 e4 f#4 g4 a4 b4 | g4e b4s a4 b4e c#5s d5 a4 b4 c#5 d5 e5 f#5 g5 a5",
    )
    patterns = ("block", "broken", "broken", "broken", "block")
    form = tuple(
        Section(melody=melody, left=chords, pattern=pattern)
        for melody, pattern in zip(variations, patterns, strict=True)
    )
    return Piece(name="canon", title="canon in d", bar=4, tempo_bpm=92, form=form)


def _lullaby() -> Piece:
    first = "g4q. e4e e4q | g4h e4e g4 | c5q b4q. a4e | a4q g4 d4e e4 | f4q d4 d4e e4 | f4h d4e f4 | b4e a4 g4q b4 | "
    second = "c5h a4e f4 | g4h e4e c4 | f4q g4 a4 | g4h c4e c4 | c5h a4e f4 | g4h e4e c4 | f4q e4 d4 | c4h e4e e4"
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern, transpose=transpose)
        for pattern, transpose in (("waltz", 3), ("rolling", 3), ("sway", 3))
        for melody, left in (
            (f"{first} c5h c4e c4", "C | C | F | C | G7 | G7 | G7 | C"),
            (second, "F | C | G7 | C | F | C | G7 | C"),
        )
    )
    return Piece(name="lullaby", title="wiegenlied", bar=3, tempo_bpm=84, form=form)


def _sonata() -> Piece:
    theme = "c5h e5q g5 | b4q. c5s d5 c5q rq | a5h g5q c6 | g5q f5e. e5s e5q rq"
    scales = "a4e b4s c5 d5 e5 f5 g5 a5 g5 f5 e5 d5 c5 b4 a4 | g4e a4s b4 c5 d5 e5 f5 g5 f5 e5 d5 c5 b4 a4 g4 | "
    scales += "f4e g4s a4 b4 c5 d5 e5 f5 e5 d5 c5 b4 a4 g4 f4 | e4e f4s g4 a4 b4 c5 d5 e5 d5 c5 b4 a4 g4 f4 e4 | "
    scales += "d4e e4s f4 g4 a4 b4 c#5 d5 a4 b4 c#5 d5 e5 f5 g5 | a5 b5 c6 b5 a5 g5 f5 e5 f5 g5 a5 g5 f5 e5 d5 c5"
    close = "b4e g5 e5 c5 d5 g5 e5 c5 | d5q g5 g4h"
    parts = (  # the recapitulation of this sonata really begins in the subdominant
        (theme, "C | G7 C | F C | G7 C", "alberti"),
        (scales, "F | C | Dm | Am | Dm | F", "block"),
        (close, "G C G C | G", "stride"),
    )
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern, transpose=transpose)
        for transpose in (0, 0, 5)
        for melody, left, pattern in parts
    )
    return Piece(name="sonata", title="sonata facile", bar=4, tempo_bpm=126, form=form, pedal=False)


_PRELUDE = """
c4 e4 g4 c5 e5, c4 d4 a4 d5 f5, b3 d4 g4 d5 f5, c4 e4 g4 c5 e5, c4 e4 a4 e5 a5, c4 d4 f#4 a4 d5, b3 d4 g4 d5 g5,
b3 c4 e4 g4 c5, a3 c4 e4 g4 c5, d3 a3 d4 f#4 c5, g3 b3 d4 g4 b4, g3 bb3 e4 g4 c#5, f3 a3 d4 a4 d5, f3 ab3 d4 f4 b4,
e3 g3 c4 g4 c5, e3 f3 a3 c4 f4, d3 f3 a3 c4 f4, g2 d3 g3 b3 f4, c3 e3 g3 c4 e4, c3 g3 bb3 c4 e4, f2 f3 a3 c4 e4,
f#2 c3 a3 c4 eb4, ab2 f3 b3 c4 d4, g2 f3 g3 b3 d4, g2 e3 g3 c4 e4, g2 d3 g3 c4 f4, g2 d3 g3 b3 f4, g2 eb3 a3 c4 f#4,
g2 e3 g3 c4 g4, g2 d3 g3 c4 f4, g2 d3 g3 b3 f4, c2 c3 g3 bb3 e4
"""


def _prelude() -> Piece:
    right: list[str] = []
    left: list[str] = []
    for bar in _PRELUDE.split(","):
        n1, n2, n3, n4, n5 = bar.split()
        right.append(" ".join([f"re {n3}s {n4} {n5} {n3} {n4} {n5}"] * 2))
        left.append(" ".join([f"{n1}s {n2}s ~e ~q"] * 2))
    right += ["re f3s a3 c4 f4 c4 a3 c4 a3 f3 a3 f3 d3 f3 d3", "re g4s b4 d5 f5 d5 b4 d5 b4 g4 b4 d4 f4 e4 d4"]
    left += ["c2s c3s ~e ~q ~h", "c2s b2s ~e ~q ~h"]
    right.append("e4+g4+c5w")
    left.append("c2+c3w")
    section = Section(melody=" | ".join(right), left=" | ".join(left))
    return Piece(name="prelude", title="präludium c-dur", bar=4, tempo_bpm=72, form=(section,))


def _swan() -> Piece:
    start = "f#5h b4e c#5 d5 e5 | f#5q. d5e f#5q. d5e | f#5q. b4e d5e b4 g4 d5 | b4h "
    form = tuple(
        Section(melody=f"{start} re e5e d5 c#5 | {start} rh", left=left, pattern=pattern, transpose=transpose)
        for left, pattern, transpose in (
            ("Bm | Bm | Bm Em | Bm | Bm | Bm | Bm Em | Bm", "block", 0),
            ("Bm | Bm | Bm Em | Bm | Bm | Bm | Bm Em | Bm", "broken", 0),
            ("Bm | G | Em | Bm F#7 | Bm | G | Em F#7 | Bm", "ripple", 0),
        )
    )
    return Piece(name="swan", title="swan lake", bar=4, tempo_bpm=92, form=form)


def _grace() -> Piece:
    melody = "g4h b4e g4 | b4h a4q | g4h e4q | d4h d4q | g4h b4e g4 | b4h a4q | d5h. | ~h b4q | "
    melody += "d5q. b4e d5 b4 | g4h d4q | e4q. g4e g4 e4 | d4h d4q | g4h b4e g4 | b4h a4q | g4h. | ~h d4q"
    chords = "G | G7 | C | G | G | Em | D | D7 | G | G7 | C | G | G | D7 | G | G"
    form = tuple(Section(melody=melody, left=chords, pattern=pattern) for pattern in ("waltz", "rolling", "sway"))
    return Piece(name="grace", title="amazing grace", bar=3, tempo_bpm=88, form=form)


def _night() -> Piece:
    heavenly = "g4q. a4e g4q | e4h."
    child = f"a4h a4q | c5q. b4e a4q | {heavenly}"
    melody = f"{heavenly} | {heavenly} | d5h d5q | b4h. | c5h c5q | g4h. | {child} | {child} | "
    melody += "d5h d5q | f5q. d5e b4q | c5h. | e5h. | c5q g4 e4 | g4q. f4e d4q | c4h. | ~h rq"
    chords = "C | C | C | C | G7 | G7 | C | C | F | F | C | C | F | F | C | C | G7 | G7 | C | C | C | G7 | C | C"
    form = tuple(
        Section(melody=melody, left=chords, pattern=pattern, transpose=-2) for pattern in ("sway", "rolling", "waltz")
    )
    return Piece(name="night", title="stille nacht", bar=3, tempo_bpm=96, form=form)


def _gymnopedie() -> Piece:
    call = "rq f#5q a5 | g5 f#5 c#5 | b4 c#5 d5 | a4h."
    rest = "rh. | rh. | rh. | rh."
    g, d = "g2q b3+d4+f#4h", "d2q a3+c#4+f#4h"
    pairs = " | ".join([g, d])
    form = (
        Section(melody=rest, left=f"{pairs} | {pairs}"),
        Section(melody=f"{call} | f#4h. | ~h. | ~h. | ~h.", left=f"{pairs} | {pairs} | {pairs} | {pairs}"),
        Section(melody=f"{call} | c#5h. | f#5h. | e4h. | ~h.", left=f"{pairs} | {pairs} | {pairs} | {pairs}"),
    )
    return Piece(name="gymnopedie", title="gymnopédie", bar=3, tempo_bpm=76, form=form)


def _largo() -> Piece:
    first = "e4q. g4e g4h | e4q. d4e c4h | d4q e4 g4q. e4e | d4h. rq"
    second = "e4q. g4e g4h | e4q. d4e c4h | d4q e4 d4q. c4e | c4h. rq"
    middle = "a4q. c5e c5h | b4q g4 a4h | a4q c5 b4 g4 | a4h. rq"
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern, transpose=1)
        for pattern in ("block", "alberti")
        for melody, left in (
            (first, "C | C | G7 C | G7"),
            (second, "C | C | G7 | C"),
            (middle, "F | G Am | F G | Am"),
            (middle, "F | G Am | F G | Am"),
            (second, "C | C | G7 | C"),
        )
    )
    return Piece(name="largo", title="largo", bar=4, tempo_bpm=80, form=form)


def _korobeiniki() -> Piece:
    first = "e5q b4e c5 d5q c5e b4 | a4q a4e c5 e5q d5e c5 | b4q. c5e d5q e5 | c5q a4 a4q rq | "
    first += "re d5q f5e a5q g5e f5 | e5q. c5e e5q d5e c5 | b4q b4e c5 d5q e5 | c5q a4 a4q rq"
    second = "e5h c5 | d5 b4 | c5 a4 | g#4 b4 | e5 c5 | d5 b4 | c5q e5 a5h | g#5w"
    chords = "E7 | Am | E7 | Am | Dm | C | E7 | Am"
    form = (
        Section(melody=first, left=chords, pattern="walk"),
        Section(melody=first, left=chords, pattern="stride"),
        Section(melody=second, left="Am | E7 | Am | E7 | Am | E7 | Am | E7", pattern="broken"),
    )
    return Piece(name="korobeiniki", title="коробейники", bar=4, tempo_bpm=126, form=form, pedal=False)


def _auld() -> Piece:
    verse = "f4q. f4e f4q a4 | g4q. f4e g4q a4 | f4q. f4e a4q c5 | d5h. d5q | "
    tail = "c5q. a4e a4q f4 | g4q. f4e g4q a4 | f4q. d4e d4q c4 | f4h. "
    chorus = "c5q. a4e a4q f4 | g4q. f4e g4q d5 | c5q. a4e a4q c5 | d5h. d5q | "
    chords = "F | C7 | F | Bb | F | C7 | Bb C7 | F"
    form = tuple(
        Section(melody=melody, left=chords, pattern=pattern)
        for pattern in ("stride", "broken")
        for melody in (f"{verse}{tail} d5q", f"{chorus}{tail} c4q")
    )
    return Piece(name="auld", title="auld lang syne", bar=4, tempo_bpm=100, form=form)


def _mountain() -> Piece:
    low = "b3e c#4 d4 e4 f#4 d4 f#4q | f4e c#4 f4q e4e c4 e4q | b3e c#4 d4 e4 f#4 d4 f#4 b4 | a4 f#4 d4 f#4 a4h"
    high = "f#4e g#4 a#4 b4 c#5 a#4 c#5q | d5e a#4 d5q c#5e a#4 c#5q | f#4e g#4 a#4 b4 c#5 a#4 c#5q | d5e a#4 d5q c#5h"
    home, dominant = "Bm | Bm | Bm | D", "F# | F# | F# | F#"
    form = tuple(
        Section(melody=melody, left=left, pattern=pattern, transpose=transpose)
        for pattern in ("stride", "walk")
        for melody, left, transpose in ((low, home, 0), (low, home, 0), (high, dominant, 0), (low, home, 12))
    )
    return Piece(name="mountain", title="bergkönig", bar=4, tempo_bpm=120, form=form, pedal=False)


def _moonlight() -> Piece:
    def triplets(*chords: str) -> str:
        return " ".join(" ".join(f"{name}e3" for name in chord.split()) for chord in chords)

    tonic, dominant = "g#3 c#4 e4", "g#3 d#4 f#4"
    # The triplets are the accompaniment that carries the movement; bass and song stand around them in one line each.
    left = [
        triplets(*[tonic] * 4),
        triplets(*[tonic] * 4),
        triplets("a3 c#4 e4", "a3 c#4 e4", "a3 d4 f#4", "a3 d4 f#4"),
        triplets("g#3 c4 f#4", "g#3 c#4 e4", "g#3 c#4 d#4", "f#3 c4 d#4"),
        triplets("e3 g#3 c#4", tonic, tonic, tonic),
        triplets(*[dominant] * 4),
        triplets(tonic, tonic, "a3 c#4 f#4", "a3 c#4 f#4"),
        triplets("g#3 b3 e4", "g#3 b3 e4", "a3 b3 d#4", "a3 b3 d#4"),
        triplets(*["g#3 b3 e4"] * 4),
    ]
    bass = ("c#2+c#3", "b1+b2", "a1+a2", "g#1+g#2", "c#2+c#3", "c2+c3", "c#2+c#3", "b1+b2", "e2+e3")
    song = (
        *(f"{octave}w" for octave in bass[:2]),
        "a1+a2h f#1+f#2h",
        "g#1+g#2w",
        "c#2+c#3h. g#4e. g#4s",
        "c2+c3+g#4h. g#4e. g#4s",
        "c#2+c#3+g#4h f#1+f#2+a4h",
        "b1+b2+g#4h f#4q b4q",
        "e2+e3+e4w",
    )
    section = Section(melody=" | ".join(song), left=" | ".join(left), phrase_bars=5)
    return Piece(name="moonlight", title="mondschein", bar=4, tempo_bpm=60, form=(section,))


def _scarborough() -> Piece:
    melody = "d4h d4q | a4h a4q | e4q. f4e e4q | d4h. | rq a4q c5 | d5h c5q | a4q b4 g4 | a4h. | "
    melody += "rh d5q | d5h d5q | c5h a4q | a4q g4 f4 | c4h. | d4h a4q | g4h f4q | e4q d4 c4 | d4h. | ~h."
    chords = "Dm | Dm | C | Dm | F | Dm | F G | Dm | Dm | Dm | F | C | C | Dm | C | C | Dm | Dm"
    form = tuple(Section(melody=melody, left=chords, pattern=pattern, phrase_bars=4) for pattern in ("sway", "rolling"))
    return Piece(name="scarborough", title="scarborough fair", bar=3, tempo_bpm=108, form=form)


PIECES: dict[str, Piece] = {
    piece.name: piece
    for piece in (
        _ode(),
        _minuet(),
        _elise(),
        _twinkle(),
        _greensleeves(),
        _canon(),
        _lullaby(),
        _sonata(),
        _prelude(),
        _swan(),
        _grace(),
        _night(),
        _gymnopedie(),
        _largo(),
        _korobeiniki(),
        _auld(),
        _mountain(),
        _moonlight(),
        _scarborough(),
    )
}
