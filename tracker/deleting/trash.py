"""Deletes things and brings them back: rows into an archive, files into the trash, MLflow's runs out of sight.

The archive is written beside its place, synced and renamed; one transaction takes the rows out and says so in a row of
``deletion``; then files are moved and MLflow is told. Whoever is killed in between leaves what ``settle`` finishes.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker import clock
from tracker.deleting import deletion, trash_files
from tracker.deleting.deletion import BATCH, RUN, TABLES, Plan
from tracker.deleting.trash_files import Kept
from tracker.durable import clear_leftovers, place_beside, removed_on_error, sync_path
from tracker.errors import Conflict, Error
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.views.plan import link_target
from tracker.views.tree import explained, writing

if TYPE_CHECKING:
    from tracker.record.database import Database

SUFFIX = ".zip"
_UNSETTLED = "SELECT * FROM deletion WHERE settled_at IS NULL AND emptied_at IS NULL ORDER BY id"

_LINKS = """
    SELECT e.id, b.name AS batch, e.dataset, e.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
    JOIN shared_experiment e ON e.id = m.shared_experiment_id WHERE b.id = :id ORDER BY e.dataset, e.name"""


@dataclass(frozen=True)
class Contents:
    """What deleting comes to in numbers: rows by table, bytes of files."""

    plan: Plan
    rows: dict[str, int]
    n_bytes: int

    @property
    def n_rows(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True)
class Deleted:
    """What was deleted, and the entry of the trash that holds it."""

    contents: Contents
    entry: str
    uuid: str


def preview(reader: Reader, workspace: Workspace, plan: Plan) -> Contents:
    """The numbers of ``plan``; nothing is changed."""
    from tracker.archives.bundle import owned

    found = owned(reader, _roots(reader, plan))
    return Contents(plan, {name: len(keys) for name, keys in found.items()}, trash_files.n_bytes(workspace, plan.paths))


def delete(
    workspace: Workspace,
    database: Database,
    plan: Plan,
    *,
    by: str,
    command: str,
    from_batches: bool = False,
    still: Callable[[Reader], bool] = lambda _: True,
) -> Deleted:
    """Does what ``plan`` says, if that still holds, and ``still`` agrees. MLflow is told by ``tell_mlflow``.

    Raises Conflict where something forbids it or the rows change meanwhile, StorageError where the archive cannot be
    written: nothing is deleted then.
    """
    from tracker.archives.bundle import owned, remove
    from tracker.schema import table

    plan.refuse()
    with writing(workspace):
        settle(workspace, database)
        entry_uuid, now = uuid.uuid4().hex, clock.now()
        entry = f"{plan.kind}-{now:%Y%m%dT%H%M%S.%fZ}-{entry_uuid[:8]}"
        with explained(workspace):
            files = trash_files.measured(workspace, plan.paths)
            archive, state = _archived(workspace, database, plan, entry, files)
        said: dict[str, Any] = {
            "uuid": entry_uuid, "deleted_at": clock.to_text(now), "deleted_by": by, "command": command,
            "archive": workspace.relative(archive), "archive_digest": trash_files.digest_of(archive),
        }  # fmt: skip
        try:
            with database.writing() as connection:
                reader = database.reader_on(connection)
                fresh = _still(reader, workspace, plan, state, still, from_batches=from_batches)
                found = owned(reader, _roots(reader, fresh))
                rows = {name: len(keys) for name, keys in found.items()}
                contents = Contents(fresh, rows, sum(each.n_bytes for each in files))
                remove(connection, found)
                if plan.kind == BATCH:
                    batch = table("batch")
                    gone = batch.update().where(batch.c.id == plan.id).values(deleted_at=said["deleted_at"])
                    connection.execute(gone)
                said |= _row(contents) | {"n_bytes": contents.n_bytes + archive.stat().st_size}
                connection.execute(table("deletion").insert().values(**said))
        except Error:
            # Nothing was deleted; after anything else what it holds may be, and gc can tell.
            archive.unlink(missing_ok=True)
            raise
        settle(workspace, database)
    return Deleted(contents, entry, entry_uuid)


def _still(
    reader: Reader, workspace: Workspace, plan: Plan, state: str, still: Callable[[Reader], bool], *, from_batches: bool
) -> Plan:
    """The plan as it is made now. Raises Conflict where it is no longer what was archived in that ``state``."""
    fresh = deletion.plan(reader, workspace, plan.kind, plan.id, from_batches=from_batches)
    fresh.refuse()
    if not still(reader):
        raise Conflict(f"{plan.name} is in use by now.", hint="It stays.")
    if _state(reader, fresh) != state or fresh.paths != plan.paths:
        raise Conflict(f"{plan.name} was changed at this moment.", hint="Look again, and repeat the command.")
    return fresh


def _row(contents: Contents) -> dict[str, Any]:
    """What a row of ``deletion`` says of what was deleted."""
    plan = contents.plan
    return {
        "kind": plan.kind, "name": plan.name, "fingerprint": plan.fingerprint, "n_rows": contents.n_rows,
        "paths": _json([*plan.paths, *plan.links]), "mlflow_runs": _json(plan.mlflow_runs),
        "spent": _json(dict(plan.spent)),
    }  # fmt: skip


def settle(workspace: Workspace, database: Database) -> list[str]:
    """Moves what is still to be moved of what was deleted or restored, by the name of each; MLflow is not told.

    For who holds the tree for writing. What was made anew in the place of a deleted thing stays where it is.
    """
    with database.reading() as connection:
        reader = database.reader_on(connection)
        rows = [row for row in reader.rows(_UNSETTLED) if row["paths"] != "[]" or not _concerns_mlflow(row)]
        taken = {
            path for row in rows for path in json.loads(row["paths"])
            if row["restored_at"] is None and deletion.owner(reader, workspace, workspace.root / path) is not None
        }  # fmt: skip
    for row in rows:
        with explained(workspace):
            for path in json.loads(row["paths"]):
                if row["restored_at"] is not None:
                    trash_files.move_back(workspace, entry_of(row), path)
                elif row["kind"] == BATCH:
                    own = (workspace.root / path).relative_to(workspace.synthetic_dir)
                    if path not in taken:
                        trash_files.unlink_own(workspace, path, link_target(str(own)))
                elif path not in taken:
                    trash_files.move_out(workspace, entry_of(row), path)
        values = {"paths": "[]"} | ({} if _concerns_mlflow(row) else {"settled_at": _now()})
        _update(database, row["id"], **values)
    return [row["name"] for row in rows]


def settle_all(workspace: Workspace) -> list[str]:
    """Finishes what a killed deletion or restoration left: the names of what was finished, MLflow's part as well.

    Raises StorageError, Conflict where another process is writing the tree.
    """
    with explained(workspace):
        clear_leftovers(workspace.trash_dir)
    with reading(workspace) as reader:
        if not has_pending(reader):
            return []
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        with writing(workspace):
            names = settle(workspace, database)
        tell_mlflow(workspace, database)
    return names


def leave_batch(workspace: Workspace, database: Database, batch_id: int, experiment_ids: Sequence[int]) -> list[str]:
    """Takes experiments out of a batch, with their links; the names of those that were in it.

    Raises Conflict where one is being made in it.
    """
    from tracker.schema import table

    membership = table("batch_membership")
    with writing(workspace):
        with database.writing() as connection:
            reader = database.reader_on(connection)
            links = {row["id"]: row for row in reader.rows(_LINKS, id=batch_id) if row["id"] in experiment_ids}
            names = [f"{row['dataset']}/{row['name']}" for row in links.values()]
            deletion.refuse_making(reader, batch_id, names)
            own = membership.c.batch_id == batch_id, membership.c.shared_experiment_id.in_(links)
            connection.execute(membership.delete().where(*own))
        for row in links.values():
            path = workspace.link(row["batch"], row["dataset"], row["name"])
            target = link_target(str(path.relative_to(workspace.synthetic_dir)))
            trash_files.unlink_own(workspace, workspace.relative(path), target)
    return names


def tell_mlflow(workspace: Workspace, database: Database) -> list[str]:
    """Takes the MLflow runs of what was deleted out of sight; gives what MLflow said where it failed.

    What could not be told is told by the next deletion, `mlflow sync` or `gc`.
    """
    with database.reading() as connection:
        rows = [row for row in database.reader_on(connection).rows(_UNSETTLED) if _concerns_mlflow(row)]
    if not rows:
        return []
    from tracker.mlflow_runs.mlflow_store import delete_runs

    errors = []
    for row in rows:
        error = delete_runs(workspace, json.loads(row["mlflow_runs"]))
        if error is not None:
            errors.append(error)
        elif row["paths"] == "[]":
            _update(database, row["id"], settled_at=_now())
    return list(dict.fromkeys(errors))


def entry_of(row: Row) -> str:
    """The name of an entry of the trash: its archive's, and of the directory with its files."""
    return Path(row["archive"]).name.removesuffix(SUFFIX)


