"""How near is the network to the processor's limit, in training and in hearing, and how far ahead of the usual one?

Question: CPU milliseconds a segment on one thread, in training (from the file of samples, as `train` does it, and of
steps on segments that lie in memory) and in inference (BatchNorms folded, batches of several sizes); what the rhythm
branch adds to SampleCNN, with decoding and without; and what bfloat16 would bring where the processor has it.
Baseline: the usual practice, written for this: the same layers as nn.Conv1d, BatchNorm1d, ReLU and MaxPool1d, trained
by Adam on segments that a DataLoader reads from .npy files, heard as they are in evaluation mode; as every PyTorch
program starts, it does not keep its memory from batch to batch (hearing.own_threads).
Ceiling: the floating-point operations of the convolutions and products at the rate of a large matrix product in the
same rounds, by torch.mm (MKL) and by oneDNN, which torch's convolutions use. MKL is the slower one on AMD.
Noise guard: CPU seconds; ours in one process, of the others each in its own, since what memory is kept depends on what
else a process holds; rounds take all contestants in turn; medians of ratios within a round.

    python -m benchmarks network
"""

import contextlib
import functools
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import mkldnn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.decode import QUICK_SECONDS, SECONDS, one_of_each_format
from benchmarks.measure import Table, cpu_s, descendants, median, rounds, spread
from benchmarks.trials import DEVICE, generated
from samplecnn.architecture import Plan, plan_for
from samplecnn.audio import Decoder
from samplecnn.batches import RecordingSet
from samplecnn.fit import fit
from samplecnn.hearing import Hearing, own_threads
from samplecnn.infer import BATCH
from samplecnn.network.folded import folded
from samplecnn.network.joined import build
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.recipe import NO_AUGMENTATION, NO_STARTER, FitSettings
from samplecnn.segments import SegmentSettings, cut

# B segments, T samples.

SAMPLE_RATE, GRADES = 500, 3
PLAN = plan_for(10 * SAMPLE_RATE)
RECORDINGS = 15  # the demo's
EPOCH = FitSettings(epochs=1, crops=16, init=NO_STARTER)  # 240 segments, as of 60 recordings by default
PLAIN = replace(EPOCH, augment=NO_AUGMENTATION)
BATCHES = (1, BATCH, 32, 128)
PRODUCT = 1024  # rows and columns: beyond that neither library gets faster
HARDWARE = ("avx512_bf16", "amx_bf16")  # bfloat16 in the processor's own instructions

Contestant = Callable[[], float]  # CPU milliseconds a segment


