import numpy as np
import pytest

from samplecnn.errors import UserError
from samplecnn.labels import Label, LabelSettings, read_labels
from samplecnn.marks import GivenMarks, MarkMap, half_of, mark_scale, told
from samplecnn.metrics import evaluate_marks

MARKED = "recording,mark\n" + "".join(f"take {take},{mark}\n" for take, mark in enumerate((55, 60, 72.5, 80, 95, 41)))


def read(text: str, **settings: str) -> list[Label]:
    return read_labels(text.encode(), "labels.csv", LabelSettings(**settings)).labels


def grades(text: str, **settings: str) -> str:
    names = LabelSettings(**settings).names
    return "".join(names[label.grade] for label in read(text, **settings))


def test_grades_follow_from_cuts_and_a_mark_that_is_a_cut_has_the_better_one():
    assert grades(MARKED, cuts="60,80") == "CBBAAC"
    assert [label.mark for label in read(MARKED)] == [55, 60, 72.5, 80, 95, 41]


def test_without_cuts_grades_hold_equal_shares():
    assert grades(MARKED) == "CBBAAC"
    assert [label.grade for label in read(MARKED, grades="pass,fail")] == [0, 0, 1, 1, 1, 0]


def test_the_lowest_mark_may_be_the_best():
    text = "recording,mark\na,1\nb,2.3\nc,5\n"
    assert grades(text, mark_best="low") == grades(text, mark_best="low", cuts="1.5,3") == "ABC"
    assert grades(text) == "CBA"
    assert [label.mark for label in read(text, mark_best="low")] == [1, 2.3, 5]


def test_equal_marks_have_one_grade():
    rng = np.random.default_rng(0)
    marks = rng.integers(0, 6, 50)
    text = "recording,mark\n" + "".join(f"{n},{mark}\n" for n, mark in enumerate(marks))
    found = {(mark, grade) for mark, grade in zip(marks.tolist(), grades(text), strict=True)}
    assert len(found) == 6


def test_a_decimal_comma_is_one():
    assert [label.mark for label in read("recording;mark\na;7,5\nb;-2\nc;0\n")] == [7.5, -2, 0]


def test_grades_that_are_given_stand_beside_the_marks():
    assert [(one.grade, one.mark) for one in read("recording,grade,mark\na,A,9\nb,A,3\nc,C,1\n")] == [
        (2, 9),
        (2, 3),
        (0, 1),
    ]
    within_pieces = "recording,grade,mark,piece\na,A,5,slow\nb,C,3,slow\nc,A,2,fast\nd,C,1,fast\n"
    assert [label.grade for label in read(within_pieces)] == [2, 0, 2, 0]


def test_marks_of_several_raters_are_taken_together():
    text = "recording,mark,rater\n" + "".join(
        f"take {take},{mark + lenient},{rater}\n"
        for take, mark in enumerate((50, 60, 70, 80, 90, 40))
        for rater, lenient in (("ann", 5), ("ben", -5), ("cat", 0))
        if (take, rater) not in {(0, "ann"), (4, "ben")}
    )
    told = read_labels(text.encode(), "labels.csv", LabelSettings(cuts="55,75"))
    assert [label.mark for label in told.labels] == pytest.approx(
        [m + told.labels[5].mark - 40 for m in (50, 60, 70, 80, 90, 40)]
    )
    assert [label.grade for label in told.labels] == [0, 1, 1, 2, 2, 0]
    assert told.agreement
    assert told.agreement.unit == "marks"
    assert told.agreement.leniency["ann"] - told.agreement.leniency["ben"] == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("recording,mark\na,101\nb,5\n", {"mark_range": "0,100"}, "mark 101 of 'a' lies outside 0 to 100"),
        ("recording,mark\na,good\n", {}, "mark 'good' of 'a' is no number"),
        ("recording,mark\na,\n", {}, "mark '' of 'a' is no number"),
        ("recording,mark\na,nan\n", {}, "mark 'nan' of 'a' is no number"),
        ("recording,mark\na,4\na,5\n", {}, "'a' stands there twice"),
        ("recording,mark,rater\na,4,ann\na,5,ann\n", {}, "'ann' gave 'a' two marks"),
        ("recording,grade,mark\na,B,80\nb,A,70\n", {}, "'a' has mark 80 and grade B, 'b' mark 70 and grade A"),
        ("recording,grade,mark\na,A,80\nb,B,70\n", {"mark_best": "low"}, "'b' has mark 70 and grade B, 'a' mark 80"),
        ("recording,grade,mark\na,,80\n", {}, "grade '' of 'a'"),
        ("recording\na\n", {}, "no column grade"),
    ],
)
def test_marks_that_cannot_be_meant_are_refused_in_one_line(text, settings, words):
    with pytest.raises(UserError, match=words) as refused:
        read(text, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cuts": "60"}, "--cuts 60: name 2 rising numbers"),
        ({"cuts": "80,60"}, "--cuts 80,60"),
        ({"cuts": "60,nan"}, "--cuts 60,nan"),
        ({"cuts": "60,80", "mark_range": "0,10"}, "--cuts 60,80: outside --mark-range 0,10"),
        ({"mark_range": "10"}, "--mark-range 10: name 2 rising numbers"),
        ({"grades": "pass,fail", "cuts": "good"}, "name 1 rising number, for example 60"),
    ],
)
def test_flags_that_say_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        LabelSettings(**settings)


