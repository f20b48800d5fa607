"""jobs/promote.py: a candidate takes over only where it is not worse, in a folder and in a bucket, killed or not."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from samplecnn import grades_folder, model_folder
from samplecnn.commits import DONE, ITEMS_SCHEMA, CommitLog
from samplecnn.contract import CURRENT, METRICS_JSON, grades_schema
from samplecnn.corrections import correct
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import MAJORITY, Model, Predicted, Task, calibration_of, evaluation_files, score_graders
from samplecnn.marks import MarkMap
from samplecnn.pipelines.grade_few import OneByOne
from samplecnn.pipelines.promote import Evidence, promote
from samplecnn.promotion import PromotionSettings
from samplecnn.recordings import plan
from samplecnn.store import open_store
from samplecnn.tables import parquet_bytes
from samplecnn.trained_on import TrainedOn
from tests.fixtures.audio import write_audio
from tests.fixtures.jobs import RATE, killed_at_write, played, run_job, write_labels
from tests.fixtures.models import publish

COUNT = 24
NONE = TrainedOn.of([("learnt from.wav", "elsewhere")], "salt")
SETTINGS = PromotionSettings()
SEEDS = {"current": 0, "candidate": 5}


@dataclass(frozen=True)
class School:
    """recordings: a folder; current, candidate: places of models; by: what each says of the recordings."""

    root: Path
    recordings: str
    current: str
    candidate: str
    by: dict[str, dict[str, str]]
    cuts: dict[str, tuple[float, float]]

    def publish(self, name: str, place: Path, **more: Any) -> str:
        """A model that grades as that one does."""
        return publish(place, SEEDS[name], cuts=self.cuts[name], **more)

    def labels(self, grades: dict[str, str]) -> str:
        path = self.root / f"labels-{len(list(self.root.glob('labels-*')))}.csv"
        return str(write_labels(path, sorted(grades.items())))

    def models(self, place: Path) -> str:
        """A copy of the current model's place."""
        model_folder.adopt(self.current, str(place))
        model_folder.switch(str(place), self.id("current"), None)
        return str(place)

    def id(self, name: str) -> str:
        return str(model_folder.current_id(getattr(self, name)))


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> School:
    root = tmp_path_factory.mktemp("school")
    (root / "recordings").mkdir()
    for number in range(COUNT):
        write_audio(root / "recordings" / f"{number:02d}.wav", played(number, number % 3, 4.0), RATE)
    store = open_store(str(root / "recordings"))
    school = School(root, store.root, str(root / "current"), str(root / "candidate"), {}, {})
    for name, seed in SEEDS.items():
        card, network = model_folder.load(publish(root / f"{name} uncut", seed))
        with OneByOne(card, network) as one:
            merged = {entry.name: one.grade(store, entry)[0].merged for entry in store.list()}
        score = {recording: one.score for recording, one in merged.items() if one}
        assert len(set(score.values())) == COUNT
        school.cuts[name] = tuple(np.quantile(list(score.values()), (1 / 3, 2 / 3)).tolist())  # 8 of each grade
        school.by[name] = {r: "CBA"[sum(cut < s for cut in school.cuts[name])] for r, s in score.items()}
        school.publish(name, root / name, trained=NONE)
    return school


def decisions(models: str, model_id: str) -> list[dict]:
    store = open_store(models)
    return [json.loads(store.read(entry.name).data) for entry in store.list(f"{model_id}/decisions/")]


