"""Real pianists rated by people: how near do grades and marks come to what these people agree on?

Question: takes of players never heard, in music that other players' recordings are known of, by what `train` does by
default on rated excerpts and takes together (grades and marks), without and with the piece given (set_pieces.py): each
fold's labels choose between the starter and a start from nothing (starting.py). The same where each performance is
learnt from on a second piano too, in rooms and at other levels, each as often in all; the starter whatever the labels
show (`--recipe modern`), and with nothing held back to end training (`--train-on-all`); one rhythm branch instead of
several (`--network rhythm --recipe from-nothing`); one and several from a starter which the second piano's recordings
of all these performances taught without a label (pretrain_unlabelled, then `--init`). The other way round: generated
recordings of performers never heard, by one rhythm branch from nothing, from that starter, and from the one that ships.
Another piano: the same held-out takes, played by a sampled piano that nothing was learnt from. Music never heard: all
of a work held out.
Baselines: rhythm and log-mel statistics with logistic regression, the piece given to them likewise. Ceiling: a grader
that knew what the raters' means estimate.
Noise guard: seeds of folds, start and draws, and what they say together (the mean of their log odds); 95 % intervals
over players (over recordings where a work is held out: there are four). Cuts, shifts and the way to marks are those of
the recordings learnt from; what was changed after a first look stands in docs/rated-playing.md.

    make bench-people PERCEPIANO=folder      (or python -m benchmarks.people FOLDER --work WORK)

FOLDER holds takes/, takes.csv, excerpts/ and excerpts.csv. What is rendered and prepared is kept in WORK, and what a
fold said too: the same command goes on where it was stopped (after a change of the code begin with another WORK).
Hours a seed on two cores, most of them of --recipe modern and of the second piano: --graders names those to try,
and --players-only holds out no works. --quick tries half the takes for an epoch.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, logit

from benchmarks.measure import Table
from benchmarks.rated import kappa_over, stated_at_shares
from benchmarks.trials import FEATURES, RHYTHM, Trial, run_trials
from samplecnn.architecture import DEFAULT_NETWORK, NetworkSettings, plan_for
from samplecnn.baselines import LOG_MEL, ONSETS, held_out_logistic
from samplecnn.batches import RecordingSet, read_recordings, thinned
from samplecnn.contract import GRADE, MARK, PERFORMER, PIECE, RECORDING, TAKE
from samplecnn.cross_validation import MOST_ASKED, hold_out, said_by_starter
from samplecnn.folds import Split, splits
from samplecnn.hearing import own_threads
from samplecnn.labels import LabelSettings, read_labels
from samplecnn.marks import GivenMarks, told
from samplecnn.merge import Merged, expected_score
from samplecnn.metrics import evaluate_marks, kappa
from samplecnn.performances.instrument import ROOMS
from samplecnn.performances.midi import NO_ROOM, RenderSettings, plan_renderings, render_recordings
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.pretrain_unlabelled import pretrain_unlabelled
from samplecnn.pipelines.runtime import ray_session
from samplecnn.recipe import (
    FROM_NOTHING,
    FROM_NOTHING_NETWORK,
    NO_STARTER,
    SHIPPED_STARTER,
    FitSettings,
    UnlabelledSettings,
    Way,
)
from samplecnn.segment_folder import open_segments
from samplecnn.segments import SegmentSettings
from samplecnn.set_pieces import beside, fit_shifts, log_odds_of_shares
from samplecnn.starter import new_network, starter_for
from samplecnn.starting import hearing_of, is_deaf, tell_enough

WORK = "work"
FOLDS = {PERFORMER: 7, WORK: 4}  # of 14 players, of 4 works
RELIABILITY = 0.79  # of a take's mark: two halves of its raters, stepped up to all of them
KNOWN, SECOND, OTHER = "fluidr3", "musescore", "timgm"  # pianos
# Folders of recordings: on the known piano, on the other one, and on the second one in rooms.
TAKES, EXCERPTS, ELSEWHERE, IN_ROOMS = "takes/", "excerpts/", "elsewhere/", "second/"
LEVELS = ("6", "12", "18")  # dB below full gain, in rooms, which add to it
QUICK_STEP = 2  # every other take
LEAST_SCORE = 1e-6  # 0 has no odds
DEFAULT, TWO_PIANOS, ONE_BRANCH = "default", "default, two pianos", "one rhythm branch"
ONE_PRETRAINED = "one rhythm branch, pre-trained without labels"
FIVE_PRETRAINED = "five rhythm branches, pre-trained without labels"
PRETRAINED = {ONE_PRETRAINED: DEFAULT_NETWORK, FIVE_PRETRAINED: FROM_NOTHING_NETWORK}  # what of a starter is taught
STARTED, ON_ALL = "--recipe modern", "--recipe modern --train-on-all"
NETWORKS = (DEFAULT, TWO_PIANOS, ONE_BRANCH, *PRETRAINED, STARTED, ON_ALL)
GRADERS = (*NETWORKS, ONSETS, LOG_MEL)
Float64 = npt.NDArray[np.float64]
Said = dict[str, list[float]]  # probabilities, [G], by the recording's name


@dataclass(frozen=True)
class Fold:
    """One training. by: the column that splits keep apart; number: which of its splits."""

    segments: str
    grader: str
    by: str
    number: int
    seed: int
    quick: bool


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.people", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("percepiano", help="folder with takes/, takes.csv, excerpts/ and excerpts.csv")
    parser.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "samplecnn-people"))
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--rate", type=int, default=500, help="Hz (default: 500)")
    parser.add_argument("--graders", nargs="+", choices=GRADERS, default=GRADERS, metavar="NAME", help="default: all")
    parser.add_argument("--players-only", action="store_true", help="hold out no works")
    parser.add_argument("--quick", action="store_true", help="does it run? (its figures mean nothing)")
    args = parser.parse_args()
    rows = recordings_of(args.percepiano, args.work, args.quick)
    recordings, kind = os.path.join(args.work, "recordings"), f"{args.rate}" + "-quick" * args.quick
    segments, cut = os.path.join(args.work, f"segments-{kind}"), SegmentSettings(sample_rate=args.rate)
    with ray_session():
        print(prepare(recordings, segments, cut))
        if pretrained := [name for grader, name in PRETRAINED.items() if grader in args.graders]:
            ungraded = os.path.join(args.work, f"ungraded-{kind}")
            print(prepare(os.path.join(recordings, IN_ROOMS), ungraded, cut))
            short = {"epochs": 1} if args.quick else {}
            for name in pretrained:
                taught = UnlabelledSettings(network=name, **short)
                print(pretrain_unlabelled(ungraded, starter_beside(segments, name), taught, seed=0))
    seeds = range(1 if args.quick else args.seeds)
    folds = [
        Fold(segments, grader, by, number, seed, args.quick)
        for seed in seeds
        for by in FOLDS
        if by == PERFORMER or not args.players_only
        for grader in args.graders
        for number in range(FOLDS[by])
    ]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        said = dict(zip(folds, pool.map(partial(_said, rows, args.work), folds), strict=True))
    table = []
    for grader in args.graders:
        scores = [
            scores_of(rows, {f: said[f] for f in folds if (f.grader, f.seed) == (grader, seed)}) for seed in seeds
        ]
        table += [(grader, str(seed), *judged(rows, one, seed)) for seed, one in zip(seeds, scores, strict=True)]
        if len(scores) > 1:
            table.append((grader, "all averaged", *judged(rows, averaged(scores), 0)))
    columns = (
        *("grader", "seed", "kappa", "kappa, piece given", "accuracy, piece given", "mark R2, piece given"),
        *(
            "rank correlation, piece given",
            "kappa, other piano, piece given",
            "r of scores between pianos, piece given",
        ),
        "kappa, music never heard",
    )
    title = f"Takes of players never heard, {args.rate} Hz; {perfect(RELIABILITY)}"
    print(Table(title, columns, table).markdown())
    if ONE_PRETRAINED in args.graders:
        print(other_way_round(starter_beside(segments, PRETRAINED[ONE_PRETRAINED]), cut, args.quick).markdown())


def starter_beside(segments: str, network: str) -> str:
    """Where the starter lies that was taught without labels, for the rate of these segments."""
    return os.path.join(os.path.dirname(segments), f"starter of {network} for {os.path.basename(segments)}")


def other_way_round(starter: str, cut: SegmentSettings, quick: bool) -> Table:
    """What these performances, heard without a label, bring to the generated recordings of the ear's corpus."""
    starts = {
        "nothing": NO_STARTER,
        "these pianists, without labels": starter,
        "the starter that ships": SHIPPED_STARTER,
    }
    fits = [FitSettings(init=place, **({"epochs": 1} if quick else {})) for place in starts.values()]
    trial = Trial(
        15 if quick else 156,
        plan=plan_for(cut.segment_samples),
        sample_rate=cut.sample_rate,
        grader=RHYTHM,
        folds=3 if quick else 5,
        by_mean=True,
    )
    rows: list[tuple[str | float, ...]] = [
        (start, str(done.metrics.accuracy), str(done.metrics.kappa), f"{done.metrics.spearman:.2f}")
        for start, done in zip(starts, run_trials([replace(trial, fit=fit) for fit in fits]), strict=True)
    ]
    columns = ("starts from", "accuracy", "kappa", "rank correlation")
    return Table("The other way round: generated recordings, one rhythm branch", columns, rows)


