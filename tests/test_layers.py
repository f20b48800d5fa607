import pytest
import torch
from torch import nn

from samplecnn.layers import Pool, SameConv, StridedConv, channels_last


def _gradients(layer: nn.Module, call, x_BCF: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, and gradients of all that learns and of what was heard."""
    x_BCF = x_BCF.detach().clone().requires_grad_()
    layer.zero_grad()
    out_BCF = call(x_BCF)
    (out_BCF * torch.linspace(-1, 1, out_BCF.numel()).view(out_BCF.shape)).sum().backward()
    return [out_BCF, x_BCF.grad, *(p.grad.clone() for p in layer.parameters())]


def _padded(layer: SameConv, x_BCF: torch.Tensor) -> torch.Tensor:
    kernel = layer.kernel_size[0]
    both_sides = ((kernel - 1) // 2, kernel // 2)
    return nn.functional.conv1d(nn.functional.pad(x_BCF, both_sides), layer.weight, layer.bias)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(1, 3, 1), (4, 3, 17), (8, 16, 40)])
def test_a_convolution_is_the_one_over_frames_however_they_lie_in_memory(shape, kernel, last):
    layer = SameConv(shape[1], 8, kernel)
    x_BCF = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    call = (lambda x: layer(channels_last(x))) if last else layer

    found = _gradients(layer, call, x_BCF)

    for ours, theirs in zip(found, _gradients(layer, lambda x: _padded(layer, x), x_BCF), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_strided_layer_is_nn_conv1d_with_the_channels_of_a_frame_side_by_side():
    layer = StridedConv(6, 5)
    x_B1T = torch.randn(3, 1, 40, generator=torch.Generator().manual_seed(0))

    found = _gradients(layer, layer, x_B1T)

    for ours, theirs in zip(found, _gradients(layer, lambda x: nn.Conv1d.forward(layer, x), x_B1T), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert layer(x_B1T).stride(1) == 1


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("frames", "pooled"), [(1, 1), (4, 2), (9, 3), (10, 4)])
def test_a_pool_keeps_the_last_frames_and_is_exact(frames, pooled, last):
    pool = Pool(3)
    x_BCF = torch.randn(2, 4, frames, generator=torch.Generator().manual_seed(0))
    x_BCF = channels_last(x_BCF) if last else x_BCF

    found = pool(x_BCF)

    assert found.shape[2] == pooled
    assert torch.equal(found, nn.MaxPool1d.forward(pool, x_BCF))


def test_layers_one_after_another_keep_the_channels_side_by_side():
    x_BCF = channels_last(torch.randn(4, 16, 30))
    for layer in (SameConv(16, 8, 3), SameConv(8, 8, 4), Pool(3)):
        x_BCF = layer(x_BCF)
        assert x_BCF.transpose(1, 2).is_contiguous()
