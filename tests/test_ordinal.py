import pytest
import torch

from samplecnn.ordinal import HEADS


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("grades", [2, 3, 5])
def test_probabilities_of_every_head_add_up_to_one(name, grades):
    head = HEADS[name]
    outputs = torch.randn(20, head.outputs(grades), generator=torch.Generator().manual_seed(0)) * 5

    probs = head.probs(outputs)

    assert probs.shape == (20, grades)
    assert probs.dtype == torch.float64
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("name", HEADS)
def test_following_the_loss_of_every_head_finds_the_grade(name):
    head = HEADS[name]
    grade = torch.tensor([0, 1, 2, 2])
    outputs = torch.zeros(4, head.outputs(3), requires_grad=True)
    for _ in range(20):
        loss = head.loss(outputs, grade)
        assert loss.shape == (4,)
        (gradient,) = torch.autograd.grad(loss.sum(), outputs)
        outputs = (outputs - 5 * gradient).detach().requires_grad_()

    assert head.probs(outputs).argmax(1).tolist() == grade.tolist()
