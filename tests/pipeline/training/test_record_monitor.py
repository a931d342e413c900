"""What a training run tells the record while it goes on, and what it hears from there."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.training import record_monitor
from pipeline.training.evaluate import Evaluation
from pipeline.training.record_monitor import POINTS, RecordMonitor, patiently
from tests.databases import rows
from tests.training_rows import GONE, Trained, add_sweep, workspace_with_data
from tracker import clock
from tracker.errors import Conflict, StorageError
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

PATIENCE_S = 60


@dataclass
class Bench:
    """A run that is this process's, and what its monitor said."""

    workspace: Workspace
    run_id: int
    steps: int
    said: list[str] = field(default_factory=list)

    @contextmanager
    def monitored(self, **environ: str) -> Iterator[RecordMonitor]:
        """A monitor on a connection of its own, on which ``environ`` counts."""
        with open_database(Workspace(self.workspace.root, environ=environ)) as database:
            monitor = RecordMonitor(
                database, self.run_id, self.steps, peak_memory=lambda: 5_000_000, say=self.said.append
            )
            with monitor:
                yield monitor

    def curve(self, name: str) -> dict[int, float]:
        sql = "SELECT step, value FROM training_metric WHERE training_run_id = :id AND name = :name ORDER BY step"
        return {row["step"]: row["value"] for row in rows(self.workspace, sql, id=self.run_id, name=name)}

    def row(self) -> dict[str, Any]:
        return rows(self.workspace, "SELECT * FROM training_run WHERE id = :id", id=self.run_id)[0]


def bench(tmp_path: Path, steps: int) -> Bench:
    workspace = workspace_with_data(tmp_path)
    with open_database(workspace) as database:
        wanted = [Trained(hyperparameters={"learning_rate": 1e-6, "steps": steps}, status="pending")]
        (run_id,) = add_sweep(database, "study", wanted).run_ids
        training.claim(database, run_id, clock.this_process(), {"device": "cpu", "threads": 1})
    return Bench(workspace, run_id, steps)


def step(monitor: RecordMonitor, number: int) -> None:
    """Step ``number``: its loss is its number, its learning rate a hundredth of it."""
    monitor.step(number, {"train/loss": float(number), "train/learning_rate": number / 100, "train/tokens": 50.0})


