from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from cli.main import run
from tests.records import add_batch, add_experiment, add_sample, add_source, temperature_study
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.schema import SharedExperiment

RULE = "=" * 80
THIN = "-" * 80
WARM = "Copa/temp07_topp10_gpt4o"
COOL = "Copa/temp05_topp10_gpt4o"
HOT = "Copa/temp09_topp10_gpt4o"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    temperature_study(tmp_path)
    return tmp_path


def change(root: Path, name: str, **values: Any) -> None:
    with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
        connection.execute(update(SharedExperiment).where(SharedExperiment.name == name).values(**values))  # type: ignore[arg-type]  # SQLModel types columns as their values


def test_lists_what_is_in_shared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "list"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Physical experiment data in _shared/
Experiments: 4
{RULE}

📊 Copa (3 experiments)
{THIN}

  📦 temp05_topp10_gpt4o
     Physical path: _shared/Copa/temp05_topp10_gpt4o
     Parameter fingerprint: 6f87f1f811fe
     Created: 2024-12-29 10:30:00
     Original batch: batch_20241229_temperature

  📦 temp07_topp10_gpt4o
     Physical path: _shared/Copa/temp07_topp10_gpt4o
     Parameter fingerprint: 0133d6452eaa
     Created: 2024-12-29 10:30:00
     Original batch: batch_20241228_pilot

  📦 temp09_topp10_gpt4o
     Physical path: _shared/Copa/temp09_topp10_gpt4o
     Parameter fingerprint: 605e9eb6e90d
     Created: 2024-12-29 10:30:00
     Original batch: batch_20241229_temperature
     ⚠️ Status: unfinished

📊 CB (1 experiment)
{THIN}

  📦 temp07_topp10_gpt4o
     Physical path: _shared/CB/temp07_topp10_gpt4o
     Parameter fingerprint: c139b03cfa54
     Created: 2024-12-29 10:30:00
     Original batch: batch_20241229_temperature
"""
    )


def test_lists_the_settings_of_the_newest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "list", "--dataset", "Copa", "--verbose", "--limit", "1"]) == 0
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Physical experiment data in _shared/
Experiments: 3
{RULE}

📊 Copa (1 shown)
{THIN}

  📦 temp09_topp10_gpt4o
     Physical path: _shared/Copa/temp09_topp10_gpt4o
     Parameter fingerprint: 605e9eb6e90d
     Created: 2024-12-29 10:30:00
     Original batch: batch_20241229_temperature
     ⚠️ Status: unfinished

     Generation config:
       Model: gpt-4o
       Temperature: 0.9
       Top_p: 1.0
       Max tokens: 256

     Records: 4, not judged; cost: unknown

     Experiment purpose: temperature_study

💾 2 older experiments not shown; --limit 0 shows all.
"""
    )


