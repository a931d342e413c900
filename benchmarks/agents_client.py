"""The clients that ``benchmarks.perspectives`` compares, one per process; each prints one line of JSON.

All of them send the same requests: those that the plan of one config makes, notes before the responses that use them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.clients import make_database
from pipeline.chats.chat import ChatRequest
from pipeline.perspectives.job import Job, Options, prepare_settings
from pipeline.perspectives.plan import Agent
from tracker.paths import Workspace

Ask = Callable[[ChatRequest], Awaitable[str]]


def config(given: dict[str, Any]) -> dict[str, Any]:
    """The config that is run: four conditions, with ``notes`` half of which read first."""
    told = ["faithfully", "in a hurry", "with more detail than there is", "with an error that nobody sees"]
    return {
        "task_type": "benchmark",
        "model_config": {
            "model_name": "test-model", "base_url": given["base_url"], "endpoint": "benchmark",
            "concurrency": given["in_flight"],
        },
        "agent_perspectives": [
            {
                "condition": how,
                "reading": "Take notes on this text." if given["notes"] and at % 2 else None,
                "strategy": f"Say the following text in other words, {how}. Output only the new text.",
            }
            for at, how in enumerate(told)
        ],
        "data_config": {"input_data_path": "inputs.jsonl"},
        "api_provider": "openai",
    }  # fmt: skip


def job_in(root: Path, given: dict[str, Any]) -> tuple[Workspace, Job]:
    """A fresh workspace, and the job of the config in it."""
    inputs = [{"input": f"Sentence {n}: The man turned on the faucet of bathtub {n}."} for n in range(given["inputs"])]
    if given["references"]:
        inputs = [each | {"reference": f"The man opened the tap of bathtub {n}."} for n, each in enumerate(inputs)]
    lines = "".join(f"{json.dumps(each)}\n" for each in inputs)
    (root / "inputs.jsonl").write_text(lines, encoding="utf-8")
    workspace = Workspace(root, environ={"OPENAI_API_KEY": "test-key"})
    return workspace, prepare_settings(workspace, config(given), Options(command="benchmark"))


async def bare(job: Job, ask: Ask, in_flight: int) -> dict[str, Any]:
    """A loop that keeps nothing: what the client, the network and the server allow."""
    waiting, answered = job.plan.items(), 0

    async def respond(position: int, agent: Agent) -> bool:
        notes = None if agent.reading is None else await ask(job.plan.reading_request(position, agent))
        return bool(await ask(job.plan.request(position, agent, notes)))

    async def work() -> None:
        nonlocal answered
        for position, agent in waiting:
            good = await respond(position, agent)
            answered += good

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds = time.perf_counter() - start
    return {"answered": answered, "run_s": seconds, "cpu_s": time.process_time() - cpu}


async def bare_aiohttp(_: Workspace, job: Job, in_flight: int) -> dict[str, Any]:
    """The loop over aiohttp alone."""
    import aiohttp

    from pipeline.chats.chat_wire import build_body

    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": "Bearer test-key"}) as session:

        async def ask(request: ChatRequest) -> str:
            url = f"{job.plan.model.base_url}/chat/completions"
            async with session.post(url, json=build_body(request)) as response:
                return str((await response.json())["choices"][0]["message"]["content"])

        return await bare(job, ask, in_flight)


async def bare_sdk(_: Workspace, job: Job, in_flight: int) -> dict[str, Any]:
    """The loop over the chat that the engine uses."""
    from pipeline.chats.chat_openai import OpenAIChat

    chat = OpenAIChat(api_key="test-key", base_url=str(job.plan.model.base_url), connections=in_flight)

    async def ask(request: ChatRequest) -> str:
        return (await chat.complete(request, timeout=60)).text

    try:
        return await bare(job, ask, in_flight)
    finally:
        await chat.aclose()


async def perspectives(workspace: Workspace, job: Job, _: int) -> dict[str, Any]:
    """All of `perspectives`: claim, ledger, every answer durable, figures, file."""
    from pipeline.engine.asking import Progress
    from pipeline.perspectives.generate import generate

    # Making a database imports Alembic; that is done once per workspace, by another process here.
    await asyncio.to_thread(make_database, workspace.root)
    shown: list[tuple[float, float]] = []

    def display(_: Progress) -> None:
        shown.append((time.time(), time.process_time()))

    begin = time.time()
    outcome = await generate(workspace, job, display)
    end, cpu = time.time(), time.process_time()
    assert outcome.path is not None
    tasks = json.loads(outcome.path.read_text(encoding="utf-8"))["tasks"]
    # The display is there just before the first request and just after the last answer.
    first, last = shown[0], shown[-1]
    finished = datetime.fromisoformat(outcome.run["finished_at"]).timestamp()
    return {
        "answered": sum(response is not None for task in tasks for response in task["responses"]),
        "cpu_s": cpu - first[1],
        "before_s": first[0] - begin,
        "answers_s": last[0] - first[0],
        "run_s": finished - first[0],
        "file_s": end - first[0],
    }


CLIENTS = {"aiohttp": bare_aiohttp, "sdk": bare_sdk, "perspectives": perspectives}


def main() -> None:
    """Runs the client that ``argv[1]`` names with the options on stdin, and says what it took."""
    given = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as root:
        workspace, job = job_in(Path(root), given)
        found = asyncio.run(CLIENTS[sys.argv[1]](workspace, job, given["in_flight"]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
