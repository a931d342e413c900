"""Strategy two_stage interrupted, started twice, taken over, and with records that fail: the same data."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.engine.asking import Progress
from pipeline.generation.execution import claim, make, register
from pipeline.generation.generate import generate
from pipeline.generation.job import Options, prepare
from pipeline.generation.run import Rephrasing
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, Step
from tests.llm_server import Server, running_server
from tests.test_taken_over import ELSEWHERE, take_over
from tests.two_stage import (
    AGREEING,
    GENERATE,
    N_RECORDS,
    OFFLINE,
    SERVED,
    annotated,
    decide,
    decided,
    drafted,
    final_lines,
    generated,
    recorded,
    runs,
    staged,
    state_of,
)
from tests.workspaces import call, finish, new_root, rows, start, train_file, write_config
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.record.decisions import Answer, close, save

IN_FLIGHT = 4
PATIENCE_S = 60
KEPT = frozenset({2, 9, 14, 19, 24})
"""What keeps its original where the person rejects 2 and agrees with the judge."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=recorded(tmp_path)) as found:
        yield found


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Server]:
    """The same, and time enough to do something to whoever waits for it."""
    with running_server(recorded=recorded(tmp_path), latency=1) as found:
        yield found


def received(server: Server) -> int:
    return int(server.stats()["received"])


def answered(*servers: Server) -> tuple[int, int]:
    """How many requests got good answers, and how many answers more than that there were."""
    found: Counter[str] = Counter()
    for server in servers:
        found.update(server.stats()["answered"])
    return len(found), found.total() - len(found)


def wait_for(server: Server, number: int, process: subprocess.Popen[str]) -> None:
    """Waits until the server has got that many requests, or the process has ended."""
    until = time.monotonic() + PATIENCE_S
    while received(server) < number and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


def final(root: Path, name: str = "temp07_topp10_gpt4o") -> list[bytes]:
    return train_file(root, name).read_bytes().splitlines(keepends=True)


def undrafted(tmp_path: Path, base_url: str) -> Path:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(base_url, generation__concurrency=IN_FLIGHT))
    return root


def before_rest(tmp_path: Path, base_url: str) -> Path:
    root = drafted(tmp_path, base_url, generation__concurrency=IN_FLIGHT)
    decide(root, SERVED, REVIEW, {2})
    return root


def before_test(tmp_path: Path, base_url: str) -> Path:
    root = before_rest(tmp_path, base_url)
    generated(root)
    return annotated(root, SERVED, AGREEING)


def before_validate(tmp_path: Path, base_url: str) -> Path:
    root = before_test(tmp_path, base_url)
    assert call(root, *JUDGE_TEST).code == 0
    return root


JUDGE_TEST = ("judge-test", SERVED, "--no-mlflow")
STEPS: dict[str, tuple[Callable[[Path, str], Path], tuple[str, ...], int]] = {
    "rephrase_first": (undrafted, GENERATE, 4),
    "rephrase_rest": (before_rest, GENERATE, 20),
    "judge_test": (before_test, JUDGE_TEST, 8),
    "validate": (before_validate, GENERATE, 8),
}
"""How a workspace gets before each step, the command that takes it, and how much that asks."""