def test_a_candidate_that_grades_as_people_do_takes_over_and_goes_back_by_one_command(
    school: School, tmp_path: Path
) -> None:
    models = school.models(tmp_path / "the school's models")
    flags = ["--recordings", school.recordings, "--labels", school.labels(school.by["candidate"])]
    ended = run_job("promote", "--candidate", school.candidate, "--models", models, *flags)
    assert ended.returncode == 0, ended.stderr
    assert "24 recordings that neither model was trained on, in 24 groups: kappa 1.00, of the current" in ended.stdout
    assert ": better\n" in ended.stdout
    assert model_folder.current_id(models) == school.id("candidate")
    assert model_folder.trained_on(models) == NONE
    (kept,) = decisions(models, school.id("candidate"))
    assert (kept["moved"], kept["current"], kept["why"]) == (True, school.id("current"), None)
    assert kept["comparison"]["candidate_kappa"] == 1.0
    assert kept["comparison"]["difference"]["low"] > 0

    again = run_job("promote", "--candidate", school.candidate, "--models", models, *flags)
    assert again.returncode == 0
    assert "is the current one already: nothing to do" in again.stdout

    (back,) = [line for line in ended.stdout.splitlines() if line.startswith("to go back: ")]
    words = shlex.split(back.removeprefix("to go back: python jobs/promote.py ").replace("...", "hard on jazz"))
    ended = run_job("promote", *words)
    assert ended.returncode == 0, ended.stderr
    assert model_folder.current_id(models) == school.id("current")
    (kept,) = decisions(models, school.id("current"))
    assert (kept["moved"], kept["current"], kept["why"]) == (True, school.id("candidate"), "hard on jazz")


def test_a_worse_candidate_stays_outside_unless_a_person_says_why(school: School, tmp_path: Path) -> None:
    models = school.models(tmp_path / "models")
    evidence = Evidence(school.recordings, school.labels(school.by["current"]))
    lines: list[str] = []
    assert not promote(school.candidate, models, evidence, SETTINGS, lines.append)
    assert lines[0].endswith(": worse")
    assert "stays" in lines[-1]
    assert model_folder.current_id(models) == school.id("current")
    (kept,) = decisions(models, school.id("candidate"))
    assert not kept["moved"]
    ended = run_job(
        "promote",
        f"--candidate={school.candidate}",
        f"--models={models}",
        f"--recordings={school.recordings}",
        f"--labels={evidence.labels}",
    )
    assert ended.returncode == 1
    assert "error" not in ended.stderr
    assert len(decisions(models, school.id("candidate"))) == 1  # the same once more

    assert promote(school.candidate, models, evidence, replace(SETTINGS, why="it hears jazz"), lines.append)
    assert model_folder.current_id(models) == school.id("candidate")
    assert {one["why"] for one in decisions(models, school.id("candidate"))} == {None, "it hears jazz"}


def test_only_recordings_that_neither_model_was_trained_on_count(school: School, tmp_path: Path) -> None:
    models = school.models(tmp_path / "models")
    names = sorted(school.by["candidate"])
    version = open_store(school.recordings).version_of(names[4])
    learnt = TrainedOn.of([*((name, "of before") for name in names[:4]), ("renamed.wav", version)], "salt")
    candidate = school.publish("candidate", tmp_path / "candidate", trained=learnt)
    evidence = Evidence(school.recordings, school.labels(school.by["candidate"]))
    with pytest.raises(UserError, match=r"^19 labelled recordings that neither model was trained on are there, 20 are"):
        promote(candidate, models, evidence, SETTINGS, print)
    unknown = school.publish("candidate", tmp_path / "unknown")
    with pytest.raises(UserError, match=f"model {school.id('candidate')} does not say what it was trained on"):
        promote(unknown, models, evidence, SETTINGS, print)
    with pytest.raises(UserError, match="--labels and --recordings are needed"):
        promote(candidate, models, Evidence(), SETTINGS, print)
    assert model_folder.current_id(models) == school.id("current")
    assert decisions(models, school.id("candidate")) == []


