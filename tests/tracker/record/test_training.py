"""The record of trainings: one owner for each run and sweep, whatever happens to the owners, and nothing said twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.databases import rows
from tracker import clock
from tracker.clock import Process, process_of, this_process
from tracker.errors import Conflict, Corrupt
from tracker.fingerprint import identify
from tracker.record import training
from tracker.record.database import Database
from tracker.record.lease import Busy
from tracker.record.sweeps import is_held
from tracker.record.training import Measured, Point, Registered

REPOSITORY = Path(__file__).parents[3]
GONE = Process(clock.host(), 2**22 + 1, 1.0)
"""A process of this machine that is not there: the PID is above what Linux gives."""


def point(seed: int = 0, directory: str | None = None, **identity: Any) -> Point:
    columns = {
        "purpose": "tuning", "model": "m", "task": "Copa", "method": "zo", "data": "original", "learning_rate": 1e-6,
        "batch_size": 16, "steps": 1000, "seed": seed, "precision": "fp32", "n_train": 300, "n_dev": 100, "n_eval": 100,
        "settings": "{}", "config": "{}",
    }  # fmt: skip
    data = {
        "path": "Data/original/Copa", "directory": "Data/original/Copa", "dataset": "Copa", "name": "original",
        "train_digest": "t", "eval_digest": "e", "n_records": 400, "first_record": 0, "n_train": 300,
    }  # fmt: skip
    place = directory or f"Results_v2/{next(_numbers)}"
    return Point(identify("training_run", {"seed": seed, **identity}), place, columns, (data,))


_numbers = iter(range(10**9))
SWEEP: Mapping[str, Any] = {
    "key": "k", "purpose": "tuning", "model": "m", "task": "Copa", "method": "zo", "varied": '["seed"]',
    "devices": '["cpu"]', "command": "synthtrack train", "config": "{}",
}  # fmt: skip


def register(database: Database, *points: Point, process: Process | None = None) -> Registered:
    return training.register(database, SWEEP, points or (point(0), point(1)), process or this_process(), fresh=True)


def run(database: Database, run_id: int) -> dict[str, Any]:
    [found] = rows(database.workspace, "SELECT * FROM training_run WHERE id = :id", id=run_id)
    return found


def sweep(database: Database) -> dict[str, Any]:
    return rows(database.workspace, "SELECT * FROM training_sweep ORDER BY id DESC LIMIT 1")[0]


def told(database: Database) -> list[tuple[str, int]]:
    """What MLflow is to be told."""
    found = rows(database.workspace, "SELECT * FROM mlflow_outbox WHERE logged_at IS NULL ORDER BY id")
    return [(row["kind"], row[f"{row['kind']}_id"]) for row in found]


def elsewhere(age_s: float) -> dict[str, Any]:
    """The columns of what a process on another host holds that was heard of so many seconds ago."""
    heard = clock.to_text(clock.now() - timedelta(seconds=age_s))
    return {"host": "another-host.invalid", "pid": 7, "pid_started": 1.0, "heartbeat": heard}


def hold(database: Database, table: Any, row_id: int, **columns: Any) -> None:
    with database.writing() as connection:
        connection.execute(table.update().where(table.c.id == row_id).values(**columns))


def test_a_sweep_is_stored_with_a_pending_run_for_each_point(database: Database) -> None:
    points = [point(1), point(0), point(2)]
    found = register(database, *points)
    row = sweep(database)
    assert (row["id"], row["uuid"], row["status"], row["n_points"]) == (found.id, found.uuid, "running", 3)
    assert Process(row["host"], row["pid"], row["pid_started"]).is_same(this_process())
    stored = [run(database, run_id) for run_id in found.run_ids]
    assert [(r["position"], r["seed"], r["status"], r["attempt"], r["directory"]) for r in stored] == [
        (at, each.columns["seed"], "pending", 1, each.directory) for at, each in enumerate(points)
    ]
    for row, each in zip(stored, points, strict=True):
        assert (row["fingerprint"], row["digest"], row["identity"], row["scheme"]) == (
            each.identity.fingerprint, each.identity.digest, each.identity.canonical, 1,
        )  # fmt: skip
    assert len({row["uuid"] for row in stored}) == 3
    data = rows(
        database.workspace, "SELECT training_run_id, position, name FROM training_data ORDER BY training_run_id"
    )
    assert [tuple(row.values()) for row in data] == [(run_id, 0, "original") for run_id in found.run_ids]


def test_the_data_of_a_mix_keep_their_order(database: Database) -> None:
    one = point()
    mixed = replace(one, data=(one.data[0], {**one.data[0], "name": "temp07", "first_record": 300}))
    register(database, mixed)
    found = rows(database.workspace, "SELECT position, name, first_record FROM training_data ORDER BY position")
    assert [tuple(row.values()) for row in found] == [(0, "original", 0), (1, "temp07", 300)]


def test_a_point_that_was_trained_before_is_a_new_attempt(database: Database) -> None:
    first = register(database, point(0), point(1))
    second = register(database, point(1))
    training.add_attempts(database, second.id, {0: point(1)})
    found = rows(
        database.workspace, "SELECT training_sweep_id AS s, position, seed, attempt FROM training_run ORDER BY id"
    )
    assert [tuple(row.values()) for row in found] == [
        (first.id, 0, 0, 1), (first.id, 1, 1, 1), (second.id, 0, 1, 2), (second.id, 0, 1, 3),
    ]  # fmt: skip


def test_a_fingerprint_stands_for_one_thing(database: Database) -> None:
    register(database, point(0, directory="Results_v2/first"))
    other = point(1)
    same = replace(other, identity=replace(other.identity, fingerprint=point(0).identity.fingerprint))
    with pytest.raises(Corrupt, match="stands for other settings in Results_v2/first"):
        register(database, point(2), same)
    assert len(rows(database.workspace, "SELECT id FROM training_sweep")) == 1
    assert len(rows(database.workspace, "SELECT id FROM training_run")) == 1


CHILD = """
import sys
from pathlib import Path
from tracker import clock
from tracker.record import training
from tracker.record.database import open_database
from tracker.record.lease import Busy
from tracker.paths import Workspace
root, what, number = sys.argv[1:]
with open_database(Workspace(Path(root))) as database:
    print("ready", flush=True)
    input()
    if what == "claim":
        found = training.claim(database, int(number), clock.this_process(), {"device": "cpu"})
    elif what == "supervise":
        found = training.supervise(database, int(number), clock.this_process())
    else:
        from tests.tracker.record import test_training as here
        points, me = [here.point(0, directory=f"R/{number}")], clock.this_process()
        found = training.register(database, here.SWEEP, points, me, fresh=True)
    print("busy" if isinstance(found, Busy) else "mine", flush=True)
    input()
