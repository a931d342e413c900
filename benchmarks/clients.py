"""The clients that ``benchmarks.engine`` compares, one per process; each prints one line of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.chats.chat import ChatRequest, Message

Ask = Callable[[str], Awaitable[bool]]
_kept: dict[str, Any] = {}
"""What the client says of itself beside the time it took."""


async def bare_aiohttp(base_url: str, prompts: list[str], in_flight: int) -> int:
    """A loop over aiohttp alone: what the network and the server allow."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": "Bearer test-key"}) as session:

        async def ask(prompt: str) -> bool:
            body = {"model": "test-model", "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{base_url}/chat/completions", json=body) as response:
                return bool((await response.json())["choices"][0]["message"]["content"])

        return await _loop(ask, prompts, in_flight)


async def sdk_httpx(base_url: str, prompts: list[str], in_flight: int) -> int:
    """The SDK as its documentation has it, its connections not limited below ``in_flight``."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    return await _plain_sdk(openai.DefaultAsyncHttpxClient(limits=limits), base_url, prompts, in_flight)


async def sdk_aiohttp(base_url: str, prompts: list[str], in_flight: int) -> int:
    """The same over the SDK's aiohttp transport."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    return await _plain_sdk(openai.DefaultAioHttpClient(limits=limits), base_url, prompts, in_flight)


async def _plain_sdk(http: Any, base_url: str, prompts: list[str], in_flight: int) -> int:
    import openai

    async with openai.AsyncOpenAI(api_key="test-key", base_url=base_url, max_retries=0, http_client=http) as client:

        async def ask(prompt: str) -> bool:
            answer = await client.chat.completions.create(
                model="test-model", messages=[{"role": "user", "content": prompt}]
            )
            return bool(answer.choices[0].message.content)

        return await _loop(ask, prompts, in_flight)


async def bare_path(base_url: str, prompts: list[str], in_flight: int) -> int:
    """The chat that the engine uses, without the engine: no retries, nothing kept."""
    from pipeline.chats.chat_openai import OpenAIChat

    chat = OpenAIChat(api_key="test-key", base_url=base_url, connections=in_flight)

    async def ask(prompt: str) -> bool:
        return bool((await chat.complete(_request(base_url, prompt), timeout=60)).text)

    try:
        return await _loop(ask, prompts, in_flight)
    finally:
        await chat.aclose()


async def engine(base_url: str, prompts: list[str], in_flight: int, *, learned_limit: int | None = None) -> int:
    """The engine with the ledger that ``generate`` uses: every answer is committed before this returns."""
    with tempfile.TemporaryDirectory() as root:
        # Making a database imports Alembic; that is done once per workspace, by another process here.
        await asyncio.to_thread(make_database, Path(root))
        before = bytes_below(Path(root))
        answered = await _engine(Path(root), base_url, prompts, in_flight, learned_limit=learned_limit)
        _kept.update(bytes=bytes_below(Path(root)) - before, parts=_parts(Path(root) / "tracker.db"))
        return answered


async def engine_again(base_url: str, prompts: list[str], in_flight: int) -> int:
    """The same where an earlier run had all of ``in_flight`` answered: it begins at the limit that was learned."""
    return await engine(base_url, prompts, in_flight, learned_limit=in_flight)


async def limited_engine(base_url: str, seconds: float, in_flight: int) -> int:
    """The engine for so many seconds, with more to ask than it will be allowed."""
    prompts = (f"Rephrase sentence {n}: The man turned on the faucet of the bathtub." for n in range(10**6, 2 * 10**6))
    with tempfile.TemporaryDirectory() as root:
        await asyncio.to_thread(make_database, Path(root))
        return await _engine(Path(root), base_url, prompts, in_flight, seconds)


def bytes_below(root: Path) -> int:
    """What the files below ``root`` hold."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _parts(database: Path) -> dict[str, int]:
    """Bytes of each table and index, where this SQLite can tell."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            return dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        except sqlite3.OperationalError:
            return {}


_MAKE_DATABASE = """
import sys
from pathlib import Path
from tracker.record.database import open_database
from tracker.paths import Workspace
open_database(Workspace(Path(sys.argv[1]))).close()
"""


def make_database(root: Path) -> None:
    """Makes the database of the workspace ``root`` in a process of its own."""
    subprocess.run([sys.executable, "-c", _MAKE_DATABASE, str(root)], check=True)


