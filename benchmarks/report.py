"""How large is a report of 10,000 recordings, how long does it take to write, and to open?

Question: bytes of the page, CPU seconds of the report job's function from a grades folder on disk, and the time until
Chromium has the page loaded with its first rows, from disk.
Bounds (issue 8): 15 MB and 3 s. Floor for opening: Chromium showing a page of one recording.
Noise guard: CPU seconds for writing; opening is wall time by the browser's own clock, rounds in turn, medians. Without
Chromium (scripts/install_browser.sh) the columns of opening are left empty.

    python -m benchmarks report
"""

import os
import shutil
import tempfile
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from benchmarks.measure import Table, median, rounds
from samplecnn import grades_folder
from samplecnn.commits import DONE, CommitLog
from samplecnn.contract import REPORT_HTML, grades_schema, probability_column, segment_grades_schema
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.sketch import NUMBERS
from samplecnn.store import open_store
from samplecnn.tables import parquet_bytes

GRADES = ("C", "B", "A")
SEGMENTS = 12  # two minutes
A_COMMIT = 500


def run(quick: bool) -> list[Table]:
    """One row a size of folder."""
    counts = (1, 100) if quick else (1, 1000, 10_000)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        places = {count: graded(os.path.join(work, str(count)), count) for count in counts}
        written = rounds(
            {str(count): lambda place=place: _write(place) for count, place in places.items()}, 1 if quick else 3
        )
        opened = _opened({str(count): place for count, place in places.items()}, 1 if quick else 7)
        rows = [
            (
                float(count),
                os.path.getsize(os.path.join(place, REPORT_HTML)) / 1e6,
                median(written[str(count)]),
                median(opened[str(count)]) if opened else "",
            )
            for count, place in places.items()
        ]
    columns = ("recordings", "page, MB", "writing it, CPU s", "opening it, s")
    return [Table(f"A report of recordings of {SEGMENTS} segments", columns, rows)]


def graded(place: str, count: int) -> str:
    """A grades folder of so many recordings, committed as a night commits them; the values are drawn."""
    store, rng = open_store(place), np.random.default_rng(0)
    for first in range(0, count, A_COMMIT):
        size, run = min(A_COMMIT, count - first), f"run-{first:05d}"
        names = [f"2026/class {n % 40}/take {n:05d}.wav" for n in range(first, first + size)]
        probs_RSG = rng.dirichlet(np.ones(3), (size, SEGMENTS))
        mean_RG = probs_RSG.mean(axis=1)
        stated_R = mean_RG.argmax(axis=1)
        key = {"version": ["v1"], "model_id": ["m1"]}
        recordings = {
            "recording": names,
            **{name: value * size for name, value in key.items()},
            "grade": [GRADES[stated] for stated in stated_R],
            "score": mean_RG @ [0, 0.5, 1],
            **{probability_column(grade): mean_RG[:, index] for index, grade in enumerate(GRADES)},
            "confidence": mean_RG.max(axis=1),
            "gradable": [True] * size,
            "segments": [SEGMENTS] * size,
            "duration_s": [10.0 * SEGMENTS] * size,
            "playing_s": rng.uniform(60, 120, size),
            "rms_dbfs": rng.normal(-25, 4, size),
            "source_rate": [44_100] * size,
            "graded_at": [datetime(2026, 11, 27, tzinfo=UTC)] * size,
        }
        rows = size * SEGMENTS
        segments = {
            "recording": [name for name in names for _ in range(SEGMENTS)],
            **{name: value * rows for name, value in key.items()},
            "segment": list(range(SEGMENTS)) * size,
            "start_s": [10.0 * number for number in range(SEGMENTS)] * size,
            "activity": rng.uniform(0.3, 1, rows),
            **{probability_column(grade): probs_RSG[:, :, index].ravel() for index, grade in enumerate(GRADES)},
            "weight": [1 / SEGMENTS] * rows,
            "levels": rng.integers(-60, -5, (rows, 20)).tolist(),
            "sketch": rng.standard_normal((rows, NUMBERS)).tolist(),
        }
        path = grades_folder.recordings_part(run, 1)
        parts = []
        for part, columns, schema in (
            (path, recordings, grades_schema(GRADES)),
            (grades_folder.segments_part(run, 1), segments, segment_grades_schema(GRADES)),
        ):
            arrays = [
                pa.array(columns[f.name], f.type, from_pandas=True) if f.name in columns else pa.nulls(size, f.type)
                for f in schema
            ]
            store.put(part, parquet_bytes(pa.table(arrays, schema=schema)))
            parts.append({"path": part, "rows": len(arrays[0])})
        items = [
            {"recording": name, "version": "v1", "model_id": "m1", "outcome": DONE, "part": path} for name in names
        ]
        log = CommitLog(store, "grades")
        log.state()
        log.commit(run, {"recordings": "/uploads", "grade_names": "A,B,C"}, items, parts)
    grades_folder.write_views(store, CommitLog(store, "grades").state(), GRADES)
    return place


def _write(place: str) -> float:
    start = time.process_time()
    write_report(Sources(grades=place))
    return time.process_time() - start


def _opened(places: dict[str, str], count: int) -> dict[str, list[float]] | None:
    """Seconds until each page is loaded, its script included; None without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def opening(place: str) -> float:
            page = browser.new_page()
            page.goto("file://" + os.path.join(place, REPORT_HTML), wait_until="load")
            page.wait_for_selector("#recordings-table tbody tr")
            seconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
            page.close()
            return float(seconds)

        found = rounds({name: lambda place=place: opening(place) for name, place in places.items()}, count)
        browser.close()
    return found
