"""A network for hearing alone: what BatchNorm scales and shifts, the convolution before it scales and shifts itself."""

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from samplecnn.batchnorm import BatchNorm
from samplecnn.hearing import Hearing

H = TypeVar("H", bound=Hearing)


def folded(network: H) -> H:
    """A copy in evaluation mode whose outputs are those of the network to float32 rounding; it cannot be trained.

    A BatchNorm that stands right behind a convolution among a module's children is taken to follow it, which holds for
    every network here (tests/test_folded.py).
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for (name, before), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(before, nn.Conv1d) and isinstance(norm, BatchNorm):
                setattr(module, name, fuse_conv_bn_eval(before, norm))
                setattr(module, norm_name, nn.Identity())
    return network.requires_grad_(False)
