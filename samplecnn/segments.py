"""A decoded recording → segments: the rows that prepare stores, and the windows that grade hears.

The one place where seconds become samples. Stored rows lie on a grid from 0 and lose nothing, so that rebuild() gives
the recording back; grading cuts the rebuilt recording from its first active frame, so that silence before or after the
playing moves nothing. Activity is judged on frames measured at the full rate, before resampling took the high partials.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from samplecnn.audio import Decoded
from samplecnn.contract import (
    ACTIVE,
    ACTIVE_FLOOR_DBFS,
    ACTIVE_RANGE_DB,
    FRAME_S,
    FRAMES_PER_S,
    LAST_SEGMENT_SHARE,
    LEVEL_S,
    LOUD_PERCENTILE,
    NOTHING_LEFT_DBFS,
    SAMPLE_RATE,
    SEGMENT,
    SILENCE_DBFS,
    START_S,
    VALID_SAMPLES,
    WAVEFORM,
    frames_of,
    segments_schema,
)
from samplecnn.errors import UserError
from samplecnn.flags import flag

# Dimensions: T samples, F frames of FRAME_S, S segments.

BATCH_BYTES = 16_000_000  # of waveform: 800 segments of 10 s at 500 Hz, 11 at 16 kHz
BATCH_SEGMENTS = 256
GAIN_BLOCK = 1 << 20  # samples squared at a time: 8 MB
RATES = (100, 192_000)  # Hz
LONGEST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How recordings are cut. Written with the segments and with the model: all three change every result."""

    sample_rate: int = flag(500, "samples per second after resampling (Hz)")
    segment_s: float = flag(10.0, "length of a segment (seconds)")
    hop_s: float = flag(10.0, "from the start of one segment to the next (seconds)")

    def __post_init__(self) -> None:
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise UserError(f"--sample-rate {self.sample_rate}: choose from {RATES[0]} to {RATES[1]}")
        if not FRAME_S <= self.segment_s <= LONGEST_S:
            raise UserError(f"--segment-s {self.segment_s}: choose from {FRAME_S} to {LONGEST_S:.0f}")
        if not 0 < self.hop_s <= self.segment_s:
            raise UserError(f"--hop-s {self.hop_s}: choose above 0 and at most --segment-s ({self.segment_s})")
        if self.hop_samples < 1:
            raise UserError(f"--hop-s {self.hop_s}: less than one sample at --sample-rate {self.sample_rate}")

    @property
    def segment_samples(self) -> int:
        return round(self.segment_s * self.sample_rate)

    @property
    def least_playing_s(self) -> float:
        """Less playing than this in a whole recording is not enough to learn from or to grade: the network hears a
        segment at once, and one that is mostly padding is little it has learnt from."""
        return LAST_SEGMENT_SHARE * self.segment_s

    @property
    def hop_samples(self) -> int:
        return round(self.hop_s * self.sample_rate)


@dataclass(frozen=True)
class Windows:
    """Where the segments of one recording lie that its grade is made of.

    start_S: int64, first sample of each; valid_S: int64, samples up to the end of the playing (the rest of a window
    counts as silence); activity_S: float32, share of active frames among the valid ones.
    """

    start_S: npt.NDArray[np.int64]
    valid_S: npt.NDArray[np.int64]
    activity_S: npt.NDArray[np.float32]
    sample_rate: int

    def __len__(self) -> int:
        return len(self.start_S)

    @property
    def start_s(self) -> npt.NDArray[np.float64]:
        """First second of each window."""
        seconds_S: npt.NDArray[np.float64] = self.start_S / self.sample_rate
        return seconds_S


