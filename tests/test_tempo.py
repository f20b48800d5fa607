import math

import numpy as np
import pytest
import torch

from samplecnn.course import TEMPO
from samplecnn.rhythm import Rhythm
from samplecnn.tempo import HOP_S, WINDOW_S, TempoContext, describe, moves

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 500
SPREAD, RANGE, SLOPE, STEP, DISTANCE = range(len(TEMPO))


def _played(period_of, seconds: float = 100.0) -> torch.Tensor:
    """The windows of a recording of strokes, period_of(share of its length) seconds apart; [W, T]."""
    wave_T = 0.01 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    time_s = 0.1
    while time_s < seconds - 0.2:
        t = np.arange(round(0.1 * RATE)) / RATE
        start = round(time_s * RATE)
        wave_T[start : start + len(t)] += np.cos(2 * np.pi * 70 * t) * np.exp(-t / 0.02)
        time_s += period_of(time_s / seconds)
    whole_T = torch.from_numpy((wave_T / np.sqrt((wave_T**2).mean())).astype(np.float32))
    return whole_T.unfold(0, round(WINDOW_S * RATE), round(HOP_S * RATE)).contiguous()


def _heard(window_WT: torch.Tensor) -> list[float]:
    with torch.no_grad():
        return TempoContext()(window_WT, Rhythm(RATE)).tolist()


def test_of_steady_playing_nothing_moves():
    assert max(map(abs, _heard(_played(lambda share: 0.5)))) < 0.02


@pytest.mark.parametrize("slid", [-0.25, 0.25])
def test_a_tempo_that_slides_has_a_slope_of_what_it_slid_by_whichever_way(slid):
    found = _heard(_played(lambda share: 0.5 * math.exp(slid * share)))
    # From the middle of the first window to the middle of the last it is 0.8 of the recording.
    assert found[SLOPE] == pytest.approx(0.8 * abs(slid), abs=0.04)
    assert found[RANGE] == pytest.approx(0.8 * abs(slid), abs=0.06)


def test_a_tempo_that_jumps_has_a_step():
    found = _heard(_played(lambda share: 0.5 if share < 0.5 else 0.5 * math.exp(0.2)))
    assert found[STEP] == pytest.approx(0.2, abs=0.05)
    assert found[DISTANCE] > 0.05
    assert found[STEP] > 4 * _heard(_played(lambda share: 0.5))[STEP]


def test_what_comes_first_does_not_count():
    window_WT = _played(lambda share: 0.5 * math.exp(0.25 * share**2))
    assert _heard(window_WT.flip(0)) == pytest.approx(_heard(window_WT), abs=1e-4)
    assert min(_heard(window_WT)) > 0.01


@pytest.mark.parametrize(
    "window_WT",
    [_played(lambda share: 0.5, seconds=20.0), torch.zeros(5, 10000), torch.zeros(1, 10000), torch.ones(3, 10000)],
    ids=["one window", "silence", "one window of silence", "a constant"],
)
def test_where_no_tempo_can_move_all_is_zero_and_gradients_are_numbers(window_WT):
    context, rhythm = TempoContext(), Rhythm(RATE)
    window_WT = window_WT.clone().requires_grad_()
    found = context(window_WT, rhythm)
    assert found.tolist() == pytest.approx([0.0] * len(TEMPO), abs=1e-4)
    found.sum().backward()
    for tensor in (window_WT, rhythm.filters, context.log_sharpness):
        assert torch.isfinite(tensor.grad).all()


def test_gradients_reach_the_filters_and_the_sharpness():
    context, rhythm = TempoContext(), Rhythm(RATE)
    context(_played(lambda share: 0.5 * math.exp(0.25 * share)), rhythm)[SLOPE].backward()
    assert rhythm.filters.grad.abs().sum() > 0
    assert context.log_sharpness.grad.abs() > 0


def test_a_curve_that_lies_some_lags_further_on_moves_by_as_many():
    at_L = torch.arange(128.0)
    profile_WL = torch.stack([torch.exp(-(((at_L - 60 - 5 * w) / 2) ** 2)) for w in range(3)])
    move_WW = moves(profile_WL, torch.tensor(200.0))
    step = math.log(20) / 127
    expected_WW = 5 * step * (torch.arange(3.0)[:, None] - torch.arange(3.0)[None, :])
    torch.testing.assert_close(move_WW, expected_WW, atol=1e-3, rtol=0)
    assert torch.equal(move_WW, -move_WW.T)


def test_the_features_of_known_tempi():
    tempo_W = torch.tensor([0.0, 0.0, 0.3, 0.3])
    found = describe(tempo_W[:, None] - tempo_W[None, :])
    assert found.tolist() == pytest.approx([0.15, 0.3, 0.36, 0.3, 0.2], abs=2e-3)
