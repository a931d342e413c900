"""What a report is about: the batch or purpose that a name means, and which experiments and runs belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from tracker.errors import UnknownReference
from tracker.record.catalogue import Reader

BATCH, GENERATION, TRAINING = "batch", "generation purpose", "training purpose"
EXPERIMENTS_OF = {
    BATCH: "SELECT shared_experiment_id AS id FROM batch_membership m JOIN batch b ON b.id = m.batch_id"
    " WHERE b.name = :name AND b.deleted_at IS NULL",
    GENERATION: "SELECT shared_experiment_id AS id FROM generation_run WHERE purpose = :name"
    " UNION SELECT id FROM shared_experiment WHERE purpose = :name",
    TRAINING: "SELECT d.shared_experiment_id AS id FROM training_data d JOIN training_run r ON r.id = d.training_run_id"
    " WHERE r.purpose = :name AND d.shared_experiment_id IS NOT NULL",
}
RUNS_OF = {
    BATCH: "g.batch_id IN (SELECT b.id FROM batch b WHERE b.name = :name AND b.deleted_at IS NULL)",
    GENERATION: "g.purpose = :name",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about: its name, as what it is taken, and as what else it could be."""

    name: str
    roles: tuple[str, ...]
    others: tuple[str, ...] = ()
    description: str = ""


def find(reader: Reader, name: str, wanted: str | None = None) -> Subject:
    """The batch or purpose of that name, a batch first; ``wanted`` is ``batch`` or ``purpose``.

    A purpose of data and of trainings is both. Raises UnknownReference with close matches.
    """
    text = name.strip()
    own = text.rstrip("/").rpartition("/")[2]
    batches = reader.rows("SELECT name, description FROM batch WHERE name = :name AND deleted_at IS NULL", name=own)
    purposes = tuple(
        role
        for role, sql in (
            (GENERATION, "SELECT 1 AS one FROM generation_run WHERE purpose = :name"),
            (GENERATION, "SELECT 1 AS one FROM shared_experiment WHERE purpose = :name"),
            (TRAINING, "SELECT 1 AS one FROM training_run WHERE purpose = :name"),
        )
        if reader.rows(f"{sql} LIMIT 1", name=text)
    )
    purposes = tuple(dict.fromkeys(purposes))
    if batches and wanted != "purpose":
        return Subject(own, (BATCH,), purposes, batches[0]["description"])
    if purposes and wanted != BATCH:
        return Subject(text, purposes, (BATCH,) if batches else ())
    known = [
        row["name"]
        for row in reader.rows(
            """SELECT name FROM batch WHERE deleted_at IS NULL UNION SELECT purpose FROM generation_run
               UNION SELECT purpose FROM training_run ORDER BY name LIMIT 5000"""
        )
    ]
    hint = "`synthtrack batch list` and `synthtrack result list` show what there is."
    raise UnknownReference(wanted or "batch or purpose", name, known, hint=hint)
