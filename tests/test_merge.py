from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecnn.contract import SILENT_SEGMENT_ACTIVITY
from samplecnn.course import COURSE
from samplecnn.merge import (
    MERGE_RULES,
    Activity,
    Attended,
    Course,
    LinearSoftmax,
    Mean,
    SegmentOutputs,
    Vote,
    cuts_at_shares,
    expected_score,
    merge_rule,
    stated_grade,
)


@st.composite
def outputs(draw, least_playing=0):
    count, grades = draw(st.integers(max(1, least_playing), 30)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    activity_S = rng.choice(np.array([0.0, 0.1, 0.2, 0.5, 1.0], np.float32), count)
    activity_S[:least_playing] = 1.0
    probs_SG = rng.dirichlet(np.full(grades, 0.3), count)
    embedding_SE, attention_S = rng.standard_normal((count, 4)).astype(np.float32), 3 * rng.standard_normal(count)
    return SegmentOutputs(probs_SG, embedding_SE, activity_S, 10.0 * np.arange(count), attention_S=attention_S)


def _picked(segments: SegmentOutputs, rows) -> SegmentOutputs:
    columns = (segments.probs_SG, segments.embedding_SE, segments.activity_S, segments.start_s_S)
    picked = SegmentOutputs(*(column_S[rows] for column_S in columns))
    return replace(picked, attention_S=segments.attention_S[rows])


every_rule = pytest.mark.parametrize("name", MERGE_RULES)


@every_rule
@given(outputs(least_playing=1))
def test_a_merged_grade_is_a_distribution_with_weights_that_add_up_to_one(name, segments):
    merged = merge_rule(name, {})(segments)

    assert merged.probs_G.sum() == pytest.approx(1)
    assert merged.weight_S.sum() == pytest.approx(1)
    assert (merged.probs_G >= 0).all()
    assert (merged.weight_S >= 0).all()
    assert 0 <= merged.score <= 1
    assert merged.score == expected_score(merged.probs_G)


@every_rule
@given(segments=outputs(least_playing=1), seed=st.integers(0, 1000))
def test_the_order_of_the_segments_changes_no_bit(name, segments, seed):
    order = np.random.default_rng(seed).permutation(len(segments.activity_S))
    merged, shuffled = merge_rule(name, {})(segments), merge_rule(name, {})(_picked(segments, order))

    assert merged.probs_G.tobytes() == shuffled.probs_G.tobytes()
    assert merged.score == shuffled.score
    assert merged.weight_S[order].tobytes() == shuffled.weight_S.tobytes()


@every_rule
@given(segments=outputs(least_playing=1), padding=st.integers(1, 8))
def test_padding_with_silent_segments_changes_no_bit(name, segments, padding):
    count, grades = segments.probs_SG.shape
    padded = SegmentOutputs(
        np.concatenate([segments.probs_SG, np.full((padding, grades), 1 / grades)]),
        np.concatenate([segments.embedding_SE, np.zeros((padding, 4), np.float32)]),
        np.concatenate([segments.activity_S, np.zeros(padding, np.float32)]),
        10.0 * np.arange(count + padding),
        attention_S=np.concatenate([segments.attention_S, np.full(padding, 1000.0)]),
    )

    merged, with_padding = merge_rule(name, {})(segments), merge_rule(name, {})(padded)

    assert merged.probs_G.tobytes() == with_padding.probs_G.tobytes()
    assert not with_padding.weight_S[count:].any()


@every_rule
def test_segments_that_agree_are_not_contradicted(name):
    probs_SG = np.tile([0.1, 0.2, 0.7], (5, 1))
    merged = merge_rule(name, {})(
        SegmentOutputs(probs_SG, np.zeros((5, 4), np.float32), np.ones(5, np.float32), np.arange(5.0))
    )

    if name != "vote":  # whose probabilities are shares of votes
        np.testing.assert_allclose(merged.probs_G, [0.1, 0.2, 0.7], rtol=1e-5)
    assert stated_grade(merged.probs_G) == 2
    np.testing.assert_allclose(merged.weight_S, 0.2)


@pytest.mark.parametrize("name", [name for name in MERGE_RULES if name != "vote"])
@given(outputs(least_playing=1))
def test_of_one_segment_the_grade_is_its_own(name, segments):
    one = _picked(segments, slice(0, 1))
    np.testing.assert_allclose(merge_rule(name, {})(one).probs_G, one.probs_SG[0], atol=1e-5)


@pytest.mark.parametrize("name", ["spread", "course"])
@given(outputs(least_playing=1))
def test_what_has_learnt_nothing_is_the_mean(name, segments):
    np.testing.assert_allclose(merge_rule(name, {})(segments).probs_G, Mean()(segments).probs_G, atol=1e-5)


@given(outputs(least_playing=1), st.sampled_from(["spread", "low", "offset", *COURSE]), st.floats(0.1, 3.0))
def test_a_feature_with_a_positive_weight_moves_the_grade_up_and_a_negative_one_down(segments, name, weight):
    segments = replace(segments, course_C=np.full(len(COURSE), 0.7))
    up, plain, down = (Course(**{name: w})(segments).score for w in (weight, 0.0, -weight))
    assert down <= plain <= up
    told = name == "offset" or Course().features(segments)[name] > 1e-3
    assert not told or down < up or plain in (0.0, 1.0) or abs(plain - 0.5) > 0.4999


def test_a_vote_counts_heads_and_the_activity_how_much_was_played():
    probs_SG = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    segments = SegmentOutputs(
        probs_SG, np.zeros((3, 0), np.float32), np.array([1.0, 0.5, 0.25], np.float32), np.arange(3.0)
    )
    np.testing.assert_allclose(Vote()(segments).probs_G, [1 / 3, 2 / 3])
    np.testing.assert_allclose(Activity()(segments).probs_G, (probs_SG * [[4], [2], [1]]).sum(0) / 7)
    np.testing.assert_allclose(Activity()(segments).weight_S, [4 / 7, 2 / 7, 1 / 7])


@given(outputs(least_playing=1))
def test_attention_multiplies_what_activity_weighs_and_untrained_is_activity_alone(segments):
    untrained = replace(segments, attention_S=np.zeros(1))
    np.testing.assert_allclose(Attended()(untrained).weight_S, Activity()(segments).weight_S)
    says_S = segments.activity_S >= SILENT_SEGMENT_ACTIVITY
    expected_S = np.where(says_S, segments.activity_S * np.exp(segments.attention_S), 0.0)
    np.testing.assert_allclose(Attended()(segments).weight_S, expected_S / expected_S.sum())


def test_linear_softmax_lets_segments_say_more_of_what_they_are_sure_of():
    probs_SG = np.array([[1.0, 0.0], [0.5, 0.5]])
    segments = SegmentOutputs(probs_SG, np.zeros((2, 0), np.float32), np.ones(2, np.float32), np.arange(2.0))
    pooled_G = np.array([(1 + 0.25) / 1.5, 0.25 / 0.5])  # by hand, before they add up to 1
    np.testing.assert_allclose(LinearSoftmax()(segments).probs_G, pooled_G / pooled_G.sum())


@every_rule
def test_a_silent_recording_has_no_grade(name):
    silent = SegmentOutputs(
        np.full((3, 3), 1 / 3), np.zeros((3, 4), np.float32), np.zeros(3, np.float32), np.arange(3.0)
    )

    assert merge_rule(name, {})(silent) is None


def test_the_mean_counts_each_segment_that_is_not_silent_alike():
    probs_SG = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    activity_S = np.array([1.0, SILENT_SEGMENT_ACTIVITY, 0.19, 0.0], np.float32)

    merged = Mean()(SegmentOutputs(probs_SG, np.zeros((4, 2), np.float32), activity_S, np.arange(4.0)))

    assert merged.probs_G.tolist() == [0.5, 0.5]
    assert merged.weight_S.tolist() == [0.5, 0.5, 0.0, 0.0]


def test_the_threshold_of_silence_is_a_parameter():
    segments = SegmentOutputs(np.eye(2), np.zeros((2, 2), np.float32), np.array([1.0, 0.1], np.float32), np.arange(2.0))

    assert merge_rule("mean", {"silent_below": 0.05})(segments).probs_G.tolist() == [0.5, 0.5]
    assert merge_rule("mean", {})(segments).probs_G.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("probs_G", "grade"),
    [([0.2, 0.2, 0.6], 2), ([0.3, 0.3, 0.4], 1), ([0.45, 0.1, 0.45], 1), ([1, 0, 0], 0), ([0.25, 0.0, 0.75], 2)],
)
def test_without_cuts_the_grade_is_the_median_rank(probs_G, grade):
    assert stated_grade(np.array(probs_G, np.float64)) == grade


