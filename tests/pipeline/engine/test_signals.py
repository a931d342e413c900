"""Signals for several runs in one loop: each of these tests is a process of its own that gets real ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.llm_server import running_server
from tests.perspectives import agent, new_root, offline, received, served
from tests.workspaces import REPOSITORY, environment, rows

COUNT = 6
HEAD = """
import asyncio, gc, json, os, signal, sys, threading
from pathlib import Path
from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Options, prepare_settings
from pipeline.engine.signals import heeding
from tracker.errors import Error
from tracker.paths import Workspace

root, *configs = sys.argv[1:]
workspace = Workspace(Path(root))

def kill(number, times=1):
    for _ in range(times):
        os.kill(os.getpid(), number)

async def make(config, display=lambda _: None):
    try:
        outcome = await generate(workspace, prepare_settings(workspace, json.loads(config), Options()), display)
        return outcome.status
    except Error as error:
        return type(error).__name__

def say(*what):
    print(json.dumps(what), flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


def ran(root: Path, code: str, *configs: dict[str, Any]) -> tuple[int, list[Any], str]:
    """How a script ended, what it said, and what went wrong in it."""
    arguments = [sys.executable, "-c", HEAD + code, str(root), *map(json.dumps, configs)]
    done = subprocess.run(
        arguments, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=90, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def ended(root: Path) -> list[tuple[str, int | None]]:
    """How each run ended, and who still holds its data set."""
    return rows(
        root,
        "SELECT r.status, d.lease_pid FROM agent_run r JOIN agent_dataset d ON d.id = r.agent_dataset_id ORDER BY r.id",
    )


def test_handlers_of_others_are_back_after_a_run_and_those_of_the_loop_are_left_alone(root: Path) -> None:
    code = """
heard = []
async def main():
    # A program that ends in its own way on SIGTERM and counts SIGINT.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.append, "own SIGTERM")
    signal.signal(signal.SIGINT, lambda *_: heard.append("own SIGINT"))
    fired = False
    def display(progress):
        nonlocal fired
        if not fired:
            fired = True
            kill(signal.SIGTERM)
    say(await make(configs[0], display))
    kill(signal.SIGTERM), kill(signal.SIGINT)
    await asyncio.sleep(0.1)
asyncio.run(main())
say(*heard)
"""
    code_, said, err = ran(root, code, offline())
    assert (code_, err) == (0, "")
    assert said[0] == ["complete"]
    assert sorted(said[1]) == ["own SIGINT", "own SIGTERM", "own SIGTERM"]


@pytest.mark.parametrize("before", ["SIG_DFL", "SIG_IGN", "default_int_handler"])
def test_what_was_there_before_is_there_afterwards(root: Path, before: str) -> None:
    code = f"""
def both():
    return [signal.getsignal(each) == signal.{before} for each in (signal.SIGINT, signal.SIGTERM)]
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, signal.{before})
async def main():
    for _ in range(2):
        with heeding(lambda: None), heeding(lambda: None):
            say(*both())
        say(*both())
# Not asyncio.run, which has a handler of its own.
asyncio.new_event_loop().run_until_complete(main())
"""
    code_, said, err = ran(root, code)
    assert (code_, err) == (0, "")
    assert said == [[False, False], [True, True]] * 2


BOTH = """
ended = 0
fired = False
def display(progress):
    global fired
    if not fired and progress.done >= 2 and (ended or not {first_ended}):
        fired = True
        kill(signal.{signal})
async def one(config, *display):
    global ended
    status = await make(config, *display)
    ended += 1
    return status
async def main():
    return await asyncio.gather(one(configs[0]), one(configs[1], display))
before = gc.get_threshold()
say(*asyncio.run(main()))
say(gc.get_threshold() == before)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("first_ended", [False, True])
def test_one_signal_stops_all_that_is_made_and_loses_nothing(root: Path, number: str, first_ended: bool) -> None:
    with running_server(latency=0.25) as server:
        reach = {"model_config__concurrency": 2}
        short = {"agent_perspectives": [agent("One")], "data_config__sample_size": 2} if first_ended else {}
        first = served(server.base_url, task_type="first", **reach, **short)
        # Other words, so that neither finds the other's answers.
        second = served(server.base_url, task_type="second", **reach, agent_perspectives=[agent("A"), agent("B")])
        code, said, err = ran(root, BOTH.format(first_ended=first_ended, signal=number), first, second)
        assert (code, err) == (0, "")
        assert said == [["complete" if first_ended else "Interrupted", "Interrupted"], [True]]
        n_received = received(server)
        assert len(server.stats()["answered"]) == n_received < (2 if first_ended else 4 * COUNT) + 2 * COUNT
    assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(n_received,)]
    assert sorted(ended(root)) == [("complete" if first_ended else "interrupted", None), ("interrupted", None)]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_second_interrupt_ends_all_at_once(root: Path, at_once: bool) -> None:
    twice = "kill(signal.SIGINT, 2)"
    code = f"""
log = Path(root, "log.jsonl")
async def main():
    tasks = [asyncio.create_task(make(config)) for config in configs]
    while not log.exists() or len({{json.loads(line)["messages"][0]["content"] for line in log.open()}}) < 2:
        await asyncio.sleep(0.05)
    {twice if at_once else "kill(signal.SIGINT)"}
    await asyncio.sleep(0.3)
    say(*(task.done() for task in tasks))
    kill(signal.SIGINT)
    await asyncio.gather(*tasks)
asyncio.run(main())
"""
    with running_server(fault_rate=1, faults="hang", log=root / "log.jsonl") as server:
        given = [served(server.base_url, task_type=each, model_config__timeout=600) for each in ("one", "two")]
        given[1]["agent_perspectives"] = [agent("Else")]
        code_, said, err = ran(root, code, *given)
    # As Python ends on Ctrl-C.
    assert code_ == -signal.SIGINT
    assert said == ([] if at_once else [[False, False]])
    assert "Exception in callback" not in err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert ended(root) == [("interrupted", None)] * 2


def test_who_begins_while_others_end_is_stopped_too(root: Path) -> None:
    code = """
async def main():
    with heeding(lambda: say("first")):
        kill(signal.SIGINT)
        await asyncio.sleep(0.1)
        say(await make(configs[0]))
    with heeding(lambda: say("never")):
        pass
asyncio.run(main())
"""
    assert ran(root, code, offline()) == (0, [["first"], ["Interrupted"]], "")
    assert ended(root) == [("interrupted", None)]


@pytest.mark.parametrize("put", ["asyncio.get_running_loop().add_signal_handler", "signal.signal"])
def test_a_handler_that_was_put_there_during_a_run_stays(put: str) -> None:
    code = f"""
async def main():
    with heeding(lambda: say("stopped")):
        {put}(signal.SIGTERM, lambda *_: say("own"))
    kill(signal.SIGTERM)
    await asyncio.sleep(0.1)
asyncio.run(main())
"""
    assert ran(Path(), code) == (0, [["own"]], "")


def test_outside_the_main_thread_signals_are_somebody_elses(root: Path) -> None:
    code = """
import time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
def display(progress):
    if not heard:
        kill(signal.SIGTERM)
thread = threading.Thread(target=lambda: say(asyncio.run(make(configs[0], display))))
thread.start()
while thread.is_alive():
    time.sleep(0.01)
say(*set(heard))
say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    assert ran(root, code, offline()) == (0, [["complete"], ["SIGTERM"], [True]], "")
