"""Writes what was made elsewhere into the record: each experiment with all that belongs to it in one transaction."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from tracker import clock
from tracker.fingerprint import SCHEME, Identity, Json
from tracker.record import data_links
from tracker.record.columns import check_digest
from tracker.record.database import Database
from tracker.record.generation import BATCH, MEMBERSHIP
from tracker.record.imported import COPIED, KNOWN, MOVED, TAKEN, Put, is_again, outcome_of
from tracker.record.ledger import EXPERIMENT, SAMPLE
from tracker.record.names import free_name
from tracker.record.sources import SOURCE_RECORD, SOURCE_SPLIT, blocks
from tracker.schema import table

Row = Mapping[str, Any]

IMPORT_RUN, IMPORTED_FILE = table("import_run"), table("imported_file")


@dataclass(frozen=True)
class WantedBatch:
    """A batch that holds an experiment; ``is_there``: not only named by what was made for it."""

    name: str
    purpose: str
    created_at: str
    is_there: bool = True


@dataclass(frozen=True)
class WantedImport:
    """An experiment to be put into the record.

    ``columns`` are values of shared_experiment's columns, ``samples`` and ``files`` rows of sample and imported_file
    (``content`` as it was found), ``batches[0]`` the one that first made it, ``known`` the settings that are said.
    """

    identity: Identity
    dataset: str
    name: str
    source_dataset_id: int
    batches: Sequence[WantedBatch]
    columns: Row
    samples: Sequence[Row]
    files: Sequence[Row]
    import_run_id: int
    legacy_fingerprint: str | None = None
    directory: str | None = None
    known: Mapping[str, Json] = field(default_factory=dict)


def begin(database: Database, kind: str, origin: str, command: str) -> int:
    """The id of a new import run; kind is tree, dataset or archive."""
    row = {
        "uuid": uuid.uuid4().hex, "kind": kind, "origin": origin, "started_at": _now(), "host": clock.host(),
        "command": command,
    }  # fmt: skip
    with database.writing() as connection:
        return int(connection.execute(IMPORT_RUN.insert().values(**row).returning(IMPORT_RUN.c.id)).scalar_one())


def finish(database: Database, run_id: int, *, taken: int, skipped: int, wrong: int, report: Json) -> None:
    """Ends an import run with its report."""
    values = {
        "finished_at": _now(), "n_taken": taken, "n_skipped": skipped, "n_wrong": wrong,
        "report": json.dumps(report, ensure_ascii=False),
    }  # fmt: skip
    with database.writing() as connection:
        connection.execute(update(IMPORT_RUN).where(IMPORT_RUN.c.id == run_id).values(**values))


def put(database: Database, wanted: WantedImport) -> Put:
    """Takes an experiment in, or finds it there; joins it to its batches. Raises Corrupt for another's fingerprint."""
    with database.writing() as connection:
        found = _find(connection, wanted)
        if found is None:
            experiment_id, name = _insert(database, connection, wanted)
            data_links.link(connection)
            joined = _join(database, connection, wanted, experiment_id)
            return Put(TAKEN, experiment_id, wanted.identity.fingerprint, name, joined)
        experiment_id = int(found["id"])
        outcome = outcome_of(database.workspace.root, found, wanted.columns["data_digest"], wanted.directory)
        if outcome in {MOVED, COPIED}:
            values = {"directory": wanted.directory}
            connection.execute(update(EXPERIMENT).where(EXPERIMENT.c.id == experiment_id).values(**values))
        same = outcome in {KNOWN, MOVED, COPIED}
        joined = _join(database, connection, wanted, experiment_id) if same else ()
        return Put(outcome, experiment_id, found["fingerprint"], found["name"], joined)


def _find(connection: Connection, wanted: WantedImport) -> Row | None:
    chosen = select(EXPERIMENT)
    found = connection.execute(chosen.where(EXPERIMENT.c.fingerprint == wanted.identity.fingerprint)).mappings().first()
    if found is not None:
        hint = "Two different settings met in 12 digits; import this directory into another workspace."
        check_digest(wanted.identity, found["digest"], f"{found['dataset']}/{found['name']}", hint=hint)
        return dict(found)
    # The same directory as it was imported before, when its original was not there to complete its identity.
    same = [
        EXPERIMENT.c.dataset == wanted.dataset,
        EXPERIMENT.c.import_run_id.is_not(None),
        EXPERIMENT.c.data_digest == wanted.columns["data_digest"],
        EXPERIMENT.c.semantic_name == wanted.name,
    ]
    if wanted.legacy_fingerprint is None:
        same.append(EXPERIMENT.c.legacy_fingerprint.is_(None))
    else:
        same.append(EXPERIMENT.c.legacy_fingerprint == wanted.legacy_fingerprint)
    rows = connection.execute(chosen.where(*same).order_by(EXPERIMENT.c.id)).mappings()
    return next((dict(row) for row in rows if is_again(dict(row), wanted.known)), None)


