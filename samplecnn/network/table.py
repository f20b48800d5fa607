"""A network as the papers print it: one row a stage, with its shape, parameters and receptive field."""

from dataclasses import dataclass

from torch import nn

from samplecnn.architecture import LEVELS
from samplecnn.network import SampleCNN, parameter_count


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
    """The rows from the waveform to the head; a block's stride is its pool, its kernel that of its filters.

    receptive_samples: how many samples of the waveform one frame of this stage has heard through filters and pools
    (squeeze and excitation hears the whole segment besides).
    """
    plan, rows, heard, step, frames = network.plan, list[Row](), 1, 1, network.plan.segment_samples

    def stage(name: str, kernel: int, stride: int, channels: int, *modules: nn.Module) -> None:
        nonlocal heard, step, frames
        for inner in (inner for module in modules for inner in module.modules()):
            if isinstance(inner, nn.Conv1d | nn.MaxPool1d):  # a 1x1 shortcut adds nothing
                heard += (_one(inner.kernel_size) - 1) * step
                step *= _one(inner.stride)
        frames = -(-frames // stride)
        rows.append(Row(name, kernel, stride, frames, channels, parameter_count(*modules), heard))

    def global_pool(name: str, channels: int) -> None:
        nonlocal heard, frames
        heard += (frames - 1) * step
        rows.append(Row(name, frames, frames, 1, channels, 0, heard))
        frames = 1

    stage("strided convolution", plan.stride, plan.stride, plan.widths[0], network.first, network.first_norm)
    for n, (block, pool, channels) in enumerate(zip(network.blocks, plan.pools, plan.widths[1:], strict=True), start=1):
        stage(f"{plan.block} block {n}", plan.filter_length, pool, channels, block)
    if plan.multi_level:
        global_pool(f"global max pools of {min(LEVELS, len(plan.pools))} blocks", plan.embedding)
    stage("last convolution", plan.last_kernel, 1, plan.embedding, network.last, network.last_norm)
    if frames > 1:
        global_pool("global max pool", plan.embedding)
    stage("head", 1, 1, network.outputs, network.head)
    return rows


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
