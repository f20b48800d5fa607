"""The cluster: choose, check, set up the project, launch, submit, follow, fetch, take down.

examples:
  python scripts/cluster.py configure --project our-school --zone europe-west4-a --bucket gs://our-playing --gpu L4
  python scripts/cluster.py setup --yes
  python scripts/cluster.py launch --yes
  python scripts/cluster.py submit train -- --segments gs://our-playing/segments --labels labels.csv ...
  python scripts/cluster.py teardown --yes

What runs a command of Google's or Ray's prints it first; setup, launch and teardown run it with --yes alone. submit and
logs talk to http://127.0.0.1:8265: leave `ray dashboard cluster.yaml` running beside them.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from samplecnn.errors import JobError, UserError, one_line
from samplecnn.flags import Args, Commands, Flags, flag, run
from samplecnn.operations.cluster_file import Cluster, configured, faults, read_cluster, remarks

TOP = Path(__file__).resolve().parent.parent
FILE = "the cluster's file"
YES = "run what is printed"


@dataclass(frozen=True, kw_only=True)
class Submission:
    cluster: str = flag("cluster.yaml", FILE)
    address: str = flag("http://127.0.0.1:8265", "the job server")
    gpus: int = flag(None, "GPUs to wait for (default: train, evaluate, grade 1, prepare 0)")
    cpus: int = flag(None, "cores to wait for without GPUs (default: prepare, grade 8, train, evaluate 0: none)")
    minutes: float = flag(15.0, "how long to wait for them (minutes)")
    hours: float = flag(1.0, "how long you think it takes, for the cost (hours)")


def main() -> int:
    commands = Commands(__doc__)

    def add(name: str, command: Callable[[Args], int], summary: str) -> Flags:
        return commands.add(name, command, summary).optional("cluster", "cluster.yaml", FILE)

    add("check", check, "say what in the file does not fit together, without asking anybody")
    (
        add("configure", configure, "write project, zone, bucket and GPU type wherever the file names them")
        .option("project", "", "id of the Google Cloud project")
        .option("zone", "", "Google's zone; the region is part of it")
        .option("bucket", "", "gs://bucket, or a prefix in it, for recordings, models and grades")
        .option("gpu", "", "K80, T4 or L4")
    )
    add("setup", setup, "make network, NAT, accounts and bucket in the project").switch("yes", YES)
    add("launch", launch, "check, then ray up").switch("yes", YES)
    add("status", status, "say what the cluster has, and why machines do not come")
    commands.add("submit", submit, "submit prepare, train, evaluate or grade; its own flags after --").argument(
        "job", "prepare, train, evaluate or grade"
    ).settings(Submission).rest()
    commands.add("logs", logs, "follow a job's log").argument("id", "its submission id").option(
        "address", "http://127.0.0.1:8265", "the job server"
    )
    commands.add("fetch", fetch, "copy what lies at a place (a report, an evaluation) to a folder").argument(
        "place", "gs://bucket/prefix"
    ).argument("folder", "a local folder")
    add("teardown", teardown, "ray down: delete the head and all workers").switch("yes", YES)
    return commands.run()


def check(args: Args) -> int:
    cluster = checked(args.cluster)
    print(f"{args.cluster}: fits together" + (f", GPU {kind}" if (kind := cluster.gpu_kind()) else ""))
    return 0


def checked(path: str) -> Cluster:
    """The cluster, or a UserError that lists what does not fit together."""
    cluster = read_cluster(path)
    for remark in remarks(cluster):
        print(f"note: {remark}", file=sys.stderr)
    if found := faults(cluster):
        raise UserError(f"{path}: " + "; ".join(found))
    return cluster


def configure(args: Args) -> int:
    path, before = Path(args.cluster), read_cluster(args.cluster)
    words = {name: getattr(args, name) for name in ("project", "zone", "bucket", "gpu")}
    text = configured(path.read_text(encoding="utf-8"), **words)
    found = faults(Cluster(path, yaml.safe_load(text)))
    if len(found) > len(faults(before)):
        raise UserError(f"{path}: left as it is, since then: " + "; ".join(found))
    path.write_text(text, encoding="utf-8")
    return check(args)


def setup(args: Args) -> int:
    from samplecnn.operations.project import steps

    cluster = checked(args.cluster)
    for step in steps(cluster):
        print(f"# {step.why}\n{shlex.join(step.command)}", flush=True)
        if not args.yes:
            continue
        if step.there and subprocess.run(step.there, capture_output=True, check=False).returncode == 0:
            print("# is there already", flush=True)
        else:
            call(step.command)
    if not args.yes:
        print("# nothing was run: --yes runs it", file=sys.stderr)
    return 0


def launch(args: Args) -> int:
    from samplecnn.operations.machines import Wanted
    from samplecnn.operations.submission import cost_line

    print(cost_line(checked(args.cluster), Wanted(), hours=1.0), file=sys.stderr)
    return confirmed(args, ["ray", "up", from_top(args.cluster), "--yes"])


def teardown(args: Args) -> int:
    cluster = read_cluster(args.cluster)
    code = confirmed(args, ["ray", "down", from_top(args.cluster), "--yes"])
    if project := cluster.config["provider"].get("project_id"):
        name = cluster.config.get("cluster_name")
        left = f"gcloud compute instances list --project={project} --filter=labels.ray-cluster-name={name}"
        print(f"# shows what is left, if anything:\n{left}", file=sys.stderr)
    return code


def status(args: Args) -> int:
    from samplecnn.operations.launches import launch_failures

    look = "ray status -v; tail -n 2000 /tmp/ray/session_latest/logs/monitor.*"
    command = ["ray", "exec", from_top(args.cluster), look]
    print(shlex.join(command), file=sys.stderr)
    told = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    if told.returncode:
        raise JobError(f"ray exec ended with {told.returncode}: {one_line(told.stderr[-300:], 300)}")
    print(told.stdout.partition("==> ")[0].strip())
    for failure in launch_failures(told.stdout):
        print(f"machines do not come: {failure}")
    return 0


def submit(args: Args) -> int:
    from samplecnn.operations.submission import cost_line, submission, wanted_by

    wanted = wanted_by(args.job, args.gpus, args.cpus, args.minutes)
    print(cost_line(read_cluster(args.cluster), wanted, args.hours), file=sys.stderr)
    command = submission(args.job, args.rest, wanted, args.address, datetime.now(UTC))
    print(shlex.join(command), flush=True)
    return call(command)


def logs(args: Args) -> int:
    command = ["ray", "job", "logs", "--follow", "--address", args.address, args.id]
    print(shlex.join(command), file=sys.stderr)
    return call(command)


def fetch(args: Args) -> int:
    from samplecnn.store import open_store

    source, target = open_store(args.place), open_store(args.folder)
    names = [entry.name for entry in source.list()]
    if not names:
        raise UserError(f"{args.place}: nothing lies there")
    for name in names:
        target.put(name, source.read(name).data)
    print(f"{len(names)} files copied to {args.folder}")
    return 0


def confirmed(args: Args, command: list[str]) -> int:
    """Print a command, and run it if that was asked for."""
    print(shlex.join(command), flush=True)
    if not args.yes:
        print("# nothing was run: --yes runs it", file=sys.stderr)
        return 0
    return call(command)


def from_top(path: str) -> str:
    """A file's path as it is from the top of the repository, where commands are run."""
    within = os.path.relpath(path, TOP)
    return os.path.abspath(path) if within.startswith("..") else within


def call(command: list[str]) -> int:
    """Run a command of Ray's or Google's with the token on. Raises JobError where it fails."""
    os.chdir(TOP)  # the file mounts and the working directory are meant from here
    try:
        code = subprocess.run(command, env={**os.environ, "RAY_AUTH_MODE": "token"}, check=False).returncode
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found: install it, or activate the environment") from None
    if code:
        raise JobError(f"{' '.join(command[:3])} ended with {code}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
