"""Does the ear hear how well somebody plays whom it has never heard? The ablation of network and starter. (Takes long.)

Question: on 156 generated recordings by 52 performers, whose pieces, instruments and performers the starter never met,
what do SampleCNN, the rhythm branch and both joined tell, with and without the starter, from all other recordings and
from few, at 500 and at 2000 Hz? Baselines: the majority, and rhythm statistics with logistic regression; "above" is the
kappa beyond the latter's, both resampled together. Noise guard: as in trials.py; three seeds of folds, start and draws
where the row says so; 95 % intervals over what is held out.

    python -m benchmarks ear

Nothing is chosen here: networks, starter and training were settled on other corpora (docs/model.md).
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.trials import JOINED, MODEL, RHYTHM, Outcome, Trial, run_trials
from samplecnn.baselines import ONSETS
from samplecnn.contract import PIECE
from samplecnn.metrics import kappa_difference
from samplecnn.recipe import NO_STARTER, FitSettings

SCRATCH = FitSettings(init=NO_STARTER)
SEEDS = (0, 1, 2)
FEW = (15, 45)


def _ways(seeds: Sequence[int], graders: Sequence[str], base: Trial) -> list[Trial]:
    return [replace(base, grader=grader, seed=seed) for grader in graders for seed in seeds]


AT_500 = Trial(156, folds=5, fit=FitSettings())
PARTS = (ONSETS, RHYTHM, JOINED)
MAIN = [
    *_ways(SEEDS, PARTS, AT_500),
    *_ways(SEEDS[:1], PARTS, replace(AT_500, group=(PIECE,))),
]
ABLATION = [
    *_ways(SEEDS[:1], (MODEL,), AT_500),
    *_ways(SEEDS[:1], (RHYTHM, JOINED), replace(AT_500, fit=SCRATCH)),
    *(trial for few in FEW for trial in _ways(SEEDS[:1], PARTS, replace(AT_500, learn=few))),
    *(trial for few in FEW for trial in _ways(SEEDS[:1], (RHYTHM,), replace(AT_500, learn=few, fit=SCRATCH))),
]
QUICK = [
    replace(AT_500, recordings=15, folds=2, grader=grader, fit=FitSettings(epochs=1, crops=1))
    for grader in (ONSETS, RHYTHM)
]


def run(quick: bool) -> list[Table]:
    """A table each: the defaults, the ablation."""
    if quick:
        return [_table("Quick", QUICK)]
    return [
        _table("156 recordings at 500 Hz, defaults", MAIN),
        _table("156 recordings at 500 Hz: what brings what", ABLATION),
    ]


def _table(title: str, trials: list[Trial]) -> Table:
    rows: list[tuple[str | float, ...]] = []
    found = run_trials(trials)
    floors = {_key(t): o for t, o in zip(trials, found, strict=True) if t.grader == ONSETS}
    for trial, outcome in zip(trials, found, strict=True):
        m = outcome.metrics
        learnt = f"{trial.learn} of the others" if trial.learn else "all others"
        from_starter = "-" if trial.grader == ONSETS else "no" if trial.fit.init == NO_STARTER else "yes"
        held_out = f"{' and '.join(trial.group)}, seed {trial.seed}"
        above = _above(outcome, floors.get(_key(trial)))
        figures = (str(m.accuracy), str(m.kappa), above, m.p_value, f"{m.spearman:.2f}", outcome.cpu_s)
        rows.append((held_out, learnt, trial.grader, from_starter, *figures))
    columns = (
        "held out by",
        "learnt from",
        "grader",
        "starter",
        "accuracy",
        "kappa",
        "above",
        "p",
        "rank corr.",
        "CPU s",
    )
    return Table(title, columns, rows)


def _key(trial: Trial) -> tuple[tuple[str, ...], int, int, int]:
    return trial.group, trial.seed, trial.learn, trial.sample_rate


def _above(outcome: Outcome, floor: Outcome | None) -> str:
    if floor is None or floor is outcome:
        return "-"
    return str(kappa_difference(outcome.given_R, outcome.stated_R, floor.stated_R, outcome.groups, 0))
