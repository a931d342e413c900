"""A small OpenAI-compatible server that can fail in every way that real endpoints do.

In a shell, ``python -m tests.llm_server --port 0 --latency 0.05`` prints one line ``{"base_url": ...}`` and serves
until it is killed. In a test, ``with running_server(latency=0.05) as server`` does the same in a process of its own.

    POST /v1/chat/completions     GET /v1/models     GET /stats     POST /reset (begins anew)

Refusals that a test can ask for: another key than ``--api-key`` gets 401, see ``REFUSED_KEYS`` and ``REFUSED_MODELS``
for the rest; a message that holds the text of ``--poison`` gets 500 for ever. Faults, drawn per accepted request from
a generator seeded with ``--fault-seed``:

    rate_limit   429, Retry-After: 0.05            half_json    200, JSON cut in the middle
    server_error 500                               truncated    finish_reason length, half of the text
    unavailable  503, Retry-After: 0.05            empty        200, empty text
    hang         no answer until the client leaves html_502     502 with a page of HTML
    drop         connection cut, before the        slow         a good answer, dripping for --slow-seconds
                 headers or within the body
    broken_json  200, no JSON at all
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web

FAULTS = (
    "rate_limit",
    "server_error",
    "unavailable",
    "hang",
    "drop",
    "broken_json",
    "half_json",
    "truncated",
    "empty",
    "html_502",
    "slow",
)
REFUSED_KEYS = {"forbidden-key": (403, "forbidden"), "no-quota-key": (429, "insufficient_quota")}
REFUSED_MODELS = {
    "no-such-model": (404, "model_not_found"),
    "forbidden-model": (403, "forbidden"),
    "bad-request-model": (400, "invalid_request_error"),
    "no-quota-model": (429, "insufficient_quota"),
}
RETRY_AFTER = "0.05"
Reply = tuple[int, bytes, dict[str, str]]


class Server:
    """A running server: ``base_url`` for a client, ``stats()`` for what it has seen."""

    def __init__(self, process: subprocess.Popen[str], base_url: str) -> None:
        self._process = process
        self.base_url = base_url

    def stats(self) -> dict[str, Any]:
        return self._call("GET", "/stats")

    def reset(self) -> None:
        """Forgets the statistics and what is used up of the limits; the sequence of faults goes on."""
        self._call("POST", "/reset")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _call(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.base_url.removesuffix("/v1") + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            found: dict[str, Any] = json.loads(response.read())
        return found


@contextmanager
def running_server(**options: object) -> Iterator[Server]:
    """A server in a process of its own; ``max_in_flight=50`` is the option ``--max-in-flight 50``, True is a flag."""
    arguments = ["--with-parent"]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.llm_server", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the server did not start, exit code {process.wait()}")
    server = Server(process, json.loads(line)["base_url"])
    try:
        yield server
    finally:
        server.stop()


@dataclass
class _Stats:
    received: int = 0
    rejected_429: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)


class _Bucket:
    """``limit`` requests or tokens in ``span`` seconds, which come back all the time; full at the start."""

    def __init__(self, limit: float, span: float) -> None:
        self.limit, self.span = limit, span
        self.left, self.at = limit, time.monotonic()

    def has(self, amount: float) -> bool:
        self.refill(time.monotonic())
        return self.left >= min(amount, self.limit)

    def refill(self, now: float) -> None:
        self.left = min(self.limit, self.left + (now - self.at) * self.limit / self.span)
        self.at = now

    def full_in(self) -> float:
        return (self.limit - self.left) * self.span / self.limit

    def has_in(self, amount: float) -> float:
        return (amount - self.left) * self.span / self.limit

    def headers(self, kind: str) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{kind}": str(int(self.limit)),
            f"x-ratelimit-remaining-{kind}": str(max(0, int(self.left))),
            f"x-ratelimit-reset-{kind}": openai_duration(self.full_in()),
        }


class _Window(_Bucket):
    """The same, all of it given back at once at the end of each span; the first begins with the first request."""

    until: float | None = None

    def refill(self, now: float) -> None:
        self.until = self.until or now + self.span
        while now >= self.until:
            self.left, self.until = self.limit, self.until + self.span

    def full_in(self) -> float:
        return self.span if self.until is None else max(0.0, self.until - time.monotonic())

    def has_in(self, _: float) -> float:
        return self.full_in()


def openai_duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: ``20ms``, ``1s``, ``6m0s``, ``1h2m3s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    hours, rest = divmod(round(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{whole}s"


@dataclass(frozen=True)
class _Recorded:
    original: str
    rephrased: str
    verdict: str

    @property
    def stripped(self) -> str:
        # A real answer may begin with a newline, which whoever asks has stripped by then.
        return self.rephrased.strip()

    def is_judged_in(self, message: str, start: int, end: int) -> bool:
        """Whether what stands from ``start`` to ``end`` is part of the rephrased text that the message asks about."""
        at = message.rfind(self.stripped)
        if not 0 <= at <= start < end <= at + len(self.stripped):
            return False
        asked = message.rfind(self.original, 0, at)
        # Among examples it stands once more: then what comes last is a premise to be rephrased.
        return asked >= 0 and message.find(self.stripped, asked + len(self.original)) == at


def recorded_answers(path: Path) -> Callable[[str], str]:
    """Answers from a recording to the premise that stands last in a message, below any few-shot examples.

    That is the verdict where its rephrased text follows, else the rephrased text. A rephrased text that is judged may
    hold another recorded premise, or be one.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    found: dict[str, _Recorded] = {}
    for row in rows:
        found.setdefault(
            row["original_premise"], _Recorded(row["original_premise"], row["rephrased_premise"], row["verdict"])
        )
    width = min(map(len, found), default=1)
    by_end: dict[str, list[_Recorded]] = {}
    for original in sorted(found, key=len, reverse=True):
        by_end.setdefault(original[-width:], []).append(found[original])
    holding = {original: [other for other in found.values() if original in other.stripped] for original in found}

    def answer(message: str) -> str:
        for end in range(len(message), width - 1, -1):
            for asked in by_end.get(message[end - width : end], ()):
                if not message.endswith(asked.original, 0, end):
                    continue
                if asked.stripped in message[end:]:
                    return asked.verdict
                start = end - len(asked.original)
                judged = [other for other in holding[asked.original] if other.is_judged_in(message, start, end)]
                return judged[0].verdict if judged else asked.rephrased
        return invented_answer(message)

    return answer


