"""Garbage: only what no manifest names, only when it is old, and nothing at all by a clock that is wrong."""

import os
import time
from pathlib import Path

import pytest

from samplecnn.commits import DONE, CommitLog
from samplecnn.commits import log as commit_log
from samplecnn.errors import JobError, UserError
from samplecnn.garbage import DAY_S, delete, find_garbage, orphans, outlived
from samplecnn.store import Entry, Store, open_store
from tests.fixtures.gcs import gcs_store
from tests.fixtures.scripts import run_script

NOW = 1_795_000_000.0


def entry(name: str, days_ago: float) -> Entry:
    return Entry(name, 10, "1", "1", NOW - days_ago * DAY_S)


def test_a_run_that_wrote_lately_keeps_all_its_parts() -> None:
    parts = [
        entry("parts/old/recordings-1", 9),
        entry("parts/old/segments-1", 8),
        entry("parts/busy/recordings-1", 9),
        entry("parts/busy/segments-1", 0.1),
        entry("parts/named/recordings-1", 9),
        entry("parts/named/recordings-2", 9),
    ]
    found = orphans(parts, {"parts/named/recordings-1"}, NOW - 7 * DAY_S)
    assert [e.name for e in found] == ["parts/old/recordings-1", "parts/old/segments-1", "parts/named/recordings-2"]


def test_a_file_whose_age_nobody_knows_stays() -> None:
    assert orphans([Entry("parts/r/x", 1, "1", "1")], set(), NOW) == []


def test_the_two_newest_snapshots_and_young_ones_stay() -> None:
    def name(number: int) -> str:
        return f"manifests/{number:09d}-{'0' * 32}.snapshot.parquet"

    found = outlived(
        [
            entry("manifests/000000030.json", 90),
            *(entry(name(n), days) for n, days in ((120, 40), (30, 60), (60, 50), (90, 45), (40, 1))),
        ],
        NOW - 7 * DAY_S,
    )
    assert [e.name for e in found] == [name(60), name(30)]


@pytest.fixture(params=["local", "gcs"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "local":
        return open_store(str(request.getfixturevalue("tmp_path") / "grades"))
    return gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket"))


def graded(store: Store) -> None:
    """A folder with a part that counts and one that does not."""
    for name in ("parts/r1/recordings-00001.parquet", "parts/r2/recordings-00001.parquet"):
        store.put(name, b"rows")
    items = [{"recording": "a.wav", "version": "v", "model_id": "m", "outcome": DONE}]
    parts = [{"path": "parts/r1/recordings-00001.parquet", "rows": 1}]
    CommitLog(store, "grades").commit("r1", {"grade_names": "A,B"}, items, parts)


def names(store: Store) -> list[str]:
    return [e.name for e in store.list()]


def test_on_every_store_old_orphans_go_and_the_rest_stays(store: Store) -> None:
    graded(store)
    before = names(store)
    now = time.time()
    assert find_garbage(store, now, 7.0) == []
    garbage = find_garbage(store, now + 8 * DAY_S, 7.0)
    assert [e.name for e in garbage] == ["parts/r2/recordings-00001.parquet"]
    assert names(store) == before
    assert delete(store, garbage) == 1
    assert names(store) == [name for name in before if "r2" not in name]
    assert delete(store, garbage) == 1  # gone already
    assert find_garbage(store, now + 8 * DAY_S, 7.0) == []


def test_a_clock_that_lags_behind_the_files_deletes_nothing(store: Store) -> None:
    graded(store)
    with pytest.raises(JobError, match="nothing was deleted: set this machine's clock right"):
        find_garbage(store, time.time() - DAY_S, 7.0)


def test_a_folder_without_a_log_has_no_garbage(store: Store) -> None:
    graded(store)
    store.delete("manifests/000000001.json")
    with pytest.raises(UserError, match="no grades there"):
        find_garbage(store, time.time() + 30 * DAY_S, 7.0)


def test_in_a_bucket_what_was_written_again_meanwhile_stays(gate, bucket) -> None:  # type: ignore[no-untyped-def]
    store = gcs_store(gate, bucket)
    graded(store)
    garbage = find_garbage(store, time.time() + 8 * DAY_S, 7.0)
    store.put(garbage[0].name, b"new rows")
    assert delete(store, garbage) == 0
    assert store.read(garbage[0].name).data == b"new rows"


def test_snapshots_that_nobody_starts_from_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 1)
    store = open_store(str(tmp_path / "grades"))
    commits = CommitLog(store, "grades")
    for name in "abcd":
        commits.commit("r", {"grade_names": "A,B"}, [{"recording": name, "version": "v", "outcome": DONE}])
    state = commits.state()
    assert delete(store, find_garbage(store, time.time() + 8 * DAY_S, 7.0)) == 2
    assert len([name for name in names(store) if name.endswith(".parquet")]) == 2
    assert CommitLog(store, "grades").state().items.equals(state.items)


def test_the_script_only_tells_until_it_is_told_to_delete(tmp_path: Path) -> None:
    place = tmp_path / "grades"
    store = open_store(str(place))
    graded(store)
    for path in (place / "parts").rglob("*.parquet"):
        os.utime(path, (time.time() - 8 * DAY_S,) * 2)
    told = run_script("collect_garbage", "--grades", place)
    assert "1 files would go, 4 bytes: --delete removes them" in told.stdout, told.stderr
    assert len(names(store)) == 3
    assert "1 files removed, 4 bytes" in run_script("collect_garbage", "--grades", place, "--delete").stdout
    assert len(names(store)) == 2
    assert run_script("collect_garbage", "--grades", place, "--safe-days", "0.5").returncode == 2


@pytest.mark.parametrize("flags", [[], ["--delete"]])
def test_a_misspelt_folder_is_one_line_and_is_not_made(flags: list[str], tmp_path: Path) -> None:
    ended = run_script("collect_garbage", "--grades", tmp_path / "grdaes", *flags)
    line = f"error: --grades {tmp_path}/grdaes: no grades there: nothing can be told from garbage\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", line)
    assert list(tmp_path.iterdir()) == []