def asking(server: Server, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, asked of that server."""
    if command is not JUDGE_TEST:
        return (*command, "--set", f"generation.base_url={server.base_url}")
    # A judge of its own address inherits neither the service's name nor its limits.
    reach = (f"base_url={server.base_url}", "endpoint=test-server", f"concurrency={IN_FLIGHT}")
    return (*command, *(word for each in reach for word in ("--set", f"validation.{each}")))


def carried_on(root: Path) -> list[bytes]:
    """The final file, once a person and `generate` have done what is left."""
    for checkpoint, rejected in ((REVIEW, {2}), (ANNOTATION, AGREEING)):
        generated(root)
        if checkpoint in state_of(Workspace(root, environ={}), SERVED).closed:
            continue
        if rows(root, "SELECT 1 FROM shared_experiment WHERE status = 'complete'"):
            break
        decide(root, SERVED, checkpoint, rejected)
    generated(root)
    assert call(root, "view", "check").code == 0
    return final(root)


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_it_asks_for_nothing_twice(step: str, tmp_path: Path, server: Server, slow: Server) -> None:
    before, command, _ = STEPS[step]
    root = before(tmp_path, server.base_url)
    process = start(root, *asking(slow, command))
    wait_for(slow, 1, process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.out, "Traceback" in done.err) == (130, "", False), done.err
    assert "nothing is paid twice" in done.err
    assert 0 < received(slow) == answered(slow)[0] <= IN_FLIGHT
    assert runs(root)[-1][1:] == (step, "interrupted")
    assert rows(root, "SELECT lease_pid FROM shared_experiment") == [(None,)]
    assert call(root, *command).code == 0
    assert carried_on(root) == final_lines(root, KEPT)
    assert answered(server, slow) == (N_RECORDS + 16, 0)


@pytest.mark.parametrize("step", ["rephrase_first", "rephrase_rest", "validate"])
def test_two_at_once_ask_for_everything_once(step: str, tmp_path: Path, server: Server, slow: Server) -> None:
    before, command, asked = STEPS[step]
    root = before(tmp_path, server.base_url)
    command = asking(slow, command)
    first = start(root, *command)
    wait_for(slow, 1, first)
    refused = call(root, *command)
    shared = call(root, *command, "--wait")
    done = finish(first)
    assert received(slow) == asked
    assert (refused.code, f"is being made now by PID {first.pid}" in refused.err) == (5, True)
    assert (done.code, shared.code) == (0, 0), (done.err, shared.err)
    assert "Waiting for it." in shared.err
    if step == "validate":
        assert shared.out.startswith("⚡ Copa/temp07_topp10_gpt4o: already made")
    else:
        assert "nothing to generate before a person has looked" in shared.out
    assert carried_on(root) == final_lines(root, KEPT)


def test_two_at_once_at_the_judge_test_ask_for_everything_once(tmp_path: Path, server: Server, slow: Server) -> None:
    root = before_test(tmp_path, server.base_url)
    command = asking(slow, GENERATE)
    first = start(root, *command)
    wait_for(slow, 1, first)
    refused = call(root, *command)
    shared = call(root, *command, "--wait")
    done = finish(first)
    said = f"The judge of {SERVED} is being tested now by PID {first.pid} on"
    assert (refused.code, said in refused.err) == (5, True), refused.err
    assert "not paid for twice" in refused.err
    assert (done.code, shared.code, said in shared.err) == (0, 0, True), shared.err
    assert answered(server, slow) == (N_RECORDS + 16, 0)
    assert final(root) == final_lines(root, KEPT)


def test_other_judges_can_be_tested_at_once(tmp_path: Path, server: Server, slow: Server) -> None:
    root = before_test(tmp_path, server.base_url)
    first = start(root, *asking(slow, JUDGE_TEST))
    wait_for(slow, 1, first)
    assert call(root, *JUDGE_TEST, "--set", "validation.seed=1").code == 0
    assert finish(first).code == 0
    assert rows(root, "SELECT COUNT(*) FROM judge_test") == [(2,)]


def test_who_waits_takes_over_from_who_dies(tmp_path: Path, server: Server, slow: Server) -> None:
    root = before_rest(tmp_path, server.base_url)
    first = start(root, *asking(slow, GENERATE))
    wait_for(slow, 1, first)
    waiting = start(root, *GENERATE, "--wait")
    assert waiting.stderr is not None
    assert "Waiting for it." in waiting.stderr.readline()
    first.kill()
    finish(first)
    done = finish(waiting)
    assert (done.code, "resumed, waiting" in done.out) == (0, True), done.err
    assert answered(server, slow)[1] <= 2 * IN_FLIGHT
    assert carried_on(root) == final_lines(root, KEPT)


@pytest.mark.parametrize("step", [Step.REPHRASE_REST, Step.VALIDATE])
def test_a_run_that_was_taken_over_leaves_the_samples_to_the_other(step: Step, tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW, {2})
    if step is Step.VALIDATE:
        generated(root)
        annotated(root)
        assert call(root, "judge-test", OFFLINE, "--no-mlflow").code == 0
    workspace = Workspace(root, environ={})
    job = prepare(workspace, root / "copa.yaml", Options())
    before = decided(root, OFFLINE)
    taken = False

    def display(progress: Progress) -> None:
        nonlocal taken
        if not taken:
            taken = True
            take_over(workspace)

    with pytest.raises(Conflict, match="has taken this over"):
        generate(workspace, job, display)
    assert rows(root, "SELECT status, lease_host FROM shared_experiment") == [("unfinished", ELSEWHERE.host)]
    now = decided(root, OFFLINE)
    # What people decided was written with the closing, before anything was asked.
    assert {number for number in now if now[number] != before.get(number)} == (
        set(range(1, 5)) if step is Step.REPHRASE_REST else set(range(5, 17))
    )
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE shared_experiment SET lease_heartbeat = '2020-01-01T00:00:00.000000Z'")
    assert generated(root).out.startswith(f"✅ {OFFLINE}: resumed, ")


@pytest.mark.parametrize("checkpoint", [REVIEW, ANNOTATION])
def test_another_decision_between_reading_and_closing_is_a_conflict(checkpoint: str, tmp_path: Path) -> None:
    root = drafted(tmp_path)
    decide(root, OFFLINE, REVIEW, {2})
    if checkpoint == ANNOTATION:
        generated(root)
        annotated(root)
    workspace = Workspace(root, environ={})
    job = prepare(workspace, root / "copa.yaml", Options())
    at = 2 if checkpoint == REVIEW else 9
    with open_database(workspace) as database:
        read = state_of(workspace, OFFLINE)
        claimed = claim(database, job, register(database, job.plan.source), lambda _: None, Step.REPHRASE_REST)

        def late() -> None:
            save(database, claimed.experiment_id, checkpoint, [Answer(at, NOT_THE_SAME)], annotator="bob", via="web")
            verdicts = {number: str(row["verdict"]) for number, row in read.decisions.items()}
            close(database, claimed.experiment_id, checkpoint, verdicts, [], run_id=claimed.run_id)

        with pytest.raises(Conflict, match="Somebody decided otherwise"):
            make(Rephrasing(workspace, database, job, claimed, job.plan, lambda _: None, end=N_RECORDS), before=late)
    assert rows(root, "SELECT status, error FROM generation_run ORDER BY id DESC LIMIT 1")[0][0] == "failed"
    assert rows(root, "SELECT COUNT(*) FROM checkpoint WHERE name = ?", checkpoint) == [(0,)]
    assert {row[0] for number, row in decided(root, OFFLINE).items() if number > 4} <= {"undecided"}
    assert rows(root, "SELECT lease_pid FROM shared_experiment") == [(None,)]
    assert "1 disputed" in generated(root).out


def test_what_is_closed_stays_closed_where_nothing_could_be_asked(tmp_path: Path, server: Server) -> None:
    root = before_rest(tmp_path, server.base_url)
    failed = call(root, *GENERATE, environ={"OPENAI_API_KEY": "forbidden-key"})
    assert failed.code == 8
    assert runs(root)[-1] == ("resumed", "rephrase_rest", "failed")
    assert call(root, "review", SERVED, "--reject", "1").code == 14
    assert state_of(Workspace(root, environ={}), SERVED).learned(REVIEW) == [0, 2, 3]
    assert carried_on(root) == final_lines(root, KEPT)
