"""A corpus is a pure function of its settings, its files are as planned, and nothing but the playing is graded."""

import csv
import io
import math
import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from samplecnn.errors import UserError
from samplecnn.performances.corpus import (
    GRADES,
    CorpusSettings,
    PlannedRecording,
    labels_csv,
    perform_recording,
    plan_corpus,
    render_recording,
    truth_csv,
    write_corpus,
)
from samplecnn.performances.files import FORMATS
from samplecnn.performances.instrument import Samples
from samplecnn.performances.pieces import PIECES
from samplecnn.performances.player import FAULTS

SHORT = {"shortest_s": 10.0, "longest_s": 12.0}


def decode(path: str) -> Samples:
    with av.open(path) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        stream = container.streams.audio[0]
        samples = np.concatenate(frames, axis=1)
        if not stream.format.is_planar:
            samples = samples.reshape(-1, stream.channels).T
        scale = 32768.0 if samples.dtype == np.int16 else 1.0
        return np.asarray(samples / scale, np.float32)


def predicted_share(features: np.ndarray, plan: list[PlannedRecording], shuffles: int) -> tuple[float, float, float]:
    """Accuracy of grades from these features on new performers, and between what bounds 95 % of chance lies."""
    grade = np.array([planned.grade for planned in plan])
    performer = np.array([planned.performer for planned in plan])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))

    def accuracy(target: np.ndarray) -> float:
        with threadpool_limits(1):  # small matrices: threads only wait for each other
            guessed = cross_val_predict(model, features, target, groups=performer, cv=GroupKFold(5))
        return float(np.mean(guessed == target))

    rng = np.random.default_rng(0)
    people = np.unique(performer)
    grade_of = {person: grade[performer == person][0] for person in people}
    chance = []
    for _ in range(shuffles):  # whole performers change grades, so that chance has the same groups
        dealt = dict(zip(people, rng.permutation([grade_of[person] for person in people]), strict=True))
        chance.append(accuracy(np.array([dealt[person] for person in performer])))
    return accuracy(grade), float(np.quantile(chance, 0.025)), float(np.quantile(chance, 0.975))


def nuisances(planned: PlannedRecording) -> list[float]:
    sound = planned.sound
    columns = [
        planned.duration_s,
        planned.tempo_bpm / PIECES[planned.piece].tempo_bpm,
        planned.touch,
        planned.sample_rate,
        planned.channels,
        len(planned.name),
        int(planned.name.split("-")[1].split()[0]),
        sound.level_dbfs,
        sound.tuning_cents,
        sound.lead_s,
        sound.tail_s,
        sound.noise.hiss_dbfs,
        sound.noise.hum_dbfs,
        sound.noise.hum_hz,
        sound.noise.rumble_dbfs,
        sound.room.tilt_db,
        sound.room.reverberation_s,
        sound.instrument.darkness,
        sound.instrument.decay_s,
    ]
    options = (("format", FORMATS), ("piece", PIECES), ("instrument", ("grand", "concert", "upright", "felt")))
    columns += [float(getattr(planned, name) == option) for name, values in options for option in values]
    return [float(column) for column in columns]


def test_demo_has_five_of_each_grade_by_nine_performers_over_eight_pieces() -> None:
    plan = plan_corpus(CorpusSettings())
    assert Counter(planned.grade for planned in plan) == {"A": 5, "B": 5, "C": 5}
    assert len({planned.performer for planned in plan}) == 9
    assert len({planned.piece for planned in plan}) == 8
    assert Counter(planned.format for planned in plan) == dict.fromkeys(FORMATS, 3)
    assert {planned.channels for planned in plan} == {1, 2}
    assert {planned.sample_rate for planned in plan} == {44100, 48000}
    for grade in GRADES:  # a piece that is played twice is heard in two grades
        assert len({planned.piece for planned in plan if planned.grade == grade}) == 5
    names = [planned.name for planned in plan]
    assert len(set(names)) == 15
    assert all(" " in name for name in names)
    assert any(not name.isascii() for name in names)


