"""train: data-parallel fitting under Ray Train, from checkpoint to checkpoint, to a published model.

The run is named by a hash of data and settings: the same command goes on from its last checkpoint (fitting.py), a
finished one is a no-op, and a corrected label starts a new run (Ray would go on from the old one's checkpoint).
"""

import copy
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplecnn import fit as fitting
from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.batches import held_back, sounds
from samplecnn.calibration import shifts_of
from samplecnn.contract import METRICS_JSON, PREDICTIONS_CSV, SAMPLE_RATE, SCORE
from samplecnn.cross_validation import listen, merging_after
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import Calibration, calibration_of
from samplecnn.hearing import Hearing, own_device, own_threads
from samplecnn.inputs import SCORES, inputs_of_segments, spread_of
from samplecnn.labels import LabelSettings
from samplecnn.likeness import Likeness, fit_likeness, likeness_from_json
from samplecnn.merging import Merging
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.fitting import (
    best_epoch,
    checkpoint_of,
    checkpoints_of,
    clear,
    fit_on_workers,
    is_first,
    refuse,
    run_epochs,
    state_so_far,
    tell,
)
from samplecnn.pipelines.labelled import Labelled, labelled, lacking, recording_set
from samplecnn.pipelines.ways import Chooser
from samplecnn.recipe import NO_STARTER, FitSettings, Way
from samplecnn.set_pieces import PieceCalibration, SetPieces, log_odds_of_shares, telling
from samplecnn.starter import new_network
from samplecnn.store import read_file
from samplecnn.tables import read_csv
from samplecnn.trained_on import TrainedOn

log = logging.getLogger(__name__)

DIGITS = 6  # of shifts: threads differ in the last bits, and one model must not have two ids for them


def train(
    segments: str,
    labels: str,
    model: str,
    label_settings: LabelSettings,
    network_settings: NetworkSettings,
    fit_settings: FitSettings,
    *,
    seed: int,
    otherwise: Way | None = None,
    evaluation: str | None = None,
    workers: int | None = None,
) -> str:
    """Train a model and publish it; returns the closing line.

    otherwise: how to train where the labels show that the starter does not hear what they say; evaluation: where
    `evaluate` wrote what it found of this very model, to calibrate it by; workers: data-parallel processes; None: one
    a GPU, or a single one on CPUs. Raises UserError for labels that cannot be learned from and an evaluation of
    something else, JobError where training fails.
    """
    data = labelled(segments, labels, label_settings)
    checkpoints = checkpoints_of(model, "--model")
    told = _evaluation_files(evaluation)  # what is missing is said now, not after hearing the starter
    (network_settings, fit_settings), starter, why = Chooser(
        data, Way(network_settings, fit_settings), otherwise
    ).chosen()
    settings = data.folder.settings
    plan = plan_for(settings.segment_samples, network_settings)
    run = data.fingerprint(network_settings, fit_settings, starter, seed)
    calibration = _calibration(
        evaluation, told, data.fingerprint(network_settings, fit_settings, starter), settings.sample_rate
    )
    if trained := _trained_already(model, run):
        clear(checkpoints)
        return _settled(model, *trained, calibration, data)
    config = {
        "data": data,
        "network": network_settings,
        "fit": fit_settings,
        "starter": starter,
        "seed": seed,
    }
    state = fit_on_workers(_worker, config, run, checkpoints, len(data.recordings), workers)
    history = state["history"]
    best = best_epoch(history)
    card = ModelCard(
        plan=plan,
        settings=settings,
        grades=data.grades,
        network=network_settings.network,
        attention=fit_settings.attention,
        head=network_settings.head,
        merge=state["merge"]["chosen"],
        merge_parameters=state["merge"]["rules"][state["merge"]["chosen"]],
        likeness=likeness_from_json(state["likeness"]) if state["likeness"] else None,
        training_data=run,
        metrics={
            "recordings": len(data.recordings),
            "starter": starter.id if starter else NO_STARTER,
            **({"starter_hears": why} if why else {}),
            "best_epoch": best["epoch"] if best else 0,
            "merge": state["merge"]["why"],
            "rules": state["merge"]["rules"],
            "history": history,
            "inputs": _inputs(data),
        },
    )
    if calibration:
        card = _calibrated(card, calibration, state["fit"]["best"], data)
    card = model_folder.publish(model, card, state["fit"]["best"], _learnt_from(data, run))
    clear(checkpoints)
    held = f", held-out kappa {best['valid_kappa']:.2f}" if best and best["valid_kappa"] is not None else ""
    ended = f"best after epoch {best['epoch'] if best else 0} of {history[-1]['epoch']}{held}"
    return f"{model}: model {card.model_id}, {ended}, {_told(calibration)}"


