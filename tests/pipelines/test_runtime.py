import os
import subprocess
import sys

import pytest
import ray
import ray.data

from samplecnn.errors import JobError
from samplecnn.pipelines.outcome import Outcome
from samplecnn.pipelines.runtime import ray_session, some_names
from tests.fixtures import HANGS_S
from tests.fixtures.jobs import ROOT

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("done", "failed", "kept", "given_up", "code", "strict_code"),
    [
        (5, 0, 0, 0, 0, 0),
        (0, 0, 5, 0, 0, 0),
        (5, 1, 0, 0, 0, 1),
        (5, 0, 0, 1, 0, 1),  # failed for good on an earlier night: still in the table
        (0, 3, 0, 0, 1, 1),  # nothing succeeded
        (0, 3, 1, 0, 0, 1),
        (4, 5, 0, 0, 0, 1),  # most of few
        (4, 6, 0, 0, 1, 1),  # most of at least ten
        (5, 5, 0, 0, 0, 1),
    ],
)
def test_exit_codes_are_those_of_the_docs(done, failed, kept, given_up, code, strict_code):
    outcome = Outcome(done, failed, kept, given_up, "")
    assert (outcome.exit_code(strict=False), outcome.exit_code(strict=True)) == (code, strict_code)


class Full:
    def __call__(self, batch):
        raise JobError("the disk is full: make room")


def test_what_a_worker_died_of_is_told_in_its_own_words(one_ray):
    @ray.remote
    def task():
        raise JobError("the disk is full: make room")

    @ray.remote
    def defect():
        return {}["missing"]

    with pytest.raises(JobError, match=r"^the disk is full: make room$"), ray_session():
        ray.get(task.remote())
    with pytest.raises(JobError, match=r"^a worker failed: KeyError: 'missing' \(--traceback"), ray_session():
        ray.get(defect.remote())
    broken = ray.data.from_items([{"x": 1}]).map_batches(Full, batch_size=1, compute=ray.data.ActorPoolStrategy(size=1))
    with pytest.raises(JobError, match=r"^the disk is full: make room$"), ray_session():
        broken.take_all()


# What the head of an embedded Ray would report, asked of the head itself.
ASKED = """
from ray._common.usage import usage_lib
from ray.experimental import internal_kv
from samplecnn.pipelines.runtime import ray_session
with ray_session(1):
    told = usage_lib.get_cluster_metadata(internal_kv.internal_kv_get_gcs_client())
    print(usage_lib.usage_stats_enabled(), sorted(told))
"""


def test_an_embedded_ray_tells_its_makers_nothing(tmp_path):
    named = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env = {**named, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", ASKED], env=env, capture_output=True, text=True, timeout=HANGS_S, check=True
    ).stdout.splitlines()[-1]
    assert told == "False ['python_version', 'ray_init_cluster', 'ray_version']"  # what Ray itself compares nodes by


def test_long_lists_of_names_are_cut_short():
    assert some_names(["a", "b"]) == "a, b"
    assert some_names(list("abcdefg")) == "a, b, c, d, e and 2 more"
