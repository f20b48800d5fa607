"""The SampleCNN family: convolutions on the raw waveform, small filters all the way down.

One module builds every member: the papers' m^n networks where the segment's length is a power of m, the same shape with
mixed pools where the length splits into small factors (5000 samples = 10 s at 500 Hz), and global pooling at the end
for any other length. Losses and grades live in ordinal.py, training in fit.py.
conv1d throughout: conv2d over channels-last memory trains 1.2 to 1.3 times as fast on one core, at most 1.1 times on
two busy ones (docs/tried-and-dropped.md), and waits for the work on speed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samplecnn.batchnorm import BatchNorm
from samplecnn.errors import UserError

# B segments, T samples, C channels, F frames, E embedding, G outputs of the head.

DROPOUT = 0.5  # as published: once, before the linear layer
FIRST_WIDTH, INNER_WIDTH, LAST_WIDTH = 128, 256, 512  # channels: the first two blocks, those between, the last
FILTER_LENGTHS = (2, 3, 4, 5)  # the m of the papers' m^n
LARGEST = 1 << 16  # of a width or pool: a damaged model.json must not ask for all memory


@dataclass(frozen=True)
class Plan:
    """The shape of a network for segments of one length.

    stride: length and step of the first filter; pools: one a block; widths: channels after the first layer and after
    each block; filter_length: of the blocks' filters; last_kernel: of the layer after the blocks, 1 as published.
    exact: stride times pools is the segment's length, so that one frame is left. Otherwise the largest of the frames
    that are left is taken (global pooling).
    """

    segment_samples: int
    stride: int
    pools: tuple[int, ...]
    widths: tuple[int, ...]
    filter_length: int = 3
    last_kernel: int = 1

    def __post_init__(self) -> None:
        numbers = (self.segment_samples, self.stride, *self.pools, *self.widths, self.filter_length, self.last_kernel)
        if not all(isinstance(n, int) and n > 0 for n in numbers) or max(numbers[1:]) > LARGEST:
            raise ValueError(f"plan {numbers}: positive integers are needed")
        if len(self.widths) != len(self.pools) + 1:
            raise ValueError(f"{len(self.pools)} pools need {len(self.pools) + 1} widths, not {len(self.widths)}")

    @property
    def exact(self) -> bool:
        """Is exactly one frame left after the last block?"""
        return self.stride * math.prod(self.pools) == self.segment_samples

    def __str__(self) -> str:
        end = "one frame left" if self.exact else "global pooling"
        return f"stride {self.stride}, pools {','.join(map(str, self.pools))}, {end}"


def plan_for(segment_samples: int, filter_length: int | None = None) -> Plan:
    """The plan for segments of this many samples.

    filter_length: the papers' m (2, 3, 4 or 5): first stride, filters and pools are all m. None chooses: m = 3 where
    the length is a power of 3 (59049: the paper's 3^9), else an exact split into 5, 3 and 2 with the large factors
    first (5000: 5 x 5,5,5,2,2,2; 2.2 times as fast as pools of 3 with global pooling, facts 1d), else m = 3 with
    global pooling. Raises UserError for a length that leaves no block.
    """
    if filter_length is not None and filter_length not in FILTER_LENGTHS:
        raise UserError(f"filter length {filter_length}: choose one of {', '.join(map(str, FILTER_LENGTHS))}")
    m = filter_length or 3
    factors = _powers(segment_samples, m)
    if m ** len(factors) != segment_samples and filter_length is None:
        factors = _split(segment_samples) or factors
    if len(factors) < 2:
        raise UserError(
            f"a segment of {segment_samples} samples is too short: choose at least {m * m} (--segment-s, --sample-rate)"
        )
    stride, *pools = factors
    # Table 1 of the paper: 128, then blocks of 128, 128, 256 ... 256, 512.
    widths = (FIRST_WIDTH, *[FIRST_WIDTH if n < 2 else INNER_WIDTH for n in range(len(pools) - 1)], LAST_WIDTH)
    return Plan(segment_samples, stride, tuple(pools), widths, filter_length=m)


def _powers(samples: int, m: int) -> list[int]:
    """As many m as go into this length."""
    factors = []
    while samples >= m:
        samples //= m
        factors.append(m)
    return factors


def _split(samples: int) -> list[int]:
    """The length as a product of 5, 3 and 2, large factors first; empty where it has another prime factor."""
    factors = []
    for prime in (5, 3, 2):
        while samples % prime == 0 and samples > 1:
            samples //= prime
            factors.append(prime)
    return factors if samples == 1 else []


class PlainBlock(nn.Module):
    """conv - BatchNorm - ReLU - max pool: [B, C, F] to [B, out_channels, ceil(F / pool)]; the papers' basic block."""

    def __init__(self, in_channels: int, out_channels: int, filter_length: int, pool: int) -> None:
        super().__init__()
        self.conv = SameConv(in_channels, out_channels, filter_length)
        self.norm = BatchNorm(out_channels)
        self.pool = Pool(pool)

    def forward(self, x_BCF: Tensor) -> Tensor:
        return cast(Tensor, self.pool(functional.relu(self.norm(self.conv(x_BCF)))))


# (channels in, channels out, filter length, pool) -> module that maps [B, in, F] to [B, out, ceil(F / pool)]
BLOCKS: dict[str, Callable[[int, int, int, int], nn.Module]] = {"plain": PlainBlock}


class SameConv(nn.Conv1d):
    """A convolution that keeps the number of frames; of an even filter's padding the odd one goes behind."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        # Inside the convolution: padding everything in a step of its own cost 14 % of inference (1 thread, torch 2.13).
        super().__init__(in_channels, out_channels, kernel, padding=(kernel - 1) // 2)

    def forward(self, x_BCF: Tensor) -> Tensor:
        return super().forward(x_BCF if self.kernel_size[0] % 2 else functional.pad(x_BCF, (0, 1)))


class Pool(nn.MaxPool1d):
    """Max pooling that keeps a last, shorter group of frames: dropping it at each of six blocks would leave 626 of 5000
    samples unheard."""

    def __init__(self, size: int) -> None:
        super().__init__(size, ceil_mode=True)


class KeyedDropout(nn.Module):
    """Dropout whose mask depends on the segment's key alone, not on the worker or the batch that the segment is in.

    Philox is a counter-based generator: key and stream are the whole state, so that any worker draws the same mask.
    stream: tells the dropout layers of one network apart.
    """

    def __init__(self, share: float, stream: int) -> None:
        super().__init__()
        self.share, self.stream = share, stream

    def forward(self, x: Tensor, key_B: Tensor | None) -> Tensor:
        """x: [B, ...]; key_B: int64 on the CPU, one a segment. Raises ValueError in training without keys."""
        if not self.training:
            return x
        if key_B is None or len(key_B) != len(x):
            raise ValueError(f"training needs one key for each of the {len(x)} segments")
        keep = np.empty(x.shape, dtype=bool)
        for row, key in zip(keep, key_B.numpy().view(np.uint64), strict=True):
            generator = np.random.Generator(np.random.Philox(key=np.array([key, self.stream], dtype=np.uint64)))
            row[...] = generator.random(row.shape, dtype=np.float32) >= self.share
        return x * torch.from_numpy(keep).to(x.device) / (1 - self.share)


class SampleCNN(nn.Module):
    """m^n network on the raw waveform: a strided convolution, n blocks that each pool, a 1x1 layer, dropout, a head.

    waveform_BT: float32, mono, one segment a row, T = plan.segment_samples, level normalised once per recording.
    key_B: int64 on the CPU, one random number a segment, from which dropout draws; needed in training only.
    Returns logits_BG with G = outputs. Raises ValueError, naming both lengths, if T is not the plan's.
    seed: of the initial weights (He-uniform, as published); torch's global generator plays no part in them.

    Source: Lee, Park, Kim, Nam 2017, arXiv 1703.01789, Table 1 (m=3, n=9): 1,869,874 trainable parameters at 50
    outputs.
    """

    def __init__(self, plan: Plan, outputs: int, block: str = "plain", seed: int = 0) -> None:
        super().__init__()
        self.plan, self.outputs, self.block = plan, outputs, block
        first, last = plan.widths[0], plan.widths[-1]
        self.first = nn.Conv1d(1, first, plan.stride, stride=plan.stride)
        self.first_norm = BatchNorm(first)
        self.blocks = nn.ModuleList(
            BLOCKS[block](into, out, plan.filter_length, pool)
            for (into, out), pool in zip(pairwise(plan.widths), plan.pools, strict=True)
        )
        self.last = SameConv(last, last, plan.last_kernel)
        self.last_norm = BatchNorm(last)
        self.dropout = KeyedDropout(DROPOUT, stream=0)
        self.head = nn.Linear(last, outputs)
        self._initialise(torch.Generator().manual_seed(seed))

    def forward(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> Tensor:
        """logits_BG."""
        return self.hear(waveform_BT, key_B)[0]

    def hear(self, waveform_BT: Tensor, key_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """logits_BG and embedding_BE, what the head sees before dropout (E = the last width)."""
        samples = self.plan.segment_samples
        if waveform_BT.ndim != 2 or waveform_BT.shape[1] != samples:
            raise ValueError(f"segments of shape {tuple(waveform_BT.shape)}: this network hears [B, {samples}]")
        x_BCT = functional.pad(waveform_BT, (0, -samples % self.plan.stride)).unsqueeze(1)
        x_BCF = functional.relu(self.first_norm(self.first(x_BCT)))
        for block in self.blocks:
            x_BCF = block(x_BCF)
        x_BCF = functional.relu(self.last_norm(self.last(x_BCF)))
        embedding_BE = x_BCF.amax(dim=2)
        return self.head(self.dropout(embedding_BE, key_B)), embedding_BE

    def _initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv1d | nn.Linear):
                    # He-uniform by hand: kaiming_uniform_ takes no generator in torch 2.0.1.
                    bound = math.sqrt(6 / module.weight[0].numel())
                    module.weight.uniform_(-bound, bound, generator=generator)
                    cast(Tensor, module.bias).zero_()


@dataclass(frozen=True)
class Row:
    """One line of a layer table; kernel and stride in frames of the line before, receptive_samples in input samples."""

    layer: str
    kernel: int
    stride: int
    frames: int
    channels: int
    parameters: int
    receptive_samples: int


def layer_table(network: SampleCNN) -> list[Row]:
    """The network as the papers print it, one row a stage; a block's stride is its pool, its kernel that of its filter.

    receptive_samples: how many samples of the waveform one frame of this stage has heard.
    """
    plan = network.plan
    stages: list[tuple[str, list[nn.Module], int, int]] = [
        ("strided convolution", [network.first, network.first_norm], plan.stride, plan.stride),
        *[
            (f"{network.block} block {n}", [block], plan.filter_length, pool)
            for n, (block, pool) in enumerate(zip(network.blocks, plan.pools, strict=True), start=1)
        ],
        ("last convolution", [network.last, network.last_norm], plan.last_kernel, 1),
    ]
    rows, heard, step, frames = [], 1, 1, plan.segment_samples
    for (name, modules, kernel, stride), channels in zip(stages, (*plan.widths, plan.widths[-1]), strict=True):
        for inner in (inner for module in modules for inner in module.modules()):
            if isinstance(inner, nn.Conv1d | nn.MaxPool1d):  # a 1x1 shortcut adds nothing
                heard += (_one(inner.kernel_size) - 1) * step
                step *= _one(inner.stride)
        frames = -(-frames // stride)
        rows.append(Row(name, kernel, stride, frames, channels, parameter_count(*modules), heard))
    if not plan.exact:
        heard, frames = heard + (frames - 1) * step, 1
        rows.append(Row("global max pool", rows[-1].frames, rows[-1].frames, 1, plan.widths[-1], 0, heard))
    return [*rows, Row("head", 1, 1, frames, network.outputs, parameter_count(network.head), heard)]


def parameter_count(*modules: nn.Module) -> int:
    """Trainable parameters, those of BatchNorm included and its running statistics not."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
