"""Which network and recipe for 10 s at 500 Hz (5000 samples)? (Takes minutes: not part of the default run.)

Question: do plans, learning rates or numbers of epochs differ by more than chance on performers they have not heard?
Baseline: chance (accuracy 0.33, kappa 0, loss 1.099 nats). Ceiling: none known; the recordings' own skill is not heard
at 500 Hz by any of these. Noise guard: the same folds, start weights and draws for every contestant, 95 % intervals
over performers, one thread each, CPU seconds of the fold itself.

    python -m benchmarks choose_model

Folds are grouped by performer, and each holds back a fifth of its training recordings to choose the epoch, as `train`
and `evaluate` do. Recordings are performed straight at 500 Hz: no files, no codecs.
"""

import math
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from pyarrow import fs

from benchmarks.measure import Table
from benchmarks.plans import PLANS, SAMPLE_RATE
from samplecnn.audio import Decoded
from samplecnn.batches import RecordingSet, read_recordings
from samplecnn.contract import FRAME_S, segments_schema
from samplecnn.evaluation import predicted_grades
from samplecnn.fit import fit
from samplecnn.folds import grouped_folds, holdout
from samplecnn.infer import Grader
from samplecnn.labels import Label
from samplecnn.metrics import evaluate
from samplecnn.model_folder import ModelCard
from samplecnn.network import SampleCNN
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.performances.corpus import GRADES, CorpusSettings, PlannedRecording, plan_corpus, render_recording
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings, cut

CORPORA = {  # recordings: corpus, folds
    15: (CorpusSettings(), 5),  # the demo's
    60: (CorpusSettings(count=60, performers=24, seed=1), 4),
}
VALIDATION_SHARE = 0.2
SEED = 0
DEVICE = torch.device("cpu")

_SHORT = FitSettings(epochs=8, crops=4, batch_size=16, learning_rate=1e-3, patience=8)
_DEMO = FitSettings(epochs=15, crops=8, batch_size=16, learning_rate=1e-3, patience=5)


@dataclass(frozen=True)
class Trial:
    """One contestant."""

    recordings: int
    plan: str
    fit: FitSettings
    seed: int = SEED


TRIALS = [
    *(Trial(60, "A", replace(_SHORT, learning_rate=rate)) for rate in (3e-4, 1e-3, 3e-3)),
    *(Trial(60, plan, _SHORT) for plan in ("B", "E")),
    Trial(60, "A", replace(_SHORT, batch_size=32)),
    Trial(60, "A", replace(_SHORT, epochs=24, patience=24)),
    *(Trial(15, "A", replace(_DEMO, learning_rate=rate), seed) for rate in (3e-4, 1e-3) for seed in (0, 1)),
]
QUICK = [Trial(15, "A", replace(_DEMO, epochs=1, crops=1))]


def run(quick: bool) -> list[Table]:
    """One row a trial."""
    trials = QUICK if quick else TRIALS
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(trials)), mp_context=context) as pool:
        rows = list(pool.map(_row, trials))
    columns = ("recordings", "plan", "learning rate", "batch", "epochs x crops", "seed", "accuracy", "kappa", "p")
    return [
        Table(
            "Performers that were not heard in training, 95 % intervals, losses in nats (chance 1.10)",
            (*columns, "last training loss", "loss on unseen", "epochs kept", "CPU s"),
            rows,
        )
    ]


def _row(trial: Trial) -> tuple[str | float, ...]:
    torch.set_num_threads(1)
    corpus, folds = CORPORA[trial.recordings]
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = _recording_set(corpus, trial.plan, folder)
        started = time.process_time()
        probs_RG, train_losses, epochs = _cross_validate(recordings, trial, folds)
        cpu_s = time.process_time() - started
    given_R = recordings.grade_R
    m = evaluate(given_R, predicted_grades(probs_RG), len(GRADES), list(recordings.groups), SEED)
    loss = float(-np.log(probs_RG[np.arange(len(given_R)), given_R]).mean())
    return (
        *(str(trial.recordings), trial.plan, trial.fit.learning_rate, trial.fit.batch_size),
        *(f"{trial.fit.epochs} x {trial.fit.crops}", str(trial.seed)),
        *(str(m.accuracy), str(m.kappa), m.p_value),
        *(f"{np.mean(train_losses):.2f}", f"{loss:.2f}", ", ".join(map(str, epochs)), cpu_s),
    )


def _cross_validate(
    recordings: RecordingSet, trial: Trial, folds: int
) -> tuple[npt.NDArray[np.float64], list[float], list[int]]:
    """Out-of-fold probabilities, and of each fold the last training loss and the epoch that was kept."""
    plan, settings = PLANS[trial.plan], recordings.settings
    fold_R = grouped_folds(recordings.grade_R, list(recordings.groups), folds, trial.seed)
    probs_RG = np.zeros((len(recordings), len(GRADES)))
    losses, kept = [], []
    for fold in range(folds):
        learn = recordings.subset(np.flatnonzero(fold_R != fold))
        held = holdout(learn.grade_R, list(learn.groups), VALIDATION_SHARE, trial.seed)
        network = SampleCNN(plan, HEADS[DEFAULT_HEAD].outputs(len(GRADES)), seed=trial.seed)
        learn, check = learn.subset(np.flatnonzero(~held)), learn.subset(np.flatnonzero(held))
        last_loss, best = math.nan, 0
        for report in fit(network, learn, check, trial.fit, seed=trial.seed, device=DEVICE):
            last_loss, best = report.train_loss, report.epoch if report.best else best
        losses.append(last_loss)
        kept.append(best)
        grader = Grader(ModelCard(plan=plan, settings=settings, grades=GRADES), network, DEVICE)
        for i in np.flatnonzero(fold_R == fold).tolist():
            graded = grader.grade(recordings.waveform(i), recordings.active_RF[i])
            assert graded.merged is not None, "read_recordings leaves silent recordings out"
            probs_RG[i] = graded.merged.probs_G
    return probs_RG, losses, kept


def _recording_set(corpus: CorpusSettings, plan: str, folder: str) -> RecordingSet:
    """The corpus performed at the plan's rate, cut and read back as a job would."""
    seconds = PLANS[plan].segment_samples / SAMPLE_RATE
    settings = SegmentSettings(sample_rate=SAMPLE_RATE, segment_s=seconds, hop_s=seconds)
    planned = plan_corpus(corpus)
    shard = str(Path(folder) / "shard.parquet")
    with pq.ParquetWriter(shard, segments_schema(settings.segment_samples, settings.sample_rate)) as writer:
        for recording in planned:
            for rows in cut(recording.name, "1", _decoded(recording), settings):
                writer.write_batch(rows)
    labels = {p.name: Label(p.name, GRADES.index(p.grade), p.performer) for p in planned}
    return read_recordings(fs.LocalFileSystem(), [shard], labels, settings, folder)


def _decoded(planned: PlannedRecording) -> Decoded:
    """As the loader would give it, had the recording been made at this rate."""
    samples_T = render_recording(planned, SAMPLE_RATE, channels=1)[0]
    frame = round(FRAME_S * SAMPLE_RATE)
    whole = len(samples_T) // frame * frame
    return Decoded(
        samples_T=samples_T,
        sample_rate=SAMPLE_RATE,
        frame_power_F=np.square(samples_T[:whole].reshape(-1, frame), dtype=np.float64).mean(axis=1),
        duration_s=len(samples_T) / SAMPLE_RATE,
        source_rate=SAMPLE_RATE,
        channels=1,
        codec="none",
        warnings=(),
    )