def perfect(reliability: float) -> str:
    """What a grader would reach that knew the quality of which marks, cut at their thirds, are a noisy report."""
    true_N, error_N = np.random.default_rng(0).standard_normal((2, 1_000_000))
    given_N = np.sqrt(reliability) * true_N + np.sqrt(1 - reliability) * error_N
    stated_N, grade_N = (np.searchsorted(np.quantile(x_N, (1 / 3, 2 / 3)), x_N) for x_N in (true_N, given_N))
    return f"a perfect grader: kappa {kappa(grade_N, stated_N):.2f}, accuracy {(grade_N == stated_N).mean():.2f}"


def recordings_of(percepiano: str, work: str, quick: bool) -> list[dict[str, str]]:
    """Render what is not there yet; a row a recording: recording, grade, mark, performer, work, piece: of a take the
    music that other players' takes of that number hold too, of an excerpt the work (marks of takes and excerpts were
    not made together)."""
    found, rooms = [], (NO_ROOM, *ROOMS)
    in_rooms = [RenderSettings(pianos=SECOND, rooms=room, levels=LEVELS[n % 3]) for n, room in enumerate(rooms)]
    for folder, source, ways in (
        (TAKES, "takes", [RenderSettings(pianos=KNOWN)]),
        (EXCERPTS, "excerpts", [RenderSettings(pianos=KNOWN)]),
        (ELSEWHERE, "takes", [RenderSettings(pianos=OTHER)]),
        (IN_ROOMS + TAKES, "takes", in_rooms),
        (IN_ROOMS + EXCERPTS, "excerpts", in_rooms),
    ):
        table = os.path.join(percepiano, f"{source}.csv")
        rows = list(csv.DictReader(Path(table).read_text(encoding="utf-8-sig").splitlines()))
        if quick:
            rows = [] if source == "excerpts" else rows[::QUICK_STEP]
        for n, settings in enumerate(ways):
            if dealt := rows[n :: len(ways)]:
                plan = plan_renderings(os.path.join(percepiano, source), dealt, table, settings)
                render_recordings(os.path.join(work, "recordings", folder), plan)
        for row in rows:
            name = folder + os.path.splitext(row[RECORDING])[0] + ".flac"
            piece = row[PIECE] + (" excerpts" if source == "excerpts" else f" take {row[TAKE]}")
            given = {column: row[column] for column in (GRADE, MARK, PERFORMER)}
            found.append({RECORDING: name, **given, WORK: row[PIECE], PIECE: piece})
    return found


