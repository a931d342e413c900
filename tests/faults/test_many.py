"""Sixteen processes at once on one workspace, and processes of two hosts.

Covered here: one config and sixteen configs in a workspace that none of them finds, reads beside them; who holds a
lease on another host, alive and dead. Two and three at once at the steps of a checkpoint:
``tests/test_two_stage_faults.py``; a lease taken from who stood still: ``tests/test_taken_over.py``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.surroundings import on_host, started
from tests.llm_server import running_server
from tests.workspaces import (
    call,
    config,
    finish,
    new_root,
    rows,
    served,
    start,
    statuses,
    train_file,
    write_config,
    write_recording,
)

# Sixteen processes take a while to begin where many tests run at once.
pytestmark = pytest.mark.timeout(600)
COUNT = 16
MANY = 16
IN_FLIGHT = 4
GENERATE = ("generate", "copa.yaml", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


@pytest.fixture
def undisturbed(tmp_path: Path, recording: Path) -> bytes:
    (tmp_path / "quiet").mkdir()
    root = new_root(tmp_path / "quiet", COUNT)
    with running_server(recorded=recording) as server:
        write_config(root, served(server.base_url))
        assert call(root, *GENERATE).code == 0
    return train_file(root).read_bytes()


def until_paid(root: Path, process: subprocess.Popen[str]) -> None:
    """Waits until a run has committed an answer."""
    while process.poll() is None:
        with contextlib.suppress(sqlite3.OperationalError):
            if rows(root, "SELECT 1 FROM attempt"):
                return
        time.sleep(0.02)


def test_sixteen_at_once_on_one_config_pay_for_each_answer_once(
    root: Path, recording: Path, undisturbed: bytes
) -> None:
    with running_server(recorded=recording, latency=0.2) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        # Every other one waits for whoever is first; the rest is told at once.
        waits = [("--wait",) if number % 2 else () for number in range(MANY)]
        processes = [start(root, *GENERATE, "--batch", f"b{number:02}", *wait) for number, wait in enumerate(waits)]
        reading = []
        while any(process.poll() is None for process in processes):
            if (root / "tracker.db").exists():
                reading += [call(root, "batch", "list"), call(root, "sql", "SELECT COUNT(*) FROM sample")]
            time.sleep(0.2)
        done = [finish(process) for process in processes]
        assert server.stats()["received"] == 2 * COUNT
        assert set(server.stats()["answered"].values()) == {1}
    assert reading
    assert {each.code for each in reading} == {0}, reading
    assert [each.code for each in done[1::2]] == [0] * (MANY // 2), done
    assert {each.code for each in done} <= {0, 5}, done
    assert all("is being made" in each.err for each in done if each.code)
    assert rows(root, "SELECT COUNT(*), status FROM shared_experiment") == [(1, "complete")]
    assert sum("made, complete" in each.out for each in done) == 1
    assert train_file(root).read_bytes() == undisturbed
    assert call(root, "verify").code == 0


def test_sixteen_configs_at_once_make_a_new_workspace_of_sixteen_experiments(root: Path) -> None:
    for number in range(MANY):
        changes = {"generation__temperature": round(0.1 * (number + 1), 1), "experiment__batch_id": f"b{number % 3}"}
        write_config(root, config(**changes), f"{number}.yaml")
    processes = [start(root, "generate", f"{number}.yaml", "--no-mlflow") for number in range(MANY)]
    done = [finish(process) for process in processes]
    assert [each.code for each in done] == [0] * MANY, done
    assert rows(root, "SELECT COUNT(*), MIN(status), MAX(status) FROM shared_experiment") == [
        (MANY, "complete", "complete")
    ]
    assert rows(root, "SELECT COUNT(*) FROM sample") == [(MANY * COUNT,)]
    assert rows(root, "SELECT COUNT(*) FROM batch") == [(3,)]
    assert call(root, "verify").code == 0


def heart_stopped(root: Path) -> None:
    """Lets two minutes pass since the last heartbeat."""
    moment = "strftime('%Y-%m-%dT%H:%M:%f', 'now', '-121 seconds') || '000Z'"
    with contextlib.closing(sqlite3.connect(root / "tracker.db", timeout=30)) as connection, connection:
        connection.execute(f"UPDATE shared_experiment SET lease_heartbeat = {moment}")


def test_who_works_on_another_host_is_left_alone_and_replaced_once_its_heart_stops(
    root: Path, recording: Path, undisturbed: bytes
) -> None:
    other = on_host("other-host")
    with running_server(recorded=recording, latency=1) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        assert call(root, "init").code == 0
        process = started(root, *GENERATE, before=other)
        until_paid(root, process)
        busy = call(root, *GENERATE)
        listed = call(root, "experiment", "show", "Copa/temp07_topp10_gpt4o")
        assert process.poll() is None
        process.kill()
        finish(process)
        # Whether it lives cannot be asked there: its heart beat a moment ago.
        soon = call(root, *GENERATE)
        heart_stopped(root)
        later = call(root, *GENERATE)
        answered = server.stats()["answered"]
    assert (busy.code, "on other-host" in busy.err, listed.code) == (5, True, 0), busy.err
    assert (soon.code, "on other-host" in soon.err) == (5, True), soon.err
    assert later.code == 0, later.err
    assert statuses(root) == ["interrupted", "complete"]
    assert len(answered) == 2 * COUNT
    assert sum(answered.values()) - 2 * COUNT <= 2 * IN_FLIGHT
    assert train_file(root).read_bytes() == undisturbed
    assert call(root, "verify").code == 0


def test_two_hosts_that_work_at_once_make_one_experiment(root: Path, recording: Path, undisturbed: bytes) -> None:
    other = on_host("other-host")
    with running_server(recorded=recording, latency=0.2) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        processes = [started(root, *GENERATE, "--wait", before=before) for before in ((), other)]
        done = [finish(process) for process in processes]
        assert set(server.stats()["answered"].values()) == {1}
        assert server.stats()["received"] == 2 * COUNT
    assert [each.code for each in done] == [0, 0], done
    assert train_file(root).read_bytes() == undisturbed
