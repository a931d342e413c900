"""Puts a copy back in the place of the record.

Putting it back is one write transaction on the database itself, under a lock that no other connection bears. So there
is no moment at which a file, its log and its index do not belong together: who is killed before the commit leaves the
old record, whole, who is killed after it the new one. Only a file that is no database any more is replaced by renaming,
and then its log is gone before the new one bears its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tracker import clock
from tracker.backups.copying import (
    LOGS,
    Progress,
    check,
    copy_beside,
    copy_pages,
    counted,
    explained,
    integrity,
    on_server,
    opened,
    schema_version,
    write_copy,
)
from tracker.durable import clear_leftovers, place_beside, removed_on_error, sync_path
from tracker.errors import ConfigError, Conflict, Error, Problem
from tracker.paths import Workspace
from tracker.record.catalogue import SqliteReader
from tracker.record.work import work

_PATIENCE_S = 5.0

Confirm = Callable[[Mapping[str, int], Mapping[str, int] | None], None]
"""Is told what the backup and the database hold; raises where the person does not want it.

The database's rows are None where it cannot be read.
"""


@dataclass(frozen=True)
class Restored:
    """A record that was put back: what it holds, what the one before held, and where that is kept.

    ``before`` is None where there was none, or where it could not be read; ``kept`` is None where there was none.
    """

    counts: Mapping[str, int]
    before: Mapping[str, int] | None
    version: int
    kept: Path | None


def restore_backup(
    workspace: Workspace,
    given: str | Path,
    *,
    confirm: Confirm | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Puts a backup in the place of the database, which is kept in the trash.

    ``confirm`` is asked before anything is changed, where there is something to lose. Raises Corrupt or SchemaError for
    a file that is damaged, not ours or newer, Conflict, naming them, while others use the workspace; then all is as it
    was. The tree, the files in data and MLflow are to be brought up to date afterwards.
    """
    if workspace.database_url is not None:
        raise on_server("A database on a server is filled by its own tool", "psql", "< synthtrack.sql")
    path = Path(given)
    if path.exists() and workspace.database.exists() and path.samefile(workspace.database):
        raise ConfigError("It cannot be restored.", [Problem(str(given), "this is the database itself")])
    with explained(path), opened(path, workspace) as source:
        version = schema_version(source, str(path))
        check(source, str(path), progress, "Take another backup; this one cannot be trusted.")
        counts = counted(source)
        with explained(workspace.database), _locked(workspace):
            clear_leftovers(workspace.root)
            before: dict[str, int] | None = None
            kept: Path | None
            try:
                before, kept = _replace(workspace, source, counts, confirm, progress)
            except _NoDatabase:
                kept = _swap(workspace, source, counts, confirm, progress)
    return Restored(counts, before, version, kept)


class _NoDatabase(Exception):
    """What stands there is no database that SQLite can open."""


@contextlib.contextmanager
def _locked(workspace: Workspace) -> Iterator[None]:
    """The right to change what all of the workspace's files hang on: nobody opens, publishes, logs or writes a tree."""
    from filelock import FileLock, Timeout

    doing = {
        ".tracker.db.lock": "is preparing the database", ".view.lock": "is writing the tree",
        ".publish.lock": "is publishing", ".mlflow.lock": "is logging to MLflow",
    }  # fmt: skip
    workspace.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for name, what in doing.items():
            try:
                stack.enter_context(FileLock(workspace.root / name, timeout=_PATIENCE_S))
            except Timeout:
                raise Conflict(
                    f"Another process {what}: nothing was restored.", hint="Wait for it and run the command again."
                ) from None
        yield


def _replace(
    workspace: Workspace,
    source: sqlite3.Connection,
    counts: Mapping[str, int],
    confirm: Confirm | None,
    progress: Progress | None,
) -> tuple[dict[str, int], Path]:
    """One transaction on the database itself: what it held, and the copy of that."""
    with _alone(workspace) as live:
        if integrity(live, progress, limit=1):
            raise _NoDatabase
        before = counted(live)
        _refuse_work(workspace, live)
        if confirm is not None:
            confirm(counts, before)
        kept = _kept(workspace, ".db")
        kept.parent.mkdir(exist_ok=True)
        with copy_beside(kept.parent) as copy:
            write_copy(live, copy, progress)
            copy.rename(kept)
        sync_path(kept.parent)
        live.execute("PRAGMA synchronous = FULL")
        with _of_same_page_size(source, live, workspace) as fitting:
            copy_pages(fitting, live, progress)
    return before, kept


