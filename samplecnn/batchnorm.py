"""BatchNorm over the batch of all data-parallel workers, on any device.

torch's SyncBatchNorm refuses CPUs. Here means and variances are exchanged inside autograd, once forwards and once
backwards (a message between CPUs takes as long as thousands of numbers), weighted by what each worker really holds:
uneven or empty local batches give what one worker would have computed from the whole batch.
"""

import torch
from torch import Tensor, distributed, nn


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm1d whose batch, in training, is that of all workers; same parameters, buffers and state dict.

    x: [B, C] or [B, C, F]; B may be 0 on some workers. Without a process group, or in one of a single worker, and in
    evaluation it is nn.BatchNorm1d itself, over images of one row: of these alone torch keeps how they lie in memory
    (layers.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not distributed.is_initialized() or distributed.get_world_size() == 1:
            if x.ndim == 2:
                return super().forward(x[:, :, None, None])[:, :, 0, 0]
            return super().forward(x.unsqueeze(2)).squeeze(2)
        x = x.float()  # sums over all workers in half precision would be worth nothing
        others = [dim for dim in range(x.ndim) if dim != 1]  # all but channels
        shape = [1, -1] + [1] * (x.ndim - 2)
        # Twice over the data, like torch itself: a variance from sums of squares loses digits where the mean is large.
        held = x.numel() // x.shape[1]
        own_mean_C = x.sum(others) / max(held, 1)
        centred = x - own_mean_C.view(shape)
        squares_C = centred.square().sum(others)
        told_WN = _all_gather(torch.cat([own_mean_C, squares_C, own_mean_C.new_tensor([held])]))
        channels = len(own_mean_C)
        mean_WC, squares_WC, held_W1 = told_WN[:, :channels], told_WN[:, channels:-1], told_WN[:, -1:].detach()
        count = held_W1.sum()
        mean_C = (held_W1 * mean_WC).sum(0) / count
        # Chan, Golub, LeVeque 1979: what parts' variances lack is how far their means lie apart.
        var_C = (squares_WC + held_W1 * (mean_WC - mean_C).square()).sum(0) / count
        self._remember(mean_C.detach(), var_C.detach() * count / (count - 1))
        scale_C = self.weight * torch.rsqrt(var_C + self.eps)
        moved_C = self.bias + (own_mean_C - mean_C) * scale_C
        normalised: Tensor = centred * scale_C.view(shape) + moved_C.view(shape)
        return normalised

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, unbiased_var_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(unbiased_var_C, self.momentum)
        self.num_batches_tracked.add_(1)


def keep_statistics(network: nn.Module) -> None:
    """Let a network in training normalise by the statistics that it has, as in evaluation.

    For one that starts from a starter: a dozen recordings have other means than thousands, and by theirs the head
    hears something else than what it was taught (a loss of 27 instead of 0.8).
    """
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.eval()


class _AllGather(torch.autograd.Function):
    """A row a worker; since each worker's loss depends on all rows, a row's gradient is summed over workers."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        rows = x.new_zeros(distributed.get_world_size(), len(x))
        rows[distributed.get_rank()] = x
        distributed.all_reduce(rows)
        return rows

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        summed = grads[0].clone()  # contiguous and ours: autograd may hand out an expanded view
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]


def _all_gather(x: Tensor) -> Tensor:
    rows: Tensor = _AllGather.apply(x)  # type: ignore[no-untyped-call]
    return rows
