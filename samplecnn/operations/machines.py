"""Machines for a job: ask the autoscaler, wait for a finite time, and say why they do not come.

A cluster that has scaled to zero shows no CPU and no GPU, so that a job which looks at what there is would work on one
core for ever. A placement group asks for what is wanted; it ends with the process that made it, so that nothing keeps
machines alive after a job that was killed (`request_resources` would).
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from samplecnn.errors import JobError, UserError
from samplecnn.flags import flag
from samplecnn.operations.launches import LaunchFailure, launch_failures

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
TELL_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a job wants: GPUs; where there are none to be had, or none are wanted, CPUs."""

    gpus: int = flag(1, "GPUs to wait for")
    cpus: int = flag(8, "cores to wait for where no GPU comes, or with --gpus 0; 0: give up without a GPU")
    minutes: float = flag(15.0, "how long to wait for GPUs, then for cores (minutes)")

    def __post_init__(self) -> None:
        if self.gpus < 0 or self.cpus < 0 or self.gpus + self.cpus == 0:
            raise UserError(f"--gpus {self.gpus} --cpus {self.cpus}: choose 0 or more, and not both 0")
        if self.minutes <= 0:
            raise UserError(f"--minutes {self.minutes}: choose above 0")


@dataclass(frozen=True)
class Machines:
    """What is there: workers with a GPU, workers without. remark: why not what was wanted first, else ""."""

    gpu_workers: int
    cpu_workers: int
    remark: str


def wait_for_machines(wanted: Wanted) -> Machines:
    """Wait until the cluster has GPUs, or, after that time, CPUs. The cluster must have been joined (ray.init).

    Raises JobError, with Google's reason, if neither comes.
    """
    watch = LogWatch()
    remark = ""
    if wanted.gpus and (why := _missing({"GPU": 1.0}, wanted.gpus, wanted.minutes * 60, watch)):
        remark = f"no GPU: {why}"
        log.warning("%s", remark)
        if not wanted.cpus:
            raise JobError(remark)
    if (remark or not wanted.gpus) and (why := _missing({"CPU": 1.0}, wanted.cpus, wanted.minutes * 60, watch)):
        raise JobError("; ".join(filter(None, [remark, f"no CPU: {why}"])))
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    with_gpu = sum("GPU" in resources for resources in there)
    return Machines(with_gpu, sum("CPU" in resources for resources in there) - with_gpu, remark)


def _missing(bundle: dict[str, float], count: int, wait_s: float, watch: "LogWatch") -> str:
    """Ask for so many of these and wait; returns "" once they are there, else why they are not."""
    if count < 1:
        return "none was asked for"
    kind = next(iter(bundle))
    group = placement_group([bundle] * count, strategy="PACK")
    started = told = time.monotonic()
    try:
        while not group.wait(LOOK_EVERY_S):
            waited_s = time.monotonic() - started
            failures = watch.failures()
            if final := [str(failure) for failure in failures if failure.forbids(kind)]:
                return "; ".join(final)
            if waited_s >= wait_s:
                why = "; ".join(map(str, failures)) or "the autoscaler gave no reason"
                return f"{count} {kind} did not come in {waited_s / 60:.0f} minutes: {why}"
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                log.info("waiting for %d %s, %.0f s so far", count, kind, waited_s)
        return ""
    finally:
        remove_placement_group(group)


class LogWatch:
    """What the autoscaler has written since this was made. On other machines than the head there is nothing to see."""

    def __init__(self) -> None:
        node = ray._private.worker.global_worker.node
        assert node, "ray.init comes first"
        self._logs = Path(node.get_logs_dir_path())
        self._sizes = {path: path.stat().st_size for path in self._logs.glob("monitor.*")}

    def failures(self) -> list[LaunchFailure]:
        """Why machines did not come, as far as it is known."""
        text = ""
        for path in sorted(self._logs.glob("monitor.*")):
            with path.open("rb") as file:
                file.seek(self._sizes.get(path, 0))
                text += file.read().decode("utf-8", errors="replace")
        return launch_failures(text)
