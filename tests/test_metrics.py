from dataclasses import replace
from itertools import product
from math import factorial

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from samplecnn import metrics as scores
from samplecnn.metrics import (
    Metrics,
    chance_kappa,
    conclusion,
    kappa,
    log_loss,
    ranked_probability_score,
    risk_coverage,
)


def evaluate(given_R, predicted_R, grades, groups, seed) -> Metrics:
    """A grader that is sure of what it states."""
    columns = [groups] if isinstance(groups[0], str) else groups
    return scores.evaluate(given_R, predicted_R, np.eye(grades)[predicted_R], columns, seed)


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
    assert "better than chance" in conclusion(metrics, 1 / 3, 0.4)


def test_shuffled_grades_are_chance():
    rng = np.random.default_rng(0)
    given_R = np.tile([0, 1, 2], 50)
    metrics = evaluate(given_R, rng.permutation(given_R), 3, [str(i) for i in range(150)], seed=0)
    assert metrics.kappa.low < 0 < metrics.kappa.high
    assert metrics.p_value > 0.05
    assert "cannot be told from chance" in conclusion(metrics, 1 / 3, 0.4)


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
    assert "better than chance" in conclusion(replace(metrics, p_value=0.01), 1 / 3, 0.4)
    assert "cannot be told from chance" in conclusion(replace(metrics, p_value=0.03), 1 / 3, 0.4)


def crossed(rng, performers=10, pieces=9):
    """[performers, pieces] of a design in which everybody plays everything."""
    return [
        [f"performer {i}" for i in range(performers) for _ in range(pieces)],
        [str(i) for i in range(pieces)] * performers,
    ]


def test_grades_that_go_by_the_piece_are_no_skill_though_performers_are_many():
    rng = np.random.default_rng(3)
    columns = crossed(rng)
    by_first, by_both = [], []
    for seed in range(20):
        given_R, predicted_R = (np.tile(rng.permutation([0, 1, 2] * 3), 10) for _ in range(2))
        for columns_used, found in ((columns[:1], by_first), (columns, by_both)):
            found.append(evaluate(given_R, predicted_R, 3, columns_used, seed))
    assert np.mean([metrics.p_value <= 0.05 for metrics in by_first]) > 0.2
    assert np.mean([metrics.p_value <= 0.05 for metrics in by_both]) <= 0.1
    off_zero = [np.mean([not m.kappa.low <= 0 <= m.kappa.high for m in found]) for found in (by_first, by_both)]
    assert off_zero[0] > 0.5
    assert off_zero[1] <= 0.2


@pytest.mark.parametrize("wrong", [0, 1])
def test_few_recordings_do_not_show_a_grader_that_errs_nowhere(wrong):
    given_R = np.tile([0, 1, 2], 5)
    predicted_R = given_R.copy()
    predicted_R[:wrong] += 1
    metrics = evaluate(given_R, predicted_R, 3, [str(i) for i in range(15)], seed=0)
    # Clopper-Pearson's least accuracy is 0.78 of 15 right, 0.68 of 14; two given grades drawn by chance are the same
    # one time in three, so that 0.22 more wrong is 0.33 more graded by chance.
    assert metrics.accuracy.low == pytest.approx([0.782, 0.681][wrong], abs=1e-3)
    assert metrics.kappa.low == pytest.approx([0.673, 0.590][wrong], abs=2e-3)
    assert metrics.mae.high == pytest.approx([0.291, 0.379][wrong], abs=2e-3)
    assert metrics.kappa.high <= 1
    assert metrics.mae.low >= 0


