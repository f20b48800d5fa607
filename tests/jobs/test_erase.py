"""jobs/erase.py: nothing of an erased recording is left in any file, whenever it was killed, and nothing comes back."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samplecnn import grades_folder, segment_folder
from samplecnn.commits import DELETED, DONE, OUTCOME, PART, CommitLog, manifest_name
from samplecnn.contract import LATEST_PARQUET, MODEL_ID, PREDICTIONS_CSV, RECORDING, VERSION
from samplecnn.erasure import Places, Wanted, erase, wanted
from samplecnn.errors import JobError, UserError, one_line, printable
from samplecnn.pipelines.grade import plan_night
from samplecnn.recordings import plan
from samplecnn.store import LocalStore, open_store
from samplecnn.store.gcs import GcsStore
from samplecnn.tables import parquet_bytes
from tests.fixtures.child import BROKEN, LISA, PERFORMER, VERSION_OF, WHAT, school
from tests.fixtures.gcs import Gate
from tests.fixtures.grades import SETTINGS as GRADE_SETTINGS
from tests.fixtures.grades import grade
from tests.fixtures.jobs import killed_at_write, run_job
from tests.fixtures.permissions import TABLE, permitted


def places(place: str) -> Places:
    names = ("segments", "grades", "evaluation", "nights", "recordings", "model")
    return Places(**{name: f"{place}/{name}" for name in names})


def tables(place: str) -> list[str]:
    return [f"{place}/labels.csv", f"{place}/corrected.csv"]


def erase_all(place: str, files: int = 2) -> None:
    """files: so many of the tables."""
    erase(WHAT, places(place), delete=True, recordings_too=True, labels=tables(place)[:files], labels_too=True)


def flags(place: str) -> list[str]:
    told = [f"--{name}={value}" for name, value in vars(places(place)).items()]
    return [f"--performer={PERFORMER}", *(f"--labels={table}" for table in tables(place)), *told]


def texts(data: bytes) -> Iterator[bytes]:
    """The bytes of a file, and what its columns and metadata hold where they are packed."""
    yield data
    if data[:4] == data[-4:] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        yield json.dumps({str(k): v.decode("latin-1") for k, v in (table.schema.metadata or {}).items()}).encode()
        strings = [name for name in table.column_names if table.schema.field(name).type == pa.string()]
        yield repr(table.select(strings).to_pylist()).encode()


def where(place: str) -> list[str]:
    """The files below a place that tell, of the child's recordings, a name, a version or the content."""
    files = open_store(place)
    needles = [b"Lisa", VERSION_OF.encode(), "Zöe".encode(), b"Z\\u00f6e"]
    return [
        entry.name
        for entry in files.list()
        if any(needle in text for text in texts(files.read(entry.name).data) for needle in needles)
    ]


def rest(place: str) -> tuple[list[dict], list[dict], list[str], bytes]:
    """What is left of the others: latest, rows of segments, recordings of the logs, predictions."""
    grades, segments = open_store(f"{place}/grades"), segment_folder.open_segments(f"{place}/segments")
    latest = pq.read_table(io.BytesIO(grades.read(LATEST_PARQUET).data)).to_pylist()
    tables = [pq.read_table(path, filesystem=segments.filesystem) for path in segments.paths]
    rows = [row for table in tables for row in table.select([RECORDING, "segment", "waveform"]).to_pylist()]
    for kind in ("grades", "segments"):
        state = CommitLog(open_store(f"{place}/{kind}"), kind).state()
        counted = {}
        for path in state.parts:
            data = open_store(f"{place}/{kind}").read(path).data
            counted[path] = pq.read_metadata(io.BytesIO(data)).num_rows
        assert counted == dict(state.parts)  # the log adds up
    predictions = open_store(f"{place}/evaluation").read(PREDICTIONS_CSV).data
    names = CommitLog(grades, "grades").state().items[RECORDING].to_pylist()
    return latest, rows, names, predictions


