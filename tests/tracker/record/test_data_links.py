"""Trainings find the experiment of their data again, whichever of the two comes back first."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.old_trees import RUN, write_run, write_tree
from tests.workspaces import call, rows

NAME = "Copa/temp05_topp10_gpt4o"
LINKED = """
    SELECT e.dataset || '/' || e.name FROM training_data d
    LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace that has an imported training, whose experiment is in the trash."""
    root, old = tmp_path / "workspace", write_tree(tmp_path / "old")
    root.mkdir()
    write_run(old)
    call(root, "import", old, "--copy")
    assert rows(root, LINKED) == [(NAME,)]
    ((run,),) = rows(root, "SELECT uuid FROM training_run")
    assert call(root, "result", "delete", run[:8], "--yes", "--no-mlflow").code == 0
    for (batch,) in rows(root, "SELECT name FROM batch WHERE deleted_at IS NULL"):
        assert call(root, "batch", "delete", batch, "--yes", "--no-mlflow").code == 0
    assert call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow").code == 0
    done = call(root, "restore", str(old / RUN), "--no-mlflow")
    assert done.code == 0, done
    assert rows(root, LINKED) == [(None,)]
    return root


def test_a_run_that_was_restored_first_is_linked_when_its_experiment_is(root: Path) -> None:
    assert call(root, "restore", NAME, "--no-mlflow").code == 0
    assert rows(root, LINKED) == [(NAME,)]
    assert "Say it in other words" in call(root, "lineage", root.parent / "old" / RUN).out


def test_a_run_is_linked_when_its_experiment_is_imported_again(root: Path) -> None:
    shutil.rmtree(root.parent / "old/Results_v2")
    call(root, "import", root.parent / "old", "--copy")
    assert rows(root, LINKED) == [(NAME,)]


def test_a_link_that_is_lacking_is_named_and_mended(root: Path) -> None:
    assert call(root, "restore", NAME, "--no-mlflow").code == 0
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE training_data SET shared_experiment_id = NULL")
    connection.close()
    done = call(root, "verify")
    assert (done.code, f"its data is that of {NAME}, which is here" in done.out) == (6, True), done
    assert "Linked 1 data set of trainings" in call(root, "verify", "--fix").out
    assert rows(root, LINKED) == [(NAME,)]
    assert call(root, "verify").code == 0


def test_what_was_imported_again_is_not_restored_beside_it(root: Path) -> None:
    old = root.parent / "old"
    ((run,),) = rows(root, "SELECT uuid FROM training_run")
    assert call(root, "result", "delete", run[:8], "--yes", "--no-mlflow").code == 0
    call(root, "import", old, "--copy")
    done = call(root, "restore", old / RUN, "--no-mlflow")
    assert (done.code, "has been made anew meanwhile" in done.err) == (5, True), done
    assert rows(root, LINKED) == [(NAME,)]
    (batch, *_) = (name for (name,) in rows(root, "SELECT name FROM batch WHERE deleted_at IS NULL"))
    assert f"Batch {batch} is there as it was" in call(root, "restore", batch, "--no-mlflow").out


def test_other_data_under_the_same_settings_is_not_linked(root: Path) -> None:
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE training_data SET train_digest = 'other'")
    connection.close()
    assert call(root, "restore", NAME, "--no-mlflow").code == 0
    assert rows(root, LINKED) == [(None,)]
