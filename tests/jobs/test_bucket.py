"""The jobs over gs:// places, against a real storage server: the same code and results, and no needless permission."""

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import pytest

from samplecnn import model_folder
from samplecnn.architecture import NetworkSettings, plan_for
from samplecnn.contract import (
    CURRENT,
    FAILURES_CSV,
    GRADED_AT,
    LATEST_CSV,
    LATEST_PARQUET,
    MESSAGE,
    MODEL_ID,
    PREDICTIONS_CSV,
    RECORDING,
    REPORT_HTML,
    correction_labels_schema,
)
from samplecnn.errors import UserError
from samplecnn.evaluation import EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.model_folder import ModelCard
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.grade import grade
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.report.settings import Sources
from samplecnn.report.write import write_report
from samplecnn.segments import SegmentSettings
from samplecnn.store import open_store
from samplecnn.tables import csv_bytes, read_csv
from samplecnn.trained_on import TrainedOn
from tests.fixtures.gcs import Gate
from tests.fixtures.jobs import ROOT, write_labels, write_recordings
from tests.fixtures.permissions import TABLE, permitted

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
T = TypeVar("T")
SETTINGS = SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0)
FIT = FitSettings(epochs=2, crops=2, batch_size=12)

GET, LIST, CREATE, DELETE = (f"storage.objects.{verb}" for verb in ("get", "list", "create", "delete"))
# Not taken away one by one: what a job needs only after minutes of work, and what costs it a recording, not the run.
LATE = {
    *(("jobs/train.py", "model", permission) for permission in (GET, LIST, CREATE, DELETE)),
    *((f"jobs/{job}.py", "recordings", GET) for job in ("prepare", "grade", "promote")),
}
HERE = [row for row in TABLE if row not in LATE and row[0] != "jobs/erase.py"]  # which has tests of its own


def jobs(place: str) -> dict[str, Callable[[], Any]]:
    """Every job on recordings/ and labels.csv of a place."""
    recordings, segments, labels, model, grades = (
        f"{place}/{name}" for name in ("recordings", "segments", "labels.csv", "model", "grades")
    )
    evaluation, split, how = f"{place}/evaluation", EvaluationSettings(folds=2), (NetworkSettings(), FIT)
    return {  # one worker: most of the time goes into starting workers
        "jobs/prepare.py": lambda: prepare(recordings, segments, SETTINGS, workers=1),
        "jobs/evaluate.py": lambda: reported(
            evaluate([segments], labels, evaluation, LabelSettings(), split, *how, seed=0),
            Sources(evaluation=evaluation),
        ),
        "jobs/train.py": lambda: reported(
            train(segments, labels, model, LabelSettings(), *how, seed=0, evaluation=evaluation),
            Sources(evaluation=evaluation, model=model),
        ),
        "jobs/grade.py": lambda: reported(
            grade(recordings, model, grades, workers=1), Sources(grades=grades, model=model)
        ),
    }


def reported(result: T, sources: Sources) -> T:
    """What a job returned, its page written; the job itself would say no more than that there is none."""
    write_report(sources)
    return result


def run_all(place: str, before: Callable[[str], None] = lambda job: None) -> tuple[list[dict], bytes]:
    """Every job, all but the dearest twice: (latest grades, predictions). before: called with the name of each."""
    results = {}
    for name, job in jobs(place).items():
        before(name)
        results[name] = job()
        if name != "jobs/evaluate.py":
            results[name] = job()
    assert results["jobs/prepare.py"].kept == results["jobs/grade.py"].kept == 6
    assert "nothing to do" in results["jobs/train.py"]
    before("")
    filesystem, base = open_store(place).filesystem()
    latest = pq.read_table(f"{base}/grades/{LATEST_PARQUET}", filesystem=filesystem).drop_columns(
        [GRADED_AT, "version"]
    )
    return latest.to_pylist(), open_store(f"{place}/evaluation").read(PREDICTIONS_CSV).data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("school")
    write_labels(root / "labels.csv", write_recordings(root / "recordings", 6))
    return root


@pytest.fixture(scope="module")
def school(gcs_gate: Gate, folder: Path) -> Iterator[tuple[str, Any]]:
    """(a place in a bucket that holds what the folder holds, what the jobs made of it with the listed permissions)."""
    place = "gs://samplecnn-jobs/school"
    gcs_gate.make_bucket("samplecnn-jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", gcs_gate.address)
        for path in sorted(folder.rglob("*.*")):
            open_store(place).put(str(path.relative_to(folder)), path.read_bytes())
        made = run_all(place, lambda job: gcs_gate.permit(permitted(place, job) if job else None))
        card = ModelCard(plan=plan_for(SETTINGS.segment_samples), settings=SETTINGS, grades=("C", "B", "A"))
        trained = TrainedOn.of([("elsewhere.wav", "1")], "salt")
        model_folder.publish(f"{place}/candidate", card, card.build().state_dict(), trained)
        yield place, made


def test_a_bucket_gives_what_a_folder_gives_with_no_permission_but_the_listed_ones(school: Any, folder: Path) -> None:
    place, made = school
    assert made == run_all(str(folder))
    assert not list(open_store(place).list("model.checkpoints/"))
    assert not list(open_store(place).list("segments/staging/"))


