import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from samplecnn.network import he_uniform
from samplecnn.ordinal import HEADS

every_head = pytest.mark.parametrize("name", HEADS)
HUGE = 1e30


@st.composite
def batches(draw, head):
    """(outputs_BO float32, grade_B), outputs small and huge."""
    grades, rows = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    numbers = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([0.0, -HUGE, HUGE, 1e-30, 88.0, -104.0]))
    width = head.outputs(grades)
    outputs = draw(st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=rows, max_size=rows))
    grade = draw(st.lists(st.integers(0, grades - 1), min_size=rows, max_size=rows))
    return torch.tensor(outputs), torch.tensor(grade), grades


@every_head
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_probabilities_of_every_head_are_probabilities_and_beyond_never_rises(name, data):
    outputs_BO, _, grades = data.draw(batches(HEADS[name]))

    for temperature in (0.05, 1.0, 20.0, 1e9):
        probs_BG = HEADS[name].probs(outputs_BO / temperature)

        assert probs_BG.shape == (len(outputs_BO), grades)
        assert probs_BG.dtype == torch.float64
        assert torch.isfinite(probs_BG).all()
        assert (probs_BG >= 0).all()
        np.testing.assert_allclose(probs_BG.sum(1), 1, rtol=0, atol=1e-12)
        beyond_BK = probs_BG.flip(1).cumsum(1).flip(1)[:, 1:]
        assert (beyond_BK.diff(dim=1) <= 0).all()


@every_head
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_growing_temperature_takes_every_head_to_equal_shares_of_the_grades(name, data):
    grades = data.draw(st.integers(2, 6))
    width = HEADS[name].outputs(grades)
    outputs_BO = torch.tensor(
        [data.draw(st.lists(st.floats(-20, 20, width=32), min_size=width, max_size=width))], dtype=torch.float32
    )

    furthest = [
        (HEADS[name].probs(outputs_BO / temperature) - 1 / grades).abs().max().item() for temperature in (1e2, 1e4, 1e6)
    ]

    assert furthest[0] < 0.25
    assert furthest[1] < 0.005
    assert furthest[2] < 5e-5


@every_head
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_losses_of_every_head_are_finite_and_so_are_their_gradients(name, data):
    outputs_BO, grade_B, _ = data.draw(batches(HEADS[name]))
    outputs_BO.requires_grad_()

    loss_B = HEADS[name].loss(outputs_BO, grade_B)

    assert loss_B.shape == grade_B.shape
    assert torch.isfinite(loss_B).all()
    assert (loss_B >= 0).all()
    (gradient,) = torch.autograd.grad(loss_B.sum(), outputs_BO)
    assert torch.isfinite(gradient).all()


@every_head
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_segment_s_loss_and_probabilities_are_its_own(name, data):
    outputs_BO, grade_B, _ = data.draw(batches(HEADS[name]))
    order = torch.tensor(data.draw(st.permutations(range(len(grade_B)))))

    loss_B, probs_BG = HEADS[name].loss(outputs_BO, grade_B), HEADS[name].probs(outputs_BO)

    torch.testing.assert_close(HEADS[name].loss(outputs_BO[order], grade_B[order]), loss_B[order])
    torch.testing.assert_close(HEADS[name].probs(outputs_BO[order]), probs_BG[order])


@every_head
def test_with_two_grades_every_head_is_binary_cross_entropy(name):
    outputs_BO = torch.randn(50, HEADS[name].outputs(2), generator=torch.Generator().manual_seed(0)) * 3
    grade_B = torch.arange(50) % 2
    # Of two logits what counts is how far they lie apart.
    logit_B = outputs_BO[:, 0] if outputs_BO.shape[1] == 1 else outputs_BO[:, 1] - outputs_BO[:, 0]

    expected = functional.binary_cross_entropy_with_logits(logit_B, grade_B.float(), reduction="none")

    torch.testing.assert_close(HEADS[name].loss(outputs_BO, grade_B), expected)
    torch.testing.assert_close(HEADS[name].probs(outputs_BO)[:, 1], torch.sigmoid(logit_B.double()))


