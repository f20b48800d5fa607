"""Does it hear what people heard? The default and its parts on rated takes of pianists. (Needs PercePiano, rendered.)

Question: players never heard, music known. Grades are thirds within each piece, and slow music scores otherwise than
fast music, so each out-of-fold score is also given centred: less the mean score of the players learnt from in the same
piece. Baseline: rhythm statistics with logistic regression. Ceiling: a grader that knew what the raters' means estimate
would reach a kappa of 0.78. Noise guard: three seeds of folds, start and draws; 95 % intervals over players.

    python scripts/render_midi.py --midi takes --table takes.csv --recordings rated --labels rated.csv
    python jobs/prepare.py --recordings rated --segments rated-segments
    python -m benchmarks.rated rated-segments rated.csv

docs/rated-playing.md says where the takes are had from. Nothing was chosen on them.
"""

import argparse
import csv
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr

from benchmarks.measure import Table
from benchmarks.trials import FEATURES, JOINED, MODEL, RHYTHM
from samplecnn.architecture import plan_for
from samplecnn.baselines import ONSETS, held_out_logistic
from samplecnn.batches import RecordingSet, read_recordings
from samplecnn.contract import GRADE, PERFORMER, PIECE, RECORDING
from samplecnn.cross_validation import hold_out
from samplecnn.evaluation import NETWORKS
from samplecnn.folds import Split, splits
from samplecnn.hearing import own_threads
from samplecnn.labels import Label
from samplecnn.merge import cuts_at_shares, expected_score
from samplecnn.metrics import bootstrap_means, kappa
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.segment_folder import open_segments
from samplecnn.starter import new_network, starter_for

GRADES = "CBA"
FOLDS = 7  # of 14 players
SEEDS = (0, 1, 2)
Float64 = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rated", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("segments", help="what jobs/prepare.py made of the rendered takes")
    parser.add_argument("labels", help="what scripts/render_midi.py wrote of them")
    args = parser.parse_args()
    contestants = [(ONSETS, False), (MODEL, True), (RHYTHM, True), (JOINED, True), (RHYTHM, False), (JOINED, False)]
    tasks = [(args.segments, args.labels, *one, seed) for one in contestants for seed in SEEDS]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(_row, tasks))
    columns = ("grader", "starter", "seed", "kappa", "kappa, centred on the piece", "rank corr., centred")
    print(Table("Takes of players never heard", columns, rows).markdown())


def _row(task: tuple[str, str, str, bool, int]) -> tuple[str | float, ...]:
    segments, labels, grader, started, seed = task
    own_threads(1)
    rows = {row[RECORDING]: row for row in csv.DictReader(Path(labels).read_text(encoding="utf-8-sig").splitlines())}
    folder = open_segments(segments)
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as own:
        named = {name: [Label(name, GRADES.index(row[GRADE]), row[PERFORMER])] for name, row in rows.items()}
        recordings = read_recordings(folder.filesystem, folder.paths, named, folder.settings, own)
        pieces = [rows[name][PIECE] for name in recordings.names]
        parted = splits(recordings.grade_R, [list(recordings.groups)], FOLDS, seed)
        score_R = _scores(recordings, parted, grader, started, seed)
    centred_R = _centred(score_R, parted, pieces)
    groups = [list(recordings.groups)]
    given_R = recordings.grade_R
    figures = [
        kappa_over(given_R, stated_at_shares(given_R, x_R, parted), groups, seed) for x_R in (score_R, centred_R)
    ]
    return (
        grader,
        "yes" if started else "no" if grader in NETWORKS else "-",
        seed,
        *figures,
        float(spearmanr(centred_R, recordings.grade_R).statistic),
    )


def _scores(recordings: RecordingSet, parted: Sequence[Split], grader: str, started: bool, seed: int) -> Float64:
    if grader not in NETWORKS:
        probs_RG = held_out_logistic(FEATURES[grader](recordings), recordings.grade_R, parted, len(GRADES))
        return np.array([expected_score(probs_G) for probs_G in probs_RG])
    fit = FitSettings() if started else FitSettings(init=NO_STARTER)
    rate, plan = recordings.settings.sample_rate, plan_for(recordings.settings.segment_samples)
    score = {}
    starter = starter_for(fit.init, rate, plan)
    for split in parted:
        network, whole = new_network(NETWORKS[grader], plan, rate, len(GRADES), DEFAULT_HEAD, starter, seed)
        learn, held = np.flatnonzero(split.learn_R), np.flatnonzero(split.held_R)
        done = hold_out(
            network,
            recordings,
            learn,
            held,
            fit,
            head=DEFAULT_HEAD,
            seed=seed,
            device=torch.device("cpu"),
            started=whole,
        )
        for name, heard in done.heard.items():
            assert heard is not None, "the network gave no numbers"
            score[name] = heard.merged(DEFAULT_HEAD, 1.0).score
    return np.array([score[name] for name in recordings.names])


def _centred(score_R: Float64, parted: Sequence[Split], pieces: list[str]) -> Float64:
    centred_R, piece_R = score_R.copy(), np.array(pieces)
    for split in parted:
        for i in np.flatnonzero(split.held_R):
            centred_R[i] -= score_R[split.learn_R & (piece_R == piece_R[i])].mean()
    return centred_R


def stated_at_shares(
    given_R: npt.NDArray[np.int64], score_R: Float64, parted: Sequence[Split], other_R: Float64 | None = None
) -> npt.NDArray[np.int64]:
    """Scores cut where those that their split learns from hold the shares of the grades given.

    other_R: scores that are cut, where they are not the same.
    """
    stated_R, told_R = np.zeros_like(given_R), score_R if other_R is None else other_R
    for split in parted:
        cuts_K = cuts_at_shares(score_R[split.learn_R], given_R[split.learn_R], len(GRADES))
        stated_R[split.held_R] = (told_R[split.held_R, None] > cuts_K).sum(axis=1)
    return stated_R


def kappa_over(
    given_R: npt.NDArray[np.int64], stated_R: npt.NDArray[np.int64], groups: list[list[str]], seed: int
) -> str:
    """Kappa and its interval over groups."""
    drawn = bootstrap_means(np.eye(len(given_R)), groups, np.random.default_rng(seed))[1:]  # how often each is drawn
    kappas = []
    for share_R in drawn:
        times_R = np.rint(share_R / share_R[share_R > 0].min()).astype(int)
        kappas.append(kappa(np.repeat(given_R, times_R), np.repeat(stated_R, times_R)))
    low, high = np.percentile(kappas, [2.5, 97.5])
    return f"{kappa(given_R, stated_R):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
