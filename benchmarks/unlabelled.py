"""What do recordings without labels bring? (Takes long.)

Question: kappa on performers that were not heard, of the default network that learns from 15, 45 or all of 125 labelled
recordings (the ear's corpus), starting from nothing; from what it learnt of 300 recordings without grades by 100 other
performers (jobs/pretrain_unlabelled.py); and from the starter that ships, which 24,000 generated performances taught.
Baseline: from nothing; "above" is the kappa beyond it on the same folds, both resampled together. Noise guard: 95 %
intervals over performers; the same seed for all. And how many of the pairs that were held back are told right?

    python -m benchmarks unlabelled

How pairs are made and learnt was settled on other corpora (docs/tried-and-dropped.md), nothing on these.
"""

import tempfile
import time
from collections.abc import Iterator

from benchmarks.measure import Table
from benchmarks.trials import DEVICE, JOINED, UNLABELLED, Trial, generated, run_trials
from samplecnn import unlabelled
from samplecnn.architecture import plan_for
from samplecnn.fit import fit
from samplecnn.hearing import own_threads
from samplecnn.lessons import Pairs
from samplecnn.metrics import kappa_difference
from samplecnn.recipe import NO_STARTER, SHIPPED_STARTER, FitSettings, UnlabelledSettings

RATE, SAMPLES, EAR = 500, 5000, 156


def run(quick: bool) -> Iterator[Table]:
    """What it tells of pairs, then what that brings."""
    count, labelled, learnt, folds = (15, 15, (0,), 3) if quick else (UNLABELLED, EAR, (15, 45, 0), 5)
    short = {"epochs": 1, "crops": 1} if quick else {}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        columns = ("recordings", "pairs told right", "best epoch", "CPU s")
        yield Table("Learning without grades", columns, [_taught(count, UnlabelledSettings(**short), folder)])
        starts = {"nothing": NO_STARTER, "recordings without grades": folder, "the starter": SHIPPED_STARTER}
        trials = {
            (learn, name): Trial(
                labelled, grader=JOINED, fit=FitSettings(init=place, **short), learn=learn, folds=folds, by_mean=True
            )
            for learn in learnt
            for name, place in starts.items()
        }
        outcomes = dict(zip(trials, run_trials(list(trials.values())), strict=True))
        rows: list[tuple[str | float, ...]] = []
        for (learn, name), done in outcomes.items():
            plain, m = outcomes[learn, "nothing"], done.metrics
            pair = (done.given_R, done.stated_R, plain.stated_R, done.groups, 0)
            above = "-" if done is plain else str(kappa_difference(*pair))
            heard = f"{learn or 'all'} of the others"
            rows.append((heard, name, str(m.accuracy), str(m.kappa), above, f"{m.spearman:.2f}", done.cpu_s))
        columns = ("learnt from", "starts from", "accuracy", "kappa", "above", "rank corr.", "CPU s")
        yield Table("Performers never heard", columns, rows)


def _taught(count: int, settings: UnlabelledSettings, place: str) -> tuple[str | float, ...]:
    """As the job does it with one worker."""
    own_threads(1)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = generated(count, RATE, SAMPLES, folder).recordings
        learn, check = unlabelled.parted(recordings, 0)
        plan, begun, best, right = plan_for(SAMPLES), time.process_time(), 0, 0.0
        network = unlabelled.network_for_pairs(settings.network, plan, RATE, 0)
        for report in fit(network, learn, check, settings.fit(), seed=0, device=DEVICE, lesson=Pairs()):
            if report.best:
                best, right = report.epoch, report.valid_accuracy or 0.0
        cpu_s = time.process_time() - begun
        found = unlabelled.directions(network, recordings, DEVICE)
        unlabelled.publish(place, network, found, settings, plan, RATE, {"recordings": count})
    return count, f"{right:.2f}", best, cpu_s
