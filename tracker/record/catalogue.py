"""Reads the record: what listing, resolving and the view ask for, without SQLAlchemy where the database is SQLite.

A command that only reads starts in a few hundredths of a second because nothing in here imports an ORM.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tracker.errors import Corrupt, Error, SchemaError, StorageError, UnknownReference
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, without_password

Row = dict[str, Any]

EVERY = 2**62
"""What both SQLite and PostgreSQL take for a LIMIT that never bites."""

RESTORE = "`synthtrack verify` says more. Restore it from a backup: `synthtrack restore FILE`."
"""What to do about a database that is damaged."""


class Reader(Protocol):
    """Runs SELECTs with ``:name`` parameters within one snapshot of the record."""

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        """All rows, as dictionaries by column."""
        ...


class SqliteReader:
    """Reads a SQLite file through the standard library, on a connection that cannot write."""

    def __init__(self, workspace: Workspace, connection: sqlite3.Connection) -> None:
        self._workspace = workspace
        self._connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        try:
            cursor = self._connection.execute(sql, encodable(parameters))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.DatabaseError as error:
            raise explain(error, self._workspace) from error


def portions(ids: Sequence[int], size: int = 1000) -> list[str]:
    """Ids of our own as lists that may stand in SQL's IN; databases bound the length of a statement."""
    return [", ".join(str(int(each)) for each in ids[at : at + size]) for at in range(0, len(ids), size)]


def encodable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters`` as databases take them. No row holds what an argument that is not UTF-8 becomes in Python."""
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in parameters.items()
    }


@contextlib.contextmanager
def reading(workspace: Workspace, *, snapshot: bool = True) -> Iterator[Reader]:
    """A reader on the workspace's record: one snapshot from the first query on, or what is committed at each query.

    Raises UnknownReference where there is no workspace yet, SchemaError, StorageError or Corrupt.
    """
    if workspace.database_url is not None:
        from tracker.record.database import server_reader

        with server_reader(workspace, snapshot=snapshot) as reader:
            yield reader
        return
    with connected(workspace) as connection:
        if snapshot:
            connection.execute("BEGIN")
        yield SqliteReader(workspace, connection)


@contextlib.contextmanager
def connected(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """A connection to the workspace's SQLite file that cannot write. Raises as ``reading`` does."""
    if not workspace.database.exists():
        raise UnknownReference(
            "workspace at", str(workspace.root), hint="`synthtrack init` makes one here; --root names another."
        )
    if sqlite_version(workspace) < SCHEMA_VERSION:
        from tracker.record.database import open_database

        open_database(workspace).close()
    try:
        connection = _connect(workspace)
    except sqlite3.DatabaseError as error:
        raise explain(error, workspace) from error
    with contextlib.closing(connection):
        yield connection


def _connect(workspace: Workspace) -> sqlite3.Connection:
    path, timeout = workspace.database.absolute(), workspace.busy_timeout
    # WAL readers must be able to make the -shm file. Where they cannot and there is nothing in the log, nobody can
    # write, so immutable is true.
    last = "mode=ro" if has_log(path) else "mode=ro&immutable=1"
    for flags in ("mode=ro", last):
        connection = sqlite3.connect(f"{path.as_uri()}?{flags}", uri=True, timeout=timeout, isolation_level=None)
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            connection.close()
            # The low byte is the kind of error; anything else, such as a lock, is no matter of permissions.
            if flags == last or error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
                raise
            continue
        return connection
    raise AssertionError("the last flags returned or raised")


def has_log(database: Path) -> bool:
    """Whether something stands in the log beside a SQLite file, which whoever closes it last removes."""
    try:
        return log_of(database).stat().st_size > 0
    except FileNotFoundError:
        return False


def log_of(database: Path) -> Path:
    """The log of a SQLite file."""
    return database.with_name(f"{database.name}-wal")


def explain(error: Exception, workspace: Workspace) -> Error:
    """The Error that says what a driver's exception means for the person in front of it."""
    what = str(error.__cause__ or error).partition("\n")[0]
    low = what.lower()
    where = str(workspace.database) if workspace.database_url is None else without_password(workspace.database_url)
    if "locked" in low:
        return StorageError(
            f"{where} is locked by another program for more than {workspace.busy_timeout:g} s.",
            hint="Close the program that holds it (an open SQL shell in a transaction?) and run the command again.",
        )
    if "is full" in low or "no space left" in low:
        hint = "Free some disk space, then run the same command: it resumes."
        return StorageError(f"{where}: {what}.", hint=hint, is_full=True)
    if "disk i/o" in low:  # what SQLite says of a full disk where it cannot lengthen its log's index
        hint = (
            "Check the space on the disk and the permissions of the workspace, then run the same command: it resumes."
        )
        return StorageError(f"{where} cannot be written: {what}.", hint=hint, is_full=True)
    if "readonly" in low or "unable to open" in low:
        return StorageError(f"{where} cannot be written: {what}.", hint="Check the permissions of the workspace.")
    if "malformed" in low or "not a database" in low:
        return Corrupt(f"{where} is damaged: {what}.", hint=RESTORE)
    return StorageError(f"{where}: {what}.")


def sqlite_version(workspace: Workspace) -> int:
    """The schema version of a SQLite file, 0 if it has none. Raises what ``check_version`` and ``explain`` raise."""
    path = workspace.database
    if path.stat().st_size == 0 and workspace.shared_dir.is_dir():
        # There is a tree, so this was its record, and a new one in its place would clear the tree.
        raise Corrupt(
            f"{path} is empty: what it held is gone.",
            hint="Restore it from a backup: `synthtrack restore FILE`. To begin anew, delete it.",
        )
    try:
        with contextlib.closing(_connect(workspace)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    except sqlite3.DatabaseError as error:
        raise explain(error, workspace) from error
    return check_version(str(workspace.database), version, tables)


def check_version(where: str, version: int, tables: Collection[str]) -> int:
    """``version`` where this program can work with it. Raises SchemaError where it cannot."""
    if tables and (version == 0 or "alembic_version" not in tables):
        raise SchemaError(
            f"{where} is not a synthtrack database.", hint="Move it away, or use another workspace with --root."
        )
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{where} has schema version {version}; this synthtrack knows {SCHEMA_VERSION}.",
            hint="Upgrade synthtrack (pip install -U synthtrack), or use another workspace with --root.",
        )
    return version
