"""The builder as users know it, word by word, and what it gives beside what the commands give."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import DatasetBuilder, Task
from pipeline.pools.difficulty import Difficulty
from tests import benchmark_tasks
from tests.benchmark_tasks import data_config, pool, preprocessed, read_tasks, write_config, write_tasks
from tests.workspaces import call
from tracker.errors import ConfigError, DataError, WrongStep

CONFIG = "configs/pools/data_config.yaml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a configuration and data, in which a script runs."""
    benchmark_tasks.write_benchmarks(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("SYNTHTRACK_ROOT", "SYNTHTRACK_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return preprocessed(tmp_path_factory.mktemp("made") / "workspace")


@pytest.fixture
def builder(made: Path) -> DatasetBuilder:
    return DatasetBuilder(made / CONFIG, root=made)


def test_the_calls_that_users_know(here: Path) -> None:
    builder = DatasetBuilder("configs/pools/data_config.yaml")
    results = builder.preprocess_all_benchmarks(
        output_dir="data/benchmarks/full",
        force_reprocess=False,
    )
    assert {name: len(tasks) for name, tasks in results.items()} == {
        "humaneval": 20, "gsm8k": 40, "bbh": 30, "amc": 30, "medical_qa": 30,
    }  # fmt: skip
    tasks = builder.build_task_stream(
        benchmarks_to_include=["humaneval", "gsm8k"],
        benchmark_ratios={"humaneval": 0.5, "gsm8k": 0.5},
        difficulty_split="50:50",
        n_total_tasks=12,
        random_seed=2025,
    )
    builder.save_task_pool(tasks, "data/my_experiment/task_pool.jsonl")
    builder.save_statistics(tasks, "data/my_experiment/statistics.json")
    builder.save_task_pool(task_stream=tasks, output_path="data/exp1/task_pool.jsonl")
    builder.save_statistics(task_stream=tasks, output_path="data/exp1/statistics.json")
    found = read_tasks(here / "data/exp1/task_pool.jsonl")
    assert found == [dataclasses.asdict(task) for task in tasks]
    assert json.loads((here / "data/exp1/statistics.json").read_text())["n_total"] == 12
    for name in ("task_pool.jsonl", "statistics.json"):
        assert (here / "data/my_experiment" / name).read_bytes() == (here / "data/exp1" / name).read_bytes()
    assert sorted(path.name for path in (here / "data/exp1").iterdir()) == ["statistics.json", "task_pool.jsonl"]
    assert len(list((here / "data/benchmarks/full").iterdir())) == 10


def test_every_parameter_that_users_know(here: Path) -> None:
    builder = DatasetBuilder(config_path=CONFIG)
    builder.preprocess_all_benchmarks(output_dir="data/benchmarks/full")
    tasks = builder.build_task_stream(
        benchmarks_to_include=["humaneval", "gsm8k"],
        difficulty_split="80:20",
        n_total_tasks=100,
        random_seed=42,
        difficulty_percentiles={"humaneval": [10, 90]},
        benchmark_ratios=None,
        sample_with_replacement=True,
    )
    assert len(tasks) == 100
    assert sum(task.difficulty_bin == "easy" for task in tasks) == 80
    only = builder.build_task_stream(["humaneval"], "50:50", 4, 1, None, {"humaneval": 1.0}, None)
    assert {task.benchmark for task in only} == {"humaneval"}


def test_a_task(builder: DatasetBuilder) -> None:
    assert [field.name for field in dataclasses.fields(Task)] == [
        "task_id", "benchmark", "difficulty_score", "difficulty_bin", "raw_data", "scorer_metadata",
    ]  # fmt: skip
    (task,) = builder.build_task_stream(["gsm8k"], n_total_tasks=1)
    assert (type(task.raw_data), type(task.scorer_metadata)) == (dict, dict)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.difficulty_bin = "hard"  # type: ignore[misc]  # that it is refused is the point


def test_what_the_package_offers() -> None:
    assert pipeline.DatasetBuilder is DatasetBuilder
    assert set(pipeline.__all__) >= {"DatasetBuilder", "Task"}
    with pytest.raises(AttributeError, match="no attribute 'DatasetBuidler'"):
        _ = pipeline.DatasetBuidler


def test_what_preprocessing_gives_is_what_the_files_hold(here: Path) -> None:
    results = DatasetBuilder(CONFIG).preprocess_all_benchmarks(output_dir="elsewhere/full")
    for name, tasks in results.items():
        own, copied = (
            here / directory / f"{name}_full.jsonl" for directory in ("data/benchmarks/full", "elsewhere/full")
        )
        assert [dataclasses.asdict(task) for task in tasks] == read_tasks(own)
        assert copied.read_bytes() == own.read_bytes()
        meta = f"{name}_full_meta.json"
        assert (here / "elsewhere/full" / meta).read_bytes() == (here / "data/benchmarks/full" / meta).read_bytes()
    again = DatasetBuilder(CONFIG).preprocess_all_benchmarks()
    assert again == results
    write_tasks(here / "tasks/gsm8k.jsonl", benchmark_tasks.gsm8k(3))
    assert len(DatasetBuilder(CONFIG).preprocess_all_benchmarks(force_reprocess=True)["gsm8k"]) == 3
    assert len(read_tasks(here / "data/benchmarks/full/gsm8k_full.jsonl")) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"benchmarks": list(benchmark_tasks.ENTRIES), "n_total_tasks": 37, "difficulty_split": "70:30"},
        {"sample_with_replacement": True, "n_total_tasks": 200, "random_seed": 0},
        {"difficulty_percentiles": {"gsm8k": [40, 60]}, "benchmark_ratios": {"humaneval": 0.25, "gsm8k": 0.75}},
        {"n_total_tasks": 60},
    ],
)
def test_a_stream_is_the_pool_of_the_same_settings(
    builder: DatasetBuilder, made: Path, tmp_path: Path, changes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    config = pool(name=f"same{request.node.callspec.indices['changes']}", **changes)
    write_config(made, config, config["name"])
    assert call(made, "pool", "build", config["name"], "--no-mlflow").code == 0
    given = {key: value for key, value in config.items() if key not in {"name", "benchmarks"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = builder.build_task_stream(config["benchmarks"], **given)
    written = (
        builder.save_task_pool(tasks, tmp_path / "task_pool.jsonl"),
        builder.save_statistics(tasks, tmp_path / "statistics.json"),
    )
    for path in written:
        assert path.read_bytes() == (made / "data" / config["name"] / path.name).read_bytes()


def test_a_bin_that_is_too_small_is_warned_of(builder: DatasetBuilder, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="humaneval has 4 (easy|hard) tasks, 10 were wanted") as caught:
        tasks = builder.build_task_stream(["humaneval"], n_total_tasks=20)
    assert len(caught) == 2
    assert Path(caught[0].filename) == Path(__file__)
    assert [(each.bin, each.wanted, each.got) for each in tasks.shortfalls] == [("easy", 10, 4), ("hard", 10, 4)]
    found = json.loads(builder.save_statistics(tasks, tmp_path / "statistics.json").read_text())
    assert found["shortfalls"][0] == {"benchmark": "humaneval", "bin": "easy", "wanted": 10, "got": 4}
    chosen = [task for task in tasks if task.difficulty_bin == "hard"]
    assert "shortfalls" not in json.loads(builder.save_statistics(chosen, tmp_path / "statistics.json").read_text())


def test_a_stream_with_a_name_is_recorded(builder: DatasetBuilder, made: Path) -> None:
    tasks = builder.build_task_stream(["gsm8k"], n_total_tasks=5, name="named")
    assert read_tasks(made / "data/named/task_pool.jsonl") == [dataclasses.asdict(task) for task in tasks]
    builder.build_task_stream(["gsm8k"], n_total_tasks=3)
    assert not (made / "data/stream").exists()


def test_a_configuration_in_memory(here: Path) -> None:
    config = data_config(benchmarks={"amc": {"enabled": False}}, stream_generation={"sample_with_replacement": True})
    builder = DatasetBuilder(config)
    assert "amc" not in builder.preprocess_all_benchmarks()
    assert len(builder.build_task_stream(["gsm8k"], n_total_tasks=100)) == 100
    with pytest.raises(ConfigError, match=r"the config has 1 problem\.\n.*unknown key `benchmark`; did you mean"):
        DatasetBuilder({**config, "benchmark": {}})
    with pytest.raises(ConfigError, match="cannot be read"):
        DatasetBuilder("configs/pools/none.yaml")


def test_errors_of_a_stream(builder: DatasetBuilder, here: Path) -> None:
    with pytest.raises(ConfigError, match=r"the ratios sum to 0\.9, not to 1"):
        builder.build_task_stream(["humaneval", "gsm8k"], benchmark_ratios={"humaneval": 0.5, "gsm8k": 0.4})
    with pytest.raises(ConfigError, match="no benchmark 'gsm8'; did you mean 'gsm8k'"):
        builder.build_task_stream(["gsm8"])
    with pytest.raises(ConfigError, match="is no split of easy and hard"):
        builder.build_task_stream(["gsm8k"], difficulty_split="50-50")
    with pytest.raises(WrongStep, match="Not preprocessed yet: gsm8k"):
        DatasetBuilder(CONFIG).build_task_stream(["gsm8k"])


def test_one_that_fails_is_raised_when_the_others_are_there(here: Path) -> None:
    (here / "tasks/gsm8k.jsonl").write_text("oops\n")
    with pytest.raises(DataError, match="The tasks of gsm8k cannot be used"):
        DatasetBuilder(CONFIG).preprocess_all_benchmarks("copy")
    assert len(list((here / "data/benchmarks/full").glob("*_full.jsonl"))) == 4
    assert len(list((here / "copy").glob("*_full.jsonl"))) == 4


def test_a_file_is_replaced_whole_and_a_place_that_cannot_be_written_is_left(
    builder: DatasetBuilder, tmp_path: Path
) -> None:
    tasks = builder.build_task_stream(["gsm8k"], n_total_tasks=3)
    path = builder.save_task_pool(tasks, tmp_path / "a/b/pool.jsonl")
    builder.save_task_pool(tasks[:1], path)
    assert len(read_tasks(path)) == 1
    (tmp_path / "directory.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        builder.save_task_pool(tasks, tmp_path / "directory.jsonl")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "directory.jsonl"]


def test_a_benchmark_of_ones_own(here: Path) -> None:
    def riddles(records: Any) -> Difficulty:
        lengths = [len(record.raw["riddle"]) for record in records]
        return Difficulty(lengths, [{"length": length} for length in lengths], {"longest": max(lengths)})

    write_tasks(here / "riddles.jsonl", [{"riddle": "r" * number} for number in range(1, 11)])
    builder = DatasetBuilder({"benchmarks": {"riddles": {"path": "file:riddles.jsonl"}}}, scorers={"riddles": riddles})
    (tasks,) = builder.preprocess_all_benchmarks().values()
    assert [task.difficulty_score for task in tasks] == [pytest.approx(at / 9) for at in range(10)]
    assert tasks[0].task_id == "riddles_00000"
    found = builder.build_task_stream(["riddles"], n_total_tasks=4, random_seed=1)
    assert {task.raw_data["riddle"] for task in found} == {"r", "rr", "r" * 9, "r" * 10}
