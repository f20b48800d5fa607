"""What does a GPU bring, and does it hear the same? (Needs an NVIDIA GPU; Ray is not needed.)

Question: segments a second in training and grading as the jobs do both, and of steps whose data lies in the GPU's
memory; how far the outputs lie from the CPU's, with TF32 (torch's default for convolutions) and without. Baseline: one
thread of this machine's CPU, in the same run. Ceiling: steps that fill the GPU. Noise guard: medians of rounds in turn,
after one that warms up.

    python -m benchmarks.gpu
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measure import Table, median, rounds
from benchmarks.trials import CORPORA, generated
from samplecnn.architecture import plan_for
from samplecnn.batches import RecordingSet
from samplecnn.evaluation import NETWORKS
from samplecnn.fit import fit
from samplecnn.hearing import Hearing, own_threads
from samplecnn.infer import hear
from samplecnn.ordinal import DEFAULT_HEAD, HEADS
from samplecnn.recipe import FitSettings
from samplecnn.starter import new_network, starter_for

RATE, GRADES = 500, 3
RECORDINGS = min(CORPORA)
FILLING = 512  # segments of a step that keeps a large GPU busy
EPOCH = FitSettings(epochs=1, crops=8, batch_size=40)
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def main() -> None:
    own_threads(1)
    rows: list[tuple[str | float, ...]] = []
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        recordings = generated(RECORDINGS, RATE, 10 * RATE, folder).recordings
        for name in NETWORKS:
            contestants = {
                f"{what}, {device}": partial(work, name, recordings, device)
                for what, work in (("fit", _fit), ("hear", _hear))
                for device in (GPU, CPU)
            }
            contestants |= {what: partial(work, name) for what, work in (("step", _step), ("inference", _inference))}
            times = rounds(contestants, 3)
            told = [median(times[key]) for key in contestants]
            rows.append((name, *told, _apart(name, recordings, tf32=True), _apart(name, recordings, tf32=False)))
    columns = (
        "network",
        "fit",
        "fit, CPU",
        "grading",
        "grading, CPU",
        f"steps of {FILLING}",
        f"inference of {FILLING}",
    )
    columns = (*columns, "outputs apart, TF32", "without")
    card = torch.cuda.get_device_name()
    print(Table(f"Segments a second, {card}, float32, torch {torch.__version__}", columns, rows).markdown())


def _network(name: str) -> Hearing:
    plan = plan_for(10 * RATE)
    starter = starter_for(FitSettings().init, RATE, plan)
    return new_network(NETWORKS[name], plan, RATE, GRADES, DEFAULT_HEAD, starter, seed=0)[0]


def _fit(name: str, recordings: RecordingSet, device: torch.device) -> float:
    """Training as `train` does it, from the file of samples to the optimiser."""
    network = _network(name)
    began = time.perf_counter()
    for _ in fit(network, recordings, None, EPOCH, seed=0, device=device):
        pass
    return EPOCH.crops * len(recordings) / (time.perf_counter() - began)


def _outputs(name: str, recordings: RecordingSet, device: torch.device) -> torch.Tensor:
    network = _network(name).to(device).eval()
    return torch.cat([_heard(network, recordings, i, device) for i in range(len(recordings))])


def _heard(network: Hearing, recordings: RecordingSet, i: int, device: torch.device) -> torch.Tensor:
    return hear(network, recordings.waveform(i), float(recordings.gain_R[i]), recordings.windows(i), device).outputs_SO


def _hear(name: str, recordings: RecordingSet, device: torch.device) -> float:
    """The network's part of grading, a recording after another."""
    began = time.perf_counter()
    return len(_outputs(name, recordings, device)) / (time.perf_counter() - began)


def _apart(name: str, recordings: RecordingSet, *, tf32: bool) -> float:
    """The most that an output on the GPU differs from the CPU's."""
    torch.backends.cudnn.allow_tf32 = tf32
    return float((_outputs(name, recordings, GPU) - _outputs(name, recordings, CPU)).abs().max())


def _step(name: str) -> float:
    """Training steps whose segments lie in the GPU's memory."""
    network = _network(name).to(GPU).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-5)
    waveform_BT, key_B = torch.randn(FILLING, network.segment_samples, device=GPU), torch.arange(FILLING)
    grade_B = torch.arange(FILLING, device=GPU) % GRADES

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(HEADS[DEFAULT_HEAD].loss(network(waveform_BT, key_B), grade_B).mean())
        optimiser.step()

    return _rate(step)


def _inference(name: str) -> float:
    network, waveform_BT = _network(name).to(GPU).eval(), torch.randn(FILLING, 10 * RATE, device=GPU)

    def infer() -> None:
        with torch.inference_mode():
            network(waveform_BT)

    return _rate(infer)


def _rate(work: Callable[[], None], times: int = 5) -> float:
    """Segments a second, FILLING each time."""
    work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return times * FILLING / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
