"""What each filter of a network answers to, found by gradient ascent on its input: the papers' visualisation.

From noise the waveform climbs to where one channel's mean activation is largest; its spectrum says which frequencies
the channel listens for. Source: Lee, Park, Kim, Nam 2018 (doi 10.3390/app8010150) and its code
(jongpillee/sampleCNN_visualization). That code leaves BatchNorm in training mode, on a batch of one, which makes its
faint noise as loud as music. Here the network is in evaluation mode, as it is when it grades, and the noise itself has
the level that the network hears: from the paper's half of the filters never woke (of a network trained on tones).
"""

import io
import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from samplecnn import contract
from samplecnn.errors import UserError
from samplecnn.hearing import Hearing
from samplecnn.network import SampleCNN
from samplecnn.network.blocks import Block
from samplecnn.network.joined import Joined
from samplecnn.network.table import layer_table

log = logging.getLogger(__name__)

# C channels of a layer, b of them in a batch, T samples, K frequencies, F frames.
Float32 = npt.NDArray[np.float32]

STEPS, STEP_SIZE = 18, 1.0
NOISE = math.sqrt(3)  # of the start, either side of 0: an RMS of 1
BATCH = 32  # filters that climb together; 8 cost 1.4 times the CPU, 128 as much
SHOWN = 6  # waveforms a layer in the figure; the spectra of all filters are there


@dataclass(frozen=True)
class LayerFilters:
    """One layer's filters, by rising peak frequency.

    filter_C: channel; peak_hz_C: where the spectrum is largest; activation_C: mean response at the end, 0 for a filter
    that nothing near the noise wakes; waveform_CT: mean removed; spectrum_CK: log10(1 + 10 power), 0 Hz to half the
    sample rate.
    """

    layer: str
    sample_rate: int
    filter_C: npt.NDArray[np.int32]
    peak_hz_C: npt.NDArray[np.float64]
    activation_C: Float32
    waveform_CT: Float32
    spectrum_CK: Float32


def samplecnn_of(network: Hearing, place: str) -> SampleCNN:
    """The network itself, or SampleCNN in a joined one. Raises UserError where a model has no SampleCNN."""
    within = network.samplecnn if isinstance(network, Joined) else network
    if not isinstance(within, SampleCNN):
        raise UserError(f"--model {place}: hears rhythm alone, and has no layers to climb: name one with a SampleCNN")
    return within


def find_filters(
    network: SampleCNN, sample_rate: int, *, seed: int, layers: int = 6, samples: int = 0
) -> list[LayerFilters]:
    """The filters of the first layers, as far as the network has them. network: in evaluation mode.

    samples: length of the waveforms; 0: what the deepest of these layers hears, at most a segment. All filters start
    from the same noise, which depends on the seed alone.
    """
    rows = layer_table(network)[: min(layers, 1 + len(network.blocks))]
    samples = samples or min(rows[-1].receptive_samples, network.plan.segment_samples)
    noise_T = np.random.default_rng(seed).uniform(-NOISE, NOISE, samples).astype(np.float32)
    found = []
    for layer, row in enumerate(rows):
        log.info("%s: %d filters, waveforms of %d samples", row.layer, row.channels, samples)
        climbed = [
            _climb(network, layer, torch.arange(start, min(start + BATCH, row.channels)), torch.from_numpy(noise_T))
            for start in range(0, row.channels, BATCH)
        ]
        waveform_CT = torch.cat([waveform_bT for waveform_bT, _ in climbed]).numpy()
        activation_C = torch.cat([activation_b for _, activation_b in climbed]).numpy()
        waveform_CT = waveform_CT - waveform_CT.mean(axis=1, keepdims=True)
        power_CK = np.abs(np.fft.rfft(waveform_CT.astype(np.float64))) ** 2
        peak_C = power_CK.argmax(axis=1)
        order_C = np.argsort(peak_C, kind="stable")
        found.append(
            LayerFilters(
                layer=row.layer,
                sample_rate=sample_rate,
                filter_C=order_C.astype(np.int32),
                peak_hz_C=peak_C[order_C] * sample_rate / samples,
                activation_C=activation_C[order_C],
                waveform_CT=waveform_CT[order_C],
                spectrum_CK=np.log10(1 + 10 * power_CK[order_C]).astype(np.float32),
            )
        )
    return found


