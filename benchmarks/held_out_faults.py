"""Does a starter help on a kind of fault that it never heard? (Takes long.)

Question: one kind of fault at a time is left out of pre-training, of the performances (nobody makes more of it than an
expert) and of what is taught. On a corpus where nothing but that kind follows the skill, does the rhythm branch grade
performers that it never heard from there better than from nothing, and how much worse than from a starter that did
hear it? The five kinds hold every fault of the player once. Baselines: from nothing; rhythm statistics; beside them the
starter that ships. Noise guard: all small starters are of the same draws, steps and seed; differences are of kappas on
the same folds, resampled together, 95 % over performers; and the last table has all starters hear all kinds as they
are, before they learnt from any label, so that what is missing can be held against how such starters scatter.

    python -m benchmarks held_out_faults

The corpus is the ear's: its pieces and instruments are none that a starter met, whatever its faults.
"""

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from benchmarks.measure import Table, inputs_folder
from benchmarks.trials import DEVICE, RHYTHM, Generated, Trial, generated, run_trials
from samplecnn.architecture import plan_for
from samplecnn.baselines import ONSETS
from samplecnn.errors import UserError
from samplecnn.evaluation import NETWORKS
from samplecnn.flags import settings_dict
from samplecnn.hearing import own_threads
from samplecnn.metrics import kappa_difference
from samplecnn.network.joined import RhythmNetwork
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.performances.corpus import GRADES
from samplecnn.performances.shards import read_performances, write_shard
from samplecnn.pretraining import Taught, embed, learn, publish
from samplecnn.recipe import NO_STARTER, SHIPPED_STARTER, FitSettings, PretrainSettings
from samplecnn.segments import SegmentSettings
from samplecnn.starter import load_starter, new_network, starter_for


@dataclass(frozen=True)
class Kind:
    """Faults of the player, and the targets that tell of them."""

    faults: tuple[str, ...]
    targets: tuple[str, ...]


KINDS = {
    "timing": Kind(
        ("timing_noise_s", "hand_noise_s", "chord_spread_s"),
        (
            *("log_timing_noise_s", "log_hand_noise_s", "log_chord_spread_s"),
            *("onset_spread", "hand_spread", "chord_spread"),
        ),
    ),
    "tempo": Kind(("tempo_wander", "tempo_slide"), ("log_tempo_wander", "log_tempo_slide", "tempo_spread")),
    "stops": Kind(
        ("hesitations_per_min", "hesitation_s", "restarts_per_min", "memory_slips_per_min", "slip_pause_s"),
        ("log_hesitation_s", "hesitations", "restarts", "memory_slips", "stopped"),
    ),
    "notes": Kind(
        ("wrong_notes", "added_notes", "missed_notes", "repeated_notes"),
        ("wrong_notes", "added_notes", "missed_notes", "repeated_notes"),
    ),
    "touch": Kind(
        ("uneven_touch", "uneven_articulation", "pedal_blur", "dynamics_fade"),
        ("log_uneven_touch", "log_uneven_articulation", "log_pedal_blur", "log_dynamics_fade", "touch_spread"),
    ),
}
EVERYTHING = "everything"  # the starter from which nothing was held out
SEGMENTS = SegmentSettings(sample_rate=500, segment_s=10.0, hop_s=10.0)
SMALL = PretrainSettings(count=2000, performers=1000, branches="rhythm", epochs=10)
QUICK = PretrainSettings(count=60, performers=30, branches="rhythm", epochs=1, crops=1)
EAR = 156
A_SHARD = 500


def run(quick: bool) -> Iterator[Table]:
    """A table a kind as soon as its starters are there, then what all starters hear as they are."""
    kinds = {"notes": KINDS["notes"]} if quick else KINDS
    settings, count, folds = (QUICK, 15, 2) if quick else (SMALL, EAR, 3)
    fit = FitSettings(epochs=1, crops=1) if quick else FitSettings()
    with (
        tempfile.TemporaryDirectory(prefix="samplecnn-") as folder,
        ProcessPoolExecutor(os.cpu_count() or 1, multiprocessing.get_context("spawn")) as pool,
    ):
        kept = folder if quick else inputs_folder("held-out-faults")  # a second run goes on where the first was
        places = {name: f"{kept}/{name}" for name in (EVERYTHING, *kinds)}
        making = {name: pool.submit(_make, place, name, settings) for name, place in places.items()}
        making[EVERYTHING].result()
        for kind in kinds:
            making[kind].result()
            starts = {
                "nothing": NO_STARTER,
                f"all but {kind}": places[kind],
                EVERYTHING: places[EVERYTHING],
                "the one that ships": SHIPPED_STARTER,
            }
            yield _learnt(kind, Trial(count, faults=_faults(kind), folds=folds, fit=fit, by_mean=True), starts)
        every = {**places, "ships": SHIPPED_STARTER}
        heard = {kind: pool.submit(_heard_as_they_are, every, count, kind) for kind in kinds}
        yield _as_they_are({kind: found.result() for kind, found in heard.items()})


