"""A model of playing quality: a piece, a player's expression and faults -> the notes as they are played.

Notable: every fault is one number with a name and a unit, and draws from its own random stream. So a fault can be
had alone (`Faults(timing_noise_s=0.04)`), and the same seed with a larger number gives the same slips, only more or
larger ones (as long as pauses and restarts stay the same): a worsened copy of the same performance. Skill only
chooses the numbers (`faults_of`), with a spread of each performer's own (`draw_habits`): equally skilled players
differ in what they do badly. Sound is instrument.py's business.

Sources. Good playing is no metronome: tempo and loudness arch over phrases and slow at their ends (Todd 1985, 1992;
Repp 1992; Palmer 1997), the melody is louder and some 20-30 ms early, largely because it is louder (Goebl 2001).
Errors are mostly substitutions by near keys, omissions and additions, rarer in the melody (Palmer & van de Sande 1993;
Repp 1996). With skill, errors, pauses and uneven timing fall together (Drake & Palmer 2000). The sizes at both ends of
the scale (10 ms of timing noise for an expert, 55 ms for a beginner) are our choice within what these describe.
"""

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from samplecnn.performances.pieces import HIGHEST, LOWEST, MELODY, Piece, Score, write_out

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T", bound=np.generic)

PLAYED, WRONG, ADDED, AGAIN = 0, 1, 2, 3  # kinds of a note: as written, another key, one too many, played once more
ONWARD, HESITATED, RESTARTED, SLIPPED, STRUCK_TWICE = 0, 1, 2, 3, 4  # how the player came to a step

