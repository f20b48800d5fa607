"""What SampleCNN is made of: keyed dropout, and the papers' four blocks (the layers in them: layers.py).

plain: Lee, Park, Kim, Nam 2017 (arXiv 1703.01789). se, res, rese: Kim, Lee, Nam 2018 (arXiv 1710.10451), layer for
layer as in the authors' code (tae-jun/resemul), their names kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samplecnn.batchnorm import BatchNorm
from samplecnn.layers import Pool, SameConv

# B segments, C channels, F frames.

INNER_DROPOUT = 0.2  # inside residual blocks, as published


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """se_alpha: inner width of squeeze and excitation over the channels; stream: tells the blocks' dropouts apart."""

    in_channels: int
    out_channels: int
    filter_length: int
    pool: int
    se_alpha: float
    stream: int


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


class SqueezeExcite(nn.Module):
    """Scales each channel by what the means of all channels say: mean over frames, linear, ReLU, linear, sigmoid."""

    def __init__(self, channels: int, alpha: float) -> None:
        super().__init__()
        inner = max(1, round(channels * alpha))
        self.squeeze, self.excite = nn.Linear(channels, inner), nn.Linear(inner, channels)

    def forward(self, x_BCF: Tensor) -> Tensor:
        scale_BC = torch.sigmoid(self.excite(functional.relu(self.squeeze(x_BCF.mean(dim=2)))))
        return x_BCF * scale_BC[:, :, None]


class Block(nn.Module):
    """[B, in_channels, F] to [B, out_channels, ceil(F / pool)]; key_B: for dropout, needed in training alone."""

    def forward(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        raise NotImplementedError

    def active(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        """[B, out_channels, F]: what the block pools, after its last ReLU."""
        raise NotImplementedError


class PlainBlock(Block):
    """conv - BatchNorm - ReLU - max pool, and with `gated` squeeze and excitation after it."""

    def __init__(self, shape: BlockShape, *, gated: bool = False) -> None:
        super().__init__()
        self.conv = SameConv(shape.in_channels, shape.out_channels, shape.filter_length)
        self.norm = BatchNorm(shape.out_channels)
        self.pool = Pool(shape.pool)
        self.gate = _gate(shape, gated)

    def active(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        return functional.relu(self.norm(self.conv(x_BCF)))

    def forward(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        # active() pooled, but ReLU after the pool: it never changes which frame is the largest, and has fewer to do.
        gated: Tensor = self.gate(functional.relu(self.pool(self.norm(self.conv(x_BCF)))))
        return gated


class ResBlock(Block):
    """conv - BatchNorm - ReLU - dropout - conv - BatchNorm, with `gated` squeeze and excitation; then the block's input
    is added - through a 1x1 conv and BatchNorm where the width changes - and ReLU and max pool follow."""

    def __init__(self, shape: BlockShape, *, gated: bool = False) -> None:
        super().__init__()
        into, out = shape.in_channels, shape.out_channels
        self.conv, self.norm = SameConv(into, out, shape.filter_length), BatchNorm(out)
        self.dropout = KeyedDropout(INNER_DROPOUT, shape.stream)
        self.conv2, self.norm2 = SameConv(out, out, shape.filter_length), BatchNorm(out)
        self.gate = _gate(shape, gated)
        self.shortcut = nn.Identity() if into == out else nn.Sequential(SameConv(into, out, 1), BatchNorm(out))
        self.pool = Pool(shape.pool)

    def active(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        inner_BCF = self.dropout(functional.relu(self.norm(self.conv(x_BCF))), key_B)
        return functional.relu(self.shortcut(x_BCF) + self.gate(self.norm2(self.conv2(inner_BCF))))

    def forward(self, x_BCF: Tensor, key_B: Tensor | None) -> Tensor:
        pooled: Tensor = self.pool(self.active(x_BCF, key_B))
        return pooled


def _gate(shape: BlockShape, gated: bool) -> nn.Module:
    return SqueezeExcite(shape.out_channels, shape.se_alpha) if gated else nn.Identity()


BLOCKS: dict[str, Callable[[BlockShape], Block]] = {
    "plain": PlainBlock,
    "se": partial(PlainBlock, gated=True),
    "res": ResBlock,
    "rese": partial(ResBlock, gated=True),
}
