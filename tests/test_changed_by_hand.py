"""What somebody changed in the tree by hand comes back with the next command, and nothing of theirs is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workspaces import call, config, new_root, train_file, tree, write_config

GENERATE = ("generate", "copa.yaml", "--no-mlflow")
OFFLINE = "temp07_topp10_rulesv1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = new_root(tmp_path, 40)
    write_config(root, config())
    return root


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
