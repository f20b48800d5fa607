"""train: data-parallel fitting under Ray Train, from checkpoint to checkpoint, to a published model.

The run is named by a hash of data and settings: the same command goes on from its last checkpoint, a finished one is a
no-op, and a corrected label starts a new run (Ray would go on from the old one's checkpoint). Checkpoints lie beside
the model folder, never in it, and go when the model is published.
"""

import copy
import logging
import os
import tempfile
from dataclasses import asdict, replace
from typing import Any

import ray
import torch
from pyarrow.fs import FileType, GcsFileSystem
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from samplecnn import fit as fitting
from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.batches import RecordingSet, held_back, read_recordings
from samplecnn.contract import METRICS_JSON
from samplecnn.cross_validation import merging_after
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import Calibration, calibration_of
from samplecnn.hearing import Hearing, own_device
from samplecnn.labels import Label, LabelSettings
from samplecnn.merging import Merging
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.journal import Followed, Journal
from samplecnn.pipelines.labelled import Labelled, labelled, read_file
from samplecnn.pipelines.runtime import ray_session, told_by_worker
from samplecnn.recipe import NO_STARTER, FitSettings
from samplecnn.starter import new_network, starter_for
from samplecnn.store import Store, open_store

log = logging.getLogger(__name__)

CHECKPOINT = "state.pt"
MOST_FAILURES = 3  # workers lost before the job gives up; Ray's default gives up at once
START_LIMIT_S = 900  # a GPU machine takes minutes to boot; without a limit Ray waits for ever


