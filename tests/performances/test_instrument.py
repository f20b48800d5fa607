"""A performance becomes sound: at the right pitch, time, level and length, in any room, at any sample rate."""

from dataclasses import replace

import numpy as np
import pytest
import soxr

from samplecnn.performances.instrument import INSTRUMENTS, ROOMS, Noise, Sound, render, vary
from samplecnn.performances.pieces import PIECES
from samplecnn.performances.player import Expression, Faults, Performance, perform

SILENT = Noise(hiss_dbfs=-160.0, hum_dbfs=-160.0, rumble_dbfs=-160.0)


def one_note(pitch: int, velocity: float = 64.0, duration_s: float = 1.0, onset_s: float = 0.0) -> Performance:
    one = np.ones(1)
    return Performance(
        onset_s_N=onset_s * one,
        duration_s_N=duration_s * one,
        pitch_N=np.array([pitch]),
        velocity_N=velocity * one,
        voice_N=np.array([0]),
        score_onset_N=0.0 * one,
        kind_N=np.array([0]),
        pedal_P2=np.zeros((0, 2)),
        duration_s=onset_s + duration_s + 1.0,
        meant_velocity_N=velocity * one,
        step_N=np.array([0]),
        due_s_K=onset_s * one,
        pace_K=one,
        pause_s_K=0.0 * one,
        reached_K=np.array([0]),
        missed=0,
    )


def music(duration_s: float = 12.0) -> Performance:
    return perform(
        PIECES["ode"], tempo_bpm=100, duration_s=duration_s, faults=Faults(), expression=Expression(), seed=1
    )


@pytest.mark.parametrize("sample_rate", [500, 2000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_recording_has_its_length_and_level_at_any_rate(sample_rate: int, channels: int) -> None:
    sound = Sound(level_dbfs=-26.0, lead_s=0.4, tail_s=1.1, noise=SILENT)
    samples = render(music(), sound, sample_rate=sample_rate, channels=channels, seed=1)
    assert samples.dtype == np.float32
    assert samples.shape == (channels, round(13.5 * sample_rate))
    assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-26.0, abs=0.05)
    assert np.abs(samples).max() < 1.0
    before = samples[:, : int(0.38 * sample_rate)]
    assert np.sqrt(np.mean(before**2)) < 1e-4


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_note_sounds_at_its_pitch_with_the_recording_tuning(name: str) -> None:
    quiet_room = replace(ROOMS["studio"], wet=1e-6)
    instrument = replace(INSTRUMENTS[name], knock=0.0, stiffness=0.0, beating_hz=0.0)
    sound = Sound(instrument=instrument, room=quiet_room, noise=SILENT, tuning_cents=30.0)
    samples = render(one_note(57, duration_s=4.0), sound, sample_rate=8000, channels=1, seed=1)[0]
    padded = np.zeros(2**19)
    padded[: len(samples)] = samples * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(padded))
    hz = np.fft.rfftfreq(len(padded), 1 / 8000)
    near = (hz > 190) & (hz < 260)
    found = hz[near][spectrum[near].argmax()]
    assert 1200 * np.log2(found / 220.0) == pytest.approx(30.0, abs=2.0)


def test_harder_is_brighter_and_a_released_note_is_damped() -> None:
    sound = Sound(noise=SILENT, room=replace(ROOMS["studio"], wet=1e-6))

    def centroid(velocity: float) -> float:
        samples = render(one_note(60, velocity), sound, sample_rate=44100, channels=1, seed=1)[0]
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float((power * np.fft.rfftfreq(len(samples), 1 / 44100)).sum() / power.sum())

    assert centroid(110.0) > centroid(64.0) > centroid(25.0)
    samples = render(one_note(60), sound, sample_rate=8000, channels=1, seed=1)[0]
    start = round(sound.lead_s * 8000)
    sounding, damped = samples[start + 4000 : start + 7000], samples[start + 12000 : start + 14000]
    assert np.sqrt(np.mean(damped**2)) < 0.02 * np.sqrt(np.mean(sounding**2))


def test_pedal_lets_a_note_ring_on() -> None:
    sound = Sound(noise=SILENT, room=replace(ROOMS["studio"], wet=1e-6))
    dry = one_note(60, duration_s=0.3)
    held = replace(dry, pedal_P2=np.array([[0.1, 1.2]]))

    def late_share(performance: Performance) -> float:
        samples = render(performance, sound, sample_rate=8000, channels=1, seed=1)[0]
        return float(np.sum(samples[round((sound.lead_s + 0.9) * 8000) :] ** 2) / np.sum(samples**2))

    assert late_share(held) > 100 * late_share(dry)


def test_the_left_hand_is_heard_below_250_hz() -> None:
    performance = music()
    samples = render(performance, Sound(noise=SILENT), sample_rate=44100, channels=1, seed=1)[0]
    low = soxr.resample(samples, 44100, 500)
    onsets = np.unique(performance.onset_s_N[performance.pitch_N <= 59]) + Sound().lead_s
    rises = []
    for onset in onsets[onsets < 11.5]:
        before = low[round((onset - 0.05) * 500) : round((onset - 0.005) * 500)]
        after = low[round((onset + 0.005) * 500) : round((onset + 0.06) * 500)]
        rises.append(np.sqrt(np.mean(after**2)) > 1.1 * np.sqrt(np.mean(before**2)))
    assert len(rises) >= 6
    assert np.mean(rises) > 0.9


def test_noise_is_at_its_level_before_the_music() -> None:
    noise = Noise(hiss_dbfs=-50.0, hum_dbfs=-120.0, rumble_dbfs=-120.0)
    samples = render(music(), Sound(noise=noise, lead_s=1.0), sample_rate=44100, channels=2, seed=1)
    before = samples[:, : int(0.95 * 44100)]
    assert 20 * np.log10(np.sqrt(np.mean(before**2))) == pytest.approx(-50.0, abs=0.3)


def test_a_peak_never_passes_full_scale() -> None:
    samples = render(music(), Sound(level_dbfs=-3.0), sample_rate=8000, channels=2, seed=1)
    assert np.abs(samples).max() <= 0.99


def test_rooms_and_varied_instruments_sound_different() -> None:
    rendered = [
        render(music(), Sound(room=room, noise=SILENT), sample_rate=2000, channels=1, seed=1) for room in ROOMS.values()
    ]
    rng = np.random.default_rng(1)
    rendered += [
        render(music(), Sound(instrument=vary(INSTRUMENTS["grand"], rng)), sample_rate=2000, channels=1, seed=1)
        for _ in range(2)
    ]
    assert len({samples.tobytes() for samples in rendered}) == len(rendered)
    assert all(np.isfinite(samples).all() for samples in rendered)
