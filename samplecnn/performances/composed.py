"""Piano pieces without end: a seed becomes a piece that nobody has written, in the notation of pieces.py.

They are material for pre-training, where nineteen tunes would be learnt by heart. What matters is that rhythm, texture,
register, metre and tempo vary far more widely than in PIECES; that bars, phrases and harmonies exist, since a player
shapes them; and that two hands could play it and an ear follow it (`playable_bpm`).
"""

from dataclasses import dataclass, replace

import numpy as np

from samplecnn.performances.pieces import PATTERNS, Piece, Section, write_out

SPARSEST, DENSEST = 1.5, 12.0  # notes a second, chords counted by their notes
FEWEST_ONSETS, MOST_ONSETS = 1.0, 9.0  # a second
SLOWEST_BPM, FASTEST_BPM = 40.0, 200.0  # quarters a minute

_NAMES = ("c", "c#", "d", "d#", "e", "f", "f#", "g", "g#", "a", "a#", "b")
_MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
_MODE_SHARES = (0.38, 0.3, 0.1, 0.1, 0.06, 0.06)
_QUALITIES = {(4, 7): "", (3, 7): "m", (3, 6): "dim"}

# Metres by their beats in quarters: 2/4, 3/4, 4/4, 6/8, 9/8, 12/8, 3/8, 5/4, 5/8, 7/8.
_METRES: tuple[tuple[float, ...], ...] = (
    (1.0, 1.0),
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0, 1.0),
    (1.5, 1.5),
    (1.5, 1.5, 1.5),
    (1.5, 1.5, 1.5, 1.5),
    (1.5,),
    (1.0, 1.0, 1.0, 1.0, 1.0),
    (1.0, 1.5),
    (1.0, 1.0, 1.5),
)
_METRE_SHARES = (0.15, 0.2, 0.28, 0.13, 0.04, 0.04, 0.04, 0.05, 0.03, 0.04)

# Rhythm cells: what fills 1, 1.5, 2 or 3 quarters, as lengths of the notation; "r" before one is a rest, "~" holds on.
_CELLS: dict[str, tuple[str, ...]] = {
    "chorale": ("q", "q", "q", "h", "q.", "h.", "q e", "q q"),
    "song": ("q", "e e", "q q", "q. e", "h", "q e", "e e e", "q.", "h q", "e e q"),
    "quavers": ("e e", "e e e", "e e e e", "e e e e e e"),
    "dotted": ("e. s", "e. s e", "q. e", "e. s e. s", "q", "h q", "q."),
    "triplets": ("e3 e3 e3", "e3 e3 e3", "q", "s s s s s s", "q3 q3 q3", "q q q"),
    "swing": ("q3 e3", "q3 e3", "e3 e3 e3", "q", "q e", "q e3 e3 e3 q"),
    "syncopated": ("e q e", "re e", "e q q e", "e q. e e", "s e s", "e q", "q", "re q e", "~e e", "~e e e"),
    "long": ("h", "h.", "rh", "q rq", "q.", "q", "rq", "h rq", "re e re", "rq."),
    "runs": ("s s s s", "s s s s", "s s s s s s", "q", "e s s", "s s e", "e s s e"),
    "scales": ("s s s s", "s s s s s s", "s s s s s s s s"),
    "breaths": ("e re", "e re", "q rq", "re e", "e e re", "rq", "rq.", "s rs e", "q re", "s rs s rs s rs"),
}
_LENGTHS = {"h": 2.0, "q": 1.0, "e": 0.5, "s": 0.25}

# The shape of a form: a letter a section, a new figure after it the same harmony played in another manner.
_FORMS = ("AABA", "ABAB", "AABB", "ABACA", "ABA", "AA1A2", "AABB1", "AB", "ABCA", "AA1BB1A")


@dataclass(frozen=True)
class _Manner:
    """How a section is set: rhythm and doubling of the melody, and the left hand (a pattern, or voice, or unison)."""

    rhythm: str
    doubling: str  # single, octaves, thirds, chords
    left: str
    stepwise: float  # share of steps among the melody's intervals
    repeated: float  # share of repeated notes
    accidentals: float
    centre: int  # MIDI pitch the melody keeps returning to
    span: int  # scale steps it may leave it by