def _climb(network: SampleCNN, layer: int, channel_b: Tensor, noise_T: Tensor) -> tuple[Tensor, Tensor]:
    """The waveforms [b, T] that these channels answer to, and their mean activations [b]."""
    waveform_bT = noise_T.expand(len(channel_b), -1)
    for _ in range(STEPS):
        waveform_bT = waveform_bT.detach().requires_grad_()
        # In evaluation mode no segment hears another: the gradient of the sum is each one's own.
        (gradient_bT,) = torch.autograd.grad(_activation(network, layer, channel_b, waveform_bT).sum(), waveform_bT)
        rms_b1 = gradient_bT.square().mean(dim=1, keepdim=True).sqrt()
        waveform_bT = waveform_bT + STEP_SIZE * gradient_bT / (rms_b1 + 1e-9)
    with torch.no_grad():
        return waveform_bT.detach(), _activation(network, layer, channel_b, waveform_bT)


def _activation(network: SampleCNN, layer: int, channel_b: Tensor, waveform_bT: Tensor) -> Tensor:
    """The mean over frames of each waveform's own channel, after the layer's ReLU and before it pools; layer 0 is the
    strided one."""
    x_bCF = network.strided(waveform_bT)
    for n, block in enumerate(network.blocks[:layer], start=1):
        assert isinstance(block, Block)
        x_bCF = block(x_bCF, None) if n < layer else block.active(x_bCF, None)
    return x_bCF[torch.arange(len(channel_b)), channel_b].mean(dim=1)


def filters_table(layers: list[LayerFilters]) -> pa.Table:
    """contract.FILTERS_SCHEMA, one row a filter."""
    batches = []
    for found in layers:
        count = len(found.filter_C)
        columns = {
            contract.LAYER: [found.layer] * count,
            contract.FILTER: found.filter_C,
            contract.PEAK_HZ: found.peak_hz_C,
            contract.ACTIVATION: found.activation_C,
            contract.SAMPLE_RATE: [found.sample_rate] * count,
            contract.WAVEFORM: list(found.waveform_CT),
            contract.SPECTRUM: list(found.spectrum_CK),
        }
        batches.append(pa.table(columns, schema=contract.FILTERS_SCHEMA))
    return pa.concat_tables(batches)


def filters_figure(layers: list[LayerFilters]) -> bytes:
    """A PNG: of each layer the spectra of all filters side by side, and a few waveforms from low to high."""
    figure = Figure(figsize=(10, 2.2 * len(layers)), dpi=120, layout="constrained")
    axes = figure.subplots(len(layers), 2, squeeze=False, width_ratios=(1, 1))
    for (left, right), found in zip(axes, layers, strict=True):
        count, samples = found.waveform_CT.shape
        left.imshow(
            found.spectrum_CK.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, count, 0, found.sample_rate / 2),
        )
        left.set(title=found.layer, ylabel="frequency (Hz)")
        shown = np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))
        seconds_T = np.arange(samples) / found.sample_rate
        for place, index in enumerate(shown):
            wave_T = found.waveform_CT[index]
            right.plot(seconds_T, place + 0.45 * wave_T / max(1e-9, float(np.abs(wave_T).max())), linewidth=0.6)
        right.set(yticks=range(len(shown)), yticklabels=[f"{found.peak_hz_C[index]:.0f} Hz" for index in shown])
        right.margins(x=0)
    axes[-1][0].set_xlabel("filters, by peak frequency")
    axes[-1][1].set_xlabel("seconds")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()
