"""Damage to what was imported, exported or deleted, and what ``verify`` says and does about it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.old_trees import write_tree
from tests.workspaces import call, config, rows, tree, write_config, write_records

NAME = "temp07_topp10_rulesv1"
HOME = f"Data_v2/synthetic/_shared/Copa/{NAME}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    return root


def edit(root: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def said(root: Path, *options: str) -> list[tuple[str, str]]:
    done = call(root, "verify", "--json", *options)
    found = json.loads(done.out)["findings"]
    assert done.code == (6 if found else 0)
    assert all(each["where"] and each["remedy"] for each in found)
    return [(each["kind"], each["what"]) for each in found]


def test_imported_data_that_stays_in_its_tree_is_missed_there(root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "old")
    done = call(root, "import", tmp_path / "old")
    assert "Traceback" not in done.err
    assert said(root) == []
    [(directory, path), *_] = rows(
        root,
        "SELECT e.directory, f.path FROM shared_experiment e JOIN imported_file f ON f.shared_experiment_id = e.id "
        "WHERE f.split = 'train' ORDER BY e.id",
    )
    data = root / directory / path
    content = data.read_bytes()
    data.write_bytes(content + b"{}\n")
    assert said(root) == [("imported data", "changed since it was imported")]
    data.unlink()
    assert said(root) == [("imported data", "missing where it was imported from")]
    data.write_bytes(content)
    edit(root, "UPDATE imported_file SET digest = ? WHERE path = ? AND shared_experiment_id = 1", "0" * 64, path)
    assert ("imported data", f"{path}: SHA-256 000000000000 is recorded, its content has another") in said(root)
    edit(root, "UPDATE imported_file SET content = x'00' WHERE path = ? AND shared_experiment_id = 1", path)
    assert any(kind == "imported data" and "stored content is damaged" in what for kind, what in said(root))


@pytest.mark.parametrize("own", [False, True])
def test_imported_data_that_is_gone_or_changed_is_brought_back_out_of_the_record(
    root: Path, tmp_path: Path, *, own: bool
) -> None:
    project = write_tree(root if own else tmp_path / "old")
    call(root, "import", project)
    chosen = "SELECT e.directory FROM shared_experiment e WHERE e.name = 'temp05_topp10_gpt4o'"
    [(directory,)] = rows(root, chosen)
    data = root / directory / "Copa" / "copa_train.jsonl"
    content = data.read_bytes()
    data.write_bytes(b"{}\n")
    (data.parent / "copa_test.jsonl").unlink()
    before = {} if own else tree(project)
    done = json.loads(call(root, "verify", "--json").out)
    assert {each["fixable"] for each in done["findings"]} == {True}
    for each in done["findings"]:
        assert "`synthtrack verify Copa/temp05_topp10_gpt4o --fix`" in each["remedy"]
    assert said(root, "Copa/temp05_topp10_gpt4o", "--fix") == []
    assert rows(root, chosen) == [(None,)]
    home = root / "Data_v2/synthetic/_shared/Copa/temp05_topp10_gpt4o/Copa"
    assert (home / "copa_train.jsonl").read_bytes() == content
    assert (home / "copa_test.jsonl").exists()
    if own:
        assert [path.read_bytes() for path in (root / ".trash").rglob("copa_train.jsonl")] == [b"{}\n"]
    else:
        assert tree(project) == before
    assert said(root) == []


def test_imported_data_that_the_record_has_lost_too_is_left_alone(root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "old")
    call(root, "import", tmp_path / "old")
    [(directory,)] = rows(root, "SELECT directory FROM shared_experiment WHERE name = 'temp05_topp10_gpt4o'")
    (root / directory / "Copa/copa_test.jsonl").unlink()
    edit(root, "UPDATE imported_file SET content = x'00' WHERE split = 'train'")
    damaged = "Could not be mended: The stored content of Copa/copa_train.jsonl is damaged"
    done = json.loads(call(root, "verify", "--json", "--fix").out)["done"]
    assert any(line.startswith(damaged) for line in done), done
    assert rows(root, "SELECT directory FROM shared_experiment WHERE name = 'temp05_topp10_gpt4o'") == [(directory,)]


def test_imported_data_of_our_own_tree_is_written_anew(root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "old")
    call(root, "import", tmp_path / "old", "--copy")
    assert said(root) == []
    shutil.rmtree(root / "Data_v2")
    assert {kind for kind, _ in said(root)} == {"tree"}
    assert said(root, "--fix") == []


def generated(root: Path) -> None:
    write_records(root, 4)
    write_config(root, config())
    done = call(root, "generate", "copa.yaml", "--no-mlflow")
    assert done.code == 0, done.err


def test_what_came_from_another_machine_is_as_recorded(root: Path, tmp_path: Path) -> None:
    generated(root)
    assert call(root, "export", "first", "first.zip").code == 0
    other = tmp_path / "other"
    other.mkdir()
    assert call(other, "import", root / "first.zip").code == 0
    assert said(other) == []
    edit(other, "UPDATE sample SET rephrased = 'Something else.' WHERE position = 1")
    assert ("experiment", "sample 2 has a rephrased text that its answer in the ledger does not give") in said(other)


def test_a_deletion_that_was_not_finished_is_finished(root: Path) -> None:
    generated(root)
    kept = root / "kept"
    shutil.copytree(root / HOME, kept)
    assert call(root, "batch", "delete", "first", "--yes", "--no-mlflow").code == 0
    assert call(root, "experiment", "delete", f"Copa/{NAME}", "--yes", "--no-mlflow").code == 0
    assert said(root) == []
    # As if the process had been killed before it moved the files.
    for entry in (root / ".trash").glob("experiment-*/"):
        shutil.rmtree(entry)
    (root / HOME).parent.mkdir(parents=True)
    kept.rename(root / HOME)
    edit(root, "UPDATE deletion SET settled_at = NULL, paths = ? WHERE kind = 'experiment'", json.dumps([HOME]))
    assert ("deletion", "its files are still to be moved, or MLflow is still to be told") in said(root)
    assert said(root, "--fix") == []
    assert not (root / HOME).exists()


def test_what_is_restored_from_the_trash_is_as_recorded(root: Path) -> None:
    generated(root)
    assert call(root, "batch", "delete", "first", "--yes", "--no-mlflow").code == 0
    assert call(root, "experiment", "delete", f"Copa/{NAME}", "--yes", "--no-mlflow").code == 0
    assert call(root, "restore", f"Copa/{NAME}", "--no-mlflow").code == 0
    assert call(root, "restore", "first", "--no-mlflow").code == 0
    assert said(root) == []


def test_an_archive_that_was_lost_or_changed_is_said(root: Path) -> None:
    generated(root)
    assert call(root, "batch", "delete", "first", "--yes", "--no-mlflow").code == 0
    [(archive,)] = rows(root, "SELECT archive FROM deletion")
    content = (root / archive).read_bytes()
    (root / archive).write_bytes(content + b"x")
    assert said(root) == [("deletion", f"its archive {archive} was changed, or is damaged")]
    (root / archive).unlink()
    assert said(root, "--fix") == [("deletion", f"its archive {archive} is missing")]
    (root / archive).write_bytes(content)
    assert said(root) == []