def compose(seed: int) -> Piece:
    """A piece of this seed: one of any number, all of them different."""
    rng = np.random.default_rng([seed, 19])
    beats = _METRES[rng.choice(len(_METRES), p=_METRE_SHARES)]
    bar = sum(beats)
    scale = list(_MODES.values())[rng.choice(len(_MODES), p=_MODE_SHARES)]
    tonic = int(rng.integers(12))
    phrase_bars = int(rng.choice([2, 3, 4, 4, 4, 5, 6, 8]))
    first = _manner(rng)
    sections: dict[str, Section] = {}
    harmonies: dict[str, list[list[int]]] = {}
    form = _FORMS[rng.integers(len(_FORMS))]
    names = _section_names(form)
    shift = int(rng.integers(-6, 8))  # how far both hands are shifted
    for name in dict.fromkeys(names):
        letter = name[0]
        if letter not in harmonies:
            phrases = int(rng.integers(1 if phrase_bars > 3 else 2, 3 if phrase_bars > 4 else 5))
            harmonies[letter] = _harmony(rng, phrase_bars * phrases, phrase_bars, bar)
        # A new section may differ from the first in anything, or in its notes alone.
        manner = first if name == "A" or rng.random() < 0.4 else _manner(rng)
        manner = replace(manner, centre=first.centre + int(rng.integers(-3, 4)))
        sections[name] = _set(rng, manner, harmonies[letter], beats, scale, tonic, phrase_bars, shift)
    piece = Piece(
        name=f"composed-{seed}",
        title=f"composed {seed}",
        bar=bar,
        tempo_bpm=100.0,
        form=tuple(sections[name] for name in names),
        pedal=bool(rng.random() < 0.55),
    )
    slowest, fastest = playable_bpm(piece)
    return replace(piece, tempo_bpm=float(np.exp(rng.uniform(np.log(slowest), np.log(fastest)))))


def playable_bpm(piece: Piece) -> tuple[float, float]:
    """The slowest and the fastest tempo at which a piece has neither too few notes and onsets a second nor too many."""
    score = write_out(piece)
    notes, onsets = len(score.onset_N) / score.end, len(np.unique(score.onset_N.round(6))) / score.end  # a quarter
    slowest = max(SPARSEST / notes, FEWEST_ONSETS / onsets) * 60.0
    fastest = min(DENSEST / notes, MOST_ONSETS / onsets) * 60.0
    return float(np.clip(slowest, SLOWEST_BPM, FASTEST_BPM)), float(np.clip(fastest, SLOWEST_BPM, FASTEST_BPM))


def _section_names(form: str) -> list[str]:
    names: list[str] = []
    for sign in form:
        if sign.isdigit():
            names[-1] += sign
        else:
            names.append(sign)
    return names


def _manner(rng: np.random.Generator) -> _Manner:
    left = ["voice", "unison", *PATTERNS]
    return _Manner(
        rhythm=str(rng.choice(list(_CELLS))),
        doubling=str(rng.choice(["single", "octaves", "thirds", "chords"], p=[0.6, 0.1, 0.15, 0.15])),
        left=left[rng.choice(len(left), p=[0.16, 0.06] + [0.78 / len(PATTERNS)] * len(PATTERNS))],
        stepwise=float(rng.uniform(0.4, 0.97)),
        repeated=float(rng.choice([0.02, 0.15, 0.6], p=[0.5, 0.4, 0.1])),
        accidentals=float(rng.choice([0.0, 0.08])),
        centre=int(rng.integers(62, 84)),
        span=int(rng.integers(4, 9)),
    )


# --- harmony ---------------------------------------------------------------------------------------------------------


