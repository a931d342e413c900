"""Copies of a database file: one moment of it, checked, with what it holds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from tracker.durable import clear_leftovers, place_beside, remove
from tracker.errors import Corrupt, Error, SchemaError, StorageError, Unsupported
from tracker.paths import Workspace, without_password
from tracker.record.catalogue import check_version, explain, has_log

COPY, CHECK = "copy", "check"
LOGS = ("-wal", "-shm", "-journal")

_PAGES = 256
"""So many are copied before the person is told: a megabyte."""
_STEPS = 100_000
_COUNTED = {
    "experiments": "SELECT COUNT(*) FROM shared_experiment",
    "batches": "SELECT COUNT(*) FROM batch_overview",
    "generation_runs": "SELECT COUNT(*) FROM generation_run",
    "training_runs": "SELECT COUNT(*) FROM training_run",
    "agent_datasets": "SELECT COUNT(*) FROM agent_dataset",
    "task_pools": "SELECT COUNT(*) FROM task_pool",
    "attempts": "SELECT COUNT(*) FROM attempt",
}

Progress = Callable[[str, int, int], None]
"""Is told what is done (copy or check), how much, and of how much: pages, or 0 where that is not known."""


@contextlib.contextmanager
def opened(path: Path, workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """A snapshot of a database file, read-only. Raises Corrupt, StorageError."""
    if not path.is_file():
        raise StorageError(f"{path} is no file.", hint="`synthtrack config` says where the database is.")
    uri = path.absolute().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=workspace.busy_timeout, isolation_level=None)
    with contextlib.closing(connection):
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            # Its directory cannot be written, so that there is no index of its log; without a log there is no need.
            if has_log(path) or (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_CANTOPEN:
                raise _damaged(path, error, workspace) from error
            connection.close()
            connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None)
            connection.execute("BEGIN")
        yield connection


def _damaged(path: Path, error: sqlite3.DatabaseError, workspace: Workspace) -> Error:
    if (error.sqlite_errorcode & 0xFF) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        hint = "`synthtrack verify` says more." if path == workspace.database else "Take another backup."
        return Corrupt(f"{path} is damaged, or no database: {error}.", hint=hint)
    return explain(error, workspace)


def schema_version(connection: sqlite3.Connection, where: str) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    if not tables:
        raise SchemaError(f"{where} is an empty database.", hint="Name a file that `synthtrack backup` made.")
    return check_version(where, version, tables)


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows of each kind; those that an older schema does not know are not counted."""
    found = {}
    for name, sql in _COUNTED.items():
        with contextlib.suppress(sqlite3.OperationalError):
            found[name] = int(connection.execute(sql).fetchone()[0])
    return found


@contextlib.contextmanager
def copy_beside(directory: Path) -> Iterator[Path]:
    """Where a copy is written: in a directory of its own, so that its journal is cleared away with it."""
    clear_leftovers(directory)
    beside = place_beside(directory)
    try:
        beside.mkdir()
        yield beside / "copy.db"
    finally:
        remove(beside)


def write_copy(source: sqlite3.Connection, beside: Path, progress: Progress | None) -> None:
    """A copy in one file, without a log, checked and synced."""
    with contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        copy_pages(source, copy, progress)
        copy.execute("PRAGMA journal_mode = DELETE")
        check(copy, "The copy", progress, "The database is damaged: `synthtrack verify` says where.")
    with beside.open("rb") as written:
        os.fsync(written.fileno())


def copy_pages(source: sqlite3.Connection, target: sqlite3.Connection, progress: Progress | None) -> None:
    def told(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(COPY, total - remaining, total)

    # The snapshot that ``source`` holds is what is copied, however often others commit meanwhile.
    source.backup(target, pages=_PAGES, progress=told)


def check(connection: sqlite3.Connection, where: str, progress: Progress | None, hint: str) -> None:
    found = integrity(connection, progress)
    if found:
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise Corrupt(f"{where} is damaged: {found[0]}{more}.", hint=hint)


def integrity(connection: sqlite3.Connection, progress: Progress | None = None, limit: int = 100) -> list[str]:
    """What SQLite's own check finds wrong, at most ``limit`` things."""
    steps = 0

    def told() -> int:
        nonlocal steps
        steps += 1
        if progress is not None:
            progress(CHECK, steps, 0)
        return 0

    # Also what lets Ctrl-C in.
    connection.set_progress_handler(told, _STEPS)
    try:
        found = [str(text) for (text,) in connection.execute(f"PRAGMA integrity_check({limit})")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    finally:
        connection.set_progress_handler(None, 0)
    return [] if found == ["ok"] else [line for text in found for line in text.splitlines() if line]


def on_server(what: str, tool: str, rest: str) -> Unsupported:
    return Unsupported(f"{what}.", hint=f'{tool} "$SYNTHTRACK_DB_URL" {rest}')


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what SQLite and the system say into an Error with a way out."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        what = str(error)
        full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        if (error.sqlite_errorcode & 0xFF) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise Corrupt(f"{path} is damaged: {what}.", hint="`synthtrack verify` says more.") from error
        hint = "Free some disk space, then run the same command again." if full else "Is its directory writable?"
        raise StorageError(f"{without_password(str(path))}: {what}.", hint=hint) from error
    except OSError as error:
        raise StorageError(
            f"{error.filename or path}: {error.strerror or error}.",
            hint="Check its permissions and the space on the disk, then run the same command again.",
        ) from error