def _evaluation_files(evaluation: str | None) -> tuple[bytes, bytes] | None:
    """Metrics and predictions; None where no evaluation is named."""
    if evaluation is None:
        return None
    metrics, predictions = (
        read_file(f"{evaluation.rstrip('/')}/{name}", "--evaluation") for name in (METRICS_JSON, PREDICTIONS_CSV)
    )
    return metrics, predictions


def _calibration(
    evaluation: str | None, files: tuple[bytes, bytes] | None, fingerprint: str, sample_rate: int
) -> Calibration | None:
    if evaluation is None or files is None:
        return None
    told, predictions = files
    calibration = calibration_of(told, evaluation, fingerprint)
    score_R = [float(row[SCORE]) for row in read_csv(predictions, evaluation) if row[SAMPLE_RATE] == str(sample_rate)]
    return replace(calibration, scores=spread_of({SCORES: np.array(score_R)}))


def _calibrated(card: ModelCard, calibration: Calibration, weights: Mapping[str, Tensor], data: Labelled) -> ModelCard:
    parameters = card.metrics["rules"].get(calibration.merge)
    if parameters is None:
        raise JobError(
            f"the evaluation merges by {calibration.merge}, for which this model lacks recordings that it was not "
            "trained on: train without --evaluation"
        )
    card = replace(
        card,
        merge=calibration.merge,
        merge_parameters=parameters,
        temperature=calibration.temperature,
        cuts=calibration.cuts,
        least_confidence=calibration.least_confidence,
        marks=calibration.marks,
        pieces=None,
        metrics={
            **card.metrics,
            "evaluation": calibration.evaluation,
            "inputs": {**card.metrics.get("inputs", {}), **calibration.scores},
        },
    )
    return replace(card, pieces=_pieces(card, calibration.pieces, weights, data)) if calibration.pieces else card


def _pieces(
    card: ModelCard, calibration: PieceCalibration, weights: Mapping[str, Tensor], data: Labelled
) -> SetPieces | None:
    """What the network makes of the labelled recordings beside which it is to judge others."""
    rows = telling(data.piece_R, np.arange(len(data.recordings)))
    known, network = data.subset(rows), card.build()
    network.load_state_dict(weights)
    network.eval()
    log.info("hearing %d recordings whose piece is named", len(rows))
    row, heard = {name: i for i, name in enumerate(known.judged)}, {}
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = recording_set(known, folder)
        for i, name in enumerate(recordings.names):
            if one := listen(network, recordings, i, torch.device("cpu")):
                heard[row[name]] = replace(one, rule=card.rule())
    centre = log_odds_of_shares(data.grade_R, len(data.grades))
    shift = shifts_of(heard, known.grade_R, known.piece_R, card.head, card.temperature, centre)
    shift = {piece: round(value, DIGITS) for piece, value in shift.items()}
    return SetPieces(shift, calibration) if shift else None


def _told(calibration: Calibration | None) -> str:
    if calibration is None:
        return "not calibrated (evaluate first, then train with --evaluation)"
    least = calibration.least_confidence
    told = f"; no grade below a confidence of {least:.2f}" if least else ""
    return f"calibrated (temperature {calibration.temperature:.2f}){told}"


