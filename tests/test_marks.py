import numpy as np
import pytest

from samplecnn.errors import UserError
from samplecnn.labels import Label, LabelSettings, read_labels

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