"""


def at_once(database: Database, what: str, numbers: Sequence[int]) -> list[str]:
    """What processes find that do the same at once and live on."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **database.workspace.environ}
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CHILD, str(database.workspace.root), what, str(number)],
                    env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for number in numbers
        ]  # fmt: skip
        for child in children:
            assert line(child) == "ready"
        for child in children:
            say(child)
        found = [line(child) for child in children]
        for child in children:
            say(child)
    return found


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_of_several_processes_that_claim_a_run_at_once_one_gets_it(database: Database) -> None:
    found = register(database)
    assert sorted(at_once(database, "claim", [found.run_ids[0]] * 3)) == ["busy", "busy", "mine"]
    row = run(database, found.run_ids[0])
    assert (row["status"], row["n_resumed"], row["device"]) == ("running", 0, "cpu")


def test_of_several_processes_that_supervise_a_sweep_at_once_one_does(database: Database) -> None:
    found = register(database, process=GONE)
    assert sorted(at_once(database, "supervise", [found.id] * 3)) == ["busy", "busy", "mine"]


def test_of_several_processes_that_register_a_point_at_once_each_has_an_attempt(database: Database) -> None:
    assert at_once(database, "register", range(3)) == ["mine"] * 3
    found = rows(database.workspace, "SELECT attempt FROM training_run ORDER BY attempt")
    assert [row["attempt"] for row in found] == [1, 2, 3]