def test_skill_of_a_performer_varies_little_and_grades_lie_apart() -> None:
    plan = plan_corpus(CorpusSettings(seed=3, count=60, performers=20))
    for performer in {planned.performer for planned in plan}:
        skills = [planned.skill for planned in plan if planned.performer == performer]
        assert np.ptp(skills) < 0.15
        assert len({planned.grade for planned in plan if planned.performer == performer}) == 1
    bands = [[planned.skill for planned in plan if planned.grade == grade] for grade in GRADES]
    for worse, better in pairwise(bands):
        assert min(better) - max(worse) >= 0.2 - 1e-9
    even = plan_corpus(CorpusSettings(seed=3, count=60, performers=20, gap=0.0))
    for planned in even:
        assert planned.grade == GRADES[min(int(planned.skill * 3), 2)]


def test_same_settings_give_the_same_plan_and_another_seed_another() -> None:
    assert plan_corpus(CorpusSettings(seed=5)) == plan_corpus(CorpusSettings(seed=5))
    assert plan_corpus(CorpusSettings(seed=5)) != plan_corpus(CorpusSettings(seed=6))


def test_later_performers_are_other_people() -> None:
    known = plan_corpus(CorpusSettings())
    new = plan_corpus(CorpusSettings(count=6, performers=6, first_performer=100, prefix="new"))
    assert not {planned.performer for planned in known} & {planned.performer for planned in new}
    assert not {planned.name for planned in known} & {planned.name for planned in new}
    assert Counter(planned.grade for planned in new) == dict.fromkeys(GRADES, 2)


@pytest.mark.parametrize("count", [1, 2, 4, 16, 301])
def test_any_number_of_recordings_can_be_planned(count: int) -> None:
    plan = plan_corpus(CorpusSettings(count=count, performers=min(count, 31)))
    grades = Counter(planned.grade for planned in plan)
    assert len(plan) == count
    assert max(grades.values()) - min(grades.values()) <= 1
    assert {planned.performer for planned in plan} == {f"p{number:02d}" for number in range(min(count, 31))}
    assert all(92.0 <= planned.duration_s <= 148.0 for planned in plan)


def test_pieces_instruments_and_faults_can_be_held_out() -> None:
    settings = CorpusSettings(count=30, pieces="ode, elise", instruments="felt", rooms="hall", formats="wav")
    plan = plan_corpus(settings)
    assert {planned.piece for planned in plan} == {"ode", "elise"}
    assert {(planned.instrument, planned.room, planned.format) for planned in plan} == {("felt", "hall", "wav")}

    plan = plan_corpus(CorpusSettings(count=30, performers=30, faults="tempo_slide,dynamics_fade"))
    grades = np.array([GRADES.index(planned.grade) for planned in plan])
    for name in FAULTS:
        logs = np.log([getattr(planned.faults, name) for planned in plan])
        correlation = np.corrcoef(grades, logs)[0, 1]
        if name in ("tempo_slide", "dynamics_fade"):
            assert correlation < -0.8
        else:
            assert abs(correlation) < 0.6
            assert np.ptp(logs) < 4.0
    assert abs(np.corrcoef(grades, [planned.expression.rubato for planned in plan])[0, 1]) < 0.6


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"performers": 2},
        {"performers": 16},
        {"gap": 0.5},
        {"shortest_s": 5.0},
        {"longest_s": 80.0},
        {"shortest_s": 10.0, "longest_s": math.inf},
        {"first_performer": -1},
        {"other_skill": 1.5},
        {"pieces": "ode,oed"},
        {"faults": "laziness"},
        {"prefix": "a/b"},
    ],
)
def test_impossible_settings_are_refused_in_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong)).split('_')[0]}") as refusal:
        CorpusSettings(**wrong)
    assert "\n" not in str(refusal.value)


def test_nothing_planned_but_the_playing_predicts_the_grade() -> None:
    plan = plan_corpus(CorpusSettings(seed=1, count=180, performers=60))
    found, low, high = predicted_share(np.array([nuisances(planned) for planned in plan]), plan, shuffles=40)
    assert low <= found <= high
    faults = np.array([[np.log(getattr(planned.faults, name)) for name in FAULTS] for planned in plan])
    assert predicted_share(faults, plan, shuffles=1)[0] > 0.9  # the same test finds what is there


