import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplecnn.untrusted import read_json

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