def test_the_same_sweep_is_not_trained_twice_at_once_unless_that_is_wanted(database: Database) -> None:
    parent = process_of(os.getppid())
    register(database, point(0), process=parent)
    with pytest.raises(Conflict, match=f"PID {parent.pid}"):
        training.register(database, SWEEP, [point(0)], this_process())
    assert len(rows(database.workspace, "SELECT id FROM training_run")) == 1
    assert training.register(database, SWEEP, [point(0)], this_process(), fresh=True).run_ids == (2,)


def test_what_has_ended_is_not_claimed_again(database: Database) -> None:
    first, second = register(database).run_ids
    for run_id, status in ((first, training.COMPLETE), (second, training.FAILED)):
        claim(database, run_id)
        assert training.end_run(database, run_id, status, {}, process=this_process())
        with pytest.raises(Conflict, match=status):
            training.claim(database, run_id, this_process(), {})
        assert run(database, run_id)["status"] == status


def claim(database: Database, run_id: int, process: Process | None = None, **columns: Any) -> dict[str, Any]:
    """A claim that must not find anybody else at it."""
    found = training.claim(database, run_id, process or this_process(), columns)
    assert not isinstance(found, Busy)
    return dict(found)


def test_a_claimed_run_says_whose_it_is(database: Database) -> None:
    run_id = register(database).run_ids[0]
    found = claim(database, run_id, device="cpu", threads=1)
    assert found == run(database, run_id)
    assert (found["status"], found["device"], found["threads"], found["n_resumed"]) == ("running", "cpu", 1, 0)
    assert Process(found["host"], found["pid"], found["pid_started"]).is_same(this_process())
    assert found["started_at"] == found["heartbeat"] >= found["created_at"]


def test_a_run_that_a_living_process_trains_is_busy_and_stays_as_it_is(database: Database) -> None:
    run_id = register(database).run_ids[0]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = process_of(child.pid)
        claim(database, run_id, other)
        before = run(database, run_id)
        found = training.claim(database, run_id, this_process(), {"device": "x"})
        assert found == Busy(other, before["started_at"])
        assert run(database, run_id) == before
    again = claim(database, run_id)
    assert (again["n_resumed"], again["started_at"]) == (1, before["started_at"])


@pytest.mark.parametrize("status", ["stopped", "interrupted"])
def test_a_run_that_was_left_goes_on(database: Database, status: str) -> None:
    run_id = register(database).run_ids[0]
    first = claim(database, run_id)
    training.end_run(database, run_id, status, {"step": 40}, error="why")
    found = claim(database, run_id)
    assert (found["status"], found["error"], found["finished_at"], found["step"]) == ("running", None, None, 40)
    assert (found["n_resumed"], found["started_at"]) == (1, first["started_at"])


@pytest.mark.parametrize(
    ("age", "is_busy"), [(0, True), (clock.LEASE_TIMEOUT_S - 30, True), (clock.LEASE_TIMEOUT_S + 30, False)]
)
def test_a_run_on_another_host_is_held_as_long_as_it_is_heard_of(database: Database, age: float, is_busy: bool) -> None:
    found = register(database)
    claim(database, found.run_ids[0])
    hold(database, training.RUN, found.run_ids[0], **elsewhere(age))
    hold(database, training.SWEEP, found.id, **elsewhere(age))
    assert training.settle(database) == (not is_busy)
    assert isinstance(training.claim(database, found.run_ids[0], this_process(), {}), Busy) is is_busy
    assert isinstance(training.supervise(database, found.id, this_process()), Busy) is is_busy


def test_a_beat_stores_what_was_measured(database: Database) -> None:
    run_id = register(database).run_ids[0]
    before = claim(database, run_id)
    measured = Measured([("train/loss", 10, 0.5), ("train/loss", 20, 0.4)], {"step": 20, "train_loss": 0.4})
    assert training.beat(database, run_id, this_process(), measured) is False
    row = run(database, run_id)
    assert (row["step"], row["train_loss"], row["status"]) == (20, 0.4, "running")
    assert row["heartbeat"] >= before["heartbeat"]
    assert training.beat(database, run_id, this_process(), Measured()) is False
    again = Measured([("train/loss", 20, 0.3), ("dev/loss", 20, 0.9)])
    assert training.beat(database, run_id, this_process(), again) is False
    found = rows(database.workspace, "SELECT name, step, value FROM training_metric ORDER BY name, step")
    assert [tuple(row.values()) for row in found] == [
        ("dev/loss", 20, 0.9), ("train/loss", 10, 0.5), ("train/loss", 20, 0.3),
    ]  # fmt: skip


