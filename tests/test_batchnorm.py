import copy

import pytest
import torch
from torch import nn

from samplecnn.batchnorm import BatchNorm
from tests.fixtures.gloo import on_workers


def _norms() -> tuple[BatchNorm, nn.BatchNorm1d]:
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        ours.bias.copy_(torch.tensor([0.1, -1.0, 0.0]))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def _data(rows: int, frames: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (rows, 3) if frames is None else (rows, 3, frames)
    return torch.randn(shape, generator=generator) * 3 + 100, torch.randn(shape, generator=generator)


def _pass(norm: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> dict[str, list[float]]:
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * upstream).sum().backward()
    named = {"y": y, "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    named |= {"mean": norm.running_mean, "var": norm.running_var, "seen": norm.num_batches_tracked}
    return {name: tensor.detach().flatten().tolist() for name, tensor in named.items()}


def test_one_worker_is_torch_s_own_batch_norm_bit_for_bit():
    ours, theirs = _norms()
    x, upstream = _data(6, 4)

    assert _pass(ours, x, upstream) == _pass(theirs, x, upstream)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def _on_worker(rank: int, cases: list[tuple[list[int], int | None]]) -> list[dict[str, list[float]]]:
    passes = []
    for cut, frames in cases:  # all cases with one pair of processes: starting them costs seconds
        ours, _ = _norms()
        x, upstream = _data(cut[-1], frames)
        mine = slice(cut[rank], cut[rank + 1])
        passes.append(_pass(ours, x[mine], upstream[mine]))
        assert torch.equal(copy.deepcopy(ours).eval()(x), ours.eval()(x))
    return passes


def test_two_workers_equal_one_whatever_each_of_them_holds():
    cuts = [[0, 3, 6], [0, 5, 6], [0, 6, 6], [0, 0, 6]]  # even, uneven, one of them empty
    cases = [(cut, frames) for cut in cuts for frames in (None, 4)]

    left, right = on_workers(2, _on_worker, cases)

    for (cut, frames), one, two in zip(cases, left, right, strict=True):
        _, theirs = _norms()
        x, upstream = _data(6, frames)
        whole = _pass(theirs, x, upstream)
        assert one["y"] + two["y"] == pytest.approx(whole["y"], abs=2e-5), cut
        assert one["x"] + two["x"] == pytest.approx(whole["x"], abs=2e-5)
        for name in ("weight", "bias"):  # each worker's own share; DDP adds them up
            summed = [a + b for a, b in zip(one[name], two[name], strict=True)]
            assert summed == pytest.approx(whole[name], abs=2e-4)
        for name in ("mean", "var", "seen"):
            assert one[name] == two[name] == pytest.approx(whole[name], rel=1e-5)