def graded(place: str, recordings: str, says: dict[str, str], days: dict[str, int], model_id: str) -> str:
    """A grades folder in which the nights graded these, so many days before the last; returns the place."""
    source, target = open_store(recordings), open_store(place)
    items = [item for item in plan(source, ITEMS_SCHEMA.empty_table()).todo if item.recording in says]
    path = grades_folder.recordings_part("r1", 1)
    last = datetime(2026, 11, 27, tzinfo=UTC)
    told = {"model_id": model_id, "segments": 3, "duration_s": 4.0, "gradable": True}
    rows = [
        {
            **told,
            "recording": item.recording,
            "version": item.version,
            "grade": says[item.recording],
            "graded_at": last - timedelta(days=days.get(item.recording, 0)),
        }
        for item in items
    ]
    target.put(path, parquet_bytes(pa.Table.from_pylist(rows, schema=grades_schema(("C", "B", "A")))))
    done = {"model_id": model_id, "outcome": DONE, "part": path}
    state = CommitLog(target, "grades").commit(
        "r1",
        {"recordings": source.root, "grade_names": "A,B,C"},
        [{**done, "recording": i.recording, "version": i.version, "stamp": i.stamp} for i in items],
        [{"path": path, "rows": len(rows)}],
    )
    grades_folder.write_views(target, state, ("C", "B", "A"))
    return place


def test_the_last_nights_are_graded_in_the_shadow_and_nothing_is_written(school: School, tmp_path: Path) -> None:
    models, names = school.models(tmp_path / "models"), sorted(school.by["current"])[:12]
    says = {name: school.by["current"][name] for name in names}
    old = dict.fromkeys(names[:3], 8)
    grades = graded(str(tmp_path / "grades"), school.recordings, says, old, school.id("current"))
    open_store(str(tmp_path)).put("c.csv", f"recording,grade,by,why\n{names[3]},A,Ann,x\n".encode())
    correct(grades, str(tmp_path / "c.csv"), None)
    before = {p: p.stat().st_mtime_ns for p in Path(grades).rglob("*") if ".samplecnn" not in p.parts}
    evidence = Evidence(school.recordings, school.labels(school.by["candidate"]), grades)
    lines: list[str] = []
    assert promote(school.candidate, models, evidence, SETTINGS, lines.append)
    changed = {name for name in names[4:] if school.by["candidate"][name] != school.by["current"][name]}
    assert changed
    assert f"of 8 recordings of the last 7 days {len(changed)} would change grade (1 more were corrected" in lines[1]
    shown = [line.split() for line in lines if line.startswith("  ")]
    assert shown == [[school.by["current"][n], "->", school.by["candidate"][n], n] for n in sorted(changed)]
    assert {p: p.stat().st_mtime_ns for p in Path(grades).rglob("*") if ".samplecnn" not in p.parts} == before
    (kept,) = decisions(models, school.id("candidate"))
    assert sum(kept["shadow"]["changes"].values()) == len(changed)
    assert all(name not in json.dumps(kept) for name in names)


MARKS = {"A": 88.0, "B": 66.0, "C": 33.0}


def marked(school: School, grades: dict[str, str]) -> str:
    """Labels that give marks, of which these grades follow by --cuts 50,75."""
    path = Path(school.labels(grades))
    rows = [f"{name},{MARKS[grade]}\n" for name, grade in sorted(grades.items())]
    path.write_text("recording,mark\n" + "".join(rows), encoding="utf-8")
    return str(path)


def evaluated(
    place: Path, names: list[str], given: dict[str, str], says: dict[str, str], off: float | None = None
) -> dict:
    """An evaluation folder in which cross-validation stated these grades, and marks so far off (None: none); returns
    what train keeps of it."""
    place_of = {grade: index for index, grade in enumerate("CBA")}
    given_R, said_R = (np.array([place_of[of[name]] for name in names]) for of in (given, says))
    probs_RG = np.full((len(names), 3), 0.1)
    probs_RG[np.arange(len(names)), said_R] = 0.8
    mark_R = None if off is None else np.array([MARKS[given[name]] for name in names])
    mark_RM = None if mark_R is None or off is None else mark_R[:, None] + off + np.array([0.0, -9.0, 9.0])
    task = Task(names, given_R, [names], np.zeros(len(names), np.int32), ("C", "B", "A"), 500, 0, mark_R=mark_R)
    majority = Predicted(np.full_like(probs_RG, 1 / 3), np.zeros_like(given_R), 0.0)
    graders = {MAJORITY: majority, "SampleCNN + rhythm": Predicted(probs_RG, said_R, 0.0, mark_RM=mark_RM)}
    files = evaluation_files([score_graders(task, graders, Model("SampleCNN + rhythm", "f", "mean", 1, (), 0), {})])
    for name, data in files.items():
        open_store(str(place)).put(name, data)
    return calibration_of(files[METRICS_JSON], str(place), "f").evaluation


