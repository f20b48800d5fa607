"""What does a segment cost in networks of different plans, for 10 s at 500 Hz?

Baseline: plan B, the papers' filters and pools of 3 with global pooling at the end. Floor: plan A spends its pools on
the frames at once (5, 5, 5), where most of the arithmetic is. Noise guard: one thread, CPU seconds, rounds in turn,
medians. Plans C, D and E hear 13.1, 8.2 and 8.7 s: the last column is per second of sound.

    python -m benchmarks plans
"""

import time
from collections.abc import Callable

import torch

from benchmarks.measure import Table, median, rounds, spread
from samplecnn.architecture import NetworkSettings, Plan, plan_for
from samplecnn.hearing import own_threads
from samplecnn.infer import BATCH
from samplecnn.network import SampleCNN, parameter_count
from samplecnn.ordinal import DEFAULT_HEAD, HEADS

SAMPLE_RATE = 500
GRADES = 3
TRAINING_BATCH = 16


def _of_twos(samples: int) -> Plan:
    """2^n with filters of 3."""
    powers = plan_for(samples, NetworkSettings(filter_length=2))
    return Plan(samples, powers.stride, powers.pools, powers.widths)


PLANS = {
    "A": plan_for(5000),
    "B": plan_for(5000, NetworkSettings(filter_length=3)),
    "C": plan_for(6561),
    "D": _of_twos(4096),
    "E": Plan(4374, 2, (3,) * 7, (128, 128, 128, 256, 256, 256, 256, 512)),
}


def run(quick: bool) -> list[Table]:
    """CPU milliseconds a segment, training and inference, one row a plan."""
    own_threads(1)
    times = rounds(
        {
            f"{name} {stage}": step(plan)
            for name, plan in PLANS.items()
            for stage, step in (("training", _training), ("inference", _inference))
        },
        count=1 if quick else 7,
    )
    base = median(times["B training"])
    rows: list[tuple[str | float, ...]] = []
    for name, plan in PLANS.items():
        training, inference = times[f"{name} training"], times[f"{name} inference"]
        parameters = parameter_count(SampleCNN(plan, GRADES))
        seconds = plan.segment_samples / SAMPLE_RATE
        rows.append(
            (
                *(name, str(plan), plan.segment_samples, parameters, median(training), spread(training)),
                *(median(inference), spread(inference), base / median(training), median(training) / seconds),
            )
        )
    columns = ("plan", "shape", "samples", "parameters", "training, CPU ms a segment", "from to")
    return [
        Table(
            f"Plans, one thread, float32, batches of {TRAINING_BATCH} and {BATCH}",
            (*columns, "inference, CPU ms a segment", "from to", "speed-up on B", "training, CPU ms a second of sound"),
            rows,
        )
    ]


def _training(plan: Plan) -> Callable[[], float]:
    network = SampleCNN(plan, GRADES).train()
    optimiser = torch.optim.AdamW(network.parameters())
    waveform_BT = torch.randn(TRAINING_BATCH, plan.segment_samples)
    grade_B, key_B = torch.arange(TRAINING_BATCH) % GRADES, torch.arange(TRAINING_BATCH)

    def step() -> float:
        start = time.process_time()
        network.zero_grad()
        HEADS[DEFAULT_HEAD].loss(network(waveform_BT, key_B), grade_B).mean().backward()
        optimiser.step()
        return 1000 * (time.process_time() - start) / TRAINING_BATCH

    return step


def _inference(plan: Plan) -> Callable[[], float]:
    network = SampleCNN(plan, GRADES).eval()
    waveform_BT = torch.randn(BATCH, plan.segment_samples)

    def batch() -> float:
        start = time.process_time()
        with torch.inference_mode():
            network(waveform_BT)
        return 1000 * (time.process_time() - start) / BATCH

    return batch
