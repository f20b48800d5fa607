"""Labelled recordings out of segment shards, and training batches out of them.

Training needs whole recordings, since it draws its windows anywhere in them. They are rebuilt once into one file of
float32 samples that is mapped, not read: an hour at 500 Hz is 7 MB, at 16 kHz 230 MB, and memory stays bounded whatever
their number. Every draw is a pure function of seed and epoch, the same on every worker.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from pyarrow import fs
from torch import Tensor

from samplecnn.contract import FRAMES_PER_S, RECORDING, SILENT_SEGMENT_ACTIVITY, frames_of, segments_schema
from samplecnn.errors import JobError, one_line
from samplecnn.folds import holdout
from samplecnn.labels import Label, judged_names
from samplecnn.segments import (
    SegmentSettings,
    Windows,
    active_share,
    audible_windows,
    frame_at,
    grading_windows,
    playing,
    rebuild,
    seconds_of_playing,
)
from samplecnn.sound import MEASURES, measures_of

log = logging.getLogger(__name__)

# R recordings, N items, B segments of a batch, T samples, F frames of FRAME_S.
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SAMPLES_FILE = "recordings.f32"
ROWS_A_READ = 256  # 10 s at 500 Hz, float32 = 20 kB: 5 MB a read; at 16 kHz 164 MB
VALIDATION_SHARE = 0.2  # of the recordings, to decide which epoch is best
MOST_MEASURED = 2000  # recordings say how playing sounds: a hundred numbers need no more
TRIES = 8  # draws for a window that is not silent; a pause of half the recording defeats them one time in 256


@dataclass(frozen=True)
class RecordingSet:
    """Labelled recordings, or parts of them, in the order of their names, R of them.

    path: file of float32 samples; recording i lies in it at start_R[i], length_R[i] samples long. active_RF: one array
    of frame flags a recording; gain_R: what brings the recording to unit RMS over its active frames; grade_R: 0 is the
    worst; lean_R: how far each lies towards the next grade; weight_R: how much each counts; groups: recordings of one
    group are never parted by a split. left_out: names of recordings with too little playing to learn from.
    """

    path: str
    settings: SegmentSettings
    names: tuple[str, ...]
    start_R: Int64
    length_R: Int64
    active_RF: tuple[Bool, ...]
    gain_R: Float32
    grade_R: Int64
    lean_R: Float32
    weight_R: Float32
    groups: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def ranks(self, rows: Sequence[int] | Int64) -> Float32:
        """What is learnt of these, [len(rows)]: the grade, or a number between two grades."""
        return self.grade_R[rows].astype(np.float32) + self.lean_R[rows]

    def waveform(self, i: int) -> Float32:
        """The samples of recording i, mapped from the file, at the level they were recorded with."""
        return np.memmap(self.path, np.float32, "r", offset=4 * int(self.start_R[i]), shape=(int(self.length_R[i]),))

    def windows(self, i: int) -> Windows:
        """The windows that grade recording i."""
        return grading_windows(self.active_RF[i], int(self.length_R[i]), self.settings)

    def subset(self, rows: Sequence[int] | Int64) -> "RecordingSet":
        """Some of the recordings, over the same file: a fold costs nothing."""
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            start_R=self.start_R[rows],
            length_R=self.length_R[rows],
            active_RF=tuple(self.active_RF[i] for i in rows),
            gain_R=self.gain_R[rows],
            grade_R=self.grade_R[rows],
            lean_R=self.lean_R[rows],
            weight_R=self.weight_R[rows],
            groups=tuple(self.groups[i] for i in rows),
        )


def read_recordings(
    filesystem: fs.FileSystem,
    paths: Sequence[str],
    labels: Mapping[str, Sequence[Label]],
    settings: SegmentSettings,
    folder: str,
) -> RecordingSet:
    """The labelled recordings, by name, out of shards that hold them among others.

    labels: by the recording's name in the shards, one a judged part; folder: where the file of samples is written, the
    caller's to delete.
    Recordings with too little playing to be graded are left out and named. Raises JobError where a labelled recording
    lies in the shards twice, in part or not at all, which the commit log excludes.
    """
    path = os.path.join(folder, SAMPLES_FILE)
    found: dict[str, tuple[Label, int, int, Bool, float]] = {}
    seen: set[str] = set()
    left_out: list[str] = []
    position = 0
    with open(path, "wb") as sink:
        for recording, table in _tables(filesystem, paths, list(labels), settings):
            if recording in seen:
                raise JobError(f"{recording}: lies in the segments twice: prepare into a new folder")
            seen.add(recording)
            try:
                whole_T, whole_F = rebuild(table)
            except ValueError as error:
                raise JobError(f"{recording}: its segments cannot be put together ({error}): prepare again") from None
            names = judged_names((recording, label.part) for label in labels[recording])
            for name, label in zip(names, labels[recording], strict=True):
                waveform_T, active_F = _judged(whole_T, whole_F, label.part, settings.sample_rate)
                windows, gain = audible_windows(waveform_T, active_F, settings)
                silent = windows.activity_S.max() < SILENT_SEGMENT_ACTIVITY
                if silent or seconds_of_playing(active_F) < settings.least_playing_s:
                    left_out.append(name)
                    continue
                sink.write(np.ascontiguousarray(waveform_T, np.float32).data)
                found[name] = (label, position, len(waveform_T), active_F, gain)
                position += len(waveform_T)
    if left_out:
        log.warning(
            "%d labelled recordings hold too little playing and are left out: %s",
            len(left_out),
            ", ".join(left_out[:5]),
        )
    if missing := sorted(set(labels) - seen):
        raise JobError(f"{missing[0]}: not in the segments ({len(missing)} such recordings): prepare again")
    judged = tuple(sorted(found))
    rows = [found[name] for name in judged]
    label_R = [row[0] for row in rows]
    return RecordingSet(
        path=path,
        settings=settings,
        names=judged,
        start_R=np.array([position for _, position, _, _, _ in rows], np.int64),
        length_R=np.array([length for _, _, length, _, _ in rows], np.int64),
        active_RF=tuple(active_F for _, _, _, active_F, _ in rows),
        gain_R=np.array([gain for _, _, _, _, gain in rows], np.float32),
        grade_R=np.array([label.grade for label in label_R], np.int64),
        lean_R=np.array([label.lean for label in label_R], np.float32),
        weight_R=np.array([label.weight for label in label_R], np.float32),
        groups=tuple(label.group for label in label_R),
        left_out=tuple(sorted(left_out)),
    )


def _judged(waveform_T: Float32, active_F: Bool, part: tuple[float, float] | None, rate: int) -> tuple[Float32, Bool]:
    """The part of a recording that was judged, to the nearest frame; all of it without one."""
    if part is None:
        return waveform_T, active_F
    first, last = (round(second * FRAMES_PER_S) for second in part)
    kept_T = waveform_T[first * rate // FRAMES_PER_S : last * rate // FRAMES_PER_S]
    return kept_T, active_F[first:][: frames_of(len(kept_T), rate)]


def held_back(
    recordings: RecordingSet, seed: int, *, train_on_all: bool = False
) -> tuple[RecordingSet, RecordingSet | None]:
    """(to train on, to validate on): groups whole; None where there are too few to hold any back, or none is to be."""
    if train_on_all:
        return recordings, None
    held = holdout(recordings.grade_R, list(recordings.groups), VALIDATION_SHARE, seed)
    if not held.any():
        return recordings, None
    return recordings.subset(np.flatnonzero(~held)), recordings.subset(np.flatnonzero(held))


def _shard(filesystem: fs.FileSystem, path: str, settings: SegmentSettings) -> ds.Dataset:
    """Raises JobError for what is no shard of segments that were cut like this."""
    again = "bring it back from a backup, or prepare into a new folder"
    try:
        shard = ds.dataset(path, filesystem=filesystem, format="parquet")
    except FileNotFoundError:
        raise JobError(f"{path}: missing, though the log names it: {again}") from None
    except pa.ArrowInvalid as error:
        raise JobError(f"{path}: damaged ({one_line(error)}): {again}") from None
    for field in segments_schema(settings.segment_samples, settings.sample_rate):
        at = shard.schema.get_field_index(field.name)
        if at < 0 or shard.schema.field(at).type != field.type:
            raise JobError(f"{path}: its column {field.name} is missing or of another type than segments have: {again}")
    return shard


def _tables(
    filesystem: fs.FileSystem, paths: Sequence[str], names: list[str], settings: SegmentSettings
) -> Iterator[tuple[str, pa.Table]]:
    """Name and rows of each recording, one at a time: a shard holds all rows of a recording together."""
    for path in paths:
        # Readahead off: 16 batches of each of 4 files would be held otherwise.
        shard = _shard(filesystem, path, settings)
        batches = shard.to_batches(
            filter=ds.field(RECORDING).isin(names), batch_size=ROWS_A_READ, batch_readahead=1, fragment_readahead=1
        )
        held: list[pa.RecordBatch] = []
        for batch in batches:
            for run in _runs(batch):
                if held and held[0][RECORDING][0] != run[RECORDING][0]:
                    yield held[0][RECORDING][0].as_py(), pa.Table.from_batches(held)
                    held = []
                held.append(run)
        if held:
            yield held[0][RECORDING][0].as_py(), pa.Table.from_batches(held)


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch cut where the recording changes."""
    names = np.array(batch[RECORDING].to_pylist(), dtype=object)
    cuts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    for start, end in pairwise(cuts):
        if end > start:
            yield batch.slice(start, end - start)