def train(
    segments: str,
    labels: str,
    model: str,
    label_settings: LabelSettings,
    network_settings: NetworkSettings,
    fit_settings: FitSettings,
    *,
    seed: int,
    evaluation: str | None = None,
    workers: int | None = None,
) -> str:
    """Train a model and publish it; returns the closing line.

    evaluation: where `evaluate` wrote what it found of this very model, to calibrate it by; workers: data-parallel
    processes; None: one a GPU, or a single one on CPUs. Raises UserError for labels that cannot be learned from and an
    evaluation of something else, JobError where training fails.
    """
    data = labelled(segments, labels, label_settings)
    settings = data.folder.settings
    plan = plan_for(settings.segment_samples, network_settings)
    starter = starter_for(fit_settings.init, settings.sample_rate, plan)
    run = data.fingerprint(network_settings, fit_settings, starter, seed)
    calibration = _calibration(evaluation, data.fingerprint(network_settings, fit_settings, starter))
    place = open_store(model).root  # a wrong place is refused now, not after hours
    if place.startswith("gs://") and "/" not in place.removeprefix("gs://"):  # its checkpoints would go into another
        raise UserError(f"--model {model}: is a whole bucket: name a folder in it, such as {place}/model")
    checkpoints = open_store(model.rstrip("/") + ".checkpoints")
    filesystem, base = checkpoints.filesystem()
    if trained := _trained_already(model, run):
        _clear(checkpoints)
        return _settled(model, *trained, calibration)
    if isinstance(filesystem, GcsFileSystem):
        # A marker of the folder: where Ray's create_dir finds none, it makes those of all folders above it too, which
        # lie outside this place, and asks for the bucket (storage.buckets.get).
        checkpoints.put("", b"")
    with ray_session() as cpus:
        gpus = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
        workers = workers or max(1, gpus)
        _require_room(workers, gpus, cpus)
        threads = _threads(workers, gpus)
        journal = Journal.remote()  # type: ignore[attr-defined]
        config = {
            "data": data,
            "network": network_settings,
            "fit": fit_settings,
            "starter": starter,
            "seed": seed,
            "threads": threads,
            "journal": journal,
        }
        log.info(
            "training on %d recordings with %d workers on %s", len(data.recordings), workers, "GPUs" if gpus else "CPUs"
        )
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_LIMIT_S))
        trainer = TorchTrainer(
            _worker,
            train_loop_config=config,
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
        state = _read_state(result.checkpoint)
    history = state["history"]
    best = _best(history)
    card = _calibrated(
        ModelCard(
            plan=plan,
            settings=settings,
            grades=data.grades,
            network=network_settings.network,
            attention=fit_settings.attention,
            head=network_settings.head,
            merge=state["merge"]["chosen"],
            merge_parameters=state["merge"]["rules"][state["merge"]["chosen"]],
            training_data=run,
            metrics={
                "recordings": len(data.recordings),
                "starter": starter.id if starter else NO_STARTER,
                "best_epoch": best["epoch"] if best else 0,
                "merge": state["merge"]["why"],
                "rules": state["merge"]["rules"],
                "history": history,
            },
        ),
        calibration,
    )
    card = model_folder.publish(model, card, state["fit"]["best"])
    _clear(checkpoints)
    held = f", held-out kappa {best['valid_kappa']:.2f}" if best and best["valid_kappa"] is not None else ""
    ended = f"best after epoch {best['epoch'] if best else 0} of {history[-1]['epoch']}{held}"
    return f"{model}: model {card.model_id}, {ended}, {_told(calibration)}"


def _calibration(evaluation: str | None, fingerprint: str) -> Calibration | None:
    if evaluation is None:
        return None
    told = read_file(f"{evaluation.rstrip('/')}/{METRICS_JSON}", "--evaluation")
    return calibration_of(told, evaluation, fingerprint)


def _calibrated(card: ModelCard, calibration: Calibration | None) -> ModelCard:
    if calibration is None:
        return card
    parameters = card.metrics["rules"].get(calibration.merge)
    if parameters is None:
        raise JobError(
            f"the evaluation merges by {calibration.merge}, for which this model lacks recordings that it was not "
            "trained on: train without --evaluation"
        )
    return replace(
        card,
        merge=calibration.merge,
        merge_parameters=parameters,
        temperature=calibration.temperature,
        cuts=calibration.cuts,
        least_confidence=calibration.least_confidence,
        metrics={**card.metrics, "evaluation": calibration.evaluation},
    )


def _told(calibration: Calibration | None) -> str:
    if calibration is None:
        return "not calibrated (evaluate first, then train with --evaluation)"
    least = calibration.least_confidence
    told = f"; no grade below a confidence of {least:.2f}" if least else ""
    return f"calibrated (temperature {calibration.temperature:.2f}){told}"


def _same(calibration: Calibration, card: ModelCard) -> bool:
    one = calibration.merge, calibration.temperature, calibration.cuts, calibration.least_confidence
    return one == (card.merge, card.temperature, card.cuts, card.least_confidence)


def _settled(model: str, card: ModelCard, network: Hearing, calibration: Calibration | None) -> str:
    """A model that is trained already needs at most another calibration."""
    if calibration is None or _same(calibration, card):
        told = "trained already on these labels with these settings"
        return f"{model}: {told} (model {card.model_id}): nothing to do"
    card = model_folder.publish(model, _calibrated(card, calibration), network.state_dict())
    return f"{model}: model {card.model_id}, trained already, now {_told(calibration)}"


def _clear(checkpoints: Store) -> None:
    """Remove the checkpoints, those of older runs too: their labels or settings are no longer these."""
    filesystem, base = checkpoints.filesystem()
    if filesystem.get_file_info(base).type != FileType.NotFound:
        filesystem.delete_dir(base)


def _trained_already(model: str, run: str) -> tuple[ModelCard, Hearing] | None:
    """The model in this folder, if it came out of this very run."""
    try:
        card, network = model_folder.load(model)
    except UserError:
        return None  # none there, or a broken one: publish says so if it must not be replaced
    return (card, network) if card.training_data == run else None


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


def recording_set(data: Labelled, folder: str) -> RecordingSet:
    """The labelled recordings, rebuilt into a file in `folder`."""
    labels = {
        name: Label(name, int(grade), group)
        for name, grade, group in zip(data.recordings, data.grade_R, data.group_CR[0], strict=True)
    }
    return read_recordings(data.folder.filesystem, data.folder.paths, labels, data.folder.settings, folder)


def _worker(config: dict[str, Any]) -> None:
    """One of the data-parallel workers; all take the same steps, and the first one writes the checkpoints."""
    torch.set_num_threads(config["threads"])
    data: Labelled = config["data"]
    context = ray.train.get_context()
    first = context.get_world_rank() == 0
    checkpoint = ray.train.get_checkpoint()
    state = _read_state(checkpoint) if checkpoint else {"fit": None, "history": []}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = recording_set(data, folder)
        learn, check = held_back(recordings, config["seed"])
        settings: NetworkSettings = config["network"]
        segments, grades = data.folder.settings, len(data.grades)
        plan, seed = plan_for(segments.segment_samples, settings), config["seed"]
        network, started = new_network(
            settings.network,
            plan,
            segments.sample_rate,
            grades,
            settings.head,
            config["starter"],
            seed,
            attention=config["fit"].attention,
        )
        device = own_device()
        starter = copy.deepcopy(network) if started and first else None
        history, fitted = state["history"], state["fit"]
        reports = fitting.fit(
            network,
            learn,
            check,
            config["fit"],
            seed=seed,
            device=device,
            head=settings.head,
            started=started,
            state=fitted,
        )
        while True:
            try:
                report = next(reports, None)
            except JobError as error:  # the loss is no number, on every worker alike: no use in trying again
                ray.get(config["journal"].refuse.remote(str(error)))
                return
            if report is None:
                break
            row = {name: value for name, value in asdict(report).items() if name != "state"}
            history, fitted = [*history, row], report.state
            if first:
                ray.get(config["journal"].add.remote(str(report)))
            _report(row, {"fit": fitted, "history": history} if first else None)
        best = _best(history)
        best_epoch = best["epoch"] if best else 0
        told = {"head": settings.head, "seed": seed, "device": device}
        merge = _kept(merging_after(network, starter, recordings, check, best_epoch, **told)) if first else None
        if merge:
            ray.get(config["journal"].add.remote(f"merge: {merge['why']}"))
        _report(history[-1], {"fit": fitted, "history": history, "merge": merge} if first else None)


def _best(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The epoch whose weights are kept; None: those of the starter as it is."""
    return next((row for row in reversed(history) if row["best"]), None)


def _report(row: dict[str, Any], state: dict[str, Any] | None) -> None:
    """Every worker reports, or Ray waits; the first one's checkpoint is the only one."""
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as written:
        if state:
            torch.save(state, os.path.join(written, CHECKPOINT))
        ray.train.report(row, checkpoint=Checkpoint.from_directory(written) if state else None)


def _read_state(checkpoint: Checkpoint) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        state = torch.load(os.path.join(folder, CHECKPOINT), weights_only=True, map_location="cpu")
    return dict(state)


def _kept(merging: Merging) -> dict[str, Any]:
    """The merge rules as checkpoints and model.json keep them."""
    rules = {name: asdict(rule) for name, rule in merging.rules.items()}  # type: ignore[call-overload]
    return {"chosen": merging.chosen, "rules": rules, "why": merging.why}
