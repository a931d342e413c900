"""Estimates of tokens, which say how they were made."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chats.chat import ChatRequest, Message
from pipeline.chats.chat_offline import OfflineChat
from pipeline.chats.chat_wire import parse_answer
from pipeline.chats.tokens import Tokenizer, approximate, most_prompt_tokens, prompt_tokens, tokenizer_for


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("語", 1), ("half \ud83d", 2)]
)
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


def test_every_chat_estimates_by_the_same_rule() -> None:
    request = ChatRequest("e", "m", (Message("system", "abcd"), Message("user", "abcdefgh")))
    offline = asyncio.run(OfflineChat().complete(request, timeout=1))
    told_nothing = parse_answer(b'{"choices": [{"message": {"content": "12345"}}]}', {}, request, api_key="k")
    assert offline.prompt_tokens == told_nothing.prompt_tokens == prompt_tokens([request]) == 4 + 1 + 4 + 2
    assert (offline.completion_tokens, told_nothing.completion_tokens) == (approximate(offline.text), 2)


@given(st.lists(st.text()))
def test_no_byte_is_less_than_a_token_in_the_worst_case(texts: list[str]) -> None:
    request = ChatRequest("e", "m", tuple(Message("user", text) for text in texts))
    most = most_prompt_tokens(request)
    # The format that is known adds 3 tokens and a role to each message, and 3 for the answer.
    assert most >= sum(len(text.encode()) + 4 for text in texts) + 3
    assert most >= prompt_tokens([request])


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
