from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from samplecnn import metrics as scores
from samplecnn.metrics import Metrics, conclusion, kappa, log_loss, ranked_probability_score


def evaluate(given_R, predicted_R, grades, groups, seed) -> Metrics:
    """A grader that is sure of what it states."""
    return scores.evaluate(given_R, predicted_R, np.eye(grades)[predicted_R], groups, seed)


grades = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


@given(pairs=grades)
def test_kappa_is_scikit_learns_quadratic_kappa(pairs):
    given_R, predicted_R = np.array(pairs).T
    assume(np.ptp(given_R) and np.ptp(predicted_R))
    assert kappa(given_R, predicted_R) == pytest.approx(
        cohen_kappa_score(given_R, predicted_R, weights="quadratic", labels=range(4))
    )


def test_a_constant_grader_has_no_kappa():
    assert kappa(np.array([0, 1, 2]), np.array([1, 1, 1])) == 0.0


def test_a_perfect_grader_is_told_from_chance():
    given_R = np.tile([0, 1, 2], 10)
    metrics = evaluate(given_R, given_R, 3, [str(i) for i in range(30)], seed=0)
    assert (metrics.accuracy.value, metrics.kappa.value, metrics.mae.value) == (1.0, 1.0, 0.0)
    assert metrics.rps.value == metrics.log_loss.value == metrics.off_by_two == 0
    assert metrics.spearman == pytest.approx(1)
    assert metrics.p_value < 0.01
    assert metrics.confusion == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert "better than chance" in conclusion(metrics, 1 / 3)


def test_shuffled_grades_are_chance():
    rng = np.random.default_rng(0)
    given_R = np.tile([0, 1, 2], 50)
    metrics = evaluate(given_R, rng.permutation(given_R), 3, [str(i) for i in range(150)], seed=0)
    assert metrics.kappa.low < 0 < metrics.kappa.high
    assert metrics.p_value > 0.05
    assert "cannot be told from chance" in conclusion(metrics, 1 / 3)


def test_p_values_of_chance_are_uniform_even_where_performers_hold_all_their_grades():
    rng = np.random.default_rng(1)
    groups = [str(i // 5) for i in range(30)]  # 6 performers, all recordings of one graded alike
    p_values = []
    for seed in range(30):
        given_R, predicted_R = (np.repeat(rng.permutation([0, 0, 1, 1, 2, 2]), 5) for _ in range(2))
        p_values.append(evaluate(given_R, predicted_R, 3, groups, seed).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15  # 0.05 expected; shuffling recordings one by one gives 0.4


@pytest.mark.parametrize("sizes", [(7,) * 9, (20, 20, 4, 4, 4, 4, 2, 2)])
def test_graders_that_know_only_the_performer_are_seldom_called_better_than_chance(sizes):
    rng = np.random.default_rng(2)
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    p_values, above_chance = [], 0
    for seed in range(30):
        given_R, predicted_R = (np.repeat(rng.integers(0, 3, len(sizes)), sizes) for _ in range(2))
        metrics = evaluate(given_R, predicted_R, 3, groups, seed)
        p_values.append(metrics.p_value)
        above_chance += metrics.accuracy.low > 1 / 3
    assert np.mean(np.array(p_values) <= 0.05) <= 0.14
    assert above_chance / 30 <= 0.2  # an interval that takes recordings for independent trials: 0.3


def test_a_perfect_grader_is_told_from_chance_where_every_piece_was_played_in_every_grade():
    given_R = np.tile([0, 1, 2], 10)
    assert evaluate(given_R, given_R, 3, [str(i // 3) for i in range(30)], seed=0).p_value < 0.01


def test_intervals_are_wider_over_few_performers():
    rng = np.random.default_rng(0)
    given_R = np.repeat([0, 1, 2], 20)
    predicted_R = np.repeat(np.clip(np.repeat([0, 1, 2], 2) + rng.integers(-1, 2, 6), 0, 2), 10)
    alone, grouped = (
        evaluate(given_R, predicted_R, 3, [str(i // size) for i in range(60)], seed=0).kappa for size in (1, 10)
    )
    assert grouped.high - grouped.low > alone.high - alone.low


def test_probabilities_are_scored_as_the_formulas_say():
    given_R, probs_RG = np.array([0, 2]), np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]])
    assert log_loss(given_R, probs_RG).tolist() == [pytest.approx(np.log(2)), np.inf]
    assert ranked_probability_score(given_R, probs_RG).tolist() == pytest.approx([(0.25 + 0.0625) / 2, (0.25 + 1) / 2])


def test_a_grader_that_ruled_a_given_grade_out_has_no_log_loss():
    metrics = evaluate(np.array([0, 2, 1]), np.array([2, 2, 1]), 3, list("abc"), seed=0)
    assert metrics.log_loss is None
    assert metrics.off_by_two == 1
    assert metrics.rps.value == pytest.approx(1 / 3)


def test_a_p_value_that_chance_gives_too_often_claims_nothing():
    given_R = np.tile([0, 1, 2], 10)
    metrics = evaluate(given_R, given_R, 3, [str(i) for i in range(30)], seed=0)
    assert "better than chance" in conclusion(replace(metrics, p_value=0.01), 1 / 3)
    assert "cannot be told from chance" in conclusion(replace(metrics, p_value=0.03), 1 / 3)