def test_lists_the_judge_and_the_description(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(root, "temp09_topp10_gpt4o", validation_model="gpt-4o-mini", validation_temperature=0.0, description="Hot?")
    assert run(["experiment", "list", "--dataset", "Copa", "--verbose", "--limit", "1"]) == 0
    assert (
        """
     Validation config:
       Model: gpt-4o-mini
       Temperature: 0.0

     Records: 4, 0 accepted; cost: unknown

     Experiment purpose: temperature_study
     Experiment description: Hot?
"""
        in capsys.readouterr().out
    )


def test_shows_everything_about_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "show", WARM, "--samples", "1"]) == 0
    tree = "Data_v2/synthetic"
    assert (
        capsys.readouterr().out
        == f"""\
{RULE}
Experiment: Copa/temp07_topp10_gpt4o
Parameter fingerprint: 0133d6452eaa
Status: complete
Purpose: temperature_study
Description: The first try
Created: 2024-12-29 10:30:00, completed: 2024-12-29 10:30:00
Source: Data/original/Copa/copa_train.jsonl (digest copa00000000)
{RULE}

📊 Results
   Records: 4
   Accepted: 3 (75.0%)
   Rejected: 1 (original kept, 1 of them unclear)
   Failed: 0
   Tokens: 1,000 prompt, 200 completion
   Cost: $0.0120
   Cost per accepted record: $0.004000

🔧 Settings
   generation.temperature: 0.7
   generation.top_p: 1.0
   generation.model: gpt-4o
   generation.max_tokens: 256
   generation.rephrase_prompt:
     │ Say it in other words.
     │ Keep the meaning.
     │
     │ {{premise}}
   validation.model: gpt-4o
   validation.temperature: 0.0
   generation.timeout: 60.0

📦 2 batches
   batch_20241228_pilot
      ⚡ Data reuse: No (newly generated)
      {tree}/batch_20241228_pilot/Copa/temp07_topp10_gpt4o/Copa
   batch_20241229_temperature
      ⚡ Data reuse: Yes (original batch: batch_20241228_pilot)
      {tree}/batch_20241229_temperature/Copa/temp07_topp10_gpt4o/Copa

📁 Files
   {tree}/_shared/Copa/temp07_topp10_gpt4o/Copa
      copa_train.jsonl (synthetic, 4 records)
      copa_validation.jsonl (as in the source, 1 record)
      copa_test.jsonl (as in the source, 1 record)

⚡ 2 generation runs
Started              Batch                       Outcome    Status    Calls    Cost     MLflow run
-------------------  --------------------------  ---------  --------  -------  -------  ------------
2024-12-29 10:30:00  batch_20241228_pilot        made       complete  8        $0.0120  0123abcd
2024-12-29 10:30:00  batch_20241229_temperature  reused     complete  0        -        not logged

📊 First 1 record
#    Original                Rephrased                                   Result
---  ----------------------  ------------------------------------------  ---------------
1    The man opened door 0.  Door 0 was opened by the man, who had been  accepted (same)
                             standing in front of it.
"""
    )


def test_an_unfinished_one_says_how_to_finish_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "show", HOT]) == 0
    out = capsys.readouterr().out
    command = (
        "synthtrack generate configs/copa.yaml --batch batch_20241229_temperature --set generation.temperature=0.9"
    )
    assert out.splitlines()[3:5] == ["⚠️ Status: unfinished", f"Next: {command}"]
    assert "   Accepted: 0 (no rate yet)\n" in out
    assert "   Cost: unknown\n" in out
    assert "📁 Files, once it is complete\n" in out


