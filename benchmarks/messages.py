"""What does a message between two training workers cost, while both are busy?

Question: wall time of gloo's all_reduce between two processes of one thread each, which compute for 30 ms before each
one, as a training step does: of a hundred numbers, as a BatchNorm exchanges, and of as many as a network has gradients.
Floor: the same on one process, which has nobody to wait for.
Noise guard: medians of 60 messages. Wall times say something on an idle machine alone.

    python -m benchmarks messages
"""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from torch import distributed

from benchmarks.measure import Table
from samplecnn.hearing import own_threads

FEW, GRADIENTS = 100, 1_300_000  # numbers
BUSY_S = 0.03


def run(quick: bool) -> list[Table]:
    """One row a size of message and a number of processes."""
    count = 3 if quick else 60
    rows: list[tuple[str | float, ...]] = []
    for told, numbers in (("a hundred numbers", FEW), ("1.3 million numbers", GRADIENTS)):
        for processes in (1, 2):
            rows.append((told, str(processes), *_exchanged(processes, numbers, count)))
    return [Table("A message between busy processes", ("message", "processes", "ms", "quarter to quarter"), rows)]


def _exchanged(processes: int, numbers: int, count: int) -> tuple[float, str]:
    with (
        tempfile.TemporaryDirectory(prefix="samplecnn-") as folder,
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        meeting = f"file://{os.path.join(folder, 'meeting')}"
        told = [pool.submit(_messages, meeting, rank, processes, numbers, count) for rank in range(processes)]
        low, middle, high = np.percentile(told[0].result(), (25, 50, 75))
    return float(middle), f"{low:.3g} to {high:.3g}"


def _messages(meeting: str, rank: int, processes: int, numbers: int, count: int) -> list[float]:
    """Milliseconds of each."""
    own_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    sent, took = torch.ones(numbers), []
    for _ in range(count):
        _compute(BUSY_S)
        start = time.perf_counter()
        distributed.all_reduce(sent)
        took.append(1000 * (time.perf_counter() - start))
    distributed.destroy_process_group()
    return took


def _compute(seconds: float) -> None:
    start, x = time.perf_counter(), torch.rand(64, 64)
    while time.perf_counter() - start < seconds:
        x = torch.tanh(x @ x)