_SOFTEST, _LOUDEST = 12.0, 120.0  # MIDI velocities
_FIRST_HESITATIONS = 2.0  # a hesitation is this much likelier at a bar line, where the next thing must be remembered
_HABIT_SPREAD = 0.45  # sd of the log factor by which a performer's fault differs from what his skill says
_WANDER_QUARTERS = 8.0  # how long a wandering tempo remembers


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How much of each fault; 0 is none. Local faults are heard within seconds, the last four only over minutes.

    tempo_slide is the log ratio of the tempo at the end to that at the start (its sign is drawn: rushing or dragging);
    dynamics_fade the share of the expressive loudness lost by the end.
    """

    timing_noise_s: float = 0.0  # sd of every onset around its time
    hand_noise_s: float = 0.0  # sd of one hand against the other
    chord_spread_s: float = 0.0  # sd of a note within its chord
    tempo_wander: float = 0.0  # sd of the log tempo over some bars
    hesitations_per_min: float = 0.0
    hesitation_s: float = 0.0  # median length
    restarts_per_min: float = 0.0  # stops and plays the bar again
    wrong_notes: float = 0.0  # share of notes
    added_notes: float = 0.0  # share of notes that bring a neighbouring key along
    missed_notes: float = 0.0  # share of notes
    repeated_notes: float = 0.0  # share of onsets that are struck twice
    uneven_touch: float = 0.0  # sd in MIDI velocity
    uneven_articulation: float = 0.0  # sd of the log length of a note
    pedal_blur: float = 0.0  # share of pedal changes that are missed; the others come late by as much
    tempo_slide: float = 0.0
    memory_slips_per_min: float = 0.0  # a long stop, then from the start of the phrase
    slip_pause_s: float = 0.0  # median length of that stop
    dynamics_fade: float = 0.0


FAULTS = tuple(field.name for field in dataclasses.fields(Faults))
GLOBAL_FAULTS = ("tempo_slide", "memory_slips_per_min", "slip_pause_s", "dynamics_fade")

EXPERT = Faults(
    timing_noise_s=0.010,
    hand_noise_s=0.006,
    chord_spread_s=0.006,
    tempo_wander=0.012,
    hesitations_per_min=0.1,
    hesitation_s=0.2,
    restarts_per_min=0.02,
    wrong_notes=0.002,
    added_notes=0.001,
    missed_notes=0.002,
    repeated_notes=0.0005,
    uneven_touch=3.0,
    uneven_articulation=0.06,
    pedal_blur=0.03,
    tempo_slide=0.02,
    memory_slips_per_min=0.01,
    slip_pause_s=1.0,
    dynamics_fade=0.05,
)
BEGINNER = Faults(
    timing_noise_s=0.055,
    hand_noise_s=0.035,
    chord_spread_s=0.030,
    tempo_wander=0.10,
    hesitations_per_min=7.0,
    hesitation_s=0.6,
    restarts_per_min=1.2,
    wrong_notes=0.05,
    added_notes=0.03,
    missed_notes=0.05,
    repeated_notes=0.02,
    uneven_touch=11.0,
    uneven_articulation=0.35,
    pedal_blur=0.5,
    tempo_slide=0.25,
    memory_slips_per_min=0.4,
    slip_pause_s=2.5,
    dynamics_fade=0.6,
)


@dataclass(frozen=True, kw_only=True)
class Expression:
    """What is meant: the shaping that a good player adds to the score. All zero is a metronome."""

    rubato: float = 0.0  # log tempo between the ends of a phrase and its middle
    agogic: float = 0.0  # share by which a downbeat is lengthened
    crescendo: float = 0.0  # MIDI velocities between the ends of a phrase and its middle
    accent: float = 0.0  # MIDI velocities of a downbeat
    voicing: float = 0.0  # MIDI velocities of the melody over the left hand
    melody_lead_s: float = 0.0  # how early the melody comes
    legato: float = 0.9  # sounding share of a written length


_EXPRESSIVE = Expression(rubato=0.16, agogic=0.05, crescendo=16, accent=5, voicing=14, melody_lead_s=0.02, legato=0.98)
_PLAIN = Expression(rubato=0.03, agogic=0.01, crescendo=3, accent=3, voicing=3, melody_lead_s=0.002, legato=0.84)


@dataclass(frozen=True)
class Performance:
    """N played notes sorted by onset, P pressings of the pedal (start_s, end_s), and the K steps that were played.

    score_onset_N: quarters, where in the score the note stands. kind_N: PLAYED, WRONG, ADDED or AGAIN.
    duration_s: where the take ends; no note begins after it.
    What only the player knows: meant_velocity_N, without unevenness; step_N, the step of each note; of each step when
    it was due (due_s_K), the seconds a quarter takes there (pace_K), the pause before it (pause_s_K) and what it was
    reached by (reached_K: ONWARD, HESITATED, RESTARTED, SLIPPED, STRUCK_TWICE); missed: how many notes were left out.
    """

    onset_s_N: FloatArray
    duration_s_N: FloatArray
    pitch_N: npt.NDArray[np.int64]
    velocity_N: FloatArray
    voice_N: npt.NDArray[np.int64]
    score_onset_N: FloatArray
    kind_N: npt.NDArray[np.int64]
    pedal_P2: FloatArray
    duration_s: float
    meant_velocity_N: FloatArray
    step_N: npt.NDArray[np.int64]
    due_s_K: FloatArray
    pace_K: FloatArray
    pause_s_K: FloatArray
    reached_K: npt.NDArray[np.int64]
    missed: int


def draw_habits(seed: int) -> Faults:
    """A performer's own leanings: a Faults object whose numbers are factors around 1."""
    factors = np.exp(np.random.default_rng(seed).normal(0.0, _HABIT_SPREAD, len(FAULTS)))
    return Faults(**{name: float(factor) for name, factor in zip(FAULTS, factors, strict=True)})


def faults_of(skill: float, habits: Faults) -> Faults:
    """The faults of this skill (0 = beginner .. 1 = expert), even steps of skill being even ratios of each fault."""
    return Faults(
        **{
            name: getattr(habits, name) * getattr(EXPERT, name) ** skill * getattr(BEGINNER, name) ** (1.0 - skill)
            for name in FAULTS
        }
    )


