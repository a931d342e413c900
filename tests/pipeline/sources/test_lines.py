"""What is read as JSON is what canonical JSON can hold, however it came to be checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.lines import read_json
from tracker.fingerprint import canonical_json

DEEP = "[" * 700 + "]" * 700
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_canonical_json_holds_is_read(value: Any, ensure_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    try:
        canonical_json(json.loads(text)).encode()
    except ValueError:
        with pytest.raises(ValueError, match=r"JSON|surrogate|nested"):
            read_json(text)
    else:
        assert read_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", '{"a": -Infinity}', "1e999", "[1E400]", f"{'9' * 400}.5", '"\\ud800"', '{"\\udc00": 1}', DEEP],
)  # fmt: skip
def test_what_canonical_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|surrogate|nested"):
        read_json(text)
