"""How good is the default model beside its baselines, on honest splits? (Takes minutes: not part of the default run.)

Question: the evaluation of 15 and of 90 generated recordings, held out by performer, by piece and by both; and the same
graders where grades were dealt anew to the performers, on 150 recordings. Baseline: the majority and four graders more.
Ceiling: none known. Noise guard: as in trials.py; 95 % intervals over the groups that are held out; three seeds (of
folds, start weights and draws) on 90. How often chance looks like skill over many deals: chance.py.

    python -m benchmarks honesty

"SampleCNN" starts from nothing here, as published; "SampleCNN + rhythm" is the default, with its starter. Figures are
of uncalibrated predictions, but for the log loss. Recordings have no file here, so "loudness, duration, format" is
level and duration alone.
"""

import math
from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.trials import JOINED, MODEL, Trial, run_trials
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, ONSETS, OUTER
from samplecnn.contract import PERFORMER, PIECE
from samplecnn.evaluation import MAJORITY
from samplecnn.recipe import NO_STARTER, FitSettings

GRADERS = (MAJORITY, OUTER, LOG_MEL, ONSETS, LOG_MEL_CNN, MODEL, JOINED)
SEEDS = (0, 1, 2)
TASKS = [
    Trial(15, folds=5),
    Trial(15, group=(PIECE,), folds=3),
    *(Trial(90, group=group, folds=3, seed=seed) for group in ((PERFORMER,), (PIECE,)) for seed in SEEDS),
    Trial(90, group=(PERFORMER, PIECE), folds=3),
]
SHUFFLED = [Trial(150, shuffled=True, folds=3, seed=seed) for seed in (0, 1)]
QUICK = Trial(15, fit=FitSettings(epochs=1, crops=1), folds=3)


def run(quick: bool) -> list[Table]:
    """One row a grader and way of holding out."""
    return [
        _table("Generated recordings held out, 95 % intervals over groups", [QUICK] if quick else TASKS),
        _table("Grades dealt anew to the performers: chance", [replace(QUICK, shuffled=True)] if quick else SHUFFLED),
    ]


def _table(title: str, tasks: list[Trial]) -> Table:
    trials = [_graded_by(grader, task) for task in tasks for grader in GRADERS]
    rows: list[tuple[str | float, ...]] = []
    for trial, done in zip(trials, run_trials(trials), strict=True):
        m = done.metrics
        held_out = f"{trial.recordings} by {' and '.join(trial.group)}, {trial.folds} folds, seed {trial.seed}"
        loss = f"{done.calibrated_loss:.2f}" if done.calibrated_loss < math.inf else "-"
        figures = (str(m.accuracy), str(m.kappa), str(m.mae), m.p_value, f"{m.spearman:.2f}", loss, done.cpu_s)
        rows.append((held_out, trial.grader, *figures))
    columns = ("recordings", "grader", "accuracy", "kappa", "mean distance", "p", "rank corr.", "log loss", "CPU s")
    return Table(title, columns, rows)


def _graded_by(grader: str, task: Trial) -> Trial:
    fit = replace(task.fit, init=NO_STARTER) if grader == MODEL else task.fit
    return replace(task, grader=grader, fit=fit)
