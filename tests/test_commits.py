"""The commit log: one winner a number, each item once, whatever the order in which runs come to commit."""

import contextlib
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samplecnn.commits import (
    COMPACT_EVERY,
    DELETED,
    DONE,
    FAILED,
    ITEMS_SCHEMA,
    UNREAD,
    CommitLog,
    LogState,
    failed_item,
    manifest_name,
    require_same_settings,
    snapshot,
)
from samplecnn.commits import log as commit_log
from samplecnn.errors import JobError, LostRace, RecordingError, UserError
from samplecnn.store import LocalStore, Store, open_store
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate, gcs_store
from tests.fixtures.values import json_values

SETTINGS = {"sample_rate": 500, "segment_s": 10.0, "hop_s": 10.0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "grades"))


def done(recording: str, version: str = "v1", model_id: str = "m") -> dict[str, Any]:
    return {"recording": recording, "version": version, "model_id": model_id, "outcome": DONE, "segments": 3}


def corrected(recording: str, grade: str = "A", version: str = "v1", by: str = "Ann") -> dict[str, str]:
    return {"recording": recording, "version": version, "grade": grade, "by": by, "why": "heard it"}


def outcomes(state: LogState) -> dict[tuple[str, str, str], str]:
    columns = (state.items[name].to_pylist() for name in ("recording", "version", "model_id", "outcome"))
    return {(r, v, m): outcome for r, v, m, outcome in zip(*columns, strict=True)}


def rows_of(store: Store, state: LogState) -> Counter[str]:
    """How often each recording lies in the valid parts, which in these tests are lists of names."""
    return Counter(name for path in state.parts for name in json.loads(store.read(path).data))


