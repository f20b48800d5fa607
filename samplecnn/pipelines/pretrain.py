"""pretrain: performances without end, both branches taught on them, a starter for training.

Ray Data performs on all cores or nodes, a shard a row; each branch is one Ray task, on a GPU where there is one. A
shard that is there is kept, so that the same command goes on where it was; teaching starts anew, with the same result.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch
from torch import Tensor

from samplecnn.architecture import plan_for
from samplecnn.batches import SAMPLES_FILE, RecordingSet
from samplecnn.contract import (
    ACTIVE,
    FRAME_S,
    NUMBER,
    PERFORMANCES_FILE,
    PERFORMER_NUMBER,
    STARTER_FILE,
    WAVEFORM,
    frames_of,
    performances_schema,
)
from samplecnn.errors import UserError
from samplecnn.flags import settings_dict
from samplecnn.hearing import Hearing, own_device
from samplecnn.model_folder import library_versions
from samplecnn.network import SampleCNN
from samplecnn.network.joined import RhythmNetwork
from samplecnn.performances.drawn import TARGETS, draw, perform_drawn, render_drawn, targets
from samplecnn.pipelines.journal import Followed, Journal
from samplecnn.pipelines.runtime import Progress, ray_session
from samplecnn.pretraining import Embedded, Taught, embed, explained, taught_columns, teach
from samplecnn.recipe import BRANCHES, PretrainSettings
from samplecnn.segments import SegmentSettings, activity, normalising_gain
from samplecnn.starter import StarterCard, find_direction, publish_starter
from samplecnn.store import open_store

log = logging.getLogger(__name__)

A_SHARD = 100  # 45 s at 500 Hz, float32: 9 MB
SAMPLECNN_RATE = 1 / 3  # of the rhythm branch's: at the same one it learnt nothing


def pretrain(
    performances: str,
    starter: str,
    segments: SegmentSettings,
    settings: PretrainSettings,
    *,
    seed: int,
    workers: int | None = None,
) -> str:
    """Perform, teach, publish the starter; returns the closing line.

    Raises UserError where other performances lie in that place already.
    """
    plan = plan_for(segments.segment_samples)
    described = {
        "count": settings.count,
        "performers": settings.performers,
        "seed": seed,
        "sample_rate": segments.sample_rate,
    }
    _require_same(performances, described)
    firsts = list(range(0, settings.count, A_SHARD))
    with ray_session(workers) as cpus:
        _perform(performances, firsts, settings, segments.sample_rate, seed, cpus)
        shards = [_shard(first) for first in firsts]
        gpu = int("GPU" in ray.cluster_resources()) / len(settings.taught)  # type: ignore[no-untyped-call]
        journal = Journal.remote()  # type: ignore[attr-defined]
        pending = [
            _teach.options(num_gpus=gpu).remote(performances, shards, segments, settings, name, seed, journal)
            for name in settings.taught
        ]
        with Followed(journal):
            learnt = dict(zip(settings.taught, ray.get(pending), strict=True))
    weights = {
        f"{name}.{key}": tensor
        for name, branch in learnt.items()
        for key, tensor in branch.weights.items()
        if not key.startswith("head.")
    }
    any_branch = learnt[settings.taught[0]]
    target_RK, held_R = any_branch.target_RK, any_branch.held_R
    skill_R = target_RK[:, _names().index("skill")].astype(np.float64)
    embedding_by_network = {name: branch.embedded.embedding_RE for name, branch in learnt.items()}
    if len(learnt) == len(BRANCHES):
        embedding_by_network["joined"] = np.concatenate([embedding_by_network[name] for name in BRANCHES], axis=1)
    directions = {
        name: find_direction(
            embedding_RE[~held_R].astype(np.float64),
            skill_R[~held_R],
            embedding_RE[held_R].astype(np.float64),
            skill_R[held_R],
        )
        for name, embedding_RE in embedding_by_network.items()
    }
    told = {}
    for name, branch in learnt.items():
        share_K = explained(branch.embedded.output_RK[held_R], target_RK[held_R])
        told[name] = dict(zip(_names(), share_K.round(3).tolist(), strict=True))
    card = StarterCard(
        sample_rate=segments.sample_rate,
        plan=plan,
        directions=directions,
        performances=described,
        taught=settings_dict(settings),
        explained=told,
        versions=library_versions(),
    )
    publish_starter(starter, card, weights)
    of_skill = ", ".join(f"{name} {direction.explained:.2f}" for name, direction in directions.items())
    place = open_store(starter).url(STARTER_FILE)
    return f"{place}: {settings.count:,} performances heard; of the skill of unheard performers they tell: {of_skill}"


@dataclass(frozen=True)
class _Learnt:
    """One branch as it was taught: its weights and what it hears in every performance; target_RK: standardised; held_R:
    who was kept from it."""

    weights: dict[str, Tensor]
    embedded: Embedded
    target_RK: npt.NDArray[np.float32]
    held_R: npt.NDArray[np.bool_]


def _names() -> tuple[str, ...]:
    return tuple(TARGETS[place] for place in taught_columns(TARGETS))


def _require_same(place: str, described: dict[str, Any]) -> None:
    store, data = open_store(place), (json.dumps(described) + "\n").encode()
    try:
        found = store.read(PERFORMANCES_FILE).data
    except FileNotFoundError:
        store.put(PERFORMANCES_FILE, data)
        return
    if found != data:
        raise UserError(
            f"--performances {place}: holds others ({found.decode(errors='replace').strip()[:120]}): "
            "choose another place"
        )


def _shard(first: int) -> str:
    return f"data/{first:08d}.parquet"


def _perform(place: str, firsts: list[int], settings: PretrainSettings, sample_rate: int, seed: int, cpus: int) -> None:
    there = {entry.name for entry in open_store(place).list("data/")}
    rows = [
        {
            "place": place,
            "first": first,
            "last": min(first + A_SHARD, settings.count),
            "performers": settings.performers,
            "sample_rate": sample_rate,
            "seed": seed,
        }
        for first in firsts
        if _shard(first) not in there
    ]
    if not rows:
        return
    log.info("%d shards of %d performances to make, %d are there", len(rows), A_SHARD, len(there))
    progress = Progress(settings.count, " performance")
    made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(_write_shard, concurrency=cpus)
    for row in made.iter_rows():
        progress.add(row["made"])
    progress.close()


def _write_shard(row: dict[str, Any]) -> dict[str, int]:
    """Perform the performances of one shard and write them."""
    numbers = range(row["first"], row["last"])
    schema = performances_schema(TARGETS)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for number in numbers:
        drawn = draw(row["seed"], number, performers=row["performers"])
        performance = perform_drawn(drawn)
        samples_T = render_drawn(drawn, performance, row["sample_rate"])
        columns[NUMBER].append(number)
        columns[PERFORMER_NUMBER].append(drawn.performer)
        columns[WAVEFORM].append(samples_T)
        columns[ACTIVE].append(_active(samples_T, row["sample_rate"]))
        for name, value in zip(TARGETS, targets(drawn, performance).tolist(), strict=True):
            columns[name].append(value)
    with open_store(row["place"]).open_output(_shard(row["first"])) as sink:
        pq.write_table(pa.table(columns, schema=schema), sink)
    return {"made": len(numbers)}


def _active(samples_T: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.bool_]:
    frame = round(FRAME_S * sample_rate)
    frames = frames_of(len(samples_T), sample_rate)
    padded_T = np.pad(samples_T, (0, max(0, frames * frame - len(samples_T))))[: frames * frame]
    return activity(np.square(padded_T.reshape(frames, frame), dtype=np.float64).mean(axis=1))


def read_performances(place: str, shards: list[str], segments: SegmentSettings, folder: str) -> Taught:
    """The performances of these shards, their samples in a file in `folder`."""
    path, position = os.path.join(folder, SAMPLES_FILE), 0
    starts, lengths, active, gains, performers, told = [], [], [], [], [], []
    with open(path, "wb") as sink:
        for table in _tables(place, shards):
            for wave, flags in zip(table[WAVEFORM], table[ACTIVE], strict=True):
                wave_T, active_F = wave.values.to_numpy(), flags.values.to_numpy(zero_copy_only=False)
                sink.write(np.ascontiguousarray(wave_T, np.float32).data)
                starts.append(position)
                lengths.append(len(wave_T))
                active.append(active_F)
                gains.append(normalising_gain(wave_T, active_F, segments.sample_rate))
                position += len(wave_T)
            performers.append(table[PERFORMER_NUMBER].to_numpy())
            told.append(np.stack([table[name].to_numpy() for name in _names()], axis=1))
    performer_R = np.concatenate(performers)
    recordings = RecordingSet(
        path=path,
        settings=segments,
        names=tuple(map(str, range(len(starts)))),
        start_R=np.array(starts, np.int64),
        length_R=np.array(lengths, np.int64),
        active_RF=tuple(active),
        gain_R=np.array(gains, np.float32),
        grade_R=np.zeros(len(starts), np.int64),
        groups=tuple(map(str, performer_R.tolist())),
    )
    return Taught(recordings, np.concatenate(told).astype(np.float32), performer_R, _names())


def _tables(place: str, shards: list[str]) -> Iterator[pa.Table]:
    filesystem, base = open_store(place).filesystem()
    for shard in shards:
        yield pq.read_table(f"{base}/{shard}", filesystem=filesystem)


@ray.remote(num_cpus=1, max_retries=3)
def _teach(
    performances: str,
    shards: list[str],
    segments: SegmentSettings,
    settings: PretrainSettings,
    name: str,
    seed: int,
    journal: Any,
) -> _Learnt:
    """Teach one branch."""
    torch.set_num_threads(1)  # the branches share the machine, and the sums keep their order
    device = own_device()
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        taught = read_performances(performances, shards, segments, folder)
        outputs, samples = len(taught.names), segments.segment_samples
        network: Hearing = (
            RhythmNetwork(samples, segments.sample_rate, outputs, seed=seed)
            if name == "rhythm"
            else SampleCNN(plan_for(samples), outputs, seed=seed)
        )
        rate = settings.learning_rate * (1.0 if name == "rhythm" else SAMPLECNN_RATE)
        for line in teach(network, taught, settings, rate, seed=seed, device=device):
            ray.get(journal.add.remote(f"{name}: {line}"))
        embedded = embed(network, taught.recordings, device)
        weights = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}
        return _Learnt(weights, embedded, taught.standardised(), taught.held())
