"""Performances without end for pre-training, drawn wide: each a pure function of a seed and a number.

A corpus (corpus.py) balances its nuisances and grades its players; here nothing is balanced, because there are as many
performances as anybody wants, and nothing is graded, because `targets` tells what only a generator knows: how much of
each fault there is, what happened in this very take, and what was meant. Skill moves all faults together, but each
fault has a chance to go its own way in every take, so that hearing one is not hearing the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from samplecnn.performances.composed import compose
from samplecnn.performances.instrument import Instrument, Noise, Room, Samples, Sound, render
from samplecnn.performances.pieces import MELODY, PIECES, Piece
from samplecnn.performances.player import (
    ADDED,
    BEGINNER,
    EXPERT,
    FAULTS,
    HESITATED,
    RESTARTED,
    SLIPPED,
    STRUCK_TWICE,
    WRONG,
    Expression,
    Faults,
    Performance,
    expression_of,
    perform,
)

_OWN_WAY = 0.15  # chance of a fault to be drawn without regard to skill, in every take; at 0.35 skill was hardly learnt
_HABITS = 0.5  # sd of the log factor by which a performer's fault differs from what his skill says
_TASTES = 0.35  # the same of his expression, beyond what expression_of varies
_FORM_OF_THE_DAY = 0.03  # sd of a performer's skill from one take to the next

# From, to; drawn log-uniformly. Each range goes well beyond those of INSTRUMENTS and ROOMS.
_INSTRUMENT = {
    "stiffness": (5e-5, 2.5e-3),
    "decay_s": (1.8, 16.0),
    "damping": (0.1, 0.7),
    "darkness": (0.65, 2.6),
    "touch": (0.3, 1.3),
    "dynamics": (1.1, 2.6),
    "strike": (0.05, 0.25),
    "beating_hz": (0.02, 4.0),
    "knock": (0.01, 0.45),
    "attack_s": (0.001, 0.012),
    "release_s": (0.04, 0.25),
    "spread": (0.2, 1.0),
}
_ROOM = {
    "reverberation_s": (0.12, 2.5),
    "wet": (0.02, 1.0),
    "first_echo_s": (0.002, 0.035),
    "dullness_hz": (1500.0, 8000.0),
    "low_cut_hz": (15.0, 130.0),
    "high_cut_hz": (6000.0, 20000.0),
}
_SIZES = (
    "timing_noise_s",
    "hand_noise_s",
    "chord_spread_s",
    "tempo_wander",
    "hesitation_s",
    "uneven_touch",
    "uneven_articulation",
    "pedal_blur",
    "tempo_slide",
    "dynamics_fade",
)
_MEANT = ("rubato", "agogic", "crescendo", "accent", "voicing", "melody_lead_s")
_FEWEST = 5  # chords, or beats of both hands, that a spread among them can be told from
_RARE = 0.005  # added to a share before its log is taken: about one note in a take

# What `targets` returns, in this order. log_X: log of a planned size against an expert's, or of what is meant; the
# others are measured in the take, spreads as logs of seconds, velocities or log tempo, counts as log(1 + a minute),
# shares as log(share + 0.005), trends from the start of the take to its end.
TARGETS = (
    *(f"log_{name}" for name in _SIZES),
    *(f"log_{name}" for name in _MEANT),
    "legato",
    "onset_spread",
    "hand_spread",
    "chord_spread",
    "touch_spread",
    "tempo_spread",
    "tempo_trend",
    "loudness_spread",
    "loudness_trend",
    "hesitations",
    "restarts",
    "memory_slips",
    "stopped",
    "wrong_notes",
    "added_notes",
    "missed_notes",
    "repeated_notes",
    "log_tempo",
    "log_density",
    "pedal",
    "skill",
)


@dataclass(frozen=True, kw_only=True)
class DrawnPerformance:
    """All that makes one performance. duration_s: of the recording, silence before and after the take included."""

    number: int
    performer: int
    skill: float
    piece: Piece
    tempo_bpm: float
    touch: float
    duration_s: float
    faults: Faults
    expression: Expression
    sound: Sound
    seed: int


def draw(
    seed: int,
    number: int,
    *,
    performers: int = 1000,
    shortest_s: float = 30.0,
    longest_s: float = 60.0,
    pieces: Sequence[str] = (),
    exclude_faults: Sequence[str] = (),
) -> DrawnPerformance:
    """The performance of this number. pieces: names in PIECES to play; none: each is composed for its performance.

    exclude_faults: those that nobody makes more of than an expert does, all else being as without this; to see whether
    a network that never met a fault hears it. Performance n is by performer n modulo performers.
    """
    performer = number % performers
    person, rng = np.random.default_rng([seed, 0, performer]), np.random.default_rng([seed, 1, number])
    own_skill = float(person.uniform())
    habits = np.exp(person.normal(0.0, _HABITS, len(FAULTS)))
    tastes = np.exp(person.normal(0.0, _TASTES, len(fields(Expression))))
    skill = float(np.clip(own_skill + rng.normal(0.0, _FORM_OF_THE_DAY), 0.0, 1.0))
    own_seed = int(rng.integers(2**31))
    if pieces:
        piece = PIECES[pieces[int(rng.integers(len(pieces)))]]
        tempo_bpm = piece.tempo_bpm * float(np.exp(rng.uniform(-0.3, 0.3)))
    else:
        piece = compose(own_seed)
        tempo_bpm = piece.tempo_bpm
    faults = _faults(rng, skill, habits)
    return DrawnPerformance(
        number=number,
        performer=performer,
        skill=skill,
        piece=piece,
        tempo_bpm=tempo_bpm,
        touch=float(rng.uniform(50.0, 80.0)),
        duration_s=float(rng.uniform(shortest_s, longest_s)),
        faults=replace(faults, **{name: getattr(EXPERT, name) for name in exclude_faults}),
        expression=_expression(rng, skill, tastes, own_seed),
        sound=_sound(rng),
        seed=own_seed,
    )


def _faults(rng: np.random.Generator, skill: float, habits: npt.NDArray[np.float64]) -> Faults:
    best, worst = (np.array([getattr(end, name) for name in FAULTS]) for end in (EXPERT, BEGINNER))
    level = np.where(rng.random(len(FAULTS)) < _OWN_WAY, rng.random(len(FAULTS)), skill)
    sizes = np.clip(best**level * worst ** (1.0 - level) * habits, best / 4.0, worst * 2.5)
    return Faults(**{name: float(size) for name, size in zip(FAULTS, sizes, strict=True)})


def _expression(rng: np.random.Generator, skill: float, tastes: npt.NDArray[np.float64], seed: int) -> Expression:
    # Some play plainly and well, others movingly and badly.
    usual = expression_of(float(rng.random()) if rng.random() < _OWN_WAY else skill, seed)
    varied = {
        field.name: getattr(usual, field.name) * float(taste)
        for field, taste in zip(fields(usual), tastes, strict=True)
    }
    return Expression(**{**varied, "legato": usual.legato * float(rng.uniform(0.5, 1.08))})


def _sound(rng: np.random.Generator) -> Sound:
    def each(ranges: dict[str, tuple[float, float]]) -> dict[str, float]:
        return {name: float(np.exp(rng.uniform(np.log(low), np.log(high)))) for name, (low, high) in ranges.items()}

    level_dbfs = float(rng.uniform(-40.0, -22.0))
    return Sound(
        instrument=Instrument(**each(_INSTRUMENT)),
        room=Room(**each(_ROOM), tilt_db=float(rng.uniform(-7.0, 7.0))),
        noise=Noise(
            hiss_dbfs=level_dbfs - float(rng.uniform(20.0, 65.0)),
            hum_dbfs=level_dbfs - float(rng.uniform(22.0, 70.0)),
            hum_hz=float(rng.choice([50.0, 60.0])),
            rumble_dbfs=level_dbfs - float(rng.uniform(22.0, 70.0)),
        ),
        level_dbfs=level_dbfs,
        tuning_cents=float(rng.uniform(-60.0, 60.0)),
        lead_s=float(rng.uniform(0.1, 3.0)),
        tail_s=float(rng.uniform(0.2, 3.0)),
    )


def perform_drawn(drawn: DrawnPerformance) -> Performance:
    """The notes of a drawn performance, as they are played."""
    return perform(
        drawn.piece,
        tempo_bpm=drawn.tempo_bpm,
        duration_s=drawn.duration_s - drawn.sound.lead_s - drawn.sound.tail_s,
        faults=drawn.faults,
        expression=drawn.expression,
        seed=drawn.seed,
        touch=drawn.touch,
    )


def render_drawn(drawn: DrawnPerformance, performance: Performance, sample_rate: int) -> Samples:
    """The samples of a drawn performance, its notes being those of perform_drawn: float32 [samples], mono."""
    with threadpool_limits(1):  # see corpus.render_recording
        sound = render(performance, drawn.sound, sample_rate=sample_rate, channels=1, seed=drawn.seed)
    mono: Samples = sound[0]
    return mono


# --- what only a generator knows -------------------------------------------------------------------------------------
# N notes, K steps, as in player.py.


def targets(drawn: DrawnPerformance, performance: Performance) -> npt.NDArray[np.float32]:
    """TARGETS of a performance, float32 in their order; NaN is what cannot be heard in this take.

    The length of notes cannot be heard under a pedal, that of stops not without one, and so on.
    """
    faults, expression = drawn.faults, drawn.expression
    values = {f"log_{name}": float(np.log(getattr(faults, name) / getattr(EXPERT, name))) for name in _SIZES}
    values |= {f"log_{name}": float(np.log(getattr(expression, name))) for name in _MEANT}
    values |= {"legato": expression.legato, "skill": drawn.skill, **_onsets(performance, expression)}
    values |= {**_course(performance), **_events(performance)}

    reached = set(performance.reached_K.tolist())
    pedalled = len(performance.pedal_P2) > 0
    inaudible = {
        "log_hesitation_s": not reached & {HESITATED, RESTARTED},
        "log_pedal_blur": not pedalled,
        "log_uneven_articulation": pedalled,
        "legato": pedalled,
        "log_chord_spread_s": np.isnan(values["chord_spread"]),
        "log_hand_noise_s": np.isnan(values["hand_spread"]),
        "log_melody_lead_s": np.isnan(values["hand_spread"]),
    }
    values |= {"pedal": float(pedalled)} | {name: np.nan for name, so in inaudible.items() if so}
    listed: npt.NDArray[np.float32] = np.array([values[name] for name in TARGETS], np.float32)
    return listed


def _log_spread(deviations: npt.NDArray[np.float64], floor: float, lost: int = 1) -> float:
    """Log of a standard deviation; lost: how many means were taken off the numbers."""
    return float(0.5 * np.log(np.sum(deviations**2) / (len(deviations) - lost) + floor**2))


def _onsets(performance: Performance, expression: Expression) -> dict[str, float]:
    """How far the notes are from where they were due, the melody's lead being meant."""
    # The first notes cannot come too early, and one too many is never due.
    heard_N = (performance.kind_N != ADDED) & (performance.step_N > 0)
    step_N, voice_N = performance.step_N[heard_N], performance.voice_N[heard_N]
    lead_N = np.where(voice_N == MELODY, expression.melody_lead_s, 0.0)
    late_N = performance.onset_s_N[heard_N] - performance.due_s_K[step_N] + lead_N
    hand_N = 2 * step_N + voice_N
    hands = 2 * len(performance.due_s_K)
    count_H = np.bincount(hand_N, minlength=hands)
    mean_H = np.bincount(hand_N, late_N, minlength=hands) / np.maximum(count_H, 1)
    chord_N = count_H[hand_N] > 1
    chords = int(np.sum(count_H > 1))
    both_K = (count_H.reshape(-1, 2) > 0).all(axis=1)
    apart_K = np.diff(mean_H.reshape(-1, 2), axis=1)[both_K, 0]
    return {
        "onset_spread": _log_spread(late_N - late_N.mean(), 1e-3),
        "hand_spread": _log_spread(apart_K - apart_K.mean(), 1e-3) if len(apart_K) >= _FEWEST else np.nan,
        "chord_spread": _log_spread((late_N - mean_H[hand_N])[chord_N], 1e-3, lost=chords)
        if chords >= _FEWEST
        else np.nan,
    }