@pytest.mark.parametrize("name", ["cross-entropy", "corn"])
def test_these_losses_are_the_negative_log_likelihood_of_the_grade(name):
    outputs_BO = torch.randn(60, HEADS[name].outputs(4), generator=torch.Generator().manual_seed(0)) * 2
    grade_B = torch.arange(60) % 4

    likelihood_B = HEADS[name].probs(outputs_BO)[torch.arange(60), grade_B]

    torch.testing.assert_close(
        HEADS[name].loss(outputs_BO, grade_B).double(), -likelihood_B.log(), rtol=1e-5, atol=1e-6
    )


def test_coral_s_loss_and_probabilities_by_hand():
    # Log-odds over those of equal shares, 2 and 1/2: beyond the first step lie 3/4, beyond the second 1/4.
    outputs_BK = torch.tensor([[math.log(3 / 2), math.log(1 / 3 * 2)]])

    probs_BG = HEADS["coral"].probs(outputs_BK)
    losses = [HEADS["coral"].loss(outputs_BK, torch.tensor([grade])).item() for grade in range(3)]

    assert probs_BG[0].tolist() == pytest.approx([1 / 4, 1 / 2, 1 / 4])
    of_grades = [-math.log(1 / 4) - math.log(3 / 4), -math.log(3 / 4) * 2, -math.log(3 / 4) - math.log(1 / 4)]
    assert losses == pytest.approx(of_grades)


def test_corn_s_probabilities_are_the_chain_of_its_steps():
    # Log-odds over those of equal shares, 2 and 1: beyond the first step lie 3/4, beyond the second 1/4 of these.
    outputs_BK = torch.tensor([[math.log(3 / 2), math.log(1 / 3)]])

    assert HEADS["corn"].probs(outputs_BK)[0].tolist() == pytest.approx([1 / 4, 3 / 4 * 3 / 4, 3 / 4 * 1 / 4])


@every_head
@pytest.mark.parametrize("grades", [2, 3, 5])
def test_every_head_s_layer_begins_with_all_grades_alike(name, grades):
    layer = HEADS[name].layer(7, grades)
    he_uniform(layer, seed=0)

    outputs_BO = layer(torch.zeros(4, 7))

    assert outputs_BO.shape == (4, HEADS[name].outputs(grades))
    np.testing.assert_allclose(HEADS[name].probs(outputs_BO).detach(), 1 / grades, atol=1e-6)


def test_coral_shares_one_weight():
    layer = HEADS["coral"].layer(7, 4)

    assert sum(p.numel() for p in layer.parameters()) == 7 + 3
    steps_BK = layer(torch.randn(5, 7)).diff(dim=1)
    torch.testing.assert_close(steps_BK, steps_BK[:1].expand(5, -1))


@every_head
def test_following_the_loss_of_every_head_finds_the_grade(name):
    head = HEADS[name]
    grade = torch.tensor([0, 1, 2, 2])
    outputs = torch.zeros(4, head.outputs(3), requires_grad=True)
    for _ in range(20):
        (gradient,) = torch.autograd.grad(head.loss(outputs, grade).sum(), outputs)
        outputs = (outputs - 5 * gradient).detach().requires_grad_()

    assert head.probs(outputs).argmax(1).tolist() == grade.tolist()


@every_head
@given(grades=st.integers(2, 8), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_outputs_of_is_the_inverse_of_probs(name, grades, seed):
    head = HEADS[name]
    rng = np.random.default_rng(seed)
    probs_BG = torch.from_numpy(0.98 * rng.dirichlet(np.ones(grades), 6) + 0.02 / grades)

    outputs_BO = head.outputs_of(probs_BG)

    assert outputs_BO.shape == (6, head.outputs(grades))
    torch.testing.assert_close(head.probs(outputs_BO), probs_BG, atol=1e-9, rtol=0)
    equal_BG = torch.full((1, grades), 1 / grades, dtype=torch.float64)
    torch.testing.assert_close(
        head.outputs_of(equal_BG), torch.zeros(1, head.outputs(grades)).double(), atol=1e-9, rtol=0
    )
