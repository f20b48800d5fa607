"""The night: grade the uploads of the day on the cluster that this machine is the head of, and write a record of it.

examples:
  python scripts/nightly.py --cluster ~/ray_bootstrap_config.yaml
  python scripts/nightly.py --cluster cluster.yaml --hook 'mail -s night teacher@school.org'

Reads <bucket>/recordings and <bucket>/model, grades to <bucket>/grades, writes <bucket>/nights/<date>.json. The same
command again is always safe: a night at work or done is left alone, one that failed goes on where it ended. Exit code
0: graded, or nothing to do; 1: it failed twice, and a person should look; 2: a mistake in the command. The hook gets
the record on its standard input.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from samplecnn.errors import JobError, UserError, one_line
from samplecnn.flags import Flags, flag, run
from samplecnn.operations.cluster_file import read_cluster
from samplecnn.operations.machines import Wanted
from samplecnn.store import open_store

if TYPE_CHECKING:
    from samplecnn.operations.night import Ended  # which loads Ray

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Settings:
    cluster: str = flag("cluster.yaml", "the cluster's file: its bucket, its prices")
    address: str = flag("http://127.0.0.1:8265", "where the head's job server listens")
    night: str = flag("", "which night, as a date (empty: today, UTC)")
    hours: float = flag(6.0, "after so long an attempt is stopped (hours)")
    hook: str = flag("", "command that is run at the end with the record on its standard input")


def main() -> int:
    args = Flags(__doc__).settings(Settings, Wanted).parse()
    settings, wanted = args.build(Settings), args.build(Wanted)
    night = settings.night or f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        ended = graded(settings, wanted, night)
    except (JobError, UserError) as error:
        notify(settings.hook, {"night": night, "state": "failed", "line": str(error)})
        raise
    print(ended.line)
    if ended.record:
        notify(settings.hook, ended.record)
    return int(ended.failed)


def graded(settings: Settings, wanted: Wanted, night: str) -> "Ended":
    """Grade a night's uploads."""
    cluster = read_cluster(os.path.expanduser(settings.cluster))
    if not cluster.bucket:
        raise UserError(f"{settings.cluster}: provider.bucket is missing: the place of recordings, model and grades")
    store = open_store(cluster.bucket)
    from ray.job_submission import JobSubmissionClient  # after parsing: --help need not wait for Ray

    from samplecnn.operations.night import run_night

    places = [f"--{name}={cluster.bucket}/{name}" for name in ("recordings", "model", "grades")]
    waits = [f"--gpus={wanted.gpus}", f"--cpus={wanted.cpus}", f"--minutes={wanted.minutes}"]
    entrypoint = shlex.join(["python", "scripts/grade_night.py", *places, *waits])
    try:
        jobs = JobSubmissionClient(settings.address)
    except (ConnectionError, RuntimeError) as error:
        raise JobError(f"{settings.address}: no job server answers: {one_line(error)}") from None
    longest_s = settings.hours * 3600
    return run_night(jobs, store, cluster, night, entrypoint=entrypoint, folder=str(ROOT), longest_s=longest_s)


def notify(hook: str, record: dict[str, object]) -> None:
    """Run the hook. That it fails is told, and changes nothing about the night."""
    if hook and (code := subprocess.run(hook, shell=True, input=json.dumps(record), text=True, check=False).returncode):
        print(f"the hook ended with {code}: {hook}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(run(main))
