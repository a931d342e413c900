"""Copies made while others write, and put back: whole, or not at all, also by a process that is killed at any step."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.killing import Forge, forge
from tests.workspaces import call, config, tree, write_config, write_records
from tracker.backups.backup import backup
from tracker.backups.restore import restore_backup
from tracker.errors import ConfigError, Conflict, Corrupt, SchemaError, StorageError, Unsupported
from tracker.paths import Workspace
from tracker.record.database import open_database

WRITERS = 8
_WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("PRAGMA synchronous = NORMAL")
print("ready", flush=True)
for number in range(100_000):
    connection.execute("BEGIN IMMEDIATE")
    for half in "ab":
        row = (f"{sys.argv[2]}-{number}-{half}", "x" * 500)
        connection.execute("INSERT INTO message (key, role, content) VALUES (?, 'user', ?)", row)
    connection.execute("COMMIT")
    time.sleep(0.01)
"""


def generate(root: Path, temperature: float) -> None:
    changes = ("--set", f"generation.temperature={temperature}", "--limit", "6")
    done = call(root, "generate", "copa.yaml", "--no-mlflow", *changes)
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three experiments, a megabyte of messages, and a backup of when there were two and less than that."""
    root = tmp_path_factory.mktemp("made")
    write_records(root, 8)
    write_config(root, config())
    generate(root, 0.7)
    generate(root, 0.9)
    backup(Workspace(root, environ={}), root / "two.db")
    generate(root, 0.5)
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        filling = ((f"filling-{number}", "user", "x" * 2000) for number in range(1000))
        connection.executemany("INSERT INTO message (key, role, content) VALUES (?, ?, ?)", filling)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


def here(root: Path) -> Workspace:
    return Workspace(root, environ={})


def dump(file: Path) -> list[str]:
    """Everything that a database says."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def is_whole(file: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_backup_holds_what_the_database_says_in_one_file(root: Path, tmp_path: Path) -> None:
    made = backup(here(root), tmp_path / "copy.db")
    assert made.counts["experiments"] == 3
    assert (made.path, made.n_bytes) == (tmp_path / "copy.db", (tmp_path / "copy.db").stat().st_size)
    assert dump(made.path) == dump(root / "tracker.db")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy.db"]
    dated = backup(here(root), tmp_path)
    assert dated.path.parent == tmp_path
    assert dated.path.name.startswith("workspace-2")