def test_a_wish_to_stop_is_heard_at_the_next_beat(database: Database) -> None:
    found = register(database)
    one, two = found.run_ids
    for run_id in (one, two):
        claim(database, run_id)
    training.request_stop(database, [one])
    assert training.beat(database, one, this_process(), Measured([("train/loss", 1, 0.5)])) is True
    assert training.beat(database, two, this_process(), Measured()) is False
    assert len(rows(database.workspace, "SELECT * FROM training_metric")) == 1
    training.end_run(database, one, training.STOPPED, {})
    assert not run(database, one)["stop_requested"]


def test_who_lost_a_run_is_told_to_stop_and_writes_nothing_more(database: Database) -> None:
    run_id = register(database).run_ids[0]
    claim(database, run_id, GONE)
    claim(database, run_id)
    before = run(database, run_id)
    assert training.beat(database, run_id, GONE, Measured([("train/loss", 1, 9.9)], {"step": 999})) is True
    assert training.end_run(database, run_id, training.STOPPED, {"step": 999}, process=GONE) is False
    assert run(database, run_id) == before
    assert rows(database.workspace, "SELECT * FROM training_metric") == []
    assert training.end_run(database, run_id, training.COMPLETE, {"step": 7}, process=this_process()) is True
    assert training.end_run(database, run_id, training.FAILED, {}, process=this_process()) is False
    assert (run(database, run_id)["status"], run(database, run_id)["step"]) == ("complete", 7)


@pytest.mark.parametrize(
    ("status", "is_told"), [("complete", True), ("failed", True), ("stopped", False), ("interrupted", False)]
)
def test_mlflow_is_told_of_what_has_ended_for_good(database: Database, status: str, is_told: bool) -> None:
    found = register(database)
    run_id = found.run_ids[0]
    claim(database, run_id)
    training.end_run(database, run_id, status, {"accuracy": 0.5}, error="why")
    training.end_sweep(database, found.id, status, error="why")
    row = run(database, run_id)
    assert (row["status"], row["accuracy"], row["error"]) == (status, 0.5, "why")
    assert row["finished_at"] >= row["started_at"]
    assert (sweep(database)["status"], sweep(database)["error"]) == (status, "why")
    assert told(database) == ([("training_run", run_id), ("training_sweep", found.id)] if is_told else [])


def test_mlflow_is_told_once_and_anew_where_it_was_told_before(database: Database) -> None:
    found = register(database, point(0))
    for _ in range(2):
        training.end_run(database, found.run_ids[0], training.FAILED, {})
        training.end_sweep(database, found.id, training.FAILED)
    # Of a sweep of one run, the run says it all.
    assert told(database) == [("training_run", found.run_ids[0])]
    with database.writing() as connection:
        connection.execute(training.OUTBOX.update().values(logged_at="2026-11-20T21:46:52.123456Z", error="e"))
    assert told(database) == []
    training.end_run(database, found.run_ids[0], training.COMPLETE, {})
    assert told(database) == [("training_run", found.run_ids[0])]


def prediction(position: int, predicted: int = 0) -> dict[str, Any]:
    return {"position": position, "label": 0, "predicted": predicted, "correct": predicted == 0, "scores": "[-1, -2]"}


