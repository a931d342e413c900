"""What ``verify --fix`` may do: nothing that the record, or a file that somebody edited, could lose by.

Identities, digests, the ledger and its answers are never touched.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tracker import clock
from tracker.durable import remove
from tracker.errors import Corrupt, Error
from tracker.paths import Workspace
from tracker.record import imported, outbox
from tracker.record.catalogue import reading
from tracker.record.findings import Finding
from tracker.verifying import verify_places
from tracker.verifying.sample_findings import COUNTS
from tracker.verifying.verify import LINK, REBUILD
from tracker.verifying.verify_database import INDEX
from tracker.verifying.verify_mlflow import HIDE, LOG, mlflow_findings
from tracker.views.rebuilding import rebuild_trees
from tracker.views.rows import Record
from tracker.views.tree import writing

if TYPE_CHECKING:
    from tracker.record.database import Database

_EXPERIMENT = "SELECT dataset || '/' || name AS name FROM shared_experiment WHERE id = :id"
_IMPORTED = "SELECT * FROM shared_experiment WHERE id = :id AND directory IS NOT NULL"

Progress = Callable[[str, int, int], None]
Publish = Callable[[int], str]
"""Publishes again what the publication with that id put somewhere; says what was done. Raises Error."""


def mend(
    workspace: Workspace, findings: Sequence[Finding], publish: Publish, progress: Progress | None = None
) -> Iterator[str]:
    """Does what is safe about ``findings``, and says each thing that was done, or why it could not be."""
    fixes = {each.fix for each in findings}
    ids = {fix: [each.id for each in findings if each.fix == fix and each.id is not None] for fix in fixes}
    steps: dict[str, Callable[[], Iterator[str]]] = {
        INDEX: lambda: _make_indexes(workspace),
        verify_places.CLEAR: lambda: _clear(workspace),
        verify_places.END_WORK: lambda: _end_work(workspace),
        COUNTS: lambda: _count_anew(workspace, ids[COUNTS]),
        LINK: lambda: _link(workspace),
        verify_places.SETTLE: lambda: _settle(workspace),
        verify_places.MOVE: lambda: _move(workspace, ids[verify_places.MOVE]),
        REBUILD: lambda: _rebuild(workspace, progress),
        verify_places.PUBLISH: lambda: (publish(each) for each in ids[verify_places.PUBLISH]),
        LOG: lambda: _log(workspace, findings, progress),
        HIDE: lambda: _hide(workspace, findings),
    }
    fixes |= {REBUILD} if verify_places.MOVE in fixes else set()
    fixes |= {HIDE for fix in fixes if fix.startswith(HIDE)}
    fixes |= {LOG for fix in fixes if fix.startswith(LOG)}
    for fix, step in steps.items():
        if fix in fixes:
            try:
                yield from step()
            except Error as error:
                yield f"Could not be mended: {error.message}"


def _make_indexes(workspace: Workspace) -> Iterator[str]:
    with contextlib.closing(sqlite3.connect(workspace.database, timeout=workspace.busy_timeout)) as connection:
        try:
            connection.execute("REINDEX")
        except sqlite3.DatabaseError as error:
            yield f"The indexes could not be made anew: {error}."
        else:
            yield "Made the database's indexes anew."


def _clear(workspace: Workspace) -> Iterator[str]:
    with reading(workspace) as reader:
        found = list(verify_places.leftovers(reader, workspace))
    for path in found:
        remove(path)
        yield f"Removed {workspace.relative(path)}, which a killed process left."


def _end_work(workspace: Workspace) -> Iterator[str]:
    from tracker.record import agents, generation, pool_validations, training
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        n = generation.end_dead_runs(database) + agents.end_dead_runs(database) + pool_validations.end_dead(database)
        n += training.settle(database)
    yield f"Ended {n:,} {'run' if n == 1 else 'runs'} whose process is gone; what they made stays, and can be resumed."


def _count_anew(workspace: Workspace, ids: Sequence[int]) -> Iterator[str]:
    """Counts of experiments whose samples are all there and give the data that is recorded."""
    from tracker.record import generation
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        for experiment_id in dict.fromkeys(ids):
            with reading(workspace) as reader:
                row = reader.rows(_EXPERIMENT, id=experiment_id)[0]
                try:
                    Record(reader).data_files(experiment_id)
                except Corrupt as error:
                    yield f"Not counted anew: {error.message}"
                    continue
            generation.count_anew(database, experiment_id)
            yield f"Counted the samples of {row['name']} anew."


def _link(workspace: Workspace) -> Iterator[str]:
    from tracker.record import data_links
    from tracker.record.database import open_database

    with open_database(workspace) as database, database.writing() as connection:
        n = data_links.link(connection)
    yield f"Linked {n:,} {'data set' if n == 1 else 'data sets'} of trainings to the experiments that made them."


def _settle(workspace: Workspace) -> Iterator[str]:
    from tracker.deleting import trash
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        with writing(workspace):
            settled = trash.settle(workspace, database)
        errors = trash.tell_mlflow(workspace, database)
    for name in settled:
        yield f"Finished what was begun with {name}."
    yield from (f"MLflow could not be told: {error}" for error in errors)


def _move(workspace: Workspace, ids: Sequence[int]) -> Iterator[str]:
    """Lets the view write imported data that is changed, or gone, where it was; the older tree stays as it is."""
    from tracker.record.database import open_database
    from tracker.schema import table

    experiment = table("shared_experiment")
    with open_database(workspace) as database:
        for experiment_id in dict.fromkeys(ids):
            with reading(workspace) as reader:
                rows = reader.rows(_IMPORTED, id=experiment_id)
                for row in rows:
                    # Raises Corrupt where the record could not bring it back.
                    imported.view_files(reader, row | {"directory": None})
            with database.writing() as connection:
                here = experiment.c.id == experiment_id
                connection.execute(experiment.update().where(here).values(directory=None))
            for row in rows:
                yield f"The workspace's own tree has {row['dataset']}/{row['name']} now, not {row['directory']}."


def _rebuild(workspace: Workspace, progress: Progress | None) -> Iterator[str]:
    for name, done in rebuild_trees(workspace, progress).items():
        if any(done.values()):
            moved = f", moved {done['aside']:,} to .trash" if done["aside"] else ""
            cleared = f", removed {done['leftovers']:,} leftovers" if done["leftovers"] else ""
            entries = "entry" if done["written"] == 1 else "entries"
            yield f"Wrote {done['written']:,} {entries} of the tree ({name}){moved}{cleared}."


def _log(workspace: Workspace, findings: Sequence[Finding], progress: Progress | None) -> Iterator[str]:
    """Puts into the outbox what MLflow lost or was never told of, and logs it."""
    from tracker.mlflow_runs.mlflow_log import drain
    from tracker.record.database import open_database

    is_missing = any(each.fix == LOG and each.id is None for each in findings)
    with open_database(workspace) as database:
        for each in findings:
            kind = each.fix.removeprefix(f"{LOG} ")
            if each.fix.startswith(LOG) and kind != LOG and each.id is not None:
                _tell(database, kind, each.id)
        outbox.forget_runs(database, [each.id for each in findings if each.fix == LOG and each.id is not None])
    told = None if progress is None else partial(progress, "MLflow")
    drained = drain(workspace, rebuild=is_missing, on_progress=told, patience_s=None)
    yield f"Logged {drained.logged:,} {'run' if drained.logged == 1 else 'runs'} to MLflow."
    yield from (f"MLflow could not be told: {error}" for error in drained.errors)


def _hide(workspace: Workspace, findings: Sequence[Finding]) -> Iterator[str]:
    """Puts runs in MLflow that the record does not have out of sight: MLflow keeps what is deleted, until `gc`."""
    from tracker.mlflow_runs.mlflow_store import delete_runs

    with reading(workspace) as reader:
        # One that began while the first look was taken is in the record by now.
        still = {each.fix for each in mlflow_findings(reader, workspace).findings}
    runs = [each.fix.removeprefix(HIDE) for each in findings if each.fix.startswith(HIDE) and each.fix in still]
    error = delete_runs(workspace, runs)
    if error is not None:
        yield f"MLflow could not be told: {error}"
    elif runs:
        n_runs = f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'}"
        yield f"Put {n_runs} in MLflow out of sight, which the record does not have."


def _tell(database: Database, kind: str, row_id: int) -> None:
    from tracker.schema import table

    row = {"kind": kind, f"{kind}_id": row_id, "created_at": clock.to_text(clock.now())}
    with database.writing() as connection:
        database.insert_new(connection, table("mlflow_outbox"), [row])
