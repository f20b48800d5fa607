"""A starter from recordings that nobody has graded: which of them show what was learnt, and what it tells of skill.

The steps are fit.py's with lessons.Pairs; where they run, pipelines/pretrain_unlabelled.py decides.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from samplecnn.architecture import Plan
from samplecnn.batches import RecordingSet, thinned
from samplecnn.flags import settings_dict
from samplecnn.hearing import Hearing
from samplecnn.infer import hear
from samplecnn.model_folder import library_versions
from samplecnn.network.joined import Joined, build
from samplecnn.recipe import UnlabelledSettings
from samplecnn.starter import Direction, StarterCard, parts_of, publish_starter, weights_of

# R recordings, E embedding, O outputs.

HELD_BACK = 10  # one recording in so many shows what was learnt
MOST_HEARD = 1000  # recordings whose scores give the scale of skill
OUTPUTS = 2  # of the network: the second one rises with evenness
EXPLAINED = 0.1  # share of skill that pairs teach to tell (docs/ear.md)
LEAST_SPREAD = 1e-6

# By network: weights and offset of its direction (starter.Direction), as checkpoints keep them.
Directions = dict[str, tuple[list[float], float]]


def network_for_pairs(name: str, plan: Plan, sample_rate: int, seed: int) -> Hearing:
    """What learns from pairs, from nothing: a network of recipe.TAUGHT_UNLABELLED."""
    return build(name, plan, sample_rate, OUTPUTS, seed=seed)


def parted(recordings: RecordingSet, seed: int) -> tuple[RecordingSet, RecordingSet]:
    """(to learn from, to look at what was learnt)."""
    held_R = np.random.default_rng(seed).permutation(len(recordings)) % HELD_BACK == 0
    return recordings.subset(np.flatnonzero(~held_R)), recordings.subset(np.flatnonzero(held_R))


def directions(network: Hearing, recordings: RecordingSet, device: torch.device) -> Directions:
    """Along which skill rises in the embedding of each network that it holds, standardised over these recordings."""
    rows, parts = thinned(len(recordings), MOST_HEARD), parts_of(network)
    embedding_RE = np.stack([_embedding(network, recordings, i, device) for i in rows])
    heads = [network.head] if isinstance(network, Joined) else [part.head for part in parts.values()]
    weight_E = np.concatenate([_rise(head) for head in heads])
    ends = np.cumsum([part.embedding for part in parts.values()]).tolist()
    slices = {name: slice(end - part.embedding, end) for (name, part), end in zip(parts.items(), ends, strict=True)}
    if isinstance(network, Joined):
        slices["joined"] = slice(None)
    found: Directions = {}
    for name, own in slices.items():
        score_R = embedding_RE[:, own] @ weight_E[own]
        spread = float(score_R.std()) + LEAST_SPREAD
        found[name] = ((weight_E[own] / spread).tolist(), float(-score_R.mean()) / spread)
    return found


def _rise(head: nn.Module) -> npt.NDArray[np.float64]:
    """By how much each number of an embedding moves the score, [E]."""
    head_OE = head.state_dict()["weight"].cpu().double().numpy()
    rise_E: npt.NDArray[np.float64] = head_OE[1] - head_OE[0]
    return rise_E


def _embedding(network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> npt.NDArray[np.float64]:
    said = hear(network, recordings.waveform(i), float(recordings.gain_R[i]), recordings.windows(i), device)
    mean_E: npt.NDArray[np.float64] = said.embedding_SE.double().mean(dim=0).numpy()
    return mean_E


def publish(
    place: str,
    network: Hearing,
    found: Directions,
    settings: UnlabelledSettings,
    plan: Plan,
    sample_rate: int,
    told: Mapping[str, Any],
) -> StarterCard:
    """Write the starter. told: what else its card says of how it was taught."""
    card = StarterCard(
        sample_rate=sample_rate,
        plan=plan,
        directions={name: Direction(tuple(weight_E), offset, EXPLAINED) for name, (weight_E, offset) in found.items()},
        performances={},
        taught={**settings_dict(settings), **told},
        explained={},
        versions=library_versions(),
    )
    return publish_starter(place, card, weights_of(parts_of(network)))
