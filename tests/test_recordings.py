"""The work list: what is new, changed, gone, hopeless, or not a recording at all."""

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.commits import DELETED, DONE, FAILED, ITEMS_SCHEMA, UNREAD, CommitLog, failed_item, outdated, restamped
from samplecnn.errors import RecordingError, UserError
from samplecnn.recordings import Item, Plan, plan
from samplecnn.store import LocalStore, Store, open_store
from tests.fixtures.files import allowed
from tests.fixtures.gcs import gcs_store

STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "local": lambda request: open_store(str(request.getfixturevalue("tmp_path") / "uploads")),
    "gcs": lambda request: gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket"), "uploads"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param](request)


@pytest.fixture
def log(tmp_path: Path) -> CommitLog:
    return CommitLog(open_store(str(tmp_path / "segments")), "segments")


NOTHING = ITEMS_SCHEMA.empty_table()


def as_done(items: Iterable[Item]) -> list[dict[str, Any]]:
    return [{"recording": i.recording, "version": i.version, "stamp": i.stamp, "outcome": DONE} for i in items]


def names(found: Plan) -> list[str]:
    return [item.recording for item in found.todo]


def know(log: CommitLog, items: Iterable[dict[str, Any]]) -> pa.Table:
    return log.commit("r", {}, list(items)).items


def test_everything_is_new_to_an_empty_log(store: Store) -> None:
    for name in ("b.wav", "a/Take 1.FLAC", "notes.txt", "a/.wav", "wav", "cover.jpg"):
        store.put(name, name.encode())
    found = plan(store, NOTHING)
    assert names(found) == ["a/Take 1.FLAC", "b.wav"]
    assert (found.kept, found.given_up, found.deleted, found.failed, found.ignored) == (0, 0, [], [], 4)
    for item in found.todo:
        assert item.version == store.version_of(item.name)
        assert item.size_bytes == len(item.name)
        with store.fetch(item.name, item.version, item.stamp) as path:
            assert Path(path).read_bytes() == item.name.encode()


def test_what_is_done_is_kept_and_what_changed_is_done_again(store: Store, log: CommitLog) -> None:
    for name in ("same.wav", "replaced.wav", "gone.wav"):
        store.put(name, name.encode())
    known = know(log, as_done(plan(store, NOTHING).todo))
    assert plan(store, known) == Plan([], [], 3, 0, [], 0)
    store.put("replaced.wav", b"another take")
    store.put("new.wav", b"new")
    store.delete("gone.wav")
    found = plan(store, known)
    assert names(found) == ["new.wav", "replaced.wav"]
    assert (found.kept, found.deleted) == (1, ["gone.wav"])


def test_a_deletion_is_reported_once_and_a_return_is_work(store: Store, log: CommitLog) -> None:
    store.put("a.wav", b"x")
    store.put("b.wav", b"y")
    (item, _) = plan(store, NOTHING).todo
    know(log, as_done(plan(store, NOTHING).todo))
    store.delete("a.wav")
    known = know(log, [{"recording": "a.wav", "version": item.version, "stamp": item.stamp, "outcome": DELETED}])
    assert plan(store, known) == Plan([], [], 1, 0, [], 0)
    store.put("a.wav", b"x")
    assert names(plan(store, known)) == ["a.wav"]


def test_only_failures_that_may_pass_are_tried_again(store: Store, log: CommitLog) -> None:
    for name in ("broken.wav", "unlucky.wav"):
        store.put(name, name.encode())
    broken, unlucky = plan(store, NOTHING).todo
    items = [
        failed_item(broken.recording, broken.version, broken.stamp, RecordingError("decode", "not audio")),
        failed_item(unlucky.recording, unlucky.version, unlucky.stamp, RecordingError("read", "no answer", False)),
    ]
    known = know(log, items)
    found = plan(store, known)
    assert (names(found), found.kept, found.given_up) == (["unlucky.wav"], 0, 1)
    store.put("broken.wav", b"mended")
    assert names(plan(store, known)) == ["broken.wav", "unlucky.wav"]


def test_output_folders_inside_the_recordings_are_left_out(store: Store) -> None:
    for name in ("a.wav", "out/segments/x.wav", "out/other.wav", "out/segments-2/b.wav"):
        store.put(name, b"x")
    found = plan(store, NOTHING, leave_out=[store.url("out/segments"), store.url(), "gs://elsewhere/x", "/elsewhere"])
    assert names(found) == ["a.wav", "out/other.wav", "out/segments-2/b.wav"]
    assert found.ignored == 0


def test_a_missing_place_is_the_users_mistake(store: Store) -> None:
    with pytest.raises(UserError, match="no such folder"):
        plan(store, NOTHING)


def test_two_spellings_of_an_accent_are_two_recordings(store: Store) -> None:
    spellings = [unicodedata.normalize(form, "Café.wav") for form in ("NFC", "NFD")]
    for name in spellings:
        store.put(name, name.encode())
    assert sorted(names(plan(store, NOTHING))) == sorted(spellings)


