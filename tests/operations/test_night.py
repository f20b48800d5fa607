"""What the night asks of a head, and what it takes of a job's log."""

import json
from types import SimpleNamespace

import pytest

from samplecnn.errors import JobError
from samplecnn.operations import night


def test_a_question_that_a_busy_head_drops_is_asked_again(monkeypatch):
    monkeypatch.setattr(night, "LOOK_EVERY_S", 0.0)
    answers = [OSError("connection refused"), RuntimeError("500"), "an answer"]

    def question() -> str:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    assert night._ask(question) == "an answer"
    monkeypatch.setattr(night, "SILENT_S", 0.0)
    answers[:] = [OSError("no\nroute")] * 2
    with pytest.raises(JobError, match="the cluster does not answer: no route"):
        night._ask(question)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ('night: {"line": "3 graded"}\n', {"line": "3 graded"}),
        ("a.wav\u2028night: x.wav: no sound\n", {}),  # a name, and one line of the log
        ('night: {"line": "3 graded"}\nnight: {"li', {"line": "3 graded"}),  # a job that was cut off
        ("night: [1]\n", {}),
        ("", {}),
    ],
)
def test_the_line_of_a_job_is_found_whatever_else_its_log_holds(log, told):
    jobs = SimpleNamespace(get_job_logs=lambda job: log)
    assert night._told(jobs, SimpleNamespace(submission_id="night-1")) == told
    assert json.loads(json.dumps(told)) == told
