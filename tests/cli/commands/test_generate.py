"""``synthtrack generate`` as it looks: stdout, stderr, exit code and files, with the offline provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspaces import (
    Done,
    call,
    config,
    environment,
    execute,
    matches_snapshot,
    rows,
    statuses,
    steady,
    train_file,
    tree,
    write_config,
    write_records,
)

GENERATE = ("generate", "copa.yaml", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_records(tmp_path, 5)
    write_config(tmp_path, config())
    return tmp_path


def seen(done: Done, root: Path) -> str:
    """A command and what it left, as one text."""
    parts = {"stdout": done.out, "stderr": done.err, "tree": tree(root / "Data_v2")}
    shown = "".join(f"== {name}\n{steady(text, root)}" for name, text in parts.items())
    return f"exit code {done.code}\n{shown}"


def test_the_config_beside_the_data_finds_that_data(root: Path) -> None:
    (made,) = json.loads(call(root, *GENERATE, "--json").out)
    beside = (root / made["shared_path"]).parent / "generation_config.yaml"
    again = call(root, "generate", beside, "--no-mlflow", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)[0]["outcome"] == "reused"


@pytest.mark.parametrize(
    ("name", "earlier", "arguments"),
    [
        ("made", [], ["copa.yaml"]),
        ("reused", [["copa.yaml"]], ["copa.yaml", "--batch", "second"]),
        ("temperature", [["copa.yaml"]], ["copa.yaml", "--set", "generation.temperature=0.9"]),
        ("same_name", [["copa.yaml"]], ["copa.yaml", "--set", "generation.seed=7"]),
        ("limit", [], ["copa.yaml", "--limit", "2"]),
        ("fresh", [["copa.yaml"]], ["copa.yaml", "--fresh"]),
        ("json", [], ["copa.yaml", "--json"]),
        ("json_reused", [["copa.yaml"]], ["--json", "copa.yaml"]),
        ("config_option", [], ["--config", "copa.yaml", "--set", "experiment.batch_id=null"]),
        ("dry_run_new", [], ["copa.yaml", "--dry-run"]),
        ("dry_run_reused", [["copa.yaml"]], ["copa.yaml", "--dry-run", "--batch", "second"]),
        ("dry_run_json", [], ["copa.yaml", "--dry-run", "--json"]),
        ("without_validation", [], ["bare.yaml"]),
        ("older_config", [], ["older.yaml"]),
    ],
)
def test_it_looks_like_this(name: str, earlier: list[list[str]], arguments: list[str], root: Path) -> None:
    write_config(root, config(validation=None), "bare.yaml")
    older = {"experiment__experiment_id": "exp_1", "experiment__overwrite_strategy": "skip", "task_name": "Copa"}
    write_config(root, config(**older), "older.yaml")
    for each in earlier:
        assert call(root, *GENERATE[:1], *each, "--no-mlflow").code == 0
    assert matches_snapshot(f"generate_{name}", seen(call(root, "generate", *arguments, "--no-mlflow"), root))


def test_the_installed_command_says_and_does_the_same(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_records(other, 5)
    write_config(other, config())
    assert seen(execute(root, *GENERATE), root) == seen(call(other, *GENERATE), other)


def test_a_directory_of_configs_is_made_one_after_the_other(root: Path) -> None:
    for temperature in (0.5, 0.9):
        write_config(root, config(generation__temperature=temperature), f"study/deep/t{temperature}.yaml")
    write_config(root, config(generation__temperature=0.5, experiment__batch_id="twin"), "study/zz.yml")
    (root / "study/notes.txt").write_text("not a config")
    preview = call(root, "generate", "study", "--dry-run")
    assert "3 configs: about 30 calls, $0.0000" in preview.out
    done = call(root, "generate", "study", "--no-mlflow")
    assert matches_snapshot("generate_directory", seen(done, root))


def test_one_bad_config_of_several_stops_all_before_anything_is_made(root: Path) -> None:
    write_config(root, config(generation__temperature=3), "study/b.yaml")
    write_config(root, config(), "study/a.yaml")
    done = call(root, "generate", "study", "--no-mlflow")
    assert (done.code, done.out) == (3, "")
    assert "b.yaml" in done.err
    assert not (root / "tracker.db").exists()


def test_a_dry_run_writes_nothing(root: Path) -> None:
    before = tree(root)
    assert call(root, *GENERATE, "--dry-run").code == 0
    assert tree(root) == before
    assert not (root / "tracker.db").exists()
    call(root, *GENERATE, "--limit", 1)
    before, runs = tree(root), statuses(root)
    assert call(root, *GENERATE, "--dry-run").code == 0
    assert (tree(root), statuses(root)) == (before, runs)


def test_fresh_makes_another_draw_each_time(root: Path) -> None:
    names = []
    for _ in range(3):
        done = call(root, *GENERATE, "--fresh", "--json")
        names.append(json.loads(done.out)[0]["reference"])
    assert names == [f"Copa/temp07_topp10_rulesv1_draw{draw}" for draw in (1, 2, 3)]
    assert len(set(rows(root, "SELECT request_key FROM attempt"))) == len(rows(root, "SELECT 1 FROM attempt"))
    assert call(root, *GENERATE).code == 0
    assert train_file(root, "temp07_topp10_rulesv1").exists()


def test_a_batch_of_another_name_shares_one_data_set(root: Path) -> None:
    for batch in ("first", "second", "third"):
        call(root, *GENERATE, "--batch", batch)
    assert rows(root, "SELECT count(*) FROM shared_experiment") == [(1,)]
    assert rows(root, "SELECT reused FROM batch_membership ORDER BY batch_id") == [(0,), (1,), (1,)]
    data = {train_file(root, "temp07_topp10_rulesv1", group).resolve() for group in ("first", "second", "third")}
    assert data == {train_file(root, "temp07_topp10_rulesv1").resolve()}


def test_the_path_of_the_data_is_no_part_of_the_identity(root: Path) -> None:
    call(root, *GENERATE)
    (root / "Data/original").rename(root / "elsewhere")
    done = call(root, *GENERATE, "--set", "dataset.input_path=elsewhere/Copa/copa_train.jsonl")
    assert done.out.startswith("⚡ Copa/temp07_topp10_rulesv1: already made")


def test_other_data_is_another_experiment(root: Path) -> None:
    call(root, *GENERATE)
    write_records(root, 6)
    done = call(root, *GENERATE)
    assert done.out.startswith("✅ Copa/temp07_topp10_rulesv1_2: made, complete")
    assert "Calls: 2 sent, 10 answered from the ledger" in done.out


def test_splits_that_come_from_elsewhere_than_train_are_said(root: Path) -> None:
    here, train = root / "Data/original/Copa", write_records(root / "other", 5)
    there = train.parent
    override = ("--set", f"dataset.original_dir={here}", "--dry-run")
    fine = call(root, *GENERATE, *override)
    assert f"   Splits: train, validation, test from {here}\n" in fine.out
    assert "original_dir" not in fine.err
    mixed = call(root, *GENERATE, *override, "--set", f"dataset.input_path={train}")
    assert f"   Splits: train from {there}; validation, test from {here}\n" in mixed.out
    assert f"lies in {there} (dataset.input_path), validation and test are looked for in {here}" in mixed.err
    assert f"set dataset.original_dir={there} too." in mixed.err
    (found,) = json.loads(call(root, *GENERATE, *override, "--set", f"dataset.input_path={train}", "--json").out)
    assert found["splits"]["train"] == str(train)
    assert Path(found["splits"]["test"]).parent == here


def test_a_setting_on_the_command_line_is_validated_like_the_file(root: Path) -> None:
    done = call(root, *GENERATE, "--set", "generation.temprature=0.9")
    assert done.code == 3
    assert "--set generation.temprature: unknown key `generation.temprature`; did you mean `temperature`?" in done.err


def test_every_option_is_in_the_help() -> None:
    done = call(Path.cwd(), "generate", "--help")
    options = "--config --batch --set --limit --dry-run --fresh --wait --accept-partial --max-cost --no-mlflow --json"
    assert [name for name in options.split() if name not in done.out] == []


def test_a_config_of_another_workspace_is_not_paid_for_again_here(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    no_root: dict[str, str | None] = {"SYNTHTRACK_ROOT": None}
    assert call(root, *GENERATE).code == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lost = execute(elsewhere, "generate", root / "copa.yaml", "--no-mlflow", environ=no_root)
    assert lost.code == 3
    assert f"--root {root}" in lost.err
    assert not (elsewhere / "tracker.db").exists()
    write_records(elsewhere, 5)
    write_config(elsewhere, config())
    dry = execute(elsewhere, "generate", "copa.yaml", "--dry-run", environ=no_root)
    assert f"A new workspace would be made: {elsewhere}" in dry.err


def test_a_trial_of_all_records_is_the_data_set_itself(root: Path) -> None:
    assert call(root, *GENERATE).code == 0
    assert call(root, *GENERATE, "--limit", "5").out.startswith("⚡")
    assert call(root, *GENERATE, "--limit", "500").out.startswith("⚡")


def test_a_judge_that_does_not_see_the_answer_is_warned_of(root: Path) -> None:
    write_config(root, config(validation__validation_prompt="Is {original_premise} good?"))
    assert "does not contain {rephrased_premise}" in call(root, *GENERATE, "--dry-run").err


def test_a_missing_key_is_said_where_there_is_no_workspace_yet_and_stops_nobody_else(root: Path) -> None:
    write_config(root, config(generation__provider="openai", generation__model="gpt-4o", validation=None), "a.yaml")
    write_config(root, config(), "b.yaml")
    no_key: dict[str, str | None] = {"OPENAI_API_KEY": None}
    alone = call(root, "generate", "a.yaml", environ=no_key)
    assert (alone.code, alone.err.startswith("Error: No API key")) == (9, True)
    dry = call(root, "generate", "a.yaml", "--dry-run", environ=no_key)
    assert (dry.code, "⚠️  No API key for gpt-4o" in dry.err, "export OPENAI_API_KEY=" in dry.err) == (0, True, True)
    both = call(root, "generate", "a.yaml", "b.yaml", "--no-mlflow", "--json", environ=no_key)
    assert both.code == 9
    failed, made = json.loads(both.out)
    assert (failed["config"], failed["outcome"], failed["exit_code"]) == (str(root / "a.yaml"), "failed", 9)
    assert made["status"] == "complete"


def test_no_workspace_is_announced_where_nothing_can_be_asked(root: Path) -> None:
    write_config(root, config(generation__provider="openai", generation__model="gpt-4o", validation=None), "a.yaml")
    here: dict[str, str | None] = {"SYNTHTRACK_ROOT": None, "OPENAI_API_KEY": None}
    done = execute(root, "generate", "a.yaml", environ=here)
    assert (done.code, done.err.startswith("Error: No API key")) == (9, True)
    made = execute(root, "generate", "a.yaml", "copa.yaml", "--no-mlflow", environ=here)
    assert (made.code, f"New workspace: {root}" in made.err) == (9, True)


def test_a_path_that_is_no_text_is_refused(root: Path) -> None:
    odd = root / os.fsdecode(b"d\xff.yaml")
    (root / "copa.yaml").rename(odd)
    done = call(root, "generate", odd, "--no-mlflow")
    assert done.code == 3
    assert "not UTF-8" in done.err


@pytest.mark.parametrize(("section", "other"), [("generation", "validation"), ("validation", "generation")])
def test_a_price_that_is_missing_is_asked_for_by_its_whole_name(root: Path, section: str, other: str) -> None:
    at = {"base_url": "http://127.0.0.1:9/v1", "provider": "openai", "model": "unheard-of", "api_key": "key"}
    price = {"input_per_mtok": 1, "output_per_mtok": 1}
    changes = {f"{each}__{name}": value for each in (section, other) for name, value in at.items()}
    write_config(root, config(**changes, **{f"{other}__price": price}))
    done = call(root, *GENERATE, "--max-cost", "1")
    assert done.code == 3
    assert f"Give them in the config: {section}.price: {{input_per_mtok" in done.err


def test_a_setting_without_its_section_is_found(root: Path) -> None:
    done = call(root, *GENERATE, "--set", "temperature=0.5")
    assert done.code == 3
    assert "did you mean `generation.temperature` or `validation.temperature`?" in done.err


def test_train_knows_a_config_of_generate(root: Path) -> None:
    done = call(root, "train", "copa.yaml")
    assert done.code == 3
    assert "It looks like a configuration of `synthtrack generate`." in done.err


def test_a_full_disk_behind_stdout_is_explained(root: Path) -> None:
    assert call(root, *GENERATE).code == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "batch", "list"],
            cwd=root, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=environment({"SYNTHTRACK_ROOT": str(root)}),
        )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert (done.returncode, "No space left on device" in done.stderr) == (11, True)
