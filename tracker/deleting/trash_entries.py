"""What lies in the trash, and emptying it by age."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tracker import clock
from tracker.deleting import trash
from tracker.deleting.deletion import WORDS
from tracker.deleting.trash_files import moment_of
from tracker.deleting.trash_restore import made_anew
from tracker.durable import is_leftover, remove
from tracker.paths import TEMPORARY, Workspace
from tracker.record.catalogue import Reader, Row
from tracker.views.tree import explained, writing

if TYPE_CHECKING:
    from tracker.record.database import Database

_ENTRIES = "SELECT * FROM deletion WHERE restored_at IS NULL AND emptied_at IS NULL ORDER BY id DESC"
_KNOWN = "SELECT archive, restored_at, emptied_at, settled_at FROM deletion"


@dataclass(frozen=True, slots=True)
class Stray:
    """Something in the trash that no entry knows: what the view or a restored backup put aside, or an orphan."""

    path: Path
    since: datetime
    n_bytes: int


@dataclass(frozen=True)
class Emptied:
    """What is gone for good, or would be: names of entries and of other things, and bytes."""

    entries: tuple[str, ...]
    strays: tuple[str, ...]
    n_bytes: int


def entries(reader: Reader, workspace: Workspace) -> list[Row]:
    """What can be restored, newest first: each with ``entry``, ``n_bytes`` and ``state`` (restorable, or why not)."""
    return [
        {
            "id": row["uuid"], "entry": trash.entry_of(row), "kind": row["kind"], "what": WORDS[row["kind"]],
            "name": row["name"], "fingerprint": row["fingerprint"], "deleted_at": row["deleted_at"],
            "deleted_by": row["deleted_by"], "n_rows": row["n_rows"], "n_bytes": row["n_bytes"],
            "state": _state(reader, workspace, row),
        }
        for row in reader.rows(_ENTRIES)
    ]  # fmt: skip


def _state(reader: Reader, workspace: Workspace, row: Row) -> str:
    if not (workspace.root / row["archive"]).is_file():
        return "its archive is missing"
    other = made_anew(reader, row)
    return "restorable" if other is None else f"made anew as {other}"


def strays(reader: Reader, workspace: Workspace) -> list[Stray]:
    """What else lies in the trash, oldest first."""
    known = set()
    for row in reader.rows(_KNOWN):
        is_live = row["emptied_at"] is None and (row["restored_at"] is None or row["settled_at"] is None)
        known |= {Path(row["archive"]).name, trash.entry_of(row)} if is_live else set()
    found = []
    with explained(workspace):
        for path in sorted(workspace.trash_dir.iterdir()) if workspace.trash_dir.is_dir() else ():
            if path.name in known or (path.name.startswith(TEMPORARY) and not is_leftover(str(path))):
                continue
            # Another process may be emptying the trash.
            with contextlib.suppress(FileNotFoundError):
                since = moment_of(path.name) or datetime.fromtimestamp(path.lstat().st_mtime, tz=clock.now().tzinfo)
                found.append(Stray(path, since, _size(path)))
    return sorted(found, key=lambda each: each.since)


def empty(workspace: Workspace, database: Database, age: timedelta, *, dry_run: bool = False) -> Emptied:
    """Removes for good what has been in the trash for longer than ``age``; what is not settled stays.

    Raises StorageError, Conflict where another process is writing.
    """
    before = clock.now() - age
    with writing(workspace):
        if not dry_run:
            trash.settle(workspace, database)
        with database.reading() as connection:
            reader = database.reader_on(connection)
            rows = [row for row in reader.rows(_ENTRIES) if row["deleted_at"] < clock.to_text(before)]
            rows = [row for row in rows if row["paths"] == "[]"]
            others = [each for each in strays(reader, workspace) if each.since < before]
        if not dry_run:
            _remove(workspace, database, rows, others)
    n_bytes = sum(row["n_bytes"] for row in rows) + sum(each.n_bytes for each in others)
    return Emptied(
        tuple(f"{WORDS[row['kind']]} {row['name']}" for row in rows), tuple(each.path.name for each in others), n_bytes
    )


def _remove(workspace: Workspace, database: Database, rows: list[Row], others: list[Stray]) -> None:
    from tracker.schema import table

    deletions = table("deletion")
    with database.writing() as connection:
        # Before the files: who is killed then leaves what nothing knows, and the next one removes.
        ids = [row["id"] for row in rows]
        now = clock.to_text(clock.now())
        connection.execute(deletions.update().where(deletions.c.id.in_(ids)).values(emptied_at=now))
    with explained(workspace):
        for row in rows:
            remove(workspace.root / row["archive"])
            remove(workspace.trash_dir / trash.entry_of(row))
        for each in others:
            remove(each.path)


def _size(path: Path) -> int:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    size = 0
    for top, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += Path(top, name).lstat().st_size
    return size