def expression_of(skill: float, seed: int) -> Expression:
    """The expression of this skill, every part of it more or less to this seed's taste."""
    tastes = np.exp(np.random.default_rng(seed).normal(0.0, 0.25, 6))
    amounts = {
        name: float(taste) * (skill * getattr(_EXPRESSIVE, name) + (1.0 - skill) * getattr(_PLAIN, name))
        for name, taste in zip(
            ("rubato", "agogic", "crescendo", "accent", "voicing", "melody_lead_s"), tastes, strict=True
        )
    }
    return Expression(legato=skill * _EXPRESSIVE.legato + (1.0 - skill) * _PLAIN.legato, **amounts)


def perform(
    piece: Piece,
    *,
    tempo_bpm: float,
    duration_s: float,
    faults: Faults,
    expression: Expression,
    seed: int,
    touch: float = 66.0,
    pedal: bool = True,
) -> Performance:
    """Play a piece, repeated as needed, until the bar line that is nearest to duration_s.

    The take is then fitted to duration_s exactly (tempo some percent up or down), so that its length tells nothing
    about who stopped and hesitated. touch: mean MIDI velocity, fitted likewise. pedal: only where the piece wants it.
    """
    score = write_out(piece, 1.5 * duration_s * tempo_bpm / 60.0)
    streams = {name: np.random.default_rng([seed, number]) for number, name in enumerate((*FAULTS, "expression"))}
    position_G, first_G = np.unique(score.onset_N.round(6), return_index=True)
    walk = _walk(score, position_G, tempo_bpm, faults, streams)
    time_K, pace_K = _times(score, position_G, walk, tempo_bpm, duration_s, faults, expression, streams)
    steps, stretch = _ending(score.bar, position_G[walk.group_K], walk.kind_K, time_K, duration_s)
    walk, time_K, pace_K = walk.cut(steps), time_K[:steps] * stretch, pace_K[:steps] * stretch

    # from here on one entry a note: step is its place in the walk, note its place in the score
    last_G = np.append(first_G[1:], len(score.onset_N))
    counts = (last_G - first_G)[walk.group_K]
    step_N = np.repeat(np.arange(steps), counts)
    note_N = np.arange(len(step_N)) - np.repeat(np.cumsum(counts) - counts, counts) + first_G[walk.group_K][step_N]
    voice_N = score.voice_N[note_N]
    kind_N = np.where(walk.kind_K[step_N] == PLAYED, PLAYED, AGAIN)
    onset_N = time_K[step_N] + _displacement(step_N, voice_N, steps, faults, expression, streams)
    meant_N, velocity_N = _velocities(score, note_N, time_K[step_N] / duration_s, touch, faults, expression, streams)
    length_N = _lengths(score, walk, note_N, step_N, pace_K, position_G, faults, expression, streams)
    pitch_N = score.pitch_N[note_N].copy()

    # errors are rarer in the melody (Palmer & van de Sande 1993)
    likely_N = np.where(voice_N == MELODY, 0.7, 1.2)
    wrong_N = streams["wrong_notes"].random(len(note_N)) < faults.wrong_notes * likely_N
    missed_N = streams["missed_notes"].random(len(note_N)) < faults.missed_notes * likely_N
    added_N = streams["added_notes"].random(len(note_N)) < faults.added_notes * likely_N
    pitch_N = np.where(wrong_N, _neighbour(pitch_N, streams["wrong_notes"]), pitch_N)
    kind_N = np.where(wrong_N, WRONG, kind_N)
    beside_N = _neighbour(pitch_N, streams["added_notes"])
    keep = ~missed_N
    keep[0] = True  # a take begins with something

    def with_added(values: npt.NDArray[T], added: npt.NDArray[T]) -> npt.NDArray[T]:
        return np.concatenate([values[keep], added[added_N]])

    onset_N = np.clip(with_added(onset_N, onset_N + 0.01), 0.0, duration_s)
    order = np.argsort(onset_N, kind="stable")
    return Performance(
        onset_s_N=onset_N[order],
        duration_s_N=with_added(length_N, 0.5 * length_N)[order].clip(0.04),
        pitch_N=with_added(pitch_N, beside_N)[order].clip(LOWEST, HIGHEST),
        velocity_N=with_added(velocity_N, velocity_N - 14.0)[order].clip(_SOFTEST, _LOUDEST),
        voice_N=with_added(voice_N, voice_N)[order],
        score_onset_N=with_added(score.onset_N[note_N], score.onset_N[note_N])[order],
        kind_N=with_added(kind_N, np.full_like(kind_N, ADDED))[order],
        pedal_P2=_pedal(score, position_G, walk, time_K, duration_s, faults, streams)
        if pedal and piece.pedal
        else np.zeros((0, 2)),
        duration_s=duration_s,
        meant_velocity_N=with_added(meant_N, meant_N - 14.0)[order].clip(_SOFTEST, _LOUDEST),
        step_N=with_added(step_N, step_N)[order],
        due_s_K=time_K,
        pace_K=pace_K,
        pause_s_K=walk.pause_s_K * stretch,
        reached_K=walk.reached_K,
        missed=int(np.sum(~keep)),
    )


