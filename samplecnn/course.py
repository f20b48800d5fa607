"""What only the whole recording tells of its playing: how tempo and loudness go from start to end, and where it stops.

A segment of ten seconds cannot tell that the tempo slid over two minutes, or that the last page was played without
the dynamics of the first. These numbers can; merge.Course weighs them beside what the segments say. They are given,
not learnt: from a few hundred recordings a recurrent network over the segments stayed at chance where these tell
(docs/context.md). Tempo is tempo.py's; the rest is here, without torch, so that a decoder can measure it.
"""

import math

import numpy as np
import numpy.typing as npt

from samplecnn.contract import FRAME_S
from samplecnn.segments import frame_at, playing

# T samples, F frames of FRAME_S, D spans of LEVEL_S.

TEMPO = ("tempo_spread", "tempo_range", "tempo_slope", "tempo_step", "tempo_distance")
LOUDNESS = ("level_slope", "level_spread", "level_range", "level_fade")
PAUSES = ("pauses", "paused", "longest_pause")
COURSE = (*TEMPO, *LOUDNESS, *PAUSES)  # merge.Course has a parameter for each

LEVEL_S = 2.0  # a few notes: shorter and single notes count, longer and a phrase is flattened
LEVEL_FLOOR = 1e-5  # of the power of the playing: -50 dB
SHORTEST_PAUSE_S = 0.5  # a rest is shorter, mostly
THIRDS = 3  # the first against the last


def loudness_and_pauses(
    waveform_T: npt.NDArray[np.float32], active_F: npt.NDArray[np.bool_], gain: float, sample_rate: int
) -> list[float]:
    """LOUDNESS and PAUSES of one recording, from its first active frame to its last.

    gain: what brings its active frames to unit RMS. In dB, over spans of LEVEL_S: how far a straight line through the
    levels rises, their spread, how far the loud (95th percentile) lie above the soft (10th), and by how much the spread
    of the last third is below the first's (how dynamics fade). Pauses of at least SHORTEST_PAUSE_S: log(1 + a minute),
    their share of the time, and log(1 + seconds) of the longest. All 0 for silence and for what is too short to tell.
    """
    first, end = playing(active_F, len(waveform_T), sample_rate)
    level_D = _levels(waveform_T[first:end], gain, sample_rate)
    inside_F = active_F[frame_at(first, sample_rate) : frame_at(end - 1, sample_rate) + 1]
    return [*_loudness(level_D), *_pauses(inside_F)]


def _levels(waveform_T: npt.NDArray[np.float32], gain: float, sample_rate: int) -> npt.NDArray[np.float64]:
    span = max(1, round(LEVEL_S * sample_rate))
    whole_T = waveform_T[: len(waveform_T) // span * span].reshape(-1, span)
    power_D = np.array([np.square(span_T, dtype=np.float64).mean() for span_T in whole_T])
    level_D: npt.NDArray[np.float64] = 10 * np.log10(power_D * gain**2 + LEVEL_FLOOR)
    return level_D


def _loudness(level_D: npt.NDArray[np.float64]) -> list[float]:
    third = len(level_D) // THIRDS
    if third < 2:
        return [0.0] * len(LOUDNESS)
    time_D = np.linspace(-0.5, 0.5, len(level_D))
    soft, loud = np.percentile(level_D, [10, 95])
    slope = time_D @ level_D / (time_D @ time_D)
    return [
        float(slope),
        float(level_D.std()),
        float(loud - soft),
        float(level_D[:third].std() - level_D[-third:].std()),
    ]


def _pauses(active_F: npt.NDArray[np.bool_]) -> list[float]:
    edges = np.flatnonzero(np.diff(np.concatenate([[1], active_F.astype(np.int8), [1]])))
    length_s = FRAME_S * (edges[1::2] - edges[::2])
    long_s = length_s[length_s >= SHORTEST_PAUSE_S - FRAME_S / 2]
    seconds = FRAME_S * len(active_F)
    if not (len(long_s) and active_F.any()):
        return [0.0] * len(PAUSES)
    return [math.log1p(60 * len(long_s) / seconds), float(long_s.sum() / seconds), math.log1p(float(long_s.max()))]
