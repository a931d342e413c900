"""Literal keys are found in settings and in text, and what only looks like one is left."""

from __future__ import annotations

import pytest

from pipeline.importing.keys import lines_with_keys, without_keys

KEY = "sk-" + "proj_notarealkey" * 2


def test_settings_lose_their_keys_and_say_where_they_stood() -> None:
    given = {
        "generation": {"api_key": "plain words", "api_key_env": "OPENAI_API_KEY", "max_tokens": 256, "headers": [KEY]},
        "note": f"made with {KEY}!",
    }  # fmt: skip
    clean, found = without_keys(given)
    assert found == ["generation.api_key", "generation.headers[0]", "note"]
    assert KEY not in str(clean)
    assert "plain words" not in str(clean)
    assert clean["generation"]["api_key_env"] == "OPENAI_API_KEY"
    assert clean["generation"]["max_tokens"] == 256


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"a\nb = '{KEY}'\n", [2]),
        ("api_key = 'abcdefgh1234'\n", [1]),
        ("export OPENAI_API_KEY=abcdefgh1234567\n", [1]),
        ("export OPENAI_API_KEY=your-api-key-here\n", []),
        ("api_key = os.environ['OPENAI_API_KEY']\n", []),
        ("api_key_env: OPENAI_API_KEY\n", []),
        ("max_tokens: 256\nask-this-question-of-everybody\n", []),
    ],
)
def test_lines_with_keys_are_named(text: str, lines: list[int]) -> None:
    assert lines_with_keys(text) == lines


@pytest.mark.parametrize("value", ["${OPENAI_API_KEY}", "$OPENAI_API_KEY", "<your key>", "None", " "])
def test_what_names_a_key_is_none(value: str) -> None:
    assert without_keys({"api_key": value}) == ({"api_key": value}, [])


@pytest.mark.parametrize("value", ["$2b$10$abcdefgh", "${A}x1234567", "$ecret", "${A", "<a>b", "x", "your-key"])
def test_what_only_looks_like_a_name_is_left_out(value: str) -> None:
    assert without_keys({"api_key": value}) == ({}, ["api_key"])
