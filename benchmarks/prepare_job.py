"""What does Ray cost the prepare job?

Question: CPU seconds of the whole job (work list, Ray Data, shards, commit) on a Ray that is already up.
Floor: the function that its workers call (pipelines.prepare.ShardCutter), in a plain loop of one process.
Noise guard: CPU seconds of all processes, Ray's own included, sampled ten times a second (a worker's last moments are
lost); rounds in turn, medians. The job over one recording shows what every job costs, whatever its size; the job
without that is what a large one comes near to. Ray's own start is reported apart.

    python -m benchmarks prepare_job
"""

import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Self

from benchmarks.decode import QUICK_SECONDS, SECONDS, one_of_each_format
from benchmarks.measure import Table, cpu_s, descendants, median, rounds, spread
from samplecnn.commits import ITEMS_SCHEMA
from samplecnn.pipelines.prepare import ShardCutter, prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.recordings import plan
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store

SETTINGS = SegmentSettings()
SAMPLE_EVERY_S = 0.1


def run(quick: bool) -> list[Table]:
    """The job and the loop over the same recordings, and what is paid once."""
    seconds, count = (QUICK_SECONDS, 5) if quick else (SECONDS, 30)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        many = _recordings(os.path.join(work, "many"), seconds, count)
        one = _recordings(os.path.join(work, "one"), seconds, 1)
        outputs = (os.path.join(work, f"segments-{n}") for n in itertools.count())
        with _AllProcesses() as starting, ray_session():
            starting.stop()
            times = rounds(
                {
                    "loop": lambda: _loop(many, next(outputs)),
                    "job": lambda: _job(many, next(outputs)),
                    "job over one": lambda: _job(one, next(outputs)),
                },
                count=1 if quick else 3,
            )
    sound_s = seconds * count
    rows: list[tuple[str | float, ...]] = [
        (name, sound_s / median(cpu), median(cpu), spread(cpu), median(times["loop"]) / median(cpu))
        for name, cpu in (
            ("plain loop", times["loop"]),
            ("whole job", times["job"]),
            (
                "job, less what a job over one costs",
                [job - least for job, least in zip(times["job"], times["job over one"], strict=True)],
            ),
        )
    ]
    return [
        Table(
            f"prepare, {count} recordings of {seconds:.0f} s, wav flac mp3 ogg m4a",
            ("what", "s of sound a CPU s", "CPU s", "from to", "loop of it"),
            rows,
        ),
        Table(
            "Once",
            ("what", "CPU s"),
            [("Ray's start", starting.cpu_s), ("a job over one recording", median(times["job over one"]))],
        ),
    ]


def _recordings(folder: str, seconds: float, count: int) -> str:
    """That many recordings, all formats in turn."""
    os.makedirs(folder)
    for number, (kind, path) in zip(range(count), itertools.cycle(one_of_each_format(seconds).items())):
        shutil.copyfile(path, os.path.join(folder, f"take {number:03}.{kind}"))
    return folder


def _loop(recordings: str, segments: str) -> float:
    source, target = open_store(recordings), open_store(segments)
    with _AllProcesses() as spent:
        cutter = ShardCutter(source, target, SETTINGS, "loop")
        for item in plan(source, ITEMS_SCHEMA.empty_table()).todo:  # a shard each, as in every job of this size
            for _ in cutter({"name": [f"{item.name}.parquet"], "items": [json.dumps([vars(item)])]}):
                pass
    return spent.cpu_s


def _job(recordings: str, segments: str) -> float:
    with _AllProcesses() as spent:
        prepare(recordings, segments, SETTINGS)
    return spent.cpu_s


class _AllProcesses:
    """CPU seconds of this process and all below it, while the block lasts or until stop()."""

    def __enter__(self) -> Self:
        self._before = dict(_clocks())
        self._after = dict(self._before)
        self._own = 0.0  # what the sampling itself takes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._done.is_set():
            self.stop()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()
        self._after |= dict(_clocks())
        self.cpu_s = sum(clock - self._before.get(pid, 0.0) for pid, clock in self._after.items()) - self._own

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self._after |= dict(_clocks())
        self._own = time.thread_time()


def _clocks() -> Iterator[tuple[int, float]]:
    for pid in (os.getpid(), *descendants()):
        try:
            yield pid, cpu_s(pid)
        except OSError:  # it has just ended; its last sample stands
            continue
