"""Do two training workers do twice as much as one?

Question: wall time of an epoch of the train job with one worker and with two, one thread each, over the same
recordings, from the starter (whose BatchNorms stay as they are) and from nothing (whose workers exchange theirs in
every layer): a job of some epochs less a job of one, so that Ray's start, workers that start, the reading of segments
and the merge are left out. An epoch holds what 240 recordings have, its checkpoint included.
Ceiling: two trainings at once in processes that know nothing of each other; what they lose to one is the machine's.
Noise guard: the jobs take turns, medians over rounds. Wall times say something on an idle machine alone.

    python -m benchmarks train_job
"""

import itertools
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.measure import Table, inputs_folder, median, rounds, spread
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.batches import RecordingSet
from samplecnn.fit import fit
from samplecnn.hearing import own_threads
from samplecnn.labels import LabelSettings
from samplecnn.performances.corpus import GRADES, CorpusSettings, labels_csv, plan_corpus, write_corpus
from samplecnn.pipelines.labelled import labelled, recording_set
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.pipelines.train import train
from samplecnn.recipe import NO_STARTER, SHIPPED_STARTER, FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.starter import new_network, starter_for

RECORDINGS, CROPS, EPOCHS = 60, 16, 5
QUICK_RECORDINGS, QUICK_CROPS, QUICK_EPOCHS = 6, 4, 2
INITS = {SHIPPED_STARTER: "the starter", NO_STARTER: "nothing"}


def run(quick: bool) -> list[Table]:
    """One row a way to start and a number of workers."""
    count, crops, epochs = (QUICK_RECORDINGS, QUICK_CROPS, QUICK_EPOCHS) if quick else (RECORDINGS, CROPS, EPOCHS)
    folder = inputs_folder(f"performers-{count}")
    settings = CorpusSettings(count=count, performers=3, shortest_s=30.0, longest_s=40.0, formats="flac")
    plan = plan_corpus(settings)
    write_corpus(folder, plan)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as work:
        segments, models = os.path.join(work, "segments"), (os.path.join(work, f"model-{n}") for n in itertools.count())
        with ray_session():
            prepare(folder, segments, SegmentSettings())
        labels = os.path.join(work, "labels.csv")
        Path(labels).write_bytes(labels_csv(plan))
        recordings = recording_set(labelled(segments, labels, LabelSettings()), work)

        def job(init: str, workers: int, epochs: int) -> float:
            with ray_session(workers):  # a machine of so many cores: one thread a worker
                start = time.monotonic()
                model, how = next(models), _settings(init, crops, epochs)
                train(segments, labels, model, LabelSettings(), NetworkSettings(), how, seed=0, workers=workers)
                return time.monotonic() - start

        def epoch(init: str, workers: int) -> float:
            return (job(init, workers, epochs) - job(init, workers, 1)) / (epochs - 1)

        walls = rounds(
            {f"{init} {w}": lambda init=init, w=w: epoch(init, w) for init in INITS for w in (1, 2)}
            | {f"alone {w}": lambda w=w: _at_once(recordings, w, crops, epochs) for w in (1, 2)},
            count=1 if quick else 3,
        )
    rows: list[tuple[str | float, ...]] = [
        (told, str(w), median(walls[f"{init} {w}"]), spread(walls[f"{init} {w}"]), _faster(walls, init, w))
        for init, told in INITS.items()
        for w in (1, 2)
    ]
    rows.append(("two at once that share nothing", "2", *_two_alone(walls)))
    title = f"An epoch of the train job, {count} recordings, {crops} segments each, one thread a worker"
    return [Table(title, ("from", "workers", "s", "from to", "segments a second, of one worker's"), rows)]


def _settings(init: str, crops: int, epochs: int) -> FitSettings:
    return FitSettings(init=init, crops=crops, epochs=epochs, patience=epochs)


def _faster(walls: dict[str, list[float]], init: str, workers: int) -> float:
    return median(walls[f"{init} 1"]) / median(walls[f"{init} {workers}"])


def _two_alone(walls: dict[str, list[float]]) -> tuple[float, str, float]:
    """They do twice the work of one."""
    return median(walls["alone 2"]), spread(walls["alone 2"]), 2 * median(walls["alone 1"]) / median(walls["alone 2"])


def _at_once(recordings: RecordingSet, processes: int, crops: int, epochs: int) -> float:
    """Wall time of an epoch of a fit from the starter, so many of them at once."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        fits = [pool.submit(_epoch, recordings, crops, epochs) for _ in range(processes)]
        return max(one.result() for one in fits)


def _epoch(recordings: RecordingSet, crops: int, epochs: int) -> float:
    own_threads(1)
    settings, how = NetworkSettings(), _settings(SHIPPED_STARTER, crops, epochs)
    rate, plan = recordings.settings.sample_rate, plan_for(recordings.settings.segment_samples, settings)
    starter = starter_for(how.init, rate, plan)
    network, started = new_network(settings.network, plan, rate, len(GRADES), settings.head, starter, 0)
    reports = fit(network, recordings, None, how, seed=0, device=torch.device("cpu"), started=started)
    next(reports)  # warms up
    start = time.monotonic()
    for _ in reports:
        pass
    return (time.monotonic() - start) / (epochs - 1)
