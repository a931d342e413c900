"""Known answers hold the scheme: a change of one of these literals makes every data set that exists a stranger."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.fingerprint import bytes_digest, canonical_json, content_key, identify

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """``value`` with the keys of every object in the other order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-6, "1e-06"),
        (1e22, "10000000000000000000000"),
        ("é\u2028\n", '"é\u2028\\n"'),
        ((1, 2.5), "[1,2.5]"),
        ({"b": [1.0], "a": {"d": None, "c": False}}, '{"a":{"c":false,"d":null},"b":[1]}'),
        ({"é": 1, "z": 2, "Z": 3}, '{"Z":3,"z":2,"é":1}'),
    ],
)
def test_the_one_text_of_a_value(value: Any, text: str) -> None:
    assert canonical_json(value) == text


def test_a_fingerprint_and_its_digest_are_what_they_were() -> None:
    found = identify("shared_experiment", {"temperature": 0.7, "top_p": 1.0, "prompt": "Löwe {premise}", "seed": None})
    assert found.canonical == (
        '{"identity":{"prompt":"Löwe {premise}","seed":null,"temperature":0.7,"top_p":1},'
        '"kind":"shared_experiment","scheme":1}'
    )
    assert (found.kind, found.fingerprint) == ("shared_experiment", "c35b029d97d8")
    assert found.digest == "113df8a77194a8921a0f5897eb204c204e5f398033c5c2a527f5f1d93747c496"


def test_a_content_key_is_what_it_was() -> None:
    assert content_key(["user", "Say it in other words."]) == "5c9d2b889f049400c180436339e945e9"
    assert content_key([1]) == content_key([1.0])
    assert content_key([1]) != content_key(["1"])
    assert content_key([1]) != content_key([True])


def test_a_digest_is_over_all_chunks() -> None:
    assert bytes_digest([b"ab", b"c"]) == bytes_digest([b"abc"])
    assert bytes_digest([b"abc"]) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_another_kind_or_scheme_is_another_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = identify("shared_experiment", {"a": 1})
    assert identify("training_run", {"a": 1}).fingerprint != one.fingerprint
    monkeypatch.setattr("tracker.fingerprint.SCHEME", 2)
    assert identify("shared_experiment", {"a": 1}).digest != one.digest


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [{"a": math.nan}], "\ud800"])
def test_what_json_has_no_words_for(value: Any) -> None:
    with pytest.raises(ValueError, match=r"no JSON form|surrogates not allowed"):
        identify("thing", {"value": value})


KEYS = "^the keys of a JSON object are text$"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1: 2}, KEYS),
        ({None: 2}, KEYS),
        (b"bytes", "^bytes has no JSON form$"),
        ({1, 2}, "^set has no JSON form$"),
        (object(), "^object has no JSON form$"),
    ],
)
def test_what_is_not_json(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        canonical_json(value)


@given(JSON)
def test_it_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)


@given(JSON)
def test_it_round_trips_and_is_its_own_form(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert "\n" not in text


@given(JSON, JSON)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    def typed(value: Any) -> Any:
        # Python takes true for 1; JSON does not.
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        return [typed(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)

    assert (canonical_json(one) == canonical_json(other)) == (typed(one) == typed(other))
