import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.architecture import plan_for
from samplecnn.fit import fit
from samplecnn.network.joined import RHYTHM_STREAM, RhythmNetwork, Rhythms, build
from samplecnn.recipe import FitSettings
from samplecnn.rhythm import (
    EPSILON,
    LAGS,
    LONGEST_LAG_S,
    SHORTEST_LAG_S,
    Rhythm,
    autocorrelation,
    lag_seconds,
    windowed_cosines,
)
from samplecnn.segments import SegmentSettings
from tests.fixtures.shards import recording_set

pytestmark = pytest.mark.usefixtures("one_thread")

RATES = (100, 500, 2000)


@functools.cache
def _rhythm(rate: int) -> Rhythm:
    torch.manual_seed(0)
    return Rhythm(rate)


def _clicks(rate: int, seconds: float, times_s, seed: int = 0) -> torch.Tensor:
    """Decaying strokes of one tone at these times, over a little noise, unit RMS; [1, T]."""
    wave_T = 0.02 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    for time_s in times_s:
        start = round(time_s * rate)
        length = min(round(0.1 * rate), len(wave_T) - start)
        t = np.arange(length) / rate
        wave_T[start : start + length] += np.cos(2 * np.pi * 70 * t) * np.exp(-t / 0.02)
    return torch.from_numpy((wave_T / np.sqrt((wave_T**2).mean())).astype(np.float32))[None]


def _require_finite(wave_BT: torch.Tensor, rate: int, training: bool) -> None:
    """Values, and gradients of everything that learns and of the waveform."""
    rhythm = _rhythm(rate).train(training)
    wave_BT = wave_BT.requires_grad_()
    rhythm.zero_grad()
    embedding_BE = rhythm(wave_BT)
    assert embedding_BE.shape == (len(wave_BT), Rhythm.EMBEDDING)
    assert torch.isfinite(embedding_BE).all()
    embedding_BE.square().sum().backward()
    assert torch.isfinite(wave_BT.grad).all()
    for name, parameter in rhythm.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