@given(st.integers(2, 6), st.integers(0, 2**32))
def test_the_score_runs_from_worst_to_best(grades, seed):
    worst, best = np.eye(grades)[0], np.eye(grades)[-1]

    assert expected_score(worst) == 0
    assert expected_score(best) == 1
    assert 0 <= expected_score(np.random.default_rng(seed).dirichlet(np.ones(grades))) <= 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 1000))
def test_cuts_at_shares_state_each_grade_as_often_as_it_was_given(given_R, seed):
    grade_R = np.array(given_R)
    # Unsure of itself: all scores lie within a hundredth of the middle.
    up_R = np.random.default_rng(seed).permutation(len(grade_R)) / len(grade_R) * 0.01
    probs_RG = np.full((len(grade_R), 5), 0.2) + up_R[:, None] * np.array([-1, 0, 0, 0, 1])
    score_R = np.array([expected_score(probs_G) for probs_G in probs_RG])

    cuts_K = cuts_at_shares(score_R, grade_R, 5)
    stated_R = np.array([stated_grade(probs_G, cuts_K) for probs_G in probs_RG])

    assert np.bincount(stated_R, minlength=5).tolist() == np.bincount(grade_R, minlength=5).tolist()
    assert (np.diff(stated_R[np.argsort(score_R)]) >= 0).all()
    assert list(cuts_K) == sorted(cuts_K)


def test_a_grade_is_stated_by_how_many_cuts_lie_below_the_score():
    probs_G = np.array([0.5, 0.1, 0.4])  # score 0.45
    stated = [stated_grade(probs_G, cuts) for cuts in ([0.5, 0.6], [0.44, 0.6], [0.1, 0.44], [0.45, 0.45], [])]
    assert stated == [0, 1, 2, 0, 0]


def test_the_course_has_a_parameter_for_each_of_its_features():
    assert {field.name for field in fields(Course)} == {"silent_below", "sharpness", "offset", "spread", "low", *COURSE}