def thinned(count: int, most: int) -> range:
    """Rows of `count` recordings, evenly apart, `most` at most."""
    return range(0, count, max(1, -(-count // most)))


def sounds(recordings: RecordingSet) -> tuple[npt.NDArray[np.float64], list[str]]:
    """(sound.MEASURES [R, M], groups) of at most MOST_MEASURED recordings, thinned out, without very short ones."""
    rate, rows = recordings.settings.sample_rate, thinned(len(recordings), MOST_MEASURED)
    told = {i: measures_of(recordings.waveform(i), recordings.active_RF[i], rate) for i in rows}
    found = {i: measures_M for i, measures_M in told.items() if measures_M is not None}
    return np.array(list(found.values())).reshape(len(found), len(MEASURES)), [recordings.groups[i] for i in found]


@dataclass(frozen=True)
class Items:
    """Windows to train on: row of the recording, first sample, and the random number that all its draws come from."""

    recording_N: Int64
    start_N: Int64
    key_N: Int64

    def __len__(self) -> int:
        return len(self.recording_N)

    def part(self, start: int, end: int) -> "Items":
        """A contiguous part."""
        return Items(self.recording_N[start:end], self.start_N[start:end], self.key_N[start:end])


@dataclass(frozen=True)
class Batch:
    """waveform_BT: float32, unit RMS over the recording's active frames; rank_B and weight_B: float32, its
    recording's; activity_B: share of active frames, as Windows has it; key_B: int64, on the CPU."""

    waveform_BT: Tensor
    rank_B: Tensor
    weight_B: Tensor
    activity_B: Tensor
    key_B: Tensor


def epoch_items(
    recordings: RecordingSet, seed: int, epoch: int, crops: int, batch_size: int, together: int = 1
) -> Items:
    """The windows of one epoch, shuffled: about `crops` a recording, as whole batches.

    together: so many windows of a recording come one after another; it divides batch_size. Each grade is drawn equally
    often, whatever its share, by going round its recordings in a shuffled order. A window starts anywhere from the
    first active frame to the last, and is drawn again where it is silent.
    """
    rng = np.random.default_rng([seed, epoch])
    total = batch_size * max(1, round(len(recordings) * crops / batch_size)) // together
    grades = rng.permutation(np.unique(recordings.grade_R))
    recording_N = np.concatenate(
        [
            np.resize(rng.permutation(np.flatnonzero(recordings.grade_R == grade)), len(share))
            for grade, share in zip(grades, np.array_split(np.arange(total), len(grades)), strict=True)
        ]
    )
    recording_N = np.repeat(rng.permutation(recording_N), together)
    start_N = np.array([_draw_start(recordings, int(i), rng) for i in recording_N], np.int64)
    return Items(recording_N, start_N, rng.integers(0, 2**63 - 1, len(recording_N), dtype=np.int64))


def _draw_start(recordings: RecordingSet, i: int, rng: np.random.Generator) -> int:
    active_F, rate = recordings.active_RF[i], recordings.settings.sample_rate
    first, end = active_stretch(recordings, i)
    tries = rng.integers(first, max(first, end - recordings.settings.segment_samples), TRIES, endpoint=True)
    frames = frames_of(recordings.settings.segment_samples, rate)
    for start in tries.tolist():
        if active_F[frame_at(start, rate) :][:frames].mean() >= SILENT_SEGMENT_ACTIVITY:
            return int(start)
    return int(tries[0])


def active_stretch(recordings: RecordingSet, i: int) -> tuple[int, int]:
    """First sample and end of the stretch from the first to the last active frame."""
    return playing(recordings.active_RF[i], int(recordings.length_R[i]), recordings.settings.sample_rate)


def batch(recordings: RecordingSet, items: Items) -> Batch:
    """These windows, level normalised; what lies behind the recording's last active frame is zero."""
    samples = recordings.settings.segment_samples
    rate = recordings.settings.sample_rate
    waveform_BT, activity_B = np.zeros((len(items), samples), np.float32), np.zeros(len(items), np.float32)
    for row, (i, start) in enumerate(zip(items.recording_N.tolist(), items.start_N.tolist(), strict=True)):
        end = min(active_stretch(recordings, i)[1], start + samples)
        np.multiply(recordings.waveform(i)[start:end], recordings.gain_R[i], out=waveform_BT[row, : end - start])
        activity_B[row] = active_share(recordings.active_RF[i], start, end - start, rate)
    return Batch(
        torch.from_numpy(waveform_BT),
        torch.from_numpy(recordings.ranks(items.recording_N)),
        torch.from_numpy(recordings.weight_R[items.recording_N]),
        torch.from_numpy(activity_B),
        torch.from_numpy(items.key_N),
    )