@pytest.mark.parametrize("best", ["high", "low"])
def test_the_way_from_score_to_mark_is_found_and_never_falls_with_quality(best):
    rng = np.random.default_rng(0)
    score_R = rng.random(200)
    sign = 1 if best == "high" else -1
    given = GivenMarks(50 + sign * 30 * score_R + rng.normal(0, 2, 200), mark_scale(best, "0,100", "equal", 3))
    found = given.fitted(score_R, np.arange(200))
    assert (found.offset, found.slope) == pytest.approx((50, sign * 30), abs=1.5)
    assert (found.least, found.most) == (0, 100)
    backwards = given.fitted(1 - score_R, np.arange(200))
    assert (backwards.slope, backwards.offset) == (0, pytest.approx(given.mark_R.mean()))
    assert given.fitted(np.full(200, 0.5), np.arange(200)).slope == 0


def test_a_mark_and_its_interval_stay_in_the_jurys_range():
    line = MarkMap(offset=40, slope=70, half=15, least=0, most=100)
    assert line.told(0.5) == (75, 60, 90)
    assert line.told(1.0) == (100, 85, 100)
    without_range = GivenMarks(np.array([3.0, 9.0, 6.0]), mark_scale("high", "any", "equal", 3))
    found = without_range.fitted(np.array([0.1, 0.9, 0.5]), np.arange(3))
    assert (found.least, found.most) == (3, 9)
    of_two = without_range.fitted(np.array([0.1, 0.5]), np.array([0, 2]))
    assert (of_two.least, of_two.most) == (3, 6)  # of what is learnt from, and of nothing that is held out


@pytest.mark.parametrize("numbers", [{"slope": float("nan")}, {"half": -1}, {"least": 5, "most": 4}])
def test_a_way_that_is_none_is_refused(numbers):
    with pytest.raises(ValueError, match="finite numbers"):
        MarkMap(**({"offset": 0, "slope": 1, "half": 1, "least": 0, "most": 10} | numbers))


def test_nine_marks_of_ten_lie_in_the_interval_even_if_it_was_learnt_from_few():
    rng = np.random.default_rng(0)
    within = []
    for _ in range(4_000):
        off_R = rng.standard_normal(20)
        within.append(abs(rng.standard_normal()) <= half_of(off_R))
    assert np.mean(within) == pytest.approx(19 / 21, abs=0.015)  # the 19th of 20


def test_marks_told_are_held_against_marks_given():
    rng = np.random.default_rng(0)
    given_R = rng.normal(60, 10, 300)
    noisy_R = given_R + rng.normal(0, 5, 300)
    groups = [[str(i // 3) for i in range(300)]]
    line_RM = np.stack([noisy_R, noisy_R - 8, noisy_R + 8], axis=1)
    line_RM[7] = np.nan
    found = evaluate_marks(given_R, line_RM, groups, 0)
    assert found.recordings == 299
    assert found.r2.value == pytest.approx(0.75, abs=0.07)
    assert found.r2.low < found.r2.value < found.r2.high
    assert found.spearman.value == pytest.approx(0.88, abs=0.04)
    assert (found.within, found.width) == (pytest.approx(0.89, abs=0.05), pytest.approx(16))
    one = told(MarkMap(60, 0, 10, 0, 100), np.zeros(300))
    assert evaluate_marks(given_R, one, groups, 0).spearman.value == 0
    assert evaluate_marks(given_R, one, groups, 0).r2.value == pytest.approx(0, abs=0.02)


def test_marks_that_are_all_alike_are_no_variance_told():
    line_RM = np.tile([62.0, 50.0, 70.0], (6, 1))
    groups = [[str(i // 2) for i in range(6)]]
    assert evaluate_marks(np.full(6, 60.0), line_RM, groups, 0).r2.value == 0
    three = evaluate_marks(np.repeat([50.0, 60.0, 70.0], 2), line_RM, groups, 0)
    assert three.r2.high <= 0  # resampled data sets hold one performer alone now and then


def places(text: str, **settings: str) -> list[float]:
    """Each label on the scale of grades."""
    return [label.grade + label.lean for label in read(text, **settings)]


def test_a_mark_lies_within_its_grade_by_the_share_of_lower_ones():
    text = "recording,mark\n" + "".join(f"{n},{mark}\n" for n, mark in enumerate((10, 20, 30, 40, 50, 50, 90, 95)))
    # Beyond the middle of the best and the worst grade there is nothing.
    assert places(text, cuts="40,80") == pytest.approx([0, 0, 1 / 3, 2 / 3, 7 / 6, 7 / 6, 1.75, 2])
    assert places(text, cuts="40,80", mark_best="low") == pytest.approx([2, 2, 1.875, 1.625, 1, 1, 0.25, 0])


def test_a_lone_mark_of_its_grade_lies_in_its_middle():
    assert places("recording,grade,mark\na,A,9\nb,B,3\nc,C,1\n") == [2, 1, 0]


def test_what_raters_disagree_on_lies_between_their_grades():
    rows = ["a,A,ann", "a,B,ben", "a,A,kim", "b,C,ann", "b,C,ben", "b,C,kim", "c,B,ann", "c,A,ben", "c,A,kim"]
    label_a, label_b, label_c = read("\n".join(["recording,grade,rater", *rows]) + "\n")
    assert label_a.grade == label_c.grade == 2
    assert label_a.lean == pytest.approx(-1 / 3)
    assert label_b.grade + label_b.lean == pytest.approx(0)


def test_grades_alone_lie_in_their_middle():
    assert places("recording,grade\na,A\nb,B\nc,C\n") == [2, 1, 0]