# --- when ------------------------------------------------------------------------------------------------------------
# G onsets of the score (all notes of one onset), K steps of the walk through them (with going back), N played notes.


@dataclass(frozen=True)
class _Walk:
    """Which onset comes next, after what pause and why, and whether it was played before (kind: PLAYED or AGAIN)."""

    group_K: npt.NDArray[np.int64]
    pause_s_K: FloatArray
    kind_K: npt.NDArray[np.int64]
    reached_K: npt.NDArray[np.int64]

    def cut(self, steps: int) -> "_Walk":
        return _Walk(self.group_K[:steps], self.pause_s_K[:steps], self.kind_K[:steps], self.reached_K[:steps])


def _walk(
    score: Score, position_G: FloatArray, tempo_bpm: float, faults: Faults, streams: dict[str, np.random.Generator]
) -> _Walk:
    groups = len(position_G)
    minutes_G = np.diff(position_G, append=score.end) / tempo_bpm
    in_bar_G = position_G % score.bar
    bar_G = np.searchsorted(position_G, position_G - in_bar_G)  # the first onset of each onset's bar
    phrase_G = np.searchsorted(
        position_G, score.phrase_starts[np.searchsorted(score.phrase_starts, position_G + 1e-6) - 1]
    )

    def happens(name: str, per_minute: float, weight_G: FloatArray | float = 1.0) -> npt.NDArray[np.bool_]:
        return np.asarray(streams[name].random(groups) < per_minute * minutes_G * weight_G)

    def lasting(name: str, median_s: float) -> FloatArray:
        return median_s * np.exp(streams[name].normal(0.0, 0.4, groups))

    first = np.where(in_bar_G < 1e-6, _FIRST_HESITATIONS, 1.0)
    hesitates_G = happens("hesitations_per_min", faults.hesitations_per_min, first)
    hesitation_G = np.where(hesitates_G, lasting("hesitation_s", faults.hesitation_s), 0.0)
    restarts_G = happens("restarts_per_min", faults.restarts_per_min)
    stop_G = lasting("restarts_per_min", faults.hesitation_s)
    slips_G = happens("memory_slips_per_min", faults.memory_slips_per_min)
    slip_G = lasting("slip_pause_s", faults.slip_pause_s)
    stutters_G = streams["repeated_notes"].random(groups) < faults.repeated_notes
    stutter_G = streams["repeated_notes"].uniform(0.15, 0.35, groups)

    order: list[tuple[int, float, int, int]] = []
    for group in range(groups):
        order.append((group, hesitation_G[group], PLAYED, HESITATED if hesitates_G[group] else ONWARD))
        if slips_G[group]:
            order += _again(int(phrase_G[group]), group, slip_G[group], SLIPPED)
        elif restarts_G[group]:
            order += _again(int(bar_G[group]), group, stop_G[group], RESTARTED)
        elif stutters_G[group]:
            order.append((group, stutter_G[group], AGAIN, STRUCK_TWICE))
    group_K, pause_K, kind_K, reached_K = zip(*order, strict=True)
    return _Walk(np.array(group_K), np.array(pause_K), np.array(kind_K), np.array(reached_K))


