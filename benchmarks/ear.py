"""Does the ear hear how well somebody plays whom it has never heard? The ablation of network and starter. (Takes long.)

Question: on 156 generated recordings by 52 performers, whose pieces, instruments and performers the starter never met,
what do SampleCNN, the rhythm branch and both joined tell, with and without the starter, from all other recordings and
from few, at 500 and at 2000 Hz? Baselines: the majority, and rhythm statistics with logistic regression; "above" is the
kappa beyond the latter's, both resampled together. And what do training and hearing cost, beside SampleCNN alone?
Noise guard: as in trials.py; three seeds of folds, start and draws where the row says so; 95 % intervals over what is
held out.

    python -m benchmarks ear

Segments are merged by their mean: what the whole recording tells beyond that is context.py's. Nothing is chosen
here: networks, starter and training were settled on other corpora (docs/model.md).
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.measure import Table
from benchmarks.trials import DEVICE, JOINED, MODEL, RHYTHM, Outcome, Trial, generated, run_trials
from samplecnn.architecture import plan_for
from samplecnn.baselines import ONSETS
from samplecnn.batches import held_back
from samplecnn.contract import PIECE
from samplecnn.evaluation import NETWORKS
from samplecnn.fit import fit
from samplecnn.hearing import own_threads
from samplecnn.infer import hear
from samplecnn.metrics import kappa_difference
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.performances.corpus import GRADES
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.starter import new_network, starter_for

SCRATCH = FitSettings(init=NO_STARTER)
SEEDS = (0, 1, 2)
FEW = (15, 45)


def _ways(seeds: Sequence[int], graders: Sequence[str], base: Trial) -> list[Trial]:
    return [replace(base, grader=grader, seed=seed) for grader in graders for seed in seeds]


AT_500 = Trial(156, folds=5, fit=FitSettings(), by_mean=True)
AT_2000 = replace(AT_500, plan=plan_for(20_000), sample_rate=2000)
PARTS = (ONSETS, MODEL, RHYTHM, JOINED)
BESIDE = (ONSETS, JOINED)
MAIN = {
    500: [*_ways(SEEDS, PARTS, AT_500), *_ways(SEEDS[:1], PARTS, replace(AT_500, group=(PIECE,)))],
    2000: [
        *_ways(SEEDS, BESIDE, AT_2000),
        *_ways(SEEDS[:1], (MODEL, RHYTHM), AT_2000),
        *_ways(SEEDS[:1], BESIDE, replace(AT_2000, group=(PIECE,))),
    ],
}
ABLATION = [
    *_ways(SEEDS[:1], (MODEL, RHYTHM, JOINED), replace(AT_500, fit=SCRATCH)),
    *(trial for few in FEW for trial in _ways(SEEDS, BESIDE, replace(AT_500, learn=few))),
    *(trial for few in FEW for trial in _ways(SEEDS[:1], (MODEL, RHYTHM), replace(AT_500, learn=few))),
    *(trial for few in FEW for trial in _ways(SEEDS[:1], (RHYTHM,), replace(AT_500, learn=few, fit=SCRATCH))),
]
QUICK = [
    replace(AT_500, recordings=15, folds=2, grader=grader, fit=FitSettings(epochs=1, crops=1))
    for grader in (ONSETS, RHYTHM)
]


def run(quick: bool) -> list[Table]:
    """A table each: the defaults at either rate, the ablation, the costs."""
    if quick:
        return [_table("Quick", QUICK), _costs(QUICK[0].recordings, QUICK[0].fit)]
    return [
        *(_table(f"156 recordings at {rate} Hz, defaults", trials) for rate, trials in MAIN.items()),
        _table("156 recordings at 500 Hz: what brings what", ABLATION),
        _costs(AT_500.recordings, AT_500.fit),
    ]


def _costs(count: int, settings: FitSettings) -> Table:
    """One training on all recordings, and one hearing of them, in CPU seconds of one thread."""
    own_threads(1)
    plan, rate = AT_500.plan, AT_500.sample_rate
    starter = starter_for(settings.init, rate, plan)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = generated(count, rate, plan.segment_samples, folder).recordings
        for name in (MODEL, RHYTHM, JOINED):
            network, started = new_network(NETWORKS[name], plan, rate, len(GRADES), DEFAULT_HEAD, starter, seed=0)
            begun = time.process_time()
            train, valid = held_back(recordings, 0)
            for _ in fit(network, train, valid, settings, seed=0, device=DEVICE, started=started):
                pass
            trained = time.process_time()
            for i in range(len(recordings)):
                gain = float(recordings.gain_R[i])
                hear(network, recordings.waveform(i), gain, recordings.windows(i), DEVICE)
            found[name] = (trained - begun, time.process_time() - trained)
    rows: list[tuple[str | float, ...]] = [
        (name, training, hearing, hearing / found[MODEL][1]) for name, (training, hearing) in found.items()
    ]
    columns = ("network", "training, CPU s", "hearing, CPU s", "hearing, against SampleCNN alone")
    return Table(f"{count} recordings at 500 Hz: costs, one thread", columns, rows)


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
