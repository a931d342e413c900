"""What was deleted after a backup, once that backup is put back: in the trash as before, or in its place again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.killing import forge
from tests.training_rows import training_study
from tests.workspaces import call, config, new_root, rows, write_config

NAME = "Copa/temp07_topp10_rulesv1"
OTHER = f"{NAME}_2"
BACK = ("restore", "study.db", "--yes")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace that made an experiment and a batch after its backup, and deleted both."""
    root = new_root(tmp_path, 4)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    assert call(root, "backup", "study.db").code == 0
    other = ("--set", "generation.rephrase_prompt=Say {premise} anew", "--batch", "later")
    assert call(root, "generate", "copa.yaml", "--no-mlflow", *other).code == 0
    assert call(root, "batch", "delete", "later", "--yes", "--no-mlflow").code == 0
    assert call(root, "experiment", "delete", OTHER, "--yes", "--no-mlflow").code == 0
    return root


def restorable(root: Path) -> list[str]:
    found: list[dict[str, Any]] = json.loads(call(root, "trash", "list", "--json").out)["entries"]
    return [each["name"] for each in found if each["state"] == "restorable"]


def is_sound(root: Path) -> bool:
    return (call(root, "verify").code, call(root, "view", "check").code) == (0, 0)


def test_what_the_backup_does_not_know_can_still_be_restored(root: Path) -> None:
    samples = rows(root, "SELECT COUNT(*) FROM sample")[0][0]
    done = call(root, *BACK)
    assert f"Deleted since, and still in the trash: later, {OTHER}." in done.out
    assert sorted(restorable(root)) == [OTHER, "later"]
    assert is_sound(root)
    assert call(root, "restore", OTHER, "--no-mlflow").code == 0
    assert call(root, "restore", "later", "--no-mlflow").code == 0
    assert rows(root, "SELECT COUNT(*) FROM sample") == [(2 * samples,)]
    assert (root / f"Data_v2/synthetic/later/{OTHER}/Copa").is_dir()
    assert restorable(root) == []
    assert is_sound(root)


def test_the_same_backup_again_adds_no_entry(root: Path) -> None:
    for _ in range(2):
        assert call(root, *BACK).code == 0
        assert len(restorable(root)) == 2


def test_killed_before_the_trash_is_known_again_the_same_command_goes_on(root: Path, tmp_path: Path) -> None:
    with forge(tmp_path / "forge") as forged:
        assert [forged.killed(root, *BACK, step=step).was_killed for step in range(8, 34, 6)] == [True] * 5
    assert call(root, *BACK).code == 0
    assert sorted(restorable(root)) == [OTHER, "later"]
    assert is_sound(root)


def test_an_archive_that_is_damaged_stays_and_is_no_entry(root: Path) -> None:
    (archive,) = (root / ".trash").glob("experiment-*.zip")
    archive.write_bytes(archive.read_bytes()[:-40])
    assert call(root, *BACK).code == 0
    assert restorable(root) == ["later"]
    assert archive.exists()


def test_result_directories_come_back_with_their_runs(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    name = "temp09 1e-06 seed 1"
    (directory,) = rows(tmp_path, "SELECT directory FROM training_run WHERE id = ?", study.runs[name])[0]
    (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    (tmp_path / directory / "result.json").write_text("{}")
    assert call(tmp_path, "backup", "study.db").code == 0
    assert call(tmp_path, "result", "delete", study.uuid(name)[:8], "--yes", "--no-mlflow").code == 0
    assert not (tmp_path / directory).exists()
    # Its experiments were never written: only what the trash does is looked at.
    assert "Restored: 3 experiments" in call(tmp_path, *BACK).out
    assert (tmp_path / directory / "result.json").read_text() == "{}"
    assert restorable(tmp_path) == []