def test_how_often_five_of_each_grade_reach_a_kappa_by_chance():
    weights_GG = (np.arange(3)[:, None] - np.arange(3)) ** 2
    chance = {0.40: 0.0, 0.50: 0.0}
    for a, b, c, d in product(range(6), repeat=4):  # how often each grade was stated where each was given, all ways
        table = np.array([[a, b, 5 - a - b], [c, d, 5 - c - d], [5 - a - c, 5 - b - d, a + b + c + d - 5]])
        if table.min() < 0:
            continue
        probability = factorial(5) ** 6 / factorial(15) / np.prod([factorial(count) for count in table.ravel()])
        kappa_of_table = 1 - (table * weights_GG).sum() / (5 / 3 * weights_GG).sum()
        for reached in chance:
            chance[reached] += probability * (kappa_of_table >= reached - 1e-9)
    assert chance == {0.40: pytest.approx(0.097, abs=5e-4), 0.50: pytest.approx(0.046, abs=5e-4)}  # docs/evaluation.md


def test_what_chance_reaches_is_told_of_these_very_recordings():
    def limit(given_R, columns):
        found = chance_kappa(np.array(given_R), columns, seed=0)
        told = conclusion(evaluate(np.array(given_R), np.array(given_R), 3, columns, seed=0), 1 / 3, found)
        assert f"a kappa of {found:.2f} or less is not distinguishable from chance" in told
        return found

    alone = [str(i) for i in range(15)]
    five_of_each = np.array([0, 1, 2] * 5)
    assert limit(five_of_each, [alone]) == pytest.approx(0.40)
    assert limit([0, 1, 2] * 20, [[str(i) for i in range(60)]]) < 0.3
    by_five = [str(i // 3) for i in range(15)]
    assert limit([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 2, 2, 2], [by_five]) > 0.6
    assert limit([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 2, 2, 2], [alone, by_five]) > 0.6


def test_a_risk_coverage_curve_counts_the_errors_among_the_surest():
    given_R = np.array([0, 1, 2, 2, 0])
    curve = risk_coverage(given_R, np.array([2, 1, 2, 1, 0]), np.array([0.3, 0.9, 0.5, 0.4, 0.5]))
    assert curve.confidence_K.tolist() == [0.9, 0.5, 0.4, 0.3]
    assert curve.coverage_K == pytest.approx([0.2, 0.6, 0.8, 1])
    assert curve.error_rate_K == pytest.approx([0, 0, 1 / 4, 2 / 5])
    assert curve.mae_K == pytest.approx([0, 0, 1 / 4, 3 / 5])
    assert curve.area == curve.ideal_area == pytest.approx((1 / 4 + 2 / 5) / 5)


@given(
    told=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.2, 0.5, 0.8])), min_size=1),
    seed=st.integers(0, 99),
)
def test_the_area_under_a_risk_coverage_curve_is_what_an_order_of_ties_drawn_at_random_has_on_average(told, seed):
    given_R, predicted_R, confidence_R = map(np.array, zip(*told, strict=True))
    curve = risk_coverage(given_R, predicted_R, confidence_R)
    assert 0 <= curve.ideal_area <= curve.area + 1e-12
    assert curve.error_rate_K[-1] == pytest.approx((given_R != predicted_R).mean())
    order = np.random.default_rng(seed).permutation(len(told))
    again = risk_coverage(given_R[order], predicted_R[order], confidence_R[order])
    assert again.area == pytest.approx(curve.area)

    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(300):
        order = np.lexsort((rng.random(len(told)), -confidence_R))
        wrong_R = (given_R != predicted_R)[order]
        areas.append((wrong_R.cumsum() / np.arange(1, len(told) + 1)).mean())
    assert np.mean(areas) == pytest.approx(curve.area, abs=5 * np.std(areas) / np.sqrt(300) + 1e-9)


def test_a_confidence_that_says_nothing_has_the_error_rate_as_its_area_and_a_wrong_one_more():
    given_R, predicted_R = np.tile([0, 1, 2], 100), np.repeat([0, 1, 2], 100)
    wrong_R = given_R != predicted_R

    def area(confidence_R):
        return risk_coverage(given_R, predicted_R, confidence_R).area

    assert area(np.full(300, 0.4)) == pytest.approx(wrong_R.mean())
    assert area(np.random.default_rng(0).random(300)) == pytest.approx(wrong_R.mean(), abs=0.1)
    assert area(wrong_R.astype(float)) > 0.85
