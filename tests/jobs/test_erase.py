"""jobs/erase.py: nothing of an erased recording is left in any file, whenever it was killed, and nothing comes back."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samplecnn import grades_folder, segment_folder
from samplecnn.commits import DELETED, DONE, OUTCOME, PART, STAMP, CommitLog, failed_item, manifest_name
from samplecnn.contract import (
    LATEST_PARQUET,
    MODEL_ID,
    PREDICTIONS_CSV,
    RECORDING,
    SEGMENTS,
    VERSION,
    segments_schema,
)
from samplecnn.erasure import Places, Wanted, erase, wanted
from samplecnn.errors import JobError, RecordingError, UserError
from samplecnn.flags import settings_dict
from samplecnn.pipelines.grade import plan_night
from samplecnn.recordings import plan
from samplecnn.segments import cut
from samplecnn.store import LocalStore, Store, open_store
from samplecnn.store.gcs import GcsStore
from samplecnn.tables import parquet_bytes
from samplecnn.trained_on import TrainedOn
from tests.fixtures.grades import GRADES, grade
from tests.fixtures.grades import SETTINGS as GRADE_SETTINGS
from tests.fixtures.jobs import killed_at_write, run_job
from tests.fixtures.shards import SETTINGS, decoded, tone

LISA, BROKEN, VERSION_OF = "class 3/Zöe-Lisa 'solo'.wav", "class 3/Zöe-Lisa kaputt.mp3", "v-of-lisa"
PERFORMER = "p07"
WHAT = Wanted((LISA, BROKEN))


def school(place: str) -> None:
    """Everything that is made of four recordings, two of which are one child's: one that was heard, one that failed."""
    files = open_store(place)
    for name in (LISA, BROKEN, "a.wav", "b.wav", "c.wav"):
        files.put(f"uploads/{name}", name.encode())
    table = "".join(f'"{name}",A,{PERFORMER if name in WHAT else "p01"}\n' for name in (LISA, BROKEN, "a.wav", "b.wav"))
    files.put("labels.csv", f"recording,grade,performer\n{table}".encode())
    rows = "".join(f'"{name}",500,A,B,0.61,0.6,0.4,1\n' for name in ("a.wav", LISA, "b.wav"))
    header = "recording,sample_rate,grade,predicted,score,p_A,p_B,fold\n"
    files.put(f"evaluation/{PREDICTIONS_CSV}", (header + rows).encode())
    files.put("evaluation/report.html", f"<b>{LISA}</b>".encode())
    learnt = TrainedOn.of([(LISA, VERSION_OF), ("a.wav", "v1")], "salt")
    files.put("model/0123456789abcdef/trained_on.json", learnt.to_json())
    files.put("model/fedcba9876543210/trained_on.json", TrainedOn.of([("a.wav", "v1")], "salt").to_json())
    segment(open_store(f"{place}/segments"))
    grades = open_store(f"{place}/grades")
    grade(grades, "r1", [LISA], version=VERSION_OF)
    grade(grades, "r2", ["a.wav", "b.wav"])
    broken = failed_item(BROKEN, VERSION_OF, "", RecordingError("decode", f"{BROKEN}: no sound"))
    log = CommitLog(grades, "grades")
    log.state()
    correction = {RECORDING: LISA, VERSION: VERSION_OF, "grade": "B", "by": "Ann", "why": "Lisa's left hand"}
    state = log.commit("r3", GRADE_SETTINGS, [{**broken, MODEL_ID: "m1"}], corrections=[correction])
    log._compact(json.loads(grades.read(manifest_name(state.last)).data)["token"])
    grades_folder.write_views(grades, state, GRADES)
    orphan = grades.read("parts/r1/recordings-00001.parquet").data
    grades.put("parts/killed/recordings-00001.parquet", orphan)
    grades.put("report.html", f"<b>{LISA}</b>".encode())


def segment(store: Store) -> None:
    """Two shards: of one the child's recordings are a part, of the other they are all; and one that a kill left."""
    commits, items, parts = CommitLog(store, "segments"), [], []
    schema = segments_schema(SETTINGS.segment_samples, SETTINGS.sample_rate)
    commits.state()
    for name, recordings in (("s1.parquet", ["a.wav", LISA, "b.wav"]), ("s2.parquet", [BROKEN]), ("s3", [LISA])):
        outcomes: list[dict[str, Any]] = []
        rows = 0
        path = segment_folder.staged_path("run", name)
        with store.open_output(path) as sink, segment_folder.shard_writer(sink, schema) as writer:
            for number, recording in enumerate(recordings):
                told = {RECORDING: recording, VERSION: VERSION_OF if recording in WHAT else "v1", STAMP: ""}
                if recording == BROKEN:
                    outcomes.append(failed_item(BROKEN, VERSION_OF, "", RecordingError("decode", "no sound")))
                    continue
                for batch in cut(recording, told[VERSION], decoded(tone(3.0, 1, number)), SETTINGS):
                    writer.write_batch(batch)
                    rows += batch.num_rows
                facts = {"duration_s": 3.0, "source_rate": 500, "channels": 1, "codec": "pcm"}
                outcomes.append({**told, OUTCOME: DONE, SEGMENTS: 3, **facts})
            keys = {segment_folder.OUTCOMES_KEY: json.dumps(outcomes)}
            writer.add_key_value_metadata({**keys, segment_folder.SETTINGS_KEY: segment_folder.settings_json(SETTINGS)})
        if name != "s3":
            data = segment_folder.data_path(name)
            items += [{**item, PART: data} if item[OUTCOME] == DONE else item for item in outcomes]
            parts += [{"path": data, "rows": rows}] if rows else []
    state = commits.commit("run", settings_dict(SETTINGS), items, parts)
    segment_folder.finish_commit(store, state)
    segment_folder.write_views(store, state)