def _read(segments: str, rows: Sequence[dict[str, str]], folder: str) -> RecordingSet:
    """Of both pianos, with labels as `train` reads them, those of the other piano as if they were labels too."""
    labels: dict[str, list[Any]] = {}
    for elsewhere in (False, True):
        chosen = [row for row in rows if row[RECORDING].startswith(ELSEWHERE) == elsewhere]
        columns = list(chosen[0])
        text = "\n".join([",".join(columns), *(",".join(row[column] for column in columns) for row in chosen)])
        for label in read_labels(text.encode(), "labels", LabelSettings()).labels:
            labels[label.recording] = [label]
    segments_folder = open_segments(segments)
    return read_recordings(segments_folder.filesystem, segments_folder.paths, labels, segments_folder.settings, folder)


def _said(rows: list[dict[str, str]], work: str, fold: Fold) -> tuple[Said, Said]:
    """(what is said of what a fold holds out, what of what it learns from), kept in work."""
    taught = [list(row.values()) for row in rows]
    key = hashlib.sha256(json.dumps([taught, asdict(fold)]).encode()).hexdigest()[:16]
    kept = Path(work, "said", f"{key}.json")
    if kept.exists():
        held, learnt = json.loads(kept.read_text())
        return held, learnt
    own_threads(1)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as own:
        recordings = _read(fold.segments, rows, own)
        split = split_of(rows, recordings.names, fold)
        said = (
            _by_network(recordings, split, rows, fold)
            if fold.grader in NETWORKS
            else _by_features(recordings, split, fold)
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(said))
    part.rename(kept)
    return said


