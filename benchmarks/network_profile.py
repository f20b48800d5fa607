"""Which operations does the network spend its time on?

Question: the share of each of torch's operations, and of what lies between them (Python and torch's dispatch), in
hearing a batch and in a training step. Noise guard: CPU seconds of each operation by itself, medians over rounds; one
thread. What the network costs, and how near it is to the processor's limit, stands in `network`.

    python -m benchmarks network_profile
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import Table, median
from benchmarks.network import EPOCH, GRADES, PLAN, SAMPLE_RATE
from samplecnn.hearing import own_threads
from samplecnn.infer import BATCH
from samplecnn.network.folded import folded
from samplecnn.network.joined import build
from samplecnn.ordinal import DEFAULT_HEAD, HEADS

SHOWN = 7  # operations a table


class _Timed(TorchDispatchMode):
    """CPU seconds of every operation, in the order in which they come."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[tuple[int, str], list[float]] = {}
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.process_time()
        found = func(*args, **(kwargs or {}))
        spent = time.process_time() - start
        shapes = ", ".join(str(tuple(arg.shape)) for arg in args[:3] if isinstance(arg, Tensor))
        self.seconds.setdefault((self.number, f"{func.__name__.partition('.')[0]} {shapes}"), []).append(spent)
        self.number += 1
        return found


def run(quick: bool) -> list[Table]:
    """One table for hearing with either branch, and one for a training step."""
    own_threads(1)
    count = 2 if quick else 40
    return [
        *(_table(f"Hearing {BATCH} segments: {name}", _hearing(name), count) for name in ("samplecnn", "rhythm")),
        *(_table(f"Training on {EPOCH.batch_size}: {name}", _step(name), count) for name in ("samplecnn", "rhythm")),
    ]


def _hearing(name: str) -> Callable[[], None]:
    network, waveform_BT = folded(build(name, PLAN, SAMPLE_RATE, GRADES)), torch.randn(BATCH, PLAN.segment_samples)

    def batch() -> None:
        with torch.no_grad():
            network(waveform_BT)

    return batch


def _step(name: str) -> Callable[[], None]:
    size = EPOCH.batch_size
    network, waveform_BT = build(name, PLAN, SAMPLE_RATE, GRADES).train(), torch.randn(size, PLAN.segment_samples)
    grade_B, key_B = torch.arange(size) % GRADES, torch.arange(size)
    optimiser = torch.optim.AdamW(network.parameters())

    def step() -> None:
        loss = HEADS[DEFAULT_HEAD].loss(network(waveform_BT, key_B), grade_B).mean()
        network.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()

    return step


def _table(title: str, work: Callable[[], None], count: int) -> Table:
    whole, timed = [], _Timed()
    work()  # the first allocates, and makes the optimiser's state
    for _ in range(count):
        start = time.process_time()
        work()
        whole.append(time.process_time() - start)
        with timed:
            timed.number = 0
            work()
    spent = sorted(((median(times), name) for (_, name), times in timed.seconds.items()), reverse=True)
    total = max(median(whole), sum(seconds for seconds, _ in spent))
    rows: list[tuple[str | float, ...]] = [(name, 1000 * s, s / total) for s, name in spent[:SHOWN]]
    rest = sum(seconds for seconds, _ in spent[SHOWN:])
    rows.append((f"{len(spent) - SHOWN} others", 1000 * rest, rest / total))
    between = total - rest - sum(seconds for seconds, _ in spent[:SHOWN])
    rows.append(("between them", 1000 * between, between / total))
    rows.append(("all", 1000 * total, 1.0))
    return Table(title, ("operation", "CPU ms", "share"), rows)