def test_predictions_of_a_stage_are_replaced(database: Database) -> None:
    one, two = register(database).run_ids
    training.save_predictions(database, one, "zero_shot", [prediction(0, 1)])
    training.save_predictions(database, two, "trained", [prediction(0, 1)])
    training.save_predictions(database, one, "trained", [prediction(at) for at in range(5)])
    training.save_predictions(database, one, "trained", [prediction(at, 1) for at in range(3)])
    found = rows(
        database.workspace,
        """SELECT training_run_id AS r, stage, COUNT(*) AS n, SUM(predicted) AS p
           FROM prediction GROUP BY 1, 2 ORDER BY 1, 2""",
    )
    assert [tuple(row.values()) for row in found] == [
        (one, "trained", 3, 3), (one, "zero_shot", 1, 1), (two, "trained", 1, 1),
    ]  # fmt: skip
    training.save_predictions(database, one, "trained", [])
    assert len(rows(database.workspace, "SELECT * FROM prediction")) == 2


def test_what_dead_processes_left_is_settled(database: Database) -> None:
    alive, dead = register(database), register(database, process=GONE)
    claim(database, alive.run_ids[0])
    claim(database, dead.run_ids[0], GONE)
    assert not is_held(run(database, dead.run_ids[0]))
    assert is_held(run(database, alive.run_ids[0]))
    assert training.settle(database) == 1
    found = rows(database.workspace, "SELECT status FROM training_run ORDER BY id")
    assert [row["status"] for row in found] == ["running", "pending", "interrupted", "pending"]
    found = rows(database.workspace, "SELECT status FROM training_sweep ORDER BY id")
    assert [row["status"] for row in found] == ["running", "interrupted"]
    assert training.settle(database) == 0


def test_a_sweep_that_a_living_process_supervises_is_busy(database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = process_of(child.pid)
        found = register(database, process=other)
        assert training.supervise(database, found.id, this_process()) == Busy(other, sweep(database)["started_at"])
        assert training.supervise(database, found.id, other) is None
        training.hand_over(database, found.id, this_process())
        assert sweep(database)["pid"] == child.pid
        training.hand_over(database, found.id, other)
        assert training.supervise(database, found.id, this_process()) is None
        assert sweep(database)["pid"] == os.getpid()


def test_a_sweep_that_has_ended_can_be_supervised_anew(database: Database) -> None:
    found = register(database)
    training.request_stop(database, found.run_ids)
    training.end_run(database, found.run_ids[0], training.COMPLETE, {})
    training.end_run(database, found.run_ids[1], training.STOPPED, {})
    training.end_sweep(database, found.id, training.STOPPED, error="why")
    training.request_stop(database, found.run_ids)
    assert training.supervise(database, found.id, this_process()) is None
    row = sweep(database)
    assert (row["status"], row["finished_at"], row["error"]) == ("running", None, None)
    assert [bool(run(database, run_id)["stop_requested"]) for run_id in found.run_ids] == [True, False]


def test_a_supervisor_notices_that_its_sweep_was_taken_over(database: Database) -> None:
    found = register(database, process=GONE)
    assert training.beat_sweep(database, found.id, GONE) is True
    assert training.supervise(database, found.id, this_process()) is None
    assert training.beat_sweep(database, found.id, GONE) is False
    before = sweep(database)["heartbeat"]
    assert training.beat_sweep(database, found.id, this_process()) is True
    assert sweep(database)["heartbeat"] >= before
    training.end_sweep(database, found.id, training.COMPLETE)
    assert training.beat_sweep(database, found.id, this_process()) is False


def test_a_started_process_is_noted_until_it_has_claimed_its_run(database: Database) -> None:
    one, two = register(database).run_ids
    training.note_start(database, one, GONE, {"device": "cpu", "threads": 2})
    row = run(database, one)
    assert (row["pid"], row["device"], row["threads"], row["status"]) == (GONE.pid, "cpu", 2, "pending")
    claim(database, two)
    training.note_start(database, two, GONE, {"device": "x"})
    assert (run(database, two)["pid"], run(database, two)["device"]) == (os.getpid(), None)


def test_a_zero_shot_accuracy_is_measured_once(database: Database) -> None:
    one, two = register(database).run_ids
    assert training.zero_shot(database, "key") is None
    hold(database, training.RUN, one, zero_shot_key="key")
    assert training.zero_shot(database, "key") is None
    hold(database, training.RUN, two, zero_shot_key="key", zero_shot_accuracy=0.0)
    assert training.zero_shot(database, "key") == 0.0
    assert training.zero_shot(database, "other") is None
