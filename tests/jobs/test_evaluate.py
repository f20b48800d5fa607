import json
from pathlib import Path

import numpy as np
import pytest

from samplecnn.architecture import NetworkSettings
from samplecnn.baselines import LOG_MEL, LOG_MEL_CNN, ONSETS, OUTER
from samplecnn.contract import DURATION_S, METRICS_CSV, METRICS_JSON, PREDICTIONS_CSV, RECORDING
from samplecnn.errors import JobError, UserError
from samplecnn.evaluation import MAJORITY, EvaluationSettings
from samplecnn.labels import LabelSettings
from samplecnn.pipelines import evaluate as evaluating
from samplecnn.pipelines.evaluate import evaluate
from samplecnn.pipelines.labelled import Labelled, labelled, recording_set
from samplecnn.pipelines.prepare import prepare
from samplecnn.pipelines.train import train
from samplecnn.recipe import FitSettings
from samplecnn.segment_folder import open_segments
from samplecnn.segments import SegmentSettings
from samplecnn.tables import read_csv

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
FIT = FitSettings(epochs=2, crops=4, batch_size=16)


@pytest.fixture(scope="module")
def segments(recordings, one_ray, tmp_path_factory) -> str:
    place = str(tmp_path_factory.mktemp("evaluate") / "segments")
    prepare(str(recordings[0]), place, SegmentSettings(sample_rate=100, segment_s=1.0, hop_s=1.0))
    return place


def evaluated(segments, labels, place, **changes) -> str:
    settings = EvaluationSettings(folds=changes.pop("folds", 3))
    places = [segments] if isinstance(segments, str) else segments
    network = NetworkSettings(depth=changes.pop("depth", 0))
    return evaluate(places, str(labels), str(place), LabelSettings(**changes), settings, network, FIT, seed=0)


@pytest.fixture(scope="module")
def evaluation(segments, recordings, tmp_path_factory) -> tuple[Path, str]:
    """(a place, what the evaluation that was written there said)."""
    place = tmp_path_factory.mktemp("evaluation")
    return place, evaluated(segments, recordings[1], place)


def test_every_labelled_recording_is_predicted_once_while_held_out(evaluation):
    place, said = evaluation
    predictions = read_csv((place / PREDICTIONS_CSV).read_bytes(), "predictions")
    assert len({row[RECORDING] for row in predictions}) == len(predictions) == 12
    for row in predictions:
        assert sum(float(row[f"p_{grade}"]) for grade in "ABC") == pytest.approx(1, abs=1e-5)
        assert 0 <= float(row["score"]) <= 1
    (metrics,) = json.loads((place / METRICS_JSON).read_text())["evaluations"]
    accuracy = np.mean([row["grade"] == row["predicted"] for row in predictions])
    assert metrics["graders"]["SampleCNN + rhythm"]["accuracy"]["value"] == pytest.approx(accuracy)
    table = read_csv((place / METRICS_CSV).read_bytes(), "metrics")
    networks = [LOG_MEL_CNN, "SampleCNN", "rhythm", "SampleCNN + rhythm"]
    if "course" in metrics["settings"]["merge"]:
        networks.append("SampleCNN + rhythm, mean of segments")
    assert [row["grader"] for row in table] == [MAJORITY, OUTER, LOG_MEL, ONSETS, *networks]
    assert all(float(row["cpu_s"]) >= 0 for row in table)  # in tenths
    assert 0.04 < metrics["model"]["temperature"] < 21
    assert all(float(row["kappa_low"]) <= float(row["kappa"]) <= float(row["kappa_high"]) for row in table)
    assert metrics["conclusion"] in said
    assert "majority" in said


def test_where_too_few_hold_enough_playing_that_is_said(recordings, tmp_path):
    place = str(tmp_path / "segments")
    prepare(str(recordings[0]), place, SegmentSettings(sample_rate=100, segment_s=600.0, hop_s=600.0))
    with pytest.raises(JobError, match=r"^12 of 12 labelled recordings hold too little playing.*--segment-s"):
        evaluated(place, recordings[1], tmp_path / "evaluation")
    how = (LabelSettings(), NetworkSettings(), FIT)
    with pytest.raises(JobError, match=r"^12 of 12 labelled recordings hold too little playing.*--segment-s"):
        train(place, str(recordings[1]), str(tmp_path / "model"), *how, seed=0)


def test_several_raters_are_told_apart_and_the_ceiling_stands_beside_the_model(segments, recordings, tmp_path):
    rows = read_csv(Path(recordings[1]).read_bytes(), "labels")
    lower = {"A": "B", "B": "C", "C": "C"}
    given = [(row["recording"], row["grade"], "ann") for row in rows]
    given += [(row["recording"], lower[row["grade"]], "ben") for row in rows]
    given += [(row["recording"], row["grade"], "cat") for row in rows[:6]]
    labels = tmp_path / "labels.csv"
    labels.write_text("recording,grade,rater\n" + "".join(f"{','.join(rating)}\n" for rating in given))
    said = evaluated(segments, labels, tmp_path / "evaluation")
    (metrics,) = json.loads((tmp_path / "evaluation" / METRICS_JSON).read_text())["evaluations"]
    raters = metrics["raters"]
    assert (raters["ratings"], raters["recordings"]) == (len(given), len(rows))
    assert raters["leniency"]["ann"] > raters["leniency"]["ben"] + 0.4
    assert f"a kappa of {raters['perfect_kappa']:.2f}." in said
    assert "ben is the strictest" in said
    predictions = read_csv((tmp_path / "evaluation" / PREDICTIONS_CSV).read_bytes(), "predictions")
    assert len({row[RECORDING] for row in predictions}) == len(predictions) == len(rows)