def _again(start: int, stop: int, pause_s: float, reached: int) -> list[tuple[int, float, int, int]]:
    first = (start, pause_s, AGAIN, reached)
    return [first, *((group, 0.0, AGAIN, ONWARD) for group in range(start + 1, stop + 1))]


def _times(
    score: Score,
    position_G: FloatArray,
    walk: _Walk,
    tempo_bpm: float,
    duration_s: float,
    faults: Faults,
    expression: Expression,
    streams: dict[str, np.random.Generator],
) -> tuple[FloatArray, FloatArray]:
    """When each step begins, and the seconds a quarter takes there."""
    position_K = position_G[walk.group_K]
    quarters_K = np.diff(position_G, append=score.end)[walk.group_K]
    place_K, phrase_K = _phrase(score, position_K)
    # A phrase is its own: the same player shapes one more than another.
    depth = expression.rubato * np.exp(streams["expression"].normal(0.0, 0.3, len(score.phrase_starts)))
    arch_K = 2.0 / 3.0 - (2.0 * place_K - 1.0) ** 2 - 1.5 * (np.maximum(place_K - 0.85, 0.0) / 0.15) ** 2
    downbeat_K = position_K % score.bar < 1e-6
    log_pace_K = -depth[phrase_K] * arch_K + np.where(downbeat_K, expression.agogic, 0.0)

    keep_K = np.exp(-np.maximum(quarters_K, 0.25) / _WANDER_QUARTERS)
    push_K = streams["tempo_wander"].normal(0.0, 1.0, len(keep_K)) * np.sqrt(1.0 - keep_K**2)
    wander = 0.0
    for step, (keep, push) in enumerate(zip(keep_K, push_K, strict=True)):
        wander = keep * wander + push
        log_pace_K[step] += faults.tempo_wander * wander
    done_K = np.minimum(position_K / (duration_s * tempo_bpm / 60.0), 1.0)
    direction = streams["tempo_slide"].choice([-1.0, 1.0])
    log_pace_K += direction * faults.tempo_slide * (done_K - 0.5)
    pace_K = 60.0 / tempo_bpm * np.exp(log_pace_K)

    # To the next step: on to the next onset, or straight back after the pause.
    onward = np.append(np.diff(walk.group_K) == 1, True)
    step_s = np.where(onward, quarters_K * pace_K, 0.0) + np.append(walk.pause_s_K[1:], 0.0)
    return np.cumsum(step_s) - step_s, pace_K


