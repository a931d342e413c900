"""Makes a copy of the record while others write.

A copy is one read transaction of SQLite's online backup: writers go on, and what they commit meanwhile is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracker import clock
from tracker.backups.copying import (
    LOGS,
    Progress,
    copy_beside,
    counted,
    explained,
    on_server,
    opened,
    schema_version,
    write_copy,
)
from tracker.durable import sync_path
from tracker.errors import Conflict, StorageError
from tracker.paths import Workspace


@dataclass(frozen=True)
class Copied:
    """A copy that was made: where, its size, its schema's version, and how many rows of each kind it holds."""

    path: Path
    n_bytes: int
    version: int
    counts: Mapping[str, int]


def backup(
    workspace: Workspace, given: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Copied:
    """Copies the database to the file ``given``, or to a dated one where that is a directory; checked and synced.

    Raises Unsupported on a database server, Conflict for a file that is there already or is in use, Corrupt where the
    copy is damaged because the database is, StorageError; then nothing stands at ``given`` that was not there before.
    """
    if workspace.database_url is not None:
        raise on_server("A database on a server is copied by its own tool", "pg_dump", "> synthtrack.sql")
    target = _target(workspace, Path(given), overwrite=overwrite)
    with explained(target), opened(workspace.database, workspace) as source:
        version = schema_version(source, str(workspace.database))
        with copy_beside(target.parent) as copy:
            write_copy(source, copy, progress)
            if target.exists() and not overwrite:
                raise _exists(target)
            copy.replace(target)
        sync_path(target.parent)
        counts = counted(source)
    return Copied(target, target.stat().st_size, version, counts)


def _target(workspace: Workspace, given: Path, *, overwrite: bool) -> Path:
    if given.is_dir():
        given = given / f"{workspace.root.name or 'synthtrack'}-{clock.now():%Y%m%dT%H%M%S}.db"
    target = given.parent.resolve() / given.name
    if not target.parent.is_dir():
        raise StorageError(f"{target.parent} is no directory.", hint="Make it first, or name another file.")
    own = Path(os.path.realpath(workspace.database))
    names = {f"{name}{ending}" for name in (own.name, workspace.database.name) for ending in ("", *LOGS)}
    if target.parent in {own.parent, workspace.root.resolve()} and target.name in names:
        raise Conflict(f"{target} belongs to the database itself.", hint="Name another file.")
    if os.path.lexists(target):
        if not overwrite or not target.is_file() or target.is_symlink():
            raise _exists(target)
        if any(target.with_name(f"{target.name}{ending}").exists() for ending in LOGS):
            raise Conflict(f"{target} is a database in use: its log is beside it.", hint="Name another file.")
    return target


def _exists(target: Path) -> Conflict:
    return Conflict(f"{target} is there already.", hint="--overwrite replaces a file; or name another one.")
