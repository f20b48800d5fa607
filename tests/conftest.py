"""Fixtures live by subject in tests/fixtures/; storage server and recordings start once a run, Ray once a file."""

import os

from hypothesis import settings

# Threads that wait, spin: with more of them than cores, four epochs of a small network cost 19 CPU seconds, not two.
# Read when torch is loaded, which the jobs that tests start do too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray's workers give way to everything else on the machine (15 more than the driver), which a busy machine makes crawl.
os.environ.setdefault("RAY_worker_niceness", "0")

pytest_plugins = [
    "tests.fixtures.browser",
    "tests.fixtures.disk",
    "tests.fixtures.gcs",
    "tests.fixtures.jobs",
    "tests.fixtures.pianos",
    "tests.fixtures.threads",
]

# No test is timed: an example that takes 0.3 s on a busy machine is none the worse.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