@contextlib.contextmanager
def _of_same_page_size(
    source: sqlite3.Connection, live: sqlite3.Connection, workspace: Workspace
) -> Iterator[sqlite3.Connection]:
    """``source``, or the same in pages as those of ``live``: a database with a log keeps the size of its pages."""
    own, wanted = (each.execute("PRAGMA page_size").fetchone()[0] for each in (source, live))
    if own == wanted:
        yield source
        return
    with copy_beside(workspace.root) as path, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
        source.backup(copy)
        for statement in ("journal_mode = DELETE", f"page_size = {wanted}"):
            copy.execute(f"PRAGMA {statement}")
        copy.execute("VACUUM")
        yield copy


@contextlib.contextmanager
def _alone(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """The only connection to the database: others wait, or are refused, until it is closed.

    Raises _NoDatabase where it cannot be opened, Conflict while others have it open.
    """
    path = workspace.database
    if not path.exists() or path.stat().st_size == 0:
        raise _NoDatabase
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)) as live:
        try:
            live.execute("PRAGMA locking_mode = EXCLUSIVE")
            live.execute("BEGIN IMMEDIATE")
            live.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            live.execute("COMMIT")
            # Also where the log was switched off by another program.
            live.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            kind = error.sqlite_errorcode & 0xFF
            if kind in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise _in_use(workspace) from error
            if kind in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise _NoDatabase from error
            raise
        yield live


def _refuse_work(workspace: Workspace, live: sqlite3.Connection) -> None:
    """Raises Conflict where a process, here or elsewhere, works on a row."""
    try:
        busy = [str(each) for each in work(SqliteReader(workspace, live)) if each.is_alive()]
    except Error:
        return  # an older schema: a program that wrote it is not one that runs beside this one
    if busy:
        lines = "\n".join(f"  {each}" for each in busy)
        raise Conflict(
            f"The workspace is in use:\n{lines}", hint="Wait for them, or stop them; then run the command again."
        )


def _in_use(workspace: Workspace) -> Conflict:
    lines = [f"  {each}" for each in _users(workspace.database)]
    return Conflict(
        "\n".join([f"{workspace.database} is open in another process{':' if lines else '.'}", *lines]),
        hint="Wait for it, or end it; then run the command again.",
    )


def _users(path: Path) -> Iterator[str]:
    """The processes of this machine that have a database open, as far as they may be looked at."""
    import psutil

    names = {os.path.realpath(path) + ending for ending in ("", *LOGS)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(found.path in names for found in process.open_files()):
                yield f"PID {process.pid}: {' '.join(process.cmdline())[:120]}"


def _swap(
    workspace: Workspace,
    source: sqlite3.Connection,
    counts: Mapping[str, int],
    confirm: Confirm | None,
    progress: Progress | None,
) -> Path | None:
    """Puts a new file in the place of one that is no database any more, or of none; where the old one is kept."""
    # One behind a link stays behind it.
    path = Path(os.path.realpath(workspace.database))
    parts = [found for ending in ("", *LOGS) if os.path.lexists(found := path.with_name(f"{path.name}{ending}"))]
    users = list(_users(path)) if parts else []
    if users:
        raise _in_use(workspace)
    if confirm is not None and parts:
        confirm(counts, None)
    kept = _keep_damaged(workspace, path, parts) if parts else None
    with copy_beside(path.parent) as copy:
        write_copy(source, copy, progress)
        # The log of another file would be played into the new one, so it goes first. All of it is in the trash by now.
        for part in parts:
            if part != path:
                part.unlink(missing_ok=True)
        sync_path(path.parent)
        copy.replace(path)
    sync_path(path.parent)
    return kept


def _keep_damaged(workspace: Workspace, path: Path, parts: list[Path]) -> Path:
    """Copies of all files of a database, as they are, in a directory of the trash."""
    kept = _kept(workspace, "")
    kept.parent.mkdir(exist_ok=True)
    clear_leftovers(kept.parent)
    beside = place_beside(kept.parent)
    with removed_on_error(beside):
        beside.mkdir()
        for part in parts:
            copy = beside / part.name.replace(path.name, workspace.database.name, 1)
            shutil.copyfile(part, copy)
            with copy.open("rb") as written:
                os.fsync(written.fileno())
        sync_path(beside)
        beside.rename(kept)
    sync_path(kept.parent)
    return kept


def _kept(workspace: Workspace, ending: str) -> Path:
    """A free name in the trash for the database that is replaced."""
    name = f"tracker-before-restore-{clock.now():%Y%m%dT%H%M%S}"
    found, number = workspace.trash_dir / f"{name}{ending}", 1
    while os.path.lexists(found):
        number += 1
        found = workspace.trash_dir / f"{name}-{number}{ending}"
    return found
