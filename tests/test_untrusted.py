import contextlib
import json
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecnn.commits import CommitLog
from samplecnn.contract import LATEST_PARQUET, METRICS_JSON, PREDICTIONS_CSV, RISK_COVERAGE_CSV
from samplecnn.errors import UserError
from samplecnn.report.evaluation import read_evaluation
from samplecnn.tables import parquet_bytes
from samplecnn.untrusted import read_json
from tests.fixtures.jobs import ROOT

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_json_comes_back_as_it_was_written(value):
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        read_json(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "1e999 is more than"),
        ("9" * 301, "301 digits"),
        ("-" + "9" * 5000, "digits"),
        ("", "Expecting value"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_what_only_python_takes_for_json_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        read_json(text.encode())


TOO_DEEP = b"[" * 200_000


def test_what_is_read_of_a_place_may_be_nested_without_end(tmp_path):
    for name in (METRICS_JSON, PREDICTIONS_CSV, RISK_COVERAGE_CSV):
        (tmp_path / name).write_bytes(TOO_DEEP if name == METRICS_JSON else b"recording\n")
    with pytest.raises(UserError, match="nested too deeply"):
        read_evaluation(str(tmp_path))
    with pytest.raises(ValueError, match="nested too deeply"):
        CommitLog.names_in_manifest(TOO_DEEP)


@pytest.mark.parametrize("content", [b"no parquet", parquet_bytes(pa.table({"name": ["a.wav"]}))])
def test_grades_that_are_none_are_told_in_one_line(tmp_path, content):
    (tmp_path / LATEST_PARQUET).write_bytes(content)
    shown = [sys.executable, "scripts/show_grades.py", "--grades", str(tmp_path)]
    ended = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"{LATEST_PARQUET} is damaged, or nothing that grade writes" in ended.stderr