class Writer:
    """A run that planned the same work as others: writes a part and commits it."""

    def __init__(self, store: Store, run: str, names: Sequence[str]) -> None:
        self.store, self.run, self.names = store, run, names
        self.log = CommitLog(store, "grades")
        self.log.state()
        self.numbers = itertools.count()

    def build(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        path = f"parts/{self.run}/{next(self.numbers)}.json"
        self.store.put(path, json.dumps([item["recording"] for item in items]).encode())
        return [{"path": path, "rows": len(items)}]

    def commit(self) -> LogState:
        items = [done(name) for name in self.names]
        return self.log.commit(self.run, SETTINGS, items, self.build(items), build=self.build)


def test_an_empty_folder_has_an_empty_log(store: Store) -> None:
    state = CommitLog(store, "grades").state()
    assert (state.last, state.settings, len(state.items), dict(state.parts)) == (0, None, 0, {})
    assert state.items.schema == ITEMS_SCHEMA


def test_a_manifest_says_all_there_is_to_know(store: Store) -> None:
    log = CommitLog(store, "segments", now=lambda: datetime(2026, 11, 23, 8, 0, tzinfo=UTC))
    log.commit(
        "run-1",
        SETTINGS,
        [done("é.wav", model_id="")],
        [{"path": "data/1.parquet", "rows": 3}],
        removed=["data/0.parquet"],
    )
    manifest = json.loads(store.read("manifests/000000001.json").data)
    assert len(manifest.pop("token")) == 32
    assert manifest == {
        "manifest": 1,
        "run": "run-1",
        "kind": "segments",
        "committed_at": "2026-11-23T08:00:00+00:00",
        "settings": SETTINGS,
        "items": [{"recording": "é.wav", "version": "v1", "model_id": "", "stamp": "", "outcome": DONE, "segments": 3}],
        "parts": [{"path": "data/1.parquet", "rows": 3}],
        "removed": ["data/0.parquet"],
    }


def test_state_is_folded_from_all_manifests_whoever_reads_it(store: Store) -> None:
    log = CommitLog(store, "segments")
    log.commit("r", SETTINGS, [done("a", model_id=""), done("b", model_id="")], [{"path": "data/1", "rows": 6}])
    log.commit("r", SETTINGS, [done("b", "v2", "")], [{"path": "data/2", "rows": 3}])
    mine = log.commit(
        "r", SETTINGS, [{**done("b", "v1", ""), "outcome": DELETED}], [{"path": "data/3", "rows": 3}], ["data/1"]
    )
    for state in (mine, log.state(), CommitLog(store, "segments").state()):
        assert state.last == 3
        assert state.settings == SETTINGS
        assert dict(state.parts) == {"data/2": 3, "data/3": 3}
        assert outcomes(state) == {("a", "v1", ""): DONE, ("b", "v2", ""): DONE, ("b", "v1", ""): DELETED}
        assert state.items["manifest"].to_pylist() == [1, 2, 3]


def test_the_loser_of_a_race_drops_what_the_winner_did_and_commits_the_rest(store: Store) -> None:
    first, second = Writer(store, "r1", "abc"), Writer(store, "r2", "bcd")
    first.commit()
    state = second.commit()
    assert state.last == 2
    assert rows_of(store, state) == Counter("abcd")
    assert state.items["run"].to_pylist() == ["r1", "r1", "r1", "r2"]


def test_a_loser_with_nothing_left_commits_nothing(store: Store) -> None:
    first, second = Writer(store, "r1", "abc"), Writer(store, "r2", "ab")
    first.commit()
    assert second.commit().last == 1


def test_a_loser_that_cannot_rewrite_its_part_does_not_commit_it(store: Store) -> None:
    first, second = Writer(store, "r1", "abc"), Writer(store, "r2", "bcd")
    first.commit()
    with pytest.raises(LostRace):
        second.log.commit("r2", SETTINGS, [done("c"), done("d")], [{"path": "parts/r2/x", "rows": 2}])
    assert second.log.state().last == 1


def test_what_others_settled_stays_settled_over_all_later_commits_of_a_run(store: Store) -> None:
    first, second = Writer(store, "r1", "ab"), Writer(store, "r2", "cd")
    first.commit()
    second.commit()
    second.names = "ae"
    state = second.commit()
    assert rows_of(store, state) == Counter("abcde")


@pytest.mark.parametrize("other", ["m", "m2"])
def test_a_slow_run_does_not_bring_an_older_version_back(store: Store, other: str) -> None:
    slow, quick = CommitLog(store, "grades"), CommitLog(store, "grades")
    slow.state()
    quick.state()
    quick.commit("quick", SETTINGS, [done("a", "v2", other), {**done("gone", "v1", other), "outcome": DELETED}])
    state = slow.commit("slow", SETTINGS, [done("a", "v1"), done("gone"), done("b")])
    assert outcomes(state) == {("a", "v2", other): DONE, ("gone", "v1", other): DELETED, ("b", "v1", "m"): DONE}


def test_a_result_stands_beside_the_failure_of_another_run(store: Store) -> None:
    failure = {**failed_item("a", "v1", "", RecordingError("read", "no answer", False)), "model_id": "m"}
    for first, second in itertools.permutations(["done", "failed"]):
        here = open_store(f"{store.url()}-{first}")
        logs = [CommitLog(here, "grades"), CommitLog(here, "grades")]
        for log in logs:
            log.state()
        for log, kind in zip(logs, (first, second), strict=True):
            state = log.commit(kind, SETTINGS, [done("a") if kind == "done" else failure])
        assert outcomes(state) == {("a", "v1", "m"): DONE}


@pytest.mark.parametrize("other", ["m", "m2"])
def test_a_result_stands_though_another_run_could_not_read_the_file(store: Store, other: str) -> None:
    unread = {**failed_item("a", UNREAD, "", RecordingError("read", "Permission denied", False)), "model_id": other}
    logs = [CommitLog(store, "grades"), CommitLog(store, "grades")]
    for log in logs:
        log.state()
    logs[0].commit("r1", SETTINGS, [unread])
    state = logs[1].commit("r2", SETTINGS, [done("a")])
    assert outcomes(state) == {("a", UNREAD, other): "failed", ("a", "v1", "m"): DONE}


def test_another_models_grade_is_another_item(store: Store) -> None:
    logs = [CommitLog(store, "grades"), CommitLog(store, "grades")]
    for log in logs:
        log.state()
    logs[0].commit("r1", SETTINGS, [done("a", model_id="m1")])
    state = logs[1].commit("r2", SETTINGS, [done("a", model_id="m2")])
    assert outcomes(state) == {("a", "v1", "m1"): DONE, ("a", "v1", "m2"): DONE}


def test_a_run_that_plans_anew_may_do_again_what_the_log_has(store: Store) -> None:
    log = CommitLog(store, "segments")
    log.commit("r1", SETTINGS, [done("a", model_id="")])
    log.state()
    state = log.commit("r2", SETTINGS, [{**done("a", model_id=""), "part": "data/2"}])
    assert state.items.select(["run", "part"]).to_pylist() == [{"run": "r2", "part": "data/2"}]


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_interleaving_of_runs_keeps_each_item_once(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("grades")))
    names = "abcdef"
    runs = [
        Writer(store, f"r{number}", data.draw(st.permutations(names).map(lambda n: "".join(n[:4])), label="work"))
        for number in range(3)
    ]
    chunks = [(run, half) for run in runs for half in (run.names[:2], run.names[2:])]
    for run, half in data.draw(st.permutations(chunks), label="order"):
        run.names = half
        run.commit()
    state = CommitLog(store, "grades").state()
    planned = {name for run, half in chunks for name in half}
    assert rows_of(store, state) == Counter(planned)
    assert outcomes(state) == {(name, "v1", "m"): DONE for name in planned}