def has_pending(reader: Reader) -> bool:
    """Whether anything that was deleted or restored is not settled."""
    return bool(reader.rows("SELECT id FROM deletion WHERE settled_at IS NULL AND emptied_at IS NULL LIMIT 1"))


def _concerns_mlflow(row: Row) -> bool:
    return row["restored_at"] is None and bool(json.loads(row["mlflow_runs"]))


def _roots(reader: Reader, plan: Plan) -> dict[str, list[Any]]:
    """What is taken out, as ``tracker.archives.bundle`` wants it; a sweep goes with its last run."""
    if plan.kind == BATCH:
        sql = "SELECT batch_id, shared_experiment_id FROM batch_membership WHERE batch_id = :id"
        keys = [(row["batch_id"], row["shared_experiment_id"]) for row in reader.rows(sql, id=plan.id)]
        return {"batch_membership": keys}
    if plan.kind == RUN:
        rows = reader.rows(
            """SELECT r.training_sweep_id AS sweep FROM training_run r WHERE r.id = :id AND NOT EXISTS (
               SELECT 1 FROM training_run o WHERE o.training_sweep_id = r.training_sweep_id AND o.id <> r.id)""",
            id=plan.id,
        )
        if rows:
            return {"training_sweep": [rows[0]["sweep"]]}
    return {TABLES[plan.kind]: [plan.id]}


