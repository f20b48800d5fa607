"""Rhythm heard from the raw waveform: onsets, and how regularly they come.

The quality of playing sits in the regularity of onsets over lags of 0.2 to 4 s. Convolutions with pooling did not find
it in hundreds of recordings; given one more operation, the autocorrelation of the onset envelope, a network of twenty
thousand weights learns it in a CPU minute (docs/model.md). So the branch is: a wide strided convolution that starts as
windowed cosines, energy, log with a floor, rise, convolution, autocorrelation over log-spaced lags, convolution over
lags, pooled. Every step is differentiable, and from one end to the other it is a part of the network like any other.

Windows and lags are in seconds and bands in Hz, so the shape follows from the sample rate alone; the weights belong to
one rate, because the filters do.
"""

import functools
import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, relu, softplus

from samplecnn.batchnorm import BatchNorm
from samplecnn.layers import SameConv, channels_last

# B segments, T samples, N bands, K taps, F frames, C channels, L lags, Q frequencies of the envelope, E embedding.

WINDOW_S = 0.064  # of the longest filter
SHORTEST_WINDOW_S = 0.024
HOP_S = 0.012  # from frame to frame: 83 frames a second
LOWEST_HZ, HIGHEST_HZ = 40.0, 4000.0
BANDS_AN_OCTAVE = 3.2  # 8 bands at 500 Hz, 14 at 2000
FLOOR = 1e-6  # of a band's energy against the mean of all: -60 dB
ABSOLUTE_FLOOR = 1e-7  # against the level of the recording's playing: digital silence has no logarithm
SHORTEST_LAG_S, LONGEST_LAG_S, LAGS = 0.2, 4.0, 128
CHANNELS, PULSES = 48, 8  # of what is made of onsets, and of the envelopes whose regularity is taken
KERNEL = 5
CIRCLE = 128  # frames: a multiple of it is quickly transformed
LEAST_SPREAD = 1e-2  # of the onset envelope: below it a segment holds no onsets to speak of, and is not magnified
EPSILON = 1e-5


