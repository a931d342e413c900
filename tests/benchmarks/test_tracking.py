"""MLflow's benchmark logs the same runs in every way, and multiplies them as whole runs."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path

import pytest

from benchmarks import tracking
from tests.benchmarks.tables import tables

pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_way_is_printed_and_the_list_has_as_many_runs_as_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tracking", "--runs", "2", "--sorted", "12", "--rounds", "1", "--seconds", "0"])
    tracking.main()
    said = capsys.readouterr().out
    [logged] = tables(said)
    assert len(logged) == 4
    assert all(float(row[0]) > 0 for name, row in logged.items() if name != "who logs")
    assert "15 runs ordered by a metric" in said


def test_a_multiplied_run_has_all_that_its_original_has(tmp_path: Path) -> None:
    workspace, _, _ = tracking.draining(tmp_path, 1)
    first = tracking.content(workspace)
    tracking.multiplied(workspace.mlflow_store, 3)
    with contextlib.closing(sqlite3.connect(workspace.mlflow_store)) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "params")]
    assert counts == [4 * len(first), 4 * sum(len(run["params"]) for run in first)]


def test_a_training_is_measured_as_a_whole() -> None:
    wall, cpu = tracking.training(2, logged=True)
    assert wall > 0 < cpu


def test_a_training_has_as_many_steps_as_fill_its_time() -> None:
    assert tracking.steps_of(60.0, few_s=12.0, more_s=20.0) == 5000
    assert tracking.steps_of(1.0, few_s=12.0, more_s=20.0) == 2
    with pytest.raises(RuntimeError, match="others are at work"):
        tracking.steps_of(60.0, few_s=12.0, more_s=12.0)


def test_what_logging_adds_is_the_median_of_the_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    taken = iter([10.0, 11.0, 10.0, 10.2, 20.0, 20.2])
    tracking.print_added("training", lambda _, logged: (next(taken), float(logged)), 10.0, 3)
    said = capsys.readouterr().out
    [found] = tables(said)
    assert found["left for later"] == ["10.00", "0.00"]
    assert found["logged, with the drain"] == ["11.00", "1.00"]
    assert "Logging adds 2.0% of wall time" in said
