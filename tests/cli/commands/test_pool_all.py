"""``synthtrack pool build --all``, and pools whose configs name where their benchmarks are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workspaces import call, rows

SAMPLE = "configs/pools/data_config_sample.yaml"
EXPERIMENTS = ("exp1", "exp2", "exp3", "exp5")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    assert call(tmp_path, "init").code == 0
    return tmp_path


def usual(workspace: Path, *names: str) -> None:
    """Makes the benchmarks of the usual configuration the sample's, under an entry of their own, and preprocesses."""
    text = (workspace / SAMPLE).read_text().replace("path: file:", "split: test\n    path: file:")
    (workspace / "configs/pools/data_config.yaml").write_text(text)
    assert call(workspace, "pool", "preprocess", *names).code == 0


def build(workspace: Path, *arguments: str) -> tuple[int, list[str], str]:
    done = call(workspace, "pool", "build", *arguments, "--no-mlflow", "--json")
    return done.code, [row["name"] for row in json.loads(done.out or "[]")], done.err


def test_a_pool_is_drawn_from_the_benchmarks_that_its_config_names(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    assert build(workspace, "sample") == (0, ["sample"], "")
    assert build(workspace, "configs/pools/sample.yaml") == (0, ["sample"], "")
    assert rows(workspace, "SELECT n_tasks, n_short FROM task_pool") == [(100, 0)]


def test_a_named_config_is_beside_the_pools_or_wherever_else_paths_are_looked_for(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    text = (workspace / "configs/pools/sample.yaml").read_text()
    elsewhere = workspace / "elsewhere/mine.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(text)
    code, _, err = build(workspace, "elsewhere/mine.yaml")
    assert (code, "data_config_sample.yaml" in err) == (3, True)
    elsewhere.write_text(text.replace("data_config_sample.yaml", SAMPLE))
    assert build(workspace, "elsewhere/mine.yaml")[0] == 0


def test_before_preprocessing_the_hint_names_the_config(workspace: Path) -> None:
    code, _, err = build(workspace, "sample")
    assert code == 14
    assert f"synthtrack pool preprocess --config {SAMPLE}`" in err
    code, _, err = build(workspace, "exp1")
    assert (code, "Run `synthtrack pool preprocess`." in err) == (14, True)


def test_the_command_line_goes_before_what_a_pools_config_names(workspace: Path) -> None:
    usual(workspace)
    assert build(workspace, "sample")[0] == 14
    assert build(workspace, "sample", "--config", "configs/pools/data_config.yaml")[:2] == (0, ["sample"])


def test_all_leaves_out_the_sample_where_the_usual_benchmarks_are_there(workspace: Path) -> None:
    usual(workspace)
    code, made, err = build(workspace, "--all")
    assert (code, tuple(made)) == (0, EXPERIMENTS)
    assert "sample was left out: The config of humaneval, gsm8k, bbh, amc, medical_qa is not the one" in err
    assert "exp" not in err


def test_all_leaves_out_the_others_where_only_the_sample_is_there(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    code, made, err = build(workspace, "--all")
    assert (code, made) == (0, ["sample"])
    assert all(f"{name} was left out" in err for name in EXPERIMENTS)


def test_all_leaves_out_a_pool_of_which_one_benchmark_is_missing(workspace: Path) -> None:
    usual(workspace, "humaneval", "gsm8k")
    code, made, err = build(workspace, "--all")
    assert (code, made) == (0, ["exp1", "exp2", "exp3"])
    assert "exp5 was left out: Not preprocessed yet: bbh, amc, medical_qa." in err


def test_all_leaves_out_a_pool_that_cannot_be(workspace: Path) -> None:
    usual(workspace)
    path = workspace / "configs/pools/data_config.yaml"
    with path.open("a", encoding="utf-8") as config:
        config.write("\nmixing_rules: {exclude_combinations: [[humaneval, amc]]}\n")
    code, made, err = build(workspace, "--all")
    assert (code, made) == (0, ["exp1", "exp2", "exp3"])
    assert "exp5 was left out" in err
    assert "humaneval and amc may not be mixed" in err


def test_strict_tells_of_what_was_left_out_when_the_rest_is_built(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    code, made, err = build(workspace, "--all", "--strict")
    assert (code, made) == (1, ["sample"])
    assert "Left out: exp1, exp2, exp3, exp5." in err
    assert (workspace / "data/sample/task_pool.jsonl").is_file()


def test_a_pool_that_is_asked_for_by_name_is_never_left_out(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    code, made, err = build(workspace, "exp1", "--all")
    assert (code, made) == (14, [])
    assert "The config of humaneval, gsm8k is not the one that was preprocessed." in err


def test_all_is_an_error_where_nothing_is_ready(workspace: Path) -> None:
    code, made, err = build(workspace, "--all")
    assert (code, made) == (14, [])
    assert "Not preprocessed yet: humaneval, gsm8k." in err
    assert not (workspace / "data/exp1").exists()


def test_all_with_a_config_is_about_its_pools_and_those_that_name_none(workspace: Path) -> None:
    usual(workspace)
    assert build(workspace, "--all", "--config", "configs/pools/data_config.yaml") == (0, [*EXPERIMENTS], "")
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    code, made, err = build(workspace, "--all", "--config", SAMPLE)
    # The entries differ, the tasks do not: the pools are the same.
    assert (code, made, err) == (0, [*EXPERIMENTS, "sample"], "")


def test_all_still_refuses_a_config_that_is_wrong(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    (workspace / "configs/pools/wrong.yaml").write_text("name: wrong\nbenchmarks: [amc]\ndifficulty_split: 5\n")
    code, made, err = build(workspace, "--all")
    assert (code, made) == (3, [])
    assert "wrong.yaml" in err


def test_where_its_benchmarks_are_is_no_part_of_what_a_pool_is(workspace: Path) -> None:
    call(workspace, "pool", "preprocess", "--config", SAMPLE)
    build(workspace, "sample")
    path = workspace / "configs/pools/sample.yaml"
    path.write_text(path.read_text().replace("data_config: data_config_sample.yaml", f"data_config: {SAMPLE}"))
    done = call(workspace, "pool", "build", "sample", "--no-mlflow", "--json")
    assert [row["outcome"] for row in json.loads(done.out)] == ["reused"]