def test_a_childs_recordings_leave_every_file_and_do_not_come_back(folder_at: Callable[[str], str]) -> None:
    here = folder_at("here")
    school(here)
    before, held = rest(here), where(here)
    assert len(held) >= 12
    shown = run_job("erase", *flags(here))
    assert shown.returncode == 0, shown.stderr
    assert (rest(here), where(here)) == (before, held)  # nothing was written
    assert "2 recordings would be erased from: --delete does it:" in shown.stdout
    ended = run_job("erase", *flags(here), "--delete")
    assert ended.returncode == 0, ended.stderr
    assert "0123456789abcdef: was trained on 1 of them" in ended.stdout
    assert "fedcba9876543210" not in ended.stdout
    assert "2 uploads stay in" in ended.stdout
    assert f"{tables(here)[0]}: has lines of them, which stay (--labels-too)" in ended.stdout
    assert where(here) == ["corrected.csv", "labels.csv", *(f"recordings/{name}" for name in sorted(WHAT.names))]
    latest, rows, names, predictions = rest(here)
    assert latest == [row for row in before[0] if row[RECORDING] not in WHAT]
    assert sorted(map(repr, rows)) == sorted(repr(row) for row in before[1] if row[RECORDING] not in WHAT)
    assert names == ["a.wav", "b.wav"]
    assert predictions == b"".join(line for line in before[3].splitlines(keepends=True) if b"Lisa" not in line)

    # Their uploads still lie there: no night, whatever it knew before, reads them again.
    uploads = open_store(f"{here}/recordings")
    grades, segments = open_store(f"{here}/grades"), open_store(f"{here}/segments")
    night = plan_night(uploads, CommitLog(grades, "grades").state(), "m2", new_only=True)
    state = CommitLog(segments, "segments").state()
    for work in (night, plan(uploads, state.items, erased=state.erased)):
        assert {item.recording for item in work.todo} <= {"a.wav", "b.wav", "c.wav"}
        assert not [name for name in work.deleted if name in WHAT]

    again = run_job("erase", *flags(here), "--delete", "--recordings-too", "--labels-too")
    assert again.returncode == 0, again.stderr
    assert where(here) == []
    assert sorted(entry.name for entry in uploads.list()) == ["a.wav", "b.wav", "c.wav"]
    assert rest(here)[0] == latest
    files = open_store(here)
    assert files.read("labels.csv").data == b'recording,grade,performer\n"a.wav",A,p01\n"b.wav",A,p01\n'
    assert files.read("corrected.csv").data == b"\xef\xbb\xbfrecording;grade\r\n./a.wav ; A\r\n"
    record = json.loads(files.read("nights/2026-11-07.json").data)
    told = "(left out: it named a recording that was erased)"
    assert record == {"night": "2026-11-07", "line": told, "counts": None, "attempts": [{"job": "1", "why": told}]}
    assert json.loads(files.read("nights/2026-11-08.json").data)["line"].endswith("'a.wav' could not be read")


class Killed(BaseException):
    """As if by SIGKILL: nothing catches it."""


