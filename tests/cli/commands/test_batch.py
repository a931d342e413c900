from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock

from cli.main import run
from tests.records import add_batch, add_experiment, add_source, temperature_study
from tracker.paths import Workspace
from tracker.record.database import open_database

RULE = "=" * 80
THIN = "-" * 80


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    temperature_study(tmp_path)
    return tmp_path


def test_lists_batches_with_the_number_of_their_experiments(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Found 2 batches
{RULE}

📦 batch_20241228_pilot
   Experiments: 1

📦 batch_20241229_temperature
   Experiments: 4
"""
    )


def test_names_the_experiments_of_each_batch(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--verbose"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Found 2 batches
{RULE}

📦 batch_20241228_pilot
   Experiments: 1
   Copa: 1 experiment
      - temp07_topp10_gpt4o

📦 batch_20241229_temperature
   Experiments: 4
   Copa: 3 experiments
      - temp05_topp10_gpt4o
      - temp07_topp10_gpt4o
      - temp09_topp10_gpt4o (unfinished)
   CB: 1 experiment
      - temp07_topp10_gpt4o
"""
    )


def test_a_limit_keeps_the_newest_and_says_what_it_leaves_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--limit", "1"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Found 2 batches
{RULE}

📦 batch_20241229_temperature
   Experiments: 4

💾 1 older batch not shown; --limit 0 shows all.
"""
    )


def test_a_batch_of_many_experiments_names_some_and_says_how_to_see_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_database(Workspace(tmp_path, environ={})) as database, database.writing() as connection:
        source = add_source(connection)
        batch = add_batch(connection, "batch_many")
        for n in range(1001):
            add_experiment(connection, f"temp_{n:04d}", batch=batch, source=source, status="unfinished")
    assert run(["--root", str(tmp_path), "batch", "list", "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4:8] == [
        "📦 batch_many",
        "   Experiments: 1,001",
        "   Copa: 1,000 shown",
        "      - temp_0001 (unfinished)",
    ]
    assert lines[-1] == "   1 more: synthtrack batch show batch_many --limit 0"
    assert run(["--root", str(tmp_path), "batch", "list", "--verbose", "--limit", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7 + 1001


def test_shows_what_a_batch_reused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "show", "batch_20241229_temperature"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Batch: batch_20241229_temperature
Experiments: 4
{RULE}

📊 Copa (3 experiments)
{THIN}

  🔧 temp05_topp10_gpt4o
     Batch view: batch_20241229_temperature/Copa/temp05_topp10_gpt4o
     ⚡ Data reuse: No (newly generated)

  🔧 temp07_topp10_gpt4o
     Batch view: batch_20241229_temperature/Copa/temp07_topp10_gpt4o
     ⚡ Data reuse: Yes (original batch: batch_20241228_pilot)

  🔧 temp09_topp10_gpt4o
     Batch view: batch_20241229_temperature/Copa/temp09_topp10_gpt4o
     ⚠️ Status: unfinished
     ⚡ Data reuse: No (newly generated)

📊 CB (1 experiment)
{THIN}

  🔧 temp07_topp10_gpt4o
     Batch view: batch_20241229_temperature/CB/temp07_topp10_gpt4o
     ⚡ Data reuse: No (newly generated)
"""
    )


def test_shows_more_of_a_batch_and_less_of_its_data_sets(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "show", "batch_20241229_temperature", "--dataset", "CB", "--verbose"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Batch: batch_20241229_temperature
Experiments: 1
Purpose: temperature_study
Description: How warm?
Created: 2024-12-29 10:30:00
Reused: 1 of 4 experiments
Cost: unknown
{RULE}

📊 CB (1 experiment)
{THIN}

  🔧 temp07_topp10_gpt4o
     Batch view: batch_20241229_temperature/CB/temp07_topp10_gpt4o
     Physical storage: _shared/CB/temp07_topp10_gpt4o
     Created: 2024-12-29 10:30:00
     Parameter fingerprint: c139b03cfa54
     ⚡ Data reuse: No (newly generated)
     Generation model: gpt-4o
     Temperature: 0.7
     Top_p: 1.0
"""
    )


def test_a_cut_batch_counts_what_it_shows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "show", "batch_20241229_temperature", "--limit", "1"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Batch: batch_20241229_temperature
Experiments: 4
{RULE}

📊 CB (1 shown)
{THIN}

  🔧 temp07_topp10_gpt4o
     Batch view: batch_20241229_temperature/CB/temp07_topp10_gpt4o
     ⚡ Data reuse: No (newly generated)

💾 3 older experiments not shown; --limit 0 shows all.
"""
    )


