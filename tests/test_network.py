import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from samplecnn.architecture import BLOCK_NAMES, HEAD_NAMES, NetworkSettings, Plan, plan_for
from samplecnn.errors import UserError
from samplecnn.network import SampleCNN, parameter_count
from samplecnn.network.blocks import BLOCKS, KeyedDropout, SqueezeExcite
from samplecnn.network.table import layer_table
from samplecnn.ordinal import HEADS
from tests.fixtures.gloo import on_workers
from tests.fixtures.slow_network import SlowNetwork

TINY = Plan(segment_samples=60, stride=5, pools=(3, 2, 2), widths=(4, 4, 6, 8))
PLAN_B = dataclasses.replace(plan_for(6561), segment_samples=5000, pools=(3,) * 6, widths=plan_for(2187).widths)


def _count(plan: Plan, classes: int, head: str = "cross-entropy") -> int:
    with torch.device("meta"):  # shapes alone
        return parameter_count(SampleCNN(plan, classes, head))


@pytest.mark.parametrize(
    ("last_kernel", "classes", "published"),
    [(1, 50, 1_869_874), (1, 3, 1_845_763), (3, 50, 2_394_162), (3, 3, 2_370_051)],
)
def test_the_paper_s_network_has_the_published_number_of_parameters(last_kernel, classes, published):
    assert _count(dataclasses.replace(plan_for(59049), last_kernel=last_kernel), classes) == published


# The authors' own code (tae-jun/resemul), at 50 and at 3 outputs.
RESEMUL = [
    ("plain", True, 16.0, 2_683_442, 2_635_267),
    ("se", False, 16.0, 23_929_138, 23_905_027),
    ("se", True, 16.0, 24_742_706, 24_694_531),
    ("res", False, 16.0, 4_107_314, 4_083_203),
    ("res", True, 16.0, 4_920_882, 4_872_707),
    ("rese", False, 16.0, 26_166_578, 26_142_467),
    ("rese", True, 16.0, 26_980_146, 26_931_971),
    ("se", True, 1.0, 4_064_306, None),
    ("rese", True, 1.0, 6_301_746, None),
]


@pytest.mark.parametrize(("block", "multi_level", "alpha", "of_50", "of_3"), RESEMUL)
def test_the_blocks_of_2018_have_the_published_number_of_parameters(block, multi_level, alpha, of_50, of_3):
    plan = plan_for(59049, NetworkSettings(block=block, multi_level=multi_level, se_alpha=alpha))

    assert _count(plan, 50) == of_50
    assert of_3 is None or _count(plan, 3) == of_3


@pytest.mark.parametrize("channels", [1, 100, 128, 256])
@pytest.mark.parametrize("alpha", [16.0, 1.0, 1 / 16])
def test_squeeze_and_excitation_has_the_parameters_of_its_formula(channels, alpha):
    inner = max(1, round(channels * alpha))
    assert parameter_count(SqueezeExcite(channels, alpha)) == 2 * channels * inner + channels + inner


@pytest.mark.parametrize(("head", "less"), [("corn", 513), ("coral", 2 * 512 + 1)])
def test_heads_that_know_the_order_have_fewer_parameters(head, less):
    assert _count(plan_for(59049), 3, head) == 1_845_763 - less


def test_a_network_counted_on_no_device_has_as_many_parameters_as_one_that_can_hear():
    plan = dataclasses.replace(TINY, block="rese", multi_level=True)
    assert parameter_count(SampleCNN(plan, 3)) == _count(plan, 3)


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
    assert _count(plan, 3) == count


def test_two_to_the_thirteen_has_the_published_number_of_convolution_weights():
    network = SampleCNN(plan_for(16384, NetworkSettings(filter_length=2)), 50)

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
    plan = plan_for(length, NetworkSettings(filter_length=m))

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


