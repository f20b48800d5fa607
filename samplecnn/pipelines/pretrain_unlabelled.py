"""pretrain_unlabelled: a starter from recordings that nobody has graded, data-parallel like training.

The network learns to tell which of two copies of a passage has the worse pulse (lessons.Pairs), from uploads as they
are. No label is read, so that recordings which are evaluated later may be among them.
"""

import hashlib
import json
import tempfile
from typing import Any

from samplecnn import fit as fitting
from samplecnn import unlabelled
from samplecnn.architecture import plan_for
from samplecnn.batches import read_recordings
from samplecnn.contract import RECORDING, STARTER_FILE, VERSION
from samplecnn.errors import UserError
from samplecnn.flags import settings_dict
from samplecnn.hearing import own_device, own_threads
from samplecnn.labels import Label
from samplecnn.lessons import Pairs
from samplecnn.pipelines.fitting import (
    best_epoch,
    checkpoint_of,
    checkpoints_of,
    clear,
    fit_on_workers,
    is_first,
    run_epochs,
    state_so_far,
)
from samplecnn.recipe import UnlabelledSettings
from samplecnn.segment_folder import SegmentsFolder, open_segments
from samplecnn.starter import load_starter
from samplecnn.store import open_store

LEAST_RECORDINGS = 10
RUN = "run"  # in the starter's card


def pretrain_unlabelled(
    segments: str, starter: str, settings: UnlabelledSettings, *, seed: int, workers: int | None = None
) -> str:
    """Learn from the recordings of a segments folder and publish a starter; returns the closing line.

    Raises UserError for too few recordings, JobError where training fails.
    """
    folder = open_segments(segments)
    names = sorted(folder.recordings[RECORDING].to_pylist())
    if len(names) < LEAST_RECORDINGS:
        raise UserError(f"--segments {segments}: {len(names)} recordings: at least {LEAST_RECORDINGS} are needed")
    run = _run(folder, settings, seed)
    checkpoints = checkpoints_of(starter, "--starter")
    place = open_store(starter).url(STARTER_FILE)
    if _taught_already(starter, run):
        clear(checkpoints)
        return f"{place}: made already from these recordings with these settings: nothing to do"
    config = {"folder": folder, "names": names, "settings": settings, "seed": seed}
    state = fit_on_workers(_worker, config, run, checkpoints, len(names), workers)
    best = best_epoch(state["history"])
    assert best is not None, "from nothing the first epoch is the best so far"
    told = {"recordings": len(names), "best_epoch": best["epoch"], "pairs_right": best["valid_accuracy"], RUN: run}
    plan, rate = plan_for(folder.settings.segment_samples), folder.settings.sample_rate
    network = unlabelled.network_for_pairs(settings.network, plan, rate, seed)
    network.load_state_dict(state["fit"]["best"])
    unlabelled.publish(starter, network, state["directions"], settings, plan, rate, told)
    clear(checkpoints)
    pairs = f"{best['valid_accuracy']:.0%} of the pairs that were held back are told right (by chance 50%)"
    return f"{place}: {len(names)} recordings heard, best after epoch {best['epoch']}; {pairs}"


def _run(folder: SegmentsFolder, settings: UnlabelledSettings, seed: int) -> str:
    """A hash of the recordings and of what is done with them."""
    whole = {
        "recordings": sorted(zip(*(folder.recordings[name].to_pylist() for name in (RECORDING, VERSION)), strict=True)),
        "segments": settings_dict(folder.settings),
        "settings": settings_dict(settings),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _taught_already(starter: str, run: str) -> bool:
    try:
        return bool(load_starter(starter).card.taught.get(RUN) == run)
    except UserError:
        return False  # none there, or a broken one, which is written over


def _worker(config: dict[str, Any]) -> None:
    """One of the data-parallel workers."""
    own_threads(config["threads"])
    segments: SegmentsFolder = config["folder"]
    settings: UnlabelledSettings = config["settings"]
    seed, device = config["seed"], own_device()
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        ungraded = {name: [Label(name, 0, name)] for name in config["names"]}
        recordings = read_recordings(segments.filesystem, segments.paths, ungraded, segments.settings, folder)
        learn, check = unlabelled.parted(recordings, seed)
        plan, rate = plan_for(segments.settings.segment_samples), segments.settings.sample_rate
        network, so_far = unlabelled.network_for_pairs(settings.network, plan, rate, seed), state_so_far()
        reports = fitting.fit(
            network, learn, check, settings.fit(), seed=seed, device=device, lesson=Pairs(), state=so_far["fit"]
        )
        state = run_epochs(reports, so_far, config["journal"])
        if state is None:
            return
        if is_first():
            state["directions"] = unlabelled.directions(network, recordings, device)
        checkpoint_of(state)
