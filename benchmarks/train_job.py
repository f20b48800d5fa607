"""Do two training workers do twice as much as one?

Question: wall time of an epoch of the train job with one worker and with two, one thread each, over the same
recordings: a job of many epochs less a job of one, so that Ray's start, workers that start, the reading of segments and
the merge are left out.
Noise guard: the jobs take turns, medians over rounds. Wall times say something on an idle machine alone.

    python -m benchmarks train_job
"""

import itertools
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Table, inputs_folder, median, rounds, spread
from samplecnn.architecture import NetworkSettings
from samplecnn.labels import LabelSettings
from samplecnn.performances.corpus import CorpusSettings, labels_csv, plan_corpus, write_corpus
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.pipelines.train import train
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.segments import SegmentSettings

RECORDINGS, EPOCHS = 60, 9
QUICK_RECORDINGS, QUICK_EPOCHS = 6, 2


def run(quick: bool) -> list[Table]:
    """One row a number of workers."""
    count, epochs = (QUICK_RECORDINGS, QUICK_EPOCHS) if quick else (RECORDINGS, EPOCHS)
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

        def job(workers: int, epochs: int) -> float:
            fit = FitSettings(init=NO_STARTER, epochs=epochs, patience=epochs)
            with ray_session(workers):  # a machine of so many cores: one thread a worker
                start = time.monotonic()
                model = next(models)
                train(segments, labels, model, LabelSettings(), NetworkSettings(), fit, seed=0, workers=workers)
                return time.monotonic() - start

        walls = rounds(
            {
                f"{workers} {many}": lambda workers=workers, many=many: job(workers, many)
                for workers in (1, 2)
                for many in (1, epochs)
            },
            count=1 if quick else 3,
        )
    each = {
        workers: [
            (long - short) / (epochs - 1)
            for short, long in zip(walls[f"{workers} 1"], walls[f"{workers} {epochs}"], strict=True)
        ]
        for workers in (1, 2)
    }
    rows: list[tuple[str | float, ...]] = [
        (str(workers), median(found), spread(found), median(each[1]) / median(found)) for workers, found in each.items()
    ]
    title = f"An epoch of the train job, {count} recordings, one thread a worker"
    return [Table(title, ("workers", "s", "from to", "faster"), rows)]
