"""What does the whole recording tell beyond its segments? All rules of merging on the same ears. (Takes long.)

Question: kappa on performers (or pieces) that were not heard, where grades follow everything a player does (156
recordings, the ear's corpus), and where they differ in nothing but what takes minutes: a tempo that slides, memory
slips, dynamics that fade (153 recordings; of the faults that a segment can tell, all grades have the same). Baseline:
the mean over segments; "above" is the kappa beyond it, both resampled together, and p of as large a difference where
the two are dealt anew to each group. "End to end" is the same network trained from whole recordings, its attention with
it (--learn-from recordings). Ceiling: a regression that is told the size of every fault of the player, as drawn, and
hears nothing. Noise guard: all other rules merge what one network said, three seeds of folds, start and
draws; 95 % intervals over what is held out. And what does the course of a recording cost beside hearing it?

    python -m benchmarks context

Rules, features and PENALTY were settled on other corpora (docs/tried-and-dropped.md), nothing on these.
"""

import copy
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from benchmarks.measure import Table
from benchmarks.trials import DEVICE, GLOBAL, generated, kappa_difference_p
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.bags import GatedAttention, SequenceContext, fit_learnt
from samplecnn.baselines import held_out_logistic
from samplecnn.batches import RecordingSet, held_back
from samplecnn.calibration import stated_by_shares
from samplecnn.contract import PERFORMER, PIECE
from samplecnn.fit import fit
from samplecnn.folds import Split, splits
from samplecnn.hearing import Hearing, own_threads
from samplecnn.infer import hear
from samplecnn.merge import (
    Activity,
    Attended,
    Course,
    LinearSoftmax,
    Mean,
    MergeRule,
    SegmentOutputs,
    Spread,
    Vote,
    cuts_at_shares,
    expected_score,
)
from samplecnn.merging import fit_rule, learn_to_merge
from samplecnn.metrics import evaluate, kappa_difference
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.performances.corpus import GRADES
from samplecnn.recipe import FitSettings
from samplecnn.starter import new_network, starter_for
from samplecnn.tempo import course_of

Int64 = npt.NDArray[np.int64]
Fit = Callable[[list[SegmentOutputs], Int64, list[str]], MergeRule]

MEAN, CHOSEN, TOLD = "mean", "chosen", "told every fault"
RULES: dict[str, Fit] = {
    MEAN: lambda segments_R, grade_R, group_R: Mean(),
    "vote": lambda segments_R, grade_R, group_R: Vote(),
    "activity": lambda segments_R, grade_R, group_R: Activity(),
    "linear softmax": lambda segments_R, grade_R, group_R: LinearSoftmax(),
    "spread": lambda segments_R, grade_R, group_R: fit_rule(Spread(), segments_R, grade_R),
    "course": lambda segments_R, grade_R, group_R: fit_rule(Course(), segments_R, grade_R),
    "attention": lambda segments_R, grade_R, group_R: fit_learnt(GatedAttention, segments_R, grade_R, 0),
    "sequence": lambda segments_R, grade_R, group_R: fit_learnt(SequenceContext, segments_R, grade_R, 0),
    CHOSEN: lambda segments_R, grade_R, group_R: learn_to_merge(segments_R, grade_R, group_R, 0).rule,
}
END_TO_END: dict[str, MergeRule] = {"end to end, mean": Mean(), "end to end, attention": Attended()}
ON_RECORDINGS = FitSettings(learn_from="recordings", crops=8, batch_size=32)
LEAST_FAULT = 1e-6  # 0 has no logarithm
RATE, FINER_RATE = 500, 2000
SEGMENT_S = 10
EAR = 156
WAYS = ((PERFORMER, 0), (PERFORMER, 1), (PERFORMER, 2), (PIECE, 0))


@dataclass(frozen=True)
class Task:
    """One cross-validation: which corpus, what splits keep apart, folds, seed; end_to_end: how whole recordings are
    learnt from beside it, None: not at all."""

    recordings: int
    group: str
    folds: int
    seed: int
    fit: FitSettings
    end_to_end: FitSettings | None = None
    sample_rate: int = RATE


def run(quick: bool) -> Iterator[Table]:
    """A table a corpus, and the costs."""
    if quick:
        short, whole = FitSettings(epochs=1, crops=1), replace(ON_RECORDINGS, epochs=1, crops=2, batch_size=16)
        yield _table("Quick", [Task(15, PERFORMER, 3, 0, short, whole)])
        yield _costs(15)
        return
    for title, count in (
        ("Only what takes minutes differs: 153 recordings by 51 performers", GLOBAL),
        ("Everything differs: 156 recordings by 52 performers", EAR),
    ):
        tasks = [Task(count, group, 5, seed, FitSettings()) for group, seed in WAYS]
        yield _table(title, [replace(tasks[0], end_to_end=ON_RECORDINGS), *tasks[1:]])
        finer = Task(count, PERFORMER, 5, 0, FitSettings(), sample_rate=FINER_RATE)
        yield _table(f"The same at {FINER_RATE} Hz", [finer])
    yield _costs(EAR)


def _table(title: str, tasks: list[Task]) -> Table:
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(tasks)), multiprocessing.get_context("spawn")) as pool:
        rows = [row for found in pool.map(_merged, tasks) for row in found]
    columns = ("held out by", "merge", "accuracy", "kappa", "above the mean", "p", "rank corr.", "A and C confused")
    return Table(title, columns, rows)