# --- local: versions are hashes -------------------------------------------------------------------------------------


@pytest.fixture
def uploads(tmp_path: Path) -> LocalStore:
    found = open_store(str(tmp_path / "uploads"))
    assert isinstance(found, LocalStore)
    (tmp_path / "uploads").mkdir()
    return found


class Counting(LocalStore):
    def version_of(self, name: str) -> str:
        hashed.append(name)
        return super().version_of(name)


hashed: list[str] = []


def test_only_what_was_touched_is_hashed_again(uploads: LocalStore, log: CommitLog) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        uploads.put(name, name.encode())
    store = Counting(uploads.place, uploads.root)
    hashed.clear()
    known = know(log, as_done(plan(store, NOTHING).todo))
    assert hashed == ["a.wav", "b.wav", "c.wav"]
    hashed.clear()
    os.utime(Path(uploads.root, "b.wav"), (0, 0))
    found = plan(store, known)
    assert found == Plan([], [], 3, 0, [], 0, touched={("b.wav", uploads.version_of("b.wav")): "5-0"})
    assert hashed == ["b.wav"]
    hashed.clear()
    known = know(log, restamped(log.state(), found.touched))
    assert plan(store, known) == Plan([], [], 3, 0, [], 0)
    assert hashed == []


def test_touching_a_recording_changes_nothing_but_its_stamp(uploads: LocalStore, log: CommitLog) -> None:
    for name in ("a.wav", "b.wav"):
        uploads.put(name, name.encode())
    items = as_done(plan(uploads, NOTHING).todo)
    before = know(log, [{**item, "model_id": model, "part": model} for model in ("m1", "m2") for item in items])
    os.utime(Path(uploads.root, "a.wav"), (0, 0))
    rows = restamped(log.state(), plan(uploads, before).touched)
    after = know(log, rows)
    assert [(row["recording"], row["model_id"], row["stamp"]) for row in rows] == [
        ("a.wav", "m1", "5-0"),
        ("a.wav", "m2", "5-0"),  # still the later one
    ]
    key = [("recording", "ascending"), ("model_id", "ascending")]
    same = ["recording", "version", "model_id", "outcome", "part"]
    assert after.select(same).sort_by(key) == before.select(same).sort_by(key)
    assert restamped(log.state(), plan(uploads, after).touched) == []


def test_a_recording_put_back_to_an_older_version_is_the_older_version(uploads: LocalStore, log: CommitLog) -> None:
    uploads.put("a.wav", b"first")
    (first,) = plan(uploads, NOTHING).todo
    know(log, as_done([first]))
    uploads.put("a.wav", b"second")
    (second,) = plan(uploads, log.state().items).todo
    known = know(log, [*as_done([second]), {**as_done([first])[0], "outcome": DELETED}])
    uploads.put("a.wav", b"first")
    (again,) = plan(uploads, known).todo
    assert again.version == first.version


def test_names_that_are_no_text_are_spelled_and_found_again(uploads: LocalStore, log: CommitLog) -> None:
    with open(os.path.join(os.fsencode(uploads.root), b"100% caf\xe9.wav"), "wb") as file:
        file.write(b"sound")
    (item,) = plan(uploads, NOTHING).todo
    assert item.recording == "100%25 caf%E9.wav"
    with uploads.fetch(item.name, item.version, item.stamp) as path:
        assert Path(path).read_bytes() == b"sound"
    assert plan(uploads, know(log, as_done([item]))) == Plan([], [], 1, 0, [], 0)


def test_of_two_names_that_are_written_alike_the_second_is_a_failure(uploads: LocalStore, log: CommitLog) -> None:
    for name in (b"caf\xe9.wav", b"caf%E9.wav"):
        with open(os.path.join(os.fsencode(uploads.root), name), "wb") as file:
            file.write(b"the same sound")
    found = plan(uploads, NOTHING)
    assert names(found) == ["caf%E9.wav"]
    (failure,) = found.failed
    assert (failure["recording"], failure["permanent"]) == ("caf%E9.wav", True)
    assert failure["version"] != found.todo[0].version
    known = know(log, as_done(found.todo) + found.failed)
    assert plan(uploads, known) == Plan([], [], 1, 0, [], 0)
    assert outdated(log.state(), found.failed, []) == []
    Path(uploads.root, "caf%E9.wav").unlink()
    (back,) = plan(uploads, known).passed
    assert (back["version"], back["outcome"]) == (failure["version"], DELETED)


