"""How near is the grade job to decoding and the network alone, and how long do 15 recordings take?

Question: CPU seconds of the whole job (work list, decoding, windows, network, merging, commit) on a Ray that is already
up; and the wall time of `python jobs/grade.py` over 15 recordings, from the command to written grades, Ray's start
included.
Floor: PyAV decoding each file and throwing the samples away, and the network hearing the same windows from memory in
one process, added.
Noise guard: CPU seconds of all processes, Ray's own included, sampled ten times a second; rounds in turn, medians. The
jobs over one recording and over two show what every job costs, whatever its size: one and two workers that start and
load torch. The same decoding, windows and network in a plain loop of one process show what no job can go below.

    python -m benchmarks grade_job
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.decode import QUICK_SECONDS, SECONDS, copies_of_each_format, decoding_alone
from benchmarks.measure import AllProcesses, Table, median, rounds, spread
from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.commits import ITEMS_SCHEMA
from samplecnn.hearing import own_threads
from samplecnn.infer import BATCH, Grader
from samplecnn.model_folder import ModelCard
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.performances.corpus import GRADES
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.runtime import ray_session
from samplecnn.pipelines.windows import WindowCutter
from samplecnn.recipe import SHIPPED_STARTER
from samplecnn.recordings import plan
from samplecnn.segments import SegmentSettings
from samplecnn.starter import new_network, starter_for
from samplecnn.store import open_store

ROOT = Path(__file__).parent.parent
SETTINGS = SegmentSettings()
FEW = 15


def run(quick: bool) -> list[Table]:
    """The job beside its two floors, and a command from start to end."""
    seconds, count, few = (QUICK_SECONDS, 5, 2) if quick else (SECONDS, 100, FEW)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        many, some, two, one = (
            copies_of_each_format(os.path.join(work, name), seconds, number)
            for name, number in (("many", count), ("some", few), ("two", 2), ("one", 1))
        )
        model = published_model(os.path.join(work, "model"))
        own_threads(1)  # as the workers do
        grader, windows = Grader(*model_folder.load(model), torch.device("cpu")), _windows(many)
        outputs = (os.path.join(work, f"grades-{n}") for n in itertools.count())
        with ray_session():
            times = rounds(
                {
                    "decoding alone": lambda: sum(decoding_alone(path) for path in _paths(many)),
                    "network alone": lambda: _network(grader, windows),
                    "plain loop": lambda: _loop(grader, many),
                    "job": lambda: _job(many, model, next(outputs)),
                    "job over one": lambda: _job(one, model, next(outputs)),
                    "job over two": lambda: _job(two, model, next(outputs)),
                },
                count=1 if quick else 5,
            )
        walls = rounds({"command": lambda: _command(some, model, next(outputs))}, count=1 if quick else 3)["command"]
    floor = [sum(pair) for pair in zip(times["decoding alone"], times["network alone"], strict=True)]
    less_one, less_two = (
        [job - least for job, least in zip(times["job"], times[small], strict=True)]
        for small in ("job over one", "job over two")
    )
    rows: list[tuple[str | float, ...]] = [
        (name, count * seconds / median(found), median(found), spread(found), median(floor) / median(found))
        for name, found in (
            ("decoding alone", times["decoding alone"]),
            ("network alone", times["network alone"]),
            ("both: the floor", floor),
            ("plain loop of decoder, windows and network", times["plain loop"]),
            ("whole job", times["job"]),
            ("job, less what a job over one costs", less_one),
            ("job, less what a job over two costs", less_two),
        )
    ]
    return [
        Table(
            f"grade, {count} recordings of {seconds:.0f} s, wav flac mp3 ogg m4a",
            ("what", "s of sound a CPU s", "CPU s", "from to", "floor of it"),
            rows,
        ),
        Table(
            "Small",
            ("what", "s", "from to"),
            [
                *(
                    (
                        f"a {small} recording{'s' * (small == 'job over two')}, CPU s",
                        median(times[small]),
                        spread(times[small]),
                    )
                    for small in ("job over one", "job over two")
                ),
                (f"python jobs/grade.py, {few} recordings, wall s", median(walls), spread(walls)),
            ],
        ),
    ]


def published_model(place: str) -> str:
    """The default network, as the starter leaves it."""
    network_plan, name = plan_for(SETTINGS.segment_samples), NetworkSettings().network
    starter = starter_for(SHIPPED_STARTER, SETTINGS.sample_rate, network_plan)
    network, _ = new_network(name, network_plan, SETTINGS.sample_rate, len(GRADES), DEFAULT_HEAD, starter, 0)
    card = ModelCard(plan=network_plan, settings=SETTINGS, grades=GRADES)
    model_folder.publish(place, card, network.state_dict())
    return place


def _paths(folder: str) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder))


def _windows(recordings: str) -> list[npt.NDArray[np.float32]]:
    """What the network is to hear of each recording."""
    source = open_store(recordings)
    items = [json.dumps(vars(item)) for item in plan(source, ITEMS_SCHEMA.empty_table()).todo]
    cutter = WindowCutter(source, SETTINGS, BATCH, course=False, sound=False)
    rows = [row for item in items for row in cutter({"item": [item]})]
    return [np.frombuffer(row["windows"][0], np.float32).reshape(-1, SETTINGS.segment_samples) for row in rows]


def _loop(grader: Grader, recordings: str) -> float:
    with AllProcesses() as spent:
        for windows_ST in _windows(recordings):
            grader.hear(windows_ST)
    return spent.cpu_s


def _network(grader: Grader, windows: list[npt.NDArray[np.float32]]) -> float:
    start = time.process_time()
    for windows_ST in windows:
        grader.hear(windows_ST)
    return time.process_time() - start


def _job(recordings: str, model: str, grades: str) -> float:
    with AllProcesses() as spent:
        grade(recordings, model, grades)
    return spent.cpu_s


def _command(recordings: str, model: str, grades: str) -> float:
    places = ("--recordings", recordings, "--model", model, "--grades", grades)
    start = time.monotonic()
    subprocess.run([sys.executable, "jobs/grade.py", *places], cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - start
