"""Skill shows in the notes: faults grow as it falls, good playing is shaped, and each fault can be had alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from samplecnn.performances.pieces import LEFT, MELODY, PIECES, write_out
from samplecnn.performances.player import (
    ADDED,
    AGAIN,
    FAULTS,
    GLOBAL_FAULTS,
    PLAYED,
    WRONG,
    Expression,
    Faults,
    Performance,
    draw_habits,
    expression_of,
    faults_of,
    perform,
)

NO_HABITS = Faults(**dict.fromkeys(FAULTS, 1.0))
METRONOME = Expression()


def play(piece: str = "ode", seed: int = 1, expression: Expression = METRONOME, **faults: float) -> Performance:
    return perform(
        PIECES[piece], tempo_bpm=100.0, duration_s=100.0, faults=Faults(**faults), expression=expression, seed=seed
    )


def timing_deviation(performance: Performance) -> float:
    """Mean absolute deviation (seconds) of the onsets from the beat between their neighbours, pauses left out."""
    as_written = (performance.kind_N == PLAYED) | (performance.kind_N == WRONG)
    written, first = np.unique(performance.score_onset_N[as_written], return_index=True)
    played = performance.onset_s_N[as_written][first]
    between = played[:-2] + (played[2:] - played[:-2]) * np.diff(written)[:-1] / (written[2:] - written[:-2])
    return float(np.mean(np.minimum(np.abs(played[1:-1] - between), 0.2)))


def test_without_faults_and_expression_the_score_is_played_by_a_metronome() -> None:
    performance = play()
    pace = np.diff(performance.onset_s_N).sum() / np.diff(performance.score_onset_N).sum()
    assert performance.onset_s_N == pytest.approx(performance.score_onset_N * pace, abs=1e-6)
    assert pace == pytest.approx(0.6, rel=0.03)  # fitted to the length of the take
    assert (performance.kind_N == PLAYED).all()
    score = write_out(PIECES["ode"], 200)
    assert performance.pitch_N.tolist() == score.pitch_N[: len(performance.pitch_N)].tolist()
    assert np.ptp(performance.velocity_N) == pytest.approx(0.0)


def test_timing_deviation_grows_as_skill_falls() -> None:
    skills = np.linspace(0.0, 1.0, 40)
    names = [name for name in PIECES if name != "gymnopedie"]
    deviations, errors, durations = [], [], []
    for number, skill in enumerate(skills):
        piece = PIECES[names[number * 7 % len(names)]]
        performance = perform(
            piece,
            tempo_bpm=piece.tempo_bpm,
            duration_s=110.0,
            faults=faults_of(float(skill), draw_habits(number)),
            expression=expression_of(float(skill), number),
            seed=number,
        )
        deviations.append(timing_deviation(performance))
        errors.append(float(np.mean(performance.kind_N != PLAYED)))
        durations.append(performance.onset_s_N.max())
    assert spearmanr(skills, deviations).statistic < -0.8
    assert spearmanr(skills, errors).statistic < -0.8
    assert abs(spearmanr(skills, durations).statistic) < 0.6  # all end on the last bar before the same line


def test_every_fault_falls_with_skill() -> None:
    worse, better = faults_of(0.2, NO_HABITS), faults_of(0.8, NO_HABITS)
    assert all(getattr(worse, name) > getattr(better, name) > 0.0 for name in FAULTS)
    assert set(GLOBAL_FAULTS) < set(FAULTS)


def test_equally_skilled_performers_differ_in_their_faults() -> None:
    one, other = faults_of(0.5, draw_habits(1)), faults_of(0.5, draw_habits(2))
    ratios = [getattr(one, name) / getattr(other, name) for name in FAULTS]
    assert min(ratios) < 0.7
    assert max(ratios) > 1.4


def test_an_expressive_player_slows_at_the_ends_of_phrases() -> None:
    expression = expression_of(1.0, 3)
    performance = play("prelude", expression=expression, timing_noise_s=0.01)
    onsets, first = np.unique(performance.score_onset_N, return_index=True)
    pace = np.diff(performance.onset_s_N[first]) / np.diff(onsets)
    place = onsets[:-1] % 16.0 / 16.0
    assert np.std(np.log(pace)) > 0.05
    arch = (2 * place - 1) ** 2
    assert spearmanr(pace, arch).statistic > 0.4
    assert pace[place > 0.9].mean() > 1.05 * pace[np.abs(place - 0.5) < 0.2].mean()


def test_an_expressive_player_brings_out_the_melody() -> None:
    performance = play(expression=expression_of(1.0, 3), uneven_touch=3.0)
    plain = play(expression=expression_of(0.0, 3), uneven_touch=3.0)

    def voicing(of: Performance) -> float:
        return float(of.velocity_N[of.voice_N == MELODY].mean() - of.velocity_N[of.voice_N == LEFT].mean())

    assert voicing(performance) > voicing(plain) + 4.0
    assert performance.velocity_N.mean() == pytest.approx(plain.velocity_N.mean(), abs=1.0)


@pytest.mark.parametrize(
    ("fault", "amount", "kind"),
    [("wrong_notes", 0.1, WRONG), ("added_notes", 0.1, ADDED), ("repeated_notes", 0.1, AGAIN)],
)
def test_note_faults_come_alone_and_as_often_as_asked(fault: str, amount: float, kind: int) -> None:
    performance = play(**{fault: amount})
    share = float(np.mean(performance.kind_N == kind))
    assert 0.3 * amount < share < 2.0 * amount
    assert set(performance.kind_N.tolist()) == {PLAYED, kind}


def test_missed_notes_are_missing() -> None:
    assert 0.8 < len(play(missed_notes=0.1).pitch_N) / len(play().pitch_N) < 0.96


def test_pauses_and_restarts_cost_bars_not_length() -> None:
    steady = play()
    for faults in (
        {"hesitations_per_min": 6.0, "hesitation_s": 1.0},
        {"restarts_per_min": 2.0, "hesitation_s": 0.5},
        {"memory_slips_per_min": 1.5, "slip_pause_s": 3.0},
    ):
        performance = play(**faults)
        assert performance.score_onset_N.max() < steady.score_onset_N.max()
        assert performance.duration_s == steady.duration_s
        assert np.diff(performance.onset_s_N).max() < 12.0


def test_tempo_slide_changes_the_tempo_of_the_end_against_the_start() -> None:
    performance = play(tempo_slide=0.4)
    third = performance.duration_s / 3

    def pace(low: float, high: float) -> float:
        within = (performance.onset_s_N >= low) & (performance.onset_s_N < high)
        return float(np.ptp(performance.onset_s_N[within]) / np.ptp(performance.score_onset_N[within]))

    assert abs(np.log(pace(2 * third, 3 * third) / pace(0, third))) > 0.2
    assert timing_deviation(performance) < 0.005  # and from one beat to the next nothing is heard of it


def test_blurred_pedal_lifts_less_often() -> None:
    assert len(play(pedal_blur=0.6).pedal_P2) < 0.6 * len(play().pedal_P2)
    assert len(play(pedal_blur=5.0).pedal_P2) == 1
    assert not len(play("minuet").pedal_P2)  # a piece without pedal


def test_a_larger_fault_enlarges_the_same_slips() -> None:
    small, large = play(timing_noise_s=0.01), play(timing_noise_s=0.02)
    none = play()
    assert spearmanr(small.onset_s_N - none.onset_s_N, large.onset_s_N - none.onset_s_N).statistic > 0.8


@settings(max_examples=40, deadline=None)
@given(
    piece=st.sampled_from(sorted(PIECES)),
    skill=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31 - 1),
    duration_s=st.floats(10.0, 150.0),
)
def test_any_performance_can_be_played_on_a_piano(piece: str, skill: float, seed: int, duration_s: float) -> None:
    music = PIECES[piece]
    chosen = {
        "tempo_bpm": music.tempo_bpm,
        "duration_s": duration_s,
        "faults": faults_of(skill, draw_habits(seed)),
        "expression": expression_of(skill, seed),
        "seed": seed,
    }
    performance = perform(music, **chosen)
    again = perform(music, **chosen)
    for field in dataclasses.fields(performance):
        assert np.array_equal(getattr(performance, field.name), getattr(again, field.name))
    assert (np.diff(performance.onset_s_N) >= 0).all()
    assert performance.onset_s_N.min() >= 0.0
    assert performance.onset_s_N.max() <= duration_s
    assert ((performance.duration_s_N > 0) & np.isfinite(performance.duration_s_N)).all()
    assert ((performance.pitch_N >= 21) & (performance.pitch_N <= 108)).all()
    assert ((performance.velocity_N > 0) & (performance.velocity_N < 128)).all()
    if len(performance.pedal_P2):
        assert (performance.pedal_P2[:, 1] > performance.pedal_P2[:, 0]).all()
        assert (performance.pedal_P2[1:, 0] >= performance.pedal_P2[:-1, 1]).all()
