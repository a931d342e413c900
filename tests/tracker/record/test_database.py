"""Opening the record: made once, upgraded with a copy beside it, refused where it is not ours or not readable."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import IntegrityError

from tests.databases import KINDS, add_source, claim, empty_workspace, rows, wanted
from tracker import schema
from tracker.errors import ConfigError, Corrupt, SchemaError, StorageError
from tracker.migrations import SCHEMA_VERSION
from tracker.migrations.versions.v0001_initial import VIEWS
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import reading
from tracker.record.database import Database, open_database, unsynced

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a SQLite database, which waits half a second for a lock."""
    found = Workspace(tmp_path, environ={"SYNTHTRACK_BUSY_TIMEOUT": "0.5"})
    open_database(found).close()
    return found


def execute(workspace: Workspace, *statements: str) -> None:
    connection = sqlite3.connect(workspace.database)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def both_ways(workspace: Workspace) -> list[Any]:
    """The two ways into a database, to be called."""

    def read() -> None:
        with reading(workspace) as reader:
            reader.rows("SELECT * FROM batch")

    def write() -> None:
        with open_database(workspace) as database, database.writing() as connection:
            connection.execute(
                schema.table("batch").insert().values(name="b", purpose="p", description="", created_at="t")
            )

    return [read, write]


