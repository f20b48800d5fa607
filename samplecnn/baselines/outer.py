"""What can be known of a recording without listening: level, duration, silence, and the file's format.

If these grade well, the recordings give the grade away, and a model may have learnt that alone.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from samplecnn.contract import (
    ACTIVITY,
    CHANNELS,
    CODEC,
    RECORDING,
    RMS_DBFS,
    SAMPLE_RATE,
    SOURCE_RATE,
    START_S,
    VALID_SAMPLES,
)

FEATURE_COLUMNS = [RECORDING, START_S, VALID_SAMPLES, SAMPLE_RATE, ACTIVITY, RMS_DBFS]

# R recordings, F features.
Float64 = npt.NDArray[np.float64]


def outer_features(segments: pa.Table, recordings: pa.Table, names: list[str]) -> Float64:
    """features_RF of the recordings named: those of level_features, then those of format_features."""
    return np.concatenate([level_features(segments, names), format_features(recordings, names)], axis=1)


def level_features(segments: pa.Table, names: list[str]) -> Float64:
    """Level and duration of each recording, [R, 6]: mean, spread and range of the segments' level (dBFS), duration (s),
    mean and least activity.

    segments: at least FEATURE_COLUMNS. Silent segments count: that somebody pauses is known without hearing how.
    """
    end_s = pc.add(segments[START_S], pc.divide(pc.cast(segments[VALID_SAMPLES], pa.float64()), segments[SAMPLE_RATE]))
    level, activity = segments[RMS_DBFS], segments[ACTIVITY]
    by_recording = pa.table(
        {RECORDING: segments[RECORDING], "level": level, "end": end_s, "active": activity}
    ).group_by(RECORDING)
    measures = ["level mean", "level stddev", "level min", "level max", "end max", "active mean", "active min"]
    grouped = by_recording.aggregate([(m.split()[0], m.split()[1]) for m in measures])
    order = _rows(grouped, names)
    mean, spread, low, high, duration, active, least = (
        grouped[name].to_numpy()[order].astype(np.float64)
        for name in (measure.replace(" ", "_") for measure in measures)
    )
    return np.stack([mean, spread, high - low, duration, active, least], axis=1)


def format_features(recordings: pa.Table, names: list[str]) -> Float64:
    """Format of each recording, [R, F]: channels, logarithm of the file's sample rate, and one column a codec that is
    1 where the file has it.

    recordings: contract.RECORDINGS_SCHEMA.
    """
    order = _rows(recordings, names)
    channels, rate = (recordings[name].to_numpy()[order].astype(np.float64) for name in (CHANNELS, SOURCE_RATE))
    codec = np.array(recordings[CODEC].to_pylist(), dtype=object)[order]
    columns = [(codec == name).astype(np.float64) for name in sorted(set(codec))]
    return np.stack([channels, np.log(rate), *columns], axis=1)


def _rows(table: pa.Table, names: list[str]) -> npt.NDArray[np.int64]:
    row = {name: i for i, name in enumerate(table[RECORDING].to_pylist())}
    return np.array([row[name] for name in names])