def test_a_trial_is_finished_as_a_trial(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(root, "temp09_topp10_gpt4o", record_limit=2)
    assert run(["experiment", "show", HOT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["next_command"].endswith(" --limit 2")


def test_an_experiment_that_is_being_made_names_its_maker(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    since = "2024-12-29T11:00:00.000000Z"
    change(root, "temp09_topp10_gpt4o", lease_pid=77, lease_host="elsewhere", lease_since=since)
    assert run(["experiment", "show", HOT]) == 0
    assert "\nBeing made by PID 77 on elsewhere since 2024-12-29 11:00:00\n" in capsys.readouterr().out


def test_shows_one_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "show", "605e9", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["reference"] == HOT
    assert shown["cost_usd"] is None
    assert shown["settings"]["generation.temperature"] == 0.9
    assert [each["status"] for each in shown["runs"]] == ["interrupted"]
    assert shown["samples"] == []
    assert [each["filename"] for each in shown["files"]] == [
        "copa_train.jsonl",
        "copa_validation.jsonl",
        "copa_test.jsonl",
    ]


def test_compares_settings_results_and_source(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "compare", WARM, COOL]) == 0
    expected = f"""\
{RULE}
Experiment Parameter Comparison
{RULE}

Experiment 1: Copa/temp07_topp10_gpt4o
Experiment 2: Copa/temp05_topp10_gpt4o

✅ Same parameters:
  generation.top_p: 1.0
  generation.model: gpt-4o
  generation.max_tokens: 256
  validation.model: gpt-4o
  validation.temperature: 0.0

⚠️  Different parameters:
  generation.temperature:
    Experiment 1: 0.7
    Experiment 2: 0.5
  generation.rephrase_prompt:
    --- Experiment 1
    +++ Experiment 2
    @@ -2 +2 @@
    -Keep the meaning.
    +Do keep the meaning.

💾 Different, without effect on the data: generation.timeout

✅ Same source data: Data/original/Copa/copa_train.jsonl (digest copa00000000)

📊 Results:
                 Experiment 1    Experiment 2
---------------  --------------  --------------
Status           complete        complete
Records          4               4
Accepted         3               4
Acceptance rate  75.0%           100.0%
Rejected         1               0
Failed           0               0
Tokens           1,200           0
Cost             $0.0120         unknown

🔧 Note: Parameters differ, need to generate data separately
  Experiment 1 fingerprint: 0133d6452eaa
  Experiment 2 fingerprint: 6f87f1f811fe
"""
    assert capsys.readouterr().out == expected
    assert run(["experiment", "compare", "--shared", WARM, "--shared", COOL]) == 0
    assert capsys.readouterr().out == expected


def test_compares_more_than_two(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "compare", WARM, COOL, HOT]) == 0
    out = capsys.readouterr().out
    assert (
        """
  generation.temperature:
    Experiment 1: 0.7
    Experiment 2: 0.5
    Experiment 3: 0.9
"""
        in out
    )
    assert (
        """
    +Do keep the meaning.
    Experiment 3: as Experiment 1
  validation.model:
    Experiment 1: gpt-4o
    Experiment 2: gpt-4o
    Experiment 3: not set
"""
        in out
    )


def test_the_same_data_through_two_batches_is_shared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [f"Data_v2/synthetic/{batch}/{WARM}" for batch in ("batch_20241228_pilot", "batch_20241229_temperature")]
    assert run(["experiment", "compare", *paths]) == 0
    out = capsys.readouterr().out
    assert "Different" not in out
    assert out.splitlines()[-3:] == [
        "✅ Note: Same fingerprint, the data is shared",
        "  Experiment 1 fingerprint: 0133d6452eaa",
        "  Experiment 2 fingerprint: 0133d6452eaa",
    ]


def test_the_same_settings_on_other_source_data_are_not_shared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "compare", WARM, "CB/temp07_topp10_gpt4o"]) == 0
    out = capsys.readouterr().out
    assert "Different parameters" not in out
    assert (
        """
⚠️  Different source data:
    Experiment 1: Data/original/Copa/copa_train.jsonl (digest copa00000000)
    Experiment 2: Data/original/CB/cb_train.jsonl (digest cb0000000000)
"""
        in out
    )
    assert "🔧 Note: Source data differs, need to generate data separately\n" in out


def test_compares_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "compare", WARM, COOL, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["different"]["generation.temperature"] == [0.7, 0.5]
    assert compared["operational"] == {"generation.timeout": [60.0, 30.0]}
    assert compared["same"]["generation.model"] == "gpt-4o"
    assert (compared["same_source"], compared["same_fingerprint"]) == (True, False)
    assert [each["n_accepted"] for each in compared["experiments"]] == [3, 4]


