"""The recipes' optimisers and learning rates: what fit.py looks up under a recipe's name (recipe.py).

A schedule is a function of the step alone, so that there is none to save.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from samplecnn.attention import Attention

# Of the modern recipe.
WARM_UP = 0.1  # share of the steps in which the learning rate rises; then it falls to 0 along a cosine
EPSILON = 1e-6  # of Adam; torch's 1e-8 lies below the rounding noise of these gradients

# Of the published one (jongpillee/sampleCNN). Keras' `decay` divides the rate, step by step within a stage; it is no
# weight decay, which the ports to PyTorch made of it.
STAGES = 5
STAGE_FACTOR = 0.2
MOMENTUM = 0.9
RATE_DECAY = 1e-6

Parameters = list[dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """optimiser: (parameter groups, highest rate) to an optimiser, a fresh one in each stage; rate: (highest, stage,
    step of the stage, steps of the whole training) to the learning rate of that step."""

    stages: int
    optimiser: Callable[[Parameters, float], torch.optim.Optimizer]
    rate: Callable[[float, int, int, int], float]


def warm_up_and_cosine(highest: float, stage: int, step: int, steps: int) -> float:
    """A straight rise, then a cosine down to 0."""
    rising = max(1, round(steps * WARM_UP))
    if step < rising:
        return highest * (step + 1) / rising
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def falling_by_stages(highest: float, stage: int, step: int, steps: int) -> float:
    """A fifth of the rate in each stage, and within one Keras' decay: rate / (1 + decay x steps)."""
    return highest * STAGE_FACTOR**stage / (1 + RATE_DECAY * step)


def _adamw(parameters: Parameters, highest: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=highest, eps=EPSILON)


def _nesterov(parameters: Parameters, highest: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=highest, momentum=MOMENTUM, nesterov=True)


_MODERN = Recipe(stages=1, optimiser=_adamw, rate=warm_up_and_cosine)

OPTIMISERS: dict[str, Recipe] = {
    "modern": _MODERN,
    "from-nothing": _MODERN,
    "paper": Recipe(stages=STAGES, optimiser=_nesterov, rate=falling_by_stages),
}


def parameter_groups(network: nn.Module, weight_decay: float) -> Parameters:
    """Biases and BatchNorm are left out of the decay, which would only fight their scale.

    A convolution's bias stands before a BatchNorm, which takes it away again: its gradient is rounding noise, and Adam
    would turn that into steps of full size. Left alone, and with EPSILON above the noise, one and two workers differ by
    2e-5 in the held-out loss after 12 steps instead of 7e-3.
    Attention stands apart ("fresh"): no starter has taught it.
    """
    idle = {id(module.bias) for module in network.modules() if isinstance(module, nn.Conv1d)}
    fresh = {id(p) for module in network.modules() if isinstance(module, Attention) for p in module.parameters()}
    heard = [p for p in network.parameters() if id(p) not in idle | fresh]
    attention = [p for p in network.parameters() if id(p) in fresh]
    groups: Parameters = [
        {"params": [p for p in heard if p.ndim > 1], "weight_decay": weight_decay, "fresh": False},
        {"params": [p for p in heard if p.ndim <= 1], "weight_decay": 0.0, "fresh": False},
    ]
    if attention:
        groups.append({"params": attention, "weight_decay": weight_decay, "fresh": True})
    return groups
