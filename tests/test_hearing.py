import platform
import subprocess
import sys

import pytest

from tests.fixtures import HANGS_S

BATCHES = 10
# A process of its own: how memory lies in the one of the tests depends on what ran before.
FAULTS = f"""
import resource, torch
from samplecnn.architecture import plan_for
from samplecnn.hearing import own_threads
from samplecnn.network import SampleCNN

own_threads(1)
assert torch.get_num_threads() == 1
network, heard_BT = SampleCNN(plan_for(5000), 3).train(), torch.randn(16, 5000)
for n in range(2 * {BATCHES}):
    if n == {BATCHES}:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(heard_BT, torch.arange(16)).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // {BATCHES})
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_a_batch_frees_is_kept_for_the_next():
    """Without that it is some 10,000 pages a step, each faulted in and zeroed anew."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=HANGS_S, check=True)
    assert int(done.stdout) < 500