def python(code: str, *arguments: object, path: Path = REPOSITORY) -> subprocess.Popen[str]:
    """A program in a process of its own, with the packages in ``path``."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


OPEN = """
import sys
from pathlib import Path
from tracker.record.database import open_database
from tracker.paths import Workspace, find_workspace
with open_database(Workspace(Path(sys.argv[1]))) as database, database.reading():
    pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_eight_processes_at_once_make_one_database(kind: str, tmp_path: Path) -> None:
    with empty_workspace(kind, tmp_path) as workspace:
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **workspace.environ}
        code = [sys.executable, "-c", OPEN, str(tmp_path)]
        started = [subprocess.Popen(code, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(8)]
        assert [(process.communicate()[1], process.returncode) for process in started] == [("", 0)] * 8
        assert rows(workspace, "SELECT version_num FROM alembic_version") == [{"version_num": f"{SCHEMA_VERSION:04}"}]
    left = {path.name for path in tmp_path.iterdir()} - {".tracker.db.lock", "tracker.db-wal", "tracker.db-shm"}
    assert left == ({"tracker.db"} if kind == "sqlite" else {".synthtrack"})


def test_opening_a_current_database_imports_no_alembic(workspace: Workspace) -> None:
    code = f"{OPEN}assert not [name for name in sys.modules if name.startswith('alembic')], 'alembic'"
    assert python(code, workspace.root).communicate()[0] == ""


def test_the_schema_is_what_the_migrations_make(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.METADATA) == []


def test_the_version_is_that_of_the_newest_migration() -> None:
    versions = (REPOSITORY / "tracker" / "migrations" / "versions").glob("v*.py")
    assert max(int(path.stem[1:5]) for path in versions) == SCHEMA_VERSION


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_read(database: Database, view: str) -> None:
    claim(database, wanted(add_source(database)))
    expected = 0 if view in {"sample_side_by_side", "ledger"} else 1
    assert len(rows(database.workspace, f"SELECT * FROM {view}")) == expected


def test_a_foreign_key_must_point_somewhere(database: Database) -> None:
    # It is a bug of ours if it does not, so it keeps its traceback.
    membership = {"batch_id": 7, "shared_experiment_id": 7, "created_at": "t", "reused": False}
    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.execute(schema.table("batch_membership").insert().values(**membership))
    assert rows(database.workspace, "SELECT * FROM batch_membership") == []


def test_an_error_rolls_its_transaction_back(database: Database) -> None:
    batch = schema.table("batch").insert().values(name="b", purpose="p", description="", created_at="t")

    def fail(connection: Connection) -> None:
        connection.execute(batch)
        raise KeyError

    with pytest.raises(KeyError), database.writing() as connection:
        fail(connection)
    assert rows(database.workspace, "SELECT * FROM batch") == []


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_reader_sees_one_snapshot_or_what_is_committed(database: Database, snapshot: bool) -> None:
    batch = schema.table("batch").insert().values(name="b", purpose="p", description="", created_at="t")
    with reading(database.workspace, snapshot=snapshot) as reader:
        assert reader.rows("SELECT name FROM batch") == []
        with database.writing() as connection:
            connection.execute(batch)
        assert reader.rows("SELECT name FROM batch WHERE name = :name", name="b") == (
            [] if snapshot else [{"name": "b"}]
        )


def test_a_reader_cannot_write(workspace: Workspace) -> None:
    with reading(workspace) as reader, pytest.raises(StorageError, match="readonly"):
        reader.rows("DELETE FROM batch")


def test_a_newer_program_upgrades_with_a_copy_beside_and_this_one_then_refuses(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    execute(workspace, "INSERT INTO batch (name, purpose, description, created_at) VALUES ('b', 'p', '', 't')")
    newer = tmp_path_factory.mktemp("newer")
    shutil.copytree(REPOSITORY / "tracker", newer / "tracker", ignore=shutil.ignore_patterns("__pycache__"))
    package = newer / "tracker" / "migrations"
    text = (package / "__init__.py").read_text(encoding="utf-8")
    number = f"SCHEMA_VERSION = {SCHEMA_VERSION}"
    assert number in text
    (package / "__init__.py").write_text(
        text.replace(number, f"SCHEMA_VERSION = {SCHEMA_VERSION + 1}"), encoding="utf-8"
    )
    (package / "versions" / f"v{SCHEMA_VERSION + 1:04}_mood.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = '{SCHEMA_VERSION + 1:04}'\ndown_revision = '{SCHEMA_VERSION:04}'\n"
        "def upgrade():\n    op.add_column('batch', sa.Column('mood', sa.String(), nullable=True))\n",
        encoding="utf-8",
    )
    assert python(OPEN, workspace.root, path=newer).communicate()[0] == ""

    connection = sqlite3.connect(workspace.database)
    assert connection.execute("SELECT name, mood FROM batch").fetchall() == [("b", None)]
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    connection.close()
    (copy,) = workspace.root.glob(f"tracker.db.v{SCHEMA_VERSION}-*.bak")
    older = Workspace(tmp_path_factory.mktemp("older"), environ={})
    copy.rename(older.database)
    assert rows(older, "SELECT name FROM batch") == [{"name": "b"}]
    for way in both_ways(workspace):
        with pytest.raises(SchemaError, match=rf"has schema version {SCHEMA_VERSION + 1}; this synthtrack knows"):
            way()


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    workspace.database.touch()
    assert rows(workspace, "SELECT * FROM batch") == []


@pytest.mark.parametrize("version", [0, 1, SCHEMA_VERSION, 99])
def test_somebody_elses_database_is_refused(tmp_path: Path, version: int) -> None:
    workspace = Workspace(tmp_path, environ={})
    execute(workspace, "CREATE TABLE bookmarks (url TEXT)", f"PRAGMA user_version = {version}")
    before = workspace.database.read_bytes()
    for way in both_ways(workspace):
        with pytest.raises(SchemaError, match="is not a synthtrack database"):
            way()
    assert workspace.database.read_bytes() == before


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    workspace.database.write_bytes(b"This is a letter, not a database. " * 100)
    for way in both_ways(workspace):
        with pytest.raises(Corrupt, match="file is not a database"):
            way()


def test_a_truncated_database_is_corrupt(workspace: Workspace) -> None:
    workspace.database.write_bytes(workspace.database.read_bytes()[:6000])
    for way in both_ways(workspace):
        with pytest.raises(Corrupt, match="is damaged"):
            way()


def test_a_database_that_another_program_has_locked(workspace: Workspace) -> None:
    other = sqlite3.connect(workspace.database, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        read, write = both_ways(workspace)
        read()
        with pytest.raises(StorageError, match=r"is locked by another program for more than 0\.5 s"):
            write()
    finally:
        other.close()
    write()


def test_a_database_locked_as_a_whole_is_not_read_without_its_log(workspace: Workspace) -> None:
    execute(workspace, "INSERT INTO batch (name, purpose, description, created_at) VALUES ('b', 'p', '', 't')")
    other = sqlite3.connect(workspace.database, isolation_level=None)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for way in both_ways(workspace):
            with pytest.raises(StorageError, match="is locked by another program"):
                way()
    finally:
        other.close()


def test_a_directory_in_the_databases_place(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    workspace.database.mkdir()
    for way in both_ways(workspace):
        with pytest.raises(StorageError, match="cannot be written"):
            way()


AS_NOBODY = """
import os, sys
from pathlib import Path
import tests.tracker.record.test_database as here
from tracker.errors import Error
from tracker.paths import Workspace, find_workspace
# Whoever this becomes may not read where Python is.
import tracker.schema, alembic, sqlite3, alembic.command, alembic.config, difflib, filelock
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for way in here.both_ways(Workspace(Path(sys.argv[1]), environ={})):
    try:
        way()
    except Error as error:
        print(type(error).__name__, error.message)
    else:
        print("fine")
"""


def as_nobody(root: Path) -> list[str]:
    """What reading and writing say to somebody who may not write below ``root``."""
    for directory in (root, *root.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    root.chmod(0o555)
    try:
        # Nobody may write what was covered.
        with mock.patch.dict(os.environ):
            os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
            said = python(AS_NOBODY, root).communicate()[0].splitlines()
    finally:
        root.chmod(0o755)
    assert len(said) == 2, said
    return said


def test_a_workspace_that_may_only_be_read(workspace: Workspace) -> None:
    workspace.database.chmod(0o444)
    read, write = as_nobody(workspace.root)
    assert read == "fine"
    assert write.startswith(f"StorageError {workspace.database} cannot be written")


def test_a_directory_that_may_only_be_read(tmp_path: Path) -> None:
    read, write = as_nobody(tmp_path)
    assert read.startswith("UnknownReference No workspace at")
    assert write == f"StorageError {tmp_path} cannot be written: Permission denied."


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    odd = tmp_path / "a?b#c%20d é ' &mode=rw"
    odd.mkdir()
    workspace = Workspace(odd, environ={})
    open_database(workspace).close()
    assert rows(workspace, "SELECT * FROM batch") == []
    assert {path.name for path in tmp_path.iterdir()} == {odd.name}


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:hidden@host/db", "sqlite:///x.db", "no url", "http://u:hidden@host/"),
        *("postgresql://host:abc/db", "postgresql://u:hidden@host:/db:", "postgresql://[::1/db", "postgresql:", "://"),
    ],
)
def test_a_url_that_is_no_postgresql_server(tmp_path: Path, url: str) -> None:
    for way in both_ways(Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": url})):
        with pytest.raises(ConfigError, match="expected postgresql://USER@HOST/NAME") as caught:
            way()
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("badopt=1", "invalid connection option"),
        ("connect_timeout=soon", "bad value for connect_timeout"),
        ("port=abc", "non-integer port"),
    ],
)
def test_a_url_with_an_option_that_the_driver_does_not_take(tmp_path: Path, option: str, words: str) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://me:hidden@127.0.0.1:1/db?{option}"
    for way in both_ways(Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": url})):
        with pytest.raises(ConfigError, match=words) as caught:
            way()
        assert "hidden" not in str(caught.value)
        assert option in str(caught.value)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_where_the_database_is_on_a_server_the_root_is_found_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (below := tmp_path / "Data_v2").mkdir()
    monkeypatch.chdir(below)
    with empty_workspace(kind, tmp_path) as workspace:
        assert rows(workspace, "SELECT * FROM batch") == []
        assert find_workspace(environ=workspace.environ).root == below, "who only reads leaves nothing behind"
        open_database(workspace).close()
        assert find_workspace(environ=workspace.environ).root == tmp_path
        assert (tmp_path / ".synthtrack").read_text().startswith("This directory is a synthtrack workspace")
        assert len((tmp_path / ".synthtrack").read_text().splitlines()) == 1


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://me:hidden@127.0.0.1:1/db"
    for way in both_ways(Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": url})):
        with pytest.raises(StorageError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/db: ") as caught:
            way()
        assert "hidden" not in str(caught.value)


def test_only_the_file_that_is_named_is_written_without_waiting_for_the_disk(tmp_path: Path) -> None:
    def synchronous(name: str) -> object:
        engine = create_engine(f"sqlite:///{tmp_path / name}")
        try:
            with engine.connect() as connection:
                return connection.exec_driver_sql("PRAGMA synchronous").scalar()
        finally:
            engine.dispose()

    with unsynced(tmp_path / "one.db"):
        assert (synchronous("one.db"), synchronous("other.db")) == (0, 2)
    assert synchronous("one.db") == 2