def test_a_wrong_evaluation_bucket_is_told_before_any_work(segments, recordings, gate, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gate.address)
    monkeypatch.setattr(evaluating, "ray_session", lambda workers: pytest.fail("work began"))
    with pytest.raises(UserError, match=r"^gs://no-such-bucket: no such bucket, or this account may not see it$"):
        evaluated(segments, recordings[1], "gs://no-such-bucket/evaluation")


def test_the_same_evaluation_gives_the_same_bytes_but_for_the_cost(evaluation, segments, recordings, tmp_path):
    evaluated(segments, recordings[1], tmp_path)
    one, two = ((place / PREDICTIONS_CSV).read_bytes() for place in (evaluation[0], tmp_path))
    assert one == two
    rows, again = (read_csv((place / METRICS_CSV).read_bytes(), "metrics") for place in (evaluation[0], tmp_path))
    assert [row | {"cpu_s": ""} for row in rows] == [row | {"cpu_s": ""} for row in again]


def test_a_performer_is_never_on_both_sides(segments, recordings, tmp_path):
    lines = recordings[1].read_text(encoding="utf-8").splitlines()[1:]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "recording,grade,performer\n" + "".join(f"{line},p{i // 2}\n" for i, line in enumerate(lines)), encoding="utf-8"
    )
    evaluated(segments, labels, tmp_path, folds=2)
    performer = {line.rpartition(",")[0]: i // 2 for i, line in enumerate(lines)}
    fold_of: dict[int, set[str]] = {}
    for row in read_csv((tmp_path / PREDICTIONS_CSV).read_bytes(), "predictions"):
        fold_of.setdefault(performer[row[RECORDING]], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in fold_of.values())


def test_a_sweep_evaluates_each_rate_and_crossed_groups_part_both(segments, recordings, tmp_path):
    lines = recordings[1].read_text(encoding="utf-8").splitlines()[1:]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "recording,grade,performer,piece\n" + "".join(f"{line},p{i // 2},m{i % 4}\n" for i, line in enumerate(lines)),
        encoding="utf-8",
    )
    faster = str(tmp_path / "at-200")
    prepare(str(recordings[0]), faster, SegmentSettings(sample_rate=200, segment_s=1.0, hop_s=1.0))
    said = evaluated([faster, segments], labels, tmp_path, group="performer,piece", folds=2)
    assert said.index("100 Hz, 12 recordings in 6 x 4 groups") < said.index("200 Hz")
    predictions = read_csv((tmp_path / PREDICTIONS_CSV).read_bytes(), "predictions")
    assert {row["sample_rate"] for row in predictions} == {"100", "200"}
    assert {row["fold"] for row in predictions} <= {"0", "1", "2", "3"}
    with pytest.raises(UserError, match="another one has 100 Hz too"):
        evaluated([segments, segments], labels, tmp_path)


def test_more_folds_than_recordings_are_refused(segments, recordings, tmp_path):
    with pytest.raises(UserError, match="--folds 40"):
        evaluated(segments, recordings[1], tmp_path, folds=40)


def test_a_network_that_does_not_fit_the_segments_is_refused_before_anything_is_trained(segments, recordings, tmp_path):
    with pytest.raises(UserError, match=r"^--depth 9: a segment of 100 samples has room for 4 pools$"):
        evaluated(segments, recordings[1], tmp_path, depth=9)


def test_an_unknown_group_is_refused(segments, recordings, tmp_path):
    with pytest.raises(UserError, match="--group teacher"):
        evaluated(segments, recordings[1], tmp_path, group="teacher")


def test_of_a_part_that_was_judged_nothing_else_is_learnt_from_and_one_past_the_end_is_refused(
    segments, recordings, tmp_path
):
    folder = open_segments(segments).recordings
    duration = dict(zip(*(folder[name].to_pylist() for name in (RECORDING, DURATION_S)), strict=True))
    rows = read_csv(Path(recordings[1]).read_bytes(), "labels")
    labels = tmp_path / "labels.csv"

    def learnt_from(end_s: float) -> Labelled:
        lines = [f"{row['recording']},{row['grade']},," for row in rows]
        lines[0] = f"{rows[0]['recording']},{rows[0]['grade']},0,{end_s}"
        labels.write_text("\n".join(["recording,grade,start_s,end_s", *lines]) + "\n")
        return labelled(segments, str(labels), LabelSettings())

    name = rows[0]["recording"]
    half = round(duration[name] / 2)
    part, whole = learnt_from(half), labelled(segments, str(recordings[1]), LabelSettings())
    names = part.recordings
    length_R = recording_set(part, str(tmp_path)).length_R
    (tmp_path / "whole").mkdir()
    whole_R = recording_set(whole, str(tmp_path / "whole")).length_R
    assert [a for a, b, c in zip(names, length_R, whole_R, strict=True) if b != c] == [name]
    assert length_R[names.index(name)] == half * 100
    asked = (NetworkSettings(), FIT, None)
    assert part.fingerprint(*asked) != whole.fingerprint(*asked)
    with pytest.raises(UserError, match=f"the part of '{name}' ends at {duration[name] + 9:g} s"):
        learnt_from(duration[name] + 9)
