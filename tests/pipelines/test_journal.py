"""Where a training's journal lies."""

import os
import subprocess
import sys
import tempfile

import pytest

from tests.fixtures import HANGS_S

# Of its own process: a cluster of three nodes beside no other Ray.
PLACES = """
import ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(wait=False, num_cpus=1)
cluster.wait_for_nodes(timeout=300)
from samplecnn.pipelines.journal import new_journal
journals = [new_journal() for _ in range(6)]
ray.get([journal.add.remote("a line") for journal in journals])
places = {actor["Address"]["NodeID"] for actor in ray._private.state.actors().values()}
print(places == {ray.get_runtime_context().get_node_id()})
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_journal_lies_on_the_drivers_machine_not_on_a_workers_that_may_go():
    # A folder of its own: in the common one every other ray.init() of this machine would find this cluster and join it.
    # A short one: a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        done = subprocess.run(
            [sys.executable, "-c", PLACES],
            env={**os.environ, "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr
