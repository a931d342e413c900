"""Reads the record: what listing, resolving and the view ask for, without SQLAlchemy where the database is SQLite.

A command that only reads starts in a few hundredths of a second because nothing in here imports an ORM.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tracker.errors import Corrupt, Error, SchemaError, StorageError, UnknownReference
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, without_password

BUSY_TIMEOUT_S = 30.0

Row = dict[str, Any]


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
            cursor = self._connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.DatabaseError as error:
            raise explain(error, self._workspace) from error


@contextlib.contextmanager
def reading(workspace: Workspace, *, snapshot: bool = True) -> Iterator[Reader]:
    """A reader on the workspace's record: one snapshot from the first query on, or what is committed at each query.

    Raises UnknownReference where there is no workspace yet, SchemaError, StorageError or Corrupt.
    """
    if workspace.database_url is not None:
        from tracker.database import server_reader

        with server_reader(workspace) as reader:
            yield reader
        return
    path = workspace.database
    if not path.exists():
        raise UnknownReference(
            "workspace at", str(workspace.root), hint="`synthtrack init` makes one here; --root names another."
        )
    if sqlite_version(path) < SCHEMA_VERSION:
        from tracker.database import open_database

        open_database(workspace).close()
    with contextlib.closing(_connect(path)) as connection:
        try:
            if snapshot:
                connection.execute("BEGIN")
        except sqlite3.DatabaseError as error:
            raise explain(error, workspace) from error
        yield SqliteReader(workspace, connection)


def _connect(path: Path) -> sqlite3.Connection:
    # WAL readers must be able to make the -shm file; where they cannot, nobody can write, so immutable is true.
    for flags in ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(f"{path.as_uri()}?{flags}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            connection.close()
            continue
        return connection
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def explain(error: Exception, workspace: Workspace) -> Error:
    """The Error that says what a driver's exception means for the person in front of it."""
    what = str(error.__cause__ or error).splitlines()[0]
    low = what.lower()
    where = str(workspace.database) if workspace.database_url is None else without_password(workspace.database_url)
    if "locked" in low:
        return StorageError(
            f"{where} is locked by another program for more than {BUSY_TIMEOUT_S:.0f} s.",
            hint="Close the program that holds it (an open SQL shell in a transaction?) and run the command again.",
        )
    if "full" in low:
        return StorageError(f"{where}: {what}.", hint="Free some disk space, then run the same command: it resumes.")
    if "readonly" in low or "unable to open" in low or "disk i/o" in low:
        return StorageError(f"{where} cannot be written: {what}.", hint="Check the permissions of the workspace.")
    if "malformed" in low or "not a database" in low:
        return Corrupt(f"{where} is damaged: {what}.", hint="Restore it from a backup.")
    return StorageError(f"{where}: {what}.")


def sqlite_version(path: Path) -> int:
    """The schema version of a SQLite file. Raises SchemaError where it is newer than this program or not ours."""
    try:
        with contextlib.closing(_connect(path)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            empty = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    except sqlite3.DatabaseError as error:
        raise explain(error, Workspace(path.parent)) from error
    return check_version(str(path), version, empty=empty)


def check_version(where: str, version: int, *, empty: bool) -> int:
    """``version`` where this program can work with it. Raises SchemaError where it cannot."""
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{where} has schema version {version}; this synthtrack knows {SCHEMA_VERSION}.",
            hint="Upgrade synthtrack (pip install -U synthtrack), or use another workspace with --root.",
        )
    if version == 0 and not empty:
        raise SchemaError(
            f"{where} is not a synthtrack database.", hint="Move it away, or use another workspace with --root."
        )
    return version