def test_where_too_few_were_held_out_both_cross_validations_are_compared(school: School, tmp_path: Path) -> None:
    given, names = school.by["candidate"], sorted(school.by["candidate"])
    of_candidate = evaluated(tmp_path / "e1", names, given, given)
    of_current = evaluated(tmp_path / "e2", names, given, school.by["current"])
    candidate = school.publish("candidate", tmp_path / "candidate", metrics={"evaluation": of_candidate})
    models = school.publish("current", tmp_path / "models", metrics={"evaluation": of_current})
    places = {"evaluation": str(tmp_path / "e1"), "current_evaluation": str(tmp_path / "e2")}
    evidence = Evidence(school.recordings, school.labels(given), **places)
    lines: list[str] = []
    assert promote(candidate, models, evidence, SETTINGS, lines.append)
    assert "24 recordings that cross-validation held out of both recipes" in lines[0]
    assert lines[0].endswith(": better")

    models = school.publish("current", tmp_path / "again", metrics={"evaluation": of_current})
    with pytest.raises(UserError, match=r"--evaluation .*e2: is not the evaluation that model"):
        promote(candidate, models, replace(evidence, evaluation=str(tmp_path / "e2")), SETTINGS, print)
    few = Evidence(None, school.labels(dict(list(given.items())[:19])), **places)
    with pytest.raises(UserError, match="both evaluations have 19 labelled recordings, 20 are needed"):
        promote(candidate, models, few, SETTINGS, print)


def test_marks_of_labels_give_grades_by_cuts_and_a_model_whose_marks_are_further_off_stays_out(
    school: School, tmp_path: Path
) -> None:
    near, far = (MarkMap(offset, 0.0, 10.0, 0.0, 100.0) for offset in (60.0, 0.0))  # the same mark for everybody
    places = {
        name: school.publish("candidate", tmp_path / name, trained=NONE, marks=marks)
        for name, marks in (("near", near), ("far", far), ("unmarked", None))
    }
    labels = marked(school, school.by["candidate"])
    flags = ["--recordings", school.recordings, "--labels", labels, "--cuts", "50,75"]
    ended = run_job("promote", "--candidate", places["far"], "--models", places["near"], *flags)
    assert ended.returncode == 1, ended.stderr
    assert "kappa 1.00, of the current model 1.00: difference 0.00 [0.00, 0.00]" in ended.stdout
    assert ": not worse; marks 62.33 off, of the current model 20.33: difference 42.00 [" in ended.stdout
    assert "]: worse\n" in ended.stdout
    lines: list[str] = []
    settings = PromotionSettings(cuts="50,75", mark_range="0,100")
    assert promote(places["near"], places["far"], Evidence(school.recordings, labels), settings, lines.append)
    assert lines[0].endswith(": not shown to be worse")
    (kept,) = decisions(places["far"], str(model_folder.current_id(places["near"])))
    assert kept["comparison"]["marks"]["difference"]["value"] == pytest.approx(-42.0)
    lines.clear()
    assert promote(places["unmarked"], places["near"], Evidence(school.recordings, labels), settings, lines.append)
    assert "marks" not in lines[0]
    assert lines[1].endswith("train it with --evaluation and labels that give marks")