def dying(monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> list[str]:
    """From now on the at-th write raises Killed; returns the list that the writes go to."""
    writes: list[str] = []

    def wrapped(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(self: Any, name: str, *args: Any, **more: Any) -> Any:
            if name == "lease.json":
                return write(self, name, *args, **more)
            writes.append(name)
            number = len(writes)  # a move is two writes of a bucket
            if number == at and not after:
                raise Killed
            result = write(self, name, *args, **more)
            if number == at and after:
                raise Killed
            return result

        return written

    for store in (GcsStore, LocalStore):
        for name in ("create", "replace", "put", "delete", "move"):
            monkeypatch.setattr(store, name, wrapped(getattr(store, name)))
    return writes


@pytest.mark.slow
def test_killed_at_any_write_the_same_command_ends_the_same(
    folder_at: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    school(folder_at("undisturbed"))
    erase_all(folder_at("undisturbed"))
    expected = rest(folder_at("undisturbed"))
    number = kills = 0
    while True:
        number += 1
        here = folder_at(str(number))
        school(here)
        with monkeypatch.context() as patched:
            dying(patched, number, after=number % 2 == 0)
            try:
                erase_all(here)
                break
            except Killed:
                kills += 1
        erase_all(here)
        assert where(here) == []
        assert rest(here) == expected
    assert kills >= 15


def test_killed_by_the_system_it_goes_on(folder_at: Callable[[str], str]) -> None:
    for number in (3, 8):
        here = folder_at(str(number))
        school(here)
        told = [*flags(here), "--delete", "--recordings-too", "--labels-too"]
        assert killed_at_write(number, "erase", *told)
        ended = run_job("erase", *told)
        assert ended.returncode == 0, ended.stderr
        assert where(here) == []


def test_the_table_that_says_whose_recordings_they_are_is_the_last_to_lose_them(
    folder_at: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    school(folder_at("here"))
    with monkeypatch.context() as patched:
        writes = dying(patched, 0, after=False)
        erase_all(folder_at("here"))
    assert writes[-2:] == ["corrected.csv", "labels.csv"]
    with pytest.raises(UserError, match="is theirs, or is any more"):
        wanted("", PERFORMER, tables(folder_at("here")))


def test_nights_that_write_meanwhile_lose_nothing_and_bring_nothing_back(folder_at: Callable[[str], str]) -> None:
    here = folder_at("here")
    school(here)
    store = open_store(f"{here}/grades")
    asleep = CommitLog(store, "grades")
    asleep.state()  # and hears three recordings, one of them the child's
    erase(WHAT, places(here), delete=True)
    written: list[list[str]] = []

    def build(items: Any) -> list[dict[str, Any]]:
        written.append([item[RECORDING] for item in items])
        return []

    items = [
        {RECORDING: name, VERSION: VERSION_OF, MODEL_ID: "m2", OUTCOME: DONE, PART: None}
        for name in (LISA, "c.wav", "d.wav")
    ]
    correction = {RECORDING: BROKEN, VERSION: VERSION_OF, "grade": "B", "by": "Ann", "why": "x"}
    state = asleep.commit(
        "r9", GRADE_SETTINGS, items, [{"path": "parts/r9/x", "rows": 3}], build=build, corrections=[correction]
    )
    assert written == [["c.wav", "d.wav"]]
    names = state.items.filter(pa.compute.field(OUTCOME) != DELETED)[RECORDING].to_pylist()
    assert sorted(names) == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert not len(state.corrections)
    assert CommitLog(store, "grades").state().items.equals(state.items)
    assert b"Lisa" not in store.read(manifest_name(state.last)).data


def test_a_part_that_a_night_leaves_behind_is_found_and_goes_the_next_time(
    folder_at: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_at("here")
    school(here)
    store = open_store(f"{here}/grades")
    part = store.read("parts/r1/recordings-00001.parquet").data

    def and_a_night_writes(*args: Any) -> Any:
        store.put("parts/late/recordings-00001.parquet", part)
        return write_views(*args)

    write_views = grades_folder.write_views
    with monkeypatch.context() as patched:
        patched.setattr(grades_folder, "write_views", and_a_night_writes)
        with pytest.raises(JobError, match=r"late/recordings-00001\.parquet: another run wrote it meanwhile"):
            erase_all(here)
    erase_all(here)
    assert where(here) == []


def test_two_erasures_at_different_times_are_both_remembered(folder_at: Callable[[str], str]) -> None:
    here = folder_at("here")
    school(here)
    only = Places(grades=f"{here}/grades")
    erase(Wanted((LISA,)), only, delete=True)
    erase(Wanted(("a.wav",)), only, delete=True)
    state = CommitLog(open_store(f"{here}/grades"), "grades").state()
    assert [state.erased.holds(name) for name in (LISA, "a.wav", "b.wav")] == [True, True, False]
    assert state.erased.holds("class 3/Zo\u0308e-Lisa 'solo'.wav")  # the accent spelled as macOS does
    assert state.items[RECORDING].to_pylist() == ["b.wav", BROKEN]


def test_what_the_user_got_wrong_is_one_line(tmp_path: Any) -> None:
    school(str(tmp_path))
    for args, line in (
        (["--grades", tmp_path / "grades"], "--recording or --performer"),
        (["--recording", "x.wav"], "name at least one"),
        (["--recording", "x.wav", "--grades", tmp_path / "grades"], "x.wav: found nowhere"),
        (["--recording", LISA, "--grades", tmp_path / "none"], "no grades there"),
        (["--performer", "p99", "--grades", tmp_path / "grades"], "wants --labels"),
        (["--recording", LISA, "--grades", tmp_path / "grades", "--recordings-too"], "wants --recordings"),
        (["--recording", LISA, "--grades", tmp_path / "grades", "--labels-too"], "wants --labels"),
    ):
        ended = run_job("erase", *args)
        assert ended.returncode == 2, ended.stderr
        assert line in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    with pytest.raises(UserError, match="is theirs"):
        wanted("", "p99", tables(str(tmp_path)))


def test_a_name_is_found_however_a_message_quotes_it() -> None:
    what = Wanted(('class 3/Zöe\'s  "solo".wav',))
    for line in (
        'class 3/Zo\u0308e\'s  "solo".wav: no sound',
        f"{what.names[0]!r} is gone",
        'class 3/Zöe\'s "solo".wav: on one line',
        "night-1 failed: could not read class 3/Zöe's",
        "gs://b/class%203/Z%C3%B6e%27s%20%20%22solo%22.wav",
    ):
        assert what.told_in(line), line
    shown = Wanted(("\u200eWhatsApp 5.03\u202fPM.opus", "a\x1b[2J.wav"))
    for name in shown.names:
        assert shown.told_in(f"error: {one_line(name)}: no sound"), name
        assert shown.told_in(f"{printable(name)}: no sound"), name
    assert not what.told_in("class 3/Zöe.wav: no sound")
    assert not what.told_in("night-1 failed: could not read class 3")


def test_what_people_keep_in_a_place_stays_and_is_told(tmp_path: Any) -> None:
    school(str(tmp_path))
    files = open_store(str(tmp_path))
    theirs = f'recording,grade\n"{LISA}",A\n'.encode()
    for name in ("evaluation/labels.csv", "grades/exported.csv"):
        files.put(name, theirs)
    files.put("grades/mine.parquet", parquet_bytes(pa.table({RECORDING: [LISA]})))
    lines = erase(WHAT, places(str(tmp_path)), delete=True, labels=[f"{tmp_path}/evaluation/labels.csv"])
    stay = [line for line in lines if ": holds them, and stays: name it with --labels" in line]
    assert [line.partition(": ")[0] for line in stay] == [
        f"{tmp_path}/grades/{n}" for n in ("exported.csv", "mine.parquet")
    ]
    assert f"{tmp_path}/evaluation/labels.csv: has lines of them, which stay (--labels-too)" in lines
    assert files.read("grades/exported.csv").data == theirs
    assert [name for name in where(str(tmp_path)) if name.startswith(("grades", "segments", "evaluation"))] == [
        "evaluation/labels.csv",
        "grades/exported.csv",
        "grades/mine.parquet",
    ]


def test_lines_leave_the_file_that_a_link_leads_to(tmp_path: Any) -> None:
    school(str(tmp_path))
    (tmp_path / "shared").mkdir()
    (tmp_path / "labels.csv").rename(tmp_path / "shared" / "labels.csv")
    (tmp_path / "labels.csv").symlink_to(tmp_path / "shared" / "labels.csv")
    erase_all(str(tmp_path))
    assert (tmp_path / "labels.csv").is_symlink()
    assert "Lisa" not in (tmp_path / "shared" / "labels.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["AC\\DC.wav", " led.wav", "Zoe\u0308.wav"])
def test_a_performers_recordings_go_whatever_a_cell_can_hold_of_their_names(name: str, tmp_path: Any) -> None:
    place = str(tmp_path)
    school(place)
    grade(open_store(f"{place}/grades"), "r9", [name])
    files = open_store(place)
    files.put("labels.csv", f"recording,grade,performer\n{name},A,Zo\u00eb\n".encode())
    files.put(f"evaluation/{PREDICTIONS_CSV}", f"recording,predicted\n{name},A\na.wav,B\n".encode())
    what = wanted("", "Zoe\u0308", [f"{place}/labels.csv"])
    lines = erase(what, places(place), delete=True, labels=[f"{place}/labels.csv"], labels_too=True)
    assert lines[-1].startswith("1 recordings erased from ")
    state = CommitLog(open_store(f"{place}/grades"), "grades").state()
    assert name not in state.items[RECORDING].to_pylist()
    assert state.erased.holds(name)
    assert files.read(f"evaluation/{PREDICTIONS_CSV}").data == b"recording,predicted\na.wav,B\n"
    assert files.read("labels.csv").data == b"recording,grade,performer\n"


def test_places_within_places_are_no_strangers(tmp_path: Any) -> None:
    school(str(tmp_path))
    nested = Places(grades=f"{tmp_path}/grades", evaluation=str(tmp_path))
    lines = erase(WHAT, nested, delete=False, labels=[f"{tmp_path}/./labels.csv"])
    stay = [line.partition(": ")[0] for line in lines if "and stays" in line]
    assert f"{tmp_path}/labels.csv" not in stay
    assert not [line for line in stay if line.startswith(f"{tmp_path}/grades")]
    assert f"{tmp_path}/corrected.csv" in stay


def test_files_beside_the_records_are_no_records(tmp_path: Any) -> None:
    school(str(tmp_path))
    store = open_store(str(tmp_path / "nights"))
    store.put("half.json", f'{{"night": "{LISA}'.encode())
    store.put("theirs.json", json.dumps({"line": LISA}).encode())
    store.put("grades/manifests/000000001.json", json.dumps({"night": LISA}).encode())
    before = [store.read(entry.name).data for entry in store.list() if not entry.name.startswith("2026")]
    erase_all(str(tmp_path))
    assert [store.read(entry.name).data for entry in store.list() if not entry.name.startswith("2026")] == before


def test_parts_that_are_no_parquet_are_left_alone(tmp_path: Any) -> None:
    school(str(tmp_path))
    store = open_store(f"{tmp_path}/grades")
    store.put("parts/killed/half.parquet", parquet_bytes(pa.table({"x": [1]}))[:20])
    erase_all(str(tmp_path))
    assert where(str(tmp_path)) == []


ERASE = "jobs/erase.py"


def test_it_needs_no_permission_but_the_listed_ones(gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    place = f"gs://{bucket}/school"
    school(place)
    gate.permit(permitted(place, ERASE))
    erase_all(place, files=1)
    gate.permit(None)
    assert where(place) == ["corrected.csv"]


@pytest.mark.parametrize(
    ("of", "permission"), [row[1:] for row in TABLE if row[0] == ERASE], ids=lambda value: value.rpartition(".")[2]
)
def test_without_a_listed_permission_it_says_what_it_lacks(
    of: str, permission: str, gate: Gate, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    place = f"gs://{bucket}/school"
    school(place)
    gate.permit(permitted(place, ERASE, without=(of, permission)))
    with pytest.raises((UserError, PermissionError), match=rf"not have {permission} access"):
        erase_all(place, files=1)
    if (of, permission) == ("evaluation", "storage.objects.get"):  # not taken for a place that holds nothing of them
        with pytest.raises(UserError, match=rf"not have {permission} access"):
            erase(WHAT, Places(evaluation=f"{place}/evaluation"), delete=False)
