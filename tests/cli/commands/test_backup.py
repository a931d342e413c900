"""``backup``, and ``restore`` of one, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tracker.backups.test_backup import generate
from tests.workspaces import call, config, execute, rows, tree, write_config, write_records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_records(root, 8)
    write_config(root, config())
    generate(root, 0.7)
    assert call(root, "backup", "one.db").code == 0
    generate(root, 0.9)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


def test_a_backup_says_what_is_in_it_and_what_is_not(root: Path) -> None:
    done = call(root, "backup", "two.db")
    assert (done.code, done.err) == (0, "")
    first, second, third = done.out.splitlines()
    assert first.startswith(f"✅ {root / 'two.db'} (")
    assert second == "It holds 2 experiments, 1 batch, 2 generation runs, 18 paid attempts."
    assert third == "Not in it: what lies in Results_v2 and Data/original, and your configs."
    again = call(root, "backup", "two.db")
    assert (again.code, again.out) == (5, "")
    assert "--overwrite" in again.err
    found = json.loads(call(root, "backup", "two.db", "--overwrite", "--json").out)
    assert (found["path"], found["experiments"]) == (str(root / "two.db"), 2)


def test_a_backup_comes_back_with_its_tree(root: Path) -> None:
    done = call(root, "restore", "one.db", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("✅ Restored: 1 experiment, 1 batch, 1 generation run, ")
    assert "experiment      2         1      -1" in done.out
    [kept] = (root / ".trash").glob("tracker-before-restore-*.db")
    assert f"What was there before is kept in .trash/{kept.name}." in done.out
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(1,)]
    assert "temp09" not in tree(root / "Data_v2/synthetic/first")
    assert call(root, "verify").code == 0
    found = json.loads(call(root, "restore", kept, "--yes", "--json").out)
    assert (found["restored"]["experiments"], found["before"]["experiments"]) == (2, 1)
    assert found["trees"]["synthetic"]["written"] >= 1
    assert call(root, "verify").code == 0


def test_without_a_person_to_ask_nothing_is_replaced(root: Path) -> None:
    done = execute(root, "restore", root / "one.db")
    assert (done.code, done.out) == (5, "")
    assert "The database holds 2 experiments" in done.err
    assert "--yes does it." in done.err
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(2,)]


def test_what_is_neither_a_file_nor_in_the_trash_is_said(root: Path) -> None:
    done = call(root, "restore", "nothing.db", "--yes")
    assert (done.code, "Traceback" in done.err) == (4, False)


def test_a_file_that_is_no_backup_is_refused(root: Path) -> None:
    done = call(root, "restore", "copa.yaml", "--yes")
    assert (done.code, "is damaged, or no database" in done.err) == (6, True)
