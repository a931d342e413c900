"""``perspectives`` interrupted and started many times at once: one data set, and nothing is paid twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Options, prepare
from tests.llm_server import Server, invented_answer, running_server
from tests.perspectives import (
    answered_twice,
    content,
    files,
    lasting,
    new_root,
    offline,
    pairs,
    received,
    served,
    tasks,
    write_config,
)
from tests.workspaces import call, finish, rows, start
from tracker import clock
from tracker.clock import Process, host
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record import agents
from tracker.record.database import open_database

COUNT = 12
CALLS = 4 * COUNT
IN_FLIGHT = 6
RUN = ("perspectives", "config.json", "--no-mlflow")
PRICE = {"input_per_mtok": 100.0, "output_per_mtok": 1000.0}
PATIENCE_S = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


def given(server: Server, **changes: Any) -> dict[str, Any]:
    return served(server.base_url, **{"model_config__concurrency": IN_FLIGHT, **changes})


def runs(root: Path) -> list[str]:
    return [status for (status,) in rows(root, "SELECT status FROM agent_run ORDER BY id")]


def wait_for(server: Server, number: int, process: subprocess.Popen[str]) -> None:
    """Waits until the server has got that many requests, or the process has ended."""
    until = time.monotonic() + PATIENCE_S
    while received(server) < number and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = new_root(tmp_path_factory.mktemp("quiet"), COUNT)
    with running_server() as server:
        write_config(root, given(server))
        assert call(root, *RUN).code == 0
    return lasting(files(root)[0])


def bill(log: Path) -> float:
    """What the server's provider would ask for all that arrived, at PRICE."""
    prompts = [json.loads(line)["messages"][-1]["content"] for line in log.read_text(encoding="utf-8").splitlines()]
    used = ((len(text) // 4 + 1, len(invented_answer(text)) // 4 + 1) for text in prompts)
    return sum(given * PRICE["input_per_mtok"] + made * PRICE["output_per_mtok"] for given, made in used) / 1e6


def test_killed_under_a_cap_it_counts_what_may_have_been_billed(root: Path, tmp_path: Path) -> None:
    cap, log = 1.0, tmp_path / "log.jsonl"
    with running_server(latency=0.2, log=log) as server:
        write_config(root, given(server, model_config__price=PRICE, model_config__max_tokens=20))
        process = start(root, *RUN, "--max-cost", cap)
        wait_for(server, 3 * IN_FLIGHT, process)
        process.kill()
        finish(process)
        done = call(root, *RUN, "--max-cost", cap)
        assert done.code == 10
        assert "Raise --max-cost" in done.err
        # Of the first run only what it may have spent is known, and it is taken for spent.
        [(cost, at_risk)] = rows(root, "SELECT sum(cost_usd), sum(at_risk_usd) FROM agent_run")
        assert at_risk > 0
        assert bill(log) <= cost + at_risk <= cap
        assert rows(root, "SELECT reserved_usd FROM agent_run") == [(None,), (None,)]
        assert call(root, *RUN, "--max-cost", 5).code == 0
    assert content(files(root)[0])["tasks"] == tasks(pairs(COUNT))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_in_flight(
    number: signal.Signals, root: Path, undisturbed: dict[str, Any]
) -> None:
    with running_server(latency=0.3) as server:
        write_config(root, given(server))
        process = start(root, *RUN)
        wait_for(server, IN_FLIGHT + 1, process)
        process.send_signal(number)
        done = finish(process)
        assert (done.code, done.out) == (130, ""), done.err
        assert "Ctrl-C again stops at once" in done.err
        assert f"of {3 * COUNT} responses" in done.err
        assert "Traceback" not in done.err
        stats = server.stats()
        assert len(stats["answered"]) == stats["received"] < CALLS
        assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(stats["received"],)]
        assert runs(root) == ["interrupted"]
        assert rows(root, "SELECT status, lease_pid FROM agent_dataset") == [("unfinished", None)]
        again = call(root, *RUN)
        assert ": resumed, complete" in again.out
        assert answered_twice(server) == 0
    assert lasting(files(root)[0]) == undisturbed


def test_a_second_interrupt_does_not_wait_for_answers(root: Path) -> None:
    with running_server(fault_rate=1, faults="hang") as server:
        write_config(root, given(server, model_config__timeout=600))
        process = start(root, *RUN)
        wait_for(server, 1, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Ctrl-C again stops at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert (done.code, done.err.strip()) == (130, "Error: Interrupted.")
    assert runs(root) == ["interrupted"]


def test_who_makes_it_now_is_told_and_can_be_waited_for(root: Path, undisturbed: dict[str, Any]) -> None:
    with running_server(latency=0.3) as server:
        write_config(root, given(server))
        first = start(root, *RUN)
        wait_for(server, 1, first)
        refused = call(root, *RUN)
        waiting = start(root, *RUN, "--wait")
        done, shared = finish(first), finish(waiting)
        assert (done.code, shared.code) == (0, 0), shared.err
        assert received(server) == CALLS
    assert refused.code == 5
    assert f"is being made now by PID {first.pid} on {host()} since " in refused.err
    assert "Add --wait" in refused.err
    assert shared.out.startswith(f"⚡ {files(root)[0].stem}: already made, nothing generated")
    assert lasting(files(root)[0]) == undisturbed


def test_who_waits_can_be_interrupted(root: Path) -> None:
    with running_server(fault_rate=1, faults="hang") as server:
        write_config(root, given(server, model_config__timeout=600))
        first = start(root, *RUN)
        wait_for(server, 1, first)
        waiting = start(root, *RUN, "--wait")
        assert waiting.stderr is not None
        assert "Waiting for it." in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        done = finish(waiting, timeout=20)
        assert (done.code, done.err.strip()) == (130, "Error: Interrupted.")
        # Who works goes on, and nobody else has claimed it.
        assert first.poll() is None
        assert rows(root, "SELECT lease_pid FROM agent_dataset") == [(first.pid,)]
        first.kill()
        finish(first)


def test_four_at_once_make_one_data_set(root: Path, undisturbed: dict[str, Any]) -> None:
    with running_server(latency=0.05) as server:
        write_config(root, given(server))
        processes = [start(root, *RUN, "--wait") for _ in range(4)]
        done = [finish(process) for process in processes]
        assert [each.code for each in done] == [0] * 4, done
        assert received(server) == CALLS
    assert sum(": made, complete" in each.out for each in done) == 1
    assert sum("already made, nothing generated" in each.out for each in done) == 3
    assert rows(root, "SELECT count(*) FROM agent_dataset") == [(1,)]
    [path] = files(root)
    assert lasting(path) == undisturbed


def test_who_waits_takes_over_from_who_dies(root: Path, undisturbed: dict[str, Any]) -> None:
    with running_server(latency=0.2) as server:
        write_config(root, given(server))
        # One at a time, so that it is still at work when the other one has started.
        first = start(root, *RUN, "--set", "model_config.concurrency=1")
        wait_for(server, 3, first)
        waiting = start(root, *RUN, "--wait")
        assert waiting.stderr is not None
        assert "Waiting for it." in waiting.stderr.readline()
        first.kill()
        finish(first)
        done = finish(waiting)
        assert answered_twice(server) <= 2
    assert ": resumed, complete" in done.out
    assert lasting(files(root)[0]) == undisturbed
    assert runs(root) == ["interrupted", "complete"]
    paid, written = rows(root, "SELECT count(*), sum(prompt_tokens) FROM attempt WHERE failure IS NULL")[0]
    assert rows(root, "SELECT sum(prompt_tokens), sum(n_calls) FROM agent_run") == [(written, paid)]
    assert rows(root, "SELECT error FROM agent_run WHERE n_calls > 0 AND status = 'interrupted'") == [
        ("its process ended without a word",)
    ]


def test_a_lease_of_another_host_holds_until_its_heart_stops(root: Path) -> None:
    write_config(root, offline())
    with running_server(poison="Haus 003") as server:
        write_config(root, given(server, model_config__max_retries=0))
        assert call(root, *RUN).code == 1

    def lease(heartbeat: str) -> None:
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
            connection.execute(
                "UPDATE agent_dataset SET lease_host = 'elsewhere', lease_pid = ?, lease_started = 1.0, "
                "lease_since = ?, lease_heartbeat = ?",
                (os.getpid(), heartbeat, heartbeat),
            )

    with running_server() as server:
        write_config(root, given(server))
        lease("2999-01-01T00:00:00.000000Z")
        busy = call(root, *RUN)
        lease("2020-01-01T00:00:00.000000Z")
        taken = call(root, *RUN)
    assert (busy.code, f"PID {os.getpid()} on elsewhere" in busy.err) == (5, True)
    assert taken.code == 0
    assert content(files(root)[0])["tasks"] == tasks(pairs(COUNT))


ELSEWHERE = Process("another-host.invalid", 7, 1.0)


def take_over(workspace: Workspace) -> None:
    """What a claim from another host does to the only data set."""
    with open_database(workspace) as database, database.writing() as connection:
        now = clock.to_text(clock.now())
        lease = {
            "lease_host": ELSEWHERE.host, "lease_pid": ELSEWHERE.pid, "lease_started": ELSEWHERE.started,
            "lease_since": now, "lease_heartbeat": now,
        }  # fmt: skip
        connection.execute(agents.DATASET.update().values(**lease))
        connection.execute(agents.RUN.update().values(status="interrupted"))


@pytest.mark.parametrize("after", [0, 3 * COUNT], ids=["before the first response", "after the last response"])
def test_who_was_taken_over_keeps_its_answers_and_leaves_the_data_set_to_the_other(root: Path, after: int) -> None:
    workspace = Workspace(root, environ={})
    job = prepare(workspace, write_config(root, offline()), Options())
    taken = False

    def display(progress: Any) -> None:
        nonlocal taken
        if not taken and progress.done >= after:
            taken = True
            take_over(workspace)

    with pytest.raises(Conflict, match="has taken this"):
        asyncio.run(generate(workspace, job, display))
    assert rows(root, "SELECT status, data_digest, lease_host FROM agent_dataset") == [
        ("unfinished", None, ELSEWHERE.host)
    ]
    assert runs(root) == ["interrupted"]
    assert rows(root, "SELECT COUNT(*) FROM attempt WHERE failure IS NULL")[0][0] > 0
    if not after:
        assert rows(root, "SELECT COUNT(*) FROM agent_response") == [(0,)]
    assert files(root) == []


def test_who_has_nothing_left_to_save_notices_it_at_its_end(root: Path) -> None:
    workspace = Workspace(root, environ={})
    job = prepare(workspace, write_config(root, offline()), Options())
    asyncio.run(generate(workspace, job))
    with open_database(workspace) as database, database.writing() as connection:
        # As a crash between the last response and the end of the run leaves it.
        connection.execute(agents.DATASET.update().values(status="unfinished", data_digest=None))
    with pytest.raises(Conflict, match="has taken this"):
        asyncio.run(generate(workspace, job, lambda _: take_over(workspace)))
    assert rows(root, "SELECT status, data_digest FROM agent_dataset") == [("unfinished", None)]


def test_who_goes_on_shows_what_was_there_before(root: Path) -> None:
    workspace = Workspace(root, environ={})
    job = prepare(workspace, write_config(root, offline()), Options())
    asyncio.run(generate(workspace, job))
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(agents.DATASET.update().values(status="unfinished", data_digest=None))
        connection.execute(agents.RESPONSE.delete().where(agents.RESPONSE.c.perspective == 1))
    seen = []
    asyncio.run(generate(workspace, job, lambda progress: seen.append((progress.before, progress.done))))
    assert (seen[0], seen[-1]) == ((2 * COUNT, 2 * COUNT), (2 * COUNT, 3 * COUNT))
