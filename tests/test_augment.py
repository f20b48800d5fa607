import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.augment import CHANGES, SNR_DB, augment
from samplecnn.recipe import AUGMENTATIONS, FitSettings
from samplecnn.segments import level_dbfs

each_change = pytest.mark.parametrize("name", CHANGES)
keys = st.integers(0, 2**63 - 1)


def playing(rows: int, samples: int, rate: int, seed: int = 0) -> torch.Tensor:
    """Decaying tones at a few onsets, unit RMS."""
    rng = np.random.default_rng(seed)
    wave_BT = np.zeros((rows, samples))
    for row_T in wave_BT:
        for onset in rng.integers(0, samples, 6):
            t = np.arange(samples - onset) / rate
            row_T[onset:] += np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * rate * t) * np.exp(-8 * t)
    return torch.from_numpy((wave_BT / np.sqrt((wave_BT**2).mean(1, keepdims=True))).astype(np.float32))


def of(name, wave_BT, keys=None, rate=500):
    keys = torch.arange(len(wave_BT)) if keys is None else torch.tensor(keys)
    return augment(wave_BT, keys, rate, {name})


def test_every_change_can_be_named_and_none_else():
    assert set(CHANGES) == set(AUGMENTATIONS)


@each_change
@settings(deadline=None, max_examples=15)
@given(key=keys, samples=st.integers(64, 3000), rate=st.sampled_from([100, 500, 8000]))
def test_a_segment_keeps_its_length_and_stays_finite(name, key, samples, rate):
    changed_BT = of(name, playing(1, samples, rate, seed=key % 1000), [key], rate)
    assert changed_BT.shape == (1, samples)
    assert changed_BT.dtype == torch.float32
    assert torch.isfinite(changed_BT).all()


@each_change
def test_digital_silence_stays_digital_silence(name):
    assert torch.equal(of(name, torch.zeros(3, 500)), torch.zeros(3, 500))


@each_change
def test_no_onset_moves(name):
    wave_BT = playing(20, 5000, 500)
    for before_T, after_T in zip(wave_BT.numpy(), of(name, wave_BT).numpy(), strict=True):
        lags = np.abs(np.correlate(after_T, before_T, "full"))
        assert lags.argmax() == len(before_T) - 1


@each_change
def test_loud_stays_loud_and_soft_stays_soft(name):
    wave_BT = playing(20, 5000, 500)
    wave_BT[:, 2500:] = 0.3 * wave_BT[:, :2500]  # the same again, softer by 10.5 dB
    for row_T in of(name, wave_BT).numpy():
        halves = [level_dbfs((half**2).mean()) for half in (row_T[:2500], row_T[2500:])]
        assert halves[0] - halves[1] == pytest.approx(10.5, abs=1)


@each_change
def test_a_change_does_something_and_differs_from_key_to_key(name):
    wave_BT = playing(1, 1000, 500).expand(16, -1)
    changed_BT = of(name, wave_BT)
    assert (changed_BT != wave_BT).any()
    assert len({row_T.numpy().tobytes() for row_T in changed_BT}) == (2 if name == "polarity" else 16)


def test_the_same_key_gives_the_same_segment_alone_or_in_company():
    wave_BT = playing(8, 1000, 500)
    together_BT = augment(wave_BT, torch.arange(8), 500, AUGMENTATIONS)
    alone_BT = torch.cat([augment(wave_BT[n : n + 1], torch.tensor([n]), 500, AUGMENTATIONS) for n in range(8)])
    torch.testing.assert_close(alone_BT, together_BT, rtol=0, atol=1e-5)


@each_change
def test_a_change_draws_the_same_whatever_else_is_on(name):
    wave_BT = playing(4, 1000, 500)
    others = list(list(CHANGES)[list(CHANGES).index(name) + 1 :])
    changed_BT = of(name, wave_BT)
    assert torch.equal(
        augment(wave_BT, torch.arange(4), 500, [name, *others]), augment(changed_BT, torch.arange(4), 500, others)
    )


def test_noise_lies_where_it_should():
    wave_BT = playing(50, 5000, 500)
    noise_BT = of("noise", wave_BT) - wave_BT
    snr_B = 10 * torch.log10(wave_BT.square().sum(1) / noise_BT.square().sum(1))
    assert SNR_DB[0] - 0.1 < snr_B.min() < snr_B.max() < SNR_DB[1] + 0.1
    assert snr_B.max() - snr_B.min() > 15


def test_without_augmentation_nothing_changes():
    wave_BT = playing(2, 500, 500)
    assert augment(wave_BT, torch.arange(2), 500, FitSettings(augment="none").augmentations) is wave_BT


def test_a_worker_without_a_segment_in_this_batch_has_nothing_to_change():
    assert augment(torch.zeros(0, 500), torch.zeros(0, dtype=torch.int64), 500, AUGMENTATIONS).shape == (0, 500)
