"""The MLflow outbox: which runs are still to be logged, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker import clock
from tracker.record.catalogue import Reader

if TYPE_CHECKING:
    from tracker.record.database import Database

# A sweep comes after its runs, because it names theirs in MLflow.
_PENDING = """
    SELECT o.id, o.kind, o.created_at, r.id AS subject_id, r.uuid, r.purpose, '' AS ended_at FROM mlflow_outbox o
    JOIN generation_run r ON r.id = o.generation_run_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND r.status <> 'running'
      AND (r.outcome <> 'tested' OR r.status <> 'complete'
           OR EXISTS (SELECT 1 FROM judge_test t WHERE t.generation_run_id = r.id))
    UNION ALL
    SELECT o.id, o.kind, o.created_at, r.id, r.uuid, r.purpose, COALESCE(r.finished_at, r.heartbeat, r.created_at)
    FROM mlflow_outbox o JOIN training_run r ON r.id = o.training_run_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND r.status NOT IN ('pending', 'running')
    UNION ALL
    SELECT o.id, o.kind, o.created_at, w.id, w.uuid, w.purpose, COALESCE(w.finished_at, w.heartbeat, w.started_at)
    FROM mlflow_outbox o JOIN training_sweep w ON w.id = o.training_sweep_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND w.status <> 'running'
    UNION ALL
    SELECT o.id, o.kind, o.created_at, r.id, r.uuid, 'perspectives_' || d.task_type, '' FROM mlflow_outbox o
    JOIN agent_run r ON r.id = o.agent_run_id JOIN agent_dataset d ON d.id = r.agent_dataset_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND r.status <> 'running'
    UNION ALL
    SELECT o.id, o.kind, o.created_at, p.id, p.uuid, 'pools', '' FROM mlflow_outbox o
    JOIN task_pool p ON p.id = o.task_pool_id WHERE (o.logged_at IS NULL OR :everything = 1)
    UNION ALL
    SELECT o.id, o.kind, o.created_at, v.id, v.uuid, 'pools', '' FROM mlflow_outbox o
    JOIN pool_validation v ON v.id = o.pool_validation_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND v.status <> 'running'"""
_LAST = "training_sweep"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that MLflow is to be told: a row of the table ``kind``, in which it has ``subject_id``."""

    id: int
    kind: str
    created_at: str
    subject_id: int
    uuid: str
    purpose: str
    ended_at: str


def pending(reader: Reader, *, everything: bool = False) -> list[Entry]:
    """The finished runs and sweeps that are not logged yet (``everything``: all finished ones), oldest first."""
    # A run that is still going gets its final counts first, and a judge's test what came of it, a moment after its end:
    # what MLflow holds of a run cannot be changed later.
    found = [Entry(**row) for row in reader.rows(_PENDING, everything=int(everything))]
    return sorted(found, key=lambda entry: (entry.kind == _LAST, entry.id))


def mark_logged(database: Database, entry: Entry, mlflow_run_id: str) -> None:
    """Notes that ``entry`` stands in MLflow under ``mlflow_run_id``."""
    _note(database, entry, logged_at=clock.to_text(clock.now()), mlflow_run_id=mlflow_run_id, error=None)


def mark_failed(database: Database, entry: Entry, error: str) -> None:
    """Notes why ``entry`` could not be logged; it stays to be logged."""
    _note(database, entry, logged_at=None, mlflow_run_id=None, error=error)


def _note(database: Database, entry: Entry, **values: str | None) -> None:
    from tracker.schema import table

    rows = table("mlflow_outbox")
    # What ended anew meanwhile was put into the outbox anew, and is still to be logged.
    same = (rows.c.id == entry.id, rows.c.created_at == entry.created_at)
    with database.writing() as connection:
        connection.execute(rows.update().where(*same).values(**values))


def forget_runs(database: Database, ids: Sequence[int]) -> None:
    """Puts rows of the outbox back to where nothing was logged for them."""
    from tracker.schema import table

    rows, again = table("mlflow_outbox"), {"logged_at": None, "mlflow_run_id": None, "error": None}
    with database.writing() as connection:
        for row_id in ids:
            connection.execute(rows.update().where(rows.c.id == row_id).values(**again))