def split_of(rows: Sequence[Mapping[str, str]], names: Sequence[str], fold: Fold) -> Split:
    """Nothing is learnt from the other piano; from the second one by whom asks for it, of the players learnt from."""
    by_name = {row[RECORDING]: row for row in rows}
    at = [i for i, name in enumerate(names) if not name.startswith(IN_ROOMS)]
    grade_R = _grades(rows, [names[i] for i in at])
    parted = splits(grade_R, [[by_name[names[i]][fold.by] for i in at]], FOLDS[fold.by], fold.seed)[fold.number]
    learn_R, held_R = np.zeros((2, len(names)), np.bool_)
    held_R[at] = parted.held_R
    learn_R[at] = parted.learn_R & np.array([not names[i].startswith(ELSEWHERE) for i in at])
    if fold.grader == TWO_PIANOS:
        known = {by_name[names[i]][fold.by] for i in np.flatnonzero(learn_R).tolist()}
        learn_R |= [name.startswith(IN_ROOMS) and by_name[name][fold.by] in known for name in names]
    return Split(learn_R, held_R)


def _by_features(recordings: RecordingSet, split: Split, fold: Fold) -> tuple[Said, Said]:
    everything = Split(split.learn_R, np.ones_like(split.held_R))
    probs_RG = held_out_logistic(FEATURES[fold.grader](recordings), recordings.grade_R, [everything], 3)
    held, learnt = (
        {recordings.names[i]: probs_RG[i].tolist() for i in np.flatnonzero(rows)}
        for rows in (split.held_R, split.learn_R)
    )
    return held, learnt