def _harmony(rng: np.random.Generator, bars: int, phrase_bars: int, bar: float) -> list[list[int]]:
    """Degrees of the scale (0 = tonic) for each bar: a wandering in fifths and thirds that closes every phrase."""
    twice = bar in (2.0, 4.0, 3.0, 6.0) and rng.random() < 0.5  # whether a bar may have two chords
    degree = 0
    plan: list[list[int]] = []
    for number in range(bars):
        chords = 2 if twice and rng.random() < 0.4 else 1
        written = []
        for _ in range(chords):
            written.append(degree)
            degree = int((degree + rng.choice([3, 4, 5, 1, 2, 0], p=[0.35, 0.2, 0.2, 0.1, 0.05, 0.1])) % 7)
        place = number % phrase_bars
        if place == phrase_bars - 2:
            degree = 4 if number < bars - 2 and rng.random() < 0.4 else 0  # the phrase ends on it
        if place == phrase_bars - 1:
            written, degree = [written[0]], 0
        plan.append(written)
    plan[-1] = [0]
    return plan


def _chord(degree: int, scale: tuple[int, ...], tonic: int) -> tuple[str, set[int]]:
    """Symbol and pitch classes of the triad on a degree."""
    root, third, fifth = ((scale[(degree + step) % 7] + tonic) % 12 for step in (0, 2, 4))
    quality = _QUALITIES.get(((third - root) % 12, (fifth - root) % 12), "")
    return _NAMES[root].upper() + quality, {root, third, fifth}


# --- hands -----------------------------------------------------------------------------------------------------------


def _set(
    rng: np.random.Generator,
    manner: _Manner,
    harmony: list[list[int]],
    beats: tuple[float, ...],
    scale: tuple[int, ...],
    tonic: int,
    phrase_bars: int,
    transpose: int,
) -> Section:
    """One section: a melody over the harmony, and its left hand."""
    chords = [[_chord(degree, scale, tonic) for degree in written] for written in harmony]
    tones = [[classes for _, classes in written] for written in chords]
    keys = [pitch for pitch in range(24, 100) if (pitch - tonic) % 12 in scale]
    rhythm = _rhythm(rng, manner.rhythm, len(harmony), beats, phrase_bars)
    line = _line(rng, manner, rhythm, tones, keys, manner.centre, lowest=60)
    melody = _written(rhythm, [_doubled(pitch, manner.doubling, keys, 60) for pitch in line])
    pattern = ""
    if manner.left == "unison":  # as in a study: both hands the same, two octaves apart
        low = _written(rhythm, [(pitch - 24,) for pitch in line])
    elif manner.left == "voice":
        low_rhythm = _rhythm(rng, str(rng.choice(list(_CELLS))), len(harmony), beats, phrase_bars)
        low_line = _line(rng, replace(manner, span=5), low_rhythm, tones, keys, int(rng.integers(43, 54)), lowest=34)
        low = _written(low_rhythm, [(pitch,) for pitch in low_line])
    else:
        pattern = manner.left
        low = " | ".join(" ".join(symbol for symbol, _ in written) for written in chords)
    return Section(melody=melody, left=low, pattern=pattern, phrase_bars=phrase_bars, transpose=transpose)


def _quarters(length: str) -> float:
    bare = length.lstrip("r~")
    return _LENGTHS[bare[0]] * (1.5 if "." in bare else 1.0) * (2 / 3 if "3" in bare else 1.0)


_FITTING: dict[tuple[str, float], list[list[str]]] = {
    (name, span): [
        cell.split() for cell in cells if abs(sum(_quarters(length) for length in cell.split()) - span) < 1e-6
    ]
    for name, cells in _CELLS.items()
    for span in (1.0, 1.5, 2.0, 3.0)
}


def _rhythm(
    rng: np.random.Generator, kind: str, bars: int, beats: tuple[float, ...], phrase_bars: int
) -> list[list[str]]:
    """The lengths of every bar. Bars come back within a section, and a phrase ends on a long note."""
    stock: list[list[str]] = [_bar(rng, kind, beats) for _ in range(int(rng.integers(1, 4)))]
    rhythm: list[list[str]] = []
    for number in range(bars):
        if number % phrase_bars == phrase_bars - 1 and rng.random() < 0.75:
            rhythm.append(_closing(rng, beats))
        elif rng.random() < 0.75:
            rhythm.append(list(stock[rng.integers(len(stock))]))
        else:
            rhythm.append(_bar(rng, kind, beats))
    sounding = False
    for lengths in rhythm:
        for place, length in enumerate(lengths):
            if not sounding:  # nothing to hold on to
                lengths[place] = length.lstrip("~")
            sounding = not lengths[place].startswith("r")
    return rhythm


