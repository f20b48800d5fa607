"""Fitting under Ray Train, from checkpoint to checkpoint: what training on labels and adapting without them share.

A run is named by a hash of data and settings: the same command goes on from its last checkpoint. Checkpoints lie beside
the place that the result goes to, never in it, and go when it is published.
"""

import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import ray
import torch
from pyarrow.fs import FileType, GcsFileSystem
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import RayTrainError

from samplecnn.errors import JobError, UserError, one_line
from samplecnn.fit import EpochReport
from samplecnn.pipelines.journal import Followed, new_journal
from samplecnn.pipelines.runtime import ray_session, told_by_worker
from samplecnn.store import Store, open_store

log = logging.getLogger(__name__)

CHECKPOINT = "state.pt"
MOST_FAILURES = 3  # workers lost before the job gives up; Ray's default gives up at once
START_LIMIT_S = 900  # a GPU machine takes minutes to boot; without a limit Ray waits for ever

State = dict[str, Any]


def checkpoints_of(place: str, flag: str) -> Store:
    """Where the checkpoints of what goes to this place lie. Raises UserError for a place that cannot have any."""
    root = open_store(place).root  # a wrong place is refused now, not after hours
    if root.startswith("gs://") and "/" not in root.removeprefix("gs://"):  # they would go into another bucket
        raise UserError(f"{flag} {place}: is a whole bucket: name a folder in it, such as {root}/{flag.strip('-')}")
    return open_store(place.rstrip("/") + ".checkpoints")


def fit_on_workers(
    worker: Callable[[State], None],
    config: State,
    run: str,
    checkpoints: Store,
    recordings: int,
    workers: int | None,
) -> State:
    """Run data-parallel workers, each with this config and its `threads` and `journal`; returns the last checkpoint's
    state.

    recordings: how many, for the log; workers: None: one a GPU, or a single one on CPUs. Raises JobError where fitting
    fails, UserError for more workers than the machine has room for.
    """
    filesystem, base = checkpoints.filesystem()
    if isinstance(filesystem, GcsFileSystem):
        # A marker of the folder: where Ray's create_dir finds none, it makes those of all folders above it too, which
        # lie outside this place, and asks for the bucket (storage.buckets.get).
        checkpoints.put("", b"")
    _drop_cut_off(filesystem, f"{base}/{run}")
    with ray_session() as cpus:
        gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
        workers = workers or max(1, gpus)
        _require_room(workers, gpus, cpus)
        threads = _threads(workers, gpus)
        journal = new_journal()
        log.info("training on %d recordings with %d workers on %s", recordings, workers, "GPUs" if gpus else "CPUs")
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_LIMIT_S))
        trainer = TorchTrainer(
            worker,
            train_loop_config={**config, "threads": threads, "journal": journal},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": threads, **({"GPU": 1} if gpus else {})},
            ),
            run_config=RunConfig(
                name=run,
                storage_path=base,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=MOST_FAILURES, controller_failure_limit=MOST_FAILURES),  # type: ignore[call-arg]
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
        )
        try:
            with Followed(journal):
                result = trainer.fit()
        except TrainingFailedError as error:
            raise told_by_worker(error) from error
        if refusal := ray.get(journal.refusal.remote()):
            raise JobError(refusal)
        if result.checkpoint is None:
            raise JobError(f"training ended without a checkpoint; {result.error or 'no reason was given'}")
        return _read_state(result.checkpoint)


def _drop_cut_off(filesystem: Any, run: str) -> None:
    """Have a run begin anew where its list of checkpoints, or the last of them, was cut off.

    Ray writes both in place. A kill, a full disk or a power cut at that moment leaves half of one, over which Ray would
    stumble at every try.
    """
    if filesystem.get_file_info(run).type == FileType.NotFound:
        return
    try:
        found = Result.from_path(run, storage_filesystem=filesystem)
    except RuntimeError:  # there is no list: it was ended before its first checkpoint
        return
    except RayTrainError as error:
        why = str(error)
    else:
        try:
            if found.checkpoint:
                _read_state(found.checkpoint)
            return
        except (RuntimeError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:  # torch's for half a file
            why = str(error)
    log.warning("the last checkpoint was cut off (%s): training begins anew", one_line(why))
    _remove(filesystem, run)


def clear(checkpoints: Store) -> None:
    """Remove the checkpoints, those of older runs too: their labels or settings are no longer these."""
    filesystem, base = checkpoints.filesystem()
    if filesystem.get_file_info(base).type != FileType.NotFound:
        _remove(filesystem, base)


def _remove(filesystem: Any, folder: str) -> None:
    with suppress(FileNotFoundError):  # in a bucket, of the folder's own marker, the last to go: all else is gone
        filesystem.delete_dir(folder)


def best_epoch(history: list[State]) -> State | None:
    """The epoch whose weights are kept; None: those of the starter as it is."""
    return next((row for row in reversed(history) if row["best"]), None)


# --- in a worker -----------------------------------------------------------------------------------------------------


def is_first() -> bool:
    """Is this the worker that writes the checkpoints? All take the same steps."""
    return bool(ray.train.get_context().get_world_rank() == 0)


def state_so_far() -> State:
    """fit: what fit.py goes on from; history: a row an epoch."""
    checkpoint = ray.train.get_checkpoint()
    return _read_state(checkpoint) if checkpoint else {"fit": None, "history": []}


def run_epochs(reports: Iterator[EpochReport], state: State, journal: Any) -> State | None:
    """Take the epochs, with a checkpoint after each; the state then, None where the loss is no number any more."""
    while True:
        try:
            report = next(reports, None)
        except JobError as error:
            refuse(journal, str(error))
            return None
        if report is None:
            return state
        row = {name: value for name, value in asdict(report).items() if name != "state"}
        state = {"fit": report.state, "history": [*state["history"], row]}
        if is_first():
            tell(journal, str(report))
        checkpoint_of(state)


def refuse(journal: Any, why: str) -> None:
    """What every worker finds alike, so that there is no use in trying again: the job ends with this."""
    ray.get(journal.refuse.remote(why))


def tell(journal: Any, line: str) -> None:
    """A line for the terminal of the driver."""
    ray.get(journal.add.remote(line))


def checkpoint_of(state: State) -> None:
    """Every worker reports, or Ray waits; the first one's checkpoint is the only one."""
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as written:
        if is_first():
            torch.save(state, os.path.join(written, CHECKPOINT))
        checkpoint = Checkpoint.from_directory(written) if is_first() else None
        ray.train.report(state["history"][-1], checkpoint=checkpoint)


def _read_state(checkpoint: Checkpoint) -> State:
    with checkpoint.as_directory() as folder:
        return dict(torch.load(os.path.join(folder, CHECKPOINT), weights_only=True, map_location="cpu"))


def _require_room(workers: int, gpus: int, cpus: int) -> None:
    """Refuse what could only wait for ever on a machine that does not grow."""
    if "RAY_ADDRESS" not in os.environ and workers > (gpus or cpus):
        raise UserError(
            f"--workers {workers}: this machine has {gpus or cpus} {'GPUs' if gpus else 'cores'}: choose fewer"
        )


def _threads(workers: int, gpus: int) -> int:
    """CPUs for each worker, so that the workers of a machine share it and none asks for more than a machine has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    able = [node for node in nodes if node.get("GPU" if gpus else "CPU", 0) >= 1]
    on_one = -(-workers // max(1, len(able)))
    return max(1, min((int(node.get("CPU", 1)) for node in able), default=1) // on_one)
