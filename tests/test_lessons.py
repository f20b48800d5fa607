import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from samplecnn.architecture import Plan
from samplecnn.batches import epoch_items
from samplecnn.fit import fit
from samplecnn.lessons import Pairs, RecordingGrades, SegmentGrades
from samplecnn.network import SampleCNN
from samplecnn.recipe import FitSettings, UnlabelledSettings
from tests.fixtures.gloo import on_workers
from tests.fixtures.shards import graded_set

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = Plan(segment_samples=500, stride=5, pools=(5, 5, 2, 2), widths=(8, 8, 8, 16, 32))
QUICK = FitSettings(epochs=2, crops=2, batch_size=9, learning_rate=3e-3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return graded_set(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    return graded_set(tmp_path_factory.mktemp("valid"), recordings=3, first_seed=100)


def test_a_pair_is_two_copies_of_one_stretch_that_draw_alike(train):
    items = epoch_items(train, seed=0, epoch=0, crops=2, batch_size=6)
    heard = Pairs().batch(train, items.part(0, 6))
    assert heard.waveform_BT.shape == (12, 500)
    assert heard.key_B.tolist() == np.repeat(items.key_N[:6], 2).tolist()
    assert all((better_T != worse_T).any() for better_T, worse_T in zip(*[iter(heard.waveform_BT)] * 2, strict=True))


def test_a_network_is_charged_for_what_it_puts_the_wrong_way_round(train):
    outputs_BO = torch.tensor([[0.0, 3.0], [0.0, -3.0], [0.0, 0.0], [0.0, 0.0]])  # one pair right, one not told
    loss = float(Pairs().loss(outputs_BO, torch.zeros(4), None))
    assert loss == pytest.approx(math.log1p(math.exp(-6)) + math.log(2))
    assert float(Pairs().loss(outputs_BO.flip(0), torch.zeros(4), None)) == pytest.approx(
        math.log1p(math.exp(6)) + math.log(2)
    )


def test_no_grade_is_learnt_or_asked_for(train, valid):
    def curve(recordings, held):
        reports = fit(SampleCNN(PLAN, 2), recordings, held, QUICK, seed=1, device=CPU, lesson=Pairs())
        return [(r.train_loss, r.valid_loss, r.valid_accuracy, r.valid_kappa) for r in reports]

    one = replace(train, grade_R=np.zeros_like(train.grade_R))
    told = curve(one, replace(valid, grade_R=np.zeros_like(valid.grade_R)))
    other = curve(one, replace(valid, grade_R=np.full_like(valid.grade_R, 2)))
    assert told == other
    assert all(kappa is None and 0 <= right <= 1 for _, _, right, kappa in told)


def _curve(rank, train, valid):
    reports = fit(SampleCNN(PLAN, 2), train, valid, QUICK, seed=1, device=CPU, lesson=Pairs())
    return [[r.train_loss, r.valid_loss, r.valid_accuracy] for r in reports]


def test_two_workers_have_the_loss_curve_of_one(train, valid):
    left, right = on_workers(2, _curve, train, valid)
    assert left == right
    np.testing.assert_allclose(left, _curve(0, train, valid), atol=5e-4)


def test_learning_without_labels_is_a_fit_from_nothing_with_settings_of_its_own():
    settings = UnlabelledSettings(epochs=3)
    assert (settings.fit().epochs, settings.fit().init) == (3, "none")
    assert not settings.fit().attention


@pytest.mark.parametrize("lesson", [SegmentGrades("cross-entropy"), RecordingGrades("cross-entropy", together=2)])
def test_a_recording_whose_label_is_relied_on_twice_as_much_is_charged_twice_as_much(train, lesson):
    items = epoch_items(train, seed=0, epoch=0, crops=2, batch_size=6, together=lesson.together).part(0, 2)
    outputs_BO, attention_B = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    once, twice = (
        float(lesson.loss(outputs_BO, attention_B, lesson.batch(replace(train, weight_R=weight_R), items)))
        for weight_R in (train.weight_R, 2 * train.weight_R)
    )
    assert train.weight_R.tolist() == [1] * len(train)
    assert twice == pytest.approx(2 * once)


@pytest.mark.parametrize("lesson", [SegmentGrades("coral"), RecordingGrades("coral", together=2)])
def test_what_lies_between_two_grades_is_charged_for_both_by_its_share(train, lesson):
    items = epoch_items(train, seed=0, epoch=0, crops=2, batch_size=6, together=lesson.together).part(0, 2)
    outputs_BO, attention_B = torch.randn(2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(2)

    def charged(grade, lean):
        taught = replace(train, grade_R=np.full(len(train), grade), lean_R=np.full(len(train), lean, np.float32))
        return float(lesson.loss(outputs_BO, attention_B, lesson.batch(taught, items)))

    assert charged(1, 0.25) == pytest.approx(0.75 * charged(1, 0.0) + 0.25 * charged(2, 0.0))
    assert charged(2, -0.25) == pytest.approx(0.25 * charged(1, 0.0) + 0.75 * charged(2, 0.0))


@pytest.mark.parametrize("lesson", [SegmentGrades("coral"), RecordingGrades("coral", together=2)])
def test_a_recording_held_back_is_examined_by_its_place_between_grades(train, lesson):
    network = SampleCNN(PLAN, 3, "coral").eval()

    def loss(grade, lean):
        one = replace(train, grade_R=np.full(len(train), grade), lean_R=np.full(len(train), lean, np.float32))
        return lesson.examine(network, one, 0, CPU).loss

    assert loss(0, 0.5) == pytest.approx((loss(0, 0.0) + loss(1, 0.0)) / 2)
