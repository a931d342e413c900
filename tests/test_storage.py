"""``generate`` where the disk is full, read-only or changed by others, and where the database is held or too new."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.llm_server import running_server
from tests.workspaces import (
    call,
    config,
    finish,
    rows,
    served,
    start,
    statuses,
    train_file,
    tree,
    write_config,
    write_recording,
    write_records,
)

COUNT = 40
LEFT = 600_000
"""Bytes: enough to begin a run, and too little for its answers."""
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
OFFLINE = "temp07_topp10_rulesv1"


@contextlib.contextmanager
def mounted(at: Path, size: str) -> Iterator[Path]:
    """A small disk of its own; skips where none may be mounted."""
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "synthtrack-test", str(at)]
    allowed = os.geteuid() == 0 and shutil.which("mount") is not None
    if not allowed or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no disk may be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves that many bytes of the disk free."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with filler.open("wb") as file:
        file.write(b"x" * (free - leave))
    return filler


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    write_records(root, COUNT)
    write_config(root, config())
    return root


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


def test_a_full_disk_stops_the_run_and_loses_nothing(recording: Path, tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "6m") as root,
        running_server(recorded=recording, latency=0.1) as server,
    ):
        write_records(root, COUNT)
        write_config(root, served(server.base_url, generation__concurrency=4))
        assert call(root, *GENERATE, "--limit", 1).code == 0
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = fill(root, LEFT)
        done = finish(start(root, *GENERATE))
        assert done.code == 11, (done.out, done.err)
        assert "disk is full" in done.err
        assert "Free some disk space, then run the same command" in done.err
        assert not train_file(root).exists()
        stored = rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL")[0][0]
        assert 0 < stored < 2 * COUNT
        filler.unlink()
        again = call(root, *GENERATE)
        assert again.code == 0, again.err
        assert again.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
        # Lost is what waited for the commit that failed, and what was in flight then.
        assert sum(server.stats()["answered"].values()) - 2 * COUNT <= 3 * 4
        assert len(server.stats()["answered"]) == 2 * COUNT
        assert call(root, "view", "check").code == 0


def test_a_disk_that_gets_space_again_is_waited_for(recording: Path, tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "6m") as root,
        running_server(recorded=recording, latency=0.1) as server,
    ):
        write_records(root, COUNT)
        write_config(root, served(server.base_url, generation__concurrency=4))
        assert call(root, *GENERATE, "--limit", 1).code == 0
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = fill(root, LEFT)
        process = start(root, *GENERATE)
        timer = threading.Timer(6.0, filler.unlink)
        timer.start()
        done = finish(process)
        timer.join()
        assert done.code == 0, done.err
        assert max(server.stats()["answered"].values()) == 1


def test_a_full_disk_leaves_nothing_half_written_in_the_view(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8m") as root:
        write_records(root, 5)
        # It takes no space in the record, where it is compressed, and too much in the tree.
        (root / "Data/original/Copa/copa_validation.jsonl").write_bytes(b'{"premise": "' + b"a" * 2_000_000 + b'"}\n')
        write_config(root, config())
        filler = fill(root, 1_500_000)
        done = call(root, *GENERATE)
        assert done.code == 11
        assert "No space left on device" in done.err
        assert "the record itself is safe" in done.err
        assert tree(root / "Data_v2") == ""
        filler.unlink()
        again = call(root, *GENERATE)
        assert again.out.startswith(f"⚡ Copa/{OFFLINE}: already made")
        assert train_file(root, OFFLINE).exists()
        assert call(root, "view", "check").code == 0


@contextlib.contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Makes a mounted workspace read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)


def test_a_read_only_workspace_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8m") as root:
        write_records(root, 5)
        write_config(root, config())
        with read_only(root):
            new = call(root, *GENERATE)
            made = call(root, "init")
            dry = call(root, *GENERATE, "--dry-run")
        assert call(root, *GENERATE).code == 0
        with read_only(root):
            old = call(root, *GENERATE, "--batch", "second")
            listed = call(root, "batch", "list")
            other = call(root, *GENERATE, "--set", "generation.temperature=0.9")
    assert (new.code, made.code, old.code, other.code) == (11, 11, 11, 11)
    for done in (new, made, old, other):
        assert str(root) in done.err
        assert "Traceback" not in done.err
    assert "--root" in new.err
    assert (dry.code, listed.code) == (0, 0)


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


def edited(home: Path) -> None:
    (home / "Copa/copa_train.jsonl").write_text("edited\n")


def shortened(home: Path) -> None:
    (home / "Copa/copa_test.jsonl").unlink()


def replaced_by_a_file(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("mine")


def replaced_by_a_link(home: Path) -> None:
    elsewhere = home.parents[4] / "elsewhere"
    home.rename(elsewhere)
    home.symlink_to(elsewhere)


@pytest.mark.parametrize("change", [shutil.rmtree, edited, shortened, replaced_by_a_file, replaced_by_a_link])
def test_a_shared_entry_that_was_changed_by_hand_comes_back(change: object, root: Path) -> None:
    call(root, *GENERATE)
    before = tree(root / "Data_v2")
    home = train_file(root, OFFLINE).parents[1]
    assert callable(change)
    change(home)
    done = call(root, *GENERATE, "--batch", "first")
    assert done.code == 0
    assert tree(root / "Data_v2") == before
    assert home.is_dir()
    assert not home.is_symlink()
    trash = [path for path in (root / ".trash").rglob("*") if not path.is_dir() or path.is_symlink()]
    kept = change not in (shutil.rmtree, shortened)
    assert bool(trash) is kept
    assert ("was not what the record says; it was moved to" in done.err) is kept
    if change is edited:
        assert [path.read_text() for path in trash] == ["edited\n"]
        assert f"_shared/Copa/{OFFLINE}/Copa/copa_train.jsonl" in done.err


def test_a_file_that_nobody_knows_is_left_alone(root: Path) -> None:
    call(root, *GENERATE)
    mine = train_file(root, OFFLINE).with_name("notes.txt")
    mine.write_text("mine")
    assert call(root, *GENERATE).code == 0
    assert mine.read_text() == "mine"


def test_a_broken_mlflow_store_costs_no_data(root: Path) -> None:
    (root / "mlruns").mkdir()
    (root / "mlruns/mlflow.db").write_text("no database at all")
    done = finish(start(root, "generate", "copa.yaml"))
    assert done.code == 0
    assert "1 run not logged yet; `synthtrack mlflow sync` tries again" in done.err
    assert train_file(root, OFFLINE).exists()
