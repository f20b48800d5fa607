"""What a night costs in requests, counted by the server that was asked."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from samplecnn import grades_folder, model_folder
from samplecnn.architecture import plan_for
from samplecnn.commits import DONE, ITEMS_SCHEMA, CommitLog
from samplecnn.contract import grades_schema
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.grade import grade
from samplecnn.recordings import plan
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store
from samplecnn.tables import parquet_bytes
from tests.fixtures.audio import noise, write_audio
from tests.fixtures.gcs import running_gate

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SETTINGS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
GRADES = ("C", "B", "A")
BEFORE, NEW, PAGE = 5_000, 20, 1_000


def an_earlier_night(recordings: str, grades: str, model_id: str) -> None:
    """The log, the part and the views of a night that graded all that lies in `recordings`."""
    source, target = open_store(recordings), open_store(grades)
    items = plan(source, ITEMS_SCHEMA.empty_table()).todo
    path = grades_folder.recordings_part("20261101T000000-0", 1)
    told = {"version": "", "model_id": model_id, "graded_at": datetime(2026, 11, 1, tzinfo=UTC), "gradable": False}
    rows = [{**told, "recording": i.recording, "version": i.version, "segments": 1, "duration_s": 9.0} for i in items]
    target.put(path, parquet_bytes(pa.Table.from_pylist(rows, schema=grades_schema(GRADES))))
    done = {"model_id": model_id, "outcome": DONE, "part": path}
    state = CommitLog(target, "grades").commit(
        "20261101T000000-0",
        {"recordings": source.root, "grade_names": "A,B,C"},
        [{**done, "recording": i.recording, "version": i.version, "stamp": i.stamp} for i in items],
        [{"path": path, "rows": len(rows)}],
    )
    grades_folder.write_views(target, state, GRADES)


def test_a_night_costs_a_read_for_each_new_recording_the_listings_and_ten_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = tmp_path / "data" / "school" / "uploads"
    uploads.mkdir(parents=True)
    for number in range(BEFORE):
        (uploads / f"{number:05d}.wav").touch()
    # The server takes 12 s to be sent these and 5 s to find them.
    with running_gate("-data", str(tmp_path / "data")) as gate:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
        recordings, model, grades = "gs://school/uploads", "gs://school/model", "gs://school/grades"
        card = ModelCard(plan=plan_for(SETTINGS.segment_samples), settings=SETTINGS, grades=GRADES)
        card = model_folder.publish(model, card, card.build().state_dict())
        an_earlier_night(recordings, grades, card.model_id)
        for number in range(NEW):
            path = write_audio(tmp_path / "new.wav", noise(2.0, 8000, seed=number), 8000)
            open_store(recordings).put(f"{number:05d} new.wav", path.read_bytes())

        gate.clear()
        assert grade(recordings, model, grades, new_only=True, workers=1).done == NEW
        night = gate.requests()
        gate.clear()
        assert grade(recordings, model, grades, new_only=True, workers=1).kept == BEFORE + NEW
        quiet_night = gate.requests()

    print(*night, "", *quiet_night, sep="\n")
    pages = [request for request in night if request.startswith("GET ") and "/o?" in request]
    of_recordings = [request for request in pages if "prefix=uploads/" in request]
    media = [request for request in night if "/o/uploads/" in request]
    others = [request for request in night if request not in pages and request not in media]
    assert len(media) == NEW
    assert all("alt=media&generation=" in request for request in media)
    assert len(of_recordings) == -(-(BEFORE + NEW) // PAGE)
    assert len(pages) - len(of_recordings) == 2  # one of the log, one of the views
    assert len(others) == 10  # docs/reliability.md says what each is for
    assert all(request.startswith("GET ") for request in quiet_night)
    assert not [request for request in quiet_night if "/o/uploads/" in request]
    assert len(quiet_night) < len(night) - NEW
