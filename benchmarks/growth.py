"""Does a recording cost the same among ten thousand as among a hundred, and does memory stay flat?

Question: CPU seconds a recording of the prepare job and of the grade job over 100, 1,000 and 10,000 short recordings,
on a Ray that is already up, less what a job over one recording costs; of them those of the driver, of which there is
one however many machines there are; and the most memory that the driver and the largest worker hold.
Noise guard: CPU seconds of all processes, Ray's own included, sampled ten times a second. One round: each job takes
minutes, and the figures of the largest are means over ten thousand recordings.

    python -m benchmarks growth      (about ten minutes)
"""

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.decode import one_of_each_format
from benchmarks.grade_job import published_model
from benchmarks.measure import AllProcesses, Table, descendants, resident_mb
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.segments import SegmentSettings

COUNTS, QUICK_COUNTS = (100, 1_000, 10_000), (5, 10)
SECONDS = 15.0
SAMPLE_EVERY_S = 1.0


class Spent(NamedTuple):
    """By one job. driver_*: by this process; worker_mb: the most that a process below it held."""

    cpu_s: float
    driver_s: float
    driver_mb: float
    worker_mb: float


def run(quick: bool) -> list[Table]:
    """One row a job and a number of recordings."""
    rows: list[tuple[str | float, ...]] = []
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work, ray_session():
        places = (os.path.join(work, f"out-{number}") for number in itertools.count())
        model = published_model(os.path.join(work, "model"))
        jobs: dict[str, Callable[[str], object]] = {
            "prepare": lambda recordings: prepare(recordings, next(places), SegmentSettings()),
            "grade": lambda recordings: grade(recordings, model, next(places)),
        }
        folders = {
            count: _links(os.path.join(work, str(count)), count) for count in (1, *(QUICK_COUNTS if quick else COUNTS))
        }
        for name, job in jobs.items():
            job(folders[1])  # warms up
            least = _measured(job, folders[1])
            first: float | None = None
            for count, folder in list(folders.items())[1:]:
                spent = _measured(job, folder)
                each_ms, driver_ms = (
                    1000 * (more - once) / (count - 1)
                    for more, once in ((spent.cpu_s, least.cpu_s), (spent.driver_s, least.driver_s))
                )
                first = first or each_ms
                figures = (spent.cpu_s, each_ms, each_ms / first, driver_ms, spent.driver_mb, spent.worker_mb)
                rows.append((name, count, *figures))
    return [
        Table(
            f"Recordings of {SECONDS:.0f} s, wav flac mp3 ogg m4a",
            (
                *("job", "recordings", "CPU s", "CPU ms a recording", "of the first", "of it the driver, CPU ms"),
                *("driver, MB", "largest worker, MB"),
            ),
            rows,
        )
    ]


def _links(folder: str, count: int) -> str:
    """So many recordings, all formats in turn, as links to five files: the disk holds them once."""
    os.makedirs(folder)
    for number, (kind, path) in zip(range(count), itertools.cycle(one_of_each_format(SECONDS).items())):
        os.link(path, os.path.join(folder, f"take {number:05}.{kind}"))
    return folder


def _measured(job: Callable[[str], object], recordings: str) -> Spent:
    done = threading.Event()
    most = [0.0, 0.0]

    def watch() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            workers = [resident_mb(pid) for pid in descendants()]
            most[:] = max(most[0], resident_mb(os.getpid())), max(most[1], *workers, 0.0)

    thread = threading.Thread(target=watch)
    thread.start()
    before_s = time.process_time()
    try:
        with AllProcesses() as spent:
            job(recordings)
    finally:
        done.set()
        thread.join()
    return Spent(spent.cpu_s, time.process_time() - before_s - spent.own_s, *most)
