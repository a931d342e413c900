from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import run
from cli.text.result_words import chance, duration, number, p_value
from tests.training_rows import COOL, HOT, Study, Trained, add_sweep, training_study
from tracker.record.database import open_database

RULE = "=" * 80
THIN = "-" * 80
MODEL = "meta-llama/Llama-3.2-1B"
RESULTS = "Results_v2/hyperparameter_tuning/meta-llama/Llama-3.2-1B"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def study(built: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(built.workspace.root))
    return built


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["result", *arguments]) == 0
    return capsys.readouterr().out


def test_lists_what_there_is_by_purpose_and_model(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        out(capsys, "list")
        == f"""\
{RULE}
Training Results Summary - Results_v2
{RULE}

📊 Experiment purpose: baseline_comparison
   Training runs: 5 (1 complete, 1 pending, 1 stopped, 1 interrupted, 1 failed)
   └─ {MODEL}: 5 training runs
      Best of 1 run on Copa: 73.0% (95% interval 63.6% to 80.7%, 100 records), zo, original, lr 1e-06, seed 0

📊 Experiment purpose: data_quality_impact
   Training runs: 2 (2 complete)
   └─ {MODEL}: 2 training runs
      Best of 2 runs on Copa: 79.0% (95% interval 70.0% to 85.8%, 100 records), zo, {HOT}, lr 1e-06, seed 0

📊 Experiment purpose: hyperparameter_tuning
   Training runs: 5 (5 complete)
   └─ {MODEL}: 5 training runs
      Best of 4 runs on Copa: 76.0% (95% interval 66.8% to 83.3%, 100 records), zo, {COOL}, lr 1e-06, seed 0

📊 Experiment purpose: model_comparison
   Training runs: 2 (2 complete)
   └─ {MODEL}: 2 training runs
      Best of 2 runs on CB: 77.2% (95% interval 64.8% to 86.2%, 57 records), fo_lora, original+{COOL}, lr 5e-05, seed 0

{RULE}
Total: 4 experiment purposes, 14 training runs
{RULE}
"""
    )


