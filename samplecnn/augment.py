"""Changes to a training segment that keep its grade: another room, microphone, level or noise, the same playing.

Nothing here touches timing or dynamics, which are what is graded: no stretching, no masking, no compression, no echo.
Free start offsets are batches.py's. Every draw is a function of the segment's key (seed, epoch and recording) and the
change alone, like dropout's: not of the worker, the batch, or the other changes that are on.
"""

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from samplecnn.torch_audio import functional

# B segments, T samples, K taps of a filter.

GAIN_DB = 6.0  # at most, up or down; the recording's level is normalised already
SNR_DB = (40.0, 70.0)  # of noise: from an old recorder to a quiet room
EQUALISER_DB = 6.0  # at most, up or down, at each of EQUALISER_POINTS frequencies from 0 to half the sample rate
EQUALISER_POINTS = 4
EQUALISER_TAPS = 15  # 30 ms at 500 Hz; symmetric, so that nothing moves
REVERB_S = 0.5  # where the tail is cut
REVERB_DECAY_S = (0.1, 0.5)  # until the tail has fallen by 60 dB
REVERB_DB = (-25.0, -12.0)  # energy of the tail against that of the direct sound

_STREAM = 1 << 32  # apart from the streams of dropout, which count from 0

Draws = list[np.random.Generator]
Change = Callable[[Tensor, Draws, int], Tensor]


def augment(waveform_BT: Tensor, key_B: Tensor, sample_rate: int, names: Collection[str]) -> Tensor:
    """The segments after the changes named, in the order in which sound meets them (CHANGES).

    waveform_BT: float32 on the CPU, unit RMS over the recording's active frames; key_B: int64, one a segment. A
    segment of digital silence stays digital silence.
    """
    for number, (name, change) in enumerate(CHANGES.items()):
        if name in names and len(key_B):  # of many workers one may hold no segment of a batch
            draws = [
                np.random.Generator(np.random.Philox(key=np.array([key, _STREAM + number], np.uint64)))
                for key in key_B.numpy().view(np.uint64)
            ]
            waveform_BT = change(waveform_BT, draws, sample_rate)
    return waveform_BT


def _reverb(waveform_BT: Tensor, draws: Draws, sample_rate: int) -> Tensor:
    """A small room: the direct sound, and behind it noise that decays exponentially."""
    seconds_K = np.arange(1, max(2, round(REVERB_S * sample_rate))) / sample_rate
    response_BK = np.zeros((len(draws), len(seconds_K) + 1))
    response_BK[:, 0] = 1.0
    for response_K, draw in zip(response_BK, draws, strict=True):
        tail_K = draw.standard_normal(len(seconds_K)) * 10 ** (-3 * seconds_K / draw.uniform(*REVERB_DECAY_S))
        response_K[1:] = tail_K * 10 ** (draw.uniform(*REVERB_DB) / 20) / np.sqrt((tail_K**2).sum())
    return _filtered(waveform_BT, response_BK)


def _equaliser(waveform_BT: Tensor, draws: Draws, sample_rate: int) -> Tensor:
    """Another microphone: a smooth curve of gain over frequency, as a short symmetric filter.

    By FFT and not torchaudio's biquads, which are a loop in Python without the compiled extension.
    """
    curve_P = [draw.uniform(-EQUALISER_DB, EQUALISER_DB, EQUALISER_POINTS) for draw in draws]
    bins = np.linspace(0, EQUALISER_POINTS - 1, EQUALISER_TAPS // 2 + 1)
    gain_BF = 10 ** (np.stack([np.interp(bins, np.arange(EQUALISER_POINTS), points) for points in curve_P]) / 20)
    middle = EQUALISER_TAPS // 2
    return _filtered(waveform_BT, np.roll(np.fft.irfft(gain_BF, EQUALISER_TAPS), middle, axis=1), middle)


def _filtered(waveform_BT: Tensor, taps_BK: npt.NDArray[np.float64], first: int = 0) -> Tensor:
    """As many samples as there were, from this tap on. Zeros behind the taps make the transform's length a product of
    small primes; that of 10 s at 500 Hz after REVERB_S has a factor of 181, and takes twice as long."""
    samples, taps = waveform_BT.shape[1], taps_BK.shape[1]
    whole = samples + taps - 1
    padded_BK = np.pad(taps_BK, ((0, 0), (0, next_fast_len(whole, real=True) - whole)))
    heard_BT: Tensor = functional.fftconvolve(waveform_BT, _tensor(padded_BK))
    return heard_BT[:, first : first + samples]


def _noise(waveform_BT: Tensor, draws: Draws, sample_rate: int) -> Tensor:
    """White noise below the playing."""
    noise_BT = np.stack([draw.standard_normal(waveform_BT.shape[1], dtype=np.float32) for draw in draws])
    snr_B = np.array([draw.uniform(*SNR_DB) for draw in draws])
    heard_BT: Tensor = functional.add_noise(waveform_BT, torch.from_numpy(noise_BT), _tensor(snr_B))
    return heard_BT


def _gain(waveform_BT: Tensor, draws: Draws, sample_rate: int) -> Tensor:
    gain_db = [draw.uniform(-GAIN_DB, GAIN_DB) for draw in draws]
    return torch.stack([functional.gain(row_T, db) for row_T, db in zip(waveform_BT, gain_db, strict=True)])


def _polarity(waveform_BT: Tensor, draws: Draws, sample_rate: int) -> Tensor:
    return waveform_BT * _tensor(np.array([[1.0 if draw.random() < 0.5 else -1.0] for draw in draws]))


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


CHANGES: dict[str, Change] = {
    "reverb": _reverb,
    "equaliser": _equaliser,
    "noise": _noise,
    "gain": _gain,
    "polarity": _polarity,
}
