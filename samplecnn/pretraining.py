"""What a network learns before it hears anybody's recordings: what only a generator knows of a performance.

From a hundred labels SampleCNN learns nothing that holds for another performer, and the rhythm branch learns slowly.
Performances without end cost a fortieth of a CPU second each, and of each the generator knows much more than a grade:
how far every onset is off, which notes are wrong, how the tempo moves. So either branch is taught by itself to tell
these, and what they have learnt is kept as a starter (starter.py).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samplecnn.architecture import plan_for
from samplecnn.augment import augment
from samplecnn.batches import RecordingSet, batch, epoch_items
from samplecnn.errors import JobError
from samplecnn.flags import settings_dict
from samplecnn.hearing import Hearing
from samplecnn.infer import hear
from samplecnn.model_folder import library_versions
from samplecnn.network import SampleCNN
from samplecnn.network.joined import RhythmNetwork
from samplecnn.optimisers import OPTIMISERS, parameter_groups
from samplecnn.recipe import AUGMENTATIONS, BRANCHES, DEFAULT_RECIPE, PretrainSettings
from samplecnn.segments import SegmentSettings
from samplecnn.starter import StarterCard, find_direction, parts_of, publish_starter, weights_of

# R performances, B segments of a batch, K targets, S windows of one performance, E embedding.
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

SAMPLECNN_RATE = 1 / 3  # of the rhythm branch's: at the same one it learnt nothing
HELD_PERFORMERS = 20  # one performer in so many is kept to look at what was learnt

# What is meant, and what all instruments and pieces do: without these 0.73 of the rank of skill was told on another
# corpus, with them 0.72, in the same time.
NOT_TAUGHT = (
    *("log_rubato", "log_agogic", "log_crescendo", "log_accent", "log_voicing", "log_melody_lead_s", "legato"),
    *("loudness_spread", "loudness_trend", "tempo_trend", "pedal"),
)


@dataclass(frozen=True)
class Taught:
    """Performances and what is known of them. target_RK: NaN where a take does not tell; performer_R: their numbers;
    names: of the targets."""

    recordings: RecordingSet
    target_RK: Float32
    performer_R: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def held(self) -> Bool:
        """Which performances nothing is learnt from, [R]: performers whole."""
        return np.asarray(self.performer_R % HELD_PERFORMERS == 0)

    def standardised(self) -> Float32:
        """Targets of mean 0 and spread 1 over what is learnt from, [R, K]."""
        learnt_RK = self.target_RK[~self.held()]
        spread_K = np.nanstd(learnt_RK, axis=0)
        told_RK: Float32 = (self.target_RK - np.nanmean(learnt_RK, axis=0)) / np.where(spread_K > 0, spread_K, 1.0)
        return told_RK


def taught_columns(names: Sequence[str]) -> list[int]:
    """The places of the targets that are taught."""
    return [place for place, name in enumerate(names) if name not in NOT_TAUGHT]


def squared_error(outputs_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Mean over the targets that are told, [B]; 0 where none is."""
    told_BK = ~torch.isnan(target_BK)
    off_BK = torch.where(told_BK, outputs_BK - torch.nan_to_num(target_BK), torch.zeros_like(outputs_BK))
    return off_BK.square().sum(dim=1) / told_BK.sum(dim=1).clamp(min=1)


def teach(
    network: Hearing, taught: Taught, settings: PretrainSettings, rate: float, *, seed: int, device: torch.device
) -> Iterator[str]:
    """Train a network whose outputs are the targets, in place; yields a line after each epoch.

    rate: highest learning rate. Raises JobError when the loss is no number.
    """
    network.to(device)
    rows_R = np.flatnonzero(~taught.held())
    learn, target_RK = taught.recordings.subset(rows_R), torch.from_numpy(taught.standardised()[rows_R])
    recipe = OPTIMISERS[DEFAULT_RECIPE]
    optimiser = recipe.optimiser(parameter_groups(network, settings.weight_decay), rate)
    for epoch in range(settings.epochs):
        started, total = time.monotonic(), 0.0
        items = epoch_items(learn, seed, epoch, settings.crops, settings.batch_size)
        steps = len(items) // settings.batch_size
        network.train()
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(rate, 0, epoch * steps + step, settings.epochs * steps)
            part = items.part(step * settings.batch_size, (step + 1) * settings.batch_size)
            heard = batch(learn, part)
            waveform_BT = augment(heard.waveform_BT, heard.key_B, learn.settings.sample_rate, AUGMENTATIONS)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
                outputs_BK = network(waveform_BT.to(device), heard.key_B)
            loss = squared_error(outputs_BK.float(), target_RK[torch.from_numpy(part.recording_N)].to(device)).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += float(loss.detach())
        if not np.isfinite(total):
            raise JobError("the loss is no number any more: choose a lower --learning-rate")
        yield f"epoch {epoch + 1}/{settings.epochs}: loss {total / steps:.3f}, {time.monotonic() - started:.0f} s"
    network.eval()


