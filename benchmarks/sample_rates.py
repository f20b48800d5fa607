"""What does a higher sample rate bring, and what does it cost? (Takes minutes: not part of the default run.)

Question: accuracy, kappa and CPU seconds against the rate, on 90 recordings by 30 performers, held out by performer and
by piece; the default rate and the one that looked best with three seeds.
Baseline: chance, and log-mel statistics at the same rate. Networks are comparable, not equal: 10 s each, stride and
pools from the length by one rule (architecture.plan_for), so that a doubled rate adds a block, and all are a quarter as
wide as the default: only so can two cores afford the higher rates. Noise guard: as in trials.py.

    python -m benchmarks sample_rates
"""

from benchmarks.measure import Table
from benchmarks.trials import MODEL, Trial, narrow, run_trials
from samplecnn.architecture import plan_for
from samplecnn.baselines import LOG_MEL
from samplecnn.contract import PERFORMER, PIECE
from samplecnn.recipe import NO_AUGMENTATION, NO_STARTER, FitSettings

RATES = (500, 1000, 2000, 4000, 8000, 16000)  # the last takes half of all the time
FINALISTS, SEEDS = (500, 2000), (0, 1, 2)
SEGMENT_S = 10
NARROWER = 4
FIT = FitSettings(init=NO_STARTER, epochs=6, crops=4, learning_rate=1e-3, patience=6, augment=NO_AUGMENTATION)


def run(quick: bool) -> list[Table]:
    """One row a rate and grader."""
    trials = [
        Trial(
            15 if quick else 90,
            narrow(plan_for(rate * SEGMENT_S), NARROWER),
            rate,
            grader,
            fit=FitSettings(init=NO_STARTER, epochs=1, crops=1) if quick else FIT,
            group=(group,),
            folds=3,
            seed=seed,
        )
        for group in (PERFORMER, PIECE)
        for grader in (MODEL, LOG_MEL)
        for rate in (RATES[:1] if quick else RATES)
        for seed in (SEEDS if rate in FINALISTS and not quick else SEEDS[:1])
    ]
    rows: list[tuple[str | float, ...]] = []
    for trial, done in zip(trials, run_trials(trials), strict=True):
        m = done.metrics
        shape = f"{len(trial.plan.pools)} blocks" if trial.grader == MODEL else ""
        figures = (
            str(m.accuracy),
            str(m.kappa),
            str(m.mae),
            m.p_value,
            f"{done.train_loss:.2f}" if trial.grader == MODEL else "-",
            done.cpu_s,
        )
        rows.append((trial.group[0], trial.sample_rate, trial.seed, trial.grader, shape, *figures))
    columns = (
        "held out by",
        "Hz",
        "seed",
        "grader",
        "network",
        "accuracy",
        "kappa",
        "mean distance",
        "p",
        "loss: trained on",
        "CPU s",
    )
    return [Table("90 recordings by 30 performers in 3 folds, 95 % intervals", columns, rows)]