def _merged(task: Task) -> list[tuple[str | float, ...]]:
    """One row a rule."""
    own_threads(1)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        corpus = generated(task.recordings, task.sample_rate, SEGMENT_S * task.sample_rate, folder)
        group_R = [str(getattr(planned, task.group)) for planned in corpus.planned]
        recordings = replace(corpus.recordings, groups=tuple(group_R))
        parted = splits(recordings.grade_R, [group_R], task.folds, task.seed)
        names = [*RULES, *(END_TO_END if task.end_to_end else ())]
        stated = {name: np.zeros(len(recordings), np.int64) for name in names}
        score = {name: np.zeros(len(recordings)) for name in names}
        chosen = 0
        for split in parted:
            segments_R, taught_R = _segments(recordings, split, task.fit, task.seed)
            whole_R = _segments(recordings, split, task.end_to_end, task.seed)[0] if task.end_to_end else []
            learn, given_R = np.flatnonzero(split.learn_R).tolist(), recordings.grade_R[split.learn_R]
            for name in names:
                if name in RULES:
                    said_R = segments_R
                    rule = RULES[name]([taught_R[i] for i in learn], given_R, [group_R[i] for i in learn])
                else:
                    said_R, rule = whole_R, END_TO_END[name]
                score_R = np.array([merged.score for s in said_R if (merged := rule(s))])  # none of them is silent
                cuts_K = cuts_at_shares(score_R[split.learn_R], given_R, len(GRADES))
                score[name][split.held_R] = score_R[split.held_R]
                stated[name][split.held_R] = (score_R[split.held_R, None] > cuts_K).sum(axis=1)
                chosen += name == CHOSEN and isinstance(rule, Course)
        fault_RX = np.log([[LEAST_FAULT + size for size in asdict(p.faults).values()] for p in corpus.planned])
        told_RG = held_out_logistic(fault_RX, recordings.grade_R, parted, len(GRADES))
        stated[TOLD] = stated_by_shares(told_RG, recordings.grade_R, parted)
        score[TOLD] = np.array([expected_score(probs_G) for probs_G in told_RG])
    rows: list[tuple[str | float, ...]] = []
    for name in (*names, TOLD):
        m = evaluate(recordings.grade_R, stated[name], np.eye(len(GRADES))[stated[name]], [group_R], task.seed)
        pair = (recordings.grade_R, stated[name], stated[MEAN], [group_R], task.seed)
        above = ("-", "-") if name == MEAN else (str(kappa_difference(*pair)), kappa_difference_p(*pair))
        told = f"{name} (course in {chosen} of {len(parted)})" if name == CHOSEN else name
        rank = spearmanr(score[name], recordings.grade_R).statistic
        apart = float((np.abs(stated[name] - recordings.grade_R) == len(GRADES) - 1).mean())
        figures = (str(m.accuracy), str(m.kappa), *above, f"{rank:.2f}", f"{apart:.1%}")
        rows.append((f"{task.group}, seed {task.seed}", told, *figures))
    return rows


def _segments(
    recordings: RecordingSet, split: Split, settings: FitSettings, seed: int
) -> tuple[list[SegmentOutputs], list[SegmentOutputs]]:
    """What the default network, trained on what a split learns from, says of all recordings; and what merging is learnt
    from: the same, or where training has left the starter what that said (cross_validation.merging_after)."""
    network, started = _network(recordings.settings.sample_rate, settings, seed)
    assert started, "a starter ships for these segments"
    as_it_was, best_epoch = copy.deepcopy(network).eval(), 0
    train, valid = held_back(recordings.subset(np.flatnonzero(split.learn_R)), seed)
    for report in fit(network, train, valid, settings, seed=seed, device=DEVICE, started=started):
        best_epoch = report.epoch if report.best else best_epoch
    said = _said(network, recordings)
    return said, _said(as_it_was, recordings) if best_epoch else said


def _network(sample_rate: int, settings: FitSettings, seed: int) -> tuple[Hearing, bool]:
    plan, name = plan_for(SEGMENT_S * sample_rate), NetworkSettings().network
    starter = starter_for(settings.init, sample_rate, plan)
    attention = settings.attention
    return new_network(name, plan, sample_rate, len(GRADES), DEFAULT_HEAD, starter, seed, attention=attention)


def _said(network: Hearing, recordings: RecordingSet) -> list[SegmentOutputs]:
    found = []
    for i in range(len(recordings)):
        windows, waveform_T, gain = recordings.windows(i), recordings.waveform(i), float(recordings.gain_R[i])
        outputs_SO, embedding_SE, attention_S = hear(network, waveform_T, gain, windows, DEVICE)
        probs_SG = HEADS[DEFAULT_HEAD].probs(outputs_SO).numpy()
        course_C = course_of(waveform_T, recordings.active_RF[i], gain, recordings.settings.sample_rate)
        found.append(
            SegmentOutputs(
                probs_SG,
                embedding_SE.numpy(),
                windows.activity_S,
                windows.start_s,
                course_C,
                attention_S.double().numpy(),
            )
        )
    return found


def _costs(count: int) -> Table:
    own_threads(1)
    network, _ = _network(RATE, FitSettings(), seed=0)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = generated(count, RATE, SEGMENT_S * RATE, folder).recordings
        begun = time.process_time()
        for i in range(len(recordings)):
            gain = float(recordings.gain_R[i])
            hear(network.eval(), recordings.waveform(i), gain, recordings.windows(i), DEVICE)
        heard = time.process_time()
        for i in range(len(recordings)):
            course_of(recordings.waveform(i), recordings.active_RF[i], float(recordings.gain_R[i]), RATE)
        hearing, course = heard - begun, time.process_time() - heard
    rows: list[tuple[str | float, ...]] = [(count, hearing, course, (hearing + course) / hearing)]
    columns = ("recordings", "hearing, CPU s", "course, CPU s", "both, against hearing alone")
    return Table("What the course costs beside the network (decoding not counted)", columns, rows)
