import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.contract import FRAMES_PER_S
from samplecnn.course import COURSE, LEVEL_S, LOUDNESS, PAUSES, loudness_and_pauses
from samplecnn.tempo import MOST_WINDOWS, course_of

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 500


def _played(seconds, level_of=lambda share: 1.0, period_of=lambda share: 0.5):
    """Strokes of this level and this far apart, both functions of the share of the recording's length."""
    wave_T = 1e-3 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    time_s = 0.0
    while time_s < seconds - 0.2:
        t = np.arange(round(0.1 * RATE)) / RATE
        start = round(time_s * RATE)
        wave_T[start : start + len(t)] += level_of(time_s / seconds) * np.cos(2 * np.pi * 70 * t) * np.exp(-t / 0.05)
        time_s += period_of(time_s / seconds)
    return wave_T.astype(np.float32)


def _told(wave_T, active_F=None, gain=1.0):
    if active_F is None:
        active_F = np.ones(len(wave_T) * FRAMES_PER_S // RATE, bool)
    return dict(zip(COURSE, course_of(wave_T, active_F, gain, RATE), strict=True))


def _with_pauses(seconds, pauses):
    """Frames of playing with pauses: (start, length) in seconds."""
    active_F = np.ones(round(seconds * FRAMES_PER_S), bool)
    for start, length in pauses:
        active_F[round(start * FRAMES_PER_S) : round((start + length) * FRAMES_PER_S)] = False
    return active_F


def test_even_playing_has_no_course():
    told = _told(_played(80))
    assert abs(told["level_slope"]) < 0.5
    assert told["level_range"] < 1
    assert abs(told["level_fade"]) < 0.5
    assert max(told[name] for name in COURSE if name.startswith("tempo")) < 0.03
    assert told["pauses"] == told["paused"] == told["longest_pause"] == 0


def test_a_level_that_falls_has_the_slope_of_what_it_falls_by():
    told = _told(_played(80, level_of=lambda share: 10 ** (-12 * share / 20)))
    assert told["level_slope"] == pytest.approx(-12, abs=0.5)


def test_dynamics_that_fade_are_heard_and_dynamics_that_grow_are_told_apart():
    def wavering(size_of):
        return _played(80, level_of=lambda share: 10 ** (size_of(share) * math.sin(2 * math.pi * 10 * share) / 20))

    fading, growing = (_told(wavering(size))["level_fade"] for size in (lambda x: 9 * (1 - x), lambda x: 9 * x))
    assert fading > 2
    assert growing < -2


def test_a_tempo_that_slides_has_a_slope():
    told = _told(_played(100, period_of=lambda share: 0.5 * math.exp(0.25 * share)))
    assert told["tempo_slope"] == pytest.approx(0.2, abs=0.04)


def test_pauses_are_counted_from_half_a_second_on_and_added_up():
    active_F = _with_pauses(60, [(10, 0.4), (20, 0.5), (30, 3.0)])
    told = _told(_played(60), active_F)
    assert told["pauses"] == pytest.approx(math.log1p(2))
    assert told["paused"] == pytest.approx(3.5 / 60)
    assert told["longest_pause"] == pytest.approx(math.log1p(3.0))


@settings(max_examples=20)
@given(before=st.floats(0, 30), after=st.floats(0, 30))
def test_silence_before_and_after_the_playing_changes_nothing(before, after):
    wave_T, active_F = _played(45, period_of=lambda share: 0.4 + 0.2 * share), _with_pauses(45, [(20, 2.0)])
    frame = RATE // FRAMES_PER_S
    first, last = (round(seconds * FRAMES_PER_S) for seconds in (before, after))
    longer_T = np.concatenate([np.zeros(first * frame, np.float32), wave_T, np.zeros(last * frame, np.float32)])
    longer_F = np.concatenate([np.zeros(first, bool), active_F, np.zeros(last, bool)])
    assert _told(longer_T, longer_F) == _told(wave_T, active_F)


@pytest.mark.parametrize("seconds", [0.002, 1.0, 4.0, 11.9, 19.0, 21.0])
def test_however_short_a_recording_its_course_is_finite(seconds):
    wave_T = _played(30)[: max(1, round(seconds * RATE))]
    active_F = np.ones(max(1, len(wave_T) * FRAMES_PER_S // RATE), bool)
    assert np.isfinite(course_of(wave_T, active_F, 1.0, RATE)).all()


def test_of_what_is_too_short_for_thirds_the_loudness_says_nothing():
    wave_T = _played(3 * 2 * LEVEL_S - 0.1)
    assert loudness_and_pauses(wave_T, np.ones(400, bool)[: len(wave_T) // 25], 1.0, RATE) == [0.0] * (
        len(LOUDNESS) + len(PAUSES)
    )


def test_silence_has_no_course():
    told = course_of(np.zeros(60 * RATE, np.float32), np.zeros(60 * FRAMES_PER_S, bool), 0.0, RATE)
    np.testing.assert_allclose(told, 0.0, atol=1e-9)


def test_hours_are_heard_in_as_many_windows_as_minutes():
    hours = 2
    wave_T = np.tile(_played(100), 36 * hours)
    told = _told(wave_T)
    assert len(wave_T) / RATE > 10 * MOST_WINDOWS
    assert told["tempo_slope"] < 0.05
