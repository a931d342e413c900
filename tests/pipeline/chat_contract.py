"""What every chat over HTTP promises, tried against the test server; a module's test class subclasses it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import traceback
from collections.abc import Iterator, Sequence
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

import aiohttp
import pytest
from aiohttp import hdrs

from pipeline.chats.chat import Answer, Chat, ChatError, ChatRequest, Failure, Message
from tests.llm_server import body_key, running_server
from tracker.errors import MissingKey, ProviderError
from tracker.fingerprint import Json

REJECTED = 0.05


class MakesChat(Protocol):
    def __call__(self, *, api_key: str, base_url: str, connections: int) -> Chat: ...


def asking(text: str, *, model: str = "test-model", **settings: Json) -> ChatRequest:
    return ChatRequest("endpoint", model, (Message("system", "Be short."), Message("user", text)), settings)


def body_of(text: str, **more: Json) -> dict[str, Json]:
    messages: list[Json] = [{"role": "system", "content": "Be short."}, {"role": "user", "content": text}]
    return {"model": "test-model", "messages": messages, **more}


@contextlib.contextmanager
def _listening() -> Iterator[tuple[str, list[Headers]]]:
    """A server that answers everything; its base_url, and the headers that it received."""
    received: list[Headers] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.headers)
            self.rfile.read(int(self.headers["content-length"]))
            body = b'{"choices": [{"message": {"content": "yes"}}]}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", received
        server.shutdown()


class ChatContract:
    make: MakesChat
    variables: str
    """What the environment variables of the SDK begin with."""

    def ask(
        self,
        base_url: str,
        requests: Sequence[ChatRequest],
        *,
        api_key: str = "test-key",
        timeout: float = 20,
        connections: int = 40,
    ) -> list[Answer | ChatError]:
        """What each of ``requests`` came to, all sent at once; anything but an Answer or a ChatError is a failure."""

        async def attempt(chat: Chat, request: ChatRequest) -> Answer | ChatError:
            try:
                return await chat.complete(request, timeout=timeout)
            except ChatError as error:
                return error

        async def attempts() -> list[Answer | ChatError]:
            chat = type(self).make(api_key=api_key, base_url=base_url, connections=connections)
            try:
                return await asyncio.gather(*(attempt(chat, request) for request in requests))
            finally:
                await chat.aclose()

        return asyncio.run(attempts())

    def test_an_answer_comes_with_tokens_and_request_id(self) -> None:
        with running_server() as server:
            [answer] = self.ask(server.base_url, [asking("hello")])
        assert isinstance(answer, Answer)
        assert answer.text.startswith("Answer ")
        assert (answer.finish_reason, answer.tokens_estimated) == ("stop", False)
        assert answer.prompt_tokens > 0 < answer.completion_tokens
        assert (answer.provider_request_id or "").startswith("req_")
        assert answer.requests_window is None

    @pytest.mark.parametrize("base_url_end", ["", "/"])
    def test_the_body_holds_what_was_asked_and_nothing_else(self, base_url_end: str) -> None:
        asked = asking("x", temperature=0.7, top_p=None, max_tokens=9, seed=3, stop=["a"], presence_penalty=0.5)
        with running_server() as server:
            self.ask(server.base_url + base_url_end, [asked])
            answered = server.stats()["answered"]
        sent = body_of("x", temperature=0.7, max_tokens=9, seed=3, stop=["a"], presence_penalty=0.5)
        assert answered == {body_key(sent): 1}

    def test_headers_that_the_environment_asks_for_take_the_place_of_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = {"authorization": "Bearer of-the-gateway", "user-agent": "ours", "x-team": "one"}
        monkeypatch.setenv(f"{self.variables}_CUSTOM_HEADERS", "\n".join(f"{k}: {v}" for k, v in wanted.items()))
        with _listening() as (base_url, received):
            [answer] = self.ask(base_url, [asking("x")])
        assert isinstance(answer, Answer)
        [headers] = received
        assert {name: headers.get_all(name) for name in wanted} == {name: [value] for name, value in wanted.items()}
        assert headers["content-type"] == "application/json"

    def test_no_encoding_is_accepted_that_the_transport_cannot_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # What aiohttp would say by itself where it, and not the transport over it, can read one more.
        monkeypatch.setitem(aiohttp.client_reqrep.ClientRequest.DEFAULT_HEADERS, hdrs.ACCEPT_ENCODING, "zstd")
        with _listening() as (base_url, received):
            self.ask(base_url, [asking("x")])
        assert "gzip" in received[0]["accept-encoding"]
        assert "zstd" not in received[0]["accept-encoding"]

    def test_a_header_that_cannot_be_sent_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for value in ("b\u00fcro", "a\tb"):
            monkeypatch.setenv(f"{self.variables}_CUSTOM_HEADERS", f"X-Team: {value}")
            with pytest.raises(ProviderError, match="'X-Team' holds characters that no header can carry"):
                type(self).make(api_key="test-key", base_url="http://127.0.0.1:1/v1", connections=1)

    @pytest.mark.parametrize(
        ("fault", "failure", "retry_after", "said"),
        [
            ("rate_limit", Failure.RATE_LIMIT, REJECTED, "slow down"),
            ("server_error", Failure.TRANSIENT, None, "HTTP 500"),
            ("unavailable", Failure.TRANSIENT, REJECTED, "overloaded"),
            ("drop", Failure.TRANSIENT, None, ""),
            ("broken_json", Failure.TRANSIENT, None, "no chat completion"),
            ("half_json", Failure.TRANSIENT, None, "no chat completion"),
            ("html_502", Failure.TRANSIENT, None, "HTTP 502"),
            ("hang", Failure.TRANSIENT, None, "within 1.5 s"),
            ("slow", Failure.TRANSIENT, None, "within 1.5 s"),
        ],
    )
    def test_a_fault_is_the_failure_it_should_be(
        self, fault: str, failure: Failure, retry_after: float | None, said: str
    ) -> None:
        # `slow` sends a piece every 0.6 s: no single read is late, only the whole exchange is.
        with running_server(faults=fault, fault_rate=1, slow_seconds=30) as server:
            outcomes = self.ask(server.base_url, [asking(str(number)) for number in range(8)], timeout=1.5)
            stats = server.stats()
        for outcome in outcomes:
            assert isinstance(outcome, ChatError)
            assert (outcome.failure, outcome.retry_after) == (failure, retry_after)
            # Whoever says no bills nothing; who falls silent, or says what cannot be read, may have worked.
            assert outcome.maybe_paid is (fault in {"drop", "broken_json", "half_json", "hang", "slow"})
            assert str(outcome)
            assert said in str(outcome)
        assert (stats["received"], stats["answered"]) == (8, {})

    @pytest.mark.parametrize(("fault", "finish_reason"), [("truncated", "length"), ("empty", "stop")])
    def test_cut_and_empty_answers_are_told_as_they_are(self, fault: str, finish_reason: str) -> None:
        with running_server(faults=fault, fault_rate=1) as server:
            [answer] = self.ask(server.base_url, [asking("x")])
        assert isinstance(answer, Answer)
        assert answer.finish_reason == finish_reason
        assert bool(answer.text) is (fault == "truncated")

    @pytest.mark.parametrize(
        ("api_key", "model", "status", "said"),
        [
            ("sk-very-secret", "test-model", 401, "Incorrect API key provided: ***"),
            ("forbidden-key", "test-model", 403, "may not do that"),
            ("no-quota-key", "test-model", 429, "may not do that"),
            ("test-key", "no-such-model", 404, "no-such-model"),
            ("test-key", "bad-request-model", 400, "bad-request-model"),
            ("test-key", "no-quota-model", 429, "no-quota-model"),
        ],
    )
    def test_a_refusal_is_fatal_and_says_why_but_never_the_key(
        self, api_key: str, model: str, status: int, said: str
    ) -> None:
        with running_server() as server:
            [error] = self.ask(server.base_url, [asking("x", model=model)], api_key=api_key)
        assert isinstance(error, ChatError)
        assert (error.failure, error.status, error.retry_after) == (Failure.FATAL, status, None)
        assert said in str(error)
        assert api_key not in "".join(traceback.format_exception(error))

    @pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
    def test_a_server_that_is_not_there_is_a_transient_failure_that_costs_nothing(self, host: str) -> None:
        with running_server() as server:
            pass
        [error] = self.ask(server.base_url.replace("127.0.0.1", host), [asking("x")])
        assert isinstance(error, ChatError)
        assert (error.failure, error.maybe_paid) == (Failure.TRANSIENT, False)
        assert f"Cannot connect to host {host}" in str(error)

    def test_forty_at_once_get_each_its_own_answer(self) -> None:
        with running_server(latency=0.5) as server:
            answers = self.ask(server.base_url, [asking(str(number)) for number in range(40)])
            stats = server.stats()
        assert len({answer.text for answer in answers if isinstance(answer, Answer)}) == 40
        assert stats["peak_in_flight"] == 40

    def test_closing_twice_does_nothing(self) -> None:
        async def twice() -> None:
            chat = type(self).make(api_key="test-key", base_url="http://127.0.0.1:1/v1", connections=1)
            await chat.aclose()
            await chat.aclose()

        asyncio.run(twice())

    def test_never_more_than_its_connections(self) -> None:
        with running_server(latency=0.1) as server:
            self.ask(server.base_url, [asking(str(number)) for number in range(40)], connections=5)
            stats = server.stats()
        assert (stats["received"], stats["peak_in_flight"]) == (40, 5)

    def test_requests_that_were_cut_give_their_connections_back(self) -> None:
        async def two_rounds(base_url: str) -> tuple[list[Answer | BaseException], list[Answer | BaseException]]:
            chat = type(self).make(api_key="test-key", base_url=base_url, connections=4)
            rounds = [
                await asyncio.gather(*(chat.complete(asking("x"), timeout=1) for _ in range(4)), return_exceptions=True)
                for _ in range(2)
            ]
            await chat.aclose()
            return rounds[0], rounds[1]

        with running_server(fault_rate=1, faults="hang") as server:
            first, second = asyncio.run(two_rounds(server.base_url))
            stats = server.stats()
        assert all(isinstance(outcome, ChatError) for outcome in first + second)
        assert (stats["received"], stats["in_flight"]) == (8, 0)

    def test_rate_limit_headers_become_a_window(self) -> None:
        with running_server(requests_per_minute=60) as server:
            [answer] = self.ask(server.base_url, [asking("x")])
        assert isinstance(answer, Answer)
        assert answer.requests_window is not None
        assert (answer.requests_window.limit, answer.requests_window.remaining) == (60, 59)
        assert answer.requests_window.reset_s == 1
        assert answer.tokens_window is None

    def test_tokens_nobody_told_are_marked_estimated(self) -> None:
        with running_server(no_usage=True) as server:
            [answer] = self.ask(server.base_url, [asking("12345")])
        assert isinstance(answer, Answer)
        assert answer.tokens_estimated
        assert answer.prompt_tokens == 4 + 3 + 4 + 2

    def test_neither_prompt_nor_key_is_logged_at_any_level(self, caplog: pytest.LogCaptureFixture) -> None:
        with running_server() as server, caplog.at_level(logging.DEBUG):
            self.ask(server.base_url, [asking("a private sentence")])
        assert "HTTP" in caplog.text
        assert "private sentence" not in caplog.text
        assert "test-key" not in caplog.text

    def test_text_that_is_no_unicode_is_fatal_before_it_is_sent(self) -> None:
        with running_server() as server:
            [error] = self.ask(server.base_url, [asking("half a pair: \ud800")])
            assert server.stats()["received"] == 0
        assert isinstance(error, ChatError)
        assert error.failure is Failure.FATAL

    @pytest.mark.parametrize("api_key", ["", " ", "two words", "line\nbreak", "schlüssel"])
    def test_a_key_that_no_header_can_carry_is_refused(self, api_key: str) -> None:
        with pytest.raises(MissingKey):
            type(self).make(api_key=api_key, base_url="http://127.0.0.1:1/v1", connections=1)

    @pytest.mark.parametrize(
        "base_url", ["api.example.com/v1", "ftp://example.com", "http://", "http://[::1", "http://x:y"]
    )
    def test_a_base_url_that_is_none_is_refused(self, base_url: str) -> None:
        with pytest.raises(ProviderError, match="base_url"):
            type(self).make(api_key="k", base_url=base_url, connections=1)
