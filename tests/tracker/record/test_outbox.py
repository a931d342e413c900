from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.mlflow_rows import add_run, workspace_at
from tests.training_rows import GONE, training_study
from tracker.paths import Workspace
from tracker.record import outbox, training
from tracker.record.catalogue import reading
from tracker.record.database import open_database


def rows(workspace: Workspace) -> list[dict[str, Any]]:
    with reading(workspace) as reader:
        return reader.rows("SELECT logged_at, mlflow_run_id, error FROM mlflow_outbox ORDER BY id")


def pending(workspace: Workspace, *, everything: bool = False) -> list[str]:
    with reading(workspace) as reader:
        return [entry.uuid for entry in outbox.pending(reader, everything=everything)]


def test_what_is_pending_is_oldest_first_and_never_a_run_that_is_still_going(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    first = add_run(workspace)
    add_run(workspace, status="running")
    second = add_run(workspace, outcome="reused")
    assert pending(workspace) == [first, second]


def test_a_logged_entry_is_pending_no_more_and_a_failed_one_is_with_its_error(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    first = add_run(workspace)
    second = add_run(workspace, outcome="reused")
    with reading(workspace) as reader:
        entries = outbox.pending(reader)
    with open_database(workspace) as database:
        outbox.mark_failed(database, entries[0], "no such server")
        outbox.mark_logged(database, entries[1], "abc")
    assert pending(workspace) == [first]
    assert pending(workspace, everything=True) == [first, second]
    failed, logged = rows(workspace)
    assert (failed["logged_at"], failed["mlflow_run_id"], failed["error"]) == (None, None, "no such server")
    assert (logged["mlflow_run_id"], logged["error"]) == ("abc", None)
    assert logged["logged_at"] is not None


def test_what_is_logged_at_last_forgets_its_error(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    add_run(workspace)
    with reading(workspace) as reader:
        (entry,) = outbox.pending(reader)
    with open_database(workspace) as database:
        outbox.mark_failed(database, entry, "no such server")
        outbox.mark_logged(database, entry, "abc")
        with database.reading() as connection:
            assert connection.execute(text("SELECT error FROM mlflow_outbox")).scalar_one() is None


def test_of_trainings_only_those_are_pending_that_ended_and_a_sweep_comes_after_its_runs(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    with reading(study.workspace) as reader:
        entries = outbox.pending(reader)
    assert [entry.kind for entry in entries] == ["training_run"] * 11 + ["training_sweep"] * 3
    runs = {name: run_id for name, run_id in study.runs.items() if not name.endswith(("seed 2", "seed 3", "seed 4"))}
    assert {entry.subject_id for entry in entries[:11]} == set(runs.values())
    assert entries[0].uuid == study.uuid("temp05 1e-06 seed 0")
    assert entries[0].purpose == "hyperparameter_tuning"


def test_what_goes_on_is_pending_once_it_has_ended_anew(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    run, sweep = study.runs["temp05 1e-06 seed 0"], study.sweeps["hyperparameter_tuning"]
    with open_database(study.workspace) as database, reading(study.workspace, snapshot=False) as reader:
        for entry in outbox.pending(reader):
            outbox.mark_logged(database, entry, "abc")
        training.end_run(database, run, training.INTERRUPTED, {})
        training.claim(database, run, GONE, {})
        training.supervise(database, sweep, GONE)
        assert outbox.pending(reader) == []
        everything = {(entry.kind, entry.subject_id) for entry in outbox.pending(reader, everything=True)}
        assert ("training_run", run) not in everything
        assert ("training_run", run + 1) in everything
        training.end_run(database, run, training.COMPLETE, {})
        training.end_sweep(database, sweep, training.FAILED)
        assert [(entry.kind, entry.subject_id) for entry in outbox.pending(reader)] == [
            ("training_run", run),
            ("training_sweep", sweep),
        ]


def test_what_ended_anew_while_it_was_logged_is_still_to_be_logged(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    run = study.runs["temp05 1e-06 seed 0"]
    with open_database(study.workspace) as database, reading(study.workspace, snapshot=False) as reader:
        first = outbox.pending(reader)[0]
        training.end_run(database, run, training.COMPLETE, {})
        outbox.mark_logged(database, first, "abc")
        again = outbox.pending(reader)[0]
    assert (again.subject_id, first.subject_id) == (run, run)
    assert again.ended_at > first.ended_at
