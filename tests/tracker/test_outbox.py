from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.mlflow_rows import add_run, workspace_at
from tracker import outbox
from tracker.catalogue import reading
from tracker.database import open_database
from tracker.paths import Workspace


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
