"""Reading the record without an ORM, and what a driver's words mean for the person in front of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tracker.errors import Corrupt, Error, SchemaError, StorageError, UnknownReference
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace
from tracker.record.catalogue import check_version, explain, has_log, reading
from tracker.record.database import open_database

REPOSITORY = Path(__file__).parents[3]
READ = """
import sys
from pathlib import Path
from tracker.record.catalogue import reading
from tracker.paths import Workspace
with reading(Workspace(Path(sys.argv[1]))) as reader:
    print(reader.rows("SELECT :a AS a, 2 AS b", a=1))
heavy = {"sqlalchemy", "sqlmodel", "alembic", "pydantic", "pandas", "filelock"} & set(sys.modules)
print(sorted(heavy))
"""


def test_reading_loads_nothing_heavy(tmp_path: Path) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[{'a': 1, 'b': 2}]\n[]\n"


def test_a_log_that_is_there_and_gone_again_is_no_failure(tmp_path: Path) -> None:
    """Whoever closes a database last removes its log, at any moment for everybody else."""
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            (tmp_path / "tracker.db-wal").write_bytes(b"what was written last")
            (tmp_path / "tracker.db-wal").unlink()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(20_000):
            has_log(tmp_path / "tracker.db")
    finally:
        ended.set()
        other.join()
    assert not has_log(tmp_path / "tracker.db")
    (tmp_path / "tracker.db-wal").touch()
    assert not has_log(tmp_path / "tracker.db")
    (tmp_path / "tracker.db-wal").write_bytes(b"what was written last")
    assert has_log(tmp_path / "tracker.db")


def test_where_there_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(UnknownReference, match="`synthtrack init` makes one"), reading(Workspace(tmp_path, environ={})):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("database is locked", StorageError, "is locked by another program for more than 30 s."),
        ("database or disk is full", StorageError, "Free some disk space"),
        ('could not extend file "base/1": No space left on device', StorageError, "Free some disk space"),
        ("attempt to write a readonly database", StorageError, "Check the permissions"),
        ("unable to open database file", StorageError, "Check the permissions"),
        ("disk I/O error", StorageError, "Check the space on the disk"),
        ("database disk image is malformed", Corrupt, "is damaged"),
        ("file is not a database", Corrupt, "is damaged"),
        ('syntax error near "FULL"\nLINE 1: ...', StorageError, 'tracker.db: syntax error near "FULL".'),
        ("", StorageError, "tracker.db: ."),
    ],
)
def test_what_a_driver_says_becomes_what_to_do(what: str, kind: type[Error], said: str, tmp_path: Path) -> None:
    error = explain(sqlite3.OperationalError(what), Workspace(tmp_path, environ={}))
    assert type(error) is kind
    assert said in str(error)
    assert str(tmp_path / "tracker.db") in str(error)


def test_what_stands_behind_an_error_is_what_counts(tmp_path: Path) -> None:
    outer = RuntimeError("[SQL: INSERT ...] (Background on this error)")
    outer.__cause__ = sqlite3.OperationalError("database is locked")
    assert "is locked" in str(explain(outer, Workspace(tmp_path, environ={})))


def test_a_server_is_named_without_its_password(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": "postgresql://me:hidden@db/name"})
    assert str(explain(RuntimeError("gone"), workspace)) == "postgresql://me:***@db/name: gone."


@pytest.mark.parametrize(
    ("version", "tables", "accepted"),
    [
        (0, [], True),
        (SCHEMA_VERSION, ["alembic_version", "batch"], True),
        (SCHEMA_VERSION + 1, ["alembic_version", "batch"], False),
        (0, ["bookmarks"], False),
        (SCHEMA_VERSION, ["bookmarks"], False),
        (0, ["alembic_version", "bookmarks"], False),
    ],
)
def test_which_databases_are_ours(version: int, tables: list[str], accepted: bool) -> None:
    if accepted:
        assert check_version("db", version, tables) == version
    else:
        with pytest.raises(SchemaError):
            check_version("db", version, tables)
