import numpy as np

from samplecnn.baselines import logistic
from samplecnn.baselines.onsets import onset_features
from samplecnn.segments import SegmentSettings
from tests.fixtures.shards import recording_set

RATE = 500
SETTINGS = SegmentSettings(sample_rate=RATE, segment_s=5.0, hop_s=5.0)


def _beaten(steady: bool, seed: int, seconds: float = 22.0) -> np.ndarray:
    """Strokes at any tempo and level, regular or not."""
    rng = np.random.default_rng(seed)
    wave_T = 0.005 * rng.standard_normal(round(seconds * RATE))
    period_s = rng.uniform(0.35, 0.6)
    times_s = np.arange(0.3, seconds - 0.5, period_s)
    times_s = times_s if steady else times_s + rng.uniform(-0.3, 0.3, len(times_s)) * period_s
    t = np.arange(round(0.1 * RATE)) / RATE
    for time_s in times_s:
        start = round(time_s * RATE)
        wave_T[start : start + len(t)] += np.cos(2 * np.pi * 70 * t) * np.exp(-t / 0.02)
    return (rng.uniform(0.05, 0.4) * wave_T).astype(np.float32)


def test_regular_clicks_are_told_from_irregular_ones(tmp_path):
    grades = [n % 2 for n in range(24)]
    waves = {f"{n:02}.wav": _beaten(grade == 1, n) for n, grade in enumerate(grades)}
    recordings = recording_set(tmp_path, waves, grades, SETTINGS)

    features_RF = onset_features(recordings)

    assert features_RF.shape == (24, 12)
    probs_RG = logistic(features_RF[:14], recordings.grade_R[:14], features_RF[14:], 2)
    assert probs_RG.argmax(axis=1).tolist() == recordings.grade_R[14:].tolist()


def test_what_holds_no_onset_has_finite_features(tmp_path):
    t = np.arange(6 * RATE) / RATE
    hum_T = (0.1 * np.sin(2 * np.pi * 50 * t)).astype(np.float32)
    lone_T = np.zeros(6 * RATE, np.float32)
    lone_T[1000:1200] = 0.5
    short_T = np.full(3, 0.5, np.float32)
    waves = {"hum.wav": hum_T, "one.wav": lone_T, "short.wav": short_T}
    features_RF = onset_features(recording_set(tmp_path, waves, [0, 1, 0], SETTINGS))
    assert np.isfinite(features_RF).all()