def _bar(rng: np.random.Generator, kind: str, beats: tuple[float, ...]) -> list[str]:
    lengths: list[str] = []
    beat = 0
    while beat < len(beats):
        fitting = [(cell, n) for n in (1, 2, 3) for cell in _FITTING.get((kind, sum(beats[beat : beat + n])), ())]
        fitting = [(cell, n) for cell, n in fitting if beat + n <= len(beats)]
        cell, taken = fitting[rng.integers(len(fitting))] if fitting else ([{1.0: "q", 1.5: "q."}[beats[beat]]], 1)
        lengths += cell
        beat += taken
    if all(length.startswith("r") for length in lengths):
        lengths[0] = lengths[0].removeprefix("r")
    return lengths


def _closing(rng: np.random.Generator, beats: tuple[float, ...]) -> list[str]:
    """A long note, perhaps a rest after it."""
    names = [{1.0: "q", 1.5: "q."}[beat] for beat in beats]
    sounding = int(rng.integers(1, len(beats) + 1))
    rest = "r" if rng.random() < 0.5 else "~"
    return [names[0], *(f"~{name}" for name in names[1:sounding]), *(f"{rest}{name}" for name in names[sounding:])]


def _line(
    rng: np.random.Generator,
    manner: _Manner,
    rhythm: list[list[str]],
    tones: list[list[set[int]]],
    keys: list[int],
    centre: int,
    lowest: int,
) -> list[int]:
    """A pitch for every struck note of the rhythm: steps and leaps in the scale, chord tones where a bar begins."""
    home = int(np.argmin(np.abs(np.array(keys) - centre)))
    floor = next(place for place, key in enumerate(keys) if key >= lowest)
    place = home
    direction = 1
    line: list[int] = []
    for lengths, chords in zip(rhythm, tones, strict=True):
        at = 0.0
        for length in lengths:
            if length[0] not in "r~":
                if rng.random() >= manner.repeated:
                    leap = 1 if rng.random() < manner.stepwise else int(rng.integers(2, 6))
                    turning = 0.3 if manner.rhythm != "scales" else 0.08
                    if rng.random() < turning or abs(place + direction * leap - home) > manner.span:
                        direction = -1 if place > home else 1 if place < home else int(rng.choice([-1, 1]))
                    place = int(np.clip(place + direction * leap, floor, len(keys) - 1))
                if at == 0.0:
                    chord = chords[0]
                    near = [
                        p
                        for p in (place, place + 1, place - 1, place + 2, floor, floor + 1, floor + 2)
                        if floor <= p < len(keys) and keys[p] % 12 in chord
                    ]
                    place = near[0] if near else place
                bent = 1 if at > 0.0 and rng.random() < manner.accidentals else 0
                line.append(keys[place] - bent if keys[place] - bent >= lowest else keys[place])
            at += _quarters(length)
    return line


def _doubled(pitch: int, doubling: str, keys: list[int], lowest: int) -> tuple[int, ...]:
    """The note with what goes along below it, none of it lower than the melody may go."""
    below = [key for key in keys if key < pitch]
    added = {
        "octaves": [pitch - 12],
        "thirds": below[-2:-1],
        "chords": [*below[-2:-1], *below[-4:-3]],
    }.get(doubling, [])
    return (*(key for key in sorted(added) if key >= lowest), pitch)


def _written(rhythm: list[list[str]], notes: list[tuple[int, ...]]) -> str:
    """Lengths and pitches in the notation of pieces.py."""
    rest = iter(notes)
    bars = []
    for lengths in rhythm:
        tokens = [
            length if length[0] in "r~" else "+".join(_name(pitch) for pitch in next(rest)) + length
            for length in lengths
        ]
        bars.append(" ".join(tokens))
    return " | ".join(bars)


def _name(pitch: int) -> str:
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"
