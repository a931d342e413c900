"""Claims within one process: cancelled at a bad moment, waited for by many, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.engine.asking import Progress
from pipeline.generation.execution import POLL_S
from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Options, prepare_settings
from tests.llm_server import running_server
from tests.perspectives import agent, files, new_root, offline, received, served, write_config, write_inputs
from tests.workspaces import finish, rows, start
from tracker.paths import Workspace
from tracker.record import lease

COUNT = 6
LONG = 300
"""Words of a response whose chrF takes a while."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


def states(root: Path) -> list[tuple[str, str, int | None]]:
    """Of each data set and run their status, and who holds the data set."""
    return rows(
        root,
        "SELECT d.status, r.status, d.lease_pid FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id "
        "ORDER BY r.id",
    )


@pytest.mark.parametrize("times", [1, 2, 3])
def test_cancelled_again_and_again_while_claiming_it_leaves_nothing_behind(root: Path, times: int) -> None:
    workspace = Workspace(root, environ={})
    job = prepare_settings(workspace, offline(), Options(wait=True))

    async def cancelled() -> None:
        await generate(workspace, job)
        with contextlib.closing(
            sqlite3.connect(root / "tracker.db", isolation_level=None, check_same_thread=False)
        ) as writer:
            later = "2999-01-01T00:00:00.000000Z"
            writer.execute(
                "UPDATE agent_dataset SET status = 'unfinished', data_digest = NULL, lease_host = 'elsewhere', "
                "lease_pid = 7, lease_started = 1.0, lease_since = ?, lease_heartbeat = ?",
                (later, later),
            )
            waits = asyncio.Event()
            task = asyncio.create_task(generate(workspace, job, tell=lambda _: waits.set()))
            await waits.wait()
            # Free now, but somebody writes: the next attempt has to wait in its thread.
            writer.execute("UPDATE agent_dataset SET lease_host = NULL, lease_pid = NULL")
            writer.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(1.5 * POLL_S)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.1)
            assert not task.done()
            writer.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert states(root)[1:] == [("unfinished", "interrupted", None)]
        assert (await generate(workspace, job)).status == "complete"

    asyncio.run(cancelled())
    assert [status for _, status, _ in states(root)] == ["complete", "interrupted", "complete"]


def test_many_who_wait_in_one_process_take_no_thread_from_who_makes_it(root: Path) -> None:
    async def together() -> list[str]:
        workspace = Workspace(root, environ={"OPENAI_API_KEY": "test-key"})
        job = prepare_settings(workspace, served(server.base_url), Options(wait=True))
        made = await asyncio.gather(*(generate(workspace, job) for _ in range(40)))
        return sorted(each.outcome for each in made)

    with running_server(latency=0.1) as server:
        assert asyncio.run(asyncio.wait_for(together(), 90)) == ["made", *["reused"] * 39]
        assert received(server) == 4 * COUNT
    assert {lease for _, _, lease in states(root)} == {None}


def long_answers(root: Path, count: int) -> dict[str, object]:
    """A config whose figures take a while: chrF of long texts."""
    draw = random.Random(1)

    def text() -> str:
        return " ".join(draw.choices(["the", "paper", "proposes", "a", "method", "result", "baseline"], k=LONG))

    write_inputs(root, [{"input": f"{number} {text()}", "reference": text()} for number in range(count)])
    return offline(agent_perspectives=[agent("A"), agent("B")], model_config__max_tokens=2_000)


def test_an_interrupt_after_the_last_answer_ends_the_run_in_the_record(root: Path) -> None:
    count = 80
    write_config(root, long_answers(root, count))
    process = start(root, "perspectives", "config.json", "--no-mlflow")
    answered, until = 0, time.monotonic() + 60
    while answered < 2 * count and process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(sqlite3.OperationalError):  # while there is no record yet
            [(answered,)] = rows(root, "SELECT count(*) FROM agent_response")
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert "Traceback" not in done.err
    # Who has every answer may just as well finish.
    found = (done.code, states(root), len(files(root)))
    assert found in [(0, [("complete", "complete", None)], 1), (130, [("unfinished", "interrupted", None)], 0)], done


def test_the_heart_beats_while_figures_are_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    beats: set[str] = set()

    def display(progress: Progress) -> None:
        if progress.done == progress.total:
            beats.update(beat for (beat,) in rows(root, "SELECT lease_heartbeat FROM agent_dataset") if beat)

    workspace = Workspace(root, environ={})
    job = prepare_settings(workspace, long_answers(root, 150), Options())
    asyncio.run(generate(workspace, job, display))
    assert len(beats) > 2


def test_cancelled_while_its_end_is_written_it_has_ended_in_one_way(root: Path) -> None:
    count = 60
    workspace = Workspace(root, environ={})
    job = prepare_settings(workspace, long_answers(root, count), Options())

    async def cancelled() -> None:
        task = asyncio.create_task(generate(workspace, job))
        answered = 0
        while answered < 2 * count and not task.done():
            await asyncio.sleep(0.01)
            with contextlib.suppress(sqlite3.OperationalError):  # while there is no record yet
                [(answered,)] = rows(root, "SELECT count(*) FROM agent_response")
        with contextlib.closing(
            sqlite3.connect(root / "tracker.db", isolation_level=None, check_same_thread=False)
        ) as writer:
            writer.execute("BEGIN IMMEDIATE")
            # Figures are made, and then the end of the run waits to be written.
            await asyncio.sleep(4)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0.1)
            writer.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert states(root) in [[("complete", "complete", None)], [("unfinished", "interrupted", None)]]