@dataclass(frozen=True)
class Embedded:
    """What a taught network hears in each performance, means over its windows: embedding_RE, output_RK."""

    embedding_RE: Float32
    output_RK: Float32


def embed(network: Hearing, recordings: RecordingSet, device: torch.device) -> Embedded:
    """The network in evaluation mode on every performance."""
    network.to(device).eval()
    embeddings, outputs = [], []
    for i in range(len(recordings)):
        windows, gain = recordings.windows(i), float(recordings.gain_R[i])
        output_SK, embedding_SE, _ = hear(network, recordings.waveform(i), gain, windows, device)
        embeddings.append(embedding_SE.mean(dim=0).numpy())
        outputs.append(output_SK.mean(dim=0).numpy())
    return Embedded(np.stack(embeddings), np.stack(outputs))


def explained(output_RK: Float32, target_RK: Float32) -> Float64:
    """The share of each target's variance that is told, [K]: 1 is all, 0 what the mean would tell; 0 too where no take
    tells the target, or all tell the same."""
    share_K = np.zeros(target_RK.shape[1])
    for k, target_R in enumerate(target_RK.T):
        told_R = ~np.isnan(target_R)
        if told_R.any() and (spread := float(np.var(target_R[told_R]))) > 0:
            share_K[k] = 1 - float(np.mean((output_RK[told_R, k] - target_R[told_R]) ** 2)) / spread
    return share_K


@dataclass(frozen=True)
class Learnt:
    """One branch as it was taught: its weights, named as in a starter, and what it hears in every performance;
    target_RK: standardised; names: of the targets; held_R: who was kept from it."""

    weights: dict[str, Tensor]
    embedded: Embedded
    target_RK: Float32
    names: tuple[str, ...]
    held_R: Bool


def learn(
    name: str,
    taught: Taught,
    settings: PretrainSettings,
    *,
    seed: int,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
) -> Learnt:
    """Teach a branch of BRANCHES from nothing; `say` is given a line after each epoch."""
    outputs, heard = len(taught.names), taught.recordings.settings
    network: Hearing = (
        RhythmNetwork(heard.segment_samples, heard.sample_rate, outputs, seed=seed)
        if name == "rhythm"
        else SampleCNN(plan_for(heard.segment_samples), outputs, seed=seed)
    )
    rate = settings.learning_rate * (1.0 if name == "rhythm" else SAMPLECNN_RATE)
    for line in teach(network, taught, settings, rate, seed=seed, device=device):
        say(line)
    embedded = embed(network, taught.recordings, device)
    weights = {name: weight.cpu() for name, weight in weights_of(parts_of(network)).items()}
    return Learnt(weights, embedded, taught.standardised(), taught.names, taught.held())


def publish(
    place: str,
    learnt: Mapping[str, Learnt],
    segments: SegmentSettings,
    settings: PretrainSettings,
    described: Mapping[str, Any],
) -> StarterCard:
    """Write the starter of the branches that were taught on the same performances, with the direction of skill in each
    and in both joined. described: how the performances were drawn."""
    weights = {name: weight for branch in learnt.values() for name, weight in branch.weights.items()}
    any_branch = next(iter(learnt.values()))
    target_RK, held_R, names = any_branch.target_RK, any_branch.held_R, any_branch.names
    skill_R = target_RK[:, names.index("skill")].astype(np.float64)
    embedding_by_network = {name: branch.embedded.embedding_RE for name, branch in learnt.items()}
    if len(learnt) == len(BRANCHES):
        embedding_by_network["joined"] = np.concatenate([embedding_by_network[name] for name in BRANCHES], axis=1)
    directions = {
        name: find_direction(
            embedding_RE[~held_R].astype(np.float64),
            skill_R[~held_R],
            embedding_RE[held_R].astype(np.float64),
            skill_R[held_R],
        )
        for name, embedding_RE in embedding_by_network.items()
    }
    told = {}
    for name, branch in learnt.items():
        share_K = explained(branch.embedded.output_RK[held_R], target_RK[held_R])
        told[name] = dict(zip(names, share_K.round(3).tolist(), strict=True))
    card = StarterCard(
        sample_rate=segments.sample_rate,
        plan=plan_for(segments.segment_samples),
        directions=directions,
        performances=described,
        taught=settings_dict(settings),
        explained=told,
        versions=library_versions(),
    )
    return publish_starter(place, card, weights)
