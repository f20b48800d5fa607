"""Drawn performances in Parquet shards: what was heard, and what only the generator knows of it."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from samplecnn.batches import SAMPLES_FILE, RecordingSet
from samplecnn.contract import ACTIVE, FRAME_S, NUMBER, PERFORMER_NUMBER, WAVEFORM, frames_of, performances_schema
from samplecnn.performances.drawn import TARGETS, draw, perform_drawn, render_drawn, targets
from samplecnn.pretraining import Taught, taught_columns
from samplecnn.segments import SegmentSettings, activity, normalising_gain
from samplecnn.store import open_store

# R performances, K targets, T samples, F frames.


def write_shard(
    place: str,
    shard: str,
    numbers: Sequence[int],
    *,
    performers: int,
    sample_rate: int,
    seed: int,
    exclude_faults: Sequence[str] = (),
) -> None:
    """Perform the performances of these numbers (drawn.draw) and write them, with all targets."""
    schema = performances_schema(TARGETS)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for number in numbers:
        drawn = draw(seed, number, performers=performers, exclude_faults=exclude_faults)
        performance = perform_drawn(drawn)
        samples_T = render_drawn(drawn, performance, sample_rate)
        columns[NUMBER].append(number)
        columns[PERFORMER_NUMBER].append(drawn.performer)
        columns[WAVEFORM].append(samples_T)
        columns[ACTIVE].append(_active(samples_T, sample_rate))
        for name, value in zip(TARGETS, targets(drawn, performance).tolist(), strict=True):
            columns[name].append(value)
    with open_store(place).open_output(shard) as sink:
        pq.write_table(pa.table(columns, schema=schema), sink)


def _active(samples_T: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.bool_]:
    frame = round(FRAME_S * sample_rate)
    frames = frames_of(len(samples_T), sample_rate)
    padded_T = np.pad(samples_T, (0, max(0, frames * frame - len(samples_T))))[: frames * frame]
    return activity(np.square(padded_T.reshape(frames, frame), dtype=np.float64).mean(axis=1))


def read_performances(place: str, shards: list[str], segments: SegmentSettings, folder: str) -> Taught:
    """The performances of these shards and the targets that are taught, the samples in a file in `folder`."""
    names = tuple(TARGETS[column] for column in taught_columns(TARGETS))
    path, position = os.path.join(folder, SAMPLES_FILE), 0
    starts, lengths, active, gains, performers, told = [], [], [], [], [], []
    with open(path, "wb") as sink:
        for table in _tables(place, shards):
            for wave, flags in zip(table[WAVEFORM], table[ACTIVE], strict=True):
                wave_T, active_F = wave.values.to_numpy(), flags.values.to_numpy(zero_copy_only=False)
                sink.write(np.ascontiguousarray(wave_T, np.float32).data)
                starts.append(position)
                lengths.append(len(wave_T))
                active.append(active_F)
                gains.append(normalising_gain(wave_T, active_F, segments.sample_rate))
                position += len(wave_T)
            performers.append(table[PERFORMER_NUMBER].to_numpy())
            told.append(np.stack([table[name].to_numpy() for name in names], axis=1))
    performer_R = np.concatenate(performers)
    recordings = RecordingSet(
        path=path,
        settings=segments,
        names=tuple(map(str, range(len(starts)))),
        start_R=np.array(starts, np.int64),
        length_R=np.array(lengths, np.int64),
        active_RF=tuple(active),
        gain_R=np.array(gains, np.float32),
        grade_R=np.zeros(len(starts), np.int64),
        lean_R=np.zeros(len(starts), np.float32),
        weight_R=np.ones(len(starts), np.float32),
        groups=tuple(map(str, performer_R.tolist())),
    )
    return Taught(recordings, np.concatenate(told).astype(np.float32), performer_R, names)


def _tables(place: str, shards: list[str]) -> Iterator[pa.Table]:
    filesystem, base = open_store(place).filesystem()
    for shard in shards:
        yield pq.read_table(f"{base}/{shard}", filesystem=filesystem)