def _randomised(network: SampleCNN) -> SampleCNN:
    """Weights and statistics that hide nothing: no zeros, no ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and ("norm" in name or "bias" in name or tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return network


SHAPES = {
    "exact": {},
    "a rest at the stride and at the pools": {"segment_samples": 67},
    "an even filter and a wide excitation": {"filter_length": 2, "se_alpha": 2.0},
    "a last layer of three taps": {"last_kernel": 3, "segment_samples": 130},
    "multi-level": {"multi_level": True},
    "multi-level with frames left": {"multi_level": True, "segment_samples": 130},
}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_layer_equals_the_papers_tables_in_plain_loops(shape, block, training):
    plan = dataclasses.replace(TINY, widths=(2, 2, 3, 4), block=block, **SHAPES[shape])
    network = _randomised(SampleCNN(plan, 3)).train(training)
    keys = [3, 2**62 + 1, 7] if training else None
    waveform_BT = np.random.default_rng(0).standard_normal((3, plan.segment_samples)).astype(np.float32)
    expected = SlowNetwork(network, keys).hear(waveform_BT.tolist())
    layers = []
    network.blocks[0].register_forward_pre_hook(lambda _module, inputs: layers.append(inputs[0]))
    for module in network.blocks:
        module.register_forward_hook(lambda _module, _inputs, out: layers.append(out))

    outputs_BO, embedding_BE = network.hear(torch.from_numpy(waveform_BT), torch.tensor(keys) if training else None)

    found = [*[x_BCF.transpose(1, 2) for x_BCF in layers], embedding_BE[:, None], outputs_BO[:, None]]
    assert len(found) == len(expected)
    for fast, slow in zip(found, expected, strict=True):
        np.testing.assert_allclose(fast.detach().numpy(), slow, rtol=1e-3, atol=1e-4)


def test_two_workers_train_a_network_with_everything_in_it_as_one_would():
    left, right = on_workers(2, _gradients_of_half)
    whole = _gradients(slice(0, 7))

    assert left.keys() == right.keys() == whole.keys()
    for name in whole:
        np.testing.assert_allclose(left[name] + right[name], whole[name], rtol=1e-3, atol=1e-5, err_msg=name)


def _gradients_of_half(rank):
    return _gradients(slice(0, 3) if rank == 0 else slice(3, 7))


def _gradients(rows):
    """Of the summed loss on these rows of one batch; biases before a BatchNorm have none worth comparing."""
    network = SampleCNN(dataclasses.replace(TINY, block="rese", multi_level=True), 3, "coral", seed=1).train()
    waveform_BT = torch.randn(7, 60, generator=torch.Generator().manual_seed(0))
    key_B, grade_B = torch.arange(7) + 2**40, torch.arange(7) % 3
    HEADS["coral"].loss(network(waveform_BT[rows], key_B[rows]), grade_B[rows]).sum().backward()
    idle = {f"{name}.bias" for name, module in network.named_modules() if isinstance(module, nn.Conv1d)}
    return {name: p.grad.numpy() for name, p in network.named_parameters() if name not in idle}


@pytest.mark.parametrize("block", ["res", "rese"])
def test_dropout_inside_blocks_is_each_blocks_own_and_the_keys_alone(block):
    network = SampleCNN(dataclasses.replace(TINY, block=block), 3).train()
    streams = [module.stream for module in network.modules() if isinstance(module, KeyedDropout)]
    x_BT = torch.randn(4, 60, generator=torch.Generator().manual_seed(0))

    again = [network(x_BT, torch.tensor(keys)) for keys in ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 5])]

    assert sorted(streams) == [0, 1, 2, 3]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0][3], again[2][3])


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


@pytest.mark.parametrize("multi_level", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("length", [60, 67, 729])
def test_the_layer_table_tells_the_truth_of_any_block_and_length(block, length, multi_level):
    plan = plan_for(length, NetworkSettings(block=block, multi_level=multi_level))
    plan = dataclasses.replace(plan, widths=(4,) * len(plan.widths))
    network = SampleCNN(plan, 3).eval()
    shapes = []
    for module in (network.first, *network.blocks, network.last):
        module.register_forward_hook(lambda _module, _inputs, out: shapes.append((out.shape[2], out.shape[1])))

    network(torch.zeros(1, length))

    rows = layer_table(network)
    assert [(row.frames, row.channels) for row in rows if row.parameters][: len(shapes)] == shapes
    assert sum(row.parameters for row in rows) == parameter_count(network)
    assert rows[-1].frames == 1
    assert rows[-1].receptive_samples >= length


@pytest.mark.parametrize("block", ["plain", "res"])  # a gate hears everything
def test_the_layer_table_knows_how_far_a_frame_hears(block):
    plan = Plan(1080, 3, (3, 2, 2), (2, 2, 4, 4), block=block)
    network = SampleCNN(plan, 3).eval()
    for row, layer in zip(layer_table(network)[1:4], range(3), strict=True):
        waveform_BT = torch.rand(1, 1080, requires_grad=True)
        x_BCF = network.first(waveform_BT.unsqueeze(1))
        for inner in network.blocks[: layer + 1]:
            # Averages where the network takes the largest: every frame that could be the largest is heard.
            x_BCF = nn.functional.avg_pool1d(_linear(inner, x_BCF), inner.pool.kernel_size, ceil_mode=True)
        (gradient,) = torch.autograd.grad(x_BCF[0, :, x_BCF.shape[2] // 2].sum(), waveform_BT)
        heard = torch.nonzero(gradient[0])[:, 0]
        assert int(heard[-1] - heard[0]) + 1 == row.receptive_samples


def _linear(block, x_BCF):
    """A block's filters without what would hide a frame: ReLU, BatchNorm and dropout."""
    inner = block.conv(x_BCF)
    return block.conv2(inner) if hasattr(block, "conv2") else inner


