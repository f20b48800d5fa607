"""make demo-gcs is run by hand; that it would tell different grades from equal ones is tested here."""

from pathlib import Path

import pyarrow as pa
import pytest

from samplecnn.errors import JobError
from scripts import demo_gcs, upload_demo
from tests.fixtures.gcs import Gate

GRADES = pa.table({"recording": ["a.wav", "b.wav"], "grade": ["A", "B"], "score": [0.9, 0.5]})


def test_equal_grades_pass() -> None:
    demo_gcs.compare(GRADES, GRADES)


@pytest.mark.parametrize(
    ("theirs", "line"),
    [
        (GRADES.set_column(2, "score", pa.array([0.9, 0.5000000000000001])), "score differ"),
        (GRADES.slice(0, 1), "2 and 1 grades"),
        (GRADES.drop_columns(["score"]), "with other columns"),
    ],
)
def test_other_grades_are_told(theirs: pa.Table, line: str) -> None:
    with pytest.raises(JobError, match=line):
        demo_gcs.compare(GRADES, theirs)


def test_an_upload_is_not_repeated(
    gate: Gate, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("recordings/1.wav", "new/é.wav", "labels.csv", "grades/latest.csv"):
        (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    monkeypatch.setattr("sys.argv", ["upload_demo.py", f"gs://{bucket}/demo"])
    assert upload_demo.main() == 0
    (tmp_path / "demo" / "recordings" / "1.wav").write_text("another take")
    assert upload_demo.main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"3 files uploaded to gs://{bucket}/demo, 0 were there"
    assert second == f"1 files uploaded to gs://{bucket}/demo, 3 were there"
