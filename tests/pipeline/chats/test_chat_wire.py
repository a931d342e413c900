"""The chat format: bodies, answers, failures, windows and waits, by table and by random text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chats import chat_wire as wire
from pipeline.chats.chat import ChatError, ChatRequest, Failure, Message, RateWindow
from tests.llm_server import openai_duration
from tracker.fingerprint import Json

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
KEY = "sk-secret"


def asking(model: str = "m", **settings: Json) -> ChatRequest:
    return ChatRequest("e", model, (Message("user", "häus"),), settings)


def completion(message: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "choices": [{"message": message, "finish_reason": "stop"}], **more}).encode()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "max_tokens"),
        ("o1", "max_completion_tokens"),
        ("o1-mini", "max_completion_tokens"),
        ("o3-mini-2025-01-31", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-5.1-mini", "max_completion_tokens"),
        ("openai/gpt-5", "max_completion_tokens"),
        ("ft:o3-mini:me", "max_completion_tokens"),
        ("openai/gpt-oss-20b", "max_tokens"),
        ("o1ive", "max_tokens"),
        ("org/o3-like", "max_tokens"),
    ],
)
def test_reasoning_models_get_their_own_name_for_the_token_limit(model: str, name: str) -> None:
    body = wire.build_body(asking(model, max_tokens=7, temperature=None))
    assert body == {"model": model, "messages": [{"role": "user", "content": "häus"}], name: 7}


def test_an_answer_is_read_whole() -> None:
    headers = {
        "x-request-id": "req_9",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-tokens": "2",
    }
    content = completion({"content": "Hi."}, usage={"prompt_tokens": 5, "completion_tokens": 2})
    answer = wire.parse_answer(content, headers, asking(), api_key=KEY)
    assert (answer.text, answer.finish_reason, answer.provider_request_id) == ("Hi.", "stop", "req_9")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.tokens_estimated) == (5, 2, False)
    assert answer.requests_window == RateWindow(500, 499, 0.12)
    assert answer.tokens_window == RateWindow(30_000, 29_000, 2.0)


@pytest.mark.parametrize(
    ("message", "text", "finish_reason"),
    [
        ({"content": None}, "", "stop"),
        ({}, "", "stop"),
        ({"content": None, "refusal": "I cannot."}, "I cannot.", "refusal"),
        ({"content": "Yes.", "refusal": None}, "Yes.", "stop"),
        ({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}, "AB", "stop"),
        ({"content": "half \ud83d a pair"}, "half \ufffd a pair", "stop"),
        ({"content": "whole \U0001f600"}, "whole \U0001f600", "stop"),
        ({"content": "N\0L"}, "N\ufffdL", "stop"),
        ({"content": None, "refusal": "\ud83d\0"}, "\ufffd\ufffd", "refusal"),
    ],
)
def test_every_shape_of_a_message_is_text(message: dict[str, Any], text: str, finish_reason: str) -> None:
    answer = wire.parse_answer(completion(message), {}, asking(), api_key=KEY)
    assert (answer.text, answer.finish_reason) == (text, finish_reason)
    assert answer.provider_request_id == "chatcmpl-1"


@pytest.mark.parametrize("bad", ["\ud83d", "\0"])
def test_whatever_an_answer_says_can_be_stored(bad: str) -> None:
    choice = {"message": {"content": f"a{bad}"}, "finish_reason": f"b{bad}"}
    content = json.dumps({"id": f"c{bad}", "choices": [choice]}).encode()
    answer = wire.parse_answer(content, {}, asking(), api_key=KEY)
    assert (answer.text, answer.finish_reason, answer.provider_request_id) == ("a\ufffd", "b\ufffd", "c\ufffd")
    told = wire.parse_answer(content, {"x-request-id": f"d{bad}"}, asking(), api_key=KEY)
    assert told.provider_request_id == "d\ufffd"
    error = wire.status_failure(500, json.dumps({"error": f"e{bad}e"}).encode(), {}, now=NOW, api_key=KEY)
    assert str(error) == "HTTP 500: e e"


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": "7"}, {"prompt_tokens": True}])
def test_unusable_token_counts_are_estimated_from_bytes(usage: object) -> None:
    answer = wire.parse_answer(completion({"content": "12345"}, usage=usage), {}, asking(), api_key=KEY)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.tokens_estimated) == (4 + 2, 2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty body"),
        (b"\xff\xfe", "no chat completion"),
        (b"[]", "no chat completion"),
        (b"[" * 100_000, "no chat completion"),
        (b'{"choices": []}', "no chat completion"),
        (b'{"choices": [{"message": "text"}]}', "no chat completion"),
        (b'{"choices": [{"message": {"content": 7}}]}', "no chat completion"),
        (b'{"choices": [{"message": {"content": ["a"]}}]}', "no chat completion"),
        (b'{"error": {"message": "busy, sk-secret"}}', "busy, ***"),
    ],
)
def test_a_body_that_is_no_completion_is_transient(content: bytes, said: str) -> None:
    with pytest.raises(ChatError, match="no chat completion") as caught:
        wire.parse_answer(content, {}, asking(), api_key=KEY)
    assert (caught.value.failure, caught.value.maybe_paid) == (Failure.TRANSIENT, True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (429, {"code": "rate_limit_exceeded"}, Failure.RATE_LIMIT),
        (429, {"code": "insufficient_quota"}, Failure.FATAL),
        (429, {"type": "insufficient_quota", "code": None}, Failure.FATAL),
        *((status, {}, Failure.FATAL) for status in (400, 401, 402, 403, 404, 405, 413, 422)),
        *((status, {}, Failure.TRANSIENT) for status in (302, 408, 409, 425, 500, 502, 503, 504, 529)),
    ],
)
def test_a_status_is_one_of_three_failures(status: int, error: dict[str, Any], failure: Failure) -> None:
    content = json.dumps({"error": {"message": f"no, {KEY}", **error}}).encode()
    found = wire.status_failure(status, content, {"retry-after": "3"}, now=NOW, api_key=KEY)
    assert (found.failure, found.status, found.maybe_paid) == (failure, status, False)
    assert found.retry_after == (None if failure is Failure.FATAL else 3)
    assert str(found) == f"HTTP {status}: no, ***"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "HTTP 500"),
        (b'{"error": "plain"}', "HTTP 500: plain"),
        (b'{"message": "top"}', "HTTP 500: top"),
        (b'{"detail": "fast"}', "HTTP 500: fast"),
        (b"two\n\x1b lines", "HTTP 500: two lines"),
        (b"\xff", "HTTP 500: \ufffd"),
    ],
)
def test_what_the_endpoint_said_is_one_printable_line(content: bytes, said: str) -> None:
    assert str(wire.status_failure(500, content, {}, now=NOW, api_key=KEY)) == said


def test_a_long_message_is_cut_without_leaving_half_a_key() -> None:
    content = b"x" * 496 + KEY.encode() + b"y" * 900
    said = str(wire.status_failure(500, content, {}, now=NOW, api_key=KEY))
    assert said.endswith("***y...")
    assert "sk-" not in said


@pytest.mark.parametrize("between", [" " * 30_000, "\n", ""])
def test_a_key_is_blotted_out_wherever_it_stands(between: str) -> None:
    content = f"Bad key:{' ' * 20_000}{KEY[:5]}{between if between == chr(10) else ''}{KEY[5:]}{between}".encode()
    said = str(wire.status_failure(401, content, {}, now=NOW, api_key=KEY))
    assert said == "HTTP 401: Bad key: ***"


def test_a_key_too_short_to_be_one_does_not_blot_out_what_is_said() -> None:
    assert str(wire.status_failure(500, b"tokens", {}, now=NOW, api_key="k")) == "HTTP 500: tokens"


def test_the_reason_of_a_broken_connection_is_its_cause() -> None:
    error = OSError("Connection error.")
    error.__cause__ = ValueError(f"refused by {KEY}")
    assert str(wire.connection_failure(error, sent=True, api_key=KEY)) == "refused by ***"
    assert str(wire.connection_failure(EOFError(), sent=True, api_key=KEY)) == "EOFError"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1s", 1),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400),
        ("1m30s500ms", 90.5),
        ("12", 12),
        (" 0.5 ", 0.5),
        ("0", 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("-1s", None),
        ("nan", None),
        ("inf", None),
        ("1s1m", None),
        ("9" * 400 + "s", None),
    ],
)
def test_durations_by_table(text: str, seconds: float | None) -> None:
    assert wire.parse_duration(text) == (seconds if seconds is None else pytest.approx(seconds))


@given(st.integers(min_value=0, max_value=10**6))
def test_what_the_server_writes_is_read_back(seconds: int) -> None:
    assert wire.parse_duration(openai_duration(seconds)) == seconds


@given(st.text(max_size=30) | st.from_regex(r"[0-9.]{0,6}(h|m|s|ms)?[0-9.]{0,6}(h|m|s|ms)?", fullmatch=True))
def test_any_header_gives_a_finite_wait_or_none(text: str) -> None:
    headers = {"retry-after": text, "x-ratelimit-limit-requests": text, "x-ratelimit-remaining-requests": "1"}
    for found in (wire.parse_duration(text), wire.parse_retry_after(headers, now=NOW)):
        assert found is None or 0 <= found < float("inf")
    window = wire.parse_window({**headers, "x-ratelimit-reset-requests": text}, "requests")
    assert window is None or window.limit == int(text)


@given(st.integers(min_value=-10_000, max_value=10_000))
def test_an_http_date_is_the_seconds_until_then(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert wire.parse_retry_after({"retry-after": date}, now=NOW) == max(0, seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.05"}, 0.05),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:09 -0000"}, 9),
        ({"retry-after": "Fri, 99 Nov 2026 12:00:09 GMT"}, None),
    ],
)
def test_retry_after_by_table(headers: dict[str, str], seconds: float | None) -> None:
    assert wire.parse_retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize("missing", ["limit", "remaining", "reset"])
def test_a_window_needs_all_of_its_headers(missing: str) -> None:
    headers = {f"x-ratelimit-{part}-tokens": "1" for part in ("limit", "remaining", "reset") if part != missing}
    assert wire.parse_window(headers, "tokens") is None


@pytest.mark.parametrize(("reset", "is_one"), [("23h59m59s", True), ("1795176000", False), ("1795176000000", False)])
def test_a_moment_is_not_taken_for_a_duration(reset: str, is_one: bool) -> None:
    headers = {f"x-ratelimit-{part}-tokens": "0" for part in ("limit", "remaining")}
    found = wire.parse_window({**headers, "x-ratelimit-reset-tokens": reset}, "tokens")
    assert (found is not None) is is_one


@pytest.mark.parametrize("limit", ["-1", "1.5", "²", "9" * 30])
def test_a_window_of_no_whole_number_is_none(limit: str) -> None:
    headers = {f"x-ratelimit-{part}-tokens": limit for part in ("limit", "remaining", "reset")}
    assert wire.parse_window(headers, "tokens") is None
