"""Copies of the record: made while others write, and put back.

A copy is one read transaction of SQLite's online backup: writers go on, and what they commit meanwhile is not in it.
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
from tracker.errors import ConfigError, Conflict, Corrupt, Error, Problem, SchemaError, StorageError, Unsupported
from tracker.paths import Workspace, without_password
from tracker.record.catalogue import SqliteReader, check_version, explain
from tracker.record.work import work
from tracker.views.view_tree import clear_leftovers, place_beside, remove, removed_on_error, sync_directory

COPY, CHECK = "copy", "check"
LOGS = ("-wal", "-shm", "-journal")

_PAGES = 256
"""So many are copied before the person is told: a megabyte."""
_STEPS = 100_000
_PATIENCE_S = 5.0
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

Confirm = Callable[[Mapping[str, int], Mapping[str, int] | None], None]
"""Is told what the backup and the database hold; raises where the person does not want it.

The database's rows are None where it cannot be read.
"""


@dataclass(frozen=True)
class Copied:
    """A copy that was made: where, its size, its schema's version, and how many rows of each kind it holds."""

    path: Path
    n_bytes: int
    version: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Restored:
    """A record that was put back: what it holds, what the one before held, and where that is kept.

    ``before`` is None where there was none, or where it could not be read; ``kept`` is None where there was none.
    """

    counts: Mapping[str, int]
    before: Mapping[str, int] | None
    version: int
    kept: Path | None


def backup(
    workspace: Workspace, given: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Copied:
    """Copies the database to the file ``given``, or to a dated one where that is a directory; checked and synced.

    Raises Unsupported on a database server, Conflict for a file that is there already or is in use, Corrupt where the
    copy is damaged because the database is, StorageError; then nothing stands at ``given`` that was not there before.
    """
    if workspace.database_url is not None:
        raise _server("A database on a server is copied by its own tool", "pg_dump", "> synthtrack.sql")
    target = _target(workspace, Path(given), overwrite=overwrite)
    with _explained(target), opened(workspace.database, workspace) as source:
        version = _version(source, str(workspace.database))
        with _beside(target.parent) as copy:
            _write_copy(source, copy, progress)
            if target.exists() and not overwrite:
                raise _exists(target)
            copy.replace(target)
        sync_directory(target.parent)
        counts = _counts(source)
    return Copied(target, target.stat().st_size, version, counts)


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
        raise _server("A database on a server is filled by its own tool", "psql", "< synthtrack.sql")
    path = Path(given)
    if path.exists() and workspace.database.exists() and path.samefile(workspace.database):
        raise ConfigError("It cannot be restored.", [Problem(str(given), "this is the database itself")])
    with _explained(path), opened(path, workspace) as source:
        version = _version(source, str(path))
        _check(source, str(path), progress, "Take another backup; this one cannot be trusted.")
        counts = _counts(source)
        with _explained(workspace.database), _locked(workspace):
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
            if (
                path.with_name(f"{path.name}-wal").exists()
                or (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_CANTOPEN
            ):
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


def _version(connection: sqlite3.Connection, where: str) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    if not tables:
        raise SchemaError(f"{where} is an empty database.", hint="Name a file that `synthtrack backup` made.")
    return check_version(where, version, tables)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows of each kind; those that an older schema does not know are not counted."""
    found = {}
    for name, sql in _COUNTED.items():
        with contextlib.suppress(sqlite3.OperationalError):
            found[name] = int(connection.execute(sql).fetchone()[0])
    return found


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


@contextlib.contextmanager
def _beside(directory: Path) -> Iterator[Path]:
    """Where a copy is written: in a directory of its own, so that its journal is cleared away with it."""
    clear_leftovers(directory)
    beside = place_beside(directory)
    try:
        beside.mkdir()
        yield beside / "copy.db"
    finally:
        remove(beside)


def _write_copy(source: sqlite3.Connection, beside: Path, progress: Progress | None) -> None:
    """A copy in one file, without a log, checked and synced."""
    with contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")
        _copy(source, copy, progress)
        copy.execute("PRAGMA journal_mode = DELETE")
        _check(copy, "The copy", progress, "The database is damaged: `synthtrack verify` says where.")
    with beside.open("rb") as written:
        os.fsync(written.fileno())


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, progress: Progress | None) -> None:
    def told(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(COPY, total - remaining, total)

    # The snapshot that ``source`` holds is what is copied, however often others commit meanwhile.
    source.backup(target, pages=_PAGES, progress=told)


def _check(connection: sqlite3.Connection, where: str, progress: Progress | None, hint: str) -> None:
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
        before = _counts(live)
        _refuse_work(workspace, live)
        if confirm is not None:
            confirm(counts, before)
        kept = _kept(workspace, ".db")
        kept.parent.mkdir(exist_ok=True)
        with _beside(kept.parent) as copy:
            _write_copy(live, copy, progress)
            copy.rename(kept)
        sync_directory(kept.parent)
        live.execute("PRAGMA synchronous = FULL")
        with _of_same_page_size(source, live, workspace) as fitting:
            _copy(fitting, live, progress)
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
    with _beside(workspace.root) as path, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
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
    with _beside(path.parent) as copy:
        _write_copy(source, copy, progress)
        # The log of another file would be played into the new one, so it goes first. All of it is in the trash by now.
        for part in parts:
            if part != path:
                part.unlink(missing_ok=True)
        sync_directory(path.parent)
        copy.replace(path)
    sync_directory(path.parent)
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
        sync_directory(beside)
        beside.rename(kept)
    sync_directory(kept.parent)
    return kept


def _kept(workspace: Workspace, ending: str) -> Path:
    """A free name in the trash for the database that is replaced."""
    name = f"tracker-before-restore-{clock.now():%Y%m%dT%H%M%S}"
    found, number = workspace.trash_dir / f"{name}{ending}", 1
    while os.path.lexists(found):
        number += 1
        found = workspace.trash_dir / f"{name}-{number}{ending}"
    return found


def _server(what: str, tool: str, rest: str) -> Unsupported:
    return Unsupported(f"{what}.", hint=f'{tool} "$SYNTHTRACK_DB_URL" {rest}')


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
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
