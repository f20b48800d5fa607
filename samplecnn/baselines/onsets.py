"""Rhythm as a person would compute it: onsets, what lies between them and how loud they are, for a linear grader.

What the rhythm branch must beat: the same envelope, with statistics in the place of what it learns.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import find_peaks

from samplecnn.batches import RecordingSet, active_stretch
from samplecnn.rhythm import Rhythm, autocorrelation

# R recordings, F frames, L lags, S features.
Float64 = npt.NDArray[np.float64]

PIECE_S = 20.0  # of sound at a time; the last piece takes the rest
PEAK = 1.0  # of the envelope, in units of its spread: what counts as an onset
NEAREST_S = 0.06  # of two onsets


def onset_features(recordings: RecordingSet) -> Float64:
    """Of each recording, [R, 12]: strength of onsets (mean, spread, largest tenth), how regular they come (largest,
    spread and mean of the envelope's autocorrelation), onsets a second, of the time between two onsets the median, the
    spread of its logarithm and of the ratio of neighbours, and of the onsets' heights and of the level the spread."""
    rhythm = Rhythm(recordings.settings.sample_rate).eval()
    return np.stack([_features(recordings, i, rhythm) for i in range(len(recordings))])


def _features(recordings: RecordingSet, i: int, rhythm: Rhythm) -> Float64:
    first, end = active_stretch(recordings, i)
    wave_T = recordings.waveform(i)[first:end] * recordings.gain_R[i]
    piece = round(PIECE_S * recordings.settings.sample_rate)
    found = []
    for start in range(0, max(1, len(wave_T) - piece + 1), piece):
        stop = start + piece if start + 2 * piece <= len(wave_T) else len(wave_T)
        found.append(_of_piece(wave_T[start:stop], rhythm))
    mean_S: Float64 = np.mean(found, axis=0)
    return mean_S


def _of_piece(wave_T: npt.NDArray[np.float32], rhythm: Rhythm) -> Float64:
    with torch.inference_mode():
        envelope_11F = rhythm.rises(torch.from_numpy(wave_T[None]))[:, :1]
        regular_L = autocorrelation(envelope_11F, rhythm.frame_s)[0, 0].numpy()
    envelope_F = envelope_11F[0, 0].numpy().astype(np.float64)
    peak_N, _ = find_peaks(envelope_F, height=PEAK, distance=max(1, round(NEAREST_S / rhythm.frame_s)))
    between_N = np.log(np.diff(peak_N) * rhythm.frame_s) if len(peak_N) > 3 else np.zeros(3)
    height_N = envelope_F[peak_N] if len(peak_N) > 3 else np.zeros(3)
    whole = len(wave_T) // rhythm.hop * rhythm.hop
    level_F = np.log(np.square(wave_T[:whole].reshape(-1, rhythm.hop)).mean(axis=1) + 1e-6) if whole else np.zeros(1)
    return np.array(
        [
            envelope_F.mean(),
            envelope_F.std(),
            np.quantile(envelope_F, 0.9),
            regular_L.max(),
            regular_L.std(),
            regular_L.mean(),
            len(peak_N) / (len(envelope_F) * rhythm.frame_s),
            np.median(between_N),
            between_N.std(),
            np.diff(between_N).std(),
            height_N.std(),
            level_F.std(),
        ]
    )
