import datetime
import io
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecnn.commits import ITEMS_SCHEMA
from samplecnn.contract import (
    FAILURES_SCHEMA,
    RECORDINGS_SCHEMA,
    grades_schema,
    latest_schema,
    segment_grades_schema,
    segments_schema,
)
from samplecnn.errors import UserError
from samplecnn.tables import csv_bytes, csv_without, parquet_bytes, read_csv, read_parquet
from tests.fixtures import HANGS_S
from tests.fixtures.jobs import ROOT
from tests.fixtures.values import rows

# Text as cells hold it: read_csv strips spaces around a cell, and what a person cannot type is not stripped away.
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)
cells = st.tuples(words, st.sampled_from(["", "\r", "\n", "\r\n", "\t", ", ", '"', ";"]), words).map("".join)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_text_survives_the_round_trip_through_csv(rows):
    table = pa.table({"recording": [row[0] for row in rows], "message": [row[1] for row in rows]})
    read = read_csv(csv_bytes(table), "failures.csv")
    assert [(row["recording"], row["message"]) for row in read] == rows


SCHEMAS = {
    "segments": segments_schema(3, 500),
    "recordings": RECORDINGS_SCHEMA,
    "failures": FAILURES_SCHEMA,
    "grades": grades_schema(("C", "B", "A")),
    "latest": latest_schema(("C", "B", "A")),
    "segment grades": segment_grades_schema(("C", "B", "A")),
    "log": ITEMS_SCHEMA,
}


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
def test_rows_of_the_contract_survive_the_round_trip_through_parquet(name, data):
    schema, drawn = SCHEMAS[name], data.draw(rows(SCHEMAS[name]))
    table = pa.Table.from_pylist(drawn, schema)
    read = read_parquet(parquet_bytes(table))
    assert read.schema.equals(schema)
    assert read.to_pylist() == drawn


def test_segments_are_plain_parquet_lists():
    schema = segments_schema(3, 500)
    row = dict(zip(schema.names, ["a.wav", "1", 0, 0.0, 3, 500, 1.0, -20.0, [True], [0.5, 0.25, 0.0]], strict=True))
    read = pq.read_table(io.BytesIO(parquet_bytes(pa.Table.from_pylist([row], schema))))
    assert read.schema.field("waveform").type == pa.list_(pa.float32(), 3)
    assert read.to_pylist() == [row]


def test_csv_of_grades_is_what_a_person_reads():
    schema = grades_schema(("B", "A"))
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    graded = [
        "=a.wav",
        "1",
        "A",
        1 / 3,
        0.75,
        0.25,
        0.75,
        88.5,
        80.0,
        97.0,
        True,
        None,
        None,
        "waltz",
        4,
        42.0,
        40.0,
        -21.5,
    ]
    silent = ["Größe, 2.wav", "1", *[None] * 8, False, "silent", None, None, 0, 3.5, 0.0, -120.0]
    graded, silent = ([*row, 44100, "m", at] for row in (graded, silent))
    rows = [dict(zip(schema.names, row, strict=True)) for row in (graded, silent)]

    lines = csv_bytes(pa.Table.from_pylist(rows, schema)).decode().split("\n")

    assert lines == [
        ",".join(schema.names),
        "'=a.wav,1,A,0.333333,0.75,0.25,0.75,88.5,80,97,true,,,waltz,4,42,40,-21.5,44100,m,2026-01-02T03:04:05+00:00",
        '"Größe, 2.wav",1,,,,,,,,,false,silent,,,0,3.5,0,-120,44100,m,2026-01-02T03:04:05+00:00',
        "",
    ]


def test_message_with_a_lone_surrogate_can_be_written():
    # pyarrow takes no such text from Python; it comes in as bytes from elsewhere or not at all.
    with pytest.raises(UnicodeEncodeError):
        pa.table({"message": ["\udcff"]})


@pytest.mark.parametrize(
    "text",
    [
        "recording,grade\na.wav,A\nb.wav,B\n",
        "recording;grade\na.wav;A\nb.wav;B\n",
        "\ufeffrecording,grade\r\na.wav,A\r\n\r\nb.wav,B\r\n",
        ' recording , grade \n"a.wav", A\n,\n b.wav,B',
        "\n\nrecording,grade\na.wav,A\nb.wav,B",
    ],
)
def test_tables_as_people_save_them_are_read(text):
    rows = read_csv(text.encode(), "labels.csv")
    assert rows == [{"recording": "a.wav", "grade": "A"}, {"recording": "b.wav", "grade": "B"}]


