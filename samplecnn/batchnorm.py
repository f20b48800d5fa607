"""BatchNorm over the batch of all data-parallel workers, on any device.

torch's SyncBatchNorm refuses CPUs. Here means and variances are all-reduced inside autograd, weighted by what each
worker really holds: uneven or empty local batches give what one worker would have computed from the whole batch.
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
        total_C = x.sum(others)
        held = torch.full_like(total_C[:1], x.numel() // x.shape[1])
        summed = _all_reduce(torch.cat([total_C, held]))
        mean_C, count = summed[:-1] / summed[-1], summed[-1].detach()
        # Twice over the data, like torch itself: a variance from sums of squares loses digits where the mean is large.
        centred = x - mean_C.view(shape)
        var_C = _all_reduce(centred.square().sum(others)) / count
        self._remember(mean_C.detach(), var_C.detach() * count / (count - 1))
        scale_C = self.weight * torch.rsqrt(var_C + self.eps)
        return centred * scale_C.view(shape) + self.bias.view(shape)

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


class _AllReduce(torch.autograd.Function):
    """Sum over workers; since each worker's loss depends on the sum, so is the gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        summed = x.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        summed = grads[0].clone()  # contiguous and ours: autograd may hand out an expanded view
        distributed.all_reduce(summed)
        return summed


def _all_reduce(x: Tensor) -> Tensor:
    summed: Tensor = _AllReduce.apply(x)  # type: ignore[no-untyped-call]
    return summed