def _course(performance: Performance) -> dict[str, float]:
    """Tempo and loudness over the take."""

    def trend(done: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, float]:
        slope, start = np.polyfit(done, values, 1)
        return float(slope), _log_spread(values - start - slope * done, 1e-3, lost=2)

    tempo_K = np.log(60.0 / performance.pace_K)
    tempo_trend, tempo_spread = trend(performance.due_s_K / performance.duration_s, tempo_K)
    loudness_trend, loudness_spread = trend(performance.onset_s_N / performance.duration_s, performance.velocity_N)
    return {
        "tempo_trend": tempo_trend,
        "tempo_spread": tempo_spread,
        "log_tempo": float(tempo_K.mean()),
        "log_density": float(np.log(len(performance.onset_s_N) / performance.duration_s)),
        "loudness_trend": loudness_trend,
        "loudness_spread": loudness_spread,
        "touch_spread": _log_spread(performance.velocity_N - performance.meant_velocity_N, 0.1),
    }


def _events(performance: Performance) -> dict[str, float]:
    """What went wrong, and how often."""
    minutes = performance.duration_s / 60.0
    written = len(performance.kind_N) + performance.missed

    def a_minute(reached: int) -> float:
        return float(np.log1p(np.sum(performance.reached_K == reached) / minutes))

    def share(happened: float, among: float) -> float:
        return float(np.log(happened / among + _RARE))

    return {
        "hesitations": a_minute(HESITATED),
        "restarts": a_minute(RESTARTED),
        "memory_slips": a_minute(SLIPPED),
        "stopped": share(np.sum(performance.pause_s_K), performance.duration_s),
        "wrong_notes": share(np.sum(performance.kind_N == WRONG), written),
        "added_notes": share(np.sum(performance.kind_N == ADDED), written),
        "missed_notes": share(performance.missed, written),
        "repeated_notes": share(np.sum(performance.reached_K == STRUCK_TWICE), len(performance.reached_K)),
    }
