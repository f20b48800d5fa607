"""Which network, recipe, head and augmentation for 10 s at 500 Hz? (Takes minutes: not part of the default run.)

Question: does anything that can be chosen differ by more than chance on performers that were not heard?
Baseline: chance (accuracy 0.33, kappa 0, loss 1.099 nats). Ceiling: none known; the recordings' own skill is not heard
at 500 Hz by any of these. Noise guard: the same folds, start weights and draws for every contestant, 95 % intervals
over performers, one thread each, CPU seconds of the trial itself.

    python -m benchmarks choose_model

Folds are grouped by performer, and each holds back a fifth of its training recordings to choose the epoch, as `train`
and `evaluate` do (trials.py).
"""

from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.plans import PLANS
from benchmarks.trials import Trial, run_trials
from samplecnn.architecture import HEAD_NAMES
from samplecnn.recipe import AUGMENTATIONS, NO_AUGMENTATION, NO_STARTER, FitSettings

_SHORT = FitSettings(
    init=NO_STARTER, epochs=8, crops=4, batch_size=16, learning_rate=1e-3, patience=8, augment=NO_AUGMENTATION
)
_DEMO = FitSettings(
    init=NO_STARTER, epochs=15, crops=8, batch_size=16, learning_rate=1e-3, patience=5, augment=NO_AUGMENTATION
)
_MODERN = FitSettings(init=NO_STARTER, epochs=8, crops=4, patience=8, augment=NO_AUGMENTATION)
_PAPER = FitSettings(recipe="paper", crops=4)
_EVERYTHING = ",".join(AUGMENTATIONS)
SEEDS = (0, 1, 2)  # of the two recipes; everything else differs from `modern` in one thing, with the first

_SHAPES: list[tuple[str, Trial]] = [
    *(("A", Trial(60, fit=replace(_SHORT, learning_rate=rate))) for rate in (3e-4, 1e-3, 3e-3)),
    *((plan, Trial(60, PLANS[plan], fit=_SHORT)) for plan in ("B", "E")),
    ("A", Trial(60, fit=replace(_SHORT, batch_size=32))),
    ("A", Trial(60, fit=replace(_SHORT, epochs=24, patience=24))),
    *(
        ("A", Trial(15, fit=replace(_DEMO, learning_rate=rate), folds=5, seed=seed))
        for rate in (3e-4, 1e-3)
        for seed in (0, 1)
    ),
]
_RECIPES: list[tuple[str, Trial]] = [
    *((f"modern, seed {seed}", Trial(60, fit=_MODERN, seed=seed, folds=3)) for seed in SEEDS),
    *((f"paper, seed {seed}", Trial(60, fit=_PAPER, seed=seed, folds=3)) for seed in SEEDS),
    *((f"modern, {head}", Trial(60, fit=_MODERN, head=head, folds=3)) for head in HEAD_NAMES[1:]),
    *(
        (f"modern, {names}", Trial(60, fit=replace(_MODERN, augment=names), folds=3))
        for names in (*AUGMENTATIONS, _EVERYTHING)
    ),
]
_QUICK: list[tuple[str, Trial]] = [
    (
        "A",
        Trial(
            15,
            fit=replace(
                _DEMO,
                epochs=1,
                crops=1,
            ),
            folds=5,
        ),
    )
]
FIGURES = ("accuracy", "kappa", "p", "loss: trained on", "loss: unseen", "calibrated", "epochs kept", "CPU s")


def run(quick: bool) -> list[Table]:
    """One row a trial."""
    return [_shapes(_QUICK if quick else _SHAPES), _recipes(_QUICK if quick else _RECIPES)]


def _shapes(named: list[tuple[str, Trial]]) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for (plan, trial), figures in zip(named, _figures(named), strict=True):
        fit = trial.fit
        chosen = (f"{fit.epochs} x {fit.crops}", str(trial.seed))
        rows.append((str(trial.recordings), plan, fit.learning_rate, fit.batch_size, *chosen, *figures))
    columns = ("recordings", "plan", "learning rate", "batch", "epochs x crops", "seed", *FIGURES)
    return Table("Performers that were not heard in training, 95 % intervals, losses in nats", columns, rows)


def _recipes(named: list[tuple[str, Trial]]) -> Table:
    rows = [(name, *figures) for (name, _), figures in zip(named, _figures(named), strict=True)]
    return Table("The same for 60 recordings, 3 folds: recipes, heads, augmentation", ("what", *FIGURES), rows)


def _figures(named: list[tuple[str, Trial]]) -> list[tuple[str | float, ...]]:
    return [
        (
            *(str(done.metrics.accuracy), str(done.metrics.kappa), done.metrics.p_value),
            *(f"{loss:.2f}" for loss in (done.train_loss, done.loss, done.calibrated_loss)),
            *(", ".join(map(str, done.epochs)), done.cpu_s),
        )
        for done in run_trials([trial for _, trial in named])
    ]