def _faults(kind: str) -> str:
    return ",".join(KINDS[kind].faults)


def _make(place: str, without: str, settings: PretrainSettings) -> None:
    """Perform and teach a starter from which one kind is held out, unless it is there."""
    own_threads(1)
    left_out = KINDS.get(without, Kind((), ()))
    drawn = {"performers": settings.performers, "sample_rate": SEGMENTS.sample_rate, "seed": 0}
    described = {**drawn, "count": settings.count, "excluded": list(left_out.faults)}
    with contextlib.suppress(UserError):  # none there yet
        card = load_starter(place).card
        if (card.performances, card.taught) == (described, settings_dict(settings)):
            return
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        shards = []
        for first in range(0, settings.count, A_SHARD):
            shards.append(f"data/{first}.parquet")
            numbers = range(first, min(first + A_SHARD, settings.count))
            write_shard(folder, shards[-1], numbers, **drawn, exclude_faults=left_out.faults)
        taught = _without(read_performances(folder, shards, SEGMENTS, folder), left_out.targets)
        learnt = {name: learn(name, taught, settings, seed=0, device=DEVICE) for name in settings.taught}
        publish(place, learnt, SEGMENTS, settings, described)


def _without(taught: Taught, targets: tuple[str, ...]) -> Taught:
    kept = [column for column, name in enumerate(taught.names) if name not in targets]
    return replace(taught, target_RK=taught.target_RK[:, kept], names=tuple(taught.names[column] for column in kept))


def _heard_as_they_are(places: dict[str, str], count: int, kind: str) -> dict[str, float]:
    """Of each starter, the rank correlation of what it takes for skill with the skill that this kind alone follows."""
    own_threads(1)
    plan = plan_for(SEGMENTS.segment_samples)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        corpus: Generated = generated(count, SEGMENTS.sample_rate, SEGMENTS.segment_samples, folder, _faults(kind))
        skill_R, found = [planned.skill for planned in corpus.planned], {}
        for name, place in places.items():
            starter = starter_for(place, SEGMENTS.sample_rate, plan)
            assert starter is not None, "there is one for this rate"
            network, _ = new_network(
                NETWORKS[RHYTHM], plan, SEGMENTS.sample_rate, len(GRADES), DEFAULT_HEAD, starter, seed=0
            )
            assert isinstance(network, RhythmNetwork)
            direction = starter.card.directions["rhythm"]
            score_R = embed(network, corpus.recordings, DEVICE).embedding_RE @ np.array(direction.weight_E)
            found[name] = float(spearmanr(score_R, skill_R).statistic)
    return found


def _as_they_are(found: dict[str, dict[str, float]]) -> Table:
    """One row a starter, one column a kind."""
    rows: list[tuple[str | float, ...]] = []
    for name in next(iter(found.values())):
        label = f"all but {name}" if name in KINDS else name
        rows.append((label, *(f"{found[kind][name]:.2f}" for kind in found)))
    title = (
        "Rank correlation of skill with what a starter takes for it before it sees a label, where one kind follows it"
    )
    return Table(title, ("the starter heard", *(f"only {kind}" for kind in found)), rows)


def _learnt(kind: str, base: Trial, starts: dict[str, str]) -> Table:
    """One row a start."""
    trials = {
        "rhythm statistics": replace(base, grader=ONSETS),
        **{name: replace(base, grader=RHYTHM, fit=replace(base.fit, init=place)) for name, place in starts.items()},
    }
    outcomes = dict(zip(trials, run_trials(list(trials.values())), strict=True))
    beside = ("nothing", f"all but {kind}")
    rows: list[tuple[str | float, ...]] = []
    for name, done in outcomes.items():
        above = []
        for other in (outcomes[of] for of in beside):
            pair = (done.given_R, done.stated_R, other.stated_R, done.groups, 0)
            above.append("-" if done is other else str(kappa_difference(*pair)))
        m = done.metrics
        rows.append((name, str(m.accuracy), str(m.kappa), *above, m.p_value, f"{m.spearman:.2f}", done.cpu_s))
    columns = ("starts from", "accuracy", "kappa", *(f"above {of}" for of in beside), "p", "rank corr.", "CPU s")
    return Table(f"Only {kind} follows the skill ({base.faults.replace(',', ', ')})", columns, rows)