class UsualSampleCNN(nn.Module):
    """The network as it is usually written."""

    def __init__(self, plan: Plan, grades: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, plan.widths[0], plan.stride, stride=plan.stride)]
        layers += [nn.BatchNorm1d(plan.widths[0]), nn.ReLU()]
        for (into, out), pool in zip(pairwise(plan.widths), plan.pools, strict=True):
            filters = nn.Conv1d(into, out, plan.filter_length, padding=plan.filter_length // 2)
            layers += [filters, nn.BatchNorm1d(out), nn.ReLU(), nn.MaxPool1d(pool)]
        last = plan.widths[-1]
        layers += [nn.Conv1d(last, last, 1), nn.BatchNorm1d(last), nn.ReLU()]
        self.layers, self.dropout, self.head = nn.Sequential(*layers), nn.Dropout(0.5), nn.Linear(last, grades)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        outputs_BO: Tensor = self.head(self.dropout(self.layers(waveform_BT.unsqueeze(1)).squeeze(2)))
        return outputs_BO


class SegmentFiles(Dataset[tuple[np.ndarray, int]]):
    """A .npy file a recording, a random segment of it an item."""

    def __init__(self, folder: str) -> None:
        self._paths = sorted(Path(folder).glob("*.npy"))

    def __len__(self) -> int:
        return EPOCH.crops * len(self._paths)

    def __getitem__(self, n: int) -> tuple[np.ndarray, int]:
        wave_T = np.load(self._paths[n // EPOCH.crops], mmap_mode="r")
        start = int(torch.randint(len(wave_T) - PLAN.segment_samples + 1, ()))
        return np.array(wave_T[start : start + PLAN.segment_samples]), n % GRADES


def run(quick: bool) -> list[Table]:
    """Training, inference, the rhythm branch, and bfloat16 where the processor has it."""
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder, _process() as ours:
        ours.submit(own_threads, 1).result()
        ours.submit(_write_recordings, folder).result()
        training = _in_turn(ours, _training(folder), 1 if quick else 5)
        inference = _in_turn(ours, _inference(), 1 if quick else 11)
        seconds = QUICK_SECONDS if quick else SECONDS
        decoding_ms = ours.submit(_decoding_ms, seconds, 1 if quick else 5).result()
        flop = ours.submit(_flop).result()
    tables = [_training_table(training), _inference_table(inference, flop), _rhythm_table(training, inference)]
    tables.append(_whole_table(inference, decoding_ms, seconds))
    return tables + ([_bfloat16_table(training, inference)] if _has_bfloat16() else [])


# Contestants: a name, whose process, and how its measurement is made there (once) and taken (every round).


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


Measured = dict[str, tuple[str, "partial[Contestant]"]]


def _in_turn(ours: ProcessPoolExecutor, measured: Measured, count: int) -> dict[str, list[float]]:
    with contextlib.ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, (whose, make) in measured.items():
            process = ours if whose == "ours" else stack.enter_context(_process())
            process.submit(torch.set_num_threads, 1).result()
            contestants[name] = partial(_taken, process, make)
        return rounds(contestants, count)


def _taken(process: ProcessPoolExecutor, make: "partial[Contestant]") -> float:
    return process.submit(_take, make.func, make.args).result()


def _take(make: Callable[..., Contestant], args: tuple[object, ...]) -> float:
    return _made(make, args)()


@functools.cache
def _made(make: Callable[..., Contestant], args: tuple[object, ...]) -> Contestant:
    return make(*args)


def _training(folder: str) -> Measured:
    found: Measured = {
        "usual, DataLoader": ("usual", partial(_usual_training, folder)),
        "usual, in memory": ("usual", partial(_steps, "usual", False)),
        "ours, memory not kept": ("usual", partial(_steps, "samplecnn", False)),
    }
    for name in ("samplecnn", "joined"):
        found[f"{name}, in memory"] = ("ours", partial(_steps, name, False))
        found[f"{name}, fit"] = ("ours", partial(_fit, name, folder, PLAIN))
        found[f"{name}, fit, augmented"] = ("ours", partial(_fit, name, folder, EPOCH))
        if _has_bfloat16():
            found[f"{name}, bfloat16"] = ("ours", partial(_steps, name, True))
    return found


def _inference() -> Measured:
    found: Measured = {}
    for size in BATCHES:
        found[f"usual, {size}"] = ("usual", partial(_batches, "usual", size, False))
        found[f"samplecnn, {size}"] = ("ours", partial(_batches, "samplecnn", size, False))
    found["memory not kept"] = ("usual", partial(_batches, "samplecnn", BATCH, False))
    found["rhythm"] = ("ours", partial(_batches, "rhythm", BATCH, False))
    found["joined"] = ("ours", partial(_batches, "joined", BATCH, False))
    if _has_bfloat16():
        for name in ("samplecnn", "joined"):
            found[f"{name}, bfloat16"] = ("ours", partial(_batches, name, BATCH, True))
    found["MKL"], found["oneDNN"] = (("ours", partial(product)) for product in (_mkl, _onednn))
    return found


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return UsualSampleCNN(PLAN, GRADES) if name == "usual" else build(name, PLAN, SAMPLE_RATE, GRADES)


def _usual_training(folder: str) -> Contestant:
    network, loader = _network("usual").train(), DataLoader(SegmentFiles(folder), EPOCH.batch_size, shuffle=True)
    optimiser = torch.optim.Adam(network.parameters())

    def epoch() -> float:
        start, heard = time.process_time(), 0
        for waveform_BT, grade_B in loader:
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(waveform_BT), grade_B))
            optimiser.step()
            heard += len(grade_B)
        return 1000 * (time.process_time() - start) / heard

    return epoch


def _steps(name: str, bfloat16: bool) -> Contestant:
    """One training step on segments that lie in memory, the optimiser's included."""
    size = EPOCH.batch_size
    network, waveform_BT = _network(name).train(), torch.randn(size, PLAN.segment_samples)
    grade_B, key_B = torch.arange(size) % GRADES, torch.arange(size)
    told = (waveform_BT,) if name == "usual" else (waveform_BT, key_B)
    optimiser = torch.optim.AdamW(network.parameters())

    def step() -> float:
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs_BO = network(*told)
        loss = HEADS[DEFAULT_HEAD].loss(outputs_BO.float(), grade_B).mean()
        network.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        return 1000 * (time.process_time() - start) / size

    return step


def _write_recordings(folder: str) -> None:
    recordings = _recordings(folder)
    for i, name in enumerate(recordings.names):
        np.save(os.path.join(folder, f"{name}.npy"), recordings.waveform(i) * recordings.gain_R[i])


@functools.cache
def _recordings(folder: str) -> RecordingSet:
    return generated(RECORDINGS, SAMPLE_RATE, PLAN.segment_samples, folder).recordings


def _fit(name: str, folder: str, settings: FitSettings) -> Contestant:
    """An epoch of training as the train job does it, from the file of samples to the optimiser."""
    network, recordings = _network(name), _recordings(folder)
    assert isinstance(network, Hearing)

    def epoch() -> float:
        start = time.process_time()
        for _ in fit(network, recordings, None, settings, seed=0, device=DEVICE):
            pass
        return 1000 * (time.process_time() - start) / (len(recordings) * settings.crops)

    return epoch


def _batches(name: str, size: int, bfloat16: bool) -> Contestant:
    network, waveform_BT = _network(name).eval(), torch.randn(size, PLAN.segment_samples)
    if isinstance(network, Hearing):
        network = folded(network)
    times = max(1, 32 // size)

    def batches() -> float:
        start = time.process_time()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            for _ in range(times):
                network(waveform_BT)
        return 1000 * (time.process_time() - start) / (times * size)

    return batches


def _product(multiply: Callable[[], object]) -> float:
    """CPU milliseconds of 10^9 operations."""
    start = time.process_time()
    with torch.inference_mode():
        multiply()
    return 1000 * (time.process_time() - start) / (2 * PRODUCT**3 / 1e9)


def _mkl() -> Contestant:
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    return lambda: _product(lambda: torch.mm(a, b))


def _onednn() -> Contestant:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is TorchScript's, which is not news
        linear = mkldnn.to_mkldnn(nn.Linear(PRODUCT, PRODUCT).eval())
    x = torch.randn(PRODUCT, PRODUCT).to_mkldnn()
    return lambda: _product(lambda: linear(x))


def _flop() -> float:
    """10^9 floating-point operations of the convolutions and products that hear one segment."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        _network("usual").eval()(torch.zeros(1, PLAN.segment_samples))
    return counter.get_total_flops() / 1e9


def _decoding_ms(seconds: float, count: int) -> float:
    """CPU milliseconds from a file to its segments, mean over the formats."""
    files, settings = one_of_each_format(seconds), SegmentSettings()
    with Decoder(settings.sample_rate) as decoder:
        before = set(descendants())
        decoder.decode(files["wav"])
        (child,) = set(descendants()) - before

        def load(path: str) -> float:
            start = time.process_time() + cpu_s(child)
            for _ in cut("music", "1", decoder.decode(path), settings):
                pass
            return 1000 * (time.process_time() + cpu_s(child) - start)

        times = rounds({kind: partial(load, path) for kind, path in files.items()}, count)
    return sum(median(found) for found in times.values()) / len(files)


def _has_bfloat16() -> bool:
    try:
        return any(name in Path("/proc/cpuinfo").read_text() for name in HARDWARE)
    except FileNotFoundError:
        return False


# Tables. Ratios are medians over rounds, of two contestants in the same round.


def _ratio(high: Sequence[float], low: Sequence[float]) -> tuple[float, str]:
    ratios = [a / b for a, b in zip(high, low, strict=True)]
    return median(ratios), spread(ratios)


def _training_table(times: dict[str, list[float]]) -> Table:
    names = {
        "the usual network, DataLoader": ("usual, DataLoader", "usual, in memory"),
        "the usual network, segments in memory": ("usual, in memory", "usual, in memory"),
        "SampleCNN, segments in memory, memory not kept": ("ours, memory not kept", "samplecnn, in memory"),
        "SampleCNN, segments in memory": ("samplecnn, in memory", "samplecnn, in memory"),
        "SampleCNN, `fit` without augmentation": ("samplecnn, fit", "samplecnn, in memory"),
        "SampleCNN, `fit` as by default": ("samplecnn, fit, augmented", "samplecnn, in memory"),
        "joined, segments in memory": ("joined, in memory", "joined, in memory"),
        "joined, `fit` without augmentation": ("joined, fit", "joined, in memory"),
        "joined, `fit` as by default": ("joined, fit, augmented", "joined, in memory"),
    }
    rows: list[tuple[str | float, ...]] = []
    for name, (key, steps) in names.items():
        faster, limit = _ratio(times["usual, DataLoader"], times[key]), _ratio(times[steps], times[key])[0]
        rows.append((name, median(times[key]), spread(times[key]), *faster, limit))
    columns = ("what", "CPU ms a segment", "from to", "speed-up on the usual, DataLoader", "from to")
    return Table(
        f"Training, one thread, float32, batches of {EPOCH.batch_size}",
        (*columns, "rate of the same steps in memory"),
        rows,
    )


def _inference_table(times: dict[str, list[float]], flop: float) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for size in BATCHES:
        usual, ours = times[f"usual, {size}"], times[f"samplecnn, {size}"]
        limits = (flop * _ratio(times[library], ours)[0] for library in LIBS)
        rows.append((f"{size}", median(usual), median(ours), spread(ours), *_ratio(usual, ours), *limits))
    mkl, onednn = (1000 / median(times[library]) for library in LIBS)
    columns = ("batch", "usual, CPU ms a segment", "ours, folded", "from to", "speed-up", "from to")
    return Table(
        f"Inference, one thread, float32, {1000 * flop:.0f} MFLOP a segment",
        (*columns, f"of torch.mm's {mkl:.0f} GFLOP/s", f"of oneDNN's {onednn:.0f} GFLOP/s"),
        rows,
    )


LIBS = ("MKL", "oneDNN")


def _rhythm_table(training: dict[str, list[float]], inference: dict[str, list[float]]) -> Table:
    alone, size = inference[f"samplecnn, {BATCH}"], BATCH
    rows: list[tuple[str | float, ...]] = [
        (f"inference, batches of {size}: {name}", median(times), *_ratio(times, alone))
        for name, times in (
            ("SampleCNN", alone),
            ("SampleCNN, memory not kept", inference["memory not kept"]),
            ("rhythm", inference["rhythm"]),
            ("joined", inference["joined"]),
        )
    ]
    step, joined = training["samplecnn, in memory"], training["joined, in memory"]
    rows.append(("training: joined", median(joined), *_ratio(joined, step)))
    return Table("What the rhythm branch adds", ("what", "CPU ms a segment", "of SampleCNN", "from to"), rows)


def _whole_table(inference: dict[str, list[float]], decoding_ms: float, seconds: float) -> Table:
    """With decoding, and the silence that fills a recording's last batch."""
    windows = -(-round(seconds) // (PLAN.segment_samples // SAMPLE_RATE))
    heard = BATCH * -(-windows // BATCH)
    alone = [decoding_ms + heard * ms for ms in inference[f"samplecnn, {BATCH}"]]
    joined = [decoding_ms + heard * ms for ms in inference["joined"]]
    rows: list[tuple[str | float, ...]] = [
        ("decoding, mean of the formats", decoding_ms, decoding_ms / median(joined), ""),
        ("decoding and SampleCNN", median(alone), *_ratio(alone, alone)),
        ("decoding and joined", median(joined), *_ratio(joined, alone)),
    ]
    return Table(f"A recording of {seconds:.0f} s", ("what", "CPU ms", "of decoding and SampleCNN", "from to"), rows)


def _bfloat16_table(training: dict[str, list[float]], inference: dict[str, list[float]]) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for name in ("samplecnn", "joined"):
        single = inference[f"{name}, {BATCH}" if name == "samplecnn" else name]
        for what, float32, bfloat16 in (
            ("training", training[f"{name}, in memory"], training[f"{name}, bfloat16"]),
            ("inference", single, inference[f"{name}, bfloat16"]),
        ):
            rows.append((f"{what}: {name}", median(float32), median(bfloat16), *_ratio(float32, bfloat16)))
    columns = ("what", "float32, CPU ms a segment", "bfloat16 (autocast)", "speed-up", "from to")
    return Table("bfloat16 (of grading it is not an option)", columns, rows)