def test_nothing_is_overwritten_unasked(root: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        backup(here(root), there)
    assert there.read_text() == "mine"
    backup(here(root), there, overwrite=True)
    assert is_whole(there)
    link = tmp_path / "link"
    link.symlink_to(there)
    with pytest.raises(Conflict, match="is there already"):
        backup(here(root), link, overwrite=True)
    for own in ("tracker.db", "tracker.db-wal", "tracker.db-shm"):
        with pytest.raises(Conflict, match="belongs to the database itself"):
            backup(here(root), root / own, overwrite=True)
    with pytest.raises(StorageError, match="is no directory"):
        backup(here(root), tmp_path / "nowhere" / "copy.db")


def test_a_database_of_another_workspace_in_use_is_not_replaced(root: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (a)")
        with pytest.raises(Conflict, match="in use"):
            backup(here(root), tmp_path / "other.db", overwrite=True)


def test_a_damaged_database_gives_no_backup(root: Path, tmp_path: Path) -> None:
    damage_a_page(root / "tracker.db")
    with pytest.raises(Corrupt, match="damaged"):
        backup(here(root), tmp_path / "copy.db")
    assert not [path for path in tmp_path.iterdir() if path.name != "workspace"]


def test_a_server_has_tools_of_its_own(tmp_path: Path) -> None:
    space = Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": "postgresql://u@h/n"})
    with pytest.raises(Unsupported) as refused:
        backup(space, tmp_path / "copy.db")
    assert "pg_dump" in str(refused.value.hint)
    with pytest.raises(Unsupported) as refused:
        restore_backup(space, tmp_path / "copy.db")
    assert "psql" in str(refused.value.hint)


@contextlib.contextmanager
def writers(root: Path) -> Iterator[None]:
    """Eight processes that commit pairs of rows all the time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, root / "tracker.db", str(each)], stdout=subprocess.PIPE, text=True
        )
        for each in range(WRITERS)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
        assert [process.poll() for process in processes] == [None] * WRITERS
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def written(file: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM message WHERE key LIKE '%-a' OR key LIKE '%-b'")}


def test_a_backup_is_one_moment_while_eight_write(root: Path, tmp_path: Path) -> None:
    seen = []
    with writers(root):
        time.sleep(0.3)
        for number in range(3):
            target = tmp_path / f"{number}.db"
            backup(here(root), target, progress=lambda *_: time.sleep(0.05))
            assert is_whole(target)
            seen.append(written(target))
            # Those who wrote went on while it was copied, and none of that is in it.
            assert seen[-1] < written(root / "tracker.db")
    for keys in seen:
        assert all(key[:-1] + other in keys for key in keys for other in "ab")
    assert seen[0] < seen[1] < seen[2] < written(root / "tracker.db")


def test_restored_is_what_was_backed_up_and_the_other_is_kept(root: Path) -> None:
    before = dump(root / "tracker.db")
    done = restore_backup(here(root), root / "two.db")
    assert (done.counts["experiments"], done.before and done.before["experiments"]) == (2, 3)
    assert dump(root / "tracker.db") == dump(root / "two.db")
    assert done.kept is not None
    assert done.kept.parent == root / ".trash"
    assert dump(done.kept) == before
    # What was kept is a backup like any other.
    restore_backup(here(root), done.kept)
    assert dump(root / "tracker.db") == before
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_database_of_other_pages_comes_back_too(root: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "two.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("VACUUM")
    restore_backup(here(root), root / "two.db")
    assert is_whole(root / "tracker.db")
    assert dump(root / "tracker.db") == dump(root / "two.db")


def test_what_is_no_backup_changes_nothing(root: Path, tmp_path: Path) -> None:
    before = dump(root / "tracker.db")
    text, cut, other, newer, empty = (tmp_path / name for name in ("text", "cut", "other", "newer", "empty"))
    text.write_text("no database" * 1000)
    cut.write_bytes((root / "two.db").read_bytes()[:100_000])
    empty.touch()
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (a)")
    shutil.copyfile(root / "two.db", newer)
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 999")
    flipped = tmp_path / "flipped"
    shutil.copyfile(root / "two.db", flipped)
    damage_a_page(flipped)
    for file, error in (
        (text, Corrupt), (cut, Corrupt), (flipped, Corrupt), (other, SchemaError), (newer, SchemaError),
        (empty, SchemaError), (tmp_path / "missing", StorageError), (root / "tracker.db", ConfigError),
    ):  # fmt: skip
        with pytest.raises(error):
            restore_backup(here(root), file)
        assert dump(root / "tracker.db") == before
    assert not (root / ".trash").exists() or not list((root / ".trash").glob("tracker-*"))


def test_nothing_is_restored_under_a_process_that_has_it_open(root: Path) -> None:
    before = dump(root / "tracker.db")
    opens = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM batch').fetchall(); "
    opens += "print(1, flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", opens, root / "tracker.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(Conflict, match=f"PID {process.pid}: "):
        restore_backup(here(root), root / "two.db")
    process.communicate()
    assert dump(root / "tracker.db") == before
    restore_backup(here(root), root / "two.db")


def test_nothing_is_restored_while_somebody_works(root: Path) -> None:
    lease = "lease_host = 'elsewhere', lease_pid = 7, lease_started = 1.0, lease_since = ?1, lease_heartbeat = ?1"
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(f"UPDATE shared_experiment SET {lease} WHERE id = 3", ("2999-01-01T00:00:00.000000Z",))
    with pytest.raises(Conflict, match="PID 7 on elsewhere"):
        restore_backup(here(root), root / "two.db")
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(f"UPDATE shared_experiment SET {lease} WHERE id = 3", ("2020-01-01T00:00:00.000000Z",))
    restore_backup(here(root), root / "two.db")


def test_who_says_no_keeps_all(root: Path) -> None:
    before, asked = dump(root / "tracker.db"), []

    def refuse(new: Mapping[str, int], old: Mapping[str, int] | None) -> None:
        asked.append((new["experiments"], None if old is None else old["experiments"]))
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        restore_backup(here(root), root / "two.db", confirm=refuse)
    assert asked == [(2, 3)]
    assert dump(root / "tracker.db") == before
    damage_a_page(root / "tracker.db")
    with pytest.raises(Conflict, match="no"):
        restore_backup(here(root), root / "two.db", confirm=refuse)
    assert asked[1] == (2, None)


def damage_a_page(file: Path) -> None:
    """Overwrites a page in the middle of a table."""
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    file.write_bytes(content)


def settled(root: Path) -> Path:
    """With the log in the file, so that damage to the file is all there is."""
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return root / "tracker.db"


def old_log(root: Path) -> None:
    """A database that was lost beside a log that was not, full of pages of its own."""
    database = settled(root)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE message SET content = 'of the old log'")
        for ending in ("-wal", "-shm"):
            shutil.copyfile(f"{database}{ending}", f"{database}{ending}.kept")
    for ending in ("-wal", "-shm"):
        Path(f"{database}{ending}.kept").rename(f"{database}{ending}")


def lost(root: Path) -> None:
    old_log(root)
    (root / "tracker.db").unlink()


def cut_with_log(root: Path) -> None:
    old_log(root)
    os.truncate(root / "tracker.db", 5000)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda root: os.truncate(settled(root), 100_000),
    "no database": lambda root: settled(root).write_bytes(b"x" * 10_000),
    "emptied": lambda root: os.truncate(settled(root), 0),
    "page": lambda root: damage_a_page(settled(root)),
    "lost, with its log": lost,
    "cut, with its log": cut_with_log,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_database_is_said_and_comes_back(root: Path, what: str) -> None:
    data = tree(root / "Data_v2")
    DAMAGE[what](root)
    left = (root / "tracker.db").read_bytes() if (root / "tracker.db").exists() else None
    if left is not None:
        said = call(root, "verify")
        assert (said.code, "Traceback" in said.err) == (6, False)
        assert "synthtrack restore" in said.out + said.err
    if what not in {"page", "lost, with its log"}:
        for command in (("batch", "list"), ("generate", "copa.yaml", "--no-mlflow"), ("view", "rebuild")):
            said = call(root, *command)
            assert (said.code, "`synthtrack restore FILE`" in said.err) == (6, True), (command, said)
    assert tree(root / "Data_v2") == data
    done = restore_backup(here(root), root / "two.db")
    assert is_whole(root / "tracker.db")
    assert dump(root / "tracker.db") == dump(root / "two.db")
    assert done.kept is not None
    if left is not None and what != "page":
        assert (done.kept / "tracker.db").read_bytes() == left


def test_a_lost_database_beside_its_log_is_not_taken_for_a_new_one(root: Path) -> None:
    lost(root)
    with pytest.raises(Corrupt, match=r"is missing, and tracker\.db-wal is there"):
        open_database(here(root))
    assert not (root / "tracker.db").exists()


def test_a_workspace_begins_with_a_backup(root: Path, tmp_path: Path) -> None:
    done = restore_backup(here(tmp_path / "new"), root / "two.db")
    assert (done.before, done.kept) == (None, None)
    assert call(tmp_path / "new", "view", "rebuild").code == 0
    assert call(tmp_path / "new", "verify").code == 0
    assert tree(tmp_path / "new/Data_v2") == tree_of_two(root)


def tree_of_two(root: Path) -> str:
    restore_backup(here(root), root / "two.db")
    assert call(root, "view", "rebuild").code == 0
    shutil.rmtree(root / "Data_v2")
    assert call(root, "view", "rebuild").code == 0
    return tree(root / "Data_v2")


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forge(tmp_path_factory.mktemp("forge")) as found:
        yield found


def test_a_backup_killed_at_any_step_leaves_the_earlier_one(forged: Forge, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "copy.db"
    target.parent.mkdir()
    before = dump(root / "tracker.db")
    shutil.copyfile(root / "two.db", target)
    steps = forged.killed(root, "backup", target, "--overwrite").steps
    assert steps > 4
    shutil.copyfile(root / "two.db", target)
    for number in range(1, steps + 1):
        assert forged.killed(root, "backup", target, "--overwrite", step=number).was_killed
        assert is_whole(target)
        assert dump(target) in (dump(root / "two.db"), before)
        assert dump(root / "tracker.db") == before
    backup(here(root), target, overwrite=True)
    assert [path.name for path in target.parent.iterdir()] == ["copy.db"]


@pytest.mark.parametrize("what", [None, "emptied", "cut, with its log", "lost, with its log"])
def test_a_restore_killed_at_any_step_leaves_the_old_or_the_new(
    forged: Forge, root: Path, tmp_path: Path, what: str | None
) -> None:
    if what is not None:
        DAMAGE[what](root)
    else:
        settled(root)
    place = tmp_path / "tried"
    # The tree is no part of it.
    shutil.rmtree(root / "Data_v2")
    shutil.rmtree(root / "Data")
    shutil.copytree(root, place, symlinks=True)
    steps = forged.killed(place, "restore", root / "two.db", "--yes").steps
    assert steps > 4
    old = {path.name: path.read_bytes() for path in root.glob("tracker.db*") if not path.name.endswith("-shm")}
    before, new, outcomes = dump(root / "tracker.db") if what is None else None, dump(root / "two.db"), set()
    for number in range(1, steps + 1):
        shutil.rmtree(place)
        shutil.copytree(root, place, symlinks=True)
        assert forged.killed(place, "restore", root / "two.db", "--yes", step=number).was_killed
        outcomes.add(outcome(place, old, before, new))
        restore_backup(here(place), root / "two.db")
        assert dump(place / "tracker.db") == new
        assert not list(place.glob(".synthtrack-tmp-*"))
    assert outcomes == {"old", "new"}


def outcome(place: Path, old: Mapping[str, bytes], before: list[str] | None, new: list[str]) -> str:
    """Whether the old record or the new one is there, whole; a damaged old one may be in the trash already."""
    if before is not None:
        assert is_whole(place / "tracker.db")
        found = dump(place / "tracker.db")
        assert found in (before, new)
        return "new" if found == new else "old"
    with contextlib.suppress(sqlite3.DatabaseError):
        if (place / "tracker.db").exists() and dump(place / "tracker.db") == new:
            assert kept_whole(place, old)
            return "new"
    left = {name: (place / name).read_bytes() for name in old if (place / name).exists()}
    assert left == old or kept_whole(place, old)
    return "old"


def kept_whole(place: Path, old: Mapping[str, bytes]) -> bool:
    kept = list((place / ".trash").glob("tracker-before-restore-*"))
    return any({name: (each / name).read_bytes() for name in old if (each / name).exists()} == old for each in kept)
