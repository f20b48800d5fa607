"""Two copies of a stretch of music, one of them with a worse pulse, to learn from recordings that nobody has graded.

The worse copy is what uneven playing does to a waveform: every note is held too long or too short, each by a draw of
its own. A network must not know it by how it was made. So both are made in the same way: cut where notes begin, every
piece lengthened or shortened at its end, and laid one after another. The better copy does it by one ratio throughout,
which is another tempo and as even as the playing was.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.signal import find_peaks

# T samples, F frames of FRAME_S, P pieces, N samples of one.
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

FRAME_S = 0.01
LEAST_RISE = 0.3  # of the log energy over two frames, where a note may begin
RISES = 80  # percentile of them above which it does
SHORTEST_PIECE_S = 0.1
FADE_S = 0.02
HELD_S = 0.12  # of a piece's end, repeated where it is too short
DECAY = 6.0  # of what is repeated, in the logarithm a second: a struck note fades too
TEMPO = 0.25  # log ratio of all lengths, either way
UNEVEN = (0.05, 0.8)  # sd of the log ratio of a piece's length, drawn evenly over its logarithm
FLOOR = 1e-4  # of the energy, against a level of 1
AHEAD = 1.7  # so many samples must be there for one of a copy
_STREAM = (1 << 32) + (1 << 16)  # apart from the streams of dropout and augmentation


def samples_ahead(samples: int) -> int:
    """How many samples are asked for, to make copies of so many."""
    return math.ceil(AHEAD * samples)


def two_copies(waveform_T: Float32, key: int, sample_rate: int, samples: int) -> tuple[Float32, Float32]:
    """(as even as it was, less even), float32, `samples` long; a function of the sound and the key alone.

    waveform_T: from the first sample that is to be heard on, level normalised; what is missing counts as silence.
    """
    rng = np.random.Generator(np.random.Philox(key=np.array([key, _STREAM], np.uint64)))
    starts_P = _onsets(waveform_T, sample_rate)
    ratio = math.exp(rng.uniform(-TEMPO, TEMPO))
    uneven = math.exp(rng.uniform(*np.log(UNEVEN)))
    own_P = np.exp(uneven * rng.standard_normal(len(starts_P)) - uneven**2 / 2)
    even, less_even = (
        _laid(waveform_T, starts_P, ratio_P, sample_rate, samples)
        for ratio_P in (np.full(len(starts_P), ratio), ratio * own_P)
    )
    return even, less_even


def _onsets(waveform_T: Float32, sample_rate: int) -> npt.NDArray[np.int64]:
    """Where notes begin, [P]; the first is sample 0."""
    frame = max(1, round(FRAME_S * sample_rate))
    frames = len(waveform_T) // frame
    level_F = np.log(np.square(waveform_T[: frames * frame].reshape(frames, frame)).mean(axis=1) + FLOOR)
    rise_F = np.maximum(0.0, level_F[2:] - level_F[:-2])
    if not len(rise_F):
        return np.zeros(1, np.int64)
    apart = max(1, round(SHORTEST_PIECE_S / FRAME_S))
    found, _ = find_peaks(rise_F, height=max(LEAST_RISE, float(np.percentile(rise_F, RISES))), distance=apart)
    starts_P: npt.NDArray[np.int64] = np.concatenate([[0], found[found >= apart] * frame])
    return starts_P


def _laid(
    waveform_T: Float32, starts_P: npt.NDArray[np.int64], ratio_P: Float64, sample_rate: int, samples: int
) -> Float32:
    """The pieces one after another, each as much longer or shorter as its ratio says."""
    fade = max(2, round(FADE_S * sample_rate))
    rising_N = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade) ** 2
    laid_T, at = np.zeros(samples + fade), 0
    for start, end, ratio in zip(starts_P, [*starts_P[1:], len(waveform_T)], ratio_P, strict=True):
        length = max(fade, round((end - start) * ratio))
        piece_N = _held(waveform_T[start : end + fade].astype(np.float64), length + fade, rising_N, sample_rate)
        piece_N[:fade] *= rising_N if start else 1.0
        piece_N[length:] *= 1 - rising_N
        fits = min(len(piece_N), len(laid_T) - at)
        laid_T[at : at + fits] += piece_N[:fits]
        at += length
        if at >= samples:
            break
    return laid_T[:samples].astype(np.float32)


def _held(piece_N: Float64, samples: int, rising_N: Float64, sample_rate: int) -> Float64:
    """The first samples of a piece, or the piece with its end repeated, faded into the last each time, dying away."""
    fade, end_N = len(rising_N), piece_N[-max(2 * len(rising_N), round(HELD_S * sample_rate)) :]
    parts = [piece_N]
    if len(end_N) >= 2 * fade:
        missing = samples - len(piece_N)
        while missing > 0:
            joint_N = parts[-1][-fade:] * (1 - rising_N) + end_N[:fade] * rising_N
            parts[-1] = parts[-1][:-fade]
            parts += [joint_N, end_N[fade:]]
            missing -= len(end_N) - fade
    held_N = np.concatenate(parts)[:samples]
    held_N = np.pad(held_N, (0, samples - len(held_N)))
    beyond_N = np.maximum(0, np.arange(samples) - len(piece_N) + fade)
    faded_N: Float64 = held_N * np.exp(-DECAY / sample_rate * beyond_N)
    return faded_N