def invented_answer(message: str) -> str:
    """A short answer that only this message gets."""
    return f"Answer {hashlib.sha256(message.encode()).hexdigest()[:12]}."


def body_key(body: dict[str, Any]) -> str:
    """What ``answered`` counts by: 16 hex digits of the request body, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


class _Endpoint:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.stats = _Stats()
        self.random = random.Random(options.fault_seed)
        self.faults = FAULTS if options.faults == "all" else tuple(options.faults.split(","))
        self.buckets = self.full_buckets()
        self.answer = lru_cache(maxsize=100_000)(
            recorded_answers(options.recorded) if options.recorded else invented_answer
        )
        self.serial = 0

    def full_buckets(self) -> dict[str, _Bucket]:
        kind = _Window if self.options.fixed_windows else _Bucket
        limits = {"requests": self.options.requests_per_minute, "tokens": self.options.tokens_per_minute}
        span = self.options.minute_seconds
        return {name: kind(limit, span) for name, limit in limits.items() if limit}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/chat/completions" and request.method == "POST":
            return await self.chat(request)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "test-model", "object": "model"}]})
        if request.path == "/reset" and request.method == "POST":
            self.stats, self.buckets = _Stats(in_flight=self.stats.in_flight), self.full_buckets()
            return web.json_response({})
        if request.path == "/stats":
            return web.json_response({name: getattr(self.stats, name) for name in _Stats.__dataclass_fields__})
        return await self.send(request, _error(404, "not_found", f"no such page: {request.path}"))

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        stats = self.stats
        stats.received += 1
        raw = await request.read()
        if self.options.log:
            with self.options.log.open("ab") as log:
                log.write(raw + b"\n")
        try:
            body = json.loads(raw)
            model, _ = body["model"], body["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return await self.send(request, _error(400, "invalid_request_error", f"no chat request: {error!r}"))
        refusal = self.refusal(request, model)
        if refusal is not None:
            return await self.send(request, refusal)
        limited = self.limited(body)
        if limited is not None:
            stats.rejected_429 += 1
            return await self.send(request, limited)
        fault = self.random.choice(self.faults) if self.random.random() < self.options.fault_rate else None
        if self.options.poison and self.options.poison in body["messages"][-1]["content"]:
            fault = "server_error"
        stats.in_flight += 1
        stats.peak_in_flight = max(stats.peak_in_flight, stats.in_flight)
        try:
            if self.options.latency:
                await asyncio.sleep(self.options.latency)
            return await self.reply(request, body, fault)
        finally:
            self.stats.in_flight -= 1

    def refusal(self, request: web.BaseRequest, model: str) -> Reply | None:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key in REFUSED_KEYS:
            return _error(*REFUSED_KEYS[key], "this key may not do that")
        if key != self.options.api_key:
            return _error(401, "invalid_api_key", f"Incorrect API key provided: {key}.")
        if model in REFUSED_MODELS:
            return _error(*REFUSED_MODELS[model], f"the model {model!r} cannot be used")
        return None

    def limited(self, body: dict[str, Any]) -> Reply | None:
        if self.options.max_in_flight and self.stats.in_flight >= self.options.max_in_flight:
            headers = {"retry-after": self.options.retry_after} if self.options.retry_after else {}
            return _error(429, "rate_limit_exceeded", "too many requests in flight", headers)
        amounts = {"requests": 1.0, "tokens": float(self.tokens(body)[0] + self.tokens(body)[1])}
        short = [bucket.has_in(amounts[name]) for name, bucket in self.buckets.items() if not bucket.has(amounts[name])]
        if short:
            wait = int(1000 * max(short)) + 1
            headers = {"retry-after": str(-(-wait // 1000))}
            headers |= {} if self.options.only_retry_after else {"retry-after-ms": str(wait), **self.told()}
            return _error(429, "rate_limit_exceeded", "too many requests or tokens per minute", headers)
        for name, bucket in self.buckets.items():
            bucket.left -= amounts[name]
        return None

    def told(self) -> dict[str, str]:
        if self.options.only_retry_after:
            return {}
        return {name: value for kind, bucket in self.buckets.items() for name, value in bucket.headers(kind).items()}

    def tokens(self, body: dict[str, Any], text: str | None = None) -> tuple[int, int]:
        """Tokens of the prompt and of the answer."""
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4 + 1
        return prompt, len(self.answer(body["messages"][-1]["content"]) if text is None else text) // 4 + 1

    async def reply(self, request: web.BaseRequest, body: dict[str, Any], fault: str | None) -> web.StreamResponse:
        if fault is not None:
            self.stats.faults[fault] += 1
        text = self.answer(body["messages"][-1]["content"])
        good = self.completion(body, text)
        match fault:
            case None:
                response = await self.send(request, good)
            case "slow":
                response = await self.drip(request, good)
            case "hang":
                await asyncio.sleep(86_400)
                raise AssertionError("no client waits for a day")
            case "drop":
                return await self.drop(request, good)
            case "truncated":
                return await self.send(request, self.completion(body, text[: len(text) // 2], "length"))
            case "empty":
                return await self.send(request, self.completion(body, ""))
            case _:
                return await self.send(request, _faulty(fault, good))
        # Whoever left before this point was cut off by an exception above; what follows was sent, so it is paid for.
        self.stats.answered[body_key(body)] += 1
        return response

    def completion(self, body: dict[str, Any], text: str, finish_reason: str = "stop") -> Reply:
        self.serial += 1
        found: dict[str, Any] = {
            "id": f"chatcmpl-{self.serial}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
            ],
        }
        if not self.options.no_usage:
            prompt, completion = self.tokens(body, text)
            found["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        headers = {"x-request-id": f"req_{self.serial}", **self.told()}
        return 200, json.dumps(found).encode(), headers

    async def send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        status, body, headers = reply
        self.stats.statuses[status] += 1
        response = web.Response(status=status, body=body, headers={"content-type": "application/json", **headers})
        await response.prepare(request)
        await response.write_eof()
        return response

    async def drip(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        status, body, headers = reply
        self.stats.statuses[status] += 1
        response = web.StreamResponse(headers={"content-type": "application/json", **headers})
        await response.prepare(request)
        size = -(-len(body) // 50)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(self.options.slow_seconds / 50)
        await response.write_eof()
        return response

    async def drop(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(len(reply[1]))})
        if self.random.random() < 0.5:
            await response.prepare(request)
            await response.write(reply[1][: len(reply[1]) // 2])
        if request.transport is not None:
            request.transport.close()
        return response


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    body = {"error": {"message": message, "type": code, "param": None, "code": code}}
    return status, json.dumps(body).encode(), headers or {}


def _faulty(fault: str, good: Reply) -> Reply:
    match fault:
        case "rate_limit":
            return _error(429, "rate_limit_exceeded", "slow down", {"retry-after": RETRY_AFTER})
        case "server_error":
            return _error(500, "server_error", "something broke")
        case "unavailable":
            return _error(503, "unavailable", "overloaded", {"retry-after": RETRY_AFTER})
        case "broken_json":
            return 200, b"\xff\xfe this is no JSON", {}
        case "half_json":
            return 200, good[1][: len(good[1]) // 2], {}
        case "html_502":
            return 502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", {"content-type": "text/html"}
    raise ValueError(f"no such fault: {fault}")


async def _serve(options: argparse.Namespace) -> None:
    endpoint = _Endpoint(options)
    runner = web.ServerRunner(web.Server(endpoint.serve, handler_cancellation=True, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"base_url": f"http://127.0.0.1:{port}/v1"}), flush=True)  # noqa: T201  the one line callers read
    parent = os.getppid()
    while not options.with_parent or os.getppid() == parent:  # noqa: ASYNC110  a parent's death sets no event
        await asyncio.sleep(1)


def _parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.llm_server", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--api-key", default="test-key")
    parser.add_argument("--recorded", type=Path, help="JSONL of original_premise, rephrased_premise, verdict")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--max-in-flight", type=int, default=0, help="429 above it")
    parser.add_argument("--retry-after", help="the Retry-After of those 429")
    parser.add_argument("--requests-per-minute", type=float, default=0, help="429 above it, and rate-limit headers")
    parser.add_argument("--tokens-per-minute", type=float, default=0, help="likewise of prompts and answers together")
    parser.add_argument("--minute-seconds", type=float, default=60, help="how long a minute of the two limits is")
    parser.add_argument("--fixed-windows", action="store_true", help="what is used up comes back at a minute's end")
    parser.add_argument("--only-retry-after", action="store_true", help="no rate-limit headers; 429 in whole seconds")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--fault-seed", type=int, default=1)
    parser.add_argument("--faults", default="all", help=f"all, or some of {','.join(FAULTS)}")
    parser.add_argument("--poison", metavar="TEXT", help="a message that holds it gets 500 for ever")
    parser.add_argument("--log", type=Path, metavar="FILE", help="JSONL of every body that arrived")
    parser.add_argument("--slow-seconds", type=float, default=3.0)
    parser.add_argument("--no-usage", action="store_true", help="answers tell no token counts")
    parser.add_argument("--with-parent", action="store_true", help="ends when the process that started it ends")
    options = parser.parse_args(arguments)
    unknown = set(options.faults.split(",")) - {"all", *FAULTS}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(_parse()))
