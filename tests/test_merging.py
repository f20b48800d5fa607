import numpy as np
import pytest

from samplecnn.course import COURSE
from samplecnn.merge import Attended, Course, Mean, SegmentOutputs, Spread
from samplecnn.merging import attention_beside, by_the_mean, fit_rule, learn_to_merge

SLOPE = COURSE.index("tempo_slope")


def _recordings(count, seed, *, by_course, by_segments):
    """Recordings of three grades; the skill behind them shows in the tempo's slope, or in the segments, or in both."""
    rng = np.random.default_rng(seed)
    grade_R = rng.permutation(np.arange(count) % 3)
    segments_R = []
    for grade in grade_R.tolist():
        heard = by_segments * (grade - 1) + 0.3 * rng.standard_normal(6)
        logits_SG = np.stack([-heard, np.zeros(6), heard], axis=1)
        probs_SG = np.exp(logits_SG) / np.exp(logits_SG).sum(axis=1, keepdims=True)
        course_C = 0.05 * rng.standard_normal(len(COURSE))
        course_C[SLOPE] += 0.1 * by_course * (1 - grade)  # the worse, the more the tempo slides
        segments_R.append(
            SegmentOutputs(
                probs_SG, np.zeros((6, 0), np.float32), np.ones(6, np.float32), 10.0 * np.arange(6), course_C
            )
        )
    return segments_R, grade_R, [f"p{number // 3}" for number in range(count)]


def _right(rule, segments_R, grade_R):
    return np.corrcoef([rule(segments).score for segments in segments_R], grade_R)[0, 1]


def test_what_only_the_course_tells_is_learnt_and_chosen():
    segments_R, grade_R, group_R = _recordings(90, 0, by_course=1, by_segments=0)
    merging = learn_to_merge(segments_R, grade_R, group_R, seed=0)
    rule, why = merging.rule, merging.why
    unheard_R, unheard_grade_R, _ = _recordings(90, 1, by_course=1, by_segments=0)

    assert isinstance(rule, Course)
    assert "course of the recording" in why
    assert rule.tempo_slope < 0  # of a plain sign, for a person who reads the model
    assert _right(rule, unheard_R, unheard_grade_R) > 0.7
    assert abs(_right(Mean(), unheard_R, unheard_grade_R)) < 0.3


def test_where_the_course_tells_nothing_the_mean_is_kept_mostly():
    """A standard error is passed by chance one time in six."""
    found = [learn_to_merge(*_recordings(60, seed, by_course=0, by_segments=0.5), seed=0) for seed in range(10)]
    kept = [merging.why for merging in found if merging.rule == Mean()]
    assert len(kept) >= 7
    assert all(why.startswith("the mean over segments") for why in kept)


def test_a_few_performers_leave_the_mean_as_it_is():
    segments_R, grade_R, _ = _recordings(15, 0, by_course=1, by_segments=1)
    assert learn_to_merge(segments_R, grade_R, [f"p{n % 9}" for n in range(15)], seed=0).rule == Mean()


def test_probabilities_that_are_too_unsure_are_sharpened_without_being_moved():
    segments_R, grade_R, _ = _recordings(300, 0, by_course=0, by_segments=0.5)
    rule = fit_rule(Spread(), segments_R, grade_R, free=())
    assert rule.sharpness > 1.5
    assert (rule.spread, rule.low) == (0.0, 0.0)


def test_parameters_are_in_the_units_of_their_features():
    segments_R, grade_R, _ = _recordings(90, 0, by_course=1, by_segments=0)
    shifted_R = [
        SegmentOutputs(s.probs_SG, s.embedding_SE, s.activity_S, s.start_s_S, 100 * s.course_C + 7) for s in segments_R
    ]
    rule, shifted = (fit_rule(Course(), these, grade_R) for these in (segments_R, shifted_R))
    assert shifted.tempo_slope == pytest.approx(rule.tempo_slope / 100, rel=1e-2)
    assert [shifted(s).score for s in shifted_R] == pytest.approx([rule(s).score for s in segments_R], abs=1e-3)


def _with_attention(count, *, right):
    """Two segments know the grade; attention says so, or says it of others."""
    segments_R, grade_R = [], np.arange(count) % 3
    for grade in grade_R.tolist():
        probs_SG = np.full((6, 3), 1 / 3)
        probs_SG[:2] = 0.05 + 0.85 * np.eye(3)[grade]
        attention_S = np.array([2.0, 2.0, 0, 0, 0, 0] if right else [0, 0, 2.0, 2.0, 2.0, 2.0])
        segments_R.append(
            SegmentOutputs(
                probs_SG, np.zeros((6, 0), np.float32), np.ones(6, np.float32), np.arange(6.0), attention_S=attention_S
            )
        )
    return segments_R, grade_R, [f"p{number}" for number in range(count)]


def test_attention_is_chosen_where_recordings_held_back_are_told_better_by_it():
    plain = by_the_mean("nothing else was learnt")
    chosen = attention_beside(plain, *_with_attention(12, right=True))
    assert chosen.rule == Attended()
    assert "attention" in chosen.why
    assert attention_beside(plain, *_with_attention(12, right=False)).rule == Mean()
    assert attention_beside(plain, *_with_attention(9, right=True)).rule == Mean()  # too few to see it
    assert attention_beside(plain, [], np.zeros(0, np.int64), []).rules["attention"] == Attended()
