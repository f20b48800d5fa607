"""What does it cost to plan a night over a million recordings?

Question: seconds and the most memory of all that the grade job does before it hears anything: reading the log of a
million graded recordings from its snapshot, listing the bucket, in which a thousand new ones lie, and comparing the
two, with --new-only and without, and with --new-only for a model that has graded none of them. Goal: under 2 minutes
and 2 GB on one core. Floor: going through the same listing and doing nothing with it. Noise guard: a fresh process on
one core for each case, with the job's libraries (torch, Ray) loaded; CPU seconds beside the wall's, peaks from the
kernel (VmHWM). The listing is made up as it is read, page by page; the log is a real one, in a folder. A real bucket
adds the time of its 1,001 pages.

    python -m benchmarks planning
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.measure import Table, peak_mb
from samplecnn.commits import DONE, ITEMS_SCHEMA, MANIFEST, OUTCOME, PART, RUN, STAMP, CommitLog, LogState
from samplecnn.commits.log import COMPACT_ITEMS
from samplecnn.contract import MODEL_ID, RECORDING, VERSION
from samplecnn.pipelines.grade import plan_night
from samplecnn.store import Entry, open_store
from samplecnn.store.gcs import GcsStore

ROOT = Path(__file__).parent.parent
MODEL, RUN_ID = "4be1d0a3c5f29e07", "20261101T000000-0"
GRADED, EVERY = 1_000_000, 1_000  # a new recording after every thousand that are graded
PLANS = {  # (whose night, new_only)
    "planning": (MODEL, False),
    "planning, --new-only": (MODEL, True),
    "planning, --new-only, another model": ("another", True),
}


@dataclass(frozen=True)
class Uploads(GcsStore):
    """A bucket of graded and new recordings whose listing is made up as it is read."""

    graded: int = GRADED

    def list(self, prefix: str = "", *, folders: bool = True) -> Iterator[Entry]:
        for number in range(self.graded):
            yield _entry(_name(number), number)
            if number % EVERY == EVERY - 1:
                yield _entry(_name(number) + " (new).wav", self.graded + number)


def _name(number: int) -> str:
    return f"2026/{number // 10_000:04d}/take {number:08d}.wav"


def _generation(number: int) -> str:
    return str(1_763_884_800_000_000 + number)


def _entry(name: str, number: int) -> Entry:
    generation = _generation(number)
    return Entry(name, 5_000_000, generation, generation, 1_763_884_800.0 + number, "d41d8cd98f00b204e9800998ecf8427e")


def write_log(grades: str, count: int) -> None:
    """The log of a folder in which the recordings of Uploads have a grade: a manifest, and the snapshot after it."""
    last = min(count, COMPACT_ITEMS)  # so many in one manifest call for a snapshot
    rows = [_done(number) for number in range(count)]
    earlier = pa.Table.from_pylist([{**row, RUN: RUN_ID, MANIFEST: 0} for row in rows[: count - last]], ITEMS_SCHEMA)
    CommitLog(open_store(grades), "grades", known=LogState(items=earlier)).commit(RUN_ID, {}, rows[count - last :])


def _done(number: int) -> dict[str, str]:
    part = f"parts/{RUN_ID}/recordings-{number // 500:05d}.parquet"
    version = _generation(number)
    return {
        RECORDING: _name(number),
        VERSION: version,
        MODEL_ID: MODEL,
        STAMP: version,
        OUTCOME: DONE,
        PART: part,
    }


def run(quick: bool) -> list[Table]:
    """One row a case."""
    graded = COMPACT_ITEMS if quick else GRADED
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as grades:
        # In a process of its own too: a child begins with what its parent holds.
        _measured("write", grades, graded)
        cases = {name: _measured(name, grades, graded) for name in ("listing", *PLANS)}
    rows: list[tuple[str | float, ...]] = [
        (name, case["wall_s"], case["cpu_s"], case["peak_mb"]) for name, case in cases.items()
    ]
    title = f"A night over {graded:,} graded and {graded // EVERY:,} new recordings, one core"
    return [Table(title, ("what", "s", "CPU s", "peak, MB"), rows)]


def _measured(what: str, grades: str, graded: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.planning", what, grades, str(graded)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _measure(what: str, grades: str, graded: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    uploads = Uploads("school", "uploads", graded=graded)
    before = time.monotonic(), time.process_time()
    if what == "write":
        write_log(grades, graded)
    elif what == "listing":
        assert sum(1 for _ in uploads.list()) == graded + graded // EVERY
    else:
        model_id, new_only = PLANS[what]
        state = CommitLog(open_store(grades), "grades").state()
        found = plan_night(uploads, state, model_id, new_only=new_only)
        assert (found.kept, len(found.todo), found.deleted) == (graded, graded // EVERY, [])
    after = time.monotonic(), time.process_time()
    figures = {"wall_s": after[0] - before[0], "cpu_s": after[1] - before[1], "peak_mb": peak_mb(os.getpid())}
    print(json.dumps(figures))


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
