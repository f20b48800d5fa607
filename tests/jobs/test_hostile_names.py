"""Recordings whose names were made to be run by what opens a table or a page, through every job that writes names."""

import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pytest

from samplecnn.architecture import NetworkSettings
from samplecnn.contract import LATEST_CSV, PREDICTIONS_CSV, RECORDING
from samplecnn.corrections import correct
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.prepare import prepare
from samplecnn.recipe import FitSettings
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.tables import csv_bytes, read_csv
from tests.fixtures import models
from tests.fixtures.audio import write_audio
from tests.fixtures.jobs import GRADES, RATE, played

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
NAMES = [
    "=1+1.wav",
    "+1.wav",
    "-2+3.wav",
    "@SUM(1).wav",
    "\t=1.wav",
    "\n=1.wav",
    "a;=1+1.wav",
    'a",=1.wav',
    "b\r=1.wav",
    "c,=1.wav",
    "d\t@x.wav",
    "..\\..\\up.wav",
    "<img src=x onerror=alert(1)>.wav",
    "'=quoted.wav",
    "＝1.wav",
]
BROKEN = "=broken.wav"


@pytest.fixture(scope="module")
def written(one_ray, tmp_path_factory) -> Path:
    """A folder with all that the jobs wrote."""
    root = tmp_path_factory.mktemp("hostile")
    uploads = root / "uploads"
    uploads.mkdir()
    for number, name in enumerate(NAMES):
        write_audio(uploads / name, played(number, number % 3, 6.0), RATE)
    (uploads / BROKEN).write_text("no sound")
    given = [GRADES[number % 3] for number in range(len(NAMES))]
    (root / "labels.csv").write_bytes(csv_bytes(pa.table({RECORDING: NAMES, "grade": given, "performer": NAMES})))
    told = {RECORDING: [*NAMES[:5], BROKEN], "grade": ["A"] * 6, "by": ["=Ann"] * 6, "why": ["x;=1"] * 6}
    (root / "corrections.csv").write_bytes(csv_bytes(pa.table(told)))
    segments, evaluation, grades = (str(root / name) for name in ("segments", "evaluation", "grades"))
    assert prepare(str(uploads), segments, models.SETTINGS, workers=1).failed == 1
    fit = FitSettings(epochs=1, crops=2, batch_size=16)
    few = EvaluationSettings(folds=2)
    evaluate([segments], f"{root}/labels.csv", evaluation, LabelSettings(), few, NetworkSettings(), fit, seed=0)
    model = models.publish(root / "model")
    assert grade(str(uploads), model, grades, workers=1).done == len(NAMES)
    correct(grades, f"{root}/corrections.csv", f"{root}/export.csv")
    write_report(Sources(grades=grades, evaluation=evaluation, segments=segments))
    return root


def test_no_table_holds_a_cell_that_a_spreadsheet_would_run(written):
    tables = [path for path in written.rglob("*.csv") if ".samplecnn" not in path.parts]
    expected = {"latest.csv", "failures.csv", "recordings.csv", "predictions.csv", "metrics.csv", "risk_coverage.csv"}
    assert {path.name for path in tables} >= {*expected, "export.csv", "label_next.csv"}
    for path in tables:
        for delimiter in ",;\t":
            for row in csv.reader(io.StringIO(path.read_text("utf-8"), newline=""), delimiter=delimiter):
                for cell in row:
                    number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
                    assert number or not cell.startswith(tuple("=+-@\t\r\n＝")), (path, delimiter, cell)


def test_every_name_is_told_as_it_is(written):
    latest = read_csv((written / "grades" / LATEST_CSV).read_bytes(), LATEST_CSV)
    assert {row[RECORDING] for row in latest} == {*NAMES, BROKEN}
    corrected = {row[RECORDING] for row in latest if row["corrected_by"] == "=Ann"}
    assert corrected == {*NAMES[:5], BROKEN}
    predicted = {row[RECORDING] for row in read_csv((written / "evaluation" / PREDICTIONS_CSV).read_bytes(), "p")}
    assert predicted == set(NAMES)


def test_no_name_is_run_by_the_page(written):
    assert "<img src=x" not in (written / "grades" / "report.html").read_text("utf-8")