def places(place: str) -> Places:
    names = ("segments", "grades", "evaluation", "recordings", "model")
    return Places(**{name: f"{place}/{'uploads' if name == 'recordings' else name}" for name in names})


def flags(place: str) -> list[str]:
    told = [f"--{name}={value}" for name, value in vars(places(place)).items()]
    return [f"--performer={PERFORMER}", f"--labels={place}/labels.csv", *told]


def texts(data: bytes) -> Iterator[bytes]:
    """The bytes of a file, and what its columns and metadata hold where they are packed."""
    yield data
    if data[:4] == data[-4:] == b"PAR1":
        table = pq.read_table(io.BytesIO(data))
        yield json.dumps({str(k): v.decode("latin-1") for k, v in (table.schema.metadata or {}).items()}).encode()
        strings = [name for name in table.column_names if table.schema.field(name).type == pa.string()]
        yield repr(table.select(strings).to_pylist()).encode()


def where(place: str) -> list[str]:
    """The files below a place, uploads and labels apart, that tell a name or a version of the child's recordings."""
    files = open_store(place)
    needles = [b"Lisa", VERSION_OF.encode(), "Zöe".encode(), b"Z\\u00f6e"]
    return [
        entry.name
        for entry in files.list()
        if not entry.name.startswith(("uploads/", "labels.csv"))
        and any(needle in text for text in texts(files.read(entry.name).data) for needle in needles)
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
    assert where(here) == []
    latest, rows, names, predictions = rest(here)
    assert latest == [row for row in before[0] if row[RECORDING] not in WHAT]
    assert sorted(map(repr, rows)) == sorted(repr(row) for row in before[1] if row[RECORDING] not in WHAT)
    assert names == ["a.wav", "b.wav"]
    assert [line.split(",")[0] for line in predictions.decode().splitlines()] == [RECORDING, "a.wav", "b.wav"]

    # Their uploads still lie there: no night, whatever it knew before, reads them again.
    uploads = open_store(f"{here}/uploads")
    grades, segments = open_store(f"{here}/grades"), open_store(f"{here}/segments")
    night = plan_night(uploads, CommitLog(grades, "grades").state(), "m2", new_only=True)
    state = CommitLog(segments, "segments").state()
    for work in (night, plan(uploads, state.items, erased=state.erased)):
        assert {item.recording for item in work.todo} <= {"a.wav", "b.wav", "c.wav"}
        assert not [name for name in work.deleted if name in WHAT]

    again = run_job("erase", *flags(here), "--delete", "--recordings-too")
    assert again.returncode == 0, again.stderr
    assert sorted(entry.name for entry in uploads.list()) == ["a.wav", "b.wav", "c.wav"]
    assert rest(here)[0] == latest


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
    erase(WHAT, places(folder_at("undisturbed")), delete=True)
    expected = rest(folder_at("undisturbed"))
    number = kills = 0
    while True:
        number += 1
        here = folder_at(str(number))
        school(here)
        with monkeypatch.context() as patched:
            dying(patched, number, after=number % 2 == 0)
            try:
                erase(WHAT, places(here), delete=True)
                break
            except Killed:
                kills += 1
        erase(WHAT, places(here), delete=True)
        assert where(here) == []
        assert rest(here) == expected
    assert kills >= 15


def test_killed_by_the_system_it_goes_on(folder_at: Callable[[str], str]) -> None:
    for number in (3, 8):
        here = folder_at(str(number))
        school(here)
        assert killed_at_write(number, "erase", *flags(here), "--delete")
        ended = run_job("erase", *flags(here), "--delete")
        assert ended.returncode == 0, ended.stderr
        assert where(here) == []


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
            erase(WHAT, places(here), delete=True)
    erase(WHAT, places(here), delete=True)
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
    ):
        ended = run_job("erase", *args)
        assert ended.returncode == 2, ended.stderr
        assert line in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    with pytest.raises(UserError, match="is theirs"):
        wanted("", "p99", str(tmp_path / "labels.csv"))


def test_parts_that_are_no_parquet_are_left_alone(tmp_path: Any) -> None:
    school(str(tmp_path))
    store = open_store(f"{tmp_path}/grades")
    store.put("parts/killed/half.parquet", parquet_bytes(pa.table({"x": [1]}))[:20])
    erase(WHAT, places(str(tmp_path)), delete=True)
    assert where(str(tmp_path)) == []