def test_loudness_noise_colour_and_length_of_rendered_recordings_do_not_predict_the_grade() -> None:
    plan = plan_corpus(CorpusSettings(seed=2, count=36, performers=36, shortest_s=18.0, longest_s=22.0))
    features = []
    for planned in plan:
        samples = render_recording(planned, sample_rate=16000, channels=1)[0]
        power = np.abs(np.fft.rfft(samples)) ** 2
        before = samples[: int(0.9 * planned.sound.lead_s * 16000)]
        features.append(
            [
                np.log(np.mean(samples**2)),
                np.log(np.mean(before**2)),
                np.log((power * np.arange(len(power))).sum() / power.sum()),
                len(samples),
            ]
        )
    found, low, high = predicted_share(np.array(features), plan, shuffles=40)
    assert low <= found <= high


def test_files_are_what_was_planned_in_every_format(tmp_path: Path) -> None:
    folder = os.path.join(str(tmp_path), "recordings")
    plan = plan_corpus(CorpusSettings(count=10, performers=5, **SHORT))
    assert {planned.format for planned in plan} == set(FORMATS)
    assert write_corpus(folder, plan, workers=1) == 10
    assert sorted(os.listdir(folder)) == sorted(planned.name for planned in plan)
    for planned in plan:
        path = os.path.join(folder, planned.name)
        with av.open(path) as container:
            stream = container.streams.audio[0]
            assert (stream.rate, stream.channels) == (planned.sample_rate, planned.channels)
            assert container.duration / av.time_base == pytest.approx(planned.duration_s, abs=0.15)
        decoded, rendered = decode(path), render_recording(planned)
        level, expected = (float(np.sqrt(np.mean(samples**2))) for samples in (decoded, rendered))
        assert level == pytest.approx(expected, rel=0.08)  # Opus takes off 5 %
        if not FORMATS[planned.format].bit_rate:
            assert np.abs(decoded - rendered).max() < 1e-4


def test_two_processes_write_the_same_bytes_as_one_and_intact_files_are_kept(tmp_path: Path) -> None:
    one, two = os.path.join(str(tmp_path), "one"), os.path.join(str(tmp_path), "two")
    plan = plan_corpus(CorpusSettings(count=5, performers=5, **SHORT))
    write_corpus(one, plan, workers=1)
    write_corpus(two, plan, workers=2)

    def contents(folder: str) -> dict[str, bytes]:
        found = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                found[name] = file.read()
        return found

    before = contents(one)
    assert contents(two) == before
    assert write_corpus(one, plan, workers=1) == 0

    for planned in plan[:4]:  # cut short, emptied, gone, of another plan: made again
        path = os.path.join(one, planned.name)
        if planned is plan[2]:
            os.remove(path)
        elif planned is not plan[3]:
            with open(path, "r+b") as file:
                file.truncate(0 if planned is plan[1] else len(before[planned.name]) // 2)
    write_corpus(one, [replace(plan[3], seed=plan[3].seed + 1)], workers=1)
    assert write_corpus(one, plan, workers=1) == 4
    assert contents(one) == before


def test_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match="local folder"):
        write_corpus("gs://bucket/recordings", plan_corpus(CorpusSettings()))


def test_labels_hold_the_grades_and_only_the_truth_holds_the_rest() -> None:
    plan = plan_corpus(CorpusSettings())
    labels = list(csv.DictReader(io.StringIO(labels_csv(plan).decode())))
    assert list(labels[0]) == ["recording", "grade", "performer", "piece", "session"]
    assert [row["recording"] for row in labels] == [planned.name for planned in plan]
    truth = list(csv.DictReader(io.StringIO(truth_csv(plan).decode())))
    assert float(truth[3]["skill"]) == pytest.approx(plan[3].skill, rel=1e-4)
    assert float(truth[3]["faults.timing_noise_s"]) == pytest.approx(plan[3].faults.timing_noise_s, rel=1e-4)
    assert float(truth[3]["sound.noise.hiss_dbfs"]) == pytest.approx(plan[3].sound.noise.hiss_dbfs, rel=1e-4)


def test_worse_players_are_heard_to_be_worse_in_the_notes_of_a_plan() -> None:
    plan = plan_corpus(CorpusSettings(seed=4, count=60, performers=60))
    faulty = {
        grade: np.mean([np.mean(perform_recording(p).kind_N != 0) for p in plan if p.grade == grade])
        for grade in GRADES
    }
    assert faulty["A"] < faulty["B"] < faulty["C"]
