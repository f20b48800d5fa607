import logging

import pytest

from samplecnn.errors import UserError
from samplecnn.labels import Label, LabelSettings, join, judged_names, parse_grades, read_labels, require_gradable

SETTINGS = LabelSettings()


def read(text: str, settings: LabelSettings = SETTINGS) -> list[Label]:
    return read_labels(text.encode(), "labels.csv", settings).labels


def test_grades_are_turned_round_once():
    assert parse_grades("A, B,C") == ("C", "B", "A")
    assert [label.grade for label in read("recording,grade\na.wav,A\nb.wav,C\n")] == [2, 0]


@pytest.mark.parametrize("grades", ["A", "", "A,A", "A,,B"])
def test_fewer_than_two_different_grades_are_refused(grades):
    with pytest.raises(UserError, match="--grades"):
        LabelSettings(grades=grades)


@pytest.mark.parametrize("text", ["recording;grade\r\nä b.wav;A\r\n", '\ufeffrecording,grade\n"ä b.wav",A\n'])
def test_semicolons_quotes_and_byte_order_marks_are_read(text):
    assert [label.recording for label in read(text)] == ["ä b.wav"]


def test_groups_are_performers_where_given_else_pieces_else_recordings():
    assert read("recording,grade,piece,performer\na,A,minuet,ann\n")[0].group == "ann"
    assert read("recording,grade,piece\na,A,minuet\n")[0].group == "minuet"
    assert read("recording,grade\na,A\n")[0].group == "a"
    assert read("recording,grade,piece,performer\na,A,minuet,ann\n", LabelSettings(group="piece"))[0].group == "minuet"


def test_recordings_can_be_grouped_by_several_columns():
    (label,) = read("recording,grade,piece,performer\na,A,minuet,ann\n", LabelSettings(group="performer, piece"))
    assert (label.group, label.further) == ("ann", ("minuet",))
    with pytest.raises(UserError, match="--group teacher"):
        read("recording,grade,performer\na,A,ann\n", LabelSettings(group="performer,teacher"))


