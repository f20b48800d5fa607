import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn import contract
from samplecnn.contract import (
    RECORDING_SUFFIXES,
    frames_of,
    grades_schema,
    guard_cell,
    is_recording_name,
    match_key,
    predictions_schema,
    probability_columns,
    segment_grades_schema,
    segments_schema,
    spell_name,
    unguard_cell,
)

GRADES = ("C", "B", "A")


# --- what is a recording ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "A.WAV", "b/c.d/e.Mp3", "Für Élise.flac", "two words.m4a", "a.b.ogg"])
def test_name_that_ends_like_audio_is_a_recording(name):
    assert is_recording_name(name)


@pytest.mark.parametrize(
    "name", ["notes.txt", "wav", ".wav", "a/.mp3", "a.wav/notes", "a.wav.part", "", "a.", "a.wav "]
)
def test_other_names_are_left_alone(name):
    assert not is_recording_name(name)


def test_the_formats_of_phones_and_recorders_are_recordings():
    assert {"wav", "flac", "mp3", "ogg", "opus", "m4a", "mp4", "mov", "caf", "webm", "3gp", "wma"} <= RECORDING_SUFFIXES


# --- names -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text())
def test_guarded_cell_comes_back_and_is_no_formula(text):
    guarded = guard_cell(text)
    assert unguard_cell(guarded) == text
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or re.fullmatch(r"-\d+(\.\d+)?", guarded)
    assert not re.search(r"[;\t\r\n][=+\-@]", guarded)


@settings(deadline=None)
@given(st.text(alphabet="'=-@a;\t\n", max_size=6), st.text(alphabet="'=-@a;\t\n", max_size=6))
def test_no_two_texts_share_a_guarded_cell(one, other):
    assert unguard_cell(guard_cell(one)) == one
    assert (guard_cell(one) == guard_cell(other)) == (one == other)


@pytest.mark.parametrize("text", ["-1", "'-1", "-0.25", "''-0.25", "-1+1", "-1\n", "-", "-.5", "-1.", "-e"])
def test_a_negative_number_is_no_formula_and_all_that_only_begins_like_one_is_guarded(text):
    assert unguard_cell(guard_cell(text)) == text
    assert (guard_cell(text) == text) == (text in ("-1", "-0.25"))


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("take;=1+1.wav", "take;'=1+1.wav"),
        ("take\n@x", "take\n'@x"),
        ("＝1+1.wav", "'＝1+1.wav"),
        ("\n=1", "'\n'=1"),
        ("a;'=b", "a;''=b"),
    ],
)
def test_what_begins_a_cell_where_others_part_them_is_guarded_too(text, guarded):
    assert guard_cell(text) == guarded
    assert unguard_cell(guarded) == text


@pytest.mark.parametrize("text", ["'tis.wav", "Bach.wav", "'", "", "a=b"])
def test_harmless_cell_is_left_as_it_is(text):
    assert guard_cell(text) == text


@settings(deadline=None)
@given(st.binary(max_size=12))
def test_every_file_name_has_a_spelling_that_parquet_takes(raw):
    name = raw.decode("utf-8", "surrogateescape")
    spelled = spell_name(name)
    assert pa.array([spelled]).to_pylist() == [spelled]
    try:
        assert spelled == raw.decode()  # exact wherever it can be
    except UnicodeDecodeError:
        assert "%" in spelled


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"%", b"\xff", b"\xe9", b"E", b"9", b"%FF"]), max_size=5).map(b"".join))
def test_name_with_undecodable_bytes_can_be_read_back(raw):
    name = raw.decode("utf-8", "surrogateescape")
    spelled = spell_name(name)
    if spelled != name:
        parts = spelled.split("%")
        assert (
            parts[0].encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in parts[1:]) == raw
        )  # so no two such names become one


def test_undecodable_byte_is_percent_encoded():
    assert spell_name(b"caf\xe9 100%.wav".decode("utf-8", "surrogateescape")) == "caf%E9 100%25.wav"
    assert spell_name("café 100%.wav") == "café 100%.wav"


@settings(deadline=None)
@given(st.text())
def test_two_spellings_of_one_name_match(text):
    assert match_key(unicodedata.normalize("NFD", text)) == match_key(unicodedata.normalize("NFC", text))


# --- schemas ---------------------------------------------------------------------------------------------------------


def test_segment_rows_have_the_columns_that_were_promised():
    schema = segments_schema(5000, 500)
    assert schema.names[:8] == [
        "recording",
        "version",
        "segment",
        "start_s",
        "valid_samples",
        "sample_rate",
        "activity",
        "rms_dbfs",
    ]
    assert schema.field("waveform").type == pa.list_(pa.float32(), 5000)
    assert schema.field("active").type == pa.list_(pa.bool_(), 200)


@pytest.mark.parametrize(
    ("samples", "sample_rate", "frames"),
    [(0, 500, 0), (1, 500, 1), (25, 500, 1), (26, 500, 2), (5000, 500, 200), (59_049, 22_050, 54), (1103, 22_050, 2)],
)
def test_frames_cover_all_samples(samples, sample_rate, frames):
    assert frames_of(samples, sample_rate) == frames


def test_probabilities_stand_best_grade_first():
    assert probability_columns(GRADES) == ["p_A", "p_B", "p_C"]
    for schema in (grades_schema(GRADES), segment_grades_schema(GRADES), predictions_schema(GRADES)):
        assert [name for name in schema.names if name.startswith("p_")] == ["p_A", "p_B", "p_C"]


LATER = {"playing_s", "rms_dbfs", "source_rate"}  # not kept at first
MARKS = {"mark", "mark_low", "mark_high"}  # only where the model learnt marks


def test_what_a_recording_that_cannot_be_graded_lacks_is_null():
    nullable = {field.name for field in grades_schema(GRADES) if field.nullable}
    assert nullable == {
        "grade",
        "score",
        "p_A",
        "p_B",
        "p_C",
        "confidence",
        *MARKS,
        "reason",
        "warning",
        "piece",
        *LATER,
    }


def test_no_other_module_spells_a_column():
    # Words that are also ordinary English or a flag's name cannot be told from a column.
    columns = {contract.START_S, contract.VALID_SAMPLES, contract.RMS_DBFS, contract.GRADED_AT, contract.DURATION_S}
    package = Path(contract.__file__).parent
    for module in package.rglob("*.py"):
        if module != Path(contract.__file__):
            spelled = {column for column in columns if f'["{column}"]' in module.read_text()}
            assert not spelled, f"{module.relative_to(package)} spells {sorted(spelled)}: import it from contract.py"
