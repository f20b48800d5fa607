"""What the benchmarks of learning share: a generated corpus at any rate, and graders cross-validated on it.

Recordings are performed straight at the rate that is asked for: no files, no codecs, no resampling. Each trial is a
process of its own with one thread, and counts its CPU seconds. Folds, start weights and draws are functions of the seed
alone, so that contestants with the same seed differ in nothing but what their row names.
"""

import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from pyarrow import fs

from samplecnn.architecture import Plan, plan_for
from samplecnn.audio import Decoded
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, ONSETS, OUTER, held_out_logistic, majority
from samplecnn.baselines.log_mel import LogMelCNN, log_mel_features
from samplecnn.baselines.onsets import onset_features
from samplecnn.baselines.outer import FEATURE_COLUMNS, level_features
from samplecnn.batches import RecordingSet, read_recordings
from samplecnn.calibration import Heard, calibrate, merged, stated_by_shares
from samplecnn.contract import FRAME_S, PERFORMER, segments_schema
from samplecnn.cross_validation import hold_out
from samplecnn.evaluation import COMPARED, MAJORITY, NETWORKS
from samplecnn.folds import Split, splits
from samplecnn.hearing import Hearing, own_threads
from samplecnn.labels import Label
from samplecnn.merge import Mean
from samplecnn.metrics import PERMUTATIONS, Metrics, evaluate, kappa, log_loss, stated_probability
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.performances.corpus import GRADES, CorpusSettings, PlannedRecording, plan_corpus, render_recording
from samplecnn.performances.player import GLOBAL_FAULTS
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings, cut
from samplecnn.starter import new_network, starter_for

GLOBAL, UNLABELLED, LARGE = 153, 300, 312
CORPORA = {
    15: CorpusSettings(),  # the demo's
    60: CorpusSettings(count=60, performers=24, seed=1),
    90: CorpusSettings(count=90, performers=30, seed=2),
    156: CorpusSettings(count=156, performers=52, seed=21),  # the ear's: nothing was chosen on it
    150: CorpusSettings(count=150, performers=50, seed=3),
    LARGE: CorpusSettings(count=LARGE, performers=104, seed=91),
    UNLABELLED: CorpusSettings(count=UNLABELLED, performers=100, seed=73, first_performer=1000),
    # Grades that no segment tells: nothing differs but what takes minutes.
    GLOBAL: CorpusSettings(count=GLOBAL, performers=51, seed=41, faults=",".join(GLOBAL_FAULTS)),
}
MODEL, RHYTHM, JOINED = COMPARED
FEATURES = {LOG_MEL: log_mel_features, ONSETS: onset_features}
DEVICE = torch.device("cpu")
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """One contestant. recordings: which corpus; faults: what follows the skill in it, in place of its own; group:
    column of the corpus that splits keep apart, or several; learn: from so many recordings at most in each split,
    groups whole (0: from all); by_mean: segments are merged by the mean, whatever a split would choose; shuffled:
    grades are dealt anew to the performers, so that nothing can be learnt."""

    recordings: int
    faults: str = ""
    plan: Plan = field(default_factory=lambda: plan_for(5000))
    sample_rate: int = 500
    grader: str = MODEL
    head: str = DEFAULT_HEAD
    fit: FitSettings = field(default_factory=FitSettings)
    group: tuple[str, ...] = (PERFORMER,)
    learn: int = 0
    by_mean: bool = False
    shuffled: bool = False
    folds: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """metrics: of grades cut at the shares of what each split learns from; given_R, stated_R, groups: what they are
    made of; confidence_R: of what is stated; calibrated_loss: at the temperatures of the other folds (nats), as the
    confidence is; temperature, least_confidence: of all folds together; graded_R: which ones the other folds' least
    confidence lets pass; train_loss: the mean over splits of the last epoch's; epochs: that were kept, one a split."""

    metrics: Metrics
    given_R: npt.NDArray[np.int64]
    stated_R: npt.NDArray[np.int64]
    confidence_R: Float64
    graded_R: npt.NDArray[np.bool_]
    groups: list[list[str]]
    loss: float
    calibrated_loss: float
    temperature: float
    least_confidence: float
    train_loss: float
    epochs: tuple[int, ...]
    cpu_s: float


@dataclass(frozen=True)
class Generated:
    recordings: RecordingSet
    level_RF: Float64
    planned: tuple[PlannedRecording, ...]  # in the order of the recordings


