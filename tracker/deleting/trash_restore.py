"""Brings back what lies in the trash: rows with their links, files, MLflow's runs."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker import clock
from tracker.deleting import trash, trash_files
from tracker.deleting.deletion import BATCH, EXPERIMENT, RUN, SWEEP, TABLES, WORDS
from tracker.errors import Conflict, Corrupt, UnknownReference
from tracker.fingerprint import MIN_DIGITS
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.views.tree import explained, writing

if TYPE_CHECKING:
    from tracker.archives.archive import Archive
    from tracker.archives.bundle import Bundle, Inserted
    from tracker.record.database import Database

_NAMED = 5
_AT_ONCE = 500
_AGAIN = "SELECT directory FROM training_run WHERE fingerprint = :given AND directory = :name AND import_run_id > 0"
_IN_TRASH = "SELECT * FROM deletion WHERE restored_at IS NULL AND emptied_at IS NULL ORDER BY id DESC"


@dataclass(frozen=True)
class Restored:
    """What came back: ``damaged`` files are not as they were deleted, ``missing`` members (fingerprints) are not there.

    While members are missing a batch's entry stays in the trash, so that it can be restored again when they are back.
    ``left`` is where the trash still holds files, because something else is in their place.
    """

    kind: str
    name: str
    n_rows: int
    renamed: str | None = None
    damaged: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left: str | None = None
    mlflow_runs: tuple[str, ...] = ()


def find_entry(reader: Reader, ref: str, workspace: Workspace | None = None) -> Row:
    """The row of an entry of the trash: by the beginning of its id or of a fingerprint, or the newest of a name.

    With ``workspace`` also by the beginning of a training run's or a sweep's id, which only its archive has.

    Raises UnknownReference: close matches, or what it could be.
    """
    text = ref.strip().rstrip("/")
    rows = reader.rows(_IN_TRASH)
    named = [row for row in rows if text in (row["name"], trash.entry_of(row), Path(row["archive"]).name)]
    if named:
        return named[0]
    if re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},32}}", text.lower()):
        for column in ("uuid", "fingerprint"):
            found = [row for row in rows if str(row[column]).startswith(text.lower())]
            if len({row[column] for row in found}) == 1:
                return found[0]
            if found:
                could_be = [f"  {row['uuid'][:8]}  {WORDS[row['kind']]} {row['name']}" for row in found[:_NAMED]]
                raise UnknownReference(
                    "single entry of the trash", f"{text}...", hint="\n".join(["It could be:", *could_be])
                )
        trained = [row for row in rows if workspace is not None and _holds(workspace, row, text.lower())]
        if len(trained) == 1:
            return trained[0]
    ended = [row["name"] for row in rows if row["name"].rpartition("/")[2] == text]
    if len(set(ended)) == 1:
        return next(row for row in rows if row["name"] == ended[0])
    known = [row["name"] for row in rows]
    hint = "`synthtrack trash list` shows what is in it. There is no backup file of that name either."
    raise UnknownReference("entry of the trash", ref, known, hint=hint)


def _holds(workspace: Workspace, row: Row, digits: str) -> bool:
    """Whether an entry is that of a training run, or a sweep, whose id begins so."""
    if row["kind"] not in {RUN, SWEEP}:
        return False
    with contextlib.suppress(Corrupt), opened(workspace, row) as archive:
        return any(str(each["uuid"]).startswith(digits) for each in archive.bundle.read(TABLES[row["kind"]]))
    return False


def made_anew(reader: Reader, row: Row) -> str | None:
    """What has the fingerprint of a deleted thing now, by name."""
    if row["kind"] == RUN:
        again = reader.rows(_AGAIN, given=row["fingerprint"], name=row["name"])
        return str(again[0]["directory"]) if again else None
    if row["kind"] in {BATCH, SWEEP}:
        return None
    name = "dataset || '/' || name" if row["kind"] == EXPERIMENT else "name"
    found = reader.rows(
        f"SELECT {name} AS name FROM {TABLES[row['kind']]} WHERE fingerprint = :given",  # noqa: S608  names of our own
        given=row["fingerprint"],
    )
    return str(found[0]["name"]) if found else None


def restore_entry(workspace: Workspace, database: Database, ref: str) -> Restored:
    """Brings back an entry of the trash. MLflow's runs come back by ``bring_back`` and the outbox.

    Raises UnknownReference, Conflict where it was made anew meanwhile, Corrupt where the archive is not what it was,
    StorageError where the trash cannot be changed: the rows are back then.
    """
    with reading(workspace) as reader:
        find_entry(reader, ref, workspace)
    with writing(workspace):
        trash.settle(workspace, database)
        with reading(workspace) as reader:
            row = find_entry(reader, ref, workspace)
        with opened(workspace, row) as archive:
            about: dict[str, Any] = dict(archive.about)
            inserted, missing = _insert(database, row, about, archive.bundle)
        trash.settle(workspace, database)
    _bring_up_to_date(workspace, inserted)
    damaged = _damaged(workspace, about) if row["kind"] in {RUN, SWEEP} else []
    with explained(workspace):
        left = _left(workspace, row)
        if not damaged and not missing:
            (workspace.root / row["archive"]).unlink(missing_ok=True)
    renamed = next((here for _, _, here in inserted.renamed), None)
    return Restored(
        row["kind"],
        row["name"],
        sum(inserted.new.values()),
        renamed,
        tuple(damaged),
        tuple(missing),
        None if left is None else workspace.relative(left),
        tuple(json.loads(row["mlflow_runs"])),
    )


@contextlib.contextmanager
def opened(workspace: Workspace, row: Row) -> Iterator[Archive]:
    """The archive of an entry. Raises Corrupt where it is not there, or not as it was written."""
    from tracker.archives import archive
    from tracker.archives.archive_check import Limits

    path = workspace.root / row["archive"]
    if not path.is_file():
        raise Corrupt(f"{row['archive']} is not there: {row['name']} cannot be restored.", hint="Put the file back.")
    if trash_files.digest_of(path) != row["archive_digest"]:
        raise Corrupt(f"{row['archive']} was changed since it was written.", hint="Put the file back from a backup.")
    with archive.opened(path, Limits(sys.maxsize, ratio=None)) as found:
        yield found


def _insert(database: Database, row: Row, about: dict[str, Any], bundle: Bundle) -> tuple[Inserted, list[str]]:
    from tracker.archives.bundle import insert
    from tracker.schema import table

    deletions, batch = table("deletion"), table("batch")
    now = clock.to_text(clock.now())
    with database.writing() as connection:
        reader = database.reader_on(connection)
        other = made_anew(reader, row)
        if other is not None:
            raise Conflict(
                f"{row['name']} has been made anew meanwhile: {other} has the same settings.",
                hint="Nothing was restored. Delete that one first if the older one is wanted.",
            )
        inserted = insert(database, connection, bundle)
        if row["kind"] == BATCH:
            connection.execute(batch.update().where(batch.c.name == row["name"]).values(deleted_at=None))
        paths = [] if inserted.renamed or row["kind"] == BATCH else about["paths"]
        missing = list(_missing(reader, bundle)) if row["kind"] == BATCH else []
        # What the batch still lacks only this entry knows: it stays until they are back, too.
        if not missing:
            values = {"restored_at": now, "settled_at": None, "paths": json.dumps(paths, ensure_ascii=False)}
            connection.execute(deletions.update().where(deletions.c.id == row["id"]).values(**values))
    return inserted, missing


def _missing(reader: Reader, bundle: Bundle) -> Sequence[str]:
    """The fingerprints of members that are not there any more."""
    wanted = [str(each.key[0]) for each in bundle.mentions if each.table == "shared_experiment"]
    here = {row["fingerprint"] for row in reader.rows("SELECT fingerprint FROM shared_experiment")}
    return [each for each in wanted if each not in here]


def _bring_up_to_date(workspace: Workspace, inserted: Inserted) -> None:
    """Makes the trees what the restored rows say."""
    from tracker.views import agent_view, pool_view, synthetic_view

    with reading(workspace) as reader:
        synthetic_view.refresh(workspace, reader, inserted.made.get("shared_experiment", ()), deep=True)
        for batch_id in inserted.made.get("batch_membership", ()):
            rows = reader.rows(
                "SELECT shared_experiment_id AS id FROM batch_membership WHERE batch_id = :id", id=batch_id
            )
            for start in range(0, len(rows), _AT_ONCE):
                synthetic_view.refresh(workspace, reader, [row["id"] for row in rows[start : start + _AT_ONCE]])
        if inserted.made.get("agent_dataset"):
            agent_view.refresh(workspace, reader, inserted.made["agent_dataset"], deep=True)
        if inserted.made.get("task_pool"):
            pool_view.refresh(workspace, reader, inserted.made["task_pool"], deep=True)


def _damaged(workspace: Workspace, about: dict[str, Any]) -> list[str]:
    """Files that did not come back as they were deleted."""
    found = []
    for each in about["files"]:
        path = workspace.root / each["path"]
        if not path.is_file() or path.is_symlink() or trash_files.digest_of(path) != each["digest"]:
            found.append(each["path"])
    return found


def _left(workspace: Workspace, row: Row) -> Path | None:
    """The directory of the trash that still holds files of an entry; empty directories go."""
    top = workspace.trash_dir / trash.entry_of(row)
    if not top.is_dir():
        return None
    for directory in sorted((each for each in top.rglob("*") if each.is_dir() and not each.is_symlink()), reverse=True):
        if not any(directory.iterdir()):
            directory.rmdir()
    if any(top.iterdir()):
        return top
    top.rmdir()
    return None
