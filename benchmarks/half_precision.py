"""Does a network that is trained in bfloat16 grade worse? (Takes minutes: not part of the default run.)

Question: agreement with the grades of performers that were not heard, and CPU seconds, of `--bfloat16` beside float32.
Baseline: chance (kappa 0, loss 1.099 nats). Noise guard: folds, start weights and draws of a seed are the same in both
rows of it; 95 % intervals over performers; one thread each, CPU seconds of the trial itself, grading what was held out
in float32 included. What a training step gains stands in `network`.

    python -m benchmarks half_precision
"""

from benchmarks.measure import Table
from benchmarks.trials import JOINED, Trial, run_trials
from samplecnn.recipe import FitSettings

CORPUS, SEEDS, FOLDS = 60, (0, 1, 2), 3
QUICK_CORPUS, QUICK_FIT = 15, {"epochs": 1, "crops": 1}


def run(quick: bool) -> list[Table]:
    """One row a seed and precision: the default network and recipe, from the starter."""
    named: list[tuple[int, str, Trial]] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        for precision in ("float32", "bfloat16"):
            fit = FitSettings(bfloat16=precision == "bfloat16", **(QUICK_FIT if quick else {}))
            corpus = QUICK_CORPUS if quick else CORPUS
            named.append((seed, precision, Trial(corpus, grader=JOINED, fit=fit, folds=FOLDS, seed=seed)))
    rows: list[tuple[str | float, ...]] = [
        (
            *(str(seed), precision, str(done.metrics.accuracy), str(done.metrics.kappa), f"{done.loss:.3f}"),
            *(f"{done.train_loss:.3f}", ", ".join(map(str, done.epochs)), done.cpu_s),
        )
        for (seed, precision, _), done in zip(named, run_trials([trial for *_, trial in named]), strict=True)
    ]
    columns = ("seed", "trained in", "accuracy", "kappa", "loss: unseen", "trained on", "epochs kept", "CPU s")
    return [Table(f"{CORPUS} recordings, {FOLDS} folds, performers that were not heard", columns, rows)]
