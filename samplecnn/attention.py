"""How much a segment counts, learnt: gated attention over the segments of a recording, with activity as prior.

A network that is trained on whole recordings (`--learn-from recordings`) learns it together with its filters, from the
grade of the recording alone. It hears one segment at a time, so that a recording of hours is merged in bounded memory.
"""

import math

import torch
from torch import Tensor, nn

# B segments, R recordings, S segments of the longest, E embedding, H hidden, G grades (0 = worst).

HIDDEN = 16
EPSILON = 1e-5  # of the variance, as layer_norm has it
LEAST_ACTIVITY = 1e-6  # of silence: a finite logarithm has a finite gradient


class Attention(nn.Module):
    """log weight of each segment beside its activity, [B], from embedding_BE; all 0 as long as nothing is learnt.

    Ilse, Tomczak, Welling 2018 (arXiv 1802.04712), equation 9; the embedding is brought to one scale first. seed: of
    the start weights.
    """

    def __init__(self, embedding: int, seed: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(embedding, HIDDEN), nn.Linear(embedding, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)  # a constant would change no share
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.score.weight.zero_()
            for layer in (self.value, self.gate):
                layer.bias.zero_()
                if not layer.weight.is_meta:  # torch 2.0.1 cannot draw with a generator there
                    bound = 1 / math.sqrt(embedding)
                    layer.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, embedding_BE: Tensor) -> Tensor:
        # layer_norm by hand, which torch cannot write as ONNX without weights of its own.
        centred_BE = embedding_BE - embedding_BE.mean(dim=1, keepdim=True)
        scaled_BE = centred_BE * torch.rsqrt(centred_BE.square().mean(dim=1, keepdim=True) + EPSILON)
        gated_BH = torch.tanh(self.value(scaled_BE)) * torch.sigmoid(self.gate(scaled_BE))
        log_weight_B: Tensor = self.score(gated_BH).squeeze(1)
        return log_weight_B


def attended(
    probs_RSG: Tensor, attention_RS: Tensor, activity_RS: Tensor, says_RS: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(probs_RG, weight_RS): the probabilities weighted by activity times exp(attention).

    says_RS: which segments have a say, at least one of each recording; None: all.
    """
    log_RS = attention_RS + torch.log(activity_RS.clamp(min=LEAST_ACTIVITY))
    if says_RS is not None:
        log_RS = log_RS.masked_fill(~says_RS, -math.inf)
    weight_RS = torch.softmax(log_RS, dim=1)
    return (weight_RS[:, :, None] * probs_RSG).sum(dim=1), weight_RS