def test_compares_batches(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ["--batch1", "batch_20241228_pilot", "--dataset1", "Copa", "--batch2", "batch_20241229_temperature"]
    assert run(["experiment", "compare", *sides]) == 0
    expected = f"""\
{RULE}
Experiment Parameter Comparison
{RULE}

Batch 1: batch_20241228_pilot/Copa (1 experiment)
Batch 2: batch_20241229_temperature/Copa (3 experiments)

✅ Same parameters:
  generation.top_p: 1.0
  generation.model: gpt-4o
  generation.max_tokens: 256

⚠️  Different parameters:
  generation.temperature:
    Batch 1: 0.7
    Batch 2: 0.5, 0.7, 0.9
  generation.rephrase_prompt:
    Batch 1: Say it in other words. Keep the meaning. {{premise}}
    Batch 2: 2 different texts
  validation.model:
    Batch 1: gpt-4o
    Batch 2: gpt-4o, not set
  validation.temperature:
    Batch 1: 0.0
    Batch 2: 0.0, not set

⚡ In both batches (shared data): 1 experiment
  0133d6452eaa  Copa/temp07_topp10_gpt4o

🔧 Only in batch 1: 0 experiments

🔧 Only in batch 2: 2 experiments
  6f87f1f811fe  Copa/temp05_topp10_gpt4o
  605e9eb6e90d  Copa/temp09_topp10_gpt4o
"""
    assert capsys.readouterr().out == expected
    assert run(["experiment", "compare", *sides, "--dataset2", "Copa"]) == 0
    assert capsys.readouterr().out == expected


def test_batches_of_one_experiment_each_show_what_differs_in_a_text(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
        batch = add_batch(connection, "batch_other_prompt")
        settings = {"generation.rephrase_prompt": "Say it in other words.\nKeep it short.\n\n{premise}"}
        add_experiment(connection, "other", batch=batch, source=1, settings=settings, status="unfinished")
    assert run(["experiment", "compare", "--batch1", "batch_20241228_pilot", "--batch2", "batch_other_prompt"]) == 0
    assert (
        """
  generation.rephrase_prompt:
    --- Batch 1
    +++ Batch 2
    @@ -2 +2 @@
    -Keep the meaning.
    +Keep it short.
"""
        in capsys.readouterr().out
    )


def test_compares_batches_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ["--batch1", "batch_20241228_pilot", "--batch2", "batch_20241229_temperature"]
    assert run(["experiment", "compare", *sides, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [each["reference"] for each in compared["shared"]] == [WARM]
    assert compared["only_in_batch1"] == []
    assert [each["reference"] for each in compared["only_in_batch2"]] == ["CB/temp07_topp10_gpt4o", COOL, HOT]
    assert compared["different"]["generation.temperature"] == [[0.7], [0.5, 0.7, 0.9]]


@pytest.mark.parametrize(
    "arguments",
    [[], [WARM], ["--batch1", "batch_20241228_pilot"], [WARM, COOL, "--batch1", "a", "--batch2", "b"]],
)
def test_says_what_compare_needs(root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(["experiment", "compare", *arguments]) == 2
    assert "Error: Give two or more REFs, or --batch1 and --batch2.\n" in capsys.readouterr().err


def test_says_which_experiment_was_meant(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["experiment", "show", "Copa/temp05_top10_gpt4o"]) == 4
    assert capsys.readouterr().err.splitlines()[:2] == [
        "Error: No experiment 'Copa/temp05_top10_gpt4o'.",
        f"Did you mean {COOL} or {HOT} or {WARM}?",
    ]


def test_imported_data_has_no_rate_of_acceptance(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with open_database(Workspace(root, environ={})) as database, database.writing() as connection:
        batch, source = add_batch(connection, "old"), add_source(connection, "Old", ['{"premise": "One."}'])
        found = add_experiment(
            connection, "found", batch=batch, source=source, dataset="Old", n_records=400, n_accepted=275,
            n_rejected=125, model="old-model", validation_model="old-judge",
        )  # fmt: skip
        add_sample(connection, found, 0, 1, status="rejected", verdict=None, original="One.")
        connection.exec_driver_sql(
            "INSERT INTO import_run (id, uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host, command,"
            " report) VALUES (1, 'u', 'tree', 'elsewhere', 't', 1, 0, 0, 'h', 'c', '[]')"
        )
        connection.exec_driver_sql(f"UPDATE shared_experiment SET import_run_id = 1 WHERE id = {found}")
    words = "275 rephrased, 125 kept as they were"
    for arguments in (["experiment", "list", "-v"], ["experiment", "show", "Old/found"], ["lineage", "Old/found"],
                      ["experiment", "compare", "Old/found", WARM]):  # fmt: skip
        assert run(arguments) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert words in out
        assert "68.8%" not in out
    assert run(["experiment", "show", "Old/found"]) == 0
    assert "kept as it was" in capsys.readouterr().out
    assert run(["sql", "SELECT * FROM acceptance_by_model WHERE model = 'old-model'", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    page = tmp_path / "old.html"
    assert run(["report", "old", "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "275 rephrased, 125 kept" in text
    assert "nothing was judged" in text
    assert "68.8%" not in text
    assert "✗" not in text
