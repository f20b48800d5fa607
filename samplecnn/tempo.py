"""Tempo context: how the tempo moves over a whole recording, from the waveform, as a layer.

Some grades only the whole recording tells: a tempo that slides, breaks off and starts anew. Means over segments and a
recurrent network over them stayed at chance there (docs/model.md). Heard here: the autocorrelation of the onset
envelope in overlapping windows of 20 s, on an axis of log lags, on which another tempo is the same curve moved. How far
each window is moved against each other one is a soft argmax, so that gradients pass, and five numbers say how it moves.
"""

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from samplecnn.course import TEMPO, loudness_and_pauses
from samplecnn.rhythm import LAGS, LONGEST_LAG_S, SHORTEST_LAG_S, Rhythm, autocorrelation
from samplecnn.segments import playing

# W windows of one recording, T samples, F frames, L lags, D moves.

WINDOW_S, HOP_S = 20.0, 10.0
MOST_WINDOWS = 120  # of a recording of 20 minutes; in a longer one they lie further apart
AT_ONCE = 16  # windows that are heard together, so that hours cost no more memory than minutes
MOST_MOVED = 0.4  # log ratio of two tempi, 0.67 to 1.49: half and double tempo are not told from the same one
STEP = math.log(LONGEST_LAG_S / SHORTEST_LAG_S) / (LAGS - 1)  # log ratio from lag to lag, 2.4 %
SHARPNESS = 30.0  # of the soft argmax at the start: two windows that are 0.1 less alike weigh a twentieth
EPSILON = 1e-6


class TempoContext(nn.Module):
    """The windows of one recording, window_WT, to five numbers about its tempo, float32 [5] (course.TEMPO).

    window_WT: the recording's samples from first to last active frame in windows of WINDOW_S, HOP_S apart, level
    normalised once per recording; the last one may be filled up with zeros. All are log ratios of tempo: the spread
    (sd) and the range of the windows' tempi, how far a straight line through them rises, the largest step between the
    mean before and after a moment, and the mean distance of any two windows. The directions are left out: rushing and
    dragging are both. One window gives zeros, and so does silence.
    """

    log_sharpness: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))

    def forward(self, window_WT: Tensor, rhythm: Rhythm) -> Tensor:
        """rhythm: whose onset envelope is heard."""
        parts = [
            autocorrelation(rhythm.rises(part_WT)[:, :1], rhythm.frame_s)[:, 0]
            for part_WT in torch.split(window_WT, AT_ONCE)
        ]
        return describe(moves(torch.cat(parts), torch.exp(self.log_sharpness)))


def course_of(
    waveform_T: npt.NDArray[np.float32], active_F: npt.NDArray[np.bool_], gain: float, sample_rate: int
) -> npt.NDArray[np.float64]:
    """course.COURSE of a recording, from its first active frame to its last, [C].

    waveform_T: mono, at the level it was recorded with; gain: what brings its active frames to unit RMS, 0 where it is
    silent. The onset envelope is that of filters as they start, the same for every network, so that a model's merge
    does not depend on which branches it has. Silence around the playing changes nothing.
    """
    first, end = playing(active_F, len(waveform_T), sample_rate)
    rhythm, context = _front(sample_rate)
    with torch.inference_mode():
        window_WT = torch.from_numpy(_windows(waveform_T[first:end], sample_rate) * np.float32(gain))
        tempo = context(window_WT, rhythm).tolist()
    return np.array([*tempo, *loudness_and_pauses(waveform_T, active_F, gain, sample_rate)])


@functools.cache
def _front(sample_rate: int) -> tuple[Rhythm, TempoContext]:
    return Rhythm(sample_rate).eval(), TempoContext().eval()


def _windows(waveform_T: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float32]:
    """Windows of WINDOW_S, at most MOST_WINDOWS, evenly from the first sample; the last is filled up with zeros."""
    size = round(WINDOW_S * sample_rate)
    beyond = max(0, len(waveform_T) - size)
    hop = max(round(HOP_S * sample_rate), -(-beyond // (MOST_WINDOWS - 1)))
    starts = range(0, beyond + hop, hop) if beyond else range(1)
    window_WT = np.zeros((len(starts), size), np.float32)
    for row_T, start in zip(window_WT, starts, strict=True):
        piece_T = waveform_T[start : start + size]
        row_T[: len(piece_T)] = piece_T
    return window_WT


def moves(profile_WL: Tensor, sharpness: Tensor) -> Tensor:
    """How much longer each window's beat is than each other one's, log ratios, antisymmetric [W, W].

    profile_WL: autocorrelations on the axis of log lags (rhythm.lag_seconds).
    """
    most = round(MOST_MOVED / STEP)
    centred_WL = profile_WL - profile_WL.mean(dim=1, keepdim=True)
    # Lags that fall off the end when a curve is moved count in no comparison: all have the same length, the middle.
    middle_WM = centred_WL[:, most:-most]
    moved_WDM = centred_WL.unfold(1, middle_WM.shape[1], 1)  # D = 2 most + 1: moved by -most .. most lags
    product_WWD = torch.einsum("wm,vdm->wvd", middle_WM, moved_WDM)
    size_W1D = middle_WM.square().sum(dim=1)[:, None, None] * moved_WDM.square().sum(dim=2)[None]
    alike_WWD = product_WWD / torch.sqrt(size_W1D + EPSILON)
    ratio_D = STEP * torch.arange(-most, most + 1, dtype=profile_WL.dtype, device=profile_WL.device)
    later_WW = (torch.softmax(sharpness * alike_WWD, dim=2) * ratio_D).sum(dim=2)
    return (later_WW.T - later_WW) / 2  # each pair is compared twice, from either side


def describe(move_WW: Tensor) -> Tensor:
    """course.TEMPO of the moves between all pairs of windows, [5]."""
    windows = len(move_WW)
    tempo_W = move_WW.mean(dim=1)  # of all tempi that differ by these moves, the least squares
    if windows < 2:
        return tempo_W.expand(len(TEMPO))  # 0, of the window against itself, and a gradient of 0
    time_W = torch.linspace(-0.5, 0.5, windows, dtype=move_WW.dtype, device=move_WW.device)
    slope = (time_W * tempo_W).sum() / time_W.square().sum()
    sum_W, count_W = tempo_W.cumsum(dim=0)[:-1], torch.arange(1, windows, device=move_WW.device)
    step_W = (tempo_W.sum() - sum_W) / (windows - count_W) - sum_W / count_W
    pairs = windows * (windows - 1)
    return torch.stack(
        [
            torch.sqrt(tempo_W.square().mean() - tempo_W.mean().square() + EPSILON) - math.sqrt(EPSILON),
            tempo_W.max() - tempo_W.min(),
            slope.abs(),
            step_W.abs().max(),
            move_WW.abs().sum() / pairs,
        ]
    )
