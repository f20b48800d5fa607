"""From the network's outputs to probabilities of ordered grades, and the losses that train them.

A head is the network's last layer, what training minimises and what its outputs mean. Cross-entropy is the first
post's and knows nothing of the order. CORAL and CORN ask of each step between grades whether the playing is beyond it:
K grades, K-1 outputs, and probabilities of being beyond that never rise from one step to the next.
Outputs of 0 mean grades that are all alike, whatever the head: so a temperature, which divides outputs, takes every
head towards equal shares, and the start is fair.
The losses are a dozen lines; the package coral-pytorch has them too, but averages over the batch, and we need one loss
a segment.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplecnn.architecture import NetworkSettings

# B segments, E embedding, O outputs of the network, G grades (0 = worst), K steps between grades (G - 1).


@dataclass(frozen=True)
class Head:
    """outputs: grades to O; layer: (E, grades) to the module that maps [B, E] to [B, O]; loss: (outputs_BO, grade_B
    int64) to one loss a segment; probs: outputs_BO to probs_BG.

    probs takes outputs that have been divided by the temperature, and gives float64 rows that add up to 1; outputs of 0
    are equal shares. outputs_of is its inverse: probs_BG, none of them 0, to outputs_BO.
    """

    outputs: Callable[[int], int]
    layer: Callable[[int, int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    probs: Callable[[Tensor], Tensor]
    outputs_of: Callable[[Tensor], Tensor]


def loss_between(head: str, outputs_BO: Tensor, rank_B: Tensor) -> Tensor:
    """One loss a segment whose grade may lie between two: each one's loss by its share, 0.25 of the next at 1.25.

    rank_B: float, 0 = worst .. grades - 1.
    """
    lower_B, upper_B, share_B = shares(rank_B)
    loss = HEADS[head].loss
    return (1 - share_B) * loss(outputs_BO, lower_B) + share_B * loss(outputs_BO, upper_B)


def shares(rank_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The grades (int64) below and above a rank, and the share of that above: 0 where it is a grade."""
    lower_B = rank_B.floor()
    return lower_B.long(), rank_B.ceil().long(), rank_B - lower_B


class SharedWeight(nn.Module):
    """CORAL's layer: one weight vector for all steps and a bias for each, so that only the bar differs."""

    def __init__(self, features: int, grades: int) -> None:
        super().__init__()
        self.weight = nn.Linear(features, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(grades - 1))

    def forward(self, embedding_BE: Tensor) -> Tensor:
        outputs: Tensor = self.weight(embedding_BE) + self.bias
        return outputs


def _cross_entropy(outputs_BO: Tensor, grade_B: Tensor) -> Tensor:
    return functional.cross_entropy(outputs_BO, grade_B, reduction="none")


def _softmax(outputs_BO: Tensor) -> Tensor:
    return torch.softmax(outputs_BO.double(), dim=1)


def _centred_logs(probs_BG: Tensor) -> Tensor:
    log_BG = torch.log(probs_BG)
    return log_BG - log_BG.mean(dim=1, keepdim=True)


def _coral_loss(outputs_BK: Tensor, grade_B: Tensor) -> Tensor:
    """Cao, Mirjalili, Raschka 2020 (arXiv 1901.07884), equation 5: the binary cross-entropies of all steps added up."""
    return _step_losses(_coral_log_odds(outputs_BK), grade_B).sum(dim=1)


def _coral_probs(outputs_BK: Tensor) -> Tensor:
    """The theorem that biases come in order holds at the minimum of the loss alone; before it the steps are put in
    order, which is never further from the truth."""
    return _from_beyond(torch.sigmoid(_coral_log_odds(outputs_BK.double()).sort(dim=1, descending=True).values))


def _coral_outputs(probs_BG: Tensor) -> Tensor:
    return torch.logit(_beyond(probs_BG)) - _coral_log_odds(torch.zeros_like(probs_BG[:, 1:]))


def _coral_log_odds(outputs_BK: Tensor) -> Tensor:
    """Of being beyond each step: of K + 1 grades that are all alike, K lie beyond the first, one beyond the last."""
    beyond_K = torch.arange(outputs_BK.shape[1], 0, -1, dtype=outputs_BK.dtype, device=outputs_BK.device)
    return outputs_BK + torch.log(beyond_K) - torch.log(beyond_K.flip(0))


def _corn_loss(outputs_BK: Tensor, grade_B: Tensor) -> Tensor:
    """Shi, Cao, Raschka 2021 (arXiv 2111.08851): a step is asked of those that are beyond the step before.

    That is the negative log-likelihood of the grade.
    """
    asked_BK = torch.arange(outputs_BK.shape[1], device=outputs_BK.device) <= grade_B[:, None]
    return (_step_losses(_corn_log_odds(outputs_BK), grade_B) * asked_BK).sum(dim=1)


def _corn_probs(outputs_BK: Tensor) -> Tensor:
    # Not cumprod, which ONNX has not.
    steps = torch.sigmoid(_corn_log_odds(outputs_BK.double())).unbind(dim=1)
    return _from_beyond(torch.stack(list(itertools.accumulate(steps, torch.mul)), dim=1))


def _corn_outputs(probs_BG: Tensor) -> Tensor:
    beyond_BK = _beyond(probs_BG)
    reached_BK = functional.pad(beyond_BK[:, :-1], (1, 0), value=1.0)
    return torch.logit(beyond_BK / reached_BK) - _corn_log_odds(torch.zeros_like(beyond_BK))


def _corn_log_odds(outputs_BK: Tensor) -> Tensor:
    """Of being beyond a step, given that one is beyond the step before: of grades that are all alike, one is not."""
    return outputs_BK + torch.log(
        torch.arange(outputs_BK.shape[1], 0, -1, dtype=outputs_BK.dtype, device=outputs_BK.device)
    )


def _step_losses(log_odds_BK: Tensor, grade_B: Tensor) -> Tensor:
    beyond_BK = torch.arange(log_odds_BK.shape[1], device=log_odds_BK.device) < grade_B[:, None]
    return functional.binary_cross_entropy_with_logits(log_odds_BK, beyond_BK.to(log_odds_BK.dtype), reduction="none")


def _from_beyond(beyond_BK: Tensor) -> Tensor:
    """P(beyond each step), never rising, to the probability of each grade."""
    before_BG = functional.pad(beyond_BK, (1, 0), value=1.0)
    return before_BG - functional.pad(beyond_BK, (0, 1))


def _beyond(probs_BG: Tensor) -> Tensor:
    """P(beyond each step), [B, K]."""
    return probs_BG.flip(1).cumsum(dim=1).flip(1)[:, 1:]


HEADS: dict[str, Head] = {
    "cross-entropy": Head(lambda grades: grades, nn.Linear, _cross_entropy, _softmax, _centred_logs),
    "coral": Head(lambda grades: grades - 1, SharedWeight, _coral_loss, _coral_probs, _coral_outputs),
    "corn": Head(
        lambda grades: grades - 1,
        lambda features, grades: nn.Linear(features, grades - 1),
        _corn_loss,
        _corn_probs,
        _corn_outputs,
    ),
}
DEFAULT_HEAD = NetworkSettings.head
