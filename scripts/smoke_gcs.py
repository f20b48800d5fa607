"""A round trip in a real bucket: does all that the jobs build on hold there, for this account?

examples:
  python scripts/smoke_gcs.py gs://school/smoke

Takes about a minute and writes some 50 small objects under a new prefix of its own, which it removes at the end, also
after a failure or Ctrl-C. Exit code 0: all of it holds; 1: something does not; 2: no such bucket, or no permission.
A bucket with object versioning keeps old versions of what is removed: a line says so.
"""

import io
import sys
import time
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector

from samplecnn.architecture import NetworkSettings
from samplecnn.commits import new_run
from samplecnn.contract import LATEST_PARQUET
from samplecnn.errors import JobError, LostRace, RecordingError, UserError, one_line
from samplecnn.flags import Flags, run
from samplecnn.labels import LabelSettings
from samplecnn.recipe import FitSettings
from samplecnn.segments import SegmentSettings
from samplecnn.store import Store, open_store
from samplecnn.tables import read_parquet

WRITERS = 8
GRADES = "ABC"
RECORDINGS, RATE, SECONDS = 6, 8000, 4
SEGMENTS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FIT = FitSettings(epochs=1, crops=2, batch_size=12)


def main() -> int:
    place = Flags(__doc__).argument("place", "gs://bucket/prefix to write under").parse().place
    if not place.startswith("gs://"):
        raise UserError(f"{place}: is no bucket: write gs://bucket/prefix")
    place = f"{place.rstrip('/')}/samplecnn-smoke-{new_run()}"
    store = open_store(place)
    require(not store.exists(), f"{place}: is new, and something lies there")  # a wrong bucket is told here
    print(f"writing under {place}", flush=True)
    try:
        for check in CHECKS:
            print(f"ok  {check(store)}", flush=True)
        whole_job(place)
    finally:
        fault = remove(store)
    if not fault:
        print("all of it holds")
    return int(bool(fault))


def require(holds: bool, what: str) -> None:
    """Raises JobError unless it holds. what: the fault, for a person."""
    if not holds:
        raise JobError(what)


def require_refused(attempt: Callable[[], object], what: str) -> None:
    """Raises JobError unless the storage says that another writer was first."""
    try:
        attempt()
    except LostRace:
        return
    raise JobError(f"{what}: was not refused")


def create(store: Store) -> str:
    version = store.create("store/created", b"one", token="ours")
    require_refused(lambda: store.create("store/created", b"two", token="theirs"), "a second create")
    require(store.create("store/created", b"one", token="ours") == version, "our own create was not known again")
    require(store.read("store/created").data == b"one", "a refused create changed the object")
    return "create: a second one is refused, our own is known again by its token"


def race(store: Store) -> str:
    def won(number: int) -> bool:
        try:
            store.create("store/race", str(number).encode())
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as threads:
        winners = [number for number, first in enumerate(threads.map(won, range(WRITERS))) if first]
    require(len(winners) == 1, f"{len(winners)} of {WRITERS} writers created one object")
    require(store.read("store/race").data == str(winners[0]).encode(), "the object is not the winner's")
    return f"race: of {WRITERS} that create one object at once, one wins"


def replace(store: Store) -> str:
    first = store.create("store/replaced", b"one")
    second = store.replace("store/replaced", b"two", first)
    require_refused(lambda: store.replace("store/replaced", b"three", first), "replacing an older version")
    found = store.read("store/replaced")
    require((found.data, found.version) == (b"two", second), "a refused replace changed the object")
    return "replace: only the version that was read"


def pinned_read(store: Store) -> str:
    store.put("store/take.wav", b"first take")
    entry = next(store.list("store/take.wav"))
    with store.fetch(entry.name, entry.version, entry.stamp) as path:
        require(Path(path).read_bytes() == b"first take", "a read gave other bytes")
    store.put("store/take.wav", b"second take")
    try:
        with store.fetch(entry.name, entry.version, entry.stamp) as path:
            require(Path(path).read_bytes() == b"first take", "a version that was replaced came with other bytes")
    except RecordingError as error:
        require(not error.permanent and "left for the next run" in error.message, str(error))
        return "read: a version that was replaced is refused"
    return (
        "read: a version that was replaced is still read as what it was: this bucket keeps old versions, "
        "also of what is removed here (gcloud storage rm --recursive --all-versions)"
    )


def listing(store: Store) -> str:
    names = sorted((f"store/list/{name}.wav" for name in ("b", "a b", "a/1", "é", "Ω 日本")), key=str.encode)
    versions = [store.create(name, name.encode()) for name in names]
    found = list(store.list("store/list/"))
    require([entry.name for entry in found] == names, "a listing lacks names, or has them in another order")
    require([entry.version for entry in found] == versions, "a listing shows other versions")
    require(
        [entry.size_bytes for entry in found] == [len(name.encode()) for name in names], "a listing shows other sizes"
    )
    apart_s = max(abs(entry.updated_s - time.time()) for entry in found)
    require(apart_s < 300, f"the clock of this machine is {apart_s:.0f} s off")
    return "list: every object, by name, with version, size and a time that agrees with this machine's"


