"""The agents' files under several processes, kills, permissions and full disks."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import agent_rows
from tests.tracker.views.test_agent_view import ONE, check, file, here, populate, rebuild, refresh, snapshot
from tests.tracker.views.test_synthetic_view import as_somebody
from tracker.errors import StorageError
from tracker.paths import TEMPORARY, Workspace
from tracker.record.database import open_database
from tracker.views.tree import explained

__all__ = ["here"]
PROGRAM = """
import sys
from pathlib import Path
from tracker.views import agent_view
from tracker.record.catalogue import reading
from tracker.paths import Workspace
import filelock
here = Workspace(Path(sys.argv[1]), environ={})
print("ready", flush=True)
sys.stdin.readline()
with reading(here) as reader:
    agent_view.rebuild(here, reader) if sys.argv[2] == "rebuild" else agent_view.refresh(here, reader, range(1, 100))
"""


def start(here: Workspace, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(here.root), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def thirty(tmp_path: Path) -> Workspace:
    here = Workspace(tmp_path / "thirty", environ={})
    with open_database(here) as database:
        for number in range(30):
            agent_rows.make(database, name=f"translation_m_{number}", draw=number)
    return here


def test_processes_that_write_at_once_do_not_fail_and_write_everything_once(thirty: Workspace) -> None:
    processes = [start(thirty, how) for how in ("refresh", "rebuild", "refresh", "rebuild")]
    for process in processes:
        go(process)
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    assert len(snapshot(thirty)) == 30
    assert check(thirty) == []
    assert not thirty.trash_dir.exists()


def test_a_kill_at_any_moment_leaves_nothing_half_written(thirty: Workspace) -> None:
    rebuild(thirty)
    exact = snapshot(thirty)
    chance = random.Random(7)
    for attempt in range(6):
        if attempt % 2:
            for path in (thirty.data_dir / "agents").iterdir():
                path.write_text("edited")
        else:
            shutil.rmtree(thirty.data_dir / "agents")
        process = start(thirty, "rebuild")
        go(process)
        time.sleep(chance.random() * 0.15)
        process.kill()
        process.communicate(timeout=60)
        for name, found in snapshot(thirty).items():
            if TEMPORARY not in name and found[0] != b"edited":
                assert found == exact[name]
        rebuild(thirty)
        assert snapshot(thirty) == exact


def test_read_only_directories_are_named_and_right_ones_need_no_writing() -> None:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        here = populate(Workspace(Path(directory) / "workspace", environ={}))
        rebuild(here)
        everything = [here.root, *here.root.rglob("*")]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert as_somebody(lambda: refresh(here, 1, 2, 3, deep=True)) == "nothing"
        assert as_somebody(lambda: check(here)) == "nothing"
        file(here).chmod(0o644)
        file(here).write_text("edited")
        bringing: list[Callable[[], object]] = [lambda: refresh(here, 1), lambda: rebuild(here)]
        for root_writable in (False, True):
            # The lock lies in the workspace: where that can be written, the directory itself is what cannot.
            here.root.chmod(0o777 if root_writable else 0o555)
            (here.root / ".view.lock").chmod(0o666 if root_writable else 0o444)
            for bring in bringing:
                said = as_somebody(bring)
                assert said.startswith("StorageError")
                assert ("agents" in said) is root_writable
                assert "Permission denied" in said
                assert "Check the permissions" in said
        for path in everything:
            path.chmod(0o755)


def test_where_a_write_breaks_off_nothing_bears_the_final_name(tmp_path: Path) -> None:
    import resource

    here = Workspace(tmp_path, environ={})
    with open_database(here) as database:
        agent_rows.make(database, [["long " * 40_000, "b"], ["c", "d"]], name=ONE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for what SQLite needs to read, too little for the file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            refresh(here, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(here) == {}
    assert refresh(here, 1)
    assert check(here) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_says_what_to_do_then(here: Workspace) -> None:
    with pytest.raises(StorageError) as raised, explained(here), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(file(here).read_bytes())
    assert raised.value.hint == "Free some disk space, then run `synthtrack view rebuild`; the record itself is safe."
