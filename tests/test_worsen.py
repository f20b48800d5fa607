import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.worsen import samples_ahead, two_copies

RATE, SAMPLES = 500, 5000


def _plucked(seed: int = 0, every_s: float = 0.4, seconds: float = 20.0) -> np.ndarray:
    """Notes that begin at even times and die away, each of its own pitch."""
    rng = np.random.default_rng(seed)
    wave_T = 0.003 * rng.standard_normal(round(seconds * RATE))
    for start_s in np.arange(0.2, seconds - 1, every_s):
        t = np.arange(round(0.6 * RATE)) / RATE
        at = round(start_s * RATE)
        wave_T[at : at + len(t)] += np.sin(2 * np.pi * rng.uniform(60, 200) * t) * np.exp(-6 * t)
    return (wave_T / wave_T.std()).astype(np.float32)


def _intervals(wave_T: np.ndarray) -> np.ndarray:
    """Seconds from one loud beginning to the next."""
    level_F = np.log(np.square(wave_T[: len(wave_T) // 5 * 5].reshape(-1, 5)).mean(1) + 1e-2)
    rise_F = level_F[2:] - level_F[:-2]
    found = [f for f in range(5, len(rise_F) - 5) if rise_F[f] > 1.5 and rise_F[f] == rise_F[f - 5 : f + 6].max()]
    return np.diff(found) * 5 / RATE


def test_one_copy_is_as_even_as_the_playing_and_the_other_is_not():
    spreads = []
    for key in range(12):
        even, less_even = (_intervals(copy_T) for copy_T in two_copies(_plucked(key), key, RATE, SAMPLES))
        spreads.append((even.std() / even.mean(), less_even.std() / less_even.mean()))
    even, less_even = np.median(spreads, axis=0)
    assert even < 0.12
    assert less_even > 2 * even


def test_a_copy_keeps_its_tempo_its_level_and_its_attacks():
    for key in range(6):
        for copy_T in two_copies(_plucked(key), key, RATE, SAMPLES):
            assert copy_T.std() == pytest.approx(1, abs=0.35)
            assert 0.25 < np.median(_intervals(copy_T)) < 0.6
            assert np.abs(np.diff(copy_T)).max() < 1.2 * np.abs(np.diff(_plucked(key))).max()  # no click


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 9000),
    key=st.integers(0, 2**63 - 1),
    seed=st.integers(0, 50),
    rate=st.sampled_from([100, 500, 2000]),
)
def test_copies_of_anything_have_their_length_and_are_numbers(length, key, seed, rate):
    wave_T = np.random.default_rng(seed).standard_normal(length).astype(np.float32) * (seed % 3)
    for copy_T in two_copies(wave_T, key, rate, 1000):
        assert copy_T.shape == (1000,)
        assert copy_T.dtype == np.float32
        assert np.isfinite(copy_T).all()


def test_the_same_key_makes_the_same_copies_and_another_others():
    wave_T = _plucked()
    one, again, other = (two_copies(wave_T, key, RATE, SAMPLES) for key in (1, 1, 2))
    assert [copy_T.tobytes() for copy_T in one] == [copy_T.tobytes() for copy_T in again]
    assert one[0].tobytes() != other[0].tobytes()
    assert len(wave_T) >= samples_ahead(SAMPLES) > SAMPLES