def delete(store: Store) -> str:
    first = store.create("store/deleted", b"one")
    second = store.replace("store/deleted", b"two", first)
    require_refused(lambda: store.delete("store/deleted", first), "deleting an older version")
    store.delete("store/deleted", second)
    store.delete("store/deleted", second)
    require(not list(store.list("store/deleted")), "a deleted object is still listed")
    return "delete: only the version that was read; one that is gone counts as deleted"


def move(store: Store) -> str:
    store.put("store/staging/a.parquet", b"rows")
    for _ in range(2):
        store.move("store/staging/a.parquet", "store/data/a.parquet")
    require(not list(store.list("store/staging/")), "a moved object is still there")
    require(store.read("store/data/a.parquet").data == b"rows", "a moved object holds other bytes")
    return "move: may be repeated"


def parquet(store: Store) -> str:
    table = pa.table({"recording": ["a.wav", "é.wav"], "score": [0.25, 0.75]})
    filesystem, base = store.filesystem()
    pq.write_table(table, f"{base}/store/bulk/1.parquet", filesystem=filesystem)
    with store.open_output("store/bulk/2.parquet") as sink:
        pq.write_table(table, sink)
    for number in (1, 2):
        found = pq.read_table(f"{base}/store/bulk/{number}.parquet", filesystem=filesystem)
        require(found.equals(table), "a Parquet file came back changed")
    require(len(list(store.list("store/bulk/"))) == 2, "a file of pyarrow's is not listed")
    return "pyarrow: Parquet written and read, and seen by the other client"


CHECKS = (create, race, replace, pinned_read, listing, delete, move, parquet)


def whole_job(place: str) -> None:
    """Prepare, train and grade a handful of noises."""
    from samplecnn.pipelines.grade import grade  # here, so that a wrong bucket is told before Ray and torch are there
    from samplecnn.pipelines.prepare import prepare
    from samplecnn.pipelines.runtime import ray_session
    from samplecnn.pipelines.train import train

    store = open_store(place)
    rows = ["recording,grade"]
    for number in range(RECORDINGS):
        store.put(f"recordings/take {number}.wav", noise(number))
        rows.append(f"take {number}.wav,{GRADES[number % len(GRADES)]}")
    store.put("labels.csv", "\n".join(rows).encode())
    recordings, segments, model, grades = (f"{place}/{name}" for name in ("recordings", "segments", "model", "grades"))
    with ray_session():
        cut = prepare(recordings, segments, SEGMENTS, workers=1)
        require(cut.done == RECORDINGS, str(cut))
        print("ok  prepare: recordings read by workers, shards staged and moved, manifest committed", flush=True)
        train(segments, f"{place}/labels.csv", model, LabelSettings(), NetworkSettings(), FIT, seed=0)
        print("ok  train: checkpoints written and removed, model published", flush=True)
        graded = grade(recordings, model, grades, workers=1)
        require(graded.done == RECORDINGS, str(graded))
        latest = read_parquet(open_store(grades).read(LATEST_PARQUET).data)
        require(len(latest) == RECORDINGS, f"{LATEST_PARQUET} holds {len(latest)} grades")
        print(f"ok  grade: {RECORDINGS} grades committed, views written", flush=True)
    before = list(store.list())
    again = grade(recordings, model, grades, new_only=True)
    require(again.kept == RECORDINGS and list(store.list()) == before, f"a second night wrote something: {again}")
    print("ok  grade again: nothing to do, nothing written", flush=True)


def noise(seed: int) -> bytes:
    """A wav file."""
    samples_T = np.random.default_rng(seed).normal(0, 3000, RATE * SECONDS).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(samples_T.tobytes())
    return file.getvalue()


def remove(store: Store) -> str:
    """Remove all that was written; returns "", or what is in the way."""
    filesystem, base = store.filesystem()
    try:
        filesystem.delete_dir_contents(base, missing_dir_ok=True)  # markers too, which our own listing leaves out
        left = filesystem.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
    except (OSError, UserError, JobError) as error:
        fault = f"{store.url()}: could not be removed, do it by hand: {one_line(error)}"
    else:
        fault = f"{store.url()}: {len(left)} objects could not be removed, do it by hand" if left else ""
    print(fault or f"removed all that was written under {store.url()}", file=sys.stderr if fault else sys.stdout)
    return fault


if __name__ == "__main__":
    raise SystemExit(run(main))
