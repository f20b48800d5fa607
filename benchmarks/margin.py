"""By how much does the default lie above every baseline? (Takes half an hour.)

Question: kappa of the default (SampleCNN and rhythm from the starter, merged as each fold chooses, so with the course
of the whole recording where it tells something) on performers that were not heard, of 312 generated recordings by 104
performers, whose pieces, instruments and performers the starter never met. Baselines: all that `evaluate` has, each on
the same folds; "default above" is the kappa of the default beyond it, both resampled together, and p of as large a
difference where the two are dealt anew to each performer. Noise guard: three seeds of folds, start and draws; 95 %
intervals over performers. Twice as many recordings as in ear.py, whose intervals of the difference reach 0 on one seed
of three. Nothing was chosen on these.

    python -m benchmarks margin
"""

from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.trials import JOINED, LARGE, Trial, kappa_difference_p, run_trials
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, ONSETS, OUTER
from samplecnn.evaluation import MAJORITY
from samplecnn.metrics import kappa_difference
from samplecnn.recipe import FitSettings

GRADERS = (JOINED, ONSETS, LOG_MEL_CNN, LOG_MEL, OUTER, MAJORITY)
SEEDS = (0, 1, 2)
TASK = Trial(LARGE, folds=5)
QUICK = Trial(15, folds=3, fit=FitSettings(epochs=1, crops=1))


def run(quick: bool) -> list[Table]:
    """One row a seed and grader."""
    task, seeds = (QUICK, SEEDS[:1]) if quick else (TASK, SEEDS)
    done = run_trials([replace(task, grader=grader, seed=seed) for seed in seeds for grader in GRADERS])
    rows: list[tuple[str | float, ...]] = []
    for number, seed in enumerate(seeds):
        found = done[number * len(GRADERS) : (number + 1) * len(GRADERS)]
        default = found[0]
        for grader, one in zip(GRADERS, found, strict=True):
            m = one.metrics
            both = (default.given_R, default.stated_R, one.stated_R, default.groups, seed)
            above = ("-", "-") if one is default else (str(kappa_difference(*both)), kappa_difference_p(*both))
            rows.append((seed, grader, str(m.accuracy), str(m.kappa), *above, f"{m.spearman:.2f}", one.cpu_s))
    columns = ("seed", "grader", "accuracy", "kappa", "default above", "p", "rank corr.", "CPU s")
    return [Table(f"{task.recordings} generated recordings held out by performer, {task.folds} folds", columns, rows)]