def evaluation(loss: float) -> Evaluation:
    return Evaluation(loss, 0.75, 3, 4, [])


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """The database, written to by another program meanwhile."""
    with closing(sqlite3.connect(workspace.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets; its only item is what it shows."""
    shown = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: shown[0])
    return shown


def test_a_short_run_records_every_step_the_first_too(tmp_path: Path) -> None:
    found = bench(tmp_path, 5)
    with found.monitored() as monitor:
        monitor.evaluated(0, evaluation(2.5))
        for number in range(1, 6):
            step(monitor, number)
        monitor.evaluated(5, evaluation(0.5))
    assert found.curve("train/loss") == {number: number for number in range(1, 6)}
    assert found.curve("train/learning_rate") == {number: number / 100 for number in range(1, 6)}
    assert found.curve("dev/loss") == {0: 2.5, 5: 0.5}
    assert found.curve("dev/accuracy") == {0: 0.75, 5: 0.75}
    assert found.curve("memory/peak_bytes") == dict.fromkeys(range(1, 6), 5_000_000)
    assert (found.row()["step"], found.row()["train_loss"]) == (5, 5.0)


@pytest.mark.parametrize(("steps", "points"), [(1000, 1000), (1001, 501), (2500, 834)])
def test_a_long_curve_is_thinned_to_means(tmp_path: Path, steps: int, points: int) -> None:
    found = bench(tmp_path, steps)
    with found.monitored() as monitor:
        for number in range(1, steps + 1):
            step(monitor, number)
    curve = found.curve("train/loss")
    assert len(curve) == points <= POINTS
    assert max(curve) == steps
    before = 0
    for at, value in curve.items():
        # Every step is in exactly one mean.
        assert value == pytest.approx((before + 1 + at) / 2)
        before = at
    assert found.curve("train/learning_rate") == pytest.approx({at: value / 100 for at, value in curve.items()})


def test_the_time_of_a_step_has_no_evaluation_in_it_nor_what_came_before_the_first(
    tmp_path: Path, ticking: list[float]
) -> None:
    found = bench(tmp_path, 4)
    with found.monitored() as monitor:
        monitor.evaluated(0, evaluation(1))
        ticking[0] += 60  # a replay
        step(monitor, 1)
        assert monitor.speed() == {}
        ticking[0] += 2
        step(monitor, 2)
        ticking[0] += 30
        monitor.evaluated(2, evaluation(1))
        ticking[0] += 4
        step(monitor, 3)
        ticking[0] += 4
        step(monitor, 4)
        assert monitor.speed() == {"step_time_s": 4, "tokens_per_s": 15}
    assert found.curve("train/step_time_s") == {2: 2, 3: 4, 4: 4}
    assert found.curve("train/tokens_per_s") == {2: 25, 3: 12.5, 4: 12.5}


def test_what_is_measured_again_after_a_resume_replaces_what_was(tmp_path: Path) -> None:
    found = bench(tmp_path, 4)
    with found.monitored() as monitor:
        monitor.evaluated(0, evaluation(3))
        step(monitor, 1)
        monitor.step(2, {"train/loss": 9.0, "train/learning_rate": 1.0})
        monitor.evaluated(2, evaluation(7))
    with found.monitored() as monitor:
        monitor.evaluated(0, evaluation(3))
        for number in (2, 3):
            step(monitor, number)
        monitor.evaluated(2, evaluation(1))
    assert found.curve("train/loss") == {1: 1, 2: 2, 3: 3}
    assert found.curve("dev/loss") == {0: 3, 2: 1}
    assert found.row()["step"] == 3


def test_what_was_measured_is_in_the_record_while_the_run_goes_on(tmp_path: Path) -> None:
    found = bench(tmp_path, 9)
    with found.monitored() as monitor:
        step(monitor, 1)
        until(lambda: found.curve("train/loss") == {1: 1})
        beaten = found.row()["heartbeat"]
        until(lambda: found.row()["heartbeat"] > beaten)
        step(monitor, 2)
        monitor.flush()
        assert found.curve("train/loss") == {1: 1, 2: 2}


def test_a_wish_to_stop_comes_from_the_record_or_from_a_signal(tmp_path: Path) -> None:
    found = bench(tmp_path, 9)
    with found.monitored() as monitor:
        beaten = found.row()["heartbeat"]
        until(lambda: found.row()["heartbeat"] > beaten)
        assert not monitor.stopping()
        with open_database(found.workspace) as database:
            training.request_stop(database, [found.run_id])
        until(monitor.stopping)
    other = bench(tmp_path / "other", 9)
    with other.monitored() as monitor:
        monitor.stop()
        assert monitor.stopping()
    assert not other.row()["stop_requested"]


def test_a_run_that_was_taken_over_is_left_alone(tmp_path: Path) -> None:
    found = bench(tmp_path, 9)
    with found.monitored() as monitor:
        step(monitor, 1)
        monitor.flush()
        with open_database(found.workspace) as database, database.writing() as connection:
            connection.execute(training.RUN.update().values(pid=GONE.pid, pid_started=GONE.started))
        step(monitor, 2)
        until(monitor.stopping)
    assert found.curve("train/loss") == {1: 1}
    assert found.row()["step"] == 1


def test_a_locked_database_loses_nothing(tmp_path: Path) -> None:
    found = bench(tmp_path, 9)
    with found.monitored(SYNTHTRACK_BUSY_TIMEOUT="0.05") as monitor:
        step(monitor, 1)
        monitor.flush()
        with locked(found.workspace):
            beaten = found.row()["heartbeat"]
            for number in range(2, 5):
                step(monitor, number)
                # Longer than a beat, so that beats in vain lie in between.
                time.sleep(record_monitor.BEAT_S)
            monitor.evaluated(4, evaluation(0.25))
            assert (found.curve("train/loss"), found.row()["heartbeat"]) == ({1: 1}, beaten)
            assert not monitor.stopping()
        until(lambda: found.row()["heartbeat"] > beaten)
        step(monitor, 5)
    assert found.curve("train/loss") == {number: number for number in range(1, 6)}
    assert found.curve("dev/loss") == {4: 0.25}
    assert (found.row()["step"], found.row()["train_loss"]) == (5, 5)


def test_at_the_end_it_waits_for_a_locked_database(tmp_path: Path) -> None:
    found = bench(tmp_path, 9)
    left = threading.Event()

    def train() -> None:
        with found.monitored(SYNTHTRACK_BUSY_TIMEOUT="0.05") as monitor:
            for number in (1, 2):
                step(monitor, number)
            left.set()

    with locked(found.workspace):
        worker = threading.Thread(target=train, daemon=True)
        worker.start()
        assert left.wait(PATIENCE_S)
        worker.join(3 * record_monitor.BEAT_S)
        assert worker.is_alive()
    worker.join(PATIENCE_S)
    assert not worker.is_alive()
    assert found.curve("train/loss") == {1: 1, 2: 2}


def test_patience_has_an_end_and_is_for_a_locked_record_alone(ticking: list[float]) -> None:
    tried = []

    def write(error: Exception | None) -> str:
        tried.append(error)
        ticking[0] += record_monitor.PATIENCE_S / 2 + 1
        if error is not None:
            raise error
        return "done"

    assert patiently(lambda: write(None)) == "done"
    with pytest.raises(Conflict):
        patiently(lambda: write(Conflict("taken")))
    assert len(tried) == 2
    with pytest.raises(StorageError, match="locked"):
        patiently(lambda: write(StorageError("locked")))
    assert len(tried) == 4


@pytest.mark.parametrize(("after", "tries"), [(None, 2), (Conflict("taken"), 2), (StorageError("full"), 1)])
def test_a_full_disk_is_waited_for_once_and_not_for_long(
    after: Exception | None, tries: int, ticking: list[float]
) -> None:
    tried = []

    def write() -> None:
        tried.append(ticking[0])
        ticking[0] += record_monitor.FULL_PATIENCE_S / 2 + 1
        raise StorageError("full", is_full=True)

    with pytest.raises(StorageError, match="full"):
        patiently(write, after=after)
    assert len(tried) == tries


def test_it_says_how_far_it_is(tmp_path: Path, ticking: list[float]) -> None:
    found = bench(tmp_path, 4)
    with found.monitored() as monitor:
        monitor.evaluated(0, evaluation(2.5))
        for number in range(1, 5):
            ticking[0] += 3
            step(monitor, number)
    assert found.said == [
        "step 0/4  dev loss 2.5000  dev accuracy 0.7500",
        # Not before five seconds are over.
        "step 2/4  loss 2.0000  3000 ms",
        "step 4/4  loss 4.0000  3000 ms",
    ]
