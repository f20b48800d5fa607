"""A short run of tests/soak_nights.py; docs/reliability.md holds the counts of the long one."""

import pytest

from tests.soak_nights import soak


@pytest.mark.ray
@pytest.mark.slow
def test_after_every_night_each_recording_is_shown_once(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")  # put back afterwards
    school = soak(nights=3, seed=2)
    assert school.broken == []
    assert school.counts["nights"] == 3
    assert school.counts["graded"] >= 8
    assert school.counts["drivers killed"] >= 1
