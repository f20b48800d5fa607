"""Layers over the frames of a segment that lose none, and that are fast on a CPU.

There torch's convolution over images is faster than the one over frames: it takes the channels of a frame side by side
in memory ("channels last"), as the processor's vectors want them. So these layers see [B, C, F] as images of one row.
Whoever makes the first frames decides how they lie (StridedConv, channels_last), and all that follows keeps it; values,
parameters and state dict are those of nn.Conv1d and nn.MaxPool1d, and so is the way over a GPU or into ONNX.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# B segments, C channels, F frames, N frames of all segments, K taps of a filter.


def channels_last(x_BCF: Tensor) -> Tensor:
    """The same values, on a CPU with the channels of a frame side by side in memory."""
    return x_BCF.transpose(1, 2).contiguous().transpose(1, 2) if _prefers_channels_last(x_BCF) else x_BCF


def _prefers_channels_last(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.onnx.is_in_onnx_export()


class StridedConv(nn.Conv1d):
    """Filters of one channel that step by their own length, so that each frame is a product of its own samples alone.

    [B, 1, F x K] to [B, C, F].
    """

    def __init__(self, channels: int, step: int) -> None:
        super().__init__(1, channels, step, stride=step)

    def forward(self, x_B1T: Tensor) -> Tensor:
        if not _prefers_channels_last(x_B1T):
            return super().forward(x_B1T)
        # Filters by rows of taps: by rows of channels their gradient took a tenth of a training step (torch 2.13, MKL).
        assert self.bias is not None
        filters_KC = self.weight.squeeze(1).t().contiguous()
        frames_NC = torch.addmm(self.bias, x_B1T.reshape(-1, self.stride[0]), filters_KC)
        return frames_NC.view(len(x_B1T), -1, self.out_channels).transpose(1, 2)


class SameConv(nn.Conv1d):
    """A convolution that keeps the number of frames; of an even filter's padding the odd one goes behind."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        # Inside the convolution: padding everything in a step of its own cost 14 % of inference (1 thread, torch 2.13).
        super().__init__(in_channels, out_channels, kernel, padding=(kernel - 1) // 2)

    def forward(self, x_BCF: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return super().forward(self._even(x_BCF))
        row_BC1F, filters = self._even(x_BCF.unsqueeze(2)), self.weight.unsqueeze(2)
        return functional.conv2d(row_BC1F, filters, self.bias, padding=(0, (self.kernel_size[0] - 1) // 2)).squeeze(2)

    def _even(self, x: Tensor) -> Tensor:
        return x if self.kernel_size[0] % 2 else functional.pad(x, (0, 1))


class Pool(nn.MaxPool1d):
    """Max pooling that keeps a last, shorter group of frames: dropping it at each of six blocks would leave 626 of 5000
    samples unheard."""

    def __init__(self, size: int) -> None:
        super().__init__(size, ceil_mode=True)
        self.size = size

    def forward(self, x_BCF: Tensor) -> Tensor:
        pooled_BCF: Tensor
        if torch.onnx.is_in_onnx_export():
            pooled_BCF = super().forward(x_BCF)
        else:
            pooled_BCF = functional.max_pool2d(x_BCF.unsqueeze(2), (1, self.size), ceil_mode=True).squeeze(2)
        return pooled_BCF
