"""pretrain: performances without end, both branches taught on them, a starter for training.

Ray Data performs on all cores or nodes, a shard a row; each branch is one Ray task, on a GPU where there is one. A
shard that is there is kept, so that the same command goes on where it was; teaching starts anew, with the same result.
"""

import json
import logging
import tempfile
from typing import Any

import ray
import ray.data

from samplecnn.contract import PERFORMANCES_FILE, STARTER_FILE
from samplecnn.errors import UserError
from samplecnn.hearing import own_device, own_threads
from samplecnn.performances.shards import read_performances, write_shard
from samplecnn.pipelines.journal import Followed, new_journal
from samplecnn.pipelines.progress import Progress
from samplecnn.pipelines.runtime import ray_session
from samplecnn.pretraining import Learnt, learn, publish
from samplecnn.recipe import PretrainSettings
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store

log = logging.getLogger(__name__)

A_SHARD = 100  # 45 s at 500 Hz, float32: 9 MB


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
        journal = new_journal()
        pending = [
            _teach.options(num_gpus=gpu).remote(performances, shards, segments, settings, name, seed, journal)
            for name in settings.taught
        ]
        with Followed(journal):
            learnt = dict(zip(settings.taught, ray.get(pending), strict=True))
    card = publish(starter, learnt, segments, settings, described)
    of_skill = ", ".join(f"{name} {direction.explained:.2f}" for name, direction in card.directions.items())
    place = open_store(starter).url(STARTER_FILE)
    return f"{place}: {settings.count:,} performances heard; of the skill of unheard performers they tell: {of_skill}"


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
    numbers = range(row["first"], row["last"])
    drawn = {name: row[name] for name in ("performers", "sample_rate", "seed")}
    write_shard(row["place"], _shard(row["first"]), numbers, **drawn)
    return {"made": len(numbers)}


@ray.remote(num_cpus=1, max_retries=3)
def _teach(
    performances: str,
    shards: list[str],
    segments: SegmentSettings,
    settings: PretrainSettings,
    name: str,
    seed: int,
    journal: Any,
) -> Learnt:
    """Teach one branch."""
    own_threads(1)  # the branches share the machine, and the sums keep their order

    def say(line: str) -> None:
        ray.get(journal.add.remote(f"{name}: {line}"))

    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
        taught = read_performances(performances, shards, segments, folder)
        return learn(name, taught, settings, seed=seed, device=own_device(), say=say)
