"""What do ten thousand, a million and a hundred million recordings take? A model, from what was measured.

Every figure comes from the newest benchmarks/results that has it (prepare_job, grade_job, growth); the rest is assumed
here, by name, and may be changed by a flag. Seconds of sound are what costs: at 500 Hz decoding, not the network.

    python -m benchmarks.scale
    python -m benchmarks.scale --minutes 5 --hours 4 --dollars 0.39 --cores 8
"""

import argparse
import json
import math
from dataclasses import dataclass
from typing import Any

from benchmarks.__main__ import RESULTS
from benchmarks.measure import Table
from samplecnn.pipelines.prepare import COMMIT_RECORDINGS, MOST_A_SHARD

COUNTS = (10**4, 10**6, 10**8)
A_LISTING = 1_000  # names that a bucket lists at once
MOST_A_FOLDER = 10**6  # recordings a driver has been measured to plan (python -m benchmarks planning)


@dataclass(frozen=True)
class Assumptions:
    """What was not measured. dollars: of a node and an hour, on demand; cores: its hyperthreads, each taken for one of
    those that were measured; boot_s: from asking for a node to its first task; requests_dollars: of a million requests
    that write or list, and of a million that read."""

    minutes: float = 2.0  # a recording
    hours: float = 8.0  # a night
    cores: int = 8
    dollars: float = 0.39  # n2-standard-8 in us-central1, Google's list price as far as we know: look yours up
    boot_s: float = 180.0
    requests_dollars: tuple[float, float] = (5.0, 0.4)


@dataclass(frozen=True)
class Measured:
    """CPU seconds that a second of sound takes, and those of the driver that a recording takes."""

    sound_s: float
    driver_s: float


def measured(job: str) -> Measured:
    """prepare or grade, without what every job costs whatever its size."""
    rows = _newest(f"{job}_job")[0]["rows"]
    rate = next(row[1] for row in rows if row[0].startswith("job, less"))
    driver_ms = [row[5] for row in _newest("growth")[0]["rows"] if row[0] == job][-1]
    return Measured(1 / rate, driver_ms / 1000)


def _newest(name: str) -> list[dict[str, Any]]:
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        tables = json.loads(path.read_text())["tables"]
        if name in tables:
            found: list[dict[str, Any]] = tables[name]
            return found
    raise SystemExit(f"no results of {name}: python -m benchmarks {name}")


def requests(job: str, count: int) -> tuple[float, float]:
    """(writes and listings, reads) of a job over so many new recordings: recordings, pages of them, shards or parts,
    manifests. A shard is written once and moved once; of grades a commit writes two parts."""
    commits = math.ceil(count / COMMIT_RECORDINGS)
    files = 2 * math.ceil(count / MOST_A_SHARD) if job == "prepare" else 2 * commits
    return files + commits + math.ceil(count / A_LISTING), float(count)


def run(given: Assumptions) -> Table:
    """One row a job and a number of recordings."""
    rows: list[tuple[str | float, ...]] = []
    for job in ("prepare", "grade"):
        cost = measured(job)
        for count in COUNTS:
            cpu_h = count * given.minutes * 60 * cost.sound_s / 3600
            drivers = math.ceil(count / MOST_A_FOLDER)
            driver_h = count * cost.driver_s / 3600 / drivers
            working_h = given.hours - given.boot_s / 3600
            nodes = math.ceil(cpu_h / given.cores / working_h)
            compute = (cpu_h / given.cores + nodes * given.boot_s / 3600) * given.dollars
            writes, reads = requests(job, count)
            asked = (writes * given.requests_dollars[0] + reads * given.requests_dollars[1]) / 1e6
            figures = (cpu_h, nodes, driver_h, drivers, compute, writes + reads, asked)
            rows.append((job, f"{count:,}", *figures, 1000 * (compute + asked) / count))
    title = (
        f"Recordings of {given.minutes:g} minutes within {given.hours:g} hours, nodes of {given.cores} cores at "
        f"${given.dollars:g} an hour"
    )
    columns = ("job", "recordings", "CPU hours", "nodes", "a driver's hours", "folders", "compute, $")
    return Table(title, (*columns, "requests", "requests, $", "$ for 1,000"), rows)


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Assumptions()
    for name in ("minutes", "hours", "cores", "dollars"):
        value = getattr(usual, name)
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"(default: {value})")
    print(run(Assumptions(**vars(parser.parse_args()))).markdown())


if __name__ == "__main__":
    main()
