"""What a store promises, on every kind of store there is."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samplecnn.errors import JobError, LostRace, RecordingError, UserError
from samplecnn.store import Store, open_store
from samplecnn.store.gcs import GcsStore
from tests.fixtures import HANGS_S
from tests.fixtures.files import allowed
from tests.fixtures.gate import Fault
from tests.fixtures.gcs import Gate, gcs_store


def new_local_store(request: pytest.FixtureRequest) -> Store:
    return open_store(str(request.getfixturevalue("tmp_path") / "folder"))


def new_gcs_store(request: pytest.FixtureRequest) -> Store:
    return gcs_store(request.getfixturevalue("gate"), request.getfixturevalue("bucket"))


STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {"local": new_local_store, "gcs": new_gcs_store}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param](request)


# --- every store -----------------------------------------------------------------------------------------------------


def test_second_create_loses(store: Store) -> None:
    store.create("manifests/1.json", b"ours", token="a")
    with pytest.raises(LostRace):
        store.create("manifests/1.json", b"theirs", token="b")
    with pytest.raises(LostRace):
        store.create("manifests/1.json", b"ours")
    assert store.read("manifests/1.json").data == b"ours"


def test_versions_are_the_same_however_they_are_learnt(store: Store) -> None:
    version = store.create("a.json", b"one")
    assert version == store.version_of("a.json") == store.read("a.json").version
    assert next(store.list()).version in ("", version)


def test_replace_wants_the_version_that_was_read(store: Store) -> None:
    first = store.create("a.json", b"one")
    second = store.replace("a.json", b"two", first)
    assert second != first
    with pytest.raises(LostRace):
        store.replace("a.json", b"three", first)
    assert store.read("a.json").data == b"two"
    store.delete("a.json")
    with pytest.raises(LostRace):
        store.replace("a.json", b"four", second)


def test_a_listing_without_folders_holds_what_lies_in_the_place_itself(store: Store) -> None:
    for name in ("b.csv", "a.csv", "a/1.csv", "parts/r/1.parquet"):
        store.put(name, b"x")
    assert [entry.name for entry in store.list(folders=False)] == ["a.csv", "b.csv"]
    assert [entry.name for entry in store.list("a", folders=False)] == ["a.csv"]
    assert [entry.name for entry in store.list("parts/r/", folders=False)] == ["parts/r/1.parquet"]
    assert len(list(store.list())) == 4


def test_delete_wants_the_version_that_was_read(store: Store) -> None:
    first = store.create("a.json", b"one")
    second = store.replace("a.json", b"two", first)
    with pytest.raises(LostRace):
        store.delete("a.json", first)
    store.delete("a.json", second)
    store.delete("a.json", second)
    store.delete("a.json")
    with pytest.raises(FileNotFoundError):
        store.read("a.json")
    with pytest.raises(FileNotFoundError):
        store.version_of("a.json")


def test_put_overwrites(store: Store) -> None:
    store.put("views/latest.csv", b"old")
    store.put("views/latest.csv", b"new")
    assert store.read("views/latest.csv").data == b"new"


def test_listing_is_sorted_by_name_and_complete(store: Store) -> None:
    names = ["b.wav", "a/1.wav", "a.wav", "a/b/2.wav", "a b.wav", "é.wav", "Ω/日本.wav", "a/1/x.wav"]
    for name in names:
        store.put(name, name.encode())
    entries = list(store.list())
    assert [entry.name for entry in entries] == sorted(names, key=str.encode)
    assert [entry.size_bytes for entry in entries] == [len(entry.name.encode()) for entry in entries]
    assert [entry.name for entry in store.list("a/")] == ["a/1.wav", "a/1/x.wav", "a/b/2.wav"]
    assert [entry.name for entry in store.list("a/b")] == ["a/b/2.wav"]
    assert list(store.list("none/")) == []


def test_a_place_exists_once_something_lies_there(store: Store) -> None:
    assert not store.exists()
    assert list(store.list()) == []
    store.put("a.wav", b"x")
    assert store.exists()


def test_stamp_changes_with_every_write(store: Store) -> None:
    store.put("a.wav", b"one")
    first = next(store.list()).stamp
    store.put("a.wav", b"two")
    assert next(store.list()).stamp != first


def test_a_listing_tells_when_a_file_was_written_and_in_a_bucket_what_it_holds(store: Store) -> None:
    before = time.time()
    store.put("a.wav", b"one")
    (entry,) = store.list()
    assert before - 2 < entry.updated_s < time.time() + 2  # file systems round to their own tick
    assert entry.md5 == (hashlib.md5(b"one").hexdigest() if entry.version else "")


def test_move_may_be_repeated(store: Store) -> None:
    store.put("staging/run/é 1.parquet", b"rows")
    for _ in range(2):
        store.move("staging/run/é 1.parquet", "data/é 1.parquet")
    assert [entry.name for entry in store.list()] == ["data/é 1.parquet"]
    with pytest.raises(FileNotFoundError):
        store.move("staging/none.parquet", "data/none.parquet")


def test_output_appears_only_when_its_block_ends_well(store: Store) -> None:
    table = pa.table({"x": [1, 2, 3]})

    def write_half() -> None:
        with store.open_output("data/1.parquet") as sink:
            sink.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(store.list()) == []
    with store.open_output("data/1.parquet") as sink, pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        assert list(store.list()) == []
    filesystem, base = store.filesystem()
    assert pq.read_table(f"{base}/data/1.parquet", filesystem=filesystem).equals(table)


def test_store_and_filesystem_can_be_pickled(store: Store) -> None:
    store.put("a/b.bin", b"x" * 1000)
    copy: Store = pickle.loads(pickle.dumps(store))
    assert copy.read("a/b.bin") == store.read("a/b.bin")
    filesystem, base = pickle.loads(pickle.dumps(store.filesystem()))
    with filesystem.open_input_stream(f"{base}/a/b.bin") as file:
        assert file.read() == b"x" * 1000


def test_fetch_gives_a_file_with_the_planned_version(store: Store) -> None:
    store.put("take 1.wav", b"sound")
    entry = next(store.list())
    with store.fetch(entry.name, store.version_of(entry.name), entry.stamp) as path:
        assert Path(path).read_bytes() == b"sound"


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_recording_that_changed_since_it_was_listed_is_left_for_the_next_run(store: Store, change: str) -> None:
    store.put("take.wav", b"sound")
    entry, version = next(store.list()), store.version_of("take.wav")
    if change == "replaced":
        store.put("take.wav", b"other sound")
    else:
        store.delete("take.wav")
    with (
        pytest.raises(RecordingError, match="left for the next run") as caught,
        store.fetch("take.wav", version, entry.stamp),
    ):
        pytest.fail("an old version was handed out")
    assert caught.value.stage == "read"
    assert not caught.value.permanent


def test_other_places_inside_this_one_are_known(store: Store) -> None:
    assert store.inside(store.url("out/segments")) == "out/segments/"
    assert store.inside(store.url("out/segments") + "/") == "out/segments/"
    assert store.inside(store.url()) is None
    assert store.inside(store.url() + "-other") is None
    assert store.inside("gs://elsewhere/x") is None


def create_once(store: Store, number: int, wins: "multiprocessing.Queue[int]") -> None:
    try:
        store.create("manifests/1.json", str(number).encode(), token=str(number))
    except LostRace:
        return
    wins.put(number)


def test_of_eight_processes_that_create_a_file_exactly_one_wins(store: Store) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["samplecnn.store.gcs", "tests.test_store"])  # imported once, not eight times
    wins = context.Queue()
    processes = [context.Process(target=create_once, args=(store, number, wins)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANGS_S)
    assert [process.exitcode for process in processes] == [0] * 8
    winner = wins.get(timeout=HANGS_S)
    assert wins.empty()
    assert store.read("manifests/1.json").data == str(winner).encode()


# --- local -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "folder"


def test_links_that_lead_out_of_the_folder_are_left_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_bytes(b"x")
    folder.mkdir()
    (folder / "own.wav").write_bytes(b"x")
    (folder / "out.wav").symlink_to(outside / "secret.wav")
    (folder / "outside").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.wav").symlink_to(folder / "none")
    (folder / "same.wav").symlink_to(folder / "own.wav")
    os.mkfifo(folder / "pipe.wav")
    assert [entry.name for entry in open_store(str(folder)).list()] == ["own.wav", "same.wav"]
    assert "3 links lead to folders, or out of this one, and are left alone" in caplog.text


def test_a_file_where_a_folder_is_meant_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"x")
    with pytest.raises(UserError, match=r"labels\.csv/in it.*: is a file, and a folder is wanted"):
        list(open_store(str(tmp_path / "labels.csv" / "in it")).list())


def test_what_may_not_be_read_or_written_is_the_users_mistake(folder: Path) -> None:
    store = open_store(str(folder))
    store.put("labels.csv", b"x")
    with allowed(folder / "labels.csv", 0), pytest.raises(UserError, match=r"labels\.csv: may not be read"):
        store.read("labels.csv")
    hidden = folder / ".samplecnn"
    for path, mode in ((hidden / "lock", 0), (hidden, 0o555)):
        for write in (store.put, store.create):
            with allowed(path, mode), pytest.raises(UserError, match="another user has worked there"):
                write(f"other {mode}.csv", b"x")
    store.put("sub/labels.csv", b"x")
    with allowed(folder / "sub", 0), pytest.raises(UserError, match=r"sub/labels\.csv: may not be read"):
        store.read("sub/labels.csv")


def test_names_that_are_no_text_are_listed_and_read(folder: Path) -> None:
    folder.mkdir()
    with open(os.path.join(os.fsencode(folder), b"caf\xe9.wav"), "wb") as file:
        file.write(b"sound")
    store = open_store(str(folder))
    (entry,) = store.list()
    assert entry.name == "caf\udce9.wav"
    assert store.read(entry.name).data == b"sound"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "a//b", ".samplecnn/lock"])
def test_no_name_leads_out_of_the_folder(folder: Path, name: str) -> None:
    store = open_store(str(folder))
    for attempt in (store.read, store.version_of, store.delete, lambda name: store.put(name, b"")):
        with pytest.raises(ValueError, match="is no name in"):
            attempt(name)


def write_for_ever(store: Store, old: bytes, new: bytes) -> None:
    for number in range(10**9):
        store.put("view.csv", new if number % 2 else old)
        version = store.version_of("view.csv")
        store.replace("view.csv", old, version)
        store.create(f"manifests/{number}.json", new)


def test_a_killed_writer_leaves_whole_files_only(folder: Path) -> None:
    store = open_store(str(folder))
    old, new = b"o" * 2_000_000, b"n" * 1_000_000
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["samplecnn.store.gcs", "tests.test_store"])
    for attempt in range(6):
        process = context.Process(target=write_for_ever, args=(store, old, new))
        process.start()
        time.sleep(0.1 + 0.031 * attempt)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for entry in store.list():
            assert store.read(entry.name).data in (old, new), entry
        for entry in list(store.list("manifests/")):
            assert entry.size_bytes == len(new)
            store.delete(entry.name)
    leftovers = list((folder / ".samplecnn").glob("tmp-*"))
    for leftover in leftovers:
        os.utime(leftover, (0, 0))
    store.put("view.csv", old)
    assert not list((folder / ".samplecnn").glob("tmp-*"))


def test_create_is_safe_where_the_disk_has_no_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    store = open_store(str(folder))
    store.create("a.json", b"ours")
    with pytest.raises(LostRace):
        store.create("a.json", b"theirs")
    assert store.read("a.json").data == b"ours"


def decode_badly(store: Store, meanwhile: bytes) -> None:
    entry = next(store.list())
    with store.fetch(entry.name, store.version_of(entry.name), entry.stamp) as path:
        Path(path).write_bytes(meanwhile) if meanwhile else None
        raise RecordingError("decode", "not audio")


def test_a_recording_that_changes_while_it_is_decoded_is_no_fault_of_its_own(folder: Path) -> None:
    store = open_store(str(folder))
    store.put("take.wav", b"sound")
    with pytest.raises(RecordingError, match="changed while being read"):
        decode_badly(store, meanwhile=b"half a new sou")
    with pytest.raises(RecordingError, match="not audio"):
        decode_badly(store, meanwhile=b"")


def test_the_folder_is_found_from_any_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    store = open_store("folder")
    store.put("a.wav", b"x")
    monkeypatch.chdir("/")
    assert store.read("a.wav").data == b"x"
    assert store.url("a.wav") == "folder/a.wav"


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["", "  ", "gs:/bucket/x", "gs://", "gs:///x", "gs://B!/x", "s3://bucket/x", "https://host/x", "gs:bucket"]
)
def test_a_place_that_cannot_be_used_is_refused(place: str) -> None:
    with pytest.raises(UserError, match=r"gs://bucket/prefix"):
        open_store(place)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "take.wav").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file: give the folder"):
        open_store(str(tmp_path / "take.wav"))
    with pytest.raises(UserError, match="cannot be written to"):
        open_store(str(tmp_path / "take.wav" / "segments")).put("a", b"x")


def test_bucket_and_prefix_come_from_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    assert open_store("gs://school/2026/uploads/") == GcsStore("school", "2026/uploads", "http://127.0.0.1:1")
    store = open_store("gs://school")
    assert store.url() == "gs://school"
    assert store.url("a.wav") == "gs://school/a.wav"


# --- GCS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gcs(gate: Gate, bucket: str) -> GcsStore:
    return gcs_store(gate, bucket)


def test_a_lost_reply_is_told_from_a_lost_race(gate: Gate, gcs: GcsStore) -> None:
    gate.faults(Fault("lose_reply", method="POST", match="upload"))
    version = gcs.create("manifests/1.json", b"ours")
    assert gcs.read("manifests/1.json").version == version
    gate.faults(Fault("lose_reply", method="POST", match="upload"))
    version = gcs.replace("manifests/1.json", b"ours again", version)
    assert gcs.read("manifests/1.json").version == version
    gate.faults(Fault("lose_reply", method="DELETE"))
    gcs.delete("manifests/1.json", version)
    assert not gcs.exists()


def test_a_call_repeated_with_its_token_is_our_own(gcs: GcsStore) -> None:
    version = gcs.create("manifests/1.json", b"ours", token="a")
    assert gcs.create("manifests/1.json", b"ours", token="a") == version


@pytest.mark.parametrize("action", ["503", "429", "reset", "truncate", "lose_reply"])
def test_passing_faults_are_survived(gate: Gate, gcs: GcsStore, action: str) -> None:
    gcs.put("take.wav", b"sound" * 100)
    gate.faults(Fault(action, match="school"))
    (entry,) = gcs.list()
    gate.faults(Fault(action, method="GET", match="alt=media"))
    with gcs.fetch(entry.name, entry.version, entry.stamp) as path:
        assert Path(path).read_bytes() == b"sound" * 100
    gate.faults(Fault(action, method="POST"))
    gcs.put("view.csv", b"new")
    gate.faults(Fault(action, method="GET", match="alt=media"))
    assert gcs.read("view.csv").data == b"new"


def test_storage_that_stays_away_ends_the_run_in_one_line(gate: Gate, gcs: GcsStore) -> None:
    impatient = GcsStore(gcs.bucket, gcs.prefix, gcs.emulator, retry_s=1.0)
    gate.faults(Fault("503", times=10**6))
    with pytest.raises(JobError, match="did not answer within 1 s"):
        list(impatient.list())
    with pytest.raises(JobError, match="did not answer within 1 s"):
        impatient.put("a", b"x")
    with pytest.raises(RecordingError, match="did not answer") as caught, impatient.fetch("a", "1", "1"):
        pass
    assert not caught.value.permanent


def test_denied_access_is_the_users_to_mend_but_costs_only_one_recording_while_reading(
    gate: Gate, gcs: GcsStore
) -> None:
    gcs.put("take.wav", b"sound")
    (entry,) = gcs.list()
    gate.faults(Fault("403", times=10**6))
    with pytest.raises(UserError, match="access denied"):
        list(gcs.list())
    with pytest.raises(UserError, match="access denied"):
        gcs.create("a", b"x")
    with pytest.raises(RecordingError, match="access denied"), gcs.fetch("take.wav", entry.version, entry.stamp):
        pass


def test_a_missing_bucket_is_named(gate: Gate) -> None:
    store = gcs_store(gate, "no-such-bucket")
    for attempt in (
        store.exists,
        lambda: list(store.list()),
        lambda: store.put("a", b""),
        lambda: store.create("a", b""),
    ):
        with pytest.raises(UserError, match="gs://no-such-bucket: no such bucket"):
            attempt()


def test_missing_credentials_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="gcloud auth application-default login"):
        GcsStore("school", "x").exists()


def test_a_write_makes_no_more_requests_than_it_must(gate: Gate, gcs: GcsStore) -> None:
    gcs.create("a.json", b"x")
    gcs.read("a.json")
    list(gcs.list())
    assert [request.split()[0] for request in gate.requests()] == ["POST", "GET", "GET"]


def test_markers_of_empty_folders_are_not_listed(gcs: GcsStore) -> None:
    gcs.put("empty/", b"")
    gcs.put("a.wav", b"x")
    assert [entry.name for entry in gcs.list()] == ["a.wav"]
