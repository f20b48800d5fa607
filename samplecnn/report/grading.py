"""What a grades folder says, as the page's script wants it: columns of whole numbers, since 10,000 recordings have
120,000 segments."""

import string
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samplecnn import grades_folder, views
from samplecnn.commits import CommitLog, LogState, joined
from samplecnn.contract import (
    ACTIVITY,
    CONFIDENCE,
    CORRECTED_AT,
    CORRECTED_BY,
    CORRECTED_MARK,
    CORRECTED_WHY,
    DURATION_S,
    GRADABLE,
    GRADE,
    GRADED_AT,
    LEVELS,
    MACHINE_GRADE,
    MESSAGE,
    MODEL_ID,
    REASON,
    RECORDING,
    SCORE,
    SILENT_SEGMENT_ACTIVITY,
    STAGE,
    START_S,
    VERSION,
    WARNING,
    WEIGHT,
    probability_columns,
)
from samplecnn.errors import UserError
from samplecnn.store import Store, open_store

# What became of a recording, in the order in which a person should look.
FAILED, NOT_GRADABLE, GRADED, CORRECTED = range(4)

# Steps of the whole numbers.
FIGURE = 10_000  # of a recording: probabilities, score, confidence
SHARE = 1000  # of a segment: probabilities, activity
WEIGHTS = 100_000  # of two hours' segments one has 0.0014
TIMES = 100  # seconds
LETTERS = np.frombuffer(string.ascii_uppercase.encode() + string.ascii_lowercase.encode() + b"0123456789+/", np.uint8)


@dataclass(frozen=True)
class GradesFolder:
    """A grades folder as it is now. grades: worst first; recordings: of latest.*, by name; segments: theirs, in order;
    failures: contract.FAILURES_SCHEMA, but for those that a person graded."""

    store: Store
    state: LogState
    grades: tuple[str, ...]
    recordings: pa.Table
    segments: pa.Table
    failures: pa.Table


def read_grades(place: str) -> GradesFolder:
    """Raises UserError where nothing was graded."""
    store = open_store(place)
    state = CommitLog(store, "grades").state()
    if state.settings is None:
        raise UserError(f"--grades {place}: no grades there: run jobs/grade.py first")
    grades = grades_folder.grades_of(state)
    recordings = grades_folder.latest(store, state, grades)
    segments = grades_folder.segments_of(store, state, grades, recordings)
    failed = views.failures(state)
    by_people = pc.is_in(joined(failed, RECORDING, VERSION), value_set=joined(recordings, RECORDING, VERSION))
    return GradesFolder(store, state, grades, recordings, segments, failed.filter(pc.invert(by_people)))


def table_data(folder: GradesFolder) -> dict[str, Any]:
    """The rows of the page's table, failures first, and the segments of each, in the order of the rows."""
    failed, recordings, segments = folder.failures, folder.recordings, folder.segments
    nothing = [None] * len(failed)

    def told(column: str) -> list[Any]:
        return [*nothing, *recordings[column].to_pylist()]

    def shares(column: str) -> list[Any]:
        return [*nothing, *_steps(recordings[column], FIGURE)]

    place = {grade: index for index, grade in enumerate(reversed(folder.grades))}
    models = pc.unique(recordings[MODEL_ID]).to_pylist()
    stated = list(zip(failed[STAGE].to_pylist(), failed[MESSAGE].to_pylist(), strict=True))
    remarks = zip(recordings[REASON].to_pylist(), recordings[WARNING].to_pylist(), strict=True)
    columns = probability_columns(folder.grades)
    return {
        "grades": list(reversed(folder.grades)),
        "silent": round(SILENT_SEGMENT_ACTIVITY * SHARE),
        "models": models,
        "rows": {
            "name": [*failed[RECORDING].to_pylist(), *recordings[RECORDING].to_pylist()],
            "status": [FAILED] * len(failed) + _status(recordings).tolist(),
            "grade": [place.get(grade) for grade in told(GRADE)],
            "score": shares(SCORE),
            "confidence": shares(CONFIDENCE),
            "seconds": [*nothing, *_steps(recordings[DURATION_S], TIMES)],
            "remark": [
                *(f"failed: {stage}: {message}" for stage, message in stated),
                *("; ".join(filter(None, remark)) or None for remark in remarks),
            ],
            "probabilities": [shares(column) for column in columns],
            "model": [None if model is None else models.index(model) for model in told(MODEL_ID)],
            "at": [time and f"{time:%Y-%m-%d %H:%M}" for time in told(GRADED_AT)],
            "machine": [place.get(grade) for grade in told(MACHINE_GRADE)],
            "by": told(CORRECTED_BY),
            "corrected": [time and f"{time:%Y-%m-%d %H:%M}" for time in told(CORRECTED_AT)],
            "why": told(CORRECTED_WHY),
            "mark": told(CORRECTED_MARK),
        },
        "segments": {
            "count": [0] * len(failed) + _counts(recordings, segments).tolist(),
            "start": _steps(segments[START_S], TIMES),
            "activity": _steps(segments[ACTIVITY], SHARE),
            "weight": _steps(segments[WEIGHT], WEIGHTS),
            "probabilities": [_steps(segments[column], SHARE) for column in columns],
            "levels": [""] * len(failed) + _levels(recordings, segments),
        },
    }


def counts(folder: GradesFolder) -> list[tuple[str, int]]:
    """How many recordings ended how, for a heading: ("graded A", 3), ..., ("not gradable", 1), ("failed", 0)."""
    grades = folder.recordings[GRADE].to_pylist()
    status = _status(folder.recordings)
    return [
        *((f"grade {grade}", grades.count(grade)) for grade in reversed(folder.grades)),
        ("not gradable", int((status == NOT_GRADABLE).sum())),
        ("failed", len(folder.failures)),
    ]


def _status(recordings: pa.Table) -> Any:
    status = np.where(recordings[GRADABLE].to_numpy(), GRADED, NOT_GRADABLE)
    return np.where(recordings[CORRECTED_BY].is_valid().to_numpy(), CORRECTED, status)


def _steps(column: pa.ChunkedArray, steps: int) -> list[int | None]:
    """The column in whole steps, null where it is null."""
    whole: list[int | None] = pc.cast(
        pc.round(pc.multiply(pc.cast(column, pa.float64()), steps)), pa.int64()
    ).to_pylist()
    return whole


def _counts(recordings: pa.Table, segments: pa.Table) -> Any:
    """How many rows of `segments` each recording has."""
    row = pc.index_in(segments[RECORDING], value_set=recordings[RECORDING].combine_chunks()).to_numpy()
    return np.bincount(row, minlength=len(recordings))


def _levels(recordings: pa.Table, segments: pa.Table) -> list[str]:
    """The levels of each recording's segments, one after another, a letter each: of the 64 of Base64 the first is -63
    dBFS or less, the last 0 or more. "" where they were not kept, or not for every segment."""
    counts = _counts(recordings, segments)
    each = pc.list_value_length(segments[LEVELS]).fill_null(0).to_numpy()
    flat = pc.list_flatten(segments[LEVELS]).to_numpy()
    letters = LETTERS[np.clip(flat.astype(int) + len(LETTERS) - 1, 0, len(LETTERS) - 1)].tobytes().decode()
    first, told, place = np.cumsum(counts) - counts, [], 0
    for start, count in zip(first.tolist(), counts.tolist(), strict=True):
        lengths = each[start : start + count]
        size = int(lengths.sum())
        told.append(letters[place : place + size] if count and (lengths == lengths[0]).all() else "")
        place += size
    return told