def _archived(
    workspace: Workspace, database: Database, plan: Plan, entry: str, files: Sequence[Kept]
) -> tuple[Path, str]:
    """Writes the archive of ``plan``, synced, under its name; gives where, and what stood in the rows."""
    from tracker.archives import archive
    from tracker.archives.bundle import gather

    final = workspace.trash_dir / f"{entry}{SUFFIX}"
    final.parent.mkdir(parents=True, exist_ok=True)
    beside = place_beside(final.parent)
    about = {
        "kind": plan.kind, "name": plan.name, "paths": plan.paths, "links": plan.links,
        "files": [asdict(each) for each in files],
    }  # fmt: skip
    with removed_on_error(beside), database.reading() as connection:
        reader = database.reader_on(connection)
        archive.write(beside, gather(reader, _roots(reader, plan)), about)
        state = _state(reader, plan)
        beside.rename(final)
        sync_path(final.parent)
    return final, state


def _state(reader: Reader, plan: Plan) -> str:
    """A digest over the rows that are taken out: whether they are still what was archived."""
    from tracker.archives.bundle import gather, owned

    roots = _roots(reader, plan)
    found, state = gather(reader, roots), hashlib.sha256()
    for name in owned(reader, roots):
        for row in found.read(name):
            state.update(repr(sorted(row.items())).encode())
    return state.hexdigest()


def _update(database: Database, deletion_id: int, **values: Any) -> None:
    from tracker.schema import table

    deletions = table("deletion")
    with database.writing() as connection:
        connection.execute(deletions.update().where(deletions.c.id == deletion_id).values(**values))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _now() -> str:
    return clock.to_text(clock.now())