def script(name: str, *flags: str) -> None:
    """A script in this process: its errors come as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *flags])
        assert runpy.run_path(str(ROOT / name))["main"]() == 0


def commands(place: str, model_id: str) -> dict[str, Callable[[], Any]]:
    """The jobs, and the scripts that take places."""
    grades = f"--grades={place}/grades"
    return {
        **jobs(place),
        "jobs/correct.py": lambda: script(
            "jobs/correct.py", grades, f"--corrections={place}/corrections.csv", f"--export={place}/corrected.csv"
        ),
        "jobs/report.py": lambda: script(
            "jobs/report.py",
            grades,
            f"--evaluation={place}/evaluation",
            f"--segments={place}/segments",
            f"--model={place}/model",
        ),
        "jobs/promote.py": lambda: script(
            "jobs/promote.py",
            f"--candidate={place}/candidate",
            f"--models={place}/model",
            f"--recordings={place}/recordings",
            f"--labels={place}/labels.csv",
            grades,
            "--force",
            "--why=heard it",
        ),
        "scripts/show_grades.py": lambda: script("scripts/show_grades.py", grades),
        "scripts/use_model.py": lambda: script(
            "scripts/use_model.py", grades, f"--model={place}/model", f"--model-id={model_id}"
        ),
        "scripts/smoke_gcs.py": lambda: script("scripts/smoke_gcs.py", f"{place}/place"),
        "scripts/collect_garbage.py": lambda: script("scripts/collect_garbage.py", grades, "--delete"),
    }


def model_of(school: Any) -> str:
    """The model that graded."""
    return str(school[1][0][0][MODEL_ID])


def short(value: str) -> str:
    return value.rpartition("/")[2].rpartition("objects.")[2]


@pytest.fixture
def without(school: Any, gate: Gate) -> Callable[[str, str, str], None]:
    """Runs a command that has something to write and to delete everywhere, but may not do one thing in one place."""
    place, _ = school
    store, model_id = open_store(place), model_of(school)

    def run(command: str, of: str, permission: str) -> None:
        # With another model there is one to change back, or to train.
        another = command == "scripts/use_model.py" or (of, permission) == ("checkpoints", CREATE)
        store.put(f"model/{CURRENT}", b"0123456789abcdef" if another else model_id.encode())
        store.delete(f"grades/{LATEST_CSV}")
        store.put(f"grades/{FAILURES_CSV}", b"not ours")
        store.put(f"grades/{REPORT_HTML}", b"of an earlier night")
        store.put("model.checkpoints/old/state.pt", b"of a run that is over")
        if permission == DELETE:
            store.put(f"evaluation/{REPORT_HTML}", b"of an earlier evaluation")
        else:
            store.delete(f"evaluation/{REPORT_HTML}")
        store.put("corrections.csv", f"recording,grade,by,why\n{school[1][0][0][RECORDING]},A,Ann,heard it\n".encode())
        if (of, permission) == ("export", LIST):  # the first export: there is none to be found
            store.delete("corrected.csv")
        else:
            store.put("corrected.csv", csv_bytes(correction_labels_schema().empty_table()))
        gate.permit(permitted(place, command, without=(of, permission)))
        commands(place, model_id)[command]()

    return run


@pytest.mark.parametrize(("command", "of", "permission"), HERE, ids=short)
def test_without_a_listed_permission_a_command_says_what_it_lacks(
    command: str, of: str, permission: str, without: Callable[[str, str, str], None]
) -> None:
    with pytest.raises((UserError, PermissionError), match=rf"not have {permission} access"):
        without(command, of, permission)


@pytest.mark.parametrize(
    "command",
    [
        "jobs/correct.py",
        "jobs/report.py",
        "jobs/promote.py",
        "scripts/show_grades.py",
        "scripts/use_model.py",
        "scripts/collect_garbage.py",
    ],
)
def test_a_script_needs_no_permission_but_the_listed_ones(
    command: str, without: Callable[[str, str, str], None]
) -> None:
    without(command, "nowhere", "nothing")


@pytest.mark.parametrize("permission", [GET, LIST, CREATE, DELETE], ids=short)
def test_publishing_a_model_takes_each_permission_that_training_has_on_the_model(
    permission: str, school: Any, gate: Gate
) -> None:
    place, _ = school
    model = f"{place}/model"
    if permission == LIST:  # the first model of a place: there is no pointer to be found
        open_store(model).delete(CURRENT)
    card = ModelCard(plan=plan_for(SETTINGS.segment_samples), settings=SETTINGS, grades=("C", "B", "A"))
    network = card.build()
    gate.permit(permitted(place, "jobs/train.py", without=("model", permission)))
    with pytest.raises(UserError, match=rf"not have {permission} access"):
        model_folder.publish(model, card, network.state_dict())
    gate.permit(permitted(place, "jobs/train.py"))
    model_folder.publish(model, card, network.state_dict())
    model_folder.use(model, model_of(school))


def test_recordings_that_may_not_be_read_are_rows_of_the_failures(school: Any, gate: Gate) -> None:
    place, _ = school
    open_store(place).put("recordings/new.wav", b"")
    gate.permit(permitted(place, "jobs/grade.py", without=("recordings", GET)))
    outcome = jobs(place)["jobs/grade.py"]()
    assert (outcome.failed, outcome.kept) == (1, 6)
    gate.permit(None)
    (row,) = read_csv(open_store(place).read(f"grades/{FAILURES_CSV}").data, "failures")
    assert row[RECORDING] == "new.wav"
    assert f"not have {GET} access" in row[MESSAGE]
