"""Planning at scale, in small: the same as benchmarks/planning.py over a fiftieth of its recordings."""

import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.planning import PLANS, Uploads, write_log
from samplecnn import recordings
from samplecnn.commits import CommitLog, LogState
from samplecnn.pipelines.grade import plan_night
from samplecnn.recordings import plan
from samplecnn.store import Entry, open_store

GRADED, NEW, PAGE = 20_000, 20, 500


@pytest.fixture
def state(tmp_path: Path) -> LogState:
    write_log(str(tmp_path / "grades"), GRADED)
    return CommitLog(open_store(str(tmp_path / "grades")), "grades").state()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "PAGE", PAGE)


def test_a_listing_is_held_as_objects_for_two_pages_at_most(state: LogState, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: dict[int, object] = {}
    most = 0
    entries = Uploads.list

    def watched(self: Uploads, prefix: str = "", *, folders: bool = True) -> Iterator[Entry]:
        nonlocal most
        for number, entry in enumerate(entries(self, prefix)):
            alive[number] = weakref.ref(entry, lambda _, number=number: alive.pop(number))
            most = max(most, len(alive))
            yield entry

    monkeypatch.setattr(Uploads, "list", watched)
    found = plan(Uploads("school", "uploads", graded=GRADED), state.items)
    assert (found.kept, len(found.todo), found.deleted) == (GRADED, NEW, [])
    assert PAGE <= most <= 2 * PAGE + 1


@pytest.mark.parametrize("night", PLANS)
def test_what_is_known_costs_planning_a_few_hundred_bytes_each(night: str, state: LogState) -> None:
    model_id, new_only = PLANS[night]
    everything, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        uploads = Uploads("school", "uploads", graded=GRADED)
        found = plan_night(uploads, state, model_id, new_only=new_only)
        python_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(everything)
    assert (found.kept, len(found.todo)) == (GRADED, NEW)
    assert pool.max_memory() < 600 * GRADED  # 428 measured, names and versions of 34 and 16 characters among them
    assert python_bytes < 2_500 * PAGE  # of a page, not of a recording that is known
