import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from samplecnn.errors import UserError
from samplecnn.network import BLOCKS, KeyedDropout, Plan, SampleCNN, layer_table, parameter_count, plan_for

TINY = Plan(segment_samples=60, stride=5, pools=(3, 2, 2), widths=(4, 4, 6, 8))
PLAN_B = dataclasses.replace(plan_for(6561), segment_samples=5000, pools=(3,) * 6, widths=plan_for(2187).widths)


@pytest.mark.parametrize(
    ("last_kernel", "outputs", "published"),
    [(1, 50, 1_869_874), (1, 3, 1_845_763), (3, 50, 2_394_162), (3, 3, 2_370_051)],
)
def test_the_paper_s_network_has_the_published_number_of_parameters(last_kernel, outputs, published):
    plan = dataclasses.replace(plan_for(59049), last_kernel=last_kernel)

    assert parameter_count(SampleCNN(plan, outputs)) == published


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (plan_for(5000), 1_253_891),  # facts 1d, plan A
        (PLAN_B, 1_253_635),  # plan B
        (plan_for(6561), 1_451_011),  # C
        (plan_for(4096), 2_240_387),  # D
        (dataclasses.replace(plan_for(4374), stride=2, pools=(3,) * 7), 1_450_883),  # E
    ],
)
def test_plans_for_ten_seconds_have_the_parameters_of_the_facts(plan, count):
    assert parameter_count(SampleCNN(plan, 3)) == count


def test_two_to_the_thirteen_has_the_published_number_of_convolution_weights():
    network = SampleCNN(plan_for(16384, filter_length=2), 50)

    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.Linear)]

    assert parameter_count(*convolutions) == 1_864_882


def test_the_plan_of_a_power_of_three_is_the_paper_s():
    plan = plan_for(59049)

    assert (plan.stride, plan.pools, plan.filter_length) == (3, (3,) * 9, 3)
    assert plan.widths == (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
    assert plan.exact


def test_ten_seconds_at_500_hz_split_exactly():
    plan = plan_for(5000)

    assert (plan.stride, plan.pools) == (5, (5, 5, 5, 2, 2, 2))
    assert plan.exact


def test_a_length_with_a_large_prime_factor_ends_in_global_pooling():
    plan = plan_for(220500)  # 10 s at 22050 Hz: 7 x 7 inside

    assert not plan.exact
    assert plan.pools == (3,) * 10


@pytest.mark.parametrize(("length", "m"), [(2**8, 2), (3**6, 3), (4**5, 4), (5**4, 5)])
def test_each_filter_length_of_the_papers_is_exact_on_its_powers(length, m):
    plan = plan_for(length, filter_length=m)

    assert plan.exact
    assert {plan.stride, plan.filter_length, *plan.pools} == {m}
    assert SampleCNN(plan, 3).eval()(torch.zeros(1, length)).shape == (1, 3)


@given(st.integers(9, 4000))
@settings(max_examples=20, deadline=None)
def test_every_length_gets_a_network_that_hears_its_last_sample(length):
    plan = dataclasses.replace(plan_for(length), widths=(4,) * len(plan_for(length).widths))
    network = SampleCNN(plan, 3).eval()
    waveform_BT = torch.zeros(1, length, requires_grad=True)

    # The mean over frames before the end: the maximum alone would listen to whichever frame is loudest.
    x = network.first(nn.functional.pad(waveform_BT, (0, -length % plan.stride)).unsqueeze(1))

    assert x.shape[2] == math.ceil(length / plan.stride)
    for block in network.blocks:
        x = block.conv(x)
        x = nn.functional.avg_pool1d(x, block.pool.kernel_size, ceil_mode=True)
    x.sum().backward()
    assert (waveform_BT.grad != 0).all()
    assert network(waveform_BT.detach()).shape == (1, 3)


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_a_segment_too_short_for_a_block_is_refused(length):
    if length == 8:  # 2 x 2,2
        assert plan_for(length).exact
        return
    with pytest.raises(UserError, match="too short"):
        plan_for(length)


def test_an_unknown_filter_length_is_refused():
    with pytest.raises(UserError, match="filter length 7"):
        plan_for(5000, filter_length=7)


def test_a_plan_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="widths"):
        Plan(60, 5, (3, 2, 2), (4, 4))
    with pytest.raises(ValueError, match="positive"):
        Plan(60, 5, (3, 0, 2), (4, 4, 4, 4))


