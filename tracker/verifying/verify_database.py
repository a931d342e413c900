"""Whether SQLite's file is whole: its pages, indexes and foreign keys. A database server looks after its own."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tracker.backups.copying import CHECK, integrity, opened
from tracker.errors import Corrupt
from tracker.paths import DATABASE_NAME, Workspace
from tracker.record.catalogue import explain
from tracker.record.findings import DATABASE, Finding

INDEX = "index"
"""The fix of what is wrong with an index alone: it is made anew from its table."""

_OF_AN_INDEX = re.compile(
    r"row \d+ missing from index \S+|wrong # of entries in index \S+|non-unique entry in index \S+"
)
_NAMED = 1000
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Progress = Callable[[str, int, int], None]


def database_findings(workspace: Workspace, progress: Progress | None = None) -> list[Finding]:
    """What is wrong with the file itself; after anything without a fix nothing else can be relied on.

    Raises StorageError where it cannot be read at all, for want of permissions or because it is locked.
    """
    if workspace.database_url is not None or not workspace.database.exists():
        return []
    if workspace.database.stat().st_size == 0:
        return []  # whether it is a new one is decided where it is opened
    try:
        with opened(workspace.database, workspace) as connection:
            found = list(_pages(workspace, connection, progress))
            return found + list(_references(workspace, connection))
    except Corrupt as error:
        return [Finding(DATABASE, error.message, str(workspace.database), restoring(workspace))]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _DAMAGED:
            raise explain(error, workspace) from error
        return [Finding(DATABASE, str(error), str(workspace.database), restoring(workspace))]


def restoring(workspace: Workspace) -> str:
    """How a damaged database is mended: with the newest copy that is there, by its name."""
    copies = list(backups(workspace))
    if not copies:
        return "Restore it from a backup: `synthtrack restore FILE`."
    newest = workspace.relative(max(copies, key=lambda path: path.stat().st_mtime))
    return f"Restore it from a backup: `synthtrack restore FILE`. The newest copy in the workspace is {newest}."


def backups(workspace: Workspace) -> Iterator[Path]:
    """Copies of the database in the workspace: those made before an upgrade or a restore, and others beside it."""
    for directory, pattern in (
        (workspace.root, f"{DATABASE_NAME}.*.bak"),
        (workspace.root, "*.db"),
        (workspace.trash_dir, "tracker-before-restore-*.db"),
    ):
        for path in directory.glob(pattern):
            if path.is_file() and path.name != DATABASE_NAME:
                yield path


def _pages(workspace: Workspace, connection: sqlite3.Connection, progress: Progress | None) -> Iterator[Finding]:
    told = None if progress is None else lambda _, done, total: progress(f"{DATABASE} {CHECK}", done, total)
    said = integrity(connection, told)
    # Texts of one page are long, and the first line of each says it.
    only_indexes = all(_OF_AN_INDEX.fullmatch(line) for line in said)
    where = str(workspace.database)
    for line in said:
        if only_indexes:
            yield Finding(DATABASE, line, where, "`synthtrack verify --fix` makes the index anew.", INDEX)
        else:
            yield Finding(DATABASE, line, where, restoring(workspace))


def _references(workspace: Workspace, connection: sqlite3.Connection) -> Iterator[Finding]:
    """Rows that point to rows that are not there, by table and key."""
    astray: dict[tuple[str, int], list[int]] = {}
    with contextlib.closing(connection.execute("PRAGMA foreign_key_check")) as rows:
        for table, row_id, _, key in rows:
            astray.setdefault((table, key), []).append(row_id)
    for (table, key), ids in astray.items():
        columns = [row for row in connection.execute(f'PRAGMA foreign_key_list("{table}")') if row[0] == key]
        own, parent = ", ".join(row[3] for row in columns), columns[0][2]
        rows_of = "1 row points" if len(ids) == 1 else f"{len(ids):,} rows point"
        what = f"{rows_of} by {own} to no row of {parent}: rowid {_named(ids)}"
        yield Finding(DATABASE, what, table, restoring(workspace))


def _named(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(map(str, ids[:_NAMED])) + more
