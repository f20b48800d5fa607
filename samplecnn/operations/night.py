"""The night: grade what is new, once, and leave a record that says how it went.

Notable: nothing is remembered here. A night's attempts are jobs with names of their own (night-2026-11-27-1), which Ray
gives out once, so that two starts at the same moment make one job; what has been graded stands in the commit log, so
that an attempt goes on where another ended. A start that finds the night at work, or done, does nothing.
"""

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from ray.exceptions import RayError

from samplecnn.errors import JobError, one_line
from samplecnn.operations.cluster_file import Cluster
from samplecnn.operations.prices import run_usd
from samplecnn.operations.submission import LEFT_OUT
from samplecnn.store import Store
from samplecnn.untrusted import read_json

log = logging.getLogger(__name__)
T = TypeVar("T")

NIGHTS = "nights"  # the run records, beside recordings, model and grades: nights/2026-11-27.json
MARK = "night: "  # begins the line in which the job says what it did
ATTEMPTS = 2  # a start: the second goes on where the first ended
LOOK_EVERY_S = 2.0
SILENT_S = 120.0  # for which a head may leave questions unanswered
USERS_MISTAKE = 2  # exit code of a job that would fail the same way again


class Jobs(Protocol):
    """What is used of ray.job_submission.JobSubmissionClient."""

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any]) -> str: ...
    def list_jobs(self) -> list[Any]: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def get_job_logs(self, job_id: str) -> str: ...
    def stop_job(self, job_id: str) -> bool: ...


@dataclass(frozen=True)
class Ended:
    """How a start ended. line: for a person; record: what was written, None where nothing was done; failed: somebody
    should look."""

    line: str
    record: dict[str, Any] | None
    failed: bool


def run_night(
    jobs: Jobs, store: Store, cluster: Cluster, night: str, *, entrypoint: str, folder: str, longest_s: float
) -> Ended:
    """Grade one night's uploads, with a second attempt after a failure, and write nights/<night>.json.

    store: where the records lie; night: its date; entrypoint: the job's command; folder: the code that it runs;
    longest_s: after so long an attempt is stopped. Raises JobError where the cluster does not answer.
    """
    attempts = _attempts(jobs, night)
    if attempts and not attempts[-1].status.is_terminal():
        return Ended(
            f"night {night}: {attempts[-1].submission_id} is at work already: nothing was started", None, False
        )
    if _record(store, night).get("state") == "done":
        return Ended(f"night {night}: done already: nothing was started", None, False)
    if not attempts or attempts[-1].status != "SUCCEEDED":
        first = len(attempts) + 1
        code = {"working_dir": folder, "excludes": LEFT_OUT}
        for number in range(first, first + ATTEMPTS):
            job = f"night-{night}-{number}"
            if not _submit(jobs, night, job, entrypoint, code):
                return Ended(f"night {night}: {job} was started a moment ago: nothing was started", None, False)
            log.info("night %s: %s started", night, job)
            ended = _wait(jobs, job, longest_s)
            if ended.status == "SUCCEEDED" or ended.driver_exit_code == USERS_MISTAKE:
                break
            log.warning("night %s: %s failed: %s", night, job, _why(jobs, ended))
    record = _tell(jobs, cluster, night, _attempts(jobs, night))
    store.put(f"{NIGHTS}/{night}.json", json.dumps(record, indent=1).encode())
    line = f"night {night}: {record['line']}; see {store.url(f'{NIGHTS}/{night}.json')}"
    return Ended(line, record, record["state"] != "done")


def _submit(jobs: Jobs, night: str, job: str, entrypoint: str, code: dict[str, Any]) -> bool:
    """Start a job; returns False where another start was first with its name."""
    try:
        jobs.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=code)
    except (RuntimeError, OSError, RayError) as error:
        if "already exists" in str(error):
            return False
        # A reply that was lost says nothing of the job.
        if not any(attempt.submission_id == job for attempt in _attempts(jobs, night)):
            raise JobError(f"{job} could not be submitted: {one_line(error, 300)}") from error
    return True


def _attempts(jobs: Jobs, night: str) -> list[Any]:
    """This night's jobs, first to last."""
    found = _ask(jobs.list_jobs)
    numbers = {job.submission_id: _number(night, job.submission_id or "") for job in found}
    ours = [job for job in found if numbers[job.submission_id]]
    return sorted(ours, key=lambda job: numbers[job.submission_id])


