"""A job as a submission to the cluster: the exact `ray job submit`, and what its machines cost."""

import json
from collections.abc import Sequence
from datetime import datetime

from samplecnn.errors import UserError
from samplecnn.operations.cluster_file import GPU, Cluster
from samplecnn.operations.machines import Wanted
from samplecnn.operations.prices import AS_OF, run_usd

# What a job needs of the checkout; the rest would only be sent.
LEFT_OUT = [".git", ".venv*", "tests", "benchmarks", "docs", "demo"]
# What each job waits for: prepare decodes, the others hear. Training does not fall back to CPUs by itself.
MACHINES = {"prepare": (0, 8), "train": (1, 0), "evaluate": (1, 0), "grade": (1, 8)}


def wanted_by(job: str, gpus: int | None, cpus: int | None, minutes: float) -> Wanted:
    """What a job waits for, where the user has not said. Raises UserError for an unknown job."""
    if job not in MACHINES:
        raise UserError(f"{job}: is none of {', '.join(MACHINES)}")
    usual_gpus, usual_cpus = MACHINES[job]
    if gpus == 0 and cpus is None:
        cpus = usual_cpus or 8
    return Wanted(gpus=usual_gpus if gpus is None else gpus, cpus=usual_cpus if cpus is None else cpus, minutes=minutes)


def submission(job: str, words: Sequence[str], wanted: Wanted, address: str, now: datetime) -> list[str]:
    """The command that submits a job from the top of the checkout. words: the job's own flags."""
    waits = [f"--gpus={wanted.gpus}", f"--cpus={wanted.cpus}", f"--minutes={wanted.minutes:g}"]
    return [
        *("ray", "job", "submit", "--address", address, "--submission-id", f"{job}-{now:%Y%m%d-%H%M%S}"),
        *("--working-dir", ".", "--runtime-env-json", json.dumps({"excludes": LEFT_OUT}), "--"),
        *("python", "scripts/with_machines.py", *waits, "--", "python", f"jobs/{job}.py", *words),
    ]


def cost_line(cluster: Cluster, wanted: Wanted, hours: float) -> str:
    """What the workers that a job waits for cost, in a line."""
    types = cluster.node_types()
    if not types:
        return "cost: your own machines"
    cores = int(types["cpu"]["resources"]["CPU"])
    workers = {GPU: wanted.gpus} if wanted.gpus else {"cpu": -(-wanted.cpus // cores)}
    told = ", ".join(f"{count} {name} worker{'s' if count > 1 else ''}" for name, count in workers.items())
    cost = run_usd(types, workers, hours)
    head = run_usd(types, {str(cluster.config["head_node_type"]): 1}, 24.0)
    if cost is None:
        return f"cost: {told}: the price table has no such machine (samplecnn/operations/prices.py)"
    beside = f"; the head beside them {head:.2f} USD a day" if head else ""
    return f"cost: {told} for {hours:g} hours: {cost:.2f} USD at prices of {AS_OF}{beside}"