def test_short_row_is_padded_and_a_name_in_quotes_may_hold_a_comma():
    rows = read_csv(b'recording,grade,piece\n"a, b.wav",A\n', "labels.csv")
    assert rows == [{"recording": "a, b.wav", "grade": "A", "piece": ""}]


def test_semicolon_table_with_commas_in_names_is_read():
    assert read_csv(b"recording;grade\na, b.wav;A\n", "labels.csv") == [{"recording": "a, b.wav", "grade": "A"}]


def test_guarded_cell_is_read_as_it_was():
    assert read_csv(b"recording,grade\n'=a.wav,A\n", "labels.csv")[0]["recording"] == "=a.wav"


def test_a_column_is_named_as_safely_as_a_cell():
    data = csv_bytes(pa.table({"=cmd": ["a"]}))
    assert data == b"'=cmd\na\n"
    assert read_csv(data, "t.csv") == [{"=cmd": "a"}]


def test_no_other_module_writes_csv():
    for path in [*ROOT.glob("samplecnn/**/*.py"), *ROOT.glob("jobs/*.py"), *ROOT.glob("scripts/*.py")]:
        if path.name != "tables.py":
            code = path.read_text(encoding="utf-8")
            assert not re.search(r"^import csv|pyarrow\.csv|\.to_csv\(|\bwrite_csv\(", code, re.MULTILINE), path


def test_empty_table_has_no_rows():
    assert read_csv(b"", "labels.csv") == []
    assert read_csv(b"recording,grade\n", "labels.csv") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"recording,grade\nna\xefve.wav,A\n", r"^labels\.csv: not UTF-8 text \(byte 18\)"),
        (b"recording,grade\na.wav,A\na, b.wav,A\n", r"^labels\.csv, line 3: 3 cells under 2 columns"),
        (b'recording,grade\n"a"b.wav,A\n', r"^labels\.csv, line 2: not a CSV file"),
        ("recording,grade\na.wav,A\n".encode("utf-16"), r"^labels\.csv: not UTF-8 text"),
    ],
)
def test_table_that_cannot_be_read_names_the_place(data, message):
    with pytest.raises(UserError, match=message):
        read_csv(data, "labels.csv")


# In a Python that has no pyarrow.dataset: its threads must have no part in it (tables.read_parquet).
ALONE = """
import sys
sys.modules["pyarrow.dataset"] = sys.modules["pyarrow._dataset"] = None
import pyarrow as pa
from samplecnn.tables import parquet_bytes, read_parquet
table = pa.table({"a": [1, 2], "b": ["x", "y"]})
assert read_parquet(parquet_bytes(table)).equals(table)
assert read_parquet(parquet_bytes(table), ["b"]).column_names == ["b"]
"""


def test_a_parquet_file_in_memory_is_read_without_threads_that_outlive_the_call():
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=HANGS_S)


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-9], lambda data: data[:5] + data[6:]])
def test_a_damaged_parquet_file_is_refused(change):
    with pytest.raises((pa.ArrowException, OSError)):
        read_parquet(change(parquet_bytes(pa.table({"a": list(range(1000))}))))


def test_rows_leave_a_file_that_stays_as_a_person_wrote_it():
    kept = b'\xef\xbb\xbf recording ;why\r\n\r\n"a; 1.wav";"no\r\nsound"\r\n;\n'
    gone = b'"b\nb.wav";x\n' + b"'=c.wav;y"
    assert csv_without(kept + gone, "labels.csv", lambda row: row["recording"] in ("b\nb.wav", "=c.wav")) == kept
    assert csv_without(kept, "labels.csv", lambda row: row["recording"] == "b.wav") is None
    with pytest.raises(UserError, match="a column is named twice"):
        csv_without(b"a,a\n1,2\n", "labels.csv", lambda row: True)


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_what_is_left_of_a_file_are_the_other_rows(rows):
    data = csv_bytes(pa.table({"recording": [row[0] for row in rows], "message": [row[1] for row in rows]}))
    left = csv_without(data, "labels.csv", lambda row: row["recording"] == rows[0][0])
    assert left is not None
    told = [(row["recording"], row["message"]) for row in read_csv(left, "labels.csv")]
    assert told == [row for row in rows if row[0] != rows[0][0]]
