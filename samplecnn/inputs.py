"""What can be known of recordings without ears: level, length, sample rate, and how much of them is playing.

A model is as good as its evaluation says on recordings like those that it was evaluated on. It keeps of those that it
learnt from how these measures were spread, so that a report can tell a night that is unlike them.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from samplecnn.contract import (
    ACTIVITY,
    DURATION_S,
    PLAYING_S,
    RECORDING,
    RMS_DBFS,
    SAMPLE_RATE,
    SCORE,
    SOURCE_RATE,
    VALID_SAMPLES,
)
from samplecnn.segment_folder import SegmentsFolder

# R recordings.
Float64 = npt.NDArray[np.float64]

SCORES = "score"
INPUTS = {"level": "dBFS", "length": "s", "sample rate": "Hz", "share of playing": "", SCORES: ""}  # to their units
KEPT = 200  # values of each measure in a model: a night is told from them as from all
DIGITS = 5


def inputs_of_grades(recordings: pa.Table) -> dict[str, Float64]:
    """By the names of INPUTS, [R] each; NaN where it is not known. recordings: of latest.*."""
    told = {
        name: pc.cast(recordings[name], pa.float64()).to_numpy()
        for name in (RMS_DBFS, DURATION_S, SOURCE_RATE, PLAYING_S, SCORE)
    }
    length_R = np.where(told[DURATION_S] > 0, told[DURATION_S], np.nan)  # 0: a person graded it, and nothing read it
    return {
        "level": told[RMS_DBFS],
        "length": length_R,
        "sample rate": told[SOURCE_RATE],
        "share of playing": told[PLAYING_S] / length_R,
        SCORES: told[SCORE],
    }


def inputs_of_segments(folder: SegmentsFolder, names: Collection[str] | None = None) -> dict[str, Float64]:
    """The same of prepared recordings, scores apart. names: of some; None: all.

    Silent frames have next to no power: a recording's level while somebody plays is that of all its segments over the
    frames in which somebody does.
    """
    columns = [RECORDING, VALID_SAMPLES, SAMPLE_RATE, ACTIVITY, RMS_DBFS]
    rows = ds.dataset(folder.paths, filesystem=folder.filesystem, format="parquet").to_table(
        columns=columns, filter=None if names is None else ds.field(RECORDING).isin(list(names))
    )
    recordings = folder.recordings
    if names is not None:
        recordings = recordings.filter(pc.is_in(recordings[RECORDING], pa.array(list(names), pa.string())))
    seconds = rows[VALID_SAMPLES].to_numpy() / rows[SAMPLE_RATE].to_numpy()
    table = pa.table(
        {
            RECORDING: rows[RECORDING],
            "seconds": seconds,
            "playing": rows[ACTIVITY].to_numpy() * seconds,
            "power": 10 ** (rows[RMS_DBFS].to_numpy().astype(np.float64) / 10) * seconds,
        }
    )
    sums = table.group_by(RECORDING).aggregate([("seconds", "sum"), ("playing", "sum"), ("power", "sum")])
    seconds, playing, power = (sums[f"{name}_sum"].to_numpy() for name in ("seconds", "playing", "power"))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = 10 * np.log10(power / playing)
    return {
        "level": level,
        "length": recordings[DURATION_S].to_numpy(),
        "sample rate": recordings[SOURCE_RATE].to_numpy().astype(np.float64),
        "share of playing": playing / seconds,
    }


def spread_of(inputs: Mapping[str, Float64]) -> dict[str, list[float]]:
    """At most KEPT values of each measure, rising, spread as all are: as model.json keeps them, without names."""
    kept = {}
    for name, value_R in inputs.items():
        known_R = value_R[np.isfinite(value_R)]
        if len(known_R):
            shares = np.linspace(0, 1, min(KEPT, len(known_R)))
            kept[name] = [float(f"{value:.{DIGITS}g}") for value in np.quantile(known_R, shares)]
    return kept


def spread_from(metrics: Mapping[str, Any]) -> dict[str, Float64]:
    """What a model's metrics keep of these measures; nothing of a model from before they did."""
    return {name: np.array(values, np.float64) for name, values in metrics.get("inputs", {}).items()}
