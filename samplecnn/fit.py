"""Training in plain PyTorch: epochs, validation, early stopping, exact resume. Knows nothing of Ray.

`fit` is a generator, so that whoever runs it decides what happens between epochs (a checkpoint, a report, nothing).
Under an initialised process group it is data-parallel: each worker takes its contiguous share of each global batch, and
losses and gradients are those of one worker with the whole batch.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from samplecnn import metrics
from samplecnn.augment import augment
from samplecnn.batches import Batch, Items, RecordingSet, epoch_items
from samplecnn.batchnorm import keep_statistics
from samplecnn.errors import JobError
from samplecnn.hearing import Hearing
from samplecnn.lessons import Examined, Lesson, RecordingGrades, SegmentGrades
from samplecnn.network.folded import folded
from samplecnn.optimisers import OPTIMISERS, Recipe, parameter_groups
from samplecnn.ordinal import DEFAULT_HEAD
from samplecnn.recipe import FitSettings

log = logging.getLogger(__name__)

# B segments, R recordings, S windows of one recording, M members, O outputs, G grades.

# Of the learning rate: at the whole rate SampleCNN forgot what the starter had taught it (docs/ear.md).
STARTED = 0.1

# What torch.save writes and torch.load(weights_only=True) reads: tensors, numbers, strings, lists and dicts of them.
State = dict[str, Any]


@dataclass(frozen=True)
class EpochReport:
    """How training stands after an epoch (counted from 1).

    Losses are what the lesson charges: of grades by cross-entropy nats a segment, or a recording, where chance is
    log(grades); of pairs nats, where it is log(2). valid_*: on the recordings held out, by
    recording, None where there are none. best: the weights of this epoch are the best so far. state: all that is needed
    to go on from here, its "best" the weights to keep.
    """

    epoch: int
    epochs: int
    train_loss: float
    valid_loss: float | None
    valid_accuracy: float | None
    valid_kappa: float | None
    learning_rate: float
    best: bool
    state: State

    def __str__(self) -> str:
        text = f"epoch {self.epoch}/{self.epochs}: loss {self.train_loss:.3f}"
        if self.valid_loss is not None:
            text += f", held out: loss {self.valid_loss:.3f}, accuracy {self.valid_accuracy:.2f}"
        if self.valid_kappa is not None:
            text += f", kappa {self.valid_kappa:.2f}"
        return text + (" (best so far)" if self.best else "")


def fit(
    network: Hearing,
    train: RecordingSet,
    valid: RecordingSet | None,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    head: str = DEFAULT_HEAD,
    lesson: Lesson | None = None,
    started: bool = False,
    state: State | None = None,
) -> Iterator[EpochReport]:
    """Train the network in place, yielding after each epoch; when the generator ends it holds the best weights.

    lesson: what is learnt (lessons.py); None: grades, from what the settings say.
    valid: decides which epoch is best (lowest loss) and when to stop; None: the last epoch is best. started: the
    whole network is a starter's; then it learns at STARTED of the rate, keeps BatchNorm's statistics, and is best as
    it is, before any epoch, unless one is better by more than the standard error of that difference over valid's
    groups.
    state: that of an earlier report, to go on from there exactly as if nothing had happened. Raises JobError when the
    loss is no number.
    Under torch.distributed every worker calls this with the same arguments and gets the same reports.
    """
    network.to(device)
    lesson = lesson or _lesson(settings, head)
    recipe = OPTIMISERS[settings.recipe]
    rank, world = _rank_and_world()
    parallel: nn.Module = _Learning(network)
    if world > 1:
        parallel = _data_parallel(parallel, device)
    done, stage, begun, stale, best_loss, best = 0, 0, 0, 0, math.inf, _weights(network)
    start_loss_R: list[float] | None = None
    optimiser = _optimiser(recipe, network, settings)
    if state is not None:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        done, stage, begun, stale = state["epoch"], state["stage"], state["begun"], state["stale"]
        best_loss, best, start_loss_R = state["best_loss"], state["best"], state["start_loss"]
    elif valid is not None and started:
        network.eval()
        start_loss_R = _validate(network, valid, lesson, device, rank, world)[0]
        best_loss = float(np.mean(start_loss_R))
    highest = settings.learning_rate * (STARTED if started else 1.0)

    for epoch in range(done, settings.epochs):
        if _stage_is_over(recipe, settings, valid, stale, epoch, stage):
            if stage + 1 == recipe.stages:
                log.info("no improvement in %d epochs: training ends after epoch %d", stale, epoch)
                break
            stage, begun, stale = stage + 1, epoch, 0
            network.load_state_dict(best)
            optimiser = _optimiser(recipe, network, settings)
        items = epoch_items(train, seed, epoch, settings.crops, settings.batch_size, lesson.together)
        steps = len(items) // settings.batch_size
        network.train()
        if started:
            keep_statistics(network)
        total, rate = torch.zeros((), dtype=torch.float64, device=device), 0.0
        for step in range(steps):
            taken = (epoch - begun) * steps + step
            rate = recipe.rate(highest, stage, taken, settings.epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = rate / STARTED if started and group["fresh"] else rate
            share = _shared_batch(train, items, step, settings, lesson, rank, world)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
                outputs_MBO, attention_B = parallel(share.waveform_BT.to(device), share.key_B)
            loss_M = torch.stack(
                [lesson.loss(outputs_BO.float(), attention_B.float(), share) for outputs_BO in outputs_MBO]
            )
            network.zero_grad()
            # DDP takes the mean over workers.
            torch.autograd.backward(loss_M.sum() * (world * lesson.together / settings.batch_size))
            optimiser.step()
            total += loss_M.detach().mean()
        train_loss = float(_sum_over_workers(total)) * lesson.together / len(items)
        network.eval()
        checked = _validate(network, valid, lesson, device, rank, world) if valid is not None else None
        valid_loss = float(np.mean(checked[0])) if checked else None
        if not math.isfinite(train_loss) or (valid_loss is not None and not math.isfinite(valid_loss)):
            raise JobError(
                f"the loss is no number any more in epoch {epoch + 1}: train again with a lower --learning-rate "
                f"(it was {settings.learning_rate:g})"
            )
        better = valid_loss is None or valid_loss < best_loss
        if checked and start_loss_R:
            assert valid is not None
            better = better and metrics.beyond_chance(np.subtract(start_loss_R, checked[0]), valid.groups)
        if better:
            best_loss, best = math.inf if valid_loss is None else valid_loss, _weights(network)
        stale = 0 if better else stale + 1
        yield EpochReport(
            epoch=epoch + 1,
            epochs=settings.epochs,
            train_loss=train_loss,
            valid_loss=valid_loss,
            valid_accuracy=checked[1] if checked else None,
            valid_kappa=checked[2] if checked else None,
            learning_rate=rate,
            best=better,
            state={
                "network": _weights(network),
                "optimiser": _copied(optimiser.state_dict()),
                "best": best,
                "best_loss": best_loss,
                "start_loss": start_loss_R,
                "epoch": epoch + 1,
                "stage": stage,
                "begun": begun,
                "stale": stale,
            },
        )
    network.load_state_dict(best)
    network.eval()


def _lesson(settings: FitSettings, head: str) -> Lesson:
    return RecordingGrades(head, settings.crops) if settings.attention else SegmentGrades(head)


class _Learning(nn.Module):
    """outputs_MBO of a network's members and attention_B, in the one pass that DistributedDataParallel asks for."""

    def __init__(self, network: Hearing) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveform_BT: Tensor, key_B: Tensor) -> tuple[Tensor, Tensor]:
        embedding_BE = self.network.embed(waveform_BT, key_B)
        attention = self.network.attention
        attention_B = attention(embedding_BE) if attention else embedding_BE.new_zeros(len(embedding_BE))
        return self.network.members(embedding_BE, key_B), attention_B