def test_runs_that_race_between_reading_and_writing_keep_each_item_once(store: Store) -> None:
    class Slow(LocalStore):
        def create(self, name: str, data: bytes, token: str = "") -> str:
            if waiting:
                waiting.pop().commit()  # another run gets in at the last moment
            return super().create(name, data, token)

    assert isinstance(store, LocalStore)
    slow = Slow(store.place, store.root)
    runs = [Writer(slow, f"r{number}", random.Random(number).sample("abcdefgh", 5)) for number in range(5)]
    waiting = runs[1:]
    runs[0].commit()
    state = CommitLog(store, "grades").state()
    assert rows_of(store, state) == Counter({name for run in runs for name in run.names})


def test_corrections_settle_nothing_and_none_is_dropped_or_doubled(store: Store) -> None:
    logs = [CommitLog(store, "grades", now=lambda: datetime(2026, 11, 23, 8, 0, tzinfo=UTC)) for _ in range(3)]
    for log in logs:
        log.state()
    logs[0].commit("ann", SETTINGS, [], corrections=[corrected("a"), corrected("b"), corrected("a")])
    logs[1].commit("ben", SETTINGS, [], corrections=[corrected("a", "B", by="Ben"), corrected("b")])
    state = logs[2].commit("night", SETTINGS, [done("a"), done("b")])  # planned before all of them
    assert outcomes(state) == {("a", "v1", "m"): DONE, ("b", "v1", "m"): DONE}
    found = state.corrections.select(["recording", "grade", "by", "run", "manifest"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("a", "A", "Ann", "ann", 1),
        ("b", "A", "Ann", "ann", 1),
        ("a", "B", "Ben", "ben", 2),
    ]
    assert set(state.corrections["at"].to_pylist()) == {datetime(2026, 11, 23, 8, 0, tzinfo=UTC)}
    assert logs[2].commit("ann again", SETTINGS, [], corrections=[corrected("a"), corrected("b")]).last == 3
    assert_same(CommitLog(store, "grades").state(), state)


def test_other_settings_are_refused_with_both_values(store: Store) -> None:
    log = CommitLog(store, "segments")
    require_same_settings(log.state(), {"sample_rate": 2000}, "segments")
    state = log.commit("r1", {**SETTINGS, "grades": ("C", "B", "A")}, [])
    require_same_settings(state, {**SETTINGS, "grades": ["C", "B", "A"]}, "segments")
    with pytest.raises(
        UserError, match=r"segments: was made with --grades .* \(now unset\), --sample-rate 500 \(now 2000\)"
    ):
        require_same_settings(state, {**SETTINGS, "sample_rate": 2000}, "segments")


def test_of_two_runs_that_begin_a_folder_with_other_settings_the_second_is_refused(store: Store) -> None:
    logs = [CommitLog(store, "segments"), CommitLog(store, "segments")]
    for log in logs:
        log.state()
    logs[0].commit("r1", SETTINGS, [done("a")])
    with pytest.raises(UserError, match=r"--hop-s 10\.0"):
        logs[1].commit("r2", {**SETTINGS, "hop_s": 5.0}, [done("b")])


def test_a_folder_of_another_kind_is_refused(store: Store) -> None:
    CommitLog(store, "segments").commit("r", SETTINGS, [])
    with pytest.raises(UserError, match="holds segments, not grades"):
        CommitLog(store, "grades").state()


def _tampered(**changes: Any) -> bytes:
    """A manifest of ours in which somebody wrote other things."""
    item = {**done("a.wav"), "stamp": "s", "part": "parts/r/1.parquet"}
    told = {
        "manifest": 1,
        "token": "t",
        "run": "r",
        "kind": "grades",
        "committed_at": "2026-11-27T02:00:00+00:00",
        "settings": SETTINGS,
        "items": [item],
        "parts": [{"path": "parts/r/1.parquet", "rows": 1}],
        "removed": [],
    }
    return json.dumps({**told, **changes}).encode()


def test_a_manifest_that_was_not_tampered_with_is_read(store: Store) -> None:
    store.put(manifest_name(1), _tampered())
    assert outcomes(CommitLog(store, "grades").state()) == {("a.wav", "v1", "m"): DONE}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind": "grades"}',
        b"\xff\xfe",
        b"[" * 200_000,
        _tampered(items={"a.wav": 1}),
        _tampered(items=["a.wav"]),
        _tampered(items=[{"recording": "a.wav"}]),
        _tampered(items=[{**done("a.wav"), "segments": "three"}]),
        _tampered(items=[{**done("a.wav"), "recording": 3}]),
        _tampered(items=[{**done("a.wav"), "segments": 10**400}]),
        _tampered(items=[{**done("a.wav"), "duration_s": float("nan")}]),
        _tampered(items=[{**done("a.wav"), "version": None}]),
        _tampered(settings=[]),
        _tampered(removed=[{}]),
        _tampered(parts=["parts/r/1.parquet"]),
        _tampered(parts=[{"path": "parts/r/1.parquet", "rows": "1"}]),
        _tampered(parts=[{"path": "../../elsewhere.parquet", "rows": 1}]),
        _tampered(parts=[{"path": "/etc/passwd", "rows": 1}]),
        _tampered(corrections=[{"recording": "a.wav"}], committed_at="yesterday"),
        _tampered(corrections={"recording": "a.wav"}),
        _tampered(erased=["a.wav"]),
    ],
)
def test_a_broken_manifest_stops_the_run(store: Store, content: bytes) -> None:
    store.put(manifest_name(1), content)
    with pytest.raises(JobError, match=r"000000001\.json: not a manifest"):
        CommitLog(store, "grades").state()


