from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from cli.main import run
from tests.records import add_batch, add_membership, temperature_study
from tracker.paths import Workspace
from tracker.record.database import open_database

TREE = "Data_v2/synthetic"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    temperature_study(tmp_path)
    return tmp_path


def test_lists_paths_for_a_training_config(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "list", "--dataset", "Copa"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
📁 Copa / temp05_topp10_gpt4o
   ✅ Batch path (recommended):
      {TREE}/batch_20241229_temperature/Copa/temp05_topp10_gpt4o/Copa

   📦 Shared path (physical storage):
      {TREE}/_shared/Copa/temp05_topp10_gpt4o/Copa

📁 Copa / temp07_topp10_gpt4o
   ✅ Batch path (recommended):
      {TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa
      also in batch_20241229_temperature

   📦 Shared path (physical storage):
      {TREE}/_shared/Copa/temp07_topp10_gpt4o/Copa

📁 Copa / temp09_topp10_gpt4o
   ⚠️ Status: unfinished
   No data yet: `synthtrack experiment show` says what is next.
"""
    )


def test_the_paths_of_a_batch_lead_through_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "list", "--batch", "batch_20241229_temperature", "--limit", "1"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
📁 CB / temp07_topp10_gpt4o
   ✅ Batch path (recommended):
      {TREE}/batch_20241229_temperature/CB/temp07_topp10_gpt4o/CB

   📦 Shared path (physical storage):
      {TREE}/_shared/CB/temp07_topp10_gpt4o/CB

💾 3 older experiments not shown; --limit 0 shows all.
"""
    )


def test_the_yaml_is_a_training_configs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "list", "--batch", "batch_20241229_temperature", "--format", "yaml", "--limit", "3"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[:5] == [
        "# CB / temp07_topp10_gpt4o",
        "data:",
        f'  path: "{TREE}/batch_20241229_temperature/CB/temp07_topp10_gpt4o/CB"',
        f'  # path: "{TREE}/_shared/CB/temp07_topp10_gpt4o/CB"',
        "---",
    ]
    assert "# Copa / temp09_topp10_gpt4o (unfinished)" in text
    assert text.splitlines()[-1] == "# 💾 1 older experiment not shown; --limit 0 shows all."
    documents = [each for each in yaml.safe_load_all(text) if each is not None]
    assert len(documents) == 2
    for each in documents:
        assert (root / each["data"]["path"]).is_dir()


def test_the_yaml_says_a_place_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE shared_experiment SET directory = 'old/' || name")
    assert run(["path", "list", "--batch", "batch_20241228_pilot", "--format", "yaml"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if "path: " in line]) == 1


def test_prints_a_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "list", "--batch", "batch_20241228_pilot", "--format", "table"]) == 0
    heads, rule, row = capsys.readouterr().out.splitlines()
    assert heads.split("  ")[0] == "Dataset"
    assert set(rule) == {"-", " "}
    assert row.split() == [
        "Copa",
        "temp07_topp10_gpt4o",
        "complete",
        f"{TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa",
        f"{TREE}/_shared/Copa/temp07_topp10_gpt4o/Copa",
    ]


def test_names_some_of_many_batches(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
        for n in range(4):
            add_membership(connection, add_batch(connection, f"batch_{n}"), 1)
    assert run(["path", "list", "--batch", "batch_20241228_pilot"]) == 0
    assert "      also in batch_20241229_temperature, batch_0, batch_1 and 2 more\n" in capsys.readouterr().out


def test_lists_paths_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "list", "--batch", "batch_20241228_pilot", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": 1,
            "dataset": "Copa",
            "name": "temp07_topp10_gpt4o",
            "reference": "Copa/temp07_topp10_gpt4o",
            "fingerprint": "0133d6452eaa",
            "status": "complete",
            "original_batch": "batch_20241228_pilot",
            "batch": "batch_20241228_pilot",
            "batch_path": f"{TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa",
            "shared_path": f"{TREE}/_shared/Copa/temp07_topp10_gpt4o/Copa",
            "batches": ["batch_20241228_pilot", "batch_20241229_temperature"],
        }
    ]


def test_resolves_a_batch_path_to_the_shared_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "resolve", f"{TREE}/batch_20241229_temperature/Copa/temp07_topp10_gpt4o/Copa"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
📁 Copa / temp07_topp10_gpt4o
   ✅ Batch path:
      {TREE}/batch_20241229_temperature/Copa/temp07_topp10_gpt4o/Copa

   📦 Shared path (physical storage):
      {TREE}/_shared/Copa/temp07_topp10_gpt4o/Copa

   ⚡ Data reuse: Yes (original batch: batch_20241228_pilot)
   ✅ Referenced by 2 batches:
      {TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa (original)
      {TREE}/batch_20241229_temperature/Copa/temp07_topp10_gpt4o/Copa (reused)
"""
    )
    assert (root / TREE / "batch_20241229_temperature/Copa/temp07_topp10_gpt4o").is_symlink()


def test_resolves_a_shared_path_to_every_batch(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "resolve", f"{TREE}/_shared/Copa/temp07_topp10_gpt4o", "--limit", "1"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
📁 Copa / temp07_topp10_gpt4o
   📦 Shared path (physical storage):
      {TREE}/_shared/Copa/temp07_topp10_gpt4o/Copa

   ✅ Referenced by 2 batches:
      {TREE}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa (original)
      💾 1 more not shown; --limit 0 shows all.
"""
    )


def test_resolves_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "resolve", "--json", f"{TREE}/_shared/CB/temp07_topp10_gpt4o/CB"]) == 0
    resolved = json.loads(capsys.readouterr().out)
    assert resolved["batch"] is None
    assert resolved["batch_path"] is None
    assert resolved["shared_path"] == f"{TREE}/_shared/CB/temp07_topp10_gpt4o/CB"
    assert resolved["references"] == [
        {
            "batch": "batch_20241229_temperature",
            "reused": False,
            "path": f"{TREE}/batch_20241229_temperature/CB/temp07_topp10_gpt4o/CB",
        }
    ]


def test_says_that_a_batch_does_not_hold_an_experiment(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["path", "resolve", f"{TREE}/batch_20241228_pilot/Copa/temp05_topp10_gpt4o"]) == 4
    assert capsys.readouterr().err == (
        "Error: No experiment in batch_20241228_pilot named 'Copa/temp05_topp10_gpt4o'.\n"
        "`synthtrack path resolve Copa/temp05_topp10_gpt4o` shows the batches that it is in.\n"
    )
