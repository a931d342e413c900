"""Answers SQL of a person's own: one statement that cannot write, within a time. Without SQLAlchemy on SQLite."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tracker.errors import Error, Interrupted, QueryError, UnknownReference
from tracker.paths import Workspace
from tracker.record.catalogue import connected, explain, reading

HEAP_BYTES = 2 << 30
LONGEST_BYTES = 256 << 20
READ_ONLY = "`sql` only reads: no statement can change the record, and none can make or open another file."
_TICK = 20_000  # steps of SQLite's machine between two looks at the clock: less than a millisecond
_NEVER = 3600.0 * 24 * 365
_SCHEMAS = {"sqlite_master", "sqlite_temp_master"}
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_PRAGMAS = """
    collation_list compile_options database_list foreign_key_check foreign_key_list function_list index_info index_list
    index_xinfo integrity_check module_list pragma_list quick_check table_info table_list table_xinfo
"""
_FIGURES = "application_id encoding freelist_count journal_mode page_count page_size user_version"
_WRITES = re.compile(r"SQLITE_((?:INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|ATTACH|DETACH|REINDEX|ANALYZE)\w*)")
_ACTIONS = {
    getattr(sqlite3, name): matched[1].replace("_", " ")
    for name in dir(sqlite3)
    if (matched := _WRITES.fullmatch(name))
} | {sqlite3.SQLITE_TRANSACTION: "a transaction", sqlite3.SQLITE_SAVEPOINT: "SAVEPOINT"}
_WRONG = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
_MISSING = re.compile(r"no such (column|table|function): (.+)")


class Answer(Protocol):
    """What came of a query, as far as it was fetched."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def fetch(self, n: int) -> list[tuple[Any, ...]]:
        """The next ``n`` rows, fewer at the end. Raises QueryError after too long, Interrupted, StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view of the record: ``kind`` is one of the two, ``columns`` are (name, type as declared)."""

    name: str
    kind: str
    columns: tuple[tuple[str, str], ...]


@contextlib.contextmanager
def asking(workspace: Workspace, sql: str, *, timeout_s: float = 30.0) -> Iterator[Answer]:
    """The answer to one statement that only reads; ``timeout_s`` of work on it are allowed, 0 is any time.

    Raises QueryError: wrong SQL, more than one statement, one that would write, too much time or memory;
    UnknownReference for a table, column or function that is not there, with close matches; StorageError.
    """
    allowed_s = timeout_s or _NEVER
    if workspace.database_url is not None:
        from tracker.tracing.query_server import asking_server

        with asking_server(workspace, sql, allowed_s) as answer:
            yield answer
        return
    with connected(workspace) as connection:
        yield _SqliteAnswer(workspace, connection, sql, allowed_s)


