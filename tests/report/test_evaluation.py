"""What a report says of an evaluation, beside the files of one that was really scored."""

import base64
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from samplecnn.evaluation import Evaluation, Model, Predicted, Task, evaluation_files, score_graders
from samplecnn.model_folder import load
from samplecnn.report.evaluation import read_evaluation, reliability
from samplecnn.report.figures import course_figure
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.store import open_store
from tests.fixtures.browser import SIZES, open_page
from tests.fixtures.jobs import run_job
from tests.fixtures.models import publish

GRADES = ("C", "B", "A")


def evaluated(rate: int, count: int = 30) -> Evaluation:
    """A majority and a model that is right two times in three, scored as evaluate scores them."""
    rng = np.random.default_rng(rate)
    given_R = np.arange(count) % 3
    said_R = np.where(rng.random(count) < 0.7, given_R, rng.integers(0, 3, count))
    probs_RG = np.full((count, 3), 0.2)
    probs_RG[np.arange(count), said_R] = rng.uniform(0.4, 0.9, count)
    probs_RG /= probs_RG.sum(axis=1, keepdims=True)
    task = Task(
        [f"take {n}.wav" for n in range(count)],
        given_R,
        [[f"p{n // 3}" for n in range(count)]],
        given_R.astype(np.int32),
        GRADES,
        rate,
        0,
    )
    predicted = {
        "majority": Predicted(np.full((count, 3), 1 / 3), np.ones(count, np.int64), 0.1),
        "SampleCNN": Predicted(probs_RG, said_R, 9.0),
    }
    return score_graders(task, predicted, Model("SampleCNN", "f", "mean", 1.0, (), 0.0), {})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    store = open_store(f"{tmp_path}/evaluation")
    for name, data in evaluation_files([evaluated(500), evaluated(2000)]).items():
        store.put(name, data)
    return tmp_path / "evaluation"


def test_what_is_read_is_what_was_scored(place: Path) -> None:
    _, (found, other) = read_evaluation(str(place))
    scored = evaluated(500)
    assert (found.sample_rate, other.sample_rate) == (500, 2000)
    assert found.conclusion == scored.conclusion()
    assert found.model.figures["kappa"] == scored.metrics["SampleCNN"].kappa
    said = pd.read_csv(place / "predictions.csv").query("sample_rate == 500")
    for given, row in zip("ABC", found.model.confusion, strict=True):
        assert row == [int(((said.grade == given) & (said.predicted == guess)).sum()) for guess in "ABC"]
    assert found.model.coverage[-1] == 1
    assert found.model.error_rate[-1] == pytest.approx(1 - found.model.figures["accuracy"].value, abs=1e-5)
    assert found.scores == said.score.tolist()


def test_reliability_bins_hold_every_recording_once_and_say_how_often_they_are_right() -> None:
    confidence_R = np.linspace(0.3, 0.95, 43)
    right_R = np.arange(43) >= 20
    bins = reliability(confidence_R, right_R)
    assert sum(part.recordings for part in bins) == 43
    assert sum(part.right.value * part.recordings for part in bins) == pytest.approx(23)
    assert (bins[0].right.value, bins[-1].right.value) == (0, 1)
    assert all(part.right.low <= part.right.value <= part.right.high for part in bins)
    assert bins[0].right.high > 0.3  # of six that were all wrong
    assert reliability(confidence_R[:4], right_R[:4]) == []


def test_the_job_writes_the_page_beside_the_evaluation_with_its_figures_as_files(place: Path) -> None:
    ended = run_job("report", "--evaluation", place, "--png")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith(f"{place}/report.html")
    assert {path.name for path in place.glob("*.png")} == {
        "report-rates.png",
        *(f"report-{name}-{rate}.png" for name in ("graders", "reliability", "risk") for rate in (500, 2000)),
    }
    before = (place / "report.html").read_bytes()
    write_report(Sources(evaluation=str(place)))
    again = (place / "report.html").read_bytes()
    assert [line for line in again.splitlines() if b'class="made"' not in line] == [
        line for line in before.splitlines() if b'class="made"' not in line
    ]


def test_the_learning_curve_and_the_filters_are_those_of_the_model(place: Path, tmp_path: Path) -> None:
    model = publish(tmp_path / "model")
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters/filters.png").write_bytes(b"a picture")
    places = ("--evaluation", place, "--model", model, "--filters", tmp_path / "filters")
    ended = run_job("report", *places, "--png")
    assert ended.returncode == 0, ended.stderr
    page = (place / "report.html").read_text(encoding="utf-8")
    assert f"Model {load(model)[0].model_id} learnt from" in page
    assert base64.b64encode(b"a picture").decode() in page
    history = [
        {"epoch": n, "train_loss": 1 / n, "valid_loss": 1.2 / n, "valid_kappa": 0.1 * n, "best": n < 4}
        for n in range(1, 6)
    ]
    assert "epoch 3 of 5 was kept" in course_figure(history).alt
    assert course_figure(history).png.startswith(b"\x89PNG")
    refused = run_job("report", "--evaluation", place, "--filters", tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_a_damaged_evaluation_and_none_are_refused_in_a_line(place: Path, tmp_path: Path) -> None:
    (place / "metrics.json").write_text('{"evaluations": [{"sample_rate": 500}]}')
    ended = run_job("report", "--evaluation", place)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "damaged, or of another version" in ended.stderr
    ended = run_job("report", "--evaluation", tmp_path / "none")
    assert (ended.returncode, ended.stderr) == (
        2,
        f"error: --evaluation {tmp_path}/none: no evaluation there: run jobs/evaluate.py first\n",
    )


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
def test_the_page_shows_the_figures_and_axe_finds_nothing(browser: Browser, place: Path, size: str) -> None:
    write_report(Sources(evaluation=str(place)))
    opened = open_page(browser, place / "report.html", size)
    images = opened.page.locator("figure img")
    assert images.count() == 7
    assert images.evaluate_all("images => images.every(image => image.naturalWidth > 100 && image.alt.length > 20)")
    scored = evaluated(500)
    row = opened.page.locator(".graders").first.get_by_role("row", name="SampleCNN").inner_text().split("\t")
    m = scored.metrics["SampleCNN"]
    assert row == ["SampleCNN", str(m.accuracy), str(m.kappa), str(m.mae), f"{m.p_value:.4f}"]
    assert opened.page.get_by_text(scored.conclusion()).first.is_visible()
    found = Axe().run(opened.page).response["violations"]
    assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in found] == []
    assert opened.complaints == []
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.page.context.close()
