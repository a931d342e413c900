"""Texts as they are shown."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.render import harmless, json_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, süß, 猫, עברית", "plain, süß, 猫, עברית"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x07", "␛[2J␇"),
        ("back\r\x08\x7f", "back␍␈␡"),
        ("\x9b31m", "<U+009B>31m"),
        ("a\tb\xa0c\u3000d", "a    b c d"),
        ("user\u202egnp.exe", "user<U+202E>gnp.exe"),
        ("in\u200bvisible", "in<U+200B>visible"),
        ("\ud800", "<U+D800>"),
        ("👩\u200d🔬 क्\u200cष", "👩\u200d🔬 क्\u200cष"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text(st.characters(codec=None)))
def test_no_text_has_anything_left_that_steers(text: str) -> None:
    left = {unicodedata.category(char) for char in harmless(text) if char not in "\n\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_json_has_texts_for_what_is_no_number_there() -> None:
    assert json_text({"ä": [math.nan, 0.5], "b": -math.inf}) == '{"ä": ["NaN", 0.5], "b": "-Infinity"}'
    assert json_text([math.inf], indent=2) == '[\n  "Infinity"\n]'
    assert json_text({"ä": 0.5}) == '{"ä": 0.5}'
