"""A database that others hold, that is too new, not ours, cut short, zeroed, or overwritten.

Covered here: what each command says of it, that runs go on when it is free again, and that a backup brings all back.
Copies and what is put back of them, step by step: ``tests/tracker/verifying/test_backup.py``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.surroundings import is_told
from tests.llm_server import running_server
from tests.workspaces import (
    call,
    config,
    finish,
    new_root,
    rows,
    served,
    start,
    statuses,
    tree,
    write_config,
    write_recording,
)

COUNT = 40
GENERATE = ("generate", "copa.yaml", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = new_root(tmp_path, COUNT)
    write_config(root, config())
    return root


@contextlib.contextmanager
def held(root: Path) -> Iterator[None]:
    """Holds a write transaction, as an open SQL shell may."""
    with contextlib.closing(sqlite3.connect(root / "tracker.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_database_held_for_a_while_is_waited_for(root: Path) -> None:
    assert call(root, "init").code == 0
    with held(root):
        process = start(root, *GENERATE)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4)
    done = finish(process)
    assert (done.code, statuses(root)) == (0, ["complete"])


def test_a_database_held_for_too_long_is_told(root: Path) -> None:
    assert call(root, "init").code == 0
    with held(root):
        done = call(root, *GENERATE, environ={"SYNTHTRACK_BUSY_TIMEOUT": "0.2"})
        # Who only reads is not held up.
        assert call(root, "batch", "list").code == 0
    assert done.code == 11
    assert "tracker.db is locked by another program" in done.err
    assert call(root, *GENERATE).code == 0


def test_a_newer_database_is_refused(root: Path) -> None:
    call(root, *GENERATE)
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    for command in (GENERATE, (*GENERATE, "--dry-run"), ("batch", "list"), ("init",)):
        done = call(root, *command)
        assert done.code == 7
        assert "schema version 99" in done.err
        assert "Upgrade synthtrack" in done.err


def test_a_database_of_another_program_is_refused(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    done = call(root, *GENERATE)
    assert (done.code, "is not a synthtrack database" in done.err) == (7, True)
    (root / "tracker.db").write_bytes(b"no database at all, but some text that is long enough" * 100)
    done = call(root, *GENERATE)
    assert (done.code, "Traceback" in done.err) == (6, False)
    assert "is damaged" in done.err


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_held_in_the_midst_of_a_run_it_costs_time_and_no_answer(seconds: int, root: Path, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "recording.jsonl", COUNT)
    with running_server(recorded=recording, latency=0.3) as server:
        write_config(root, served(server.base_url, generation__concurrency=4))
        environ = {"SYNTHTRACK_BUSY_TIMEOUT": "0.5" if seconds < 10 else None}
        process = start(root, *GENERATE, environ=environ)
        until_paid(root, process)
        with held(root):
            time.sleep(seconds)
            # What was in flight is answered; nothing new is asked while it could not be kept.
            assert server.stats()["received"] < 2 * COUNT
        done = finish(process)
        assert set(server.stats()["answered"].values()) == {1}
        assert server.stats()["received"] == 2 * COUNT
    assert (done.code, statuses(root)) == (0, ["complete"]), done.err


def until_paid(root: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        with contextlib.suppress(sqlite3.OperationalError):
            if rows(root, "SELECT 1 FROM attempt"):
                return
        time.sleep(0.02)


def cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 // 4096 * 4096)


def cut_in_a_page(file: Path) -> None:
    os.truncate(file, 5000)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def half_zeroed(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as found:
        found.seek(size // 4)
        found.write(bytes(size // 2))


def garbage(file: Path) -> None:
    file.write_bytes(b"\x89garbage!" * 5000)


COMMANDS: tuple[tuple[object, ...], ...] = (
    (*GENERATE, "--batch", "second"), (*GENERATE, "--set", "generation.temperature=0.9"), ("batch", "list"),
    ("experiment", "show", "Copa/temp07_topp10_rulesv1"), ("path", "resolve", "first/Copa/temp07_topp10_rulesv1"),
    ("view", "rebuild"), ("view", "check"), ("sql", "SELECT * FROM sample"), ("lineage", "Copa/temp07_topp10_rulesv1"),
    ("export", "first", "work.zip"), ("backup", "again.db"), ("gc", "--dry-run"), ("mlflow", "sync"),
)  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace and its backup."""
    root = new_root(tmp_path_factory.mktemp("kept"), COUNT)
    write_config(root, config())
    assert call(root, *GENERATE).code == 0
    assert call(root, "backup", root / "backup.db").code == 0
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return root


@pytest.mark.parametrize("damage", [cut_short, cut_in_a_page, emptied, zeroed, half_zeroed, garbage])
def test_a_damaged_database_is_named_by_every_command_and_comes_back(
    damage: Callable[[Path], None], kept: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(kept, tmp_path / "workspace", symlinks=True))
    before = tree(root / "Data_v2")
    for log in ("tracker.db-wal", "tracker.db-shm"):
        (root / log).unlink(missing_ok=True)
    damage(root / "tracker.db")
    verified = call(root, "verify")
    assert verified.code in {6, 7, 11}, verified
    assert "tracker.db" in verified.out + verified.err
    assert "Traceback" not in verified.err
    for command in COMMANDS:
        done = call(root, *command)
        # What needs none of the damaged pages may go well.
        assert not done.code or is_told(done, done.code)
        assert done.code in {0, 6, 7, 11}, (command, done)
    (root / "work.zip").unlink(missing_ok=True)
    restored = call(root, "restore", root / "backup.db", "--yes", "--no-mlflow")
    assert restored.code == 0, restored.err
    assert call(root, "view", "rebuild").code == 0
    assert tree(root / "Data_v2") == before
    assert rows(root, "SELECT COUNT(*) FROM sample") == [(COUNT,)]
    assert rows(root, "PRAGMA integrity_check") == [("ok",)]
    assert call(root, *GENERATE, "--batch", "third").out.startswith("⚡")
    assert call(root, "verify").code == 0
