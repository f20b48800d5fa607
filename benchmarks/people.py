"""Real pianists rated by people: how near do grades and marks come to what these people agree on?

Question: takes of players never heard, in music that other players' recordings are known of, by what `train` does by
default on rated excerpts and takes together (grades and marks), without and with the piece given (set_pieces.py); and
by the rhythm branch alone from nothing, by the recipe of earlier trials on these players (rate 3e-3, 10 epochs).
Another piano: the same held-out takes, played by a sampled piano that nothing was learnt from.
Baselines: rhythm and log-mel statistics with logistic regression, the piece given to them likewise. Ceiling: a grader
that knew what the raters' means estimate (shared with PercePiano's ratings: docs/rated-playing.md).
Noise guard: seeds of folds, start and draws; 95 % intervals over players. Cuts, shifts and the way to marks are those
of the players learnt from; what was changed after a first look stands in docs/rated-playing.md.

    make bench-people PERCEPIANO=folder      (or python -m benchmarks.people FOLDER --work WORK)

FOLDER holds takes/, takes.csv, excerpts/ and excerpts.csv. What is rendered and prepared is kept in WORK, and what a
fold said too: the same command goes on where it was stopped (after a change of the code begin with another WORK). Half
an hour a seed on two cores; --quick tries 36 takes for an epoch.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import Table
from benchmarks.rated import kappa_by_shares
from benchmarks.trials import FEATURES
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.baselines import LOG_MEL, ONSETS, held_out_logistic
from samplecnn.batches import RecordingSet, read_recordings
from samplecnn.contract import GRADE, MARK, PERFORMER, PIECE, RECORDING, TAKE
from samplecnn.cross_validation import hold_out
from samplecnn.folds import Split, splits
from samplecnn.hearing import own_threads
from samplecnn.labels import LabelSettings, read_labels
from samplecnn.merge import Merged, expected_score
from samplecnn.metrics import evaluate_marks
from samplecnn.performances.midi import RenderSettings, plan_renderings, render_recordings
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.runtime import ray_session
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.segment_folder import open_segments
from samplecnn.segments import SegmentSettings
from samplecnn.set_pieces import fit_shifts, moved_by
from samplecnn.starter import new_network, starter_for

FOLDS = 7  # of 14 players
CEILING = 0.78
KNOWN, OTHER = "fluidr3", "timgm"  # pianos
TAKES, EXCERPTS, ELSEWHERE = "takes/", "excerpts/", "elsewhere/"  # folders of recordings; the last on the other piano
QUICK_TAKES = 36
MODEL, SCRATCH = "default", "rhythm from nothing"
NETWORKS = (MODEL, SCRATCH)
GRADERS = (*NETWORKS, ONSETS, LOG_MEL)
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.people", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("percepiano", help="folder with takes/, takes.csv, excerpts/ and excerpts.csv")
    parser.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "samplecnn-people"))
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--rate", type=int, default=500, help="Hz (default: 500)")
    parser.add_argument("--quick", action="store_true", help="does it run? (its figures mean nothing)")
    args = parser.parse_args()
    rows = recordings_of(args.percepiano, args.work, args.quick)
    segments = os.path.join(args.work, f"segments-{args.rate}" + "-quick" * args.quick)
    with ray_session():
        print(prepare(os.path.join(args.work, "recordings"), segments, SegmentSettings(sample_rate=args.rate)))
    seeds = range(1 if args.quick else args.seeds)
    tasks = [
        (segments, rows, grader, seed, number, args.work, args.quick)
        for seed in seeds
        for grader in GRADERS
        for number in range(FOLDS if grader in NETWORKS else 1)
    ]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        said = list(pool.map(_said, tasks))
    table = []
    for grader in GRADERS:
        found = []
        for seed in seeds:
            scored: dict[str, list[float]] = {}
            for task, one in zip(tasks, said, strict=True):
                if task[2] == grader and task[3] == seed:
                    scored |= one
            found.append(_judged(rows, scored, seed))
        for number, one in enumerate(found):
            table.append((grader, str(number), *one))
    columns = (
        *("grader", "seed", "kappa", "kappa, piece given", "mark R2, piece given", "rank correlation, piece given"),
        *("kappa, other piano, piece given", "r of scores between pianos, piece given"),
    )
    print(
        Table(f"Takes of players never heard, {args.rate} Hz; a perfect grader: {CEILING}", columns, table).markdown()
    )


def recordings_of(percepiano: str, work: str, quick: bool) -> list[dict[str, str]]:
    """Render what is not there yet; a row a recording: recording, grade, mark, performer, piece: of a take the music
    that other players' takes of that number hold too, of an excerpt the work (marks of takes and excerpts were not made
    together)."""
    found = []
    for folder, source, piano in ((TAKES, "takes", KNOWN), (EXCERPTS, "excerpts", KNOWN), (ELSEWHERE, "takes", OTHER)):
        table = os.path.join(percepiano, f"{source}.csv")
        told = list(csv.DictReader(Path(table).read_text(encoding="utf-8-sig").splitlines()))
        if quick:
            told = [] if source == "excerpts" else told[:QUICK_TAKES]
        if not told:
            continue
        plan = plan_renderings(os.path.join(percepiano, source), told, table, RenderSettings(pianos=piano))
        render_recordings(os.path.join(work, "recordings", folder), plan)
        for row in told:
            name = folder + os.path.splitext(row[RECORDING])[0] + ".flac"
            piece = row[PIECE] + (" excerpts" if source == "excerpts" else f" take {row[TAKE]}")
            found.append({RECORDING: name, GRADE: row[GRADE], MARK: row[MARK], PERFORMER: row[PERFORMER], PIECE: piece})
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


def _parted(recordings: RecordingSet, seed: int) -> list[Split]:
    return splits(recordings.grade_R, [list(recordings.groups)], FOLDS, seed)


def _said(task: tuple[str, list[dict[str, str]], str, int, int, str, bool]) -> dict[str, list[float]]:
    """Probabilities of each held-out recording, by name; of one fold, or of all for a baseline. Kept in work."""
    segments, rows, grader, seed, number, work, quick = task
    taught = [[row[column] for column in (RECORDING, GRADE, MARK, PERFORMER)] for row in rows]
    key = hashlib.sha256(json.dumps([taught, grader, seed, number, segments, quick]).encode()).hexdigest()[:16]
    kept = Path(work, "said", f"{key}.json")
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    own_threads(1)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as own:
        recordings = _read(segments, rows, own)
        known_R = np.array([not name.startswith(ELSEWHERE) for name in recordings.names])
        parted = [Split(split.learn_R & known_R, split.held_R) for split in _parted(recordings, seed)]
        if grader not in NETWORKS:
            probs_RG = held_out_logistic(FEATURES[grader](recordings), recordings.grade_R, parted, 3)
            said = dict(zip(recordings.names, probs_RG.tolist(), strict=True))
        else:
            said = _fold(recordings, parted[number], grader, seed, quick)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(said))
    partial.rename(kept)
    return said


def _fold(recordings: RecordingSet, split: Split, grader: str, seed: int, quick: bool) -> dict[str, list[float]]:
    fit, settings = FitSettings(), NetworkSettings()
    if grader == SCRATCH:
        fit = FitSettings(init=NO_STARTER, epochs=10, crops=8, learning_rate=3e-3)
        settings = NetworkSettings(network="rhythm")
    if quick:
        fit = replace(fit, epochs=1)
    rate, plan = recordings.settings.sample_rate, plan_for(recordings.settings.segment_samples)
    starter = starter_for(fit.init, rate, plan)
    network, started = new_network(settings.network, plan, rate, 3, settings.head, starter, seed)
    done = hold_out(
        network,
        recordings,
        np.flatnonzero(split.learn_R),
        np.flatnonzero(split.held_R),
        fit,
        head=settings.head,
        seed=seed,
        device=torch.device("cpu"),
        started=started,
    )
    return {name: heard.merged(settings.head, 1.0).probs_G.tolist() for name, heard in done.heard.items() if heard}


def _judged(rows: Sequence[dict[str, str]], scored: dict[str, list[float]], seed: int) -> tuple[str | float, ...]:
    """The figures of one seed, from out-of-fold probabilities of all recordings."""
    by_name = {row[RECORDING]: row for row in rows}
    names = sorted(name for name in scored if not name.startswith(ELSEWHERE))
    merged_R = [Merged(np.array(scored[name]), expected_score(np.array(scored[name])), np.ones(1)) for name in names]
    grade_R = np.array(["CBA".index(by_name[name][GRADE]) for name in names])
    mark_R = np.array([float(by_name[name][MARK]) for name in names])
    performer_R = [by_name[name][PERFORMER] for name in names]
    piece_R = [by_name[name][PIECE] for name in names]
    take_R = np.array([name.startswith(TAKES) for name in names])
    twin = {name: name.replace(TAKES, ELSEWHERE, 1) for name in names}
    plain_R, given_R, elsewhere_R = (np.full(len(names), np.nan) for _ in range(3))
    mark_RM = np.full((len(names), 3), np.nan)
    parted = _folds_of(scored, by_name, names, seed)
    for split in parted:
        learn, held = np.flatnonzero(split.learn_R).tolist(), np.flatnonzero(split.held_R).tolist()
        shift = fit_shifts([merged_R[i] for i in learn], grade_R[learn], [piece_R[i] for i in learn])
        beside = {i: moved_by(merged_R[i], shift.get(piece_R[i], 0.0)).score for i in (*learn, *held)}
        taught = [i for i in learn if take_R[i]]
        line = np.polyfit([beside[i] for i in taught], mark_R[taught], 1)
        for i in held:
            plain_R[i], given_R[i] = merged_R[i].score, beside[i]
            mark_RM[i] = np.polyval(line, beside[i])
            if twin[names[i]] in scored:
                probs_G = np.array(scored[twin[names[i]]])
                other = Merged(probs_G, expected_score(probs_G), np.ones(1))
                elsewhere_R[i] = moved_by(other, shift.get(piece_R[i], 0.0)).score
    takes = np.flatnonzero(take_R)
    parted = [Split(split.learn_R[takes], split.held_R[takes]) for split in parted]
    groups, given = [[performer_R[i] for i in takes]], grade_R[takes]
    kappas = [kappa_by_shares(given, x_R[takes], parted, groups, seed) for x_R in (plain_R, given_R)]
    marks = evaluate_marks(mark_R[takes], mark_RM[takes], groups, seed)
    away = kappa_by_shares(given, given_R[takes], parted, groups, seed, elsewhere_R[takes])
    between = float(np.corrcoef(given_R[takes], elsewhere_R[takes])[0, 1])
    return (*kappas, str(marks.r2), str(marks.spearman), away, between)


def _folds_of(
    scored: dict[str, list[float]], by_name: dict[str, dict[str, str]], names: list[str], seed: int
) -> list[Split]:
    """The splits that the folds were, over the recordings on the known piano."""
    everything = sorted(scored)
    grade_R = np.array(["CBA".index(by_name[name][GRADE]) for name in everything])
    parted = splits(grade_R, [[by_name[name][PERFORMER] for name in everything]], FOLDS, seed)
    row = {name: i for i, name in enumerate(everything)}
    rows = [row[name] for name in names]
    return [Split(split.learn_R[rows], split.held_R[rows]) for split in parted]


if __name__ == "__main__":
    main()