def test_a_hole_in_the_log_is_not_filled(store: Store) -> None:
    log = CommitLog(store, "grades")
    for name in "abc":
        log.commit("r", SETTINGS, [done(name)])
    store.delete(manifest_name(2))
    with pytest.raises(JobError, match=r"000000002\.json: missing"):
        CommitLog(store, "grades").state()


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_changed_anywhere_is_read_or_refused(store: Store, data: st.DataObject) -> None:
    told = json.loads(_tampered(corrections=[corrected("a.wav")], erased={"key": "", "hashes": []}))
    inside = data.draw(st.sampled_from([told, told["items"][0], told["parts"][0], told["corrections"][0]]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(json_values)
    store.put(manifest_name(1), json.dumps(told).encode())
    with contextlib.suppress(JobError, UserError):  # any other error is a defect
        CommitLog(store, "grades").state()


def test_what_could_not_be_read_back_is_not_committed(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"):
        CommitLog(store, "grades").commit("r", SETTINGS, [{**done("a.wav"), "duration_s": float("nan")}])
    assert CommitLog(store, "grades").state().last == 0


def test_an_item_with_unknown_columns_is_a_defect(store: Store) -> None:
    with pytest.raises(ValueError, match="colour"):
        CommitLog(store, "grades").commit("r", SETTINGS, [{**done("a"), "colour": "red"}])
    with pytest.raises(ValueError, match="no item"):
        CommitLog(store, "grades").commit("r", SETTINGS, [{**done("a"), "outcome": "dne"}])


def test_a_message_with_bytes_that_are_no_text_is_kept_readable(store: Store) -> None:
    item = failed_item("caf%E9.wav", "v", "s", RecordingError("decode", "cannot open caf\udce9.wav"))
    state = CommitLog(store, "segments").commit("r", SETTINGS, [item])
    assert state.items["message"].to_pylist() == [r"cannot open caf\udce9.wav"]
    assert state.items["outcome"].to_pylist() == [FAILED]


def test_on_gcs_a_lost_reply_is_no_lost_race(gate: Gate, bucket: str) -> None:
    runs = [Writer(gcs_store(gate, bucket), f"r{number}", names) for number, names in enumerate(["abc", "bcd"])]
    gate.faults(Fault("lose_reply", method="POST", match="manifests"), Fault("503", method="POST", match="manifests"))
    runs[0].commit()
    gate.faults(Fault("lose_reply", method="POST", match="manifests"))
    state = runs[1].commit()
    assert [line.split()[0] for line in gate.fired()] == ["lose_reply", "503", "lose_reply"]
    assert state.last == 2
    assert rows_of(runs[0].store, CommitLog(gcs_store(gate, bucket), "grades").state()) == Counter("abcd")


def test_a_commit_on_gcs_costs_one_request(gate: Gate, bucket: str) -> None:
    log = CommitLog(gcs_store(gate, bucket), "grades")
    log.state()
    log.commit("r", SETTINGS, [done("a")])
    log.commit("r", SETTINGS, [done("b")])
    assert [request.split()[0] for request in gate.requests()] == ["GET", "POST", "POST"]


# --- snapshots -------------------------------------------------------------------------------------------------------


def long_log(store: Store, commits: int, kind: str = "grades") -> CommitLog:
    """A log in which items are new, changed and deleted, and parts come and go."""
    log = CommitLog(store, kind)
    for number in range(commits):
        name, version = f"take {number % 7}.wav", f"v{number // 7}"
        gone = [{**done(name, f"v{number // 7 - 1}"), "outcome": DELETED}] if number >= 7 else []
        removed = [f"parts/{number - 9}"] if number >= 9 else []
        log.state()
        parts = [{"path": f"parts/{number}", "rows": 3}]
        said = [corrected(name, "AB"[number % 2], version)] if number % 5 == 3 else []
        log.commit(f"r{number}", SETTINGS, [done(name, version), *gone], parts, removed, corrections=said)
    return log


def snapshots(store: Store) -> list[str]:
    return [entry.name for entry in store.list("manifests/") if entry.name.endswith(".snapshot.parquet")]


def assert_same(one: LogState, other: LogState) -> None:
    assert (one.last, one.settings, list(one.parts.items())) == (other.last, other.settings, list(other.parts.items()))
    assert one.items.equals(other.items)
    assert one.items.schema.equals(other.items.schema, check_metadata=True)
    assert one.corrections.equals(other.corrections)
    assert one.corrections.schema.equals(other.corrections.schema, check_metadata=True)


@pytest.mark.parametrize("every", [1, 4, 30])
@pytest.mark.parametrize("commits", [1, 30, 47])
def test_the_log_is_the_same_with_and_without_snapshots(
    store: Store, every: int, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", every)
    mine = long_log(store, commits).state()
    assert len(snapshots(store)) == commits // every
    with_snapshots = CommitLog(store, "grades").state()
    for name in snapshots(store):
        store.delete(name)
    without = CommitLog(store, "grades").state()
    assert_same(mine, without)
    assert_same(with_snapshots, without)
    assert_same(CommitLog(store, "grades", known=with_snapshots).state(), without)


def test_one_manifest_of_many_items_is_followed_by_a_snapshot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_ITEMS", 3)
    CommitLog(store, "grades").commit("r", SETTINGS, [done(name) for name in "abc"])
    assert len(snapshots(store)) == 1
    assert len(CommitLog(store, "grades").state().items) == 3


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda data: b"", lambda data: b"PAR1 no Parquet PAR1"])
def test_a_broken_snapshot_changes_nothing_and_is_made_up_for(
    store: Store, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 4)
    whole = long_log(store, 9).state()
    assert len(snapshots(store)) == 2
    for broken in (1, 2):  # the newest, then both
        name = snapshots(store)[-broken]
        store.put(name, damage(store.read(name).data))
        assert_same(CommitLog(store, "grades").state(), whole)
    assert "reading manifests instead" in caplog.text
    log = CommitLog(store, "grades")
    log.state()
    log.commit("r", SETTINGS, [done("new.wav")])
    assert len(snapshots(store)) == 3


def test_a_snapshot_of_another_log_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 4)
    long_log(store, 4)
    for number in range(1, 5):
        store.delete(manifest_name(number))
    assert CommitLog(store, "grades").state().last == 0
    log = CommitLog(store, "grades")
    for name in "abcd":
        log.commit("r", SETTINGS, [done(name)])
    for begun_anew in (log.state(), CommitLog(store, "grades").state()):
        assert set(outcomes(begun_anew)) == {(name, "v1", "m") for name in "abcd"}


def test_a_snapshot_whose_format_is_not_ours_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 4)
    monkeypatch.setattr(snapshot, "FORMAT", snapshot.FORMAT + 1)
    mine = long_log(store, 5).state()
    monkeypatch.undo()
    assert_same(CommitLog(store, "grades").state(), mine)


