"""Trainings find the experiment of their data again, whichever of the two comes back first."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.old_trees import write_tree
from tests.workspaces import call, rows

NAME = "Copa/temp05_topp10_gpt4o"
RUN = "Results_v2/tuning/meta-llama/Llama-3.2-1B/Copa_zo_temp05_topp10_gpt4o_1_6/20251226_143000"
LINKED = """
    SELECT e.dataset || '/' || e.name FROM training_data d
    LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id"""


def write_run(old: Path) -> Path:
    directory = old / RUN
    directory.mkdir(parents=True)
    config = {
        "timestamp": "20251226_143000", "experiment_purpose": "tuning", "model": "meta-llama/Llama-3.2-1B",
        "task": "Copa", "method": "zo", "hyperparameters": {"learning_rate": 1e-6, "batch_size": 16, "seed": 0},
        "data": {"path": f"Data_v2/synthetic/batch_20241229_temperature/{NAME}/Copa"},
    }  # fmt: skip
    (directory / "experiment_config.yaml").write_text(json.dumps(config))
    (directory / "1_6_train.out").write_text("{'loss': 0.69, 'step': 10}\n{'train_runtime': 60.0}\n")
    (directory / "1_6_train.err").write_text("{'accuracy': 0.5}\n")
    return directory


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


def test_other_data_under_the_same_settings_is_not_linked(root: Path) -> None:
    with sqlite3.connect(root / "tracker.db") as connection:
        connection.execute("UPDATE training_data SET train_digest = 'other'")
    connection.close()
    assert call(root, "restore", NAME, "--no-mlflow").code == 0
    assert rows(root, LINKED) == [(None,)]
