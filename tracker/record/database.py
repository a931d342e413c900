"""Opens the database: creates, checks, upgrades it, and hands out transactions. The only place that knows dialects."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, ProgrammingError

from tracker import clock
from tracker.errors import ConfigError, Corrupt, Problem, StorageError, Unsupported
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import DATABASE_URL_VARIABLE, MARKER, MARKER_NAME, Workspace, without_password
from tracker.record.catalogue import Reader, Row, check_version, encodable, explain, has_log, log_of, sqlite_version

_PATIENCE_S = 60.0
_MIGRATIONS = Path(__file__).parents[1] / "migrations"


class Database:
    """The record behind a workspace. Reads use BEGIN, writes BEGIN IMMEDIATE."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    @property
    def is_sqlite(self) -> bool:
        return self.workspace.database_url is None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction. Raises StorageError or Corrupt."""
        with self._errors(), self._reader.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction, committed at the end, rolled back on an error. Raises StorageError or Corrupt."""
        with self._errors(), self._writer.begin() as connection:
            if not self.is_sqlite:
                # One writer at a time, as BEGIN IMMEDIATE has it: a claim reads before it inserts.
                connection.execute(text("SELECT pg_advisory_xact_lock(7306)"))
            yield connection

    @contextlib.contextmanager
    def server_connection(self, *, snapshot: bool) -> Iterator[Connection]:
        """A connection to a server for reading: one snapshot, or no transaction that would stay open in between."""
        with self._errors(), self._reader.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ" if snapshot else "AUTOCOMMIT")

    def reader_on(self, connection: Connection) -> Reader:
        """Reads what the transaction of ``connection`` sees, its own changes as well."""
        return _ConnectionReader(connection)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts the rows whose unique keys are not there yet."""
        if rows:
            connection.execute(_inserting_new(table, is_sqlite=self.is_sqlite), list(rows))

    def upsert(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str]
    ) -> None:
        """Inserts rows, or overwrites all other columns of the row with the same ``key``."""
        if rows:
            connection.execute(_upserting(table, tuple(rows[0]), tuple(key), is_sqlite=self.is_sqlite), list(rows))

    def close(self) -> None:
        for name in ("_reader", "_writer"):
            engine = self.__dict__.pop(name, None)
            if engine is not None:
                engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _reader(self) -> Engine:
        return self._engine("BEGIN")

    @cached_property
    def _writer(self) -> Engine:
        return self._engine("BEGIN IMMEDIATE")

    def _engine(self, begin: str) -> Engine:
        if self.workspace.database_url is not None:
            return _server_engine(self.workspace.database_url)
        return _sqlite_engine(self.workspace.database, begin, self.workspace.busy_timeout)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with _explained(self.workspace):
            yield


def _inserting(table: Table, *, is_sqlite: bool) -> Any:
    if is_sqlite:
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


# To build these takes longer than to execute them with one row, and to write again and again is what a run does.
@cache
def _inserting_new(table: Table, *, is_sqlite: bool) -> Any:
    return _inserting(table, is_sqlite=is_sqlite).on_conflict_do_nothing()


@cache
def _upserting(table: Table, columns: tuple[str, ...], key: tuple[str, ...], *, is_sqlite: bool) -> Any:
    insert = _inserting(table, is_sqlite=is_sqlite)
    changed = {name: insert.excluded[name] for name in columns if name not in key}
    return insert.on_conflict_do_update(index_elements=list(key), set_=changed)


@contextlib.contextmanager
def _explained(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise  # a bug of ours, not a problem that the user can act on
    except (DatabaseError, sqlite3.DatabaseError) as error:
        raise explain(error, workspace) from error


@contextlib.contextmanager
def server_reader(workspace: Workspace, *, snapshot: bool) -> Iterator[Reader]:
    """A reader on a database server, through SQLAlchemy: one snapshot, or what is committed at each query."""
    with Database(workspace) as database:
        _prepare_server(database)
        with database.server_connection(snapshot=snapshot) as connection:
            yield _ConnectionReader(connection)


class _ConnectionReader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(text(sql), encodable(parameters)).mappings()]


def server_url(given: str) -> URL:
    """The URL of a PostgreSQL server, with the driver that is used. Raises ConfigError."""
    try:
        url = make_url(given)
    # ValueError: a port that is no number.
    except (ArgumentError, ValueError):
        url = make_url("unknown:///")
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise _bad_url(f"expected postgresql://USER@HOST/NAME, this is {without_password(given)!r}")
    return url.set(drivername="postgresql+psycopg")


def _bad_url(what: str) -> ConfigError:
    return ConfigError("The database cannot be used.", [Problem(DATABASE_URL_VARIABLE, what)])


def _server_engine(given: str) -> Engine:
    try:
        return create_engine(server_url(given), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise Unsupported("psycopg is not installed.", hint="pip install 'synthtrack[postgres]'") from error


def _sqlite_engine(path: Path, begin: str, timeout: float) -> Engine:
    # WAL with foreign keys on; every transaction starts with ``begin``.
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": timeout, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def open_database(workspace: Workspace) -> Database:
    """The workspace's database at the current schema: made where there is none, upgraded where it is older.

    Raises SchemaError for a newer one or one that is not ours, StorageError or Corrupt where it cannot be used, and
    ConfigError for a URL that is no server's. Where the database is on a server, the root gets a marker.
    """
    database = Database(workspace)
    if database.is_sqlite:
        _prepare_sqlite(workspace)
    else:
        _prepare_server(database)
        _mark(workspace)
    return database


def _mark(workspace: Workspace) -> None:
    """Leaves what tells a root from its subdirectories where no database file does."""
    marker = workspace.root / MARKER_NAME
    if marker.exists():
        return
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        marker.write_text(MARKER, encoding="utf-8")
    except OSError as error:
        raise _not_writable(workspace, error) from error


def _prepare_sqlite(workspace: Workspace) -> None:
    path = workspace.database
    if path.exists() and sqlite_version(workspace) == SCHEMA_VERSION:
        return
    from filelock import FileLock, Timeout

    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace.root / ".tracker.db.lock", timeout=_PATIENCE_S), _explained(workspace):
            if not path.exists():
                _create(workspace)
            elif (version := sqlite_version(workspace)) < SCHEMA_VERSION:
                _upgrade(workspace, version)
    except Timeout:
        raise StorageError(
            f"Another process has been preparing {path} for a minute.", hint="Run the command again when it is done."
        ) from None
    except OSError as error:
        raise _not_writable(workspace, error) from error


def _not_writable(workspace: Workspace, error: OSError) -> StorageError:
    return StorageError(
        f"{workspace.root} cannot be written: {error.strerror or error}.",
        hint="Choose another workspace with --root, or change its permissions.",
    )


def _create(workspace: Workspace) -> None:
    path = workspace.database
    if has_log(path):
        # SQLite would play it into the new file.
        raise Corrupt(
            f"{path} is missing, and {log_of(path).name} is there: it holds what was written last.",
            hint="Put the file back, or restore a backup: `synthtrack restore FILE`. To begin anew, delete the log.",
        )
    # A database that appears under its name is complete: it is made beside it and renamed.
    beside = workspace.root / f".{workspace.database.name}.new"
    for leftover in workspace.root.glob(f"{beside.name}*"):
        leftover.unlink()
    _migrate_file(beside, workspace.busy_timeout)
    beside.rename(workspace.database)


def _upgrade(workspace: Workspace, version: int) -> None:
    path = workspace.database
    stamp = clock.now().strftime("%Y%m%dT%H%M%S")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(path.with_name(f"{path.name}.v{version}-{stamp}.bak"))) as copy,
    ):
        source.backup(copy)
    _migrate_file(path, workspace.busy_timeout)


@contextlib.contextmanager
def unsynced(path: Path) -> Iterator[None]:
    """Within, nobody who opens the SQLite file ``path`` through SQLAlchemy waits for the disk; other files as ever.

    For files of others that are made here and count only once they are whole: sync them before they do.
    """

    def relax(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            opened = connection.execute("PRAGMA database_list").fetchone()[2]
            if opened and Path(opened) == path.resolve():
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


def _migrate_file(path: Path, timeout: float) -> None:
    engine = _sqlite_engine(path, "BEGIN IMMEDIATE", timeout)
    try:
        with engine.begin() as connection:
            migrate(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    finally:
        # Closing the last connection moves the log into the file.
        engine.dispose()


def _prepare_server(database: Database) -> None:
    try:
        with database.reading() as connection:
            version = _server_version(connection, database.workspace)
    # The driver reads the URL's options when it connects first.
    except (ArgumentError, ProgrammingError, ValueError, TypeError) as error:
        what = str(getattr(error, "orig", error)).partition("\n")[0]
        raise _bad_url(f"{without_password(str(database.workspace.database_url))}: {what}") from error
    if version < SCHEMA_VERSION:
        # Writers take turns: one migrates, the others find it done.
        with database.writing() as connection:
            if _server_version(connection, database.workspace) < SCHEMA_VERSION:
                migrate(connection)


def _server_version(connection: Connection, workspace: Workspace) -> int:
    tables = inspect(connection).get_table_names()
    version = 0
    if "alembic_version" in tables:
        version = int(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or 0)
    return check_version(without_password(str(workspace.database_url)), version, tables)


def migrate(connection: Connection, revision: str = "head") -> None:
    """Brings the schema behind ``connection`` to ``revision`` within its transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