def _same(calibration: Calibration, card: ModelCard) -> bool:
    one, other = (
        (known.merge, known.temperature, known.cuts, known.least_confidence, known.marks)
        for known in (calibration, card)
    )
    return one == other and calibration.pieces == (card.pieces and card.pieces.calibration)


def _settled(model: str, card: ModelCard, network: Hearing, calibration: Calibration | None, data: Labelled) -> str:
    """A model that is trained already needs at most another calibration, and what earlier versions did not keep."""
    whole, new = card, []
    if calibration and not _same(calibration, card):
        whole = _calibrated(whole, calibration, network.state_dict(), data)
        new.append(_told(calibration))
    if card.likeness is None and (likeness := _likeness(data)):
        whole = replace(whole, likeness=likeness)
        new.append("the distance by which it tells what is no playing")
    if "inputs" not in card.metrics:
        whole = replace(
            whole, metrics={**whole.metrics, "inputs": {**_inputs(data), **whole.metrics.get("inputs", {})}}
        )
        new.append("how its recordings are spread")
    if model_folder.trained_on(model) is None:
        new.append("hashes of what it was trained on")
    if not new:
        told = "trained already on these labels with these settings"
        return f"{model}: {told} (model {card.model_id}): nothing to do"
    whole = model_folder.publish(model, whole, network.state_dict(), _learnt_from(data, card.training_data))
    before = "" if whole.model_id == card.model_id else f" (before: {card.model_id})"
    return f"{model}: model {whole.model_id}{before}, trained already; new: {', '.join(new)}"


def _inputs(data: Labelled) -> dict[str, list[float]]:
    return spread_of(inputs_of_segments(data.folder, set(data.recordings)))


def _learnt_from(data: Labelled, run: str) -> TrainedOn:
    return TrainedOn.of(zip(data.recordings, data.versions, strict=True), salt=run)


def _likeness(data: Labelled) -> Likeness | None:
    """Of a model that was trained before there was any."""
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        return fit_likeness(*sounds(recording_set(data, folder)))


def _trained_already(model: str, run: str) -> tuple[ModelCard, Hearing] | None:
    """The model in this folder, if it came out of this very run."""
    try:
        card, network = model_folder.load(model)
    except UserError:
        return None  # none there, or a broken one: publish says so if it must not be replaced
    return (card, network) if card.training_data == run else None


def _worker(config: dict[str, Any]) -> None:
    """One of the data-parallel workers."""
    own_threads(config["threads"])
    data: Labelled = config["data"]
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = recording_set(data, folder)
        if why := lacking(recordings):
            refuse(config["journal"], why)
            return
        learn, check = held_back(recordings, config["seed"], train_on_all=config["fit"].train_on_all)
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
        starter = copy.deepcopy(network) if started and is_first() else None
        so_far = state_so_far()
        reports = fitting.fit(
            network,
            learn,
            check,
            config["fit"],
            seed=seed,
            device=device,
            head=settings.head,
            started=started,
            state=so_far["fit"],
        )
        state = run_epochs(reports, so_far, config["journal"])
        if state is None:
            return
        if is_first():
            best = best_epoch(state["history"])
            told = {"head": settings.head, "seed": seed, "device": device}
            merging = merging_after(network, starter, recordings, check, best["epoch"] if best else 0, **told)
            tell(config["journal"], f"merge: {merging.why}")
            state["merge"] = _kept(merging)
            likeness = fit_likeness(*sounds(recordings))
            state["likeness"] = likeness and likeness.to_json()
        checkpoint_of(state)


def _kept(merging: Merging) -> dict[str, Any]:
    """The merge rules as checkpoints and model.json keep them."""
    rules = {name: asdict(rule) for name, rule in merging.rules.items()}  # type: ignore[call-overload]
    return {"chosen": merging.chosen, "rules": rules, "why": merging.why}