def level_dbfs(power: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean squares as levels; a full-scale square wave is 0 dBFS, digital silence SILENCE_DBFS."""
    silence_power = 10 ** (SILENCE_DBFS / 10)
    level: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(np.asarray(power, np.float64), silence_power))
    return level


def activity(frame_power_F: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Does somebody play in this frame? Above an absolute floor, and not far below the recording's own loud frames.

    Loud frames are sought among those above the floor: silence added before or after changes no other frame's flag.
    """
    level_F = level_dbfs(frame_power_F)
    audible_F: npt.NDArray[np.bool_] = level_F > ACTIVE_FLOOR_DBFS
    if not audible_F.any():
        return audible_F
    loud_dbfs = np.percentile(level_F[audible_F], LOUD_PERCENTILE)
    active_F: npt.NDArray[np.bool_] = audible_F & (level_F > loud_dbfs - ACTIVE_RANGE_DB)
    return active_F


def playing_dbfs(frame_power_F: npt.NDArray[np.float64], active_F: npt.NDArray[np.bool_]) -> float:
    """Level of the frames in which somebody plays; SILENCE_DBFS where nobody does."""
    return float(level_dbfs(frame_power_F[active_F].mean() if active_F.any() else 0.0))


def window_levels(frame_power_F: npt.NDArray[np.float64], windows: Windows, segment_s: float) -> list[list[int]]:
    """Levels of each window in whole dBFS, one for each LEVEL_S: what a drawing of its waveform needs."""
    each = round(LEVEL_S * FRAMES_PER_S)
    count = -(-round(segment_s * FRAMES_PER_S) // each)
    power_F = np.concatenate([frame_power_F, np.zeros(count * each)])
    first_S = windows.start_S * FRAMES_PER_S // windows.sample_rate
    power_SL = np.stack([power_F[first : first + count * each].reshape(count, each).mean(1) for first in first_S])
    whole: list[list[int]] = np.clip(np.rint(level_dbfs(power_SL)), SILENCE_DBFS, 20).astype(int).tolist()
    return whole


def frame_at(sample: int, sample_rate: int) -> int:
    """The frame that this sample lies in. In integers: 60 * 27.55 is not 1653 in floating point."""
    return sample * FRAMES_PER_S // sample_rate


def playing(active_F: npt.NDArray[np.bool_], total_samples: int, sample_rate: int) -> tuple[int, int]:
    """First sample and end of the stretch from the first to the last active frame; all where nothing is active."""
    frames = np.flatnonzero(active_F)
    if not len(frames):
        return 0, total_samples
    first, end = (-(-int(frame) * sample_rate // FRAMES_PER_S) for frame in (frames[0], frames[-1] + 1))
    first = min(first, total_samples - 1)
    return first, max(first + 1, min(end, total_samples))


def seconds_of_playing(active_F: npt.NDArray[np.bool_]) -> float:
    """How long somebody plays in a recording, pauses left out."""
    return float(active_F.sum()) / FRAMES_PER_S


def _count(total_samples: int, settings: SegmentSettings) -> int:
    """Segments on a grid from 0 that cover this many samples, each of them with samples that no earlier one has."""
    return 1 + -(-max(0, total_samples - settings.segment_samples) // settings.hop_samples)


def cut(recording: str, version: str, decoded: Decoded, settings: SegmentSettings) -> Iterator[pa.RecordBatch]:
    """The rows of one recording, in order, in batches of bounded size (contract.segments_schema).

    Every sample is in a row, the last piece however short; a recording shorter than a segment is one padded row.
    """
    rate, length, hop = settings.sample_rate, settings.segment_samples, settings.hop_samples
    schema = segments_schema(length, rate)
    wave_T = decoded.samples_T
    power_F = decoded.frame_power_F
    active_F = activity(power_F)
    frames = frames_of(length, rate)
    rows_a_batch = max(1, min(BATCH_SEGMENTS, BATCH_BYTES // (4 * length)))
    count = _count(len(wave_T), settings)
    for first in range(0, count, rows_a_batch):
        numbers = np.arange(first, min(first + rows_a_batch, count))
        waves = np.zeros((len(numbers), length), np.float32)
        active = np.zeros((len(numbers), frames), np.bool_)
        valid, share, rms = (np.zeros(len(numbers)) for _ in range(3))
        for row, start in enumerate(numbers * hop):
            piece_T = wave_T[start : start + length]
            waves[row, : len(piece_T)] = piece_T
            valid[row] = len(piece_T)
            # The file's own clock can end a frame earlier than the resampled one: what it lacks is silent.
            here = slice(frame_at(int(start), rate), frame_at(int(start), rate) + frames_of(len(piece_T), rate))
            flags_F = active_F[here]
            active[row, : len(flags_F)] = flags_F
            share[row] = flags_F.sum() / frames_of(len(piece_T), rate)
            rms[row] = level_dbfs(power_F[here].mean() if len(flags_F) else 0.0)
        columns = [
            pa.array([recording] * len(numbers), pa.string()),
            pa.array([version] * len(numbers), pa.string()),
            pa.array(numbers, pa.int32()),
            pa.array(numbers * hop / rate, pa.float64()),
            pa.array(valid.astype(np.int32)),
            pa.array(np.full(len(numbers), rate, np.int32)),
            pa.array(share.astype(np.float32)),
            pa.array(rms.astype(np.float32)),
            pa.FixedSizeListArray.from_arrays(pa.array(active.reshape(-1)), frames),
            pa.FixedSizeListArray.from_arrays(pa.array(waves.reshape(-1)), length),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def rebuild(table: pa.Table) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The recording that its stored rows were cut from: the inverse of cut().

    table: all rows of one recording, in order. Returns (waveform_T float32, active_F bool, one a frame of FRAME_S).
    Raises ValueError where rows are missing or out of order.
    """
    numbers = table.column(SEGMENT).to_numpy()
    if len(numbers) == 0 or not np.array_equal(numbers, np.arange(len(numbers))):
        raise ValueError("not the rows of one recording: segments are missing or out of order")
    rate = table.column(SAMPLE_RATE)[0].as_py()
    start_S = np.rint(table.column(START_S).to_numpy() * rate).astype(np.int64)
    valid_S = table.column(VALID_SAMPLES).to_numpy()
    total = int((start_S + valid_S).max())
    wave_T = np.zeros(total, np.float32)
    active_F = np.zeros(frames_of(total, rate), np.bool_)
    row = 0
    for batch in table.select([WAVEFORM, ACTIVE]).to_batches():
        waves = batch.column(0).flatten().to_numpy().reshape(len(batch), -1)
        flags = batch.column(1).flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        for piece_T, flags_F in zip(waves, flags, strict=True):
            start, valid = int(start_S[row]), int(valid_S[row])
            wave_T[start : start + valid] = piece_T[:valid]
            here = active_F[frame_at(int(start), rate) :][: len(flags_F)]
            here |= flags_F[: len(here)]
            row += 1
    return wave_T, active_F


def normalising_gain(waveform_T: npt.NDArray[np.float32], active_F: npt.NDArray[np.bool_], sample_rate: int) -> float:
    """The factor that brings the active frames of a recording to an rms of 1; 0 where nothing is left to hear.

    Once a recording and never a segment: dynamics within a piece are part of the playing.
    """
    squares, count = 0.0, 0
    for first in range(0, len(waveform_T), GAIN_BLOCK):
        block_T = waveform_T[first : first + GAIN_BLOCK]
        frame_T = np.arange(first, first + len(block_T)) * FRAMES_PER_S // sample_rate
        heard_T = block_T[active_F[np.minimum(frame_T, len(active_F) - 1)]].astype(np.float64)
        squares += float(heard_T @ heard_T)
        count += len(heard_T)
    rms = math.sqrt(squares / count) if count else 0.0
    return 1 / rms if rms > 10 ** (NOTHING_LEFT_DBFS / 20) else 0.0


def grading_windows(active_F: npt.NDArray[np.bool_], total_samples: int, settings: SegmentSettings) -> Windows:
    """The windows of one recording: a grid from the first active frame to the last.

    A last window that is shorter than LAST_SEGMENT_SHARE of a segment is left out unless it is the only one. Where
    nothing is active the grid covers the whole recording, so that a silent one has windows too.
    """
    rate, length, hop = settings.sample_rate, settings.segment_samples, settings.hop_samples
    first, end = playing(active_F, total_samples, rate)
    start_S = first + np.arange(_count(end - first, settings), dtype=np.int64) * hop
    valid_S = np.minimum(length, end - start_S)
    if len(start_S) > 1 and valid_S[-1] < LAST_SEGMENT_SHARE * length:
        start_S, valid_S = start_S[:-1], valid_S[:-1]
    windows = zip(start_S.tolist(), valid_S.tolist(), strict=True)
    share_S = np.array([active_share(active_F, start, valid, rate) for start, valid in windows], np.float32)
    return Windows(start_S, valid_S, share_S, rate)


def active_share(active_F: npt.NDArray[np.bool_], start: int, samples: int, sample_rate: int) -> float:
    """The share of active frames among those of these samples."""
    frames = frames_of(samples, sample_rate)
    return float(active_F[frame_at(start, sample_rate) :][:frames].sum()) / frames


def audible_windows(
    waveform_T: npt.NDArray[np.float32], active_F: npt.NDArray[np.bool_], settings: SegmentSettings
) -> tuple[Windows, float]:
    """(grading_windows, normalising_gain) of a recording.

    Where nothing of the playing is left at this rate, the gain is 0 and no window is active: what is silent to the
    network must not count in a grade.
    """
    windows = grading_windows(active_F, len(waveform_T), settings)
    gain = normalising_gain(waveform_T, active_F, settings.sample_rate)
    return (windows if gain else replace(windows, activity_S=np.zeros_like(windows.activity_S))), gain


def take(
    waveform_T: npt.NDArray[np.float32], windows: Windows, lo: int, hi: int, segment_samples: int
) -> npt.NDArray[np.float32]:
    """Windows lo to hi - 1 as float32 [hi - lo, segment_samples], zero where a window is not valid."""
    taken = np.zeros((hi - lo, segment_samples), np.float32)
    for row, (start, valid) in enumerate(zip(windows.start_S[lo:hi], windows.valid_S[lo:hi], strict=True)):
        taken[row, :valid] = waveform_T[start : start + valid]
    return taken
