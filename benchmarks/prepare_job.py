"""What does Ray cost the prepare job, and do two workers do twice as much?

Question: CPU seconds of the whole job (work list, Ray Data, shards, commit) on a Ray that is already up; and its wall
time with one worker and with one a core.
Floor: the function that its workers call (pipelines.prepare.ShardCutter), in a plain loop of one process. Ceiling of
the second worker: two such loops at once in processes that know nothing of each other, half of the recordings each.
Noise guard: CPU seconds of all processes, Ray's own included, sampled ten times a second (a worker's last moments are
lost); rounds in turn, medians. The job over one recording shows what every job costs, whatever its size: workers that
start, most of all. Ray's own start is reported apart. Wall times say something on an idle machine alone.

    python -m benchmarks prepare_job
"""

import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from benchmarks.decode import QUICK_SECONDS, SECONDS, copies_of_each_format
from benchmarks.measure import AllProcesses, Table, median, rounds, spread
from samplecnn.commits import ITEMS_SCHEMA
from samplecnn.pipelines.prepare import ShardCutter, prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.recordings import Item, plan
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store

SETTINGS = SegmentSettings()


class Cost(NamedTuple):
    """Of one run."""

    cpu_s: float
    wall_s: float


def run(quick: bool) -> list[Table]:
    """The job and the loop over the same recordings, and what is paid once."""
    seconds, count = (QUICK_SECONDS, 5) if quick else (SECONDS, 100)
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        many = copies_of_each_format(os.path.join(work, "many"), seconds, count)
        one = copies_of_each_format(os.path.join(work, "one"), seconds, 1)
        outputs = (os.path.join(work, f"segments-{n}") for n in itertools.count())
        with AllProcesses() as starting, ray_session():
            starting.stop()
            costs = rounds(
                {
                    "loop": lambda: _loop(many, next(outputs)),
                    "job": lambda: _job(many, next(outputs), cores),
                    "job over one": lambda: _job(one, next(outputs), 1),
                    "job, one worker": lambda: _job(many, next(outputs), 1),
                },
                count=1 if quick else 5,
            )
        at_once = rounds(
            {str(loops): lambda loops=loops: _loops(many, next(outputs), loops) for loops in (1, cores)},
            count=1 if quick else 3,
        )
    cpu = {name: [cost.cpu_s for cost in found] for name, found in costs.items()}
    wall = {name: [cost.wall_s for cost in found] for name, found in costs.items()}
    cpu["job, less what a job over one costs"] = _less(cpu["job"], cpu["job over one"])
    sound_s = seconds * count
    rows: list[tuple[str | float, ...]] = [
        (name, sound_s / median(found), median(found), spread(found), median(cpu["loop"]) / median(found))
        for name, found in cpu.items()
        if name in ("loop", "job", "job, less what a job over one costs")
    ]
    alone, shared = (_less(wall[name], wall["job over one"]) for name in ("job, one worker", "job"))
    return [
        Table(
            f"prepare, {count} recordings of {seconds:.0f} s, wav flac mp3 ogg m4a",
            ("what", "s of sound a CPU s", "CPU s", "from to", "loop of it"),
            rows,
        ),
        Table(
            "Wall time, less that of a job over one recording",
            ("workers", "s", "from to", "faster"),
            [
                ("1", median(alone), spread(alone), 1.0),
                (str(cores), median(shared), spread(shared), median(alone) / median(shared)),
                *(
                    (
                        f"no job: loops at once, {loops}",
                        median(found),
                        spread(found),
                        median(at_once["1"]) / median(found),
                    )
                    for loops, found in at_once.items()
                ),
            ],
        ),
        Table(
            "Once",
            ("what", "CPU s"),
            [("Ray's start", starting.cpu_s), ("a job over one recording", median(cpu["job over one"]))],
        ),
    ]


def _less(whole: list[float], least: list[float]) -> list[float]:
    """What the size of the work costs, round by round."""
    return [long - short for long, short in zip(whole, least, strict=True)]


def _loop(recordings: str, segments: str) -> Cost:
    source, target = open_store(recordings), open_store(segments)
    start = time.monotonic()
    with AllProcesses() as spent:
        cutter = ShardCutter(source, target, SETTINGS, "loop")
        _cut(cutter, _todo(recordings))
    return Cost(spent.cpu_s, time.monotonic() - start)


def _todo(recordings: str) -> list[Item]:
    return plan(open_store(recordings), ITEMS_SCHEMA.empty_table()).todo


def _cut(cutter: ShardCutter, items: Sequence[Item]) -> None:
    for item in items:
        for _ in cutter({"name": [f"{item.name}.parquet"], "items": [json.dumps([vars(item)])]}):
            pass


def _loops(recordings: str, segments: str, loops: int) -> float:
    """Wall time of so many loops at once, from the first that has started its decoder to the last."""
    with ProcessPoolExecutor(loops, mp_context=multiprocessing.get_context("spawn")) as pool:
        walls = [pool.submit(_warm_loop, recordings, segments, part, loops) for part in range(loops)]
        return max(wall.result() for wall in walls)


def _warm_loop(recordings: str, segments: str, part: int, parts: int) -> float:
    items = _todo(recordings)
    cutter = ShardCutter(open_store(recordings), open_store(segments), SETTINGS, f"loop {part}")
    _cut(cutter, items[:1])
    start = time.monotonic()
    _cut(cutter, items[part::parts])
    return time.monotonic() - start


def _job(recordings: str, segments: str, workers: int) -> Cost:
    start = time.monotonic()
    with AllProcesses() as spent:
        prepare(recordings, segments, SETTINGS, workers)
    return Cost(spent.cpu_s, time.monotonic() - start)
