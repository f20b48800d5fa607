"""How a recording sounds, in a dozen numbers by which playing is told from speech, noise and tones.

Played notes hold their pitch, which lies on a grid of semitones, begin suddenly and die away; voices glide, noise has
no pitch, and a tone or a hum never changes. None of the measures depends on the level, and at 500 Hz, where all that is
left of a voice is its fundamental, they still tell it from playing (docs/not-playing.md). likeness.py weighs them.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from samplecnn.contract import FRAMES_PER_S
from samplecnn.segments import playing

# T samples, N spectra, K frequencies, M measures.
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# How much each one differs from one piece of playing to another, standard deviations, rounded: of generated pianos in
# several rooms and of rendered pianists alike, at 500 and at 2000 Hz. likeness.py holds none to differ less.
MEASURES = {
    "flatness": 1.2,  # median over spectra of log(geometric / arithmetic mean): 0 for one that is flat
    "peak": 0.12,  # median share of the power that lies around the strongest frequency
    "glide": 0.12,  # share of the steps from spectrum to spectrum, leaps left out, in which that frequency moves
    "change": 0.03,  # mean distance (1 - cosine, of amplitudes) of neighbouring spectra
    "far": 0.1,  # the same of spectra a second apart
    "breadth": 0.06,  # entropy of the mean spectrum, 1 where it is flat
    "level spread": 0.33,  # log of the standard deviation of the level (dB)
    "falling": 0.1,  # cube of the share of steps in which the level falls: tones die away slowly and begin suddenly
    "syllables": 0.8,  # log of the power of the envelope at 2 to 7.5 Hz over that at 0.1 to 2 Hz
    "tuned": 0.2,  # how well the strongest frequencies agree on a grid of semitones, 0 to 1
    "onsets": 0.6,  # log(0.1 + rises of more than 4 dB a second)
    "held": 0.15,  # share of the time in which the strongest frequency stays for a quarter of a second
}

WINDOW_S, HOP_S = 0.256, 0.064  # two tones a semitone apart are told apart from 80 Hz on
LOWEST_HZ, HIGHEST_HZ = 30.0, 2000.0
BLOCK = 2048  # spectra at a time: two minutes
LEAST_SPECTRA = 32  # two seconds
STEADY, LEAP = 0.15, 2.0  # semitones from one spectrum to the next
HELD, HELD_SPECTRA = 0.5, 5  # semitones over so many spectra
SECOND = round(1 / HOP_S)
LOUD_QUANTILE = 0.3  # the strongest frequency is asked of spectra louder than these
RANGE_DB, RISE_DB, STEP_DB = 50.0, 4.0, 12.0


def measures_of(waveform_T: Float32, active_F: npt.NDArray[np.bool_], sample_rate: int) -> Float64 | None:
    """MEASURES of the active frames of one recording, [M]; None where they are fewer than LEAST_SPECTRA.

    active_F: its frames with playing (segments.py). Memory is bounded whatever the length.
    """
    first, end = playing(active_F, len(waveform_T), sample_rate)
    spectra = _Spectra(sample_rate)
    for start, power_NK in spectra.blocks(waveform_T[first:end]):
        frame_N = (
            first + start * spectra.hop + np.arange(len(power_NK)) * spectra.hop + spectra.size // 2
        ) * FRAMES_PER_S
        spectra.add(power_NK, active_F[np.minimum(frame_N // sample_rate, len(active_F) - 1)])
    return spectra.measures()


class _Spectra:
    """What is kept of the spectra of a recording, block by block."""

    def __init__(self, sample_rate: int) -> None:
        self.size, self.hop = round(WINDOW_S * sample_rate), max(1, round(HOP_S * sample_rate))
        self._bin_hz = sample_rate / (2 * self.size)  # filled up with as many zeros: the peak is found between bins
        self._low = int(np.ceil(LOWEST_HZ / self._bin_hz))
        self._high = int(min(0.46 * sample_rate, HIGHEST_HZ) / self._bin_hz)  # below the resampler's slope
        self._level_N: list[Float64] = []  # of all spectra; what follows is of those that are heard
        self._heard_N: list[npt.NDArray[np.bool_]] = []
        self._told_NX: list[Float64] = []  # flatness, share of the peak, its semitone, power
        self._tail_NK = np.zeros((0, self._high - self._low), np.float32)
        self._mean_K = np.zeros(self._high - self._low)
        self._near: list[Float32] = []
        self._far: list[Float32] = []

    def blocks(self, waveform_T: Float32) -> Iterator[tuple[int, Float32]]:
        """(number of the first, power [N, K]) of the spectra of a recording."""
        count = 1 + max(0, len(waveform_T) - self.size) // self.hop
        window_T = np.hanning(self.size).astype(np.float32)
        for start in range(0, count, BLOCK):
            rows = min(BLOCK, count - start)
            piece_T = np.zeros((rows - 1) * self.hop + self.size, np.float32)
            taken_T = waveform_T[start * self.hop :][: len(piece_T)]
            piece_T[: len(taken_T)] = taken_T
            frame_NT = np.lib.stride_tricks.sliding_window_view(piece_T, self.size)[:: self.hop]
            spectrum_NK = scipy.fft.rfft(frame_NT * window_T, 2 * self.size, axis=1)[:, self._low : self._high]
            yield start, np.square(spectrum_NK.real) + np.square(spectrum_NK.imag)

    def add(self, power_NK: Float32, active_N: npt.NDArray[np.bool_]) -> None:
        """Take a block. active_N: does somebody play in the middle of it?"""
        total_N = power_NK.sum(axis=1, dtype=np.float64)
        heard_N = active_N & (total_N > 0)
        self._level_N.append(total_N)
        self._heard_N.append(heard_N)
        power_NK = power_NK[heard_N]
        if not len(power_NK):
            return
        share_NK = power_NK / total_N[heard_N, None].astype(np.float32) + np.float32(1e-9)
        flatness_N = np.log(share_NK).mean(axis=1) - np.log(share_NK.mean(axis=1))
        row_N, top_N = np.arange(len(share_NK)), share_NK.argmax(axis=1)
        summed_NK = np.pad(share_NK, ((0, 0), (1, 0))).cumsum(axis=1)
        around_N = (
            summed_NK[row_N, np.minimum(top_N + 4, share_NK.shape[1])] - summed_NK[row_N, np.maximum(top_N - 3, 0)]
        )
        inner_N = np.clip(top_N, 1, share_NK.shape[1] - 2)
        below_N, at_N, above_N = (np.log(share_NK[row_N, inner_N + step]) for step in (-1, 0, 1))
        curve_N = np.minimum(below_N - 2 * at_N + above_N, -1e-12)  # of the parabola through the three
        offset_N = np.clip(0.5 * (below_N - above_N) / curve_N, -0.5, 0.5)
        semitone_N = 12 * np.log2((self._low + inner_N + offset_N) * self._bin_hz)
        self._told_NX.append(np.stack([flatness_N, around_N, semitone_N, total_N[heard_N]], axis=1))
        self._mean_K += share_NK.sum(axis=0, dtype=np.float64)
        root_NK = np.sqrt(share_NK)
        root_NK /= np.linalg.norm(root_NK, axis=1, keepdims=True)
        joined_NK = np.concatenate([self._tail_NK, root_NK])
        new = len(root_NK)
        for apart, told in ((1, self._near), (SECOND, self._far)):
            pairs = min(new, len(joined_NK) - apart)
            if pairs > 0:
                later_NK, earlier_NK = joined_NK[-pairs:], joined_NK[-pairs - apart : len(joined_NK) - apart]
                told.append(1 - (later_NK * earlier_NK).sum(axis=1))
        self._tail_NK = joined_NK[-SECOND:]

    def measures(self) -> Float64 | None:
        """MEASURES of all that was taken."""
        told_NX = np.concatenate([np.zeros((0, 4)), *self._told_NX])
        if len(told_NX) < LEAST_SPECTRA:
            return None
        flatness_N, peak_N, semitone_N, power_N = told_NX.T
        loud_N = power_N >= np.quantile(power_N, LOUD_QUANTILE)
        step_N = np.abs(np.diff(semitone_N))[loud_N[1:] & loud_N[:-1]]
        steady, moved = (step_N < STEADY).sum(), ((step_N >= STEADY) & (step_N < LEAP)).sum()
        run_N = np.ptp(np.lib.stride_tricks.sliding_window_view(semitone_N, HELD_SPECTRA), axis=1)
        mean_K = self._mean_K / self._mean_K.sum()
        level_spread, falling, onsets = self._levels()
        return np.array(
            [
                np.median(flatness_N),
                np.median(peak_N),
                moved / max(1, steady + moved),
                np.concatenate(self._near).mean(),
                np.concatenate(self._far).mean(),
                -(mean_K * np.log(mean_K)).sum() / np.log(len(mean_K)),
                level_spread,
                falling,
                self._syllables(),
                np.abs(np.exp(2j * np.pi * semitone_N[loud_N]).mean()),
                onsets,
                (run_N < HELD)[loud_N[HELD_SPECTRA - 1 :]].mean(),
            ]
        )

    def _levels(self) -> tuple[float, float, float]:
        """Level spread, falling, onsets."""
        power_N, heard_N = np.concatenate(self._level_N), np.concatenate(self._heard_N)
        level_N = 10 * np.log10(power_N + 1e-12 * power_N.max())
        level_N = np.maximum(level_N, level_N.max() - RANGE_DB)
        step_N = np.clip(np.diff(level_N)[heard_N[1:] & heard_N[:-1]], -STEP_DB, STEP_DB)
        falling = float((step_N < 0).mean()) if len(step_N) else 0.5
        rises = int((step_N > RISE_DB).sum()) / (HOP_S * len(level_N))
        return float(np.log(level_N[heard_N].std() + 0.1)), falling**3, float(np.log(rises + 0.1))

    def _syllables(self) -> float:
        envelope_N = np.sqrt(np.concatenate(self._level_N))
        envelope_N = (envelope_N - envelope_N.mean()) / envelope_N.mean()
        power_K = np.abs(np.fft.rfft(envelope_N * np.hanning(len(envelope_N)))) ** 2
        hertz_K = np.fft.rfftfreq(len(envelope_N), HOP_S)
        fast, slow = (
            float(power_K[(hertz_K >= low) & (hertz_K < high)].sum()) + 1e-9 for low, high in ((2.0, 7.5), (0.1, 2.0))
        )
        return float(np.log(fast / slow))