def test_lists_the_best_of_each_evaluation_set(few: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(few.workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_run SET purpose = 'all'")
    lines = [line.strip() for line in out(capsys, "list").splitlines() if "on Copa" in line]
    assert [line.partition(" (95%")[0] for line in lines] == [
        "Best of 5 runs on Copa (validation file 79df23a13759): 76.0%",
        "Best of 2 runs on Copa (validation file 79df23a13759): 82.0%",
    ]
    assert ["100 records" in lines[0], "50 records" in lines[1]] == [True, True]


def test_lists_details(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        out(capsys, "list", "--detail", "--purpose", "hyperparameter_tuning", "--limit", "1")
        == f"""\
{RULE}
Training Results Details
{RULE}

📊 Experiment purpose: hyperparameter_tuning
{THIN}

  [1] Copa_zo_temp05_topp10_gpt4o_1_6
      Model: {MODEL}
      Time: 20251228_143000
      Path: {RESULTS}/Copa_zo_temp05_topp10_gpt4o_1_6/20251228_143000
      Task: Copa
      Method: zo
      Hyperparameters:
        - LR: 1e-06
        - BS: 16
        - Steps: 1000
        - Seed: 0
      Data: Data_v2/synthetic/batch_20241229_temperature/Copa/temp05_topp10_gpt4o/Copa
      Data fingerprint: 296e3799ec38 (Copa/temp05_topp10_gpt4o)
      Run: ab63cfd6, training fingerprint 320f9951d106
      Status: complete (attempt 2)
      Accuracy: 76.0% (95% interval 66.8% to 83.3%, 100 records)
      Baselines: zero-shot 60.0%, majority class 55.0%
      Duration: 62 s

💾 4 older training runs not shown; --limit 0 shows all.
"""
    )


def test_details_say_how_each_run_stands(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "list", "--detail", "--purpose", "baseline_comparison")
    assert [line.strip() for line in shown.splitlines() if "Status" in line or "Error" in line] == [
        "Status: complete",
        "Status: failed (step 412 of 1,000)",
        "Error: Loss is not finite (nan) at step 412, learning rate 1e-06.",
        "Status: stopped (step 412 of 1,000)",
        "Status: interrupted (step 412 of 1,000)",
        "Status: pending",
    ]
    assert "      Data fingerprint: none (SHA-256 c40c00411ac3)\n" in shown


def test_details_of_a_mix_name_all_data(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "list", "--detail", "--task", "CB", "--model", "Llama-3.2-1B", "--status", "complete")
    assert "      Data: Data_v2/original/CB + Data_v2/synthetic/batch_20241229_temperature/CB/temp05" in shown
    assert "      Data fingerprint: none (a mix of 2 data sets)\n" in shown


def test_lists_as_json(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    groups = json.loads(out(capsys, "list", "--json"))
    assert [group["n_runs"] for group in groups] == [5, 2, 5, 2]
    rows = json.loads(out(capsys, "list", "--detail", "--json", "--status", "failed"))
    assert [(row["status"], row["seed"], row["data"]) for row in rows] == [("failed", 1, "original")]
    assert rows[0]["settings"]["hyperparameters.learning_rate"] == 1e-6
    assert "identity" not in rows[0]
    assert len(out(capsys, "list", "--detail", "--json").splitlines()) == 14 + len("[]")
    assert json.loads(out(capsys, "list", "--detail", "--json", "--status", "running")) == []


def test_an_empty_workspace_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    assert run(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    shown = out(capsys, "list")
    assert "💾 No training run is there yet; `synthtrack train CONFIG` makes the first one.\n" in shown
    assert "Total: 0 experiment purposes, 0 training runs\n" in shown
    assert "💾 No training run is like that" in out(capsys, "list", "--detail")
    assert json.loads(out(capsys, "list", "--json")) == []
    assert run(["result", "best", "--by", "learning_rate"]) == 4
    assert "No finished training run in 'this workspace'." in capsys.readouterr().err


def test_shows_everything_about_a_run(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "show", study.uuid("CB original+" + COOL)[:8], "--wrong", "1")
    head, _, rest = shown.partition("🔧 Settings\n")
    directory = f"Results_v2/model_comparison/{MODEL}/CB_fo_lora_original+{COOL}_5_5/20251226_144000"
    assert (
        head
        == f"""\
{RULE}
Training run: CB_fo_lora_original+temp05_topp10_gpt4o_5_5
Run: {study.uuid("CB original+" + COOL)}, training fingerprint 1c549843772a
Status: complete
Started: 2025-12-26 14:43:00, finished: 2025-12-26 14:44:01
Duration: 62 s on cpu, 1 thread
Purpose: model_comparison
Path: {directory}
Sweep: e1b785d6 (2 points, configs/stage2/model_comparison.yaml)
MLflow run: not logged
{RULE}

📊 Results
   Accuracy: 77.2% (95% interval 64.8% to 86.2%, 57 records)
   Baselines: zero-shot 59.6%, majority class 55.0%
   Macro-F1: 0.772
   Evaluation loss: 0.62
   Dev: loss 0.6, accuracy 70.0% at step 1,000, of 100 records
   Speed: 0.06 s a step, 8,000 tokens/s
   Peak memory: 4.66 GiB

📈 Curve
Step (* best)    Train loss    Dev loss    Dev accuracy
---------------  ------------  ----------  --------------
0                -             0.7         60.0%
200              0.69          0.68        62.0%
400              0.67          0.66        64.0%
600              0.65          0.64        66.0%
800              0.63          0.62        68.0%
1,000 *          0.61          0.6         70.0%

🔍 Predictions
   44 of 57 right
   Against the untrained model: 10 learnt, 0 lost; the difference of 17.5 points is more than chance explains \
(p = 0.002)

Right answer    said Yes    said No    said Maybe
--------------  ----------  ---------  ------------
Yes             15          4          0
No              0           15         4
Maybe           5           0          14

   Wrong with the most confidence (1 of 13)
Line    Right answer    Answered    Right one behind by
------  --------------  ----------  ---------------------
21      Maybe           Yes         -0.700

📦 2 data sets
   Data_v2/original/CB
      no experiment
      300 of 400 records trained on, SHA-256 7885be66efea
   Data_v2/synthetic/batch_20241229_temperature/CB/temp05_topp10_gpt4o/CB
      CB/temp05_topp10_gpt4o, fingerprint 813838427fd7, through batch_20241229_temperature
      300 of 400 records trained on, SHA-256 a0db61f1d144

"""
    )
    settings, _, files = rest.partition("\n📁 Files\n")
    assert "   hyperparameters.learning_rate: 5e-05\n" in settings
    assert files.startswith(f"   {directory}\n      5_5_train.err (0 bytes)\n      5_5_train.out (0 bytes)\n")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("original 1e-06 seed 1", ["Next: synthtrack train configs/stage2/baseline_comparison.yaml", "❌ Error"]),
        ("original 1e-06 seed 2", ["Next: synthtrack training resume 3f0188dd", "   None yet: step 412 of 1,000"]),
        ("original 1e-06 seed 3", ["Status: interrupted (step 412 of 1,000)"]),
        ("original 1e-06 seed 4", ["Status: pending", "Duration: - on no device yet, 1 thread"]),
        ("temp05 1e-06 seed 0", ["⚡ 2 attempts at this point"]),
        ("temp05 1e-06 seed 1", ["   All its seeds: mean 75.0%, sd 1.4 points (0: 76.0%, 1: 74.0%)"]),
    ],
)
def test_shows_how_a_run_stands(study: Study, capsys: pytest.CaptureFixture[str], name: str, lines: list[str]) -> None:
    shown = out(capsys, "show", study.uuid(name)).splitlines()
    assert [line for line in lines if line not in shown] == []


def test_a_run_is_found_by_its_fingerprint_and_its_directory(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    again = json.loads(out(capsys, "show", study.uuid("temp05 1e-06 seed 0 again"), "--json"))
    newest = json.loads(out(capsys, "show", again["fingerprint"][:6], "--json"))
    by_path = json.loads(out(capsys, "show", str(study.workspace.root / again["directory"]), "--json"))
    first = json.loads(out(capsys, "show", study.uuid("temp05 1e-06 seed 0"), "--json"))
    assert again["uuid"] == newest["uuid"] == by_path["uuid"] != first["uuid"]
    assert [each["name"] for each in first["files"]][-1] == "metrics.json"
    assert len(first["predictions"]["wrong"]) == 24
    assert first["seeds"]["mean_accuracy"] == 0.75
    assert "identity" not in first


def test_shows_a_sweep_as_a_table(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = json.loads(out(capsys, "show", study.uuid("temp05 1e-06 seed 0"), "--json"))["sweep"]
    assert (
        out(capsys, "show", sweep[:8]).partition(f"{RULE}\n\n")[2]
        == """\
learning_rate    seed    Status    Accuracy (95% interval)    Run       Directory
---------------  ------  --------  -------------------------  --------  -----------------------------------------------
1e-06            0       complete  76.0% (66.8% to 83.3%)     5fbe2b5c  Copa_zo_temp05_topp10_gpt4o_1_6/20251226_143000
1e-06            1       complete  74.0% (64.6% to 81.6%)     1a5d74f3  Copa_zo_temp05_topp10_gpt4o_1_6/20251226_144000
5e-07            0       complete  70.0% (60.4% to 78.1%)     4dcf3fd7  Copa_zo_temp05_topp10_gpt4o_5_7/20251226_145000
5e-07            1       complete  69.0% (59.4% to 77.2%)     bacd9913  Copa_zo_temp05_topp10_gpt4o_5_7/20251226_150000

learning_rate    Seeds    Mean accuracy    sd (points)
---------------  -------  ---------------  -------------
1e-06            2        75.0%            1.4
5e-07            2        69.5%            0.7

Baselines: zero-shot 60.0%, majority class 55.0%
"""
    )
    as_json = json.loads(out(capsys, "show", sweep[:8], "--json"))
    assert [row["accuracy"] for row in as_json["results"]] == [0.76, 0.74, 0.7, 0.69]


def test_a_sweep_in_which_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database:
        add_sweep(database, "bad", [Trained(status="failed", method="fo_full", error="Out of memory.")], varied=[])
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    (row,) = json.loads(out(capsys, "list", "--detail", "--purpose", "bad", "--json"))
    shown = out(capsys, "show", row["sweep"])
    assert "varied: nothing" in shown
    assert shown.splitlines()[-1].startswith("0       failed (step 412 of 1,000)  -")


def test_compares_two(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "compare", study.uuid("temp05 1e-06 seed 0")[:8], study.uuid("temp09 1e-06 seed 0")[:8])
    assert (
        shown[shown.index("⚠️") :]
        == """\
⚠️  Different parameters:
                        1                    2
----------------------  -------------------  -------------------
data                    temp05_topp10_gpt4o  temp09_topp10_gpt4o
train_data.fingerprint  296e3799ec38         bcf26f35e8d8
generation.temperature  0.5                  0.9

💾 Different, without effect on the result: experiment.purpose

📊 Results (★ best):
                     1                        2
-------------------  -----------------------  -----------------------
Status               complete                 complete
Accuracy             76.0%                    79.0% ★
95% interval         66.8% to 83.3%           70.0% to 85.8%
All its seeds        75.0% (sd 1.4, 2 seeds)  77.0% (sd 2.8, 2 seeds)
Records measured on  100                      100
Evaluation loss      0.62                     0.62
Dev accuracy         70.0%                    70.0%
Dev loss             0.6                      0.6
Zero-shot            60.0%                    60.0%
Majority class       55.0%                    55.0%
Seconds a step       0.06                     0.06
Duration             62 s                     62 s

⚖️ Differences
  1 and 2: the difference of 3.0 points may well be chance (p = 0.25); of 100 records 0 only by the first, \
3 only by the second
  (McNemar's exact test)
  One seed each: how far another seed would move the accuracy is not known.
"""
    )


def test_compares_pooled_seeds_of_a_sweep(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = json.loads(out(capsys, "show", study.uuid("temp05 1e-06 seed 0"), "--json"))["sweep"]
    shown = out(capsys, "compare", "--sweep", sweep[:8])
    assert "1: Copa_zo_temp05_topp10_gpt4o_1_6, seeds 0, 1\n" in shown
    assert "  hyperparameters.seed: 0, 1\n" in shown
    assert "Accuracy                75.0% ★         69.5%\n" in shown
    assert "sd over seeds (points)  1.4             0.7\n" in shown
    assert (
        """
  1 and 2: the difference of 5.5 points is more than chance explains (p = 0.002)
  (sign-flip test over records, exact; seeds of a point pooled)
  Seeds alone move the accuracy by 1.1 points (sd): that comes on top.
"""
        in shown
    )
    apart = json.loads(out(capsys, "compare", "--sweep", sweep[:8], "--each-seed", "--json"))
    assert [each["mean_accuracy"] for each in apart["results"]] == [0.76, 0.74, 0.7, 0.69]
    assert len(apart["tests"]) == 6
    assert apart["best"] == 1


def test_what_was_not_measured_alike_is_shown_and_not_tested(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("temp05 1e-06 seed 0", "CB original", "original 1e-06 seed 1")
    shown = out(capsys, "compare", *(study.uuid(name) for name in names))
    assert "📊 Results (not measured on the same records: none is called best):\n" in shown
    assert "★" not in shown
    assert shown.endswith(
        """
⚖️ Differences
  1 and 2: no test: different tasks
  1 and 3: no test: not both are complete
  2 and 3: no test: not both are complete
"""
    )


def test_more_than_four_are_compared_with_the_best(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("temp05 1e-06 seed 0", "temp05 1e-06 seed 1", "temp05 5e-07 seed 0", "temp09 1e-06 seed 0")
    shown = out(capsys, "compare", "--each-seed", *(study.uuid(n) for n in (*names, "original 1e-06 seed 0")))
    assert [line.partition(":")[0] for line in shown.splitlines() if " and " in line[:10]] == [
        "  4 and 1",
        "  4 and 2",
        "  4 and 3",
        "  4 and 5",
    ]
    assert "\n✅ All data that was generated, with these:\n  generation.top_p: 1\n" in shown
    assert "  (McNemar's exact test; corrected for 4 tests (Holm))\n" in shown


def test_finds_the_best_value_of_a_setting(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        out(capsys, "best", "--task", "Copa", "--by", "generation.temperature")
        == f"""\
{RULE}
Best generation.temperature for Copa
{RULE}

generation.temperature         Records    Runs    Points    Mean of points    Best point      Seeds    \
95% interval    Against best    Best run
-----------------------------  ---------  ------  --------  ----------------  --------------  -------  \
--------------  --------------  ----------------
0.5                            100        4       2         72.2%             75.0% (sd 1.4)  2        \
66.2% to 82.1%  p = 0.25        ab63cfd6 (76.0%)
0.9 ★                          100        2       1         77.0%             77.0% (sd 2.8)  2        \
68.6% to 83.7%                  165f0640 (79.0%)
original data (no experiment)  100        1       1         73.0%             73.0%           1        \
63.6% to 80.7%  p = 0.25        a70eda69 (73.0%)

★ 0.9 gave the best model: 77.0%, Copa_zo_temp09_topp10_gpt4o_1_6, seeds 0, 1.
Against the second, 0.5: the difference of 2.0 points may well be chance (p = 0.25).
As good, for all that these records can tell: 0.5, original data (no experiment).
(sign-flip test over records, exact; seeds of a point pooled; corrected for 2 tests (Holm))
Seeds alone move the accuracy by 2.2 points (sd): that comes on top.
Baselines: zero-shot 60.0%, majority class 55.0%.
"""
    )


def test_equal_values_are_both_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_run SET accuracy = 0.7")
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    shown = out(capsys, "best", "--task", "Copa", "--by", "generation.temperature")
    assert "gave the best" not in shown
    assert "★ 0.5, 0.9 and original data (no experiment): equal, 70.0%.\n" in shown
    assert "\n0.5 ★ " in shown
    assert "\n0.9 ★ " in shown
    assert "Against the second" not in shown


def test_says_what_else_could_be_the_reason(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "best", "--task", "Copa", "--by", "learning_rate")
    assert (
        "Against the second, 5e-07: the difference of 7.5 points is more than chance explains (p < 0.001).\n" in shown
    )
    assert "These points also differ in data, generation.temperature.\n" in shown
    assert "It had more points than others, so more chances to look good.\n" in shown
    found = json.loads(out(capsys, "best", "--task", "Copa", "--by", "learning_rate", "--json"))
    assert (found["setting"], found["best"]) == ("hyperparameters.learning_rate", 2)
    assert [each["value"] for each in found["values"]] == [5e-7, 1e-6]
    assert found["also_differ"] == ["data", "generation.temperature"]


def test_a_single_value_has_nothing_to_be_compared_with(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "best", "--task", "Copa", "--data", COOL, "--by", "generation.temperature")
    assert "There is no other value to compare it with.\n" in shown


def test_other_records_are_no_contest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = training_study(tmp_path)
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_data SET eval_digest = 'x' WHERE name LIKE 'temp09%'")
        digest = connection.exec_driver_sql(
            "SELECT SUBSTR(MAX(eval_digest), 1, 12) FROM training_data d WHERE name = 'original' AND dataset = 'Copa'"
        ).scalar_one()
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    shown = out(capsys, "best", "--task", "Copa", "--by", "generation.temperature")
    assert "★" not in shown
    _, _, verdict = shown.partition("Not measured on the same records: none is called best.\n")
    assert verdict.startswith(
        f"""\
On 100 records of validation file {digest}, 0.5 gave the best model: 75.0%, \
Copa_zo_temp05_topp10_gpt4o_1_6, seeds 1, 0.
Against the second, original data (no experiment): the difference of 2.0 points may well be chance (p = 0.58).
On 100 records of validation file x, 0.9 alone: 77.0%, Copa_zo_temp09_topp10_gpt4o_1_6, seeds 0, 1.
"""
    )


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Temperature 0.9 was measured on the first 50 records alone, and so it is on top."""
    study = training_study(tmp_path)
    with open_database(study.workspace) as database, database.writing() as connection:
        connection.exec_driver_sql(
            "DELETE FROM prediction WHERE position >= 50 AND training_run_id IN "
            "(SELECT id FROM training_run WHERE data LIKE 'temp09%')"
        )
        connection.exec_driver_sql("UPDATE training_run SET n_eval = 50, accuracy = 0.82 WHERE data LIKE 'temp09%'")
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    return study


def test_nothing_is_the_best_where_numbers_of_records_differ(few: Study, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("temp05 1e-06 seed 0", "temp09 1e-06 seed 0")
    shown = out(capsys, "compare", *(few.uuid(name) for name in names))
    assert "📊 Results (not measured on the same records: none is called best):\n" in shown
    assert "★" not in shown
    assert "Records measured on  100                      50\n" in shown
    assert "  1 and 2: on the 50 records of both 76.0% and 82.0%: the difference of 6.0 points may well" in shown
    assert json.loads(out(capsys, "compare", *(few.uuid(name) for name in names), "--json"))["best"] is None


def test_no_value_is_the_best_where_numbers_of_records_differ(few: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "best", "--task", "Copa", "--by", "generation.temperature")
    assert "★" not in shown
    assert "Not measured on the same records: none is called best.\nOn 100 records of validation file" in shown
    rows = [line.split() for line in shown.splitlines()[6:9]]
    assert [(row[0], "100" in row, "50" in row) for row in rows] == [
        ("0.5", True, False), ("0.9", False, True), ("original", True, False),
    ]  # fmt: skip
    found = json.loads(out(capsys, "best", "--task", "Copa", "--by", "generation.temperature", "--json"))
    assert found["best"] is None
    assert [each["n_eval"] for each in found["values"]] == [100, 50, 100]


def test_draws_it(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "temperature.png"
    asked = ["result", "best", "--task", "Copa", "--by", "generation.temperature", "--plot", str(picture)]
    assert run(asked) == 0
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert capsys.readouterr().err == f"Drawn in {picture}.\n"
    picture.write_text("mine")
    assert run(asked) == 5
    assert capsys.readouterr().err.splitlines()[-1] == "--overwrite replaces it."
    assert picture.read_text() == "mine"
    assert run([*asked, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == 2
    assert picture.stat().st_size > 1000


def test_shows_the_settings_that_can_be_asked_for(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    shown = out(capsys, "best", "--task", "Copa", "--settings")
    assert "generation.temperature         0.5, 0.9, original data\n" in shown
    assert "hyperparameters.learning_rate  5e-07, 1e-06\n" in shown
    assert shown.splitlines()[-1].startswith("The same in all: ")
    as_json = json.loads(out(capsys, "best", "--task", "Copa", "--settings", "--json"))
    assert as_json["hyperparameters.batch_size"] == [16]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare"], 2, "Give two or more REFs, or a sweep with two or more finished runs."),
        (["best"], 2, "Give either --by SETTING or --settings."),
        (["best", "--by", "seed", "--settings"], 2, "Give either --by SETTING or --settings."),
        (["best", "--by", "seed"], 2, "Accuracies of different tasks cannot be compared: give --task, CB or Copa."),
        (["list", "--limit", "3"], 2, "--limit goes with --detail."),
        (["list", "--status", "done"], 2, "'done' is not one of 'complete'"),
        (["list", "--task", "Coppa"], 4, "Did you mean Copa?"),
        (["list", "--model", "Llama-3.2-1"], 4, f"Did you mean {MODEL}?"),
        (["list", "--detail", "--purpose", "hyperparameter"], 4, "Did you mean hyperparameter_tuning?"),
        (["best", "--task", "Copa", "--by", "temperature"], 4, "It could be generation.temperature or validation.temp"),
        (["best", "--task", "Copa", "--by", "learning_rat"], 4, "Did you mean learning_rate"),
        (["show", "nothing"], 4, "No sweep or training run 'nothing'.\n`synthtrack result list --detail` shows them."),
        (["compare", "nothing", "none"], 4, "`synthtrack result list --detail` shows them."),
    ],
)
def test_says_what_is_wrong(
    study: Study, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(["result", *arguments]) == code
    assert message in capsys.readouterr().err


def test_names_do_not_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = training_study(tmp_path)
    bad = Trained(
        model="evil\x1b[2Jmodel", status="failed", error="line\x1b[1A", hyperparameters={"learning_rate": 1.0}
    )
    with open_database(study.workspace) as database:
        made = add_sweep(database, "bad", [bad, bad])
    monkeypatch.setenv("SYNTHTRACK_ROOT", str(tmp_path))
    rows = json.loads(out(capsys, "list", "--detail", "--purpose", "bad", "--json"))
    assert len(rows) == len(made.run_ids)
    shown = out(capsys, "list") + out(capsys, "list", "--detail") + out(capsys, "show", rows[0]["uuid"])
    shown += out(capsys, "show", rows[0]["sweep"]) + out(capsys, "compare", *(row["uuid"] for row in rows))
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.0004, 0.53, "the difference of less than 0.05 points may well be chance (p = 0.53)"),
        (-0.0004, 0.0003, "the difference of less than 0.05 points is more than chance explains (p < 0.001)"),
        (0.03, 0.549, "the difference of 3.0 points may well be chance (p = 0.55)"),
        (-0.09, 0.0123, "the difference of 9.0 points is more than chance explains (p = 0.012)"),
        (0.2, 1e-9, "the difference of 20.0 points is more than chance explains (p < 0.001)"),
        (0.0, 1.0, "no difference (p = 1.00)"),
        (0.01, 0.05, "the difference of 1.0 points may well be chance (p = 0.05)"),
    ],
)
def test_words_for_a_difference(difference: float, p: float, words: str) -> None:
    assert chance(difference, p) == words


def test_figures_are_short() -> None:
    assert [duration(each) for each in (None, 0.4, 61.5, 750.0, 12_600.0)] == ["-", "0 s", "62 s", "12.5 min", "3.5 h"]
    assert [number(each) for each in (1e-6, 16, 1.0, None, "zo", True)] == ["1e-06", "16", "1", "not set", "zo", "true"]
    assert [p_value(each) for each in (0.0009, 0.001, 0.0999)] == ["< 0.001", "= 0.001", "= 0.1"]
