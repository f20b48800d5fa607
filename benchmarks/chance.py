"""Is chance found to be chance? (Takes minutes: not part of the default run.)

Question: where grades were dealt anew to the performers of 150 recordings, so that there is nothing to learn, how often
does a grader get a small p-value, and what is its kappa? With performers kept apart, and with performers and pieces.
Baseline: p-values of chance are uniform: 0.05 of them lie at or below 0.05. Noise guard: 60 deals each; of 60, a share
of 0.05 is 3, give or take 3.4 (95 %). The two graders are those that need no training of minutes.

    python -m benchmarks chance
"""

from dataclasses import replace

import numpy as np

from benchmarks.measure import Table
from benchmarks.trials import Trial, run_trials
from samplecnn.baselines import LOG_MEL, OUTER
from samplecnn.contract import PERFORMER, PIECE

GROUPS = ((PERFORMER,), (PERFORMER, PIECE))
DEALT = Trial(150, shuffled=True, folds=3)
DEALS = 60


def run(quick: bool) -> list[Table]:
    """One row a grader and way of holding out."""
    deals, task = (2, replace(DEALT, recordings=15)) if quick else (DEALS, DEALT)
    asked = [(group, grader) for group in GROUPS for grader in (OUTER, LOG_MEL)]
    trials = [replace(task, group=group, grader=grader, seed=seed) for group, grader in asked for seed in range(deals)]
    done = run_trials(trials)
    rows: list[tuple[str | float, ...]] = []
    for number, (group, grader) in enumerate(asked):
        found = [outcome.metrics for outcome in done[number * deals : (number + 1) * deals]]
        p, kappa = np.array([m.p_value for m in found]), np.array([m.kappa.value for m in found])
        off = float(np.mean([not m.kappa.low <= 0 <= m.kappa.high for m in found]))
        shares = (f"{(p <= level).mean():.2f}" for level in (0.05, 0.01))
        rows.append((" and ".join(group), grader, *shares, f"{kappa.mean():.2f} ({kappa.std():.2f})", f"{off:.2f}"))
    columns = ("held out by", "grader", "p <= 0.05", "p <= 0.01", "kappa: mean (sd)", "interval without 0")
    return [Table(f"{deals} times grades dealt anew, {task.recordings} recordings: shares of the deals", columns, rows)]
