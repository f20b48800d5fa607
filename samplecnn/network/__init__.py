"""The SampleCNN family: convolutions on the raw waveform, small filters all the way down.

One class builds every member: the papers' m^n networks where the segment's length is a power of m, the same shape with
mixed pools where the length splits into small factors (5000 samples = 10 s at 500 Hz), and global pooling at the end
for any other length (architecture.py plans it). Blocks stand in blocks.py, what the head's outputs mean in ordinal.py,
training in fit.py; folded.py makes of any of them what grading uses.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from samplecnn.architecture import LEVELS, Plan
from samplecnn.batchnorm import BatchNorm
from samplecnn.hearing import Hearing
from samplecnn.layers import SameConv, StridedConv
from samplecnn.network.blocks import BLOCKS, BlockShape, KeyedDropout
from samplecnn.ordinal import DEFAULT_HEAD, HEADS

__all__ = ["SampleCNN", "he_uniform", "parameter_count"]

# B segments, T samples, C channels, F frames, E embedding, O outputs of the head.

DROPOUT = 0.5  # as published: once, before the head


class SampleCNN(Hearing):
    """m^n network on the raw waveform: a strided convolution, n blocks that each pool, a 1x1 layer, dropout, a head.

    waveform_BT: float32, mono, one segment a row, T = plan.segment_samples, level normalised once per recording.
    key_B: int64 on the CPU, one random number a segment, from which dropout draws; needed in training only.
    Returns outputs_BO, whose number and meaning are the head's (ordinal.py): with cross-entropy one logit a grade.
    Raises ValueError, naming both lengths, if T is not the plan's.
    seed: of the initial weights (He-uniform, as published); torch's global generator plays no part in them.

    Source: Lee, Park, Kim, Nam 2017, arXiv 1703.01789, Table 1 (m=3, n=9): 1,869,874 trainable parameters at 50
    outputs. Multi-level: Kim, Lee, Nam 2018, arXiv 1710.10451. There a linear layer follows the pools; over one frame
    it is the 1x1 layer.
    """

    def __init__(self, plan: Plan, grades: int, head: str = DEFAULT_HEAD, seed: int = 0) -> None:
        super().__init__()
        self.plan, self.outputs = plan, HEADS[head].outputs(grades)
        self.segment_samples, self.embedding = plan.segment_samples, plan.embedding
        self.first = StridedConv(plan.widths[0], plan.stride)
        self.first_norm = BatchNorm(plan.widths[0])
        self.blocks = nn.ModuleList(
            BLOCKS[plan.block](
                BlockShape(
                    in_channels=into,
                    out_channels=out,
                    filter_length=plan.filter_length,
                    pool=pool,
                    se_alpha=plan.se_alpha,
                    stream=n,
                )
            )
            for n, ((into, out), pool) in enumerate(zip(pairwise(plan.widths), plan.pools, strict=True), start=1)
        )
        self.last = SameConv(plan.embedding, plan.embedding, plan.last_kernel)
        self.last_norm = BatchNorm(plan.embedding)
        self.dropout = KeyedDropout(DROPOUT, stream=0)
        self.head = HEADS[head].layer(plan.embedding, grades)
        he_uniform(self, seed)

    def embed(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        """embedding_BE, what the head sees before dropout (E = plan.embedding)."""
        samples = self.segment_samples
        if waveform_BT.ndim != 2 or waveform_BT.shape[1] != samples:
            raise ValueError(f"segments of shape {tuple(waveform_BT.shape)}: this network hears [B, {samples}]")
        x_BCF, levels = self.strided(waveform_BT), []
        for block in self.blocks:
            x_BCF = block(x_BCF, key_B)
            levels.append(x_BCF)
        if self.plan.multi_level:
            x_BCF = torch.cat([level_BCF.amax(dim=2, keepdim=True) for level_BCF in levels[-LEVELS:]], dim=1)
        return functional.relu(self.last_norm(self.last(x_BCF))).amax(dim=2)

    def strided(self, waveform_BT: Tensor) -> Tensor:
        """What the first layer makes of waveforms of any length, [B, C, ceil(T / stride)]."""
        x_BCT = functional.pad(waveform_BT, (0, -waveform_BT.shape[1] % self.plan.stride)).unsqueeze(1)
        return functional.relu(self.first_norm(self.first(x_BCT)))


def he_uniform(network: nn.Module, seed: int) -> None:
    """Start weights, as published; biases 0. torch's global generator plays no part."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            # A network on the meta device has shapes alone, and torch 2.0.1 cannot draw with a generator there.
            if isinstance(module, nn.Conv1d | nn.Linear) and not module.weight.is_meta:
                # He-uniform by hand: kaiming_uniform_ takes no generator in torch 2.0.1.
                bound = math.sqrt(6 / module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()


def parameter_count(*modules: nn.Module) -> int:
    """Trainable parameters, those of BatchNorm included and its running statistics not."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