def _insert(database: Database, connection: Connection, wanted: WantedImport) -> tuple[int, str]:
    name, identity = free_name(connection, wanted.dataset, wanted.name), wanted.identity
    batch_id = _batch(database, connection, wanted.batches[0])
    experiment_id = int(
        connection.execute(
            EXPERIMENT.insert()
            .values(
                fingerprint=identity.fingerprint, digest=identity.digest, scheme=SCHEME, identity=identity.canonical,
                dataset=wanted.dataset, name=name, semantic_name=wanted.name,
                source_dataset_id=wanted.source_dataset_id, original_batch_id=batch_id,
                import_run_id=wanted.import_run_id, legacy_fingerprint=wanted.legacy_fingerprint,
                directory=wanted.directory, **wanted.columns,
            )
            .returning(EXPERIMENT.c.id)
        ).scalar_one()
    )  # fmt: skip
    for row in wanted.files:
        values = {**row, "shared_experiment_id": experiment_id, "content": zlib.compress(row["content"], 6)}
        connection.execute(IMPORTED_FILE.insert().values(**values))
    _insert_samples(connection, wanted, experiment_id)
    return experiment_id, name


def _insert_samples(connection: Connection, wanted: WantedImport, experiment_id: int) -> None:
    if not wanted.samples:
        return
    positions = (
        select(SOURCE_RECORD.c.position, SOURCE_RECORD.c.id)
        .join(SOURCE_SPLIT, SOURCE_SPLIT.c.id == SOURCE_RECORD.c.source_split_id)
        .where(SOURCE_SPLIT.c.source_dataset_id == wanted.source_dataset_id, SOURCE_SPLIT.c.content.is_(None))
    )
    records = {row.position: row.id for row in connection.execute(positions)}
    now = _now()
    rows: Iterable[Row] = (
        {
            **sample, "shared_experiment_id": experiment_id, "source_record_id": records[sample["position"]],
            "updated_at": now,
        }
        for sample in wanted.samples
    )  # fmt: skip
    for block in blocks(rows, 10_000):
        connection.execute(SAMPLE.insert(), block)


def _join(database: Database, connection: Connection, wanted: WantedImport, experiment_id: int) -> tuple[str, ...]:
    held = select(MEMBERSHIP.c.batch_id).where(MEMBERSHIP.c.shared_experiment_id == experiment_id)
    before = set(connection.execute(held).scalars())
    original = connection.execute(select(EXPERIMENT.c.original_batch_id).where(EXPERIMENT.c.id == experiment_id))
    original_id, joined = original.scalar_one(), []
    for batch in wanted.batches:
        if not batch.is_there:
            continue
        batch_id = _batch(database, connection, batch)
        if batch_id not in before:
            row = {
                "batch_id": batch_id, "shared_experiment_id": experiment_id, "created_at": batch.created_at,
                "reused": batch_id != original_id,
            }  # fmt: skip
            database.insert_new(connection, MEMBERSHIP, [row])
            joined.append(batch.name)
    return tuple(joined)


def _batch(database: Database, connection: Connection, batch: WantedBatch) -> int:
    row = {
        "name": batch.name, "purpose": batch.purpose, "description": "", "created_at": batch.created_at,
        # What is only named was deleted over there: its experiments still point to it.
        "deleted_at": None if batch.is_there else _now(),
    }  # fmt: skip
    database.insert_new(connection, BATCH, [row])
    chosen = BATCH.c.name == batch.name
    if batch.is_there:
        connection.execute(update(BATCH).where(chosen, BATCH.c.deleted_at.is_not(None)).values(deleted_at=None))
    return int(connection.execute(select(BATCH.c.id).where(chosen)).scalar_one())


def _now() -> str:
    return clock.to_text(clock.now())