class Rhythm(nn.Module):
    """waveform_BT of any length and one sample rate to embedding_BE, E = Rhythm.EMBEDDING.

    waveform_BT: float32, level normalised once per recording. Anything finite gives finite values: digital silence, a
    click, a constant, a segment of one sample.

    The operations are common ground in the estimation of tempo (spectral flux and its autocorrelation: Scheirer 1998,
    doi 10.1121/1.421129; Grosche and Mueller 2011, doi 10.1109/TASL.2010.2096216); here they are layers.
    """

    EMBEDDING = 5 * CHANNELS

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate, self.hop = sample_rate, max(1, round(HOP_S * sample_rate))
        filters_NK = windowed_cosines(sample_rate)
        self.filters = nn.Parameter(torch.from_numpy(filters_NK)[:, None, :])
        self.onset = SameConv(1 + len(filters_NK) // 2, CHANNELS, KERNEL)
        self.onset_norm = BatchNorm(CHANNELS)
        self.pulse = SameConv(CHANNELS, PULSES, KERNEL)
        self.lag = SameConv(PULSES, CHANNELS, KERNEL)
        self.lag_norm = BatchNorm(CHANNELS)
        self.lag2 = SameConv(CHANNELS, CHANNELS, KERNEL)
        self.lag2_norm = BatchNorm(CHANNELS)

    @property
    def frame_s(self) -> float:
        """Seconds from frame to frame."""
        return self.hop / self.sample_rate

    def forward(self, waveform_BT: Tensor) -> Tensor:
        onset_BCF = relu(self.onset_norm(self.onset(channels_last(self.rises(waveform_BT)))))
        pulse_BCF = softplus(self.pulse(onset_BCF))
        x_BCL = channels_last(autocorrelation(pulse_BCF, self.frame_s))
        x_BCL = relu(self.lag_norm(self.lag(x_BCL)))
        x_BCL = relu(self.lag2_norm(self.lag2(x_BCL)))
        return torch.cat([*_mean_and_spread(onset_BCF), *_mean_and_spread(x_BCL), x_BCL.amax(dim=2)], dim=1)

    def rises(self, waveform_BT: Tensor) -> Tensor:
        """[B, 1 + N, F]: by how much the level rises from frame to frame, on the mean of all bands (the onset
        envelope) and in each; over the envelope's spread, so that the touch of an instrument does not count."""
        half = self.filters.shape[2] // 2
        padded_B1T = pad(waveform_BT, (half, half + self.hop)).unsqueeze(1)
        found_BNF = conv1d(padded_B1T, self.filters, stride=self.hop)
        energy_BNF = found_BNF[:, 0::2].square() + found_BNF[:, 1::2].square()
        level_BNF = torch.log(energy_BNF + FLOOR * energy_BNF.mean(dim=(1, 2), keepdim=True) + ABSOLUTE_FLOOR)
        rise_BNF = torch.log1p(relu(level_BNF[:, :, 1:] - level_BNF[:, :, :-1]))
        envelope_B1F = rise_BNF.mean(dim=1, keepdim=True)
        spread_B11 = torch.sqrt(_mean_and_variance(envelope_B1F)[1] + LEAST_SPREAD**2)
        return torch.cat([envelope_B1F, rise_BNF], dim=1) / spread_B11


def _mean_and_variance(x_BCF: Tensor) -> tuple[Tensor, Tensor]:
    """Two [B, C, 1]."""
    # Sums, divided once they are small: the gradient of mean() would be written out frame by frame, in another order
    # than the channels lie in (a fifth of the branch's training).
    frames = x_BCF.shape[2]
    mean_BC1 = x_BCF.sum(dim=2, keepdim=True) / frames
    return mean_BC1, (x_BCF - mean_BC1).square().sum(dim=2, keepdim=True) / frames


def _mean_and_spread(x_BCF: Tensor) -> tuple[Tensor, Tensor]:
    """Two [B, C]; the spread of a constant has a finite gradient too."""
    mean_BC1, variance_BC1 = _mean_and_variance(x_BCF)
    return mean_BC1.squeeze(2), torch.sqrt(variance_BC1.squeeze(2) + EPSILON)


def autocorrelation(x_BCF: Tensor, frame_s: float) -> Tensor:
    """How alike each channel is to itself some time later, [B, C, LAGS]: 1 is wholly, at the lags of lag_seconds()."""
    frames = int(x_BCF.shape[2])  # a tensor while a network is traced for ONNX
    longest = min(math.ceil(LONGEST_LAG_S / frame_s), frames - 1)
    size = CIRCLE * math.ceil((frames + longest) / CIRCLE)  # so long that at no lag an end meets its own beginning
    x_BCF = x_BCF.contiguous()
    power_BCQ = _power(x_BCF - x_BCF.mean(dim=2, keepdim=True), size)
    product_BCL: Tensor = power_BCQ @ torch.from_numpy(_to_lags(frames, size, frame_s)).to(x_BCF)
    return product_BCL[:, :, 1:] / (product_BCL[:, :, :1] + EPSILON * frames)


def lag_seconds() -> npt.NDArray[np.float64]:
    """The lags, [LAGS]: even steps are even ratios."""
    return np.geomspace(SHORTEST_LAG_S, LONGEST_LAG_S, LAGS)


def _power(x_BCF: Tensor, size: int) -> Tensor:
    """The power spectrum of each channel over a circle of `size` frames, [B, C, size / 2 + 1]."""
    if torch.onnx.is_in_onnx_export():  # which knows no FFT: the same sums as two matrix products
        angle_FQ = 2 * math.pi / size * np.outer(np.arange(x_BCF.shape[2]), np.arange(size // 2 + 1))
        real_FQ, imaginary_FQ = (torch.from_numpy(f(angle_FQ)).to(x_BCF) for f in (np.cos, np.sin))
        return (x_BCF @ real_FQ).square() + (x_BCF @ imaginary_FQ).square()
    spectrum_BCQ = torch.fft.rfft(x_BCF, n=size)
    # Not abs().square(): its root costs four times as much.
    power_BCQ: Tensor = spectrum_BCQ.real.square() + spectrum_BCQ.imag.square()
    return power_BCQ


@functools.lru_cache(maxsize=16)  # a matrix is up to 1 MB, and statistics ask for pieces of any length
def _to_lags(frames: int, size: int, frame_s: float) -> npt.NDArray[np.float32]:
    """The inverse transform at lag 0 and at the lags alone, [size / 2 + 1, 1 + LAGS]: a lag between two frames is drawn
    from both, one beyond the last frame is the last."""
    position_L = np.minimum(lag_seconds() / frame_s, frames - 1)
    below_L = np.minimum(position_L.astype(np.int64), max(frames - 2, 0))
    share_L = position_L - below_L
    weight_Q = np.full(size // 2 + 1, 2.0 / size)
    weight_Q[[0, -1]] /= 2  # all other frequencies stand for their mirror image too

    def at(lag_L: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        cosines: npt.NDArray[np.float64] = np.cos(2 * math.pi / size * np.outer(np.arange(size // 2 + 1), lag_L))
        return weight_Q[:, None] * cosines

    lags_QL = at(below_L) * (1 - share_L) + at(below_L + 1) * share_L
    return np.concatenate([at(np.zeros(1, np.int64)), lags_QL], axis=1).astype(np.float32)


def windowed_cosines(sample_rate: int) -> npt.NDArray[np.float32]:
    """The filters' start, [2 N, K]: of each band a cosine and a sine, whose squares add up to its energy.

    Bands lie evenly over log frequency. A window is as short as its band is wide, since a short one tells better when.
    """
    highest = min(HIGHEST_HZ, 0.46 * sample_rate)
    bands = max(1, round(BANDS_AN_OCTAVE * math.log2(highest / LOWEST_HZ))) if highest > LOWEST_HZ else 1
    edges = np.geomspace(min(LOWEST_HZ, highest / 2), highest, bands + 1)
    half = max(1, round(WINDOW_S * sample_rate / 2))
    seconds_K = np.arange(-half, half + 1) / sample_rate
    rows = []
    for low, high in pairwise(edges):
        width_s = min(WINDOW_S, max(SHORTEST_WINDOW_S, 3.0 / (high - low)))
        window_K = np.where(np.abs(seconds_K) < width_s / 2, np.cos(np.pi * seconds_K / width_s) ** 2, 0.0)
        phase_K = 2 * np.pi * math.sqrt(low * high) * seconds_K
        rows += [window_K * np.cos(phase_K) / window_K.sum(), window_K * np.sin(phase_K) / window_K.sum()]
    return np.stack(rows).astype(np.float32)
