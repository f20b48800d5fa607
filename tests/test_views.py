"""Views: whatever order slow and quick runs write in, a view never goes back behind the log."""

from collections.abc import Callable, Mapping

import pytest

from samplecnn import views
from samplecnn.commits import DELETED, DONE, CommitLog, LogState, failed_item
from samplecnn.errors import RecordingError
from samplecnn.store import Store, open_store
from tests.fixtures.gcs import gcs_store

STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "local": lambda request: open_store(str(request.getfixturevalue("tmp_path") / "grades")),
    "gcs": lambda request: gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket")),
}
NAMES = ["view.csv", "view.parquet"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param](request)


def commit(store: Store, name: str) -> LogState:
    log = CommitLog(store, "grades")
    log.state()
    return log.commit(f"r-{name}", {}, [{"recording": name, "version": "v", "model_id": "m", "outcome": DONE}])


def listed(state: LogState) -> dict[str, bytes]:
    return {name: f"{name}: {' '.join(state.items['recording'].to_pylist())}".encode() for name in NAMES}


def rewrite(store: Store, build: Callable[[LogState], Mapping[str, bytes]] = listed) -> None:
    views.rewrite(store, CommitLog(store, "grades"), NAMES, build)


@pytest.mark.parametrize("there_before", [False, True])
def test_a_run_that_was_slow_does_not_cover_what_a_quick_one_wrote(store: Store, there_before: bool) -> None:
    commit(store, "a")
    if there_before:
        rewrite(store)
    commit(store, "b")
    seen = []

    def slow(state: LogState) -> dict[str, bytes]:
        if not seen:  # the slow one has read the log; now the quick one commits and writes
            commit(store, "c")
            rewrite(store)
        seen.append(state.last)
        return listed(state)

    rewrite(store, slow)
    assert seen == [2, 3]
    for name in NAMES:
        assert store.read(name).data == f"{name}: a b c".encode()


def test_what_was_seen_before_a_commit_of_ours_is_enough_unless_another_run_was_quicker(store: Store) -> None:
    commit(store, "a")
    rewrite(store)
    for ours, other in (("b", ""), ("c", "d")):
        seen = views.look(store, NAMES)
        fresh = commit(store, ours)
        if other:
            commit(store, other)
            rewrite(store)
        states = []

        def build(state: LogState, states: list[int] = states) -> dict[str, bytes]:
            states.append(state.last)
            return listed(state)

        views.rewrite(store, CommitLog(store, "grades"), NAMES, build, seen, fresh)
        assert states == ([fresh.last] if not other else [fresh.last, fresh.last + 1])
        assert store.read(NAMES[0]).data == listed(CommitLog(store, "grades").state())[NAMES[0]]


def test_a_log_that_moves_on_between_a_commit_and_its_views_is_read_again(store: Store) -> None:
    state = commit(store, "a")
    commit(store, "b")
    views.rewrite(store, CommitLog(store, "grades", known=state), NAMES, listed)
    assert store.read("view.csv").data == b"view.csv: a b"


def test_what_is_up_to_date_is_not_written_and_what_lags_is(store: Store) -> None:
    commit(store, "a")
    rewrite(store)
    before = {name: (store.version_of(name), stamp(store, name)) for name in NAMES}
    rewrite(store)
    assert {name: (store.version_of(name), stamp(store, name)) for name in NAMES} == before
    store.put("view.csv", b"an older one")
    rewrite(store)
    assert store.read("view.csv").data == b"view.csv: a"
    assert stamp(store, "view.parquet") == before["view.parquet"][1]


def stamp(store: Store, name: str) -> str:
    return next(entry.stamp for entry in store.list(name))


def test_failures_are_what_the_log_says_last_of_a_version(tmp_path: object) -> None:
    log = CommitLog(open_store(f"{tmp_path}/grades"), "grades")

    def failed(recording: str, version: str, model: str) -> dict[str, object]:
        return {**failed_item(recording, version, "s", RecordingError("read", f"by {model}", False)), "model_id": model}

    log.commit("r", {}, [failed(name, "v1", "m1") for name in ("b", "a", "mended", "gone", "replaced")])
    log.commit(
        "r",
        {},
        [
            failed("a", "v1", "m2"),
            {"recording": "mended", "version": "v1", "model_id": "m2", "outcome": DONE},
            {"recording": "gone", "version": "v1", "model_id": "m1", "outcome": DELETED},
            {"recording": "replaced", "version": "v1", "model_id": "m1", "outcome": DELETED},
            failed("replaced", "v2", "m2"),
        ],
    )
    rows = views.failures(log.state()).select(["recording", "version", "message"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", "v1", "by m2"),
        ("b", "v1", "by m1"),
        ("replaced", "v2", "by m2"),
    ]