def _randomised(plan: Plan, outputs: int = 3) -> SampleCNN:
    """Weights and statistics that hide nothing: no zeros, no ones."""
    network = SampleCNN(plan, outputs).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and ("norm" in name or "bias" in name):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return network


def _slow_conv(x_FC, weight, bias, stride, before):
    """out[f][o] = bias[o] + sum over taps k and channels c of x[f * stride + k - before][c] * weight[o][c][k]"""
    outs, taps = len(bias), len(weight[0][0])
    length = len(x_FC) if stride == 1 else -(-len(x_FC) // stride)
    result = []
    for f in range(length):
        row = []
        for o in range(outs):
            value = bias[o]
            for k in range(taps):
                at = f * stride + k - before
                if 0 <= at < len(x_FC):
                    for c in range(len(x_FC[0])):
                        value += x_FC[at][c] * weight[o][c][k]
            row.append(value)
        result.append(row)
    return result


def _slow_norm_relu(x_FC, norm):
    scale, shift = norm.weight.tolist(), norm.bias.tolist()
    mean, var = norm.running_mean.tolist(), norm.running_var.tolist()
    return [
        [max(0.0, (v - mean[c]) / math.sqrt(var[c] + norm.eps) * scale[c] + shift[c]) for c, v in enumerate(row)]
        for row in x_FC
    ]


def _slow_pool(x_FC, size):
    groups = [x_FC[start : start + size] for start in range(0, len(x_FC), size)]
    return [[max(row[c] for row in group) for c in range(len(x_FC[0]))] for group in groups]


@pytest.mark.parametrize(
    "plan",
    [
        TINY,
        dataclasses.replace(TINY, segment_samples=67),  # a rest at the stride and at the pools: global pooling
        dataclasses.replace(TINY, filter_length=2, last_kernel=3),
    ],
)
def test_the_forward_pass_equals_the_paper_s_table_in_plain_loops(plan):
    network = _randomised(plan)
    waveform_T = torch.from_numpy(np.random.default_rng(0).standard_normal(plan.segment_samples))

    x = [[v] for v in waveform_T.tolist()]
    x = _slow_conv(x, network.first.weight.tolist(), network.first.bias.tolist(), plan.stride, before=0)
    x = _slow_norm_relu(x, network.first_norm)
    for block, pool in zip(network.blocks, plan.pools, strict=True):
        before = (plan.filter_length - 1) // 2
        x = _slow_conv(x, block.conv.weight.tolist(), block.conv.bias.tolist(), 1, before)
        x = _slow_pool(_slow_norm_relu(x, block.norm), pool)
    x = _slow_conv(x, network.last.weight.tolist(), network.last.bias.tolist(), 1, (plan.last_kernel - 1) // 2)
    x = _slow_norm_relu(x, network.last_norm)
    embedding = [max(column) for column in zip(*x, strict=True)]
    logits = [
        bias + sum(w * e for w, e in zip(weights, embedding, strict=True))
        for weights, bias in zip(network.head.weight.tolist(), network.head.bias.tolist(), strict=True)
    ]

    heard, embedded = network.hear(waveform_T.float()[None])

    np.testing.assert_allclose(embedded[0].tolist(), embedding, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(heard[0].tolist(), logits, rtol=1e-4, atol=1e-4)


def test_another_length_than_the_plan_s_is_refused_with_both_lengths():
    with pytest.raises(ValueError, match=r"\(2, 61\).*\[B, 60\]"):
        SampleCNN(TINY, 3)(torch.zeros(2, 61))


def test_initial_weights_are_he_uniform_and_depend_on_the_seed_alone():
    torch.manual_seed(1)
    network = SampleCNN(plan_for(5000), 3, seed=5)
    torch.manual_seed(2)
    again, other = SampleCNN(plan_for(5000), 3, seed=5), SampleCNN(plan_for(5000), 3, seed=6)

    weight = network.blocks[3].conv.weight
    bound = math.sqrt(6 / (256 * 3))
    assert bound * 0.99 < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert all(not module.bias.any() for module in network.modules() if isinstance(module, nn.Conv1d | nn.Linear))
    assert torch.equal(weight, again.blocks[3].conv.weight)
    assert not torch.equal(weight, other.blocks[3].conv.weight)


def test_dropout_of_a_segment_depends_on_its_key_and_not_on_its_company():
    dropout = KeyedDropout(0.5, stream=0).train()
    key_B = torch.tensor([3, 2**62 + 1, 7, 0])
    x = torch.ones(4, 512)

    together = dropout(x, key_B)
    apart = torch.cat([dropout(x[i : i + 1], key_B[i : i + 1]) for i in (3, 0, 2, 1)])

    assert torch.equal(together[[3, 0, 2, 1]], apart)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together, KeyedDropout(0.5, stream=1).train()(x, key_B))
    assert set(together.unique().tolist()) == {0.0, 2.0}
    assert together.mean().item() == pytest.approx(1, abs=0.1)


def test_dropout_is_off_in_evaluation_and_asks_for_keys_in_training():
    network = SampleCNN(TINY, 3)

    assert network.eval()(torch.zeros(2, 60)).shape == (2, 3)
    with pytest.raises(ValueError, match="one key for each of the 2 segments"):
        network.train()(torch.zeros(2, 60))


def test_the_state_dict_is_plain_tensors_without_surprises():
    state = SampleCNN(TINY, 3).state_dict()

    assert state["blocks.0.conv.weight"].shape == (4, 4, 3)
    assert {name.split(".")[0] for name in state} == {"first", "first_norm", "blocks", "last", "last_norm", "head"}


def test_the_layer_table_of_the_paper():
    network = SampleCNN(plan_for(59049), 50)

    rows = layer_table(network)

    frames = [19683, 6561, 2187, 729, 243, 81, 27, 9, 3, 1, 1, 1]
    assert [row.frames for row in rows] == frames
    assert [row.channels for row in rows] == [128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512, 50]
    with_norm = [512 + 256, 49_280 + 256, 49_280 + 256, 98_560 + 512, *[196_864 + 512] * 5, 393_728 + 1024]
    assert [row.parameters for row in rows] == [*with_norm, 262_656 + 1024, 25_650]
    assert sum(row.parameters for row in rows) == parameter_count(network)
    # By hand: stride 3 hears 3; a filter of 3 over steps of 3 adds 6, the pool another 6.
    assert [row.receptive_samples for row in rows[:2]] == [3, 15]
    assert rows[-1].receptive_samples >= 59049


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("length", [60, 67, 729])
def test_the_layer_table_tells_the_truth_of_any_block_and_length(block, length):
    plan = dataclasses.replace(plan_for(length), widths=(4,) * len(plan_for(length).widths))
    network = SampleCNN(plan, 3, block).eval()
    shapes = []
    for module in (network.first, *network.blocks, network.last):
        module.register_forward_hook(lambda _module, _inputs, out: shapes.append((out.shape[2], out.shape[1])))

    network(torch.zeros(1, length))

    rows = layer_table(network)
    assert [(row.frames, row.channels) for row in rows[: len(shapes)]] == shapes
    assert sum(row.parameters for row in rows) == parameter_count(network)