def test_a_file_that_may_not_be_read_is_a_failure_that_may_pass(uploads: LocalStore, log: CommitLog) -> None:
    for name in ("a.wav", "b.wav"):
        uploads.put(name, name.encode())
    with allowed(Path(uploads.root, "a.wav"), 0):
        found = plan(uploads, NOTHING)
        assert names(found) == ["b.wav"]
        (failure,) = found.failed
        assert (failure["recording"], failure["stage"], failure["permanent"]) == ("a.wav", "read", False)
        assert failure["message"] == "Permission denied"
        know(log, as_done(found.todo) + found.failed)
        again = plan(uploads, log.state().items)
        assert (len(again.failed), again.passed) == (1, [])
    now = plan(uploads, log.state().items)
    assert (names(now), now.failed, len(now.passed)) == (["a.wav"], [], 1)


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_cannot_be_read_for_a_night_keeps_what_stands(
    changed: bool, uploads: LocalStore, log: CommitLog
) -> None:
    uploads.put("a.wav", b"first")
    know(log, as_done(plan(uploads, NOTHING).todo))
    uploads.put("a.wav", b"again" if changed else b"first")  # touched, so that it must be read
    path = Path(uploads.root, "a.wav")
    os.utime(path, (0, 0))
    with allowed(path, 0):
        night = plan(uploads, log.state().items)
        assert (night.todo, night.deleted, len(night.failed)) == ([], [], 1)
        state = log.state()
        know(log, night.failed + outdated(state, night.failed, night.deleted))
    assert [row["outcome"] for row in log.state().items.to_pylist()] == [DONE, FAILED]

    morning = plan(uploads, log.state().items)
    assert (names(morning), morning.kept) == ((["a.wav"], 0) if changed else ([], 1))
    done = as_done(morning.todo)
    know(log, [*done, *morning.passed, *outdated(log.state(), done, morning.deleted)])
    standing = [row for row in log.state().items.to_pylist() if row["outcome"] != DELETED]
    assert [(row["version"], row["outcome"]) for row in standing] == [(uploads.version_of("a.wav"), DONE)]


def test_a_file_that_cannot_be_read_and_goes_is_gone(uploads: LocalStore, log: CommitLog) -> None:
    uploads.put("a.wav", b"x")
    uploads.put("b.wav", b"y")
    with allowed(Path(uploads.root, "a.wav"), 0):
        know(log, plan(uploads, NOTHING).failed)
    uploads.delete("a.wav")
    found = plan(uploads, log.state().items)
    assert (found.deleted, found.passed) == (["a.wav"], [])
    assert [row["version"] for row in outdated(log.state(), [], found.deleted)] == [UNREAD]


def test_a_folder_whose_files_may_not_be_looked_at_loses_none(uploads: LocalStore, log: CommitLog) -> None:
    uploads.put("a/1.wav", b"x")
    uploads.put("b.wav", b"y")
    known = know(log, as_done(plan(uploads, NOTHING).todo))
    with allowed(Path(uploads.root, "a"), 0o444):
        found = plan(uploads, known)
    assert (found.deleted, found.kept) == ([], 1)
    assert [(item["recording"], item["message"]) for item in found.failed] == [("a/1.wav", "Permission denied")]


def test_a_file_that_vanishes_while_the_list_is_made_is_gone(
    uploads: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads.put("a.wav", b"x")

    def vanish(self: LocalStore, name: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(LocalStore, "version_of", vanish)
    assert plan(uploads, NOTHING) == Plan([], [], 0, 0, [], 0)


def test_links_out_of_the_folder_are_no_recordings(uploads: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "other.wav").write_bytes(b"x")
    Path(uploads.root, "link.wav").symlink_to(tmp_path / "other.wav")
    assert plan(uploads, NOTHING).todo == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "touch", "run"]), st.sampled_from("abc"), st.sampled_from("xyz")),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_after_any_changes_a_run_brings_the_log_up_to_date(
    steps: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("plan")
    store, log = open_store(str(base / "uploads")), CommitLog(open_store(str(base / "segments")), "segments")
    (base / "uploads").mkdir()
    content: dict[str, str] = {}
    for number, (step, name, text) in enumerate([*steps, ("run", "", "")]):
        path = base / "uploads" / f"{name}.wav"
        if step == "put":
            path.write_text(text)
            os.utime(path, ns=(0, number * 10**9))  # a clock that ticks: two writes within one tick look alike
            content[f"{name}.wav"] = text
        elif step == "delete" and path.exists():
            path.unlink()
            del content[f"{name}.wav"]
        elif step == "touch" and path.exists():
            os.utime(path, ns=(0, number * 10**9))
        elif step == "run":
            state = log.state()
            found = plan(store, state.items)
            current = {(r["recording"], r["version"]) for r in state.items.to_pylist() if r["outcome"] == DONE}
            new = {(item.recording, item.version) for item in found.todo}
            assert not new & current
            stale = {i.recording for i in found.todo} | set(found.deleted)
            gone = [
                {"recording": r, "version": v, "outcome": DELETED}
                for r, v in current
                if r in stale and (r, v) not in new
            ]
            log.commit("r", {}, restamped(state, found.touched) + as_done(found.todo) + gone)
    rows = log.state().items.to_pylist()
    live = {row["recording"]: row["version"] for row in rows if row["outcome"] == DONE}
    assert live == {name: store.version_of(name) for name in content}
    assert plan(store, log.state().items) == Plan([], [], len(content), 0, [], 0)