def test_recordings_without_a_performer_are_groups_of_their_own():
    groups = [label.group for label in read("recording,grade,performer\na,A,\nb,B,\nc,C,ann\n")]
    assert len(set(groups)) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no labels"),
        ("recording,grade\n", "no labels"),
        ("name,grade\na,A\n", "no column recording"),
        ("recording,grade\na,D\n", "grade 'D' of 'a'"),
        ("recording,grade,grade\na,A,B\n", "a column is named twice"),
        ("recording,grade\n,A\n", "no recording named"),
        ("recording,grade\na,A\na,B\n", "'a' stands there twice"),
        ("recording,grade\na,b,A\n", "line 2: 3 cells under 2 columns"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(text, words):
    with pytest.raises(UserError, match=words) as refused:
        read(text)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(UserError, match="not UTF-8"):
        read_labels(b"recording,grade\n\xff\xfe,A\n", "labels.csv", SETTINGS)


def test_an_unknown_group_column_is_refused():
    with pytest.raises(UserError, match="--group teacher"):
        read("recording,grade\na,A\n", LabelSettings(group="teacher"))


def test_a_line_that_repeats_another_counts_once(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(read("recording,grade\na,A\na,A\n")) == 1
    assert "1 lines repeat another" in caplog.text


def test_join_names_what_falls_through_on_both_sides():
    labels = read("recording,grade\nin.wav,A\ngone.wav,B\n")
    joined = join(labels, ["in.wav", "new.wav"])
    assert (list(joined.labels), joined.missing, joined.unlabelled) == (["in.wav"], ["gone.wav"], ["new.wav"])


def test_join_takes_accents_in_either_spelling():
    assert list(join(read("recording,grade\nF\u00fcr.wav,A\n"), ["Fu\u0308r.wav"]).labels) == ["Fu\u0308r.wav"]


def test_a_performer_is_one_group_however_the_accent_is_spelled():
    found = read("recording,grade,performer\na,A,Zo\u00eb\nb,B,Zoe\u0308\n")
    assert len({label.group for label in found}) == 1


def test_join_finds_names_that_a_cell_cannot_hold():
    names = ["AC\\DC.wav", " led.wav", "x/y.wav"]
    joined = join(read("recording,grade\nAC\\DC.wav,A\n led.wav,B\nx\\y.wav,C\n"), names)
    assert (sorted(joined.labels), joined.missing) == (sorted(names), [])


def test_of_two_spellings_a_label_takes_its_own():
    joined = join(read("recording,grade\nF\u00fcr.wav,A\n"), ["Fu\u0308r.wav", "F\u00fcr.wav"])
    assert (list(joined.labels), joined.unlabelled) == (["F\u00fcr.wav"], ["Fu\u0308r.wav"])


def test_a_single_grade_is_refused():
    joined = join(read("recording,grade\na,A\nb,A\n"), ["a", "b"])
    with pytest.raises(UserError, match="every recording with segments has grade A"):
        require_gradable(joined.labels, SETTINGS, "labels.csv")


def test_labels_that_match_no_recording_are_refused():
    with pytest.raises(UserError, match="none of its recordings has segments"):
        require_gradable({}, SETTINGS, "labels.csv")


RATED = "recording,grade,rater,performer\n" + "".join(
    f"take {take},{grade},{rater},player {take % 3}\n"
    for take, grades in enumerate(("AA", "AB", "BC", "BB", "CC", "AB"))
    for rater, grade in zip(("ann", "ben"), grades, strict=True)
)


def test_ratings_of_several_people_become_one_label_a_recording():
    told = read_labels(RATED.encode(), "labels.csv", SETTINGS)
    assert [(label.recording, label.group) for label in told.labels] == [
        (f"take {take}", f"player {take % 3}") for take in range(6)
    ]
    assert [label.grade for label in told.labels if label.recording in ("take 0", "take 4")] == [2, 0]
    assert told.agreement
    assert (told.agreement.ratings, told.agreement.recordings) == (12, 6)
    assert told.agreement.leniency["ann"] > told.agreement.leniency["ben"]


def test_one_rating_a_recording_is_its_grade_whoever_gave_it():
    told = read_labels(b"recording,grade,rater\na,A,ann\nb,C,ben\n", "labels.csv", SETTINGS)
    assert ([label.grade for label in told.labels], told.agreement) == ([2, 0], None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("take 0,B,ann,player 0", "'ann' gave 'take 0' two grades"),
        ("take 0,B,cat,player 1", "'take 0' stands there twice and differs in performer"),
        ("take 0,B,,player 0", "no rater named"),
        ("take 0,B,cat,player 0", "'cat' gave one rating only"),
    ],
)
def test_ratings_that_contradict_each_other_are_refused(line, words):
    with pytest.raises(UserError, match=words):
        read_labels(f"{RATED}{line}\n".encode(), "labels.csv", SETTINGS)


def test_a_label_may_be_of_a_part():
    text = "recording,grade,start_s,end_s\na,A,10,42.5\nb,C,,30\nc,B,,\nd,B,0.2,1.2\n"
    assert [label.part for label in read(text)] == [(10, 42.5), (0, 30), None, (0.2, 1.2)]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("30,10", "the part of 'a' from 30 to 10 s is none"),
        ("-1,10", "from -1 to 10"),
        ("3,", "from 3 to nowhere"),
        ("x,10", "from x to 10"),
        ("1.30,1.32", r"end_s 1 s after it, or more"),  # minutes, most likely
    ],
)
def test_a_part_that_is_none_is_refused(part, words):
    with pytest.raises(UserError, match=words):
        read(f"recording,grade,start_s,end_s\na,A,{part}\nb,C,,\n")


def test_parts_of_a_recording_have_labels_of_their_own_and_one_group():
    joined = join(read("recording,grade,start_s,end_s\nb,B,,\na,C,20,30\na,A,0,20\n"), ["a", "b", "c"])
    assert [(label.grade, label.part) for label in joined.labels["a"]] == [(2, (0, 20)), (0, (20, 30))]
    assert len({label.group for label in joined.labels["a"]}) == 1
    assert list(joined.alone()) == ["b"]
    assert judged_names([("a", (0, 20)), ("a", (20, 30)), ("b", (5, 7.5)), ("c", None)]) == [
        "a 0-20 s",
        "a 20-30 s",
        "b",
        "c",
    ]
    with pytest.raises(UserError, match="'a' stands there twice and differs in performer"):
        read("recording,grade,start_s,end_s,performer\na,A,0,10,ann\na,B,10,20,ben\n")


@pytest.mark.parametrize(
    ("other", "words"),
    [("5,20", "0 to 10 s and 5 to 20 s"), (",", "0 to 10 s and 0 to its end"), ("2,3", "0 to 10 s and 2 to 3 s")],
)
def test_parts_that_overlap_are_refused(other, words):
    with pytest.raises(UserError, match=f"two judged parts of 'a' overlap, {words}"):
        read(f"recording,grade,start_s,end_s\na,A,0,10\na,B,{other}\nb,C,0,10\n")


def test_each_part_may_have_several_raters():
    rows = ["a,A,ann,0,9", "a,B,ben,0,9", "a,C,ann,9,20", "a,C,ben,9,20", "b,B,ann,,", "b,B,ben,,"]
    told = read_labels("\n".join(["recording,grade,rater,start_s,end_s", *rows]).encode(), "labels.csv", SETTINGS)
    assert [label.part for label in told.labels] == [(0, 9), (9, 20), None]
    assert told.agreement.recordings == 3
