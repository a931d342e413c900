"""The MLflow outbox: which runs are still to be logged, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker import clock
from tracker.catalogue import Reader

if TYPE_CHECKING:
    from tracker.database import Database

_PENDING = """
    SELECT o.id, r.id AS generation_run_id, r.uuid, r.purpose FROM mlflow_outbox o
    JOIN generation_run r ON r.id = o.generation_run_id
    WHERE (o.logged_at IS NULL OR :everything = 1) AND r.status <> 'running'
      AND (r.outcome <> 'tested' OR r.status <> 'complete'
           OR EXISTS (SELECT 1 FROM judge_test t WHERE t.generation_run_id = r.id))
    ORDER BY o.id"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that MLflow is to be told."""

    id: int
    generation_run_id: int
    uuid: str
    purpose: str


def pending(reader: Reader, *, everything: bool = False) -> list[Entry]:
    """The finished runs that are not logged yet (``everything``: all finished runs), oldest first."""
    # A run that is still going gets its final counts first, and a judge's test what came of it, a moment after its end:
    # what MLflow holds of a run cannot be changed later.
    return [Entry(**row) for row in reader.rows(_PENDING, everything=int(everything))]


def mark_logged(database: Database, entry: Entry, mlflow_run_id: str) -> None:
    """Notes that ``entry`` stands in MLflow under ``mlflow_run_id``."""
    _note(database, entry, logged_at=clock.to_text(clock.now()), mlflow_run_id=mlflow_run_id, error=None)


def mark_failed(database: Database, entry: Entry, error: str) -> None:
    """Notes why ``entry`` could not be logged; it stays to be logged."""
    _note(database, entry, logged_at=None, mlflow_run_id=None, error=error)


def _note(database: Database, entry: Entry, **values: str | None) -> None:
    from sqlmodel import col, update

    from tracker.schema import MlflowOutbox

    with database.writing() as connection:
        connection.execute(update(MlflowOutbox).where(col(MlflowOutbox.id) == entry.id).values(**values))