def test_gives_json_named_as_the_columns(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "id": 1,
        "name": "batch_20241228_pilot",
        "purpose": "pilot",
        "description": "",
        "created_at": "2024-12-29T10:30:00.000000Z",
        "n_experiments": 1,
    }
    assert run(["batch", "show", "batch_20241228_pilot", "--json"]) == 0
    batch = json.loads(capsys.readouterr().out)
    assert batch["cost_usd"] == 0.012
    assert batch["n_unpriced"] == 0
    (experiment,) = batch["experiments"]
    assert list(experiment) == [
        "batch", "reused", "joined_at", "id", "fingerprint", "dataset", "name", "reference", "status", "provider",
        "endpoint", "model", "temperature", "top_p", "max_tokens", "validation_model", "validation_temperature",
        "strategy", "field_to_rephrase", "record_limit", "draw", "purpose", "description", "original_batch",
        "n_batches", "n_records", "n_accepted", "n_rejected", "n_unclear", "n_failed", "acceptance_rate",
        "prompt_tokens", "completion_tokens", "cost_usd", "cost_per_accepted_usd", "created_at", "completed_at",
        "data_digest", "legacy_fingerprint", "directory", "train_path",
    ]  # fmt: skip
    assert experiment["reused"] is False
    assert experiment["acceptance_rate"] == 0.75


def test_json_names_every_experiment_of_every_batch(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--verbose", "--json"]) == 0
    _, study = json.loads(capsys.readouterr().out)
    assert [(each["dataset"], each["name"]) for each in study["experiments"]] == [
        ("CB", "temp07_topp10_gpt4o"),
        ("Copa", "temp05_topp10_gpt4o"),
        ("Copa", "temp07_topp10_gpt4o"),
        ("Copa", "temp09_topp10_gpt4o"),
    ]


def test_brings_the_tree_of_what_it_shows_up_to_date(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = root / "Data_v2/synthetic/batch_20241228_pilot/Copa/temp07_topp10_gpt4o"
    assert run(["batch", "list"]) == 0
    assert not link.is_symlink()
    assert run(["batch", "show", "batch_20241228_pilot"]) == 0
    assert str(link.readlink()) == "../../_shared/Copa/temp07_topp10_gpt4o"
    assert (link / "Copa/copa_train.jsonl").read_text().count("\n") == 4
    assert not (root / "Data_v2/synthetic/_shared/CB").exists()


def test_a_tree_that_cannot_be_written_is_a_note(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "Data_v2").write_text("in the way")
    assert run(["batch", "show", "batch_20241228_pilot"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{RULE}\nBatch: batch_20241228_pilot\n")
    assert told.err.startswith("Note: the directory tree was not brought up to date: ")


def test_a_tree_that_another_process_writes_now_is_a_note(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(root / ".view.lock"):
        assert run(["batch", "show", "batch_20241228_pilot"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{RULE}\nBatch: batch_20241228_pilot\n")
    assert f"Another process is writing {root}/Data_v2/synthetic now." in told.err
    assert not (root / "Data_v2").exists()


@pytest.mark.parametrize("damage", ["data_digest = 'another'", "config = 'no JSON'", "name = '..'"])
def test_rows_that_contradict_each_other_keep_nobody_from_the_rest(
    damage: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute(f"UPDATE shared_experiment SET {damage} WHERE name LIKE 'temp05%'")
        connection.commit()
    assert run(["batch", "show", "batch_20241229_temperature"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{RULE}\nBatch: batch_20241229_temperature\n")
    assert "_shared/Copa/.." in told.err if "name" in damage else "_shared/Copa/temp05_topp10_gpt4o" in told.err
    assert "`synthtrack view check` lists all differences." in told.err
    made = sorted(path.parent.name for path in (root / "Data_v2/synthetic/_shared").glob("*/temp07*"))
    assert made == ["CB", "Copa"]


def test_says_which_batch_was_meant(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "show", "batch_20241228_pilt"]) == 4
    assert capsys.readouterr().err == (
        "Error: No batch 'batch_20241228_pilt'.\n"
        "Did you mean batch_20241228_pilot or batch_20241229_temperature?\n"
        "`synthtrack batch list` shows them.\n"
    )


def test_says_which_data_sets_there_are(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "show", "batch_20241228_pilot", "--dataset", "copa"]) == 4
    assert capsys.readouterr().err == (
        "Error: No experiments on data set 'copa'.\nDid you mean Copa?\nThere are experiments on CB, Copa.\n"
    )


def test_an_empty_workspace_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    assert run(["batch", "list", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"{RULE}\nFound 0 batches\n{RULE}\n\n💾 `synthtrack generate CONFIG` makes the first one.\n"
    )


def test_no_workspace_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "list", "--root", str(tmp_path)]) == 4
    assert "`synthtrack init` makes one here" in capsys.readouterr().err
