"""How good is the default model beside its baselines, and is chance found to be chance? (Takes minutes.)

Question: the evaluation of 15 and of 90 generated recordings, held out by performer, by piece and by both; and the same
graders where grades were dealt anew to the performers, on 150 recordings. Baseline: the majority and four graders more.
Ceiling: none known. Noise guard: as in trials.py; 95 % intervals over the groups that are held out.

    python -m benchmarks honesty

The shuffled table has narrower networks and fewer epochs: it asks whether anything leaks, not how much is learnt.
Figures are of uncalibrated predictions (trials.py says why), but for the log loss. Recordings have no file here, so
"loudness, duration, format" is level and duration alone.
"""

import math
from dataclasses import replace

import numpy as np

from benchmarks.measure import Table
from benchmarks.trials import MODEL, Trial, narrow, run_trials
from samplecnn.architecture import plan_for
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, OUTER
from samplecnn.contract import PERFORMER, PIECE
from samplecnn.evaluation import MAJORITY
from samplecnn.recipe import NO_AUGMENTATION, FitSettings

GRADERS = (MAJORITY, OUTER, LOG_MEL, LOG_MEL_CNN, MODEL)
SHORT = FitSettings(epochs=6, crops=4, learning_rate=1e-3, patience=6, augment=NO_AUGMENTATION)
NARROW = narrow(plan_for(5000), 4)

TASKS = [
    Trial(15, folds=5),
    Trial(15, group=(PIECE,), folds=3),
    Trial(90, fit=FitSettings(epochs=8, crops=4), folds=3),
    Trial(90, fit=FitSettings(epochs=8, crops=4), group=(PIECE,), folds=3),
    Trial(90, NARROW, fit=SHORT, group=(PERFORMER, PIECE), folds=3),
]
SHUFFLES = 60
SHUFFLED = [Trial(150, NARROW, fit=SHORT, shuffled=True, folds=3, seed=seed) for seed in (0, 1)]
QUICK = Trial(15, NARROW, fit=FitSettings(epochs=1, crops=1), folds=3)


def run(quick: bool) -> list[Table]:
    """One row a grader and way of holding out."""
    return [
        _table("Generated recordings held out, 95 % intervals over groups", [QUICK] if quick else TASKS),
        _table("Grades dealt anew to the performers: chance", [replace(QUICK, shuffled=True)] if quick else SHUFFLED),
        _often(QUICK if quick else SHUFFLED[0], 2 if quick else SHUFFLES),
    ]


def _often(task: Trial, shuffles: int) -> Table:
    """A single shuffle has a p-value of any size; over many of them these must be uniform."""
    rows: list[tuple[str | float, ...]] = []
    for grader in (OUTER, LOG_MEL):
        dealt = [replace(task, grader=grader, shuffled=True, seed=seed) for seed in range(shuffles)]
        found = [done.metrics for done in run_trials(dealt)]
        p, kappa = np.array([m.p_value for m in found]), np.array([m.kappa.value for m in found])
        spread = f"{kappa.mean():.2f} ({kappa.std():.2f})"
        rows.append((grader, float((p <= 0.05).mean()), float((p <= 0.01).mean()), spread))
    columns = ("grader", "share with p <= 0.05", "share with p <= 0.01", "kappa: mean (sd)")
    return Table(f"{shuffles} times grades dealt anew, {task.recordings} recordings", columns, rows)


def _table(title: str, tasks: list[Trial]) -> Table:
    trials = [replace(task, grader=grader) for task in tasks for grader in GRADERS]
    rows: list[tuple[str | float, ...]] = []
    for trial, done in zip(trials, run_trials(trials), strict=True):
        m = done.metrics
        held_out = f"{trial.recordings} by {' and '.join(trial.group)}, {trial.folds} folds, seed {trial.seed}"
        loss = f"{done.calibrated_loss:.2f}" if done.calibrated_loss < math.inf else "-"
        figures = (str(m.accuracy), str(m.kappa), str(m.mae), m.p_value, f"{m.spearman:.2f}", loss, done.cpu_s)
        rows.append((held_out, trial.grader, *figures))
    columns = ("recordings", "grader", "accuracy", "kappa", "mean distance", "p", "rank corr.", "log loss", "CPU s")
    return Table(title, columns, rows)