def _data_parallel(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Buffers are not sent round before every step: BatchNorm's are the same everywhere (batchnorm.py)."""
    with warnings.catch_warnings():
        # torch 2.13 has another name for it, which the torch of the K80 set does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(
            network,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )


def _optimiser(recipe: Recipe, network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    return recipe.optimiser(parameter_groups(network, settings.weight_decay), settings.learning_rate)


def _stage_is_over(
    recipe: Recipe, settings: FitSettings, valid: RecordingSet | None, stale: int, epoch: int, stage: int
) -> bool:
    """Has this stage settled when an epoch begins (counted from 0)? With nothing held out that shows it, each stage
    gets an equal share of the epochs, to one more or less."""
    if valid is None:
        return epoch * recipe.stages >= (stage + 1) * settings.epochs
    return stale >= settings.patience


def _shared_batch(
    train: RecordingSet, items: Items, step: int, settings: FitSettings, lesson: Lesson, rank: int, world: int
) -> Batch:
    """This worker's contiguous part of a global batch, augmented; the parts differ by at most one item."""
    start, size = step * settings.batch_size, settings.batch_size // lesson.together
    first, end = (start + lesson.together * (size * part // world) for part in (rank, rank + 1))
    share = lesson.batch(train, items.part(first, end))
    heard_BT = augment(share.waveform_BT, share.key_B, train.settings.sample_rate, settings.augmentations)
    return replace(share, waveform_BT=heard_BT)


def _validate(
    network: Hearing, valid: RecordingSet, lesson: Lesson, device: torch.device, rank: int, world: int
) -> tuple[list[float], float, float | None]:
    """Loss of each recording, accuracy, and kappa where grades are learnt; the recordings are shared out over the
    workers."""
    network = folded(network)
    found_XR = torch.zeros((len(Examined._fields), len(valid)), dtype=torch.float64, device=device)
    for i in range(rank, len(valid), world):
        found_XR[:, i] = torch.tensor(lesson.examine(network, valid, i, device), dtype=torch.float64)
    loss_R, right_R, stated_R = _sum_over_workers(found_XR).cpu().numpy()
    agreement = metrics.kappa(valid.grade_R, stated_R.astype(np.int64)) if lesson.graded else None
    return loss_R.tolist(), float(right_R.mean()), agreement


def _rank_and_world() -> tuple[int, int]:
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _sum_over_workers(x: Tensor) -> Tensor:
    if _rank_and_world()[1] > 1:
        distributed.all_reduce(x)
    return x


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _copied(state: Any) -> Any:
    """The optimiser's state with its tensors copied to the CPU."""
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state
