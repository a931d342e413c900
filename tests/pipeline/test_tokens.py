"""Estimates of tokens, which say how they were made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chat import ChatRequest, Message
from pipeline.tokens import Tokenizer, approximate, prompt_tokens, tokenizer_for


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("語", 1)])
def test_the_approximation(text: str, count: int) -> None:
    assert approximate(text) == count


@given(st.text(), st.text())
def test_the_approximation_grows_with_the_text(one: str, other: str) -> None:
    assert (
        max(approximate(one), approximate(other)) <= approximate(one + other) <= approximate(one) + approximate(other)
    )


def test_a_request_counts_its_messages_and_what_the_format_adds() -> None:
    request = ChatRequest("e", "m", (Message("system", "abcd"), Message("user", "abcdefgh")))
    assert prompt_tokens([request, request], Tokenizer("x", approximate)) == 2 * (4 + 1 + 4 + 2)
    assert prompt_tokens([], Tokenizer("x", approximate)) == 0


def test_a_model_without_an_encoding_is_approximated() -> None:
    found = tokenizer_for("offline-rules-v1")
    assert found.name == "approximation: bytes / 4"
    assert found.count("abcde") == 2


def test_a_known_model_is_counted_by_its_encoding_or_approximated_and_says_which() -> None:
    # Tests have no network; where tiktoken's files are there already, it counts.
    found = tokenizer_for("gpt-4o")
    if found.name.startswith("tiktoken "):
        assert found.count("hello world") == 2
    else:
        assert (found.name, found.count("hello world")) == ("approximation: bytes / 4", 3)
