"""``tracker.tracing.query`` on a PostgreSQL server: a transaction that only reads, a cursor on one statement."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

from tracker.errors import Error, QueryError
from tracker.paths import Workspace
from tracker.record.catalogue import explain, reading
from tracker.record.database import Database
from tracker.tracing import query

_UNDEFINED = {"42703": "column", "42P01": "table", "42883": "function"}
_CANCELED = "57014"
_WRITES = ("25", "0A")  # a transaction that only reads, a cursor that takes a SELECT alone
_WRONG = ("42", "22")  # syntax, names and access; values
_NAME = re.compile(r'"([^"]+)"|(?:column|function) ([\w.]+)')


@contextlib.contextmanager
def asking_server(workspace: Workspace, sql: str, allowed_s: float) -> Iterator[query.Answer]:
    """An answer as ``query.asking`` gives it."""
    with reading(workspace):
        pass  # says what is wrong with the server or its schema, and upgrades it
    with Database(workspace) as database, database.server_connection(snapshot=True) as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(allowed_s * 1000)}")
        driver = connection.connection.driver_connection
        assert driver is not None
        yield _ServerAnswer(workspace, driver, sql, allowed_s)


class _ServerAnswer:
    def __init__(self, workspace: Workspace, driver: Any, sql: str, allowed_s: float) -> None:
        self._workspace, self._sql = workspace, sql
        self._allowed_s = self._left_s = allowed_s
        if not sql.strip(" \t\n;"):
            raise QueryError(
                "There is no query.", hint="Give one, such as `synthtrack sql 'SELECT * FROM batch_cost'`."
            )
        # A named cursor is declared by the extended protocol, which takes one statement that gives rows.
        self._cursor = driver.cursor(name="synthtrack_sql")
        with self._watched():
            self._cursor.execute(sql)
        self.columns = tuple(str(column.name) for column in self._cursor.description)

    def fetch(self, n: int) -> list[tuple[Any, ...]]:
        with self._watched():
            return [tuple(row) for row in self._cursor.fetchmany(n)]

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        import psycopg

        began = time.monotonic()
        if self._left_s <= 0:
            raise query.too_long(self._allowed_s)
        try:
            yield
        except psycopg.Error as error:
            raise self._explained(error) from error
        finally:
            self._left_s -= time.monotonic() - began

    def _explained(self, error: Any) -> Error:
        state = error.sqlstate or ""
        what = str(error).partition("\n")[0]
        if state in _UNDEFINED and (matched := _NAME.search(what)):
            return query.missing(self._workspace, _UNDEFINED[state], matched[1] or matched[2], self._sql)
        if state == _CANCELED:
            return query.too_long(self._allowed_s)
        if state.startswith(_WRITES):
            return QueryError(f"Refused: {what}.", hint=query.READ_ONLY)
        if "multiple commands" in what:
            return QueryError("This is more than one statement.", hint="Ask one thing at a time.")
        if state.startswith(_WRONG):
            return QueryError(f"PostgreSQL: {what}.", hint=f"One SELECT is what it takes. {query.READ_ONLY}")
        return explain(error, self._workspace)