EXTREMES = {
    "digital silence": lambda samples: torch.zeros(samples),
    "a constant": lambda samples: torch.full((samples,), 3.0),
    "one click": lambda samples: torch.nn.functional.one_hot(torch.tensor(samples // 2), samples).float() * 50,
    "one valid sample": lambda samples: torch.nn.functional.one_hot(torch.tensor(0), samples).float(),
    "two valid samples": lambda samples: torch.cat([torch.ones(min(2, samples)), torch.zeros(max(0, samples - 2))]),
    "noise": lambda samples: torch.randn(samples, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("extreme", EXTREMES)
@settings(max_examples=12, deadline=None)
@given(rate=st.sampled_from(RATES), samples=st.one_of(st.integers(1, 40), st.integers(41, 4000)))
def test_whatever_is_heard_values_and_gradients_are_numbers(extreme, training, rate, samples):
    wave_T = EXTREMES[extreme](samples)
    # Not alone in the batch either: BatchNorm hears them together.
    _require_finite(torch.stack([wave_T, torch.zeros(samples)]), rate, training)


@settings(max_examples=12, deadline=None)
@given(rate=st.integers(100, 44100), seconds=st.floats(0.0001, 1.5))
def test_any_rate_and_any_length_can_be_heard(rate, seconds):
    rhythm = Rhythm(rate).eval()
    wave_BT = torch.randn(2, max(1, round(seconds * rate)), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rises_BNF, embedding_BE = rhythm.rises(wave_BT), rhythm(wave_BT)
    assert rises_BNF.shape == (2, 1 + len(rhythm.filters) // 2, -(-wave_BT.shape[1] // rhythm.hop))
    assert torch.isfinite(embedding_BE).all()


@given(rate=st.integers(100, 44100))
@settings(max_examples=30, deadline=None)
def test_filters_are_cosines_and_sines_below_half_the_rate(rate):
    filters_NK = windowed_cosines(rate).astype(np.float64)
    assert len(filters_NK) % 2 == 0
    assert filters_NK.shape[1] % 2 == 1
    np.testing.assert_allclose(filters_NK[0::2], filters_NK[0::2, ::-1], atol=1e-6)
    np.testing.assert_allclose(filters_NK[1::2], -filters_NK[1::2, ::-1], atol=1e-6)
    assert (np.abs(filters_NK).max(axis=1) > 0).all()


def _slow_autocorrelation(x_F: np.ndarray, frame_s: float) -> list[float]:
    x_F = x_F - x_F.mean()
    frames = len(x_F)

    def at(lag: int) -> float:
        return sum(x_F[f] * x_F[f + lag] for f in range(frames - lag))

    found = []
    for n in range(LAGS):
        seconds = SHORTEST_LAG_S * (LONGEST_LAG_S / SHORTEST_LAG_S) ** (n / (LAGS - 1))
        position = min(seconds / frame_s, frames - 1)
        below = int(position)
        share = position - below
        between = at(below) if share == 0 else (1 - share) * at(below) + share * at(below + 1)
        found.append(between / (at(0) + EPSILON * frames))
    return found


@settings(max_examples=15, deadline=None)
@given(
    frames=st.one_of(st.integers(1, 20), st.integers(21, 150)), frame_s=st.floats(0.01, 0.06), seed=st.integers(0, 99)
)
def test_the_autocorrelation_is_that_of_a_plain_loop(frames, frame_s, seed):
    x_BCF = np.random.default_rng(seed).standard_normal((2, 2, frames)) + 5.0
    fast_BCL = autocorrelation(torch.from_numpy(x_BCF), frame_s).numpy()
    for b, c in np.ndindex(2, 2):
        np.testing.assert_allclose(fast_BCL[b, c], _slow_autocorrelation(x_BCF[b, c], frame_s), atol=1e-5)


@pytest.mark.parametrize("rate", [500, 2000])
def test_pulses_every_half_second_are_most_alike_after_half_a_second_and_a_multiple(rate):
    rhythm = Rhythm(rate)
    with torch.no_grad():
        envelope_11F = rhythm.rises(_clicks(rate, 12.0, np.arange(0.3, 11.8, 0.5)))[:, :1]
        alike_L = autocorrelation(envelope_11F, rhythm.frame_s)[0, 0].numpy()
    lag_L = lag_seconds()
    beats_L = lag_L / 0.5
    near_L = np.abs(beats_L - beats_L.round()) < 0.05
    assert beats_L[alike_L.argmax()] == pytest.approx(1, abs=0.03)
    assert alike_L[near_L & (beats_L.round() == 2)].max() > alike_L[~near_L].max() + 0.1


def test_gain_hardly_changes_what_is_heard():
    rhythm = Rhythm(500).eval()
    rng = np.random.default_rng(1)
    wave_1T = _clicks(500, 6.0, np.sort(rng.uniform(0.2, 5.5, 12)))
    with torch.no_grad():
        heard_E = rhythm(wave_1T)[0]
        other_E = rhythm(_clicks(500, 6.0, np.arange(0.3, 5.7, 0.5)))[0]
        for gain in (0.5, 2.0):
            louder_E = rhythm(gain * wave_1T)[0]
            assert (louder_E - heard_E).norm() < 0.1 * (other_E - heard_E).norm()


# --- learning --------------------------------------------------------------------------------------------------------

PULSES = SegmentSettings(sample_rate=200, segment_s=5.0, hop_s=5.0)
QUICK = FitSettings(epochs=7, crops=4, batch_size=8, learning_rate=3e-3, patience=7, augment="none")


def _beaten(seconds: float, steady: bool, seed: int) -> np.ndarray:
    """Clicks, regular or not, of any tempo: as many either way."""
    rng = np.random.default_rng(seed)
    period_s = rng.uniform(0.35, 0.6)
    times_s = np.arange(0.2, seconds - 0.3, period_s)
    if not steady:
        times_s = times_s + rng.uniform(-0.35, 0.35, len(times_s)) * period_s
    return (0.1 * _clicks(PULSES.sample_rate, seconds, np.maximum(times_s, 0.0), seed)[0].numpy()).astype(np.float32)


@pytest.fixture(scope="module")
def beaten(tmp_path_factory):
    """Two sets of recordings, 0 irregular and 1 regular: to learn from, and to be held out."""
    sets = []
    for first, count in ((0, 16), (100, 10)):
        grades = [n % 2 for n in range(count)]
        waves = {f"{first + n}.wav": _beaten(15.0, grade == 1, first + n) for n, grade in enumerate(grades)}
        sets.append(recording_set(tmp_path_factory.mktemp("beaten"), waves, grades, PULSES))
    return sets


def _network() -> RhythmNetwork:
    return RhythmNetwork(PULSES.segment_samples, PULSES.sample_rate, 2, seed=0)


def test_a_rhythm_network_learns_to_tell_regular_clicks_from_irregular_ones(beaten):
    learn, held = beaten
    reports = list(fit(_network(), learn, held, QUICK, seed=0, device=torch.device("cpu")))
    assert reports[-1].train_loss < 0.4
    assert max(report.valid_accuracy for report in reports) >= 0.9


def test_each_of_several_branches_learns_as_if_it_were_alone(beaten):
    learn, _ = beaten
    several = build("rhythms", plan_for(PULSES.segment_samples), PULSES.sample_rate, 2, seed=0)
    assert isinstance(several, Rhythms)
    alone = RhythmNetwork(PULSES.segment_samples, PULSES.sample_rate, 2, stream=RHYTHM_STREAM + 3)
    alone.load_state_dict(several.branches[3].state_dict())
    short = FitSettings(epochs=2, crops=4, init="none")
    for network in (several, alone):
        list(fit(network, learn, None, short, seed=0, device=torch.device("cpu")))
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(several.branches[3].state_dict()[name], weight, msg=name)


def test_several_branches_say_their_mean_and_no_two_are_alike():
    several = build("rhythms", plan_for(PULSES.segment_samples), PULSES.sample_rate, 2, seed=0).eval()
    waveform_BT = torch.randn(3, PULSES.segment_samples, generator=torch.Generator().manual_seed(0))
    by_each_MBO = torch.stack([branch(waveform_BT) for branch in several.branches])
    torch.testing.assert_close(several(waveform_BT), by_each_MBO.mean(dim=0))
    assert by_each_MBO.std(dim=0).min() > 1e-3
    assert several.embed(waveform_BT).shape == (3, several.embedding)
