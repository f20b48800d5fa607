"""From the network's outputs to probabilities of ordered grades, and the losses that train them.

A head says how many outputs the network has, what training minimises and what the outputs mean. Cross-entropy is the
first post's and knows nothing of the order; CORAL and CORN will stand beside it (issue 4).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# B segments, O outputs of the network, G grades (0 = worst).


@dataclass(frozen=True)
class Head:
    """outputs: grades to O; loss: (outputs_BO, grade_B int64) to one loss a segment; probs: outputs_BO to probs_BG.

    probs takes outputs that have been divided by the temperature, and gives float64 rows that add up to 1.
    """

    outputs: Callable[[int], int]
    loss: Callable[[Tensor, Tensor], Tensor]
    probs: Callable[[Tensor], Tensor]


def _cross_entropy(outputs_BO: Tensor, grade_B: Tensor) -> Tensor:
    return functional.cross_entropy(outputs_BO, grade_B, reduction="none")


def _softmax(outputs_BO: Tensor) -> Tensor:
    return torch.softmax(outputs_BO.double(), dim=1)


HEADS: dict[str, Head] = {"cross-entropy": Head(outputs=lambda grades: grades, loss=_cross_entropy, probs=_softmax)}
DEFAULT_HEAD = "cross-entropy"
