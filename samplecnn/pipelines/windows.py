"""The first half of grading: recordings into rows of windows. Apart from grade.py, so that no decoder loads torch."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from samplecnn.audio import Decoder
from samplecnn.commits import STAMP, failed_item
from samplecnn.contract import (
    ACTIVITY,
    DURATION_S,
    LEVELS,
    PLAYING_S,
    RECORDING,
    RMS_DBFS,
    SOURCE_RATE,
    START_S,
    VERSION,
    WARNING,
)
from samplecnn.errors import RecordingError
from samplecnn.recordings import Item
from samplecnn.segments import (
    SegmentSettings,
    activity,
    audible_windows,
    playing_dbfs,
    seconds_of_playing,
    take,
    window_levels,
)
from samplecnn.sound import measures_of
from samplecnn.store import Store

COURSE_FEATURES, SOUND = "course", "sound"  # in a row's meta
ROW_BYTES = 16_000_000  # of windows: 800 of 10 s at 500 Hz (20 kB each), 25 at 16 kHz


class WindowCutter:
    """A Ray Data worker: a recording in, rows of its windows out, or one row that says why not.

    batch: rows hold whole multiples of so many windows, but for the last: see infer.py on equal bits. course: the
    merge asks for the course of the recording; only then is torch loaded here. sound: the model asks how it sounds.
    """

    def __init__(self, source: Store, settings: SegmentSettings, batch: int, *, course: bool, sound: bool) -> None:
        self._source, self._settings, self._batch = source, settings, batch
        self._course, self._sound = course, sound
        self._decoder = Decoder(settings.sample_rate)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for text in batch["item"]:
            item = Item(**json.loads(text))
            told = {RECORDING: item.recording, VERSION: item.version, STAMP: item.stamp}
            try:
                with self._source.fetch(item.name, item.version, item.stamp) as path:
                    decoded = self._decoder.decode(path)
            except RecordingError as error:
                meta = {"item": failed_item(item.recording, item.version, item.stamp, error)}
                yield {"meta": [json.dumps(meta)], "number": [0], "windows": [b""]}
                continue
            length = self._settings.segment_samples
            active_F = activity(decoded.frame_power_F)
            windows, gain = audible_windows(decoded.samples_T, active_F, self._settings)
            levels_SL = window_levels(decoded.frame_power_F, windows, self._settings.segment_s)
            course_C = self._course_of(decoded.samples_T, active_F, gain) if self._course else None
            sound_M = measures_of(decoded.samples_T, active_F, self._settings.sample_rate) if self._sound else None
            step = max(1, ROW_BYTES // (4 * length * self._batch)) * self._batch
            rows = -(-len(windows) // step)
            for number in range(rows):
                part = slice(number * step, min((number + 1) * step, len(windows)))
                part_meta: dict[str, Any] = {
                    "item": told,
                    "rows": rows,
                    START_S: windows.start_s[part].tolist(),
                    ACTIVITY: windows.activity_S[part].tolist(),
                    LEVELS: levels_SL[part],
                    COURSE_FEATURES: course_C,
                    SOUND: None if sound_M is None else sound_M.tolist(),
                    PLAYING_S: seconds_of_playing(active_F),
                    RMS_DBFS: playing_dbfs(decoded.frame_power_F, active_F),
                    SOURCE_RATE: decoded.source_rate,
                    DURATION_S: decoded.duration_s,
                    WARNING: "; ".join(decoded.warnings) or None,
                }
                cut = take(decoded.samples_T, windows, part.start, part.stop, length) * np.float32(gain)
                yield {"meta": [json.dumps(part_meta)], "number": [number], "windows": [cut.tobytes()]}

    def _course_of(
        self, waveform_T: npt.NDArray[np.float32], active_F: npt.NDArray[np.bool_], gain: float
    ) -> list[float]:
        import torch

        from samplecnn.tempo import course_of

        torch.set_num_threads(1)
        course_C = course_of(waveform_T, active_F, gain, self._settings.sample_rate)
        return [float(value) for value in course_C]