def _by_network(
    recordings: RecordingSet, split: Split, rows: Sequence[Mapping[str, str]], fold: Fold
) -> tuple[Said, Said]:
    learn = np.flatnonzero(split.learn_R)
    settings, fit = _way(recordings, learn, rows, fold)
    if fold.grader == TWO_PIANOS:  # each performance as often as on one
        fit = replace(fit, crops=fit.crops // 2)
    if fold.quick:
        fit = replace(fit, epochs=1)
    rate, plan = recordings.settings.sample_rate, plan_for(recordings.settings.segment_samples)
    starter = starter_for(fit.init, rate, plan)
    network, started = new_network(settings.network, plan, rate, 3, settings.head, starter, fold.seed)
    done = hold_out(
        network,
        recordings,
        learn,
        np.flatnonzero(split.held_R),
        fit,
        head=settings.head,
        seed=fold.seed,
        device=torch.device("cpu"),
        started=started,
        beside=learn,
    )
    held, learnt = (
        {name: one.merged(settings.head, 1.0).probs_G.tolist() for name, one in heard.items() if one}
        for heard in (done.heard, done.beside)
    )
    return held, learnt


def _way(recordings: RecordingSet, learn: npt.NDArray[np.int64], rows: Sequence[Mapping[str, str]], fold: Fold) -> Way:
    """How the network is trained on what a fold learns from."""
    asked = Way(NetworkSettings(), FitSettings(train_on_all=fold.grader == ON_ALL))
    otherwise = Way(NetworkSettings(network=FROM_NOTHING_NETWORK), FitSettings(recipe=FROM_NOTHING))
    if fold.grader in (ONE_BRANCH, *PRETRAINED):
        taught = PRETRAINED.get(fold.grader)
        init = starter_beside(fold.segments, taught) if taught else NO_STARTER
        network = otherwise.network if fold.grader == FIVE_PRETRAINED else NetworkSettings(network="rhythm")
        return Way(network, replace(otherwise.fit, init=init))
    settings = recordings.settings
    starter = starter_for(asked.fit.init, settings.sample_rate, plan_for(settings.segment_samples))
    if fold.grader in (STARTED, ON_ALL) or starter is None or not tell_enough([list(recordings.groups)]):
        return asked
    piece, told = {row[RECORDING]: row[PIECE] for row in rows}, recordings.subset(learn)
    told = told.subset(thinned(len(told), MOST_ASKED))
    said = said_by_starter(starter, told, asked.network, 3)
    hearing = hearing_of(
        [said.get(name) for name in told.names],
        told.ranks(range(len(told))).astype(np.float64),
        [piece[name] for name in told.names],
        [list(told.groups)],
    )
    print(f"{fold.by} {fold.number}, seed {fold.seed}: rank correlation of the starter's scores {hearing}", flush=True)
    return otherwise if is_deaf(hearing) else asked


@dataclass(frozen=True)
class Scores:
    """Of one grader, of the recordings on the known piano by name (excerpts too), [R] each: log odds of the score
    without and with the piece given, of the same take on the other piano with it given, and of what all of its work was
    held out from; NaN where there is none. parted: by the column that splits keep apart, those of a seed."""

    names: list[str]
    plain_R: Float64
    given_R: Float64
    elsewhere_R: Float64
    unheard_R: Float64
    parted: Mapping[str, Sequence[Split]]


def scores_of(rows: Sequence[dict[str, str]], said: Mapping[Fold, tuple[Said, Said]]) -> Scores:
    """Of one grader and seed."""
    by_name = {row[RECORDING]: row for row in rows}
    everything = sorted({name for held, _ in said.values() for name in held})  # a few excerpts hold too little playing
    names = [name for name in everything if not name.startswith(ELSEWHERE)]
    own = [everything.index(name) for name in names]
    grade_R = _grades(rows, names)
    plain_R, given_R, elsewhere_R, unheard_R = (np.full(len(names), np.nan) for _ in range(4))
    parted: dict[str, list[Split]] = {by: [] for by in FOLDS}
    for fold, (held, learnt) in said.items():
        split = split_of(rows, everything, fold)
        split = Split(split.learn_R[own], split.held_R[own])
        parted[fold.by].append(split)
        if fold.by == WORK:
            unheard_R[split.held_R] = [_odds(_merged(held[names[i]])) for i in np.flatnonzero(split.held_R)]
            continue
        known = [by_name[name] for name in learnt]
        shift = fit_shifts(
            [_merged(probs_G) for probs_G in learnt.values()],
            _grades(rows, list(learnt)),
            [row[PIECE] for row in known],
            log_odds_of_shares(grade_R, 3),
        )
        for i in np.flatnonzero(split.held_R).tolist():
            piece, merged = by_name[names[i]][PIECE], _merged(held[names[i]])
            plain_R[i], given_R[i] = _odds(merged), _odds(beside(merged, piece, shift))
            if names[i].startswith(TAKES):
                other = _merged(held[names[i].replace(TAKES, ELSEWHERE, 1)])
                elsewhere_R[i] = _odds(beside(other, piece, shift))
    return Scores(names, plain_R, given_R, elsewhere_R, unheard_R, parted)


def averaged(scores: Sequence[Scores]) -> Scores:
    """What several trainings say together, each of which held a recording out with others; cut on the first's."""
    first = scores[0]
    assert all(one.names == first.names for one in scores)
    columns = ("plain_R", "given_R", "elsewhere_R", "unheard_R")
    mean = {column: np.mean([getattr(one, column) for one in scores], axis=0) for column in columns}
    return replace(first, **mean)


def judged(rows: Sequence[dict[str, str]], scores: Scores, seed: int) -> tuple[str | float, ...]:
    """The figures of one grader. seed: of the bootstrap."""
    by_name = {row[RECORDING]: row for row in rows}
    takes = [i for i, name in enumerate(scores.names) if name.startswith(TAKES)]
    known = [by_name[scores.names[i]] for i in takes]
    given, mark_T = _grades(rows, scores.names)[takes], np.array([float(row[MARK]) for row in known])
    players, alone = [[row[PERFORMER] for row in known]], [[row[RECORDING] for row in known]]
    parted = {
        by: [Split(one.learn_R[takes], one.held_R[takes]) for one in whole] for by, whole in scores.parted.items()
    }
    plain_T, given_T, elsewhere_T, unheard_T = (
        expit(odds_R[takes]) for odds_R in (scores.plain_R, scores.given_R, scores.elsewhere_R, scores.unheard_R)
    )
    mark_TM, jury = np.full((len(takes), 3), np.nan), GivenMarks(mark_T, LabelSettings().marks())
    for split in parted[PERFORMER]:
        line = jury.fitted(given_T[split.learn_R], np.flatnonzero(split.learn_R))
        mark_TM[split.held_R] = told(line, given_T[split.held_R])
    marks = evaluate_marks(jury.mark_R, mark_TM, players, seed)
    plain = stated_at_shares(given, plain_T, parted[PERFORMER])
    by_piece = stated_at_shares(given, given_T, parted[PERFORMER])
    elsewhere = stated_at_shares(given, given_T, parted[PERFORMER], elsewhere_T)
    unheard = stated_at_shares(given, unheard_T, parted[WORK]) if parted[WORK] else None
    return (
        kappa_over(given, plain, players, seed),
        kappa_over(given, by_piece, players, seed),
        f"{(by_piece == given).mean():.2f}",
        str(marks.r2),
        str(marks.spearman),
        kappa_over(given, elsewhere, players, seed),
        float(np.corrcoef(given_T, elsewhere_T)[0, 1]),
        kappa_over(given, unheard, alone, seed) if unheard is not None else "not run",
    )


def _grades(rows: Sequence[dict[str, str]], names: Sequence[str]) -> npt.NDArray[np.int64]:
    grade = {row[RECORDING]: "CBA".index(row[GRADE]) for row in rows}
    return np.array([grade[name] for name in names])


def _odds(merged: Merged) -> float:
    return float(logit(np.clip(merged.score, LEAST_SCORE, 1 - LEAST_SCORE)))


def _merged(probs_G: Sequence[float]) -> Merged:
    return Merged(np.array(probs_G), expected_score(np.array(probs_G)), np.ones(1))


if __name__ == "__main__":
    main()