def narrow(plan: Plan, times: int) -> Plan:
    """The same network with channels divided."""
    return replace(plan, widths=tuple(width // times for width in plan.widths))


def run_trials(trials: Sequence[Trial]) -> list[Outcome]:
    """The trials in their order, spread over the cores."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="samplecnn-") as folder,
        ProcessPoolExecutor(min(os.cpu_count() or 1, len(trials)), mp_context=context) as pool,
    ):
        keys = {t: (t.recordings, t.sample_rate, t.plan.segment_samples, t.faults) for t in trials}
        made = {key: pool.submit(generated, *key[:3], folder, key[3]) for key in dict.fromkeys(keys.values())}
        pending = [pool.submit(_outcome, trial, made[keys[trial]].result()) for trial in trials]
        return [done.result() for done in pending]


def kappa_difference_p(given_R: Int64, one_R: Int64, other_R: Int64, group_CR: Sequence[list[str]], seed: int) -> float:
    """How often one grader's kappa lies as far above or below the other's where the two are dealt anew to each group
    (of the first column): two-sided."""
    rng = np.random.default_rng(seed)
    names, group = np.unique(np.array(group_CR[0]), return_inverse=True)
    found = kappa(given_R, one_R) - kappa(given_R, other_R)
    as_far = 0
    for _ in range(PERMUTATIONS):
        swapped_R = (rng.random(len(names)) < 0.5)[group]
        dealt = (np.where(swapped_R, other_R, one_R), np.where(swapped_R, one_R, other_R))
        as_far += abs(kappa(given_R, dealt[0]) - kappa(given_R, dealt[1])) >= abs(found) - 1e-12
    return (as_far + 1) / (PERMUTATIONS + 1)


def _outcome(trial: Trial, corpus: Generated) -> Outcome:
    own_threads(1)
    recordings, grades = corpus.recordings, len(GRADES)
    columns = [[str(getattr(planned, name)) for planned in corpus.planned] for name in trial.group]
    grade_R = dealt_anew(recordings.grade_R, columns[0], trial.seed) if trial.shuffled else recordings.grade_R
    recordings = replace(recordings, grade_R=grade_R, groups=tuple(columns[0]))
    parted = splits(grade_R, columns, trial.folds, trial.seed)
    started = time.process_time()
    parted = [_fewer(split, columns[0], trial.learn, trial.seed) for split in parted]
    temperature, least, train_loss, epochs = 1.0, 0.0, math.nan, ()
    calibrated_RG, graded_R = None, np.ones(len(grade_R), np.bool_)
    if trial.grader in (*NETWORKS, LOG_MEL_CNN):
        heard_R, train_loss, epochs = _heard(trial, recordings, parted)
        calibrated = calibrate(heard_R, grade_R, columns, parted, grades, trial.head)
        calibrated_RG, graded_R = calibrated.probs_RG, calibrated.graded_R
        temperature, least = calibrated.temperature, calibrated.least_confidence
        probs_RG = np.stack([graded.probs_G for graded in merged(heard_R, trial.head, 1.0)])
        stated_R = calibrated.grade_R
    elif trial.grader == MAJORITY:
        probs_RG = majority(grade_R, grades)
        stated_R = probs_RG.argmax(axis=1)
    else:
        features_RF = corpus.level_RF if trial.grader == OUTER else FEATURES[trial.grader](recordings)
        probs_RG = held_out_logistic(features_RF, grade_R, parted, grades)
        stated_R = stated_by_shares(probs_RG, grade_R, parted)
    cpu_s = time.process_time() - started
    if calibrated_RG is None:
        calibrated_RG = probs_RG
    return Outcome(
        metrics=evaluate(grade_R, stated_R, probs_RG, columns, trial.seed),
        given_R=grade_R,
        stated_R=stated_R,
        confidence_R=stated_probability(calibrated_RG, stated_R),
        graded_R=graded_R,
        groups=columns,
        loss=float(log_loss(grade_R, probs_RG).mean()),
        calibrated_loss=float(log_loss(grade_R, calibrated_RG).mean()),
        temperature=temperature,
        least_confidence=least,
        train_loss=train_loss,
        epochs=epochs,
        cpu_s=cpu_s,
    )


def _fewer(split: Split, group_R: list[str], most: int, seed: int) -> Split:
    """Learn from whole groups alone, drawn until there are about `most` recordings."""
    if not most:
        return split
    names = np.array(group_R)
    order = np.random.default_rng([seed, 2]).permutation(np.unique(names[split.learn_R]))
    learn_R = np.zeros_like(split.learn_R)
    for name in order:
        if learn_R.sum() < most:
            learn_R |= split.learn_R & (names == name)
    return replace(split, learn_R=learn_R)


def _heard(trial: Trial, recordings: RecordingSet, parted: list[Split]) -> tuple[list[Heard], float, tuple[int, ...]]:
    heard: dict[str, Heard | None] = {}
    losses, kept = [], []
    for split in parted:
        network, started = _network(trial)
        held = hold_out(
            network,
            recordings,
            np.flatnonzero(split.learn_R),
            np.flatnonzero(split.held_R),
            trial.fit,
            head=trial.head,
            seed=trial.seed,
            device=DEVICE,
            started=started,
        )
        heard |= held.heard
        losses.append(held.train_loss)
        kept.append(held.best_epoch)
    heard_R = [heard[name] for name in recordings.names]
    if trial.by_mean:
        heard_R = [one and replace(one, rule=Mean()) for one in heard_R]
    assert all(one is not None for one in heard_R), "a network gave no numbers"
    return [one for one in heard_R if one is not None], float(np.mean(losses)), tuple(kept)


def _network(trial: Trial) -> tuple[Hearing, bool]:
    plan, rate, grades = trial.plan, trial.sample_rate, len(GRADES)
    if trial.grader == LOG_MEL_CNN:
        return LogMelCNN(plan.segment_samples, rate, grades, trial.head, trial.seed), False
    starter = starter_for(trial.fit.init, rate, plan)
    attention = trial.fit.attention
    return new_network(NETWORKS[trial.grader], plan, rate, grades, trial.head, starter, trial.seed, attention=attention)


def dealt_anew(grade_R: npt.NDArray[np.int64], group_R: list[str], seed: int) -> npt.NDArray[np.int64]:
    """Each group's grades dealt anew: a performer keeps to one grade, and so does the performer who gets it."""
    names, group = np.unique(np.array(group_R), return_inverse=True)
    first = np.array([grade_R[group == n][0] for n in range(len(names))])
    dealt: npt.NDArray[np.int64] = np.random.default_rng([seed, 1]).permutation(first)[group]
    return dealt


def generated(count: int, sample_rate: int, segment_samples: int, folder: str, faults: str = "") -> Generated:
    """The corpus performed at this rate, cut and read back as a job would; faults: as in Trial."""
    seconds = segment_samples / sample_rate
    settings = SegmentSettings(sample_rate=sample_rate, segment_s=seconds, hop_s=seconds)
    corpus = CORPORA[count]
    corpus = replace(corpus, faults=faults or corpus.faults)
    planned = sorted(plan_corpus(corpus), key=lambda recording: recording.name)
    own = Path(tempfile.mkdtemp(prefix=f"{count}-", dir=folder))
    shard = str(own / "shard.parquet")
    with pq.ParquetWriter(shard, segments_schema(settings.segment_samples, settings.sample_rate)) as writer:
        for recording in planned:
            for rows in cut(recording.name, "1", _decoded(recording, sample_rate), settings):
                writer.write_batch(rows)
    labels = {p.name: [Label(p.name, GRADES.index(p.grade), p.performer)] for p in planned}
    recordings = read_recordings(fs.LocalFileSystem(), [shard], labels, settings, str(own))
    assert recordings.names == tuple(p.name for p in planned), "no performance is silent"
    level_RF = level_features(pq.read_table(shard, columns=FEATURE_COLUMNS), list(recordings.names))
    return Generated(recordings, level_RF, tuple(planned))


def _decoded(planned: PlannedRecording, sample_rate: int) -> Decoded:
    """As the loader would give it, had the recording been made at this rate."""
    samples_T = render_recording(planned, sample_rate, channels=1)[0]
    frame = round(FRAME_S * sample_rate)
    whole = len(samples_T) // frame * frame
    return Decoded(
        samples_T=samples_T,
        sample_rate=sample_rate,
        frame_power_F=np.square(samples_T[:whole].reshape(-1, frame), dtype=np.float64).mean(axis=1),
        duration_s=len(samples_T) / sample_rate,
        source_rate=sample_rate,
        channels=1,
        codec="none",
        warnings=(),
    )
