import numpy as np
import pytest

from samplecnn import sound
from samplecnn.sound import MEASURES, measures_of
from tests.fixtures.jobs import RATE, played

WHOLE_F = np.ones(10_000, np.bool_)


def steady(hertz: float, seconds: float = 20.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def named(wave_T: np.ndarray, active_F: np.ndarray = WHOLE_F) -> dict[str, float]:
    found = measures_of(wave_T, active_F[: -(-len(wave_T) * 20 // RATE)], RATE)
    assert found is not None
    return dict(zip(MEASURES, found.tolist(), strict=True))


def test_what_tells_playing_from_tones_noise_and_glides_is_measured() -> None:
    rng = np.random.default_rng(0)
    playing = named(played(0, 2, 20.0)[0])
    noise = named(rng.normal(size=20 * RATE).astype(np.float32))
    tone = named(steady(147.0))
    glide = named(np.sin(np.cumsum(0.08 + 0.05 * np.sin(np.arange(20 * RATE) / 3000))).astype(np.float32))
    assert noise["flatness"] > playing["flatness"] + 2
    assert noise["tuned"] < 0.2 < 0.9 < playing["tuned"]
    assert glide["glide"] > 0.8 > 0.2 > playing["glide"]
    assert glide["held"] < playing["held"] < tone["held"] == 1
    assert tone["level spread"] < 0 < playing["level spread"]
    assert tone["change"] < 0.001 < playing["change"] < noise["change"]
    assert tone["onsets"] == pytest.approx(np.log(0.1))
    assert playing["onsets"] > 0
    assert playing["falling"] > noise["falling"]


def test_neither_level_nor_silence_around_changes_them_nor_how_many_spectra_are_held_at_once(monkeypatch) -> None:
    wave_T = played(1, 1, 20.0)[0]
    once = named(wave_T)
    assert named(wave_T * np.float32(0.01)) == pytest.approx(once, rel=1e-3)
    silence_T = np.zeros(2 * RATE, np.float32)
    active_F = np.repeat([False, True, False], [40, 400, 40])
    assert named(np.concatenate([silence_T, wave_T, silence_T]), active_F) == pytest.approx(once, rel=1e-9)
    monkeypatch.setattr(sound, "BLOCK", 7)  # fewer than lie a second apart
    assert named(wave_T) == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("rate", [100, 500, 16_000])
def test_at_any_rate_and_of_any_sound_they_are_numbers_or_nothing(rate: int) -> None:
    rng = np.random.default_rng(0)
    for seconds in (0.01, 0.5, 1.0, 3.0, 20.0):
        total = max(1, round(seconds * rate))
        click_T = np.zeros(total, np.float32)
        click_T[total // 2] = 1
        for wave_T in (np.zeros(total, np.float32), np.ones(total, np.float32), rng.normal(size=total), click_T):
            found = measures_of(wave_T.astype(np.float32), np.ones(-(-total * 20 // rate), np.bool_), rate)
            assert found is None or (found.shape == (len(MEASURES),) and np.isfinite(found).all())
    assert measures_of(np.ones(20 * rate, np.float32), np.zeros(400, np.bool_), rate) is None