def _phrase(score: Score, position: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Where in its phrase a position lies (0..1), and which phrase that is."""
    phrase = np.searchsorted(score.phrase_starts, position + 1e-6) - 1
    start = score.phrase_starts[phrase]
    end = np.append(score.phrase_starts[1:], score.end)[phrase]
    return (position - start) / (end - start), phrase


def _ending(
    bar: float, position_K: FloatArray, kind_K: npt.NDArray[np.int64], time_K: FloatArray, duration_s: float
) -> tuple[int, float]:
    """How many steps the take has, and the factor that makes them last duration_s."""
    new_bar = (position_K % bar < 1e-6) & (kind_K == PLAYED) & (np.arange(len(time_K)) > 0)
    lines = np.flatnonzero(new_bar)
    steps = int(lines[np.argmin(np.abs(time_K[lines] - duration_s))])
    return steps, duration_s / float(time_K[steps])


def _displacement(
    step_N: npt.NDArray[np.int64],
    voice_N: npt.NDArray[np.int64],
    steps: int,
    faults: Faults,
    expression: Expression,
    streams: dict[str, np.random.Generator],
) -> FloatArray:
    """By how much each note misses its step's time (seconds)."""
    together = faults.timing_noise_s * streams["timing_noise_s"].normal(0.0, 1.0, steps)[step_N]
    hands = faults.hand_noise_s / np.sqrt(2.0) * streams["hand_noise_s"].normal(0.0, 1.0, (steps, 2))[step_N, voice_N]
    spread = faults.chord_spread_s * streams["chord_spread_s"].normal(0.0, 1.0, len(step_N))
    lead = np.where(voice_N == MELODY, -expression.melody_lead_s, 0.0)
    return np.asarray(together + hands + spread + lead)


# --- how -------------------------------------------------------------------------------------------------------------


def _velocities(
    score: Score,
    note_N: npt.NDArray[np.int64],
    done_N: FloatArray,
    touch: float,
    faults: Faults,
    expression: Expression,
    streams: dict[str, np.random.Generator],
) -> tuple[FloatArray, FloatArray]:
    """How hard each note is meant to be struck, and how hard it is."""
    position_N = score.onset_N[note_N]
    place_N, _ = _phrase(score, position_N)
    meant = expression.crescendo * (2.0 / 3.0 - (2.0 * place_N - 1.0) ** 2)
    meant += np.where(position_N % score.bar < 1e-6, expression.accent, 0.0)
    meant += np.where(score.voice_N[note_N] == MELODY, 0.5, -0.5) * expression.voicing
    meant *= 1.0 - min(faults.dynamics_fade, 1.0) * done_N
    velocity = meant - 12.0 * faults.dynamics_fade * done_N
    uneven = velocity + faults.uneven_touch * streams["uneven_touch"].normal(0.0, 1.0, len(note_N))
    level = touch - uneven.mean()
    return np.asarray(velocity + level), np.asarray(uneven + level)


def _lengths(
    score: Score,
    walk: _Walk,
    note_N: npt.NDArray[np.int64],
    step_N: npt.NDArray[np.int64],
    pace_K: FloatArray,
    position_G: FloatArray,
    faults: Faults,
    expression: Expression,
    streams: dict[str, np.random.Generator],
) -> FloatArray:
    """Sounding lengths in seconds: who hesitates before the next note stays on this one."""
    quarters_N = score.duration_N[note_N]
    gap_N = np.diff(position_G, append=score.end)[walk.group_K][step_N]
    held_N = np.where(quarters_N >= gap_N - 1e-6, np.append(walk.pause_s_K[1:], 0.0)[step_N], 0.0)
    uneven_N = np.exp(faults.uneven_articulation * streams["uneven_articulation"].normal(0.0, 1.0, len(note_N)))
    return np.asarray(quarters_N * pace_K[step_N] * expression.legato * np.minimum(uneven_N, 1.5) + held_N)


def _neighbour(pitch_N: npt.NDArray[np.int64], stream: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.asarray(pitch_N + stream.choice([-2, -1, 1, 2], len(pitch_N)))


def _pedal(
    score: Score,
    position_G: FloatArray,
    walk: _Walk,
    time_K: FloatArray,
    duration_s: float,
    faults: Faults,
    streams: dict[str, np.random.Generator],
) -> FloatArray:
    """Pressed anew just after each change of harmony, the old sound cut there; blurred, some changes are missed."""
    changing = np.searchsorted(position_G, score.harmony_changes[score.harmony_changes <= position_G[-1]])
    at_s = time_K[np.isin(walk.group_K, changing)]
    missed = streams["pedal_blur"].random(len(at_s)) < faults.pedal_blur
    missed[0] = False  # the pedal is pressed at least once
    late_s = 0.03 + 0.25 * min(faults.pedal_blur, 1.0) * streams["pedal_blur"].random(len(at_s))
    lift_s = (at_s + late_s)[~missed]
    press_s = lift_s + 0.09
    until_s = np.append(lift_s[1:], duration_s)
    return np.stack([press_s, until_s], axis=1)[press_s < until_s]