def relations(workspace: Workspace) -> list[Relation]:
    """All views of the record, then all tables, by name."""
    with reading(workspace) as reader:
        rows = reader.rows(_COLUMNS if workspace.database_url is None else _SERVER_COLUMNS)
    found: dict[tuple[bool, str], list[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault((row["kind"] != "view", row["relation"]), []).append((row["name"], row["type"].lower()))
    return [
        Relation(name, "table" if is_table else "view", tuple(columns))
        for (is_table, name), columns in sorted(found.items())
    ]


_COLUMNS = """
    SELECT m.name AS relation, m.type AS kind, c.name, c.type
    FROM sqlite_master m JOIN pragma_table_xinfo(m.name) c
    WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND m.name <> 'alembic_version'
    ORDER BY m.name, c.cid"""
_SERVER_COLUMNS = """
    SELECT c.table_name AS relation, CASE WHEN t.table_type = 'VIEW' THEN 'view' ELSE 'table' END AS kind,
           c.column_name AS name, c.data_type AS type
    FROM information_schema.columns c
    JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
    WHERE c.table_schema = current_schema() AND c.table_name <> 'alembic_version'
    ORDER BY c.table_name, c.ordinal_position"""


def missing(workspace: Workspace, kind: str, name: str, sql: str) -> UnknownReference:
    """The error about a ``kind`` (column, table or function) that is not there, with what may have been meant."""
    found = relations(workspace)
    hint = "`synthtrack sql --schema` prints every table and view; --schema NAME one with its columns."
    if kind == "function":
        return UnknownReference(kind, name, hint="The functions are those of SQLite, or of the server.")
    if kind == "table":
        return UnknownReference("table or view", name, [each.name for each in found], hint=hint)
    words = set(re.findall(r"\w+", sql.lower()))
    used = [each for each in found if each.name in words]
    column = name.rpartition(".")[2].strip('"')
    known = dict.fromkeys(each for relation in used or found for each, _ in relation.columns)
    quotes = f"A text stands in single quotes: '{column}'." if f'"{column}"' in sql else None
    return UnknownReference(kind, name, known, hint="\n".join(filter(None, (quotes, hint))))


def too_long(allowed_s: float) -> QueryError:
    """The error of a query that took more than its time."""
    return QueryError(
        f"The query took more than {allowed_s:g} s and was stopped.",
        hint="--timeout gives it more seconds (0: any time). WHERE conditions on indexed columns make it faster.",
    )


class _SqliteAnswer:
    def __init__(self, workspace: Workspace, connection: sqlite3.Connection, sql: str, allowed_s: float) -> None:
        self._workspace, self._connection, self._sql = workspace, connection, sql
        self._allowed_s = self._left_s = allowed_s
        self._deadline = math.inf
        self._refused: str | None = None
        self._secure()
        with self._watched():
            self._cursor = connection.execute(sql)
        if self._cursor.description is None:
            raise QueryError(
                "There is no query.", hint="Give one, such as `synthtrack sql 'SELECT * FROM batch_cost'`."
            )
        self.columns = tuple(str(column[0]) for column in self._cursor.description)

    def fetch(self, n: int) -> list[tuple[Any, ...]]:
        with self._watched():
            return self._cursor.fetchmany(n)

    def _secure(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA query_only = ON")
        # What does not fit in the cache would otherwise become a file, and fill the disk.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            connection.execute("SELECT SQRT(4)")
        except sqlite3.OperationalError:
            # The views of statistics need it, and SQLite may have been built without it.
            connection.create_function("SQRT", 1, _root, deterministic=True)
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._is_over, _TICK)

    def _authorize(self, action: int, what: str | None, more: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            allowed = more is not None and more.lower() not in {"load_extension", "fts3_tokenizer"}
        elif action == sqlite3.SQLITE_PRAGMA:
            allowed = what in _PRAGMAS.split() or (what in _FIGURES.split() and more is None)
        elif action == sqlite3.SQLITE_UPDATE:
            # SQLite asks this when it declares json_each and the like; to update the schema itself it never lets.
            allowed = what == "sqlite_master"
        else:
            allowed = action in _ALLOWED
        if not allowed and self._refused is None:
            named = {sqlite3.SQLITE_FUNCTION: more, sqlite3.SQLITE_PRAGMA: f"PRAGMA {what}"}.get(action)
            # To drop a table is, to SQLite, first of all to delete a row of its schema, to make one to insert it.
            of_schema = self._sql.split(maxsplit=1)[0].upper() if what in _SCHEMAS else None
            self._refused = named or of_schema or _ACTIONS.get(action, "what it would do")
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        # Only time at work counts: whoever reads the rows may take as long as they like.
        began = time.monotonic()
        self._deadline = began + self._left_s
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._explained(error) from error
        except MemoryError as error:
            raise QueryError(
                f"The query needs more than {HEAP_BYTES >> 30} GiB of memory.",
                hint="Ask for less: fewer columns, a WHERE, a LIMIT, no ORDER BY over everything.",
            ) from error
        finally:
            self._left_s -= time.monotonic() - began
            self._deadline = math.inf

    def _explained(self, error: Exception) -> Error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            # Python drops an exception of a progress handler, and KeyboardInterrupt arises there.
            return too_long(self._allowed_s) if self._is_over() else Interrupted("Interrupted.")
        if self._refused is not None:
            return QueryError(f"Refused: {self._refused}.", hint=READ_ONLY)
        if code == sqlite3.SQLITE_READONLY or "may not be modified" in str(error):
            return QueryError(f"Refused: {error}.", hint=READ_ONLY)
        return self._wrong(str(error)) if code in _WRONG else explain(error, self._workspace)

    def _wrong(self, what: str) -> Error:
        if "one statement" in what:
            return QueryError("This is more than one statement.", hint="Ask one thing at a time.")
        if "binding" in what:
            return QueryError("The query has parameters, which nothing fills.", hint="Write the values into it.")
        if matched := _MISSING.match(what):
            return missing(self._workspace, matched[1], matched[2], self._sql)
        return QueryError(f"SQLite: {what}.", hint="`synthtrack sql --schema` prints what there is to ask.")


def _root(x: float | None) -> float | None:
    return None if x is None or x < 0 else math.sqrt(x)
