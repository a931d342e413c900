"""A workspace from before people could decide anything, under this version: nothing in it is lost or changes."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tests.llm_server import Server, running_server
from tests.two_stage import GENERATE, N_RECORDS, recorded, staged
from tests.workspaces import UNCLEAR, call, new_root, rows, served, write_config
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import migrate


def make_version_1(database: Path) -> None:
    """Puts the rows of a database into one of schema version 1, which takes its place."""
    old = database.with_name("old.db")
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        migrate(connection, "0001")
        connection.exec_driver_sql("PRAGMA user_version = 1")
    engine.dispose()
    with contextlib.closing(sqlite3.connect(old)) as copy, copy:
        copy.execute("ATTACH ? AS new", (str(database),))
        names = [name for (name,) in copy.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for name in set(names) - {"alembic_version", "sqlite_sequence"}:
            columns = ", ".join(row[1] for row in copy.execute(f"PRAGMA main.table_info({name})"))
            copy.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM new.{name}")
    for left in database.parent.glob(f"{database.name}*"):
        left.unlink()
    old.rename(database)


def files(root: Path) -> dict[str, bytes | str]:
    """Every file of the tree with its bytes, every link with its target."""
    found = sorted((root / "Data_v2").rglob("*"))
    links = {str(path): str(path.readlink()) for path in found if path.is_symlink()}
    return links | {str(path): path.read_bytes() for path in found if path.is_file() and str(path) not in links}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(recorded=recorded(tmp_path, s3=UNCLEAR), poison="Rephrased: In house 004") as found:
        yield found


def test_what_was_made_before_is_there_and_is_reused(tmp_path: Path, server: Server) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, served(server.base_url, generation__max_retries=0))
    write_config(root, served(server.base_url) | {"validation": None}, "no_judge.yaml")
    assert call(root, *GENERATE, "--accept-partial").code == 0
    assert call(root, "generate", "no_judge.yaml", "--no-mlflow").code == 0
    before, sent = files(root), server.stats()["received"]
    samples = rows(root, "SELECT id, status, rephrased, verdict, error FROM sample ORDER BY id")
    make_version_1(root / "tracker.db")
    assert rows(root, "PRAGMA user_version") == [(1,)]
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        rows(root, "SELECT decided_by FROM sample")

    assert call(root, "view", "check").code == 0
    assert rows(root, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert len(list(root.glob("tracker.db.v1-*.bak"))) == 1
    assert rows(root, "SELECT id, status, rephrased, verdict, error FROM sample ORDER BY id") == samples
    by = rows(root, "SELECT shared_experiment_id, decided_by, verdict, COUNT(*) FROM sample "
                    "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3")  # fmt: skip
    assert by == [
        (1, None, None, 1), (1, "judge", "not_the_same", 5), (1, "judge", "same", 17), (1, "judge", "unclear", 1),
        (2, None, None, N_RECORDS),
    ]  # fmt: skip
    assert rows(root, "SELECT DISTINCT step FROM generation_run") == [(None,)]
    shutil.rmtree(root / "Data_v2")
    assert call(root, "view", "rebuild").code == 0
    assert files(root) == before
    for name in ("copa.yaml", "no_judge.yaml"):
        again = call(root, "generate", name, "--no-mlflow", "--accept-partial", "--batch", "second")
        assert again.out.startswith("⚡ "), again.err
    assert server.stats()["received"] == sent


def test_people_decide_in_it_from_now_on(tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(generation__strategy="direct_all"))
    assert call(root, *GENERATE).code == 0
    make_version_1(root / "tracker.db")
    write_config(root, staged())
    done = call(root, *GENERATE)
    assert "Step 2 of 6: checkpoint 1" in done.out
    with reading(Workspace(root, environ={})) as reader:
        for view in ("sample_decision", "decision_side_by_side", "judge_test_overview"):
            assert reader.rows(f"SELECT * FROM {view}") == []