async def _engine(
    root: Path,
    base_url: str,
    prompts: Iterable[str],
    in_flight: int,
    seconds: float | None = None,
    *,
    learned_limit: int | None = None,
) -> int:
    from pipeline.chats.chat_openai import OpenAIChat
    from pipeline.engine.endpoint import Endpoint, Limits
    from pipeline.engine.engine import Engine
    from pipeline.engine.ledger import RunLedger
    from tracker.paths import Workspace
    from tracker.record.catalogue import reading
    from tracker.record.database import open_database

    answered = 0
    chat = OpenAIChat(api_key="test-key", base_url=base_url, connections=in_flight)
    endpoint = Endpoint("test server", chat, Limits(concurrency=in_flight), learned_limit)
    workspace = Workspace(root)
    with open_database(workspace) as database, reading(workspace, snapshot=False) as reader:
        ledger = RunLedger(database, reader, _generation_run(database))
        meter = _Meter()
        async with Engine(ledger) as asking:
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, asking.stop, "time is up")

            async def job(prompt: str) -> None:
                nonlocal answered
                reply = await asking.ask(endpoint, _request(base_url, prompt))
                answered += bool(reply.text)

            await asking.run(job, prompts, window=2 * in_flight)
        meter.stop()
        _kept["tokens"] = asking.counters.prompt_tokens + asking.counters.completion_tokens
        [row] = reader.rows("SELECT count(*) AS kept FROM attempt WHERE failure IS NULL")
        assert row["kept"] == answered, f"{row['kept']} of {answered} answers were kept"
    await chat.aclose()
    _Meter.result = meter
    return answered


class _Meter:
    """Wall and CPU seconds from its making to ``stop``."""

    result: _Meter | None = None

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def _generation_run(database: Any) -> int:
    """A run for attempts to belong to, made as ``generate`` makes one."""
    from tracker import clock
    from tracker.fingerprint import identify
    from tracker.record import generation, sources
    from tracker.record.generation import Claimed, Wanted

    split = {"split": "train", "filename": "b.jsonl", "digest": "b", "n_records": 1, "n_bytes": 2, "content": None}
    dataset = {"name": "Benchmark", "task_name": "benchmark", "digest": "b", "origin": "benchmark"}
    wanted = Wanted(
        identity=identify("benchmark", {}),
        dataset="Benchmark",
        semantic_name="benchmark",
        source_dataset_id=sources.register_source(database, dataset, [split], ["{}"]),
        batch="batch_benchmark",
        purpose="benchmark",
        description="",
        columns={
            "provider": "openai", "endpoint": "benchmark", "model": "test-model", "strategy": "direct_all",
            "field_to_rephrase": "text", "settings": "{}", "config": "{}", "n_records": 1,
        },
        run={"command": "benchmark", "config": "{}", "versions": "{}"},
    )  # fmt: skip
    claimed = generation.claim(database, wanted, clock.this_process())
    assert isinstance(claimed, Claimed)
    return claimed.run_id


def _request(base_url: str, prompt: str) -> ChatRequest:
    return ChatRequest(base_url, "test-model", (Message("user", prompt),), {})


async def _loop(ask: Ask, prompts: Iterable[str], in_flight: int) -> int:
    waiting, answered = iter(prompts), 0

    async def work() -> None:
        nonlocal answered
        for prompt in waiting:
            good = await ask(prompt)
            answered += good

    meter = _Meter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    meter.stop()
    _Meter.result = meter
    return answered


CLIENTS = {
    "aiohttp": bare_aiohttp, "path": bare_path, "engine": engine, "engine_again": engine_again,
    "sdk_aiohttp": sdk_aiohttp, "sdk_httpx": sdk_httpx,
}  # fmt: skip


def main() -> None:
    """Runs the client that ``argv[1]`` names with the options on stdin, and says what it took."""
    options = json.load(sys.stdin)
    base_url, in_flight = options["base_url"], options["in_flight"]
    if "seconds" in options:
        answered = asyncio.run(limited_engine(base_url, options["seconds"], in_flight))
    else:
        answered = asyncio.run(CLIENTS[sys.argv[1]](base_url, options["prompts"], in_flight))
    assert _Meter.result is not None
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    result = {
        "seconds": _Meter.result.wall,
        "cpu_s": _Meter.result.cpu,
        "peak_mb": int(peak.split()[1]) / 1024,
        "answered": answered,
        **_kept,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
