"""What a night's job does on the cluster: look for new uploads, get machines for them, grade them."""

import json
from typing import Any

from samplecnn.operations.machines import Machines, Wanted, wait_for_machines
from samplecnn.operations.night import MARK
from samplecnn.pipelines.grade import grade, waiting
from samplecnn.pipelines.outcome import Outcome
from samplecnn.pipelines.runtime import ray_session


def grade_night(recordings: str, model: str, grades: str, wanted: Wanted) -> tuple[Outcome, str]:
    """Grade what has no grade yet; returns the outcome and the line for the night's record.

    No machine is asked for where nothing is new. Raises JobError where none comes, UserError as grading does.
    """
    machines = Machines(0, 0, "")
    if waiting(recordings, model, grades):
        with ray_session():
            machines = wait_for_machines(wanted)
            outcome = grade(recordings, model, grades, new_only=True)
    else:
        outcome = grade(recordings, model, grades, new_only=True)  # what is gone, and the views
    return outcome, MARK + json.dumps(_told(outcome, machines))


def _told(outcome: Outcome, machines: Machines) -> dict[str, Any]:
    return {
        "line": str(outcome),
        "counts": {
            "done": outcome.done,
            "failed": outcome.failed,
            "kept": outcome.kept,
            "failed_before": outcome.given_up,
        },
        "model_id": outcome.model_id,
        "remark": machines.remark,
        "workers": {"gpu": machines.gpu_workers, "cpu": machines.cpu_workers},
    }
