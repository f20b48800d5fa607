"""What every job needs around its work: Ray started or joined, and what a worker died of."""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
import ray.exceptions

from samplecnn.errors import JobError, UserError, one_line
from samplecnn.recordings import Plan

log = logging.getLogger(__name__)

STARTS = 3


def require_recordings(work: Plan, place: str) -> None:
    """Refuse a place without a single recording: it is more likely misspelt, or a disk not mounted, than emptied."""
    if work.todo or work.failed or work.kept or work.given_up:
        return
    gone = f"though {len(work.deleted)} were there before; is the disk mounted?" if work.deleted else ""
    others = f"{work.ignored} other files" if work.ignored else "no files at all"
    raise UserError(f"--recordings {place}: holds no recordings, {gone or others}")


def start_ray(**resources: Any) -> None:
    """An embedded Ray, tried again where it does not come up: on a busy machine Ray's own processes are too slow for
    its own limits, 15 s for the ports of its agents and 30 s for the node, which nothing sets.

    resources: num_cpus and num_gpus, as ray.init takes them.
    """
    for left in reversed(range(STARTS)):
        try:
            ray.init(**resources, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # what Ray raises there is a bare one
            ray.shutdown()
            if not left:
                raise
            log.warning("Ray did not come up, trying again: %s", one_line(error))


@contextmanager
def ray_session(workers: int | None = None) -> Iterator[int]:
    """Join the cluster that a submitted job runs in, or start an embedded Ray; yields the number of CPUs to use.

    A job that runs in a cluster finds RAY_ADDRESS set by Ray's own job manager.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers of an embedded Ray inherit the accelerator's visibility even where they ask for none; 2.60 announces this.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    joined = ray.is_initialized() or "RAY_ADDRESS" in os.environ
    if not ray.is_initialized():
        started = time.monotonic()
        if joined:
            ray.init(logging_level=logging.ERROR)
        else:
            start_ray(num_cpus=workers)
        log.info("Ray is up after %.0f s (%s)", time.monotonic() - started, "joined" if joined else "embedded")
    for chatty in ("ray.data", "ray.train"):  # after the import, which sets levels of its own
        logging.getLogger(chatty).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # our own counts recordings, not blocks
    context.print_on_execution_start = False
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    except ray.exceptions.RayError as error:
        raise told_by_worker(error) from error
    finally:
        if not joined:
            ray.shutdown()


def told_by_worker(error: Exception) -> JobError:
    """What a worker died of, in its own words: Ray wraps them in pages of its own frames, as text."""
    ours = re.findall(r"^samplecnn\.errors\.\w+: (.+)$", str(error), re.MULTILINE)
    if ours:
        return JobError(ours[-1])
    if "No space left on device" in str(error):
        return JobError(
            "a disk is full, that of the results or the one for temporary files: make room and run the same "
            "command again"
        )
    theirs = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception|Interrupt): .+)$", str(error), re.MULTILINE)
    last = theirs[-1] if theirs else f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return JobError(f"a worker failed: {last} (--traceback shows where)")


def some_names(names: list[str], most: int = 5) -> str:
    """The first few names for a log line: "a, b and 7 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