def test_a_depth_leaves_the_rest_to_the_first_filter():
    plan = plan_for(59049, NetworkSettings(filter_length=3, depth=4))  # of the paper's comparison of depths

    assert (plan.stride, plan.pools, plan.exact) == (729, (3,) * 4, True)
    assert plan.widths == (128, 128, 128, 256, 512)
    assert plan_for(59049, NetworkSettings(depth=9)) == plan_for(59049)
    assert plan_for(5000, NetworkSettings(depth=1)).widths == (128, 512)
    with pytest.raises(UserError, match=r"--depth 100000000: .* room for 7"):
        plan_for(5000, NetworkSettings(depth=100_000_000))
    with pytest.raises(UserError, match=r"--depth 1: leaves 80000 samples .* choose 2 or more"):
        plan_for(240_000, NetworkSettings(depth=1))  # 15 s at 16 kHz
    assert plan_for(240_000, NetworkSettings(depth=2)).stride == 26_666


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"block": "magic"}, "--block magic"),
        ({"head": "magic"}, "--head magic"),
        ({"se_alpha": 0.0}, "--se-alpha 0.0"),
        ({"se_alpha": float("nan")}, "--se-alpha nan"),
        ({"se_alpha": 17.0}, "--se-alpha 17.0"),
        ({"depth": -1}, "--depth -1"),
        ({"filter_length": 7}, "--filter-length 7"),
    ],
)
def test_settings_of_no_network_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        NetworkSettings(**settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": (4, 4)}, "widths"),
        ({"pools": (3, 0, 2)}, "positive"),
        ({"stride": True}, "positive"),
        ({"widths": (4, 4, 4, 1 << 20)}, "at most"),
        ({"pools": (3, 1, 2)}, "do not fit"),
        ({"pools": (3, 3, 3)}, "do not fit"),
        ({"block": "magic"}, "'magic' is none of plain"),
        ({"se_alpha": 1e9}, "se_alpha"),
        ({"se_alpha": float("nan")}, "se_alpha"),
        ({"multi_level": 1}, "multi_level"),
        ({"multi_level": True, "last_kernel": 3}, "multi_level"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **change)


def test_the_names_that_flags_offer_are_those_that_exist():
    assert tuple(BLOCKS) == BLOCK_NAMES
    assert tuple(HEADS) == HEAD_NAMES
