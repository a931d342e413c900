"""Asking for an end: here by the record and, at need, by force; on another host by the record alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.training import stopping
from tests.training_bench import Bench, bench, is_gone, until
from tests.training_rows import GONE
from tracker import clock
from tracker.clock import Process
from tracker.record import training
from tracker.record.database import open_database
from tracker.record.sweeps import Found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "workspace") as found:
        yield found


@pytest.fixture
def child() -> Iterator[Process]:
    """A process that trains nothing and lives."""
    with subprocess.Popen(["sleep", "600"]) as found:
        yield clock.process_of(found.pid)
        found.kill()


def train(found: Bench, process: Process) -> None:
    """What a supervisor and its first worker leave in the record."""
    with open_database(found.workspace) as database:
        training.supervise(database, found.sweep_id, process)
        training.claim(database, found.run_ids[0], process, {"device": "cpu", "threads": 1})


def asked(found: Bench) -> list[bool]:
    return [bool(found.run(run_id)["stop_requested"]) for run_id in found.run_ids]


@pytest.mark.parametrize("now", [False, True])
def test_another_host_is_asked_by_the_record_alone(two: Bench, child: Process, now: bool) -> None:
    train(two, Process("another-host.invalid", child.pid, child.started))
    found = Found(two.sweep_id)
    assert [run["id"] for run in stopping.request(two.workspace, found, now=now)] == list(two.run_ids)
    assert asked(two) == [True, True]
    assert not is_gone(child.pid)
    assert stopping.ended(two.workspace, found) is None
    with open_database(two.workspace) as database:
        training.end_run(database, two.run_ids[0], "stopped", {"step": 40})
        # Its supervisor there has yet to say that it is at its end.
        assert stopping.ended(two.workspace, found) is None
        training.end_sweep(database, two.sweep_id, "stopped")
    left = stopping.ended(two.workspace, found)
    assert left is not None
    assert [(run["status"], run["step"]) for run in left] == [("stopped", 40), ("pending", 0)]


def test_only_the_run_that_is_meant_is_asked(two: Bench, child: Process) -> None:
    train(two, child)
    found = Found(two.sweep_id, two.run_ids[0])
    assert [run["id"] for run in stopping.request(two.workspace, found)] == [two.run_ids[0]]
    assert asked(two) == [True, False]
    assert stopping.ended(two.workspace, found) is None
    with open_database(two.workspace) as database:
        training.end_run(database, two.run_ids[0], "stopped", {})
    # It has said so, and is about to exit.
    assert stopping.ended(two.workspace, found) is None
    two.change("training_run", pid=GONE.pid, pid_started=GONE.started)
    assert stopping.ended(two.workspace, found) is not None


def test_by_force_a_process_that_has_not_begun_ends_too(two: Bench, child: Process) -> None:
    with open_database(two.workspace) as database:
        training.supervise(database, two.sweep_id, GONE)
        training.note_start(database, two.run_ids[1], child, {"device": "cpu", "threads": 1})
    assert len(stopping.request(two.workspace, Found(two.sweep_id), now=True)) == 2
    until(lambda: is_gone(child.pid))


@pytest.mark.parametrize("ended", ["complete", "failed"])
def test_what_has_ended_is_not_asked(two: Bench, child: Process, ended: str) -> None:
    train(two, child)
    with open_database(two.workspace) as database:
        training.end_run(database, two.run_ids[0], ended, {})
    assert [run["id"] for run in stopping.request(two.workspace, Found(two.sweep_id), now=True)] == [two.run_ids[1]]
    assert asked(two) == [False, True]
    assert not is_gone(child.pid)


def test_where_nobody_works_nobody_is_asked(two: Bench) -> None:
    train(two, GONE)
    assert stopping.request(two.workspace, Found(two.sweep_id)) == []
    assert asked(two) == [False, False]
    assert (two.sweep()["status"], two.statuses()) == ("interrupted", ["interrupted", "pending"])
