"""Input and output that fail at one of their calls: an error, no traceback, and the same bytes once it works again.

Covered here: the tree, the database's file and its log (in SQLite itself), copies and archives, and what is read. The
calls are those of a library between the command and the C library, `failing.c`.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.failing import failing
from tests.faults.surroundings import is_told, started
from tests.workspaces import REPOSITORY, Done, call, config, finish, new_root, rows, tree, write_config

COUNT = 30
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
OTHER = (*GENERATE, "--set", "generation.temperature=0.9", "--batch", "second")
CASES: dict[str, tuple[tuple[str, ...], str, str, tuple[int, ...], int]] = {
    "tree written": (OTHER, "write", "Data_v2/synthetic", (0, 2), errno.EIO),
    "tree renamed": (OTHER, "rename", "Data_v2/synthetic", (0,), errno.EIO),
    "tree synced": (OTHER, "fsync", "Data_v2/synthetic", (0,), errno.EIO),
    "log written": (OTHER, "pwrite", "tracker.db-wal", (0, 9, 40), errno.EIO),
    "log without room": (OTHER, "pwrite", "tracker.db-wal", (5,), errno.ENOSPC),
    "database read": (OTHER, "read", "tracker.db", (0, 12), errno.EIO),
    "source read": (OTHER, "read", "copa_train.jsonl", (0,), errno.EIO),
    "config read": (OTHER, "read", "copa.yaml", (0,), errno.EIO),
    "view rebuilt": (("view", "rebuild"), "write", "Data_v2/synthetic", (1,), errno.EIO),
    "archive written": (("export", "first", "work.zip", "--overwrite"), "write", "synthtrack-tmp", (0,), errno.EIO),
    "archive synced": (("export", "first", "work.zip", "--overwrite"), "fsync", "synthtrack-tmp", (0,), errno.EIO),
    "archive read": (("import", "other.zip"), "read", "other.zip", (0, 3), errno.EIO),
    "copy written": (("backup", "copy.db", "--overwrite"), "pwrite", "synthtrack-tmp", (0,), errno.EIO),
    "copy renamed": (("backup", "copy.db", "--overwrite"), "rename", "copy.db", (0,), errno.EIO),
}
"""The command, which of its calls fail on files of which path, after how many that go well, and how."""
ALL = [(name, after) for name, (_, _, _, afters, _) in CASES.items() for after in afters]
SHORT = {("tree written", 2), ("log written", 9), ("database read", 12), ("source read", 0), ("archive synced", 0)}


THREE = """
import sys
from pathlib import Path
from tracker.errors import StorageError
from tracker.paths import Workspace
from tracker.views.plan import Changes
from tracker.views.tree import writing

try:
    with writing(Workspace(Path(sys.argv[1]), environ={}), ahead=3) as tree:
        for home in ("_shared/Copa/a", "_shared/Copa/b", "_shared/Copa/c"):
            tree.apply(Changes(directories=(home,)), {f"{home}/Copa/copa_train.jsonl": b"{}\\n"})
except StorageError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace, and an archive of another one."""
    for name in ("other", "here"):
        root = new_root(tmp_path_factory.mktemp(name), COUNT)
        write_config(root, config(generation__temperature=0.7 if name == "here" else 0.2))
        assert call(root, *GENERATE).code == 0
        if name == "other":
            archive = root.parent / "other.zip"
            assert call(root, "export", "first", archive).code == 0
    shutil.copyfile(archive, root / "other.zip")
    return root


@pytest.mark.parametrize(
    ("name", "after"), [case if case in SHORT else pytest.param(*case, marks=pytest.mark.soak) for case in ALL]
)
def test_a_call_that_fails_is_told_and_the_same_command_ends_the_same(
    name: str, after: int, made: Path, tmp_path: Path
) -> None:
    command, calls, path, _, number = CASES[name]
    quiet, root = (
        Path(shutil.copytree(made, tmp_path / each / "workspace", symlinks=True)) for each in ("quiet", "bad")
    )
    if command[0] == "view":
        for each in (quiet, root):
            shutil.rmtree(each / "Data_v2/synthetic")
    assert call(quiet, *command).code == 0
    environ = failing(calls, path, after=after, number=number)
    done: Done = finish(started(root, *command, environ={**environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}))
    # A note instead, where the record is whole and only the tree has to wait.
    if done.code or "Note: " not in done.err:
        assert done.code in {3, 6, 11, 12}, done
        assert is_told(done, done.code)
    again = call(root, *command)
    assert again.code == 0, again.err
    assert tree(root / "Data_v2") == tree(quiet / "Data_v2")
    sql = "SELECT e.fingerprint, s.position, s.status, s.rephrased FROM sample s "
    sql += "JOIN shared_experiment e ON e.id = s.shared_experiment_id ORDER BY 1, 2"
    assert rows(root, sql) == rows(quiet, sql)
    assert [path.name for path in root.rglob(".synthtrack-tmp*")] == []
    verified = call(root, "verify")
    assert [line for line in verified.out.splitlines() if line[:1] == "❌" and "MLflow" not in line] == []


def test_a_disk_that_fails_for_a_moment_costs_nothing(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))
    environ = failing("pwrite", "tracker.db-wal", after=20, count=1)
    done = finish(started(root, *OTHER, environ=environ))
    again = call(root, *OTHER)
    assert again.code == 0, again.err
    assert done.code in {0, 11}
    assert rows(root, "SELECT COUNT(*) FROM sample") == [(2 * COUNT,)]
    # Each answer was paid for once, whichever commit it was that failed.
    paid = rows(root, "SELECT COUNT(*), COUNT(DISTINCT request_key) FROM attempt WHERE failure IS NULL")[0]
    assert paid[0] == paid[1]


@pytest.mark.parametrize("synced", [0, 5, 8])
def test_nothing_bears_its_name_before_all_of_it_is_on_the_disk(synced: int, tmp_path: Path) -> None:
    # Three directories written together, each with one in it and a file: nine syncs before the first is seen.
    environ = {**os.environ, **failing("fsync", "_shared/Copa/.synthtrack-tmp", after=synced)}
    command = [sys.executable, "-c", THREE, str(tmp_path)]
    done = subprocess.run(command, env=environ, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "Input/output error" in done.stdout
    assert [*(tmp_path / "Data_v2/synthetic/_shared/Copa").iterdir()] == []


def test_a_name_is_there_once_all_of_it_is_on_the_disk(tmp_path: Path) -> None:
    environ = {**os.environ, **failing("fsync", "_shared/Copa/.synthtrack-tmp", after=9)}
    command = [sys.executable, "-c", THREE, str(tmp_path)]
    done = subprocess.run(command, env=environ, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert sorted(path.name for path in (tmp_path / "Data_v2/synthetic/_shared/Copa").iterdir()) == ["a", "b", "c"]