def _ask(question: Callable[[], T]) -> T:
    """The cluster's answer, which a busy head may fail to give for a while. Raises JobError where none comes."""
    asked = time.monotonic()
    while True:
        try:
            return question()
        except (RuntimeError, OSError, RayError) as error:  # what Ray's client raises, and requests beneath it
            if time.monotonic() - asked > SILENT_S:
                raise JobError(f"the cluster does not answer: {one_line(error, 300)}") from error
        time.sleep(LOOK_EVERY_S)


def _number(night: str, job: str) -> int:
    """Which of this night's attempts a job is; 0: none."""
    match = re.fullmatch(rf"night-{re.escape(night)}-(\d+)", job)
    return int(match[1]) if match else 0


def _wait(jobs: Jobs, job: str, longest_s: float) -> Any:
    """Until the job has ended, or has been stopped since it took too long."""
    started = time.monotonic()
    stopped = False
    while not (info := _ask(lambda: jobs.get_job_info(job))).status.is_terminal():
        if not stopped and time.monotonic() - started > longest_s:
            log.warning("%s: stopped after %.0f minutes", job, longest_s / 60)
            _ask(lambda: jobs.stop_job(job))
            stopped = True
        time.sleep(LOOK_EVERY_S)
    return info


def _tell(jobs: Jobs, cluster: Cluster, night: str, attempts: list[Any]) -> dict[str, Any]:
    """The run record."""
    last = attempts[-1]
    done = last.status == "SUCCEEDED"
    told = _told(jobs, last)
    return {
        "night": night,
        "state": "done" if done else "failed",
        "line": told["line"] if done and "line" in told else _why(jobs, last),
        "counts": told.get("counts"),
        "model_id": told.get("model_id"),
        "remark": told.get("remark", ""),
        "started": _time(attempts[0].start_time),
        "ended": _time(last.end_time),
        "duration_s": round(sum(_seconds(attempt) for attempt in attempts), 1),
        "workers": told.get("workers"),
        "cost_usd": _cost(jobs, cluster, attempts),
        "attempts": [
            {
                "job": attempt.submission_id,
                "status": str(attempt.status.value),
                "exit_code": attempt.driver_exit_code,
                "started": _time(attempt.start_time),
                "ended": _time(attempt.end_time),
                "why": "" if attempt.status == "SUCCEEDED" else _why(jobs, attempt),
            }
            for attempt in attempts
        ],
    }


def _cost(jobs: Jobs, cluster: Cluster, attempts: list[Any]) -> float | None:
    """An estimate: each attempt's workers for as long as it took, and the time after which idle workers go."""
    total = 0.0
    idle_s = 60.0 * float(cluster.config.get("idle_timeout_minutes", 0))
    for attempt in attempts:
        workers = _told(jobs, attempt).get("workers", {})
        cost = run_usd(cluster.node_types(), workers, (_seconds(attempt) + idle_s) / 3600)
        if cost is None:
            return None
        total += cost
    return round(total, 4)


def _told(jobs: Jobs, attempt: Any) -> dict[str, Any]:
    """What the job said of itself, in its last marked line."""
    for line in reversed(_lines(jobs, attempt)):
        if line.startswith(MARK):
            with contextlib.suppress(ValueError):  # of a job that was cut off
                found = read_json(line.removeprefix(MARK).encode())
                return found if isinstance(found, dict) else {}
    return {}


def _lines(jobs: Jobs, attempt: Any) -> list[str]:
    """A job's log, in the lines that were printed: a name in one may hold what str.splitlines takes for an end."""
    return _ask(lambda: jobs.get_job_logs(attempt.submission_id)).split("\n")


def _why(jobs: Jobs, attempt: Any) -> str:
    """Why an attempt failed: its own last error line, else Ray's message."""
    errors = [line for line in _lines(jobs, attempt) if line.startswith("error: ")]
    message = errors[-1].removeprefix("error: ") if errors else one_line(attempt.message or "", 300)
    return f"{attempt.submission_id} {str(attempt.status.value).lower()}: {message}"


def _record(store: Store, night: str) -> dict[str, Any]:
    try:
        found = read_json(store.read(f"{NIGHTS}/{night}.json").data)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(attempt: Any) -> float:
    return ((attempt.end_time or attempt.start_time or 0) - (attempt.start_time or 0)) / 1000


def _time(stamp_ms: int | None) -> str | None:
    return datetime.fromtimestamp(stamp_ms / 1000, UTC).isoformat(timespec="seconds") if stamp_ms else None