def test_marks_of_cross_validation_are_compared_too(school: School, tmp_path: Path) -> None:
    given, names = school.by["candidate"], sorted(school.by["candidate"])
    kept = [evaluated(tmp_path / place, names, given, given, off) for place, off in (("e1", 9.0), ("e2", -4.0))]
    candidate = school.publish("candidate", tmp_path / "candidate", metrics={"evaluation": kept[0]})
    models = school.publish("current", tmp_path / "models", metrics={"evaluation": kept[1]})
    places = {"evaluation": str(tmp_path / "e1"), "current_evaluation": str(tmp_path / "e2")}
    lines: list[str] = []
    settings = PromotionSettings(cuts="50,75")
    assert not promote(candidate, models, Evidence(None, marked(school, given), **places), settings, lines.append)
    assert lines[0].endswith(
        "not worse; marks 9.00 off, of the current model 4.00: difference 5.00 [5.00, 5.00]: worse"
    )


def test_recordings_of_a_few_groups_show_nothing_however_many_they_are(school: School, tmp_path: Path) -> None:
    given = school.by["candidate"]
    path = tmp_path / "labels.csv"
    for performers, enough in ((1, False), (9, False), (10, True)):
        rows = [
            f"{name},{grade},p{number % performers}\n" for number, (name, grade) in enumerate(sorted(given.items()))
        ]
        path.write_text("recording,grade,performer\n" + "".join(rows))
        models, evidence = school.models(tmp_path / f"models {performers}"), Evidence(school.recordings, str(path))
        if enough:
            assert promote(school.candidate, models, evidence, SETTINGS, print)
        else:
            with pytest.raises(UserError, match=r"24 labelled .* are there, 20 are needed, .* in 10 groups or more"):
                promote(school.candidate, models, evidence, SETTINGS, print)
            assert model_folder.current_id(models) == school.id("current")


def test_other_grades_a_first_model_and_a_race(school: School, tmp_path: Path) -> None:
    models = school.models(tmp_path / "models")
    other = publish(tmp_path / "other", seed=5, grades="gold,silver,bronze", trained=NONE)
    with pytest.raises(UserError, match="gives gold,silver,bronze, the current model A,B,C"):
        promote(other, models, Evidence(), replace(SETTINGS, why="x"), print)
    lines: list[str] = []
    assert promote(school.candidate, str(tmp_path / "first"), Evidence(), SETTINGS, lines.append)  # nothing to lose
    assert f"model {school.id('candidate')} follows none" in lines[0]

    def overtaken(line: str) -> None:
        open_store(models).put(CURRENT, b"0123456789abcdef\n")

    evidence = Evidence(school.recordings, school.labels(school.by["candidate"]))
    with pytest.raises(JobError, match="another model became current meanwhile: run the same command again"):
        promote(school.candidate, models, evidence, SETTINGS, overtaken)
    assert open_store(models).read(CURRENT).data == b"0123456789abcdef\n"


@pytest.mark.slow
def test_killed_at_any_write_the_same_command_gives_the_same_decision(
    school: School, folder_at: Callable[[str], str]
) -> None:
    labels = school.labels(school.by["candidate"])
    for number in range(1, 9):
        models = folder_at(str(number))
        model_folder.adopt(school.current, models)
        model_folder.switch(models, school.id("current"), None)
        compared = number == 5  # with the comparison once, since it costs seconds: where the pointer moves
        given = [f"--recordings={school.recordings}", f"--labels={labels}"] if compared else ["--force", "--why=x"]
        flags = [f"--candidate={school.candidate}", f"--models={models}", *given]
        if not killed_at_write(number, "promote", *flags):
            break
        assert model_folder.load(models)[0].model_id == school.id("current")
        evidence = Evidence(school.recordings, labels) if compared else Evidence()
        assert promote(school.candidate, models, evidence, SETTINGS if compared else replace(SETTINGS, why="x"), print)
        assert model_folder.load(models)[0].model_id == school.id("candidate")
        assert model_folder.trained_on(models) == NONE
        assert len(decisions(models, school.id("candidate"))) == 1
    assert number == 6  # after weights, card, what it was trained on, the decision, the pointer
