"""Nights of grading without end, drawn by a seed, after each of which the promises of the log are checked.

Recordings come, are replaced, go and come back, some are no audio; the storage fails, drivers are killed, runs overlap.

    python -m tests.soak_nights --nights 50      (some minutes; prints counts, exit code 1 where a promise is broken)
"""

import argparse
import csv
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from tqdm import tqdm

from tests.fixtures import HANGS_S
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate, running_gate
from tests.jobs.test_grade import publish
from tests.jobs.test_nights import (
    KINDS,
    LATEST_CSV,
    LATEST_PARQUET,
    LISTS,
    MANIFESTS,
    PARTS,
    PLACES,
    READS,
    Bucket,
    Cluster,
    Reader,
    hold,
)

BUCKET = "soak"
MOMENTS = (LISTS, READS, PARTS, MANIFESTS, LATEST_PARQUET, LATEST_CSV)
FIRST_DAY = 8  # recordings


class Soak:
    """One school, its bucket and its nights."""

    def __init__(self, gate: Gate, cluster: Cluster, bucket: Bucket, seed: int) -> None:
        self._gate, self._cluster, self._bucket = gate, cluster, bucket
        self._draw = random.Random(seed)
        self._live: list[str] = []
        self._gone: list[str] = []
        self._reader = Reader(bucket)
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []

    def night(self, number: int) -> None:
        """A day's changes, a night's runs and faults, a quiet run, and what must hold then."""
        self._day(FIRST_DAY if number == 0 else self._draw.randint(0, 4))
        with self._reader.looking():
            self._gate.faults(*(self._fault() for _ in range(self._draw.choice((0, 0, 1, 3)))))
            happens = self._draw.choice(("nothing", "a driver is killed", "a driver is killed", "two runs at once"))
            if happens == "a driver is killed":
                self._killed()
            elif happens == "two runs at once":
                self._ended([self._cluster.grade(commit=size) for size in (2, 3)])
            self._ended([self._cluster.grade()])
            self._count_faults()
            self._gate.faults()
            self._ended([self._cluster.grade()])
        self._check(number)
        self._gate.clear()

    def _day(self, new: int) -> None:
        """Recordings come, change and go; one in eight of the new ones is no audio."""
        draw = self._draw
        for name in draw.sample(self._live, min(len(self._live), draw.choice((0, 0, 1, 2)))):
            self._upload(name, "replaced")
        for name in draw.sample(self._live, min(len(self._live), draw.choice((0, 0, 1)))):
            self._bucket.delete(name)
            self._live.remove(name)
            self._gone.append(name)
            self.counts["deleted"] += 1
        if self._gone and draw.random() < 0.3:
            self._upload(self._gone.pop(draw.randrange(len(self._gone))), "came back")
        for _ in range(new):
            self._upload(f"take {self.counts['uploaded']:04d}.wav", "uploaded")

    def _upload(self, name: str, how: str) -> None:
        if self._draw.random() < 1 / 8:
            self._bucket.put(name, self._draw.randbytes(1000))
            self.counts["no audio"] += 1
        else:
            self._bucket.upload(name)
        self._live += [] if name in self._live else [name]
        self.counts[how] += 1

    def _fault(self) -> Fault:
        place = self._draw.choice(tuple(PLACES.values()))
        return replace(place, action=self._draw.choice(KINDS), stall_s=1.5, skip=self._draw.randrange(3))

    def _killed(self) -> None:
        """A driver is killed where such a request waits, or a while after it began if none comes."""
        moment = hold(self._draw.choice(MOMENTS), skip=self._draw.randrange(2))
        self._gate.faults(moment)
        run = self._cluster.grade(commit=self._draw.randint(1, 4))
        deadline = time.monotonic() + HANGS_S
        while run.poll() is None and not self._is_held(moment):
            assert time.monotonic() < deadline, "a run neither ended nor came to its moment"
            time.sleep(0.05)
        if run.poll() is None:
            run.kill()
            self.counts["drivers killed"] += 1
        run.wait()
        self._gate.release(moment.match)
        self._gate.faults()

    def _is_held(self, moment: Fault) -> bool:
        return any(line.startswith(f"hold {moment.method}") and moment.match in line for line in self._gate.fired())

    def _ended(self, runs: list[subprocess.Popen[str]]) -> None:
        """0, or 1 where all that was new is no audio."""
        codes = [run.wait(HANGS_S) for run in runs]
        self.counts["runs"] += len(runs)
        if not set(codes) <= {0, 1}:
            self.broken.append(f"exit codes {codes}")

    def _count_faults(self) -> None:
        self.counts["faults"] += sum(line.split()[0] in KINDS for line in self._gate.fired())

    def _check(self, number: int) -> None:
        """Each recording that lies in the bucket is shown once: with its grade, or with the reason that it has none."""
        self._reader.look()
        live = set(self._bucket.generations("raw/").items())
        graded, failed = self._graded(), self._failed()
        twice = [key for key in self._reader.done if max(self._reader.done[key], self._reader.rows[key]) > 1]
        durations = {key[:2]: row["duration_s"] for key, row in self._reader.grades.items()}
        promises = {
            "partial results were visible": self._reader.wrong,
            "graded twice": twice,
            "lost": sorted(live - set(graded) - set(failed)),
            "shown though it is gone": sorted((set(graded) | set(failed)) - live),
            "shown twice": [key for key, times in Counter(graded + failed).items() if times > 1],
            "graded under another version": [
                key for key in graded if abs(durations[key] - self._bucket.seconds.get(key, -1.0)) > 0.001
            ],
        }
        self.broken += [f"night {number}: {what}: {which}" for what, which in promises.items() if which]
        self._reader.wrong.clear()
        self.counts.update(nights=1)
        self.counts["graded"], self.counts["looks"] = len(self._reader.done), self._reader.looks
        self.counts["manifests"] = self._reader.manifests

    def _graded(self) -> list[tuple[str, str]]:
        data = self._bucket.read("grades/latest.parquet")
        rows = pq.read_table(io.BytesIO(data)).to_pylist() if data else []
        return [(row["recording"], row["version"]) for row in rows]

    def _failed(self) -> list[tuple[str, str]]:
        text = (self._bucket.read("grades/failures.csv") or b"").decode("utf-8-sig")
        return [(row["recording"], row["version"]) for row in csv.DictReader(io.StringIO(text, newline=""))]


def soak(nights: int, seed: int) -> Soak:
    """So many nights against a server of its own."""
    with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder, running_gate() as gate:
        os.environ["STORAGE_EMULATOR_HOST"] = gate.address
        gate.make_bucket(BUCKET)
        publish(f"gs://{BUCKET}/model")
        bucket = Bucket(gate, BUCKET, Path(folder))
        with Cluster(gate, bucket, Path(folder)) as cluster:
            school = Soak(gate, cluster, bucket, seed)
            for number in tqdm(range(nights), unit=" nights", disable=not sys.stderr.isatty()):
                school.night(number)
    return school


def main() -> int:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    school = soak(args.nights, args.seed)
    print(", ".join(f"{count} {what}" for what, count in school.counts.items()))
    print(f"{len(school.broken)} promises broken", *school.broken, sep="\n")
    return 1 if school.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