def test_a_manifest_that_is_gone_is_missed_although_a_snapshot_covers_it(store: Store) -> None:
    long_log(store, COMPACT_EVERY)
    store.delete(manifest_name(2))
    with pytest.raises(JobError, match=r"000000002\.json: missing"):
        CommitLog(store, "grades").state()


def test_a_commit_stands_though_its_snapshot_cannot_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: LocalStore, name: str, data: bytes, token: str = "") -> str:
        if name.endswith(".parquet"):
            raise OSError(28, "No space left on device")
        return real(self, name, data, token)

    real = LocalStore.create
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 2)
    monkeypatch.setattr(LocalStore, "create", full)
    assert long_log(store, 3).state().last == 3
    assert "No space left" in caplog.text
    assert CommitLog(store, "grades").state().last == 3


def test_writers_that_race_while_snapshots_are_made_keep_each_item_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 3)
    runs = [Writer(store, f"r{number}", "") for number in range(4)]

    def work(run: Writer, number: int) -> None:
        names = random.Random(number).sample("abcdefghijklmnopqrst", 20)  # each run all of them, in an order of its own
        for start in range(0, len(names), 3):
            run.names = names[start : start + 3]
            run.commit()

    threads = [threading.Thread(target=work, args=(run, number)) for number, run in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with_snapshots = CommitLog(store, "grades").state()
    assert snapshots(store)
    assert rows_of(store, with_snapshots) == Counter("abcdefghijklmnopqrst")
    for name in snapshots(store):
        store.delete(name)
    assert_same(CommitLog(store, "grades").state(), with_snapshots)


def test_on_gcs_a_long_log_is_read_from_its_newest_snapshot(
    gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_log, "COMPACT_EVERY", 8)
    long_log(gcs_store(gate, bucket), 21)
    gate.clear()
    assert CommitLog(gcs_store(gate, bucket), "grades").state().last == 21
    asked = gate.requests()
    assert sum("prefix=" in request for request in asked) == 1
    assert sum("snapshot.parquet" in request for request in asked) == 1
    assert len(asked) == 1 + 1 + 6  # listing, snapshot, the manifest that vouches for it, and the five after it
