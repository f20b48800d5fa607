"""Fixtures live by subject in tests/fixtures/; Ray, the storage server and the recordings start once a run."""

pytest_plugins = ["tests.fixtures.gcs", "tests.fixtures.jobs", "tests.fixtures.pianos"]
