"""Every mistake in the settings of pools is said in words, all at once, with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pools.build import prepare
from pipeline.pools.configs import all_pools, benchmarks_of, given_pool, load_benchmarks, load_pool
from pipeline.pools.specs import BenchmarksConfig, BenchmarkSpec, PoolConfig, easy_share
from tests.workspaces import REPOSITORY
from tracker import configs
from tracker.configs import Document, parse
from tracker.errors import ConfigError, UnknownReference
from tracker.paths import Workspace
from tracker.spec import Spec

BENCHMARKS = {name: {"path": f"file:{name}.jsonl"} for name in ("humaneval", "gsm8k", "amc")}


def problems(spec: type[Spec], document: dict[str, Any] | str) -> list[str]:
    text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    with pytest.raises(ConfigError) as caught:
        configs.validate(spec, parse(text, "f.yaml"))
    return [str(problem) for problem in caught.value.problems]


def pool_problems(**changes: Any) -> list[str]:
    found = problems(PoolConfig, {"name": "mine", "benchmarks": ["humaneval", "gsm8k"], **changes})
    return [problem.partition(": ")[2] for problem in found]


def valid(**changes: Any) -> PoolConfig:
    return configs.validate(PoolConfig, Document({"name": "mine", "benchmarks": ["a", "b"], **changes}, "f.yaml"))


@pytest.mark.parametrize(
    ("ratios", "what"),
    [
        ([0.5, 0.4], "the ratios sum to 0.9, not to 1"),
        ([0.5, 0.500002], "the ratios sum to 1.000002, not to 1"),
        ([0.5, 0.499998], "the ratios sum to 0.999998, not to 1"),
        ([0.0, 0.0], "the ratios sum to 0, not to 1"),
        ([1.5, -0.5], "the ratio of gsm8k is below 0"),
    ],
)
def test_ratios_that_are_wrong(ratios: list[float], what: str) -> None:
    found = pool_problems(benchmark_ratios=dict(zip(("humaneval", "gsm8k"), ratios, strict=True)))
    assert found == [f"`the configuration`: {what}"]


def test_ratios_of_other_benchmarks() -> None:
    (found,) = pool_problems(benchmark_ratios={"humaneval": 0.5, "amc": 0.6}, difficulty_percentiles={"bbh": [1, 2]})
    assert found.removeprefix("`the configuration`: ").split("; ") == [
        "benchmark_ratios names amc, which is not among its benchmarks",
        "difficulty_percentiles names bbh, which is not among its benchmarks",
        "benchmark_ratios lacks gsm8k",
        "the ratios sum to 1.1, not to 1",
    ]
    assert pool_problems(benchmark_ratios={}) == [
        "`the configuration`: benchmark_ratios lacks humaneval, gsm8k; the ratios sum to 0, not to 1"
    ]
    assert pool_problems(benchmark_ratios={"humaneval": float("nan"), "gsm8k": 1}) != []


@given(st.floats(-0.9e-6, 0.9e-6))
def test_ratios_within_the_tolerance(by: float) -> None:
    assert valid(benchmark_ratios={"a": 0.3, "b": 0.7 + by}).benchmark_ratios == {"a": 0.3, "b": 0.7 + by}


def test_a_third_each() -> None:
    valid(benchmarks=["a", "b", "c"], benchmark_ratios=dict.fromkeys("abc", 0.3333333))


@pytest.mark.parametrize(
    ("split", "share"),
    [("80:20", 0.8), ("4:1", 0.8), ("0:100", 0), ("100:0", 1), ("33.3:66.7", 0.333), (" 1 : 1 ", 0.5)],
)
def test_a_split(split: str, share: float) -> None:
    assert easy_share(split) == pytest.approx(share)
    assert easy_share(valid(difficulty_split=split).difficulty_split) == pytest.approx(share)


@pytest.mark.parametrize("text", ["80:20", "'80:20'", "[80, 20]"])
def test_a_split_as_yaml_has_it(text: str) -> None:
    found = configs.validate(PoolConfig, parse(f"name: a\nbenchmarks: [a]\ndifficulty_split: {text}", "f.yaml"))
    assert found.difficulty_split == "80:20"


@pytest.mark.parametrize("split", ["80", "80:20:0", "80-20", "easy:hard", ":", "80:", "", "a:b"])
def test_what_is_no_split(split: str) -> None:
    what = f"`difficulty_split`: {split!r} is no split of easy and hard, such as 80:20 (got {split!r})"
    assert pool_problems(difficulty_split=split) == [what]


@pytest.mark.parametrize("split", ["0:0", "-1:2", "nan:1", "inf:1"])
def test_what_is_a_split_of_nothing(split: str) -> None:
    what = f"`difficulty_split`: {split!r} is no split: two numbers from 0, not both 0 (got {split!r})"
    assert pool_problems(difficulty_split=split) == [what]


ORDER = "two percentiles from 0 to 100, the lower one first, as [20, 80]"


@pytest.mark.parametrize("pair", [[80, 20], [-1, 50], [20, 101]])
def test_percentiles_out_of_order(pair: list[float]) -> None:
    assert pool_problems(difficulty_percentiles={"gsm8k": pair}) == [f"`difficulty_percentiles.gsm8k`: {ORDER}"]
    found = problems(
        BenchmarksConfig, {"benchmarks": BENCHMARKS, "stream_generation": {"difficulty_percentiles": {"gsm8k": pair}}}
    )
    assert [problem.partition(": ")[2] for problem in found] == [
        f"`stream_generation.difficulty_percentiles.gsm8k`: {ORDER}"
    ]


@pytest.mark.parametrize("pair", [[0, 100], [50, 50], [0, 0]])
def test_percentiles_at_their_ends(pair: list[float]) -> None:
    assert valid(difficulty_percentiles={"a": pair}).difficulty_percentiles == {"a": tuple(pair)}


@pytest.mark.parametrize("pair", [[20], [20, 50, 80], "20:80", [True, 80], None])
def test_what_are_no_percentiles(pair: Any) -> None:
    assert pool_problems(difficulty_percentiles={"gsm8k": pair}) != []


def test_all_mistakes_of_a_pool_at_once() -> None:
    text = """\
name: ../mine
benchmarks: [gsm8k, gsm8k]
difficulty_splt: 50:50
difficulty_split: half
n_total_tasks: 0
random_seed: -1
sample_with_replacement: maybe
"""
    assert problems(PoolConfig, text) == [
        "f.yaml:1: `name`: '../mine' holds a separator, a control character or what is not UTF-8 (got '../mine')",
        "f.yaml:2: `benchmarks`: gsm8k is there twice",
        "f.yaml:3: unknown key `difficulty_splt`; did you mean `difficulty_split`?",
        "f.yaml:4: `difficulty_split`: 'half' is no split of easy and hard, such as 80:20 (got 'half')",
        "f.yaml:5: `n_total_tasks`: input should be greater than or equal to 1 (got 0)",
        "f.yaml:6: `random_seed`: input should be greater than or equal to 0 (got -1)",
        "f.yaml:7: `sample_with_replacement`: input should be a valid boolean, unable to interpret input (got 'maybe')",
    ]


def test_all_mistakes_of_benchmarks_at_once() -> None:
    text = """\
benchmarks:
  humaneval: {enabled: perhaps, path: "openai_humaneval"}
  gsm8k: {pth: "datasets:gsm8k/main"}
  bbh:
    path: "datasets:"
    configs: [navigate, navigate]
  amc:
    path: "file:/"
    configs: []
stream_generaton: {}
mixing_rules: {exclude_combinations: [[amc]]}
"""
    source = "datasets:NAME or datasets:NAME/CONFIG (the hub), or file:PATH (a file or a directory)"
    help_text = BenchmarkSpec.model_fields["path"].description
    is_true = "input should be a valid boolean, unable to interpret input (got 'perhaps')"
    assert problems(BenchmarksConfig, text) == [
        f"f.yaml:2: `benchmarks.humaneval.enabled`: {is_true}",
        f"f.yaml:2: `benchmarks.humaneval.path`: {source} (got 'openai_humaneval')",
        f"f.yaml:3: missing key `benchmarks.gsm8k.path` ({help_text})",
        "f.yaml:3: unknown key `benchmarks.gsm8k.pth`; did you mean `path`?",
        f"f.yaml:5: `benchmarks.bbh.path`: {source} (got 'datasets:')",
        "f.yaml:6: `benchmarks.bbh.configs`: navigate is there twice",
        f"f.yaml:8: `benchmarks.amc.path`: {source} (got 'file:/')",
        "f.yaml:9: `benchmarks.amc.configs`: tuple should have at least 1 item after validation, not 0",
        "f.yaml:10: unknown key `stream_generaton`; did you mean `stream_generation`?",
        "f.yaml:11: missing key `mixing_rules.exclude_combinations.0.1`",
    ]


def test_benchmarks_that_are_named_and_not_there() -> None:
    found = problems(
        BenchmarksConfig,
        {
            "benchmarks": BENCHMARKS,
            "stream_generation": {"difficulty_percentiles": {"gsm": [20, 80]}},
            "mixing_rules": {"exclude_combinations": [["amc", "bbh"]]},
        },
    )
    assert found == ["f.yaml: `the configuration`: bbh, gsm: no such benchmark here; there are humaneval, gsm8k, amc"]
    assert problems(BenchmarksConfig, {"benchmarks": {}}) != []


def test_every_benchmark_that_cannot_be_in_a_pool(tmp_path: Path) -> None:
    benchmarks = BenchmarksConfig.model_validate(
        {
            "benchmarks": {**BENCHMARKS, "amc": {"path": "file:a", "enabled": False}},
            "mixing_rules": {"exclude_combinations": [["gsm8k", "humaneval"], ["humaneval", "amc"]]},
        }
    )
    config = valid(benchmarks=["humaneval", "gsm8", "amc", "gsm8k"])
    with pytest.raises(ConfigError) as caught:
        prepare(Workspace(tmp_path), benchmarks, config, path="exp.yaml", command="")
    assert [str(problem) for problem in caught.value.problems] == [
        "exp.yaml: no benchmark 'gsm8'; did you mean 'gsm8k'?",
        "exp.yaml: benchmark 'amc' is disabled (benchmarks.amc.enabled)",
        "exp.yaml: gsm8k and humaneval may not be mixed (mixing_rules.exclude_combinations)",
        "exp.yaml: humaneval and amc may not be mixed (mixing_rules.exclude_combinations)",
    ]


@pytest.mark.parametrize("name", ["benchmarks", "agents", "inputs"])
def test_a_pool_is_not_called_as_what_lies_there(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is where other things lie"):
        given_pool({"name": name, "benchmarks": ["gsm8k"]})


def test_percentiles_of_all_benchmarks_of_a_pool() -> None:
    found = given_pool({"name": "a", "benchmarks": ["gsm8k", "amc"], "difficulty_percentiles": {"*": [10.0, 90.0]}})
    assert found.config.difficulty_percentiles == {"gsm8k": (10, 90), "amc": (10, 90)}
    for benchmarks in ("gsm8k", [["gsm8k"]], None):
        with pytest.raises(ConfigError, match="`benchmarks"):
            given_pool({"name": "a", "benchmarks": benchmarks, "difficulty_percentiles": {"*": [10.0, 90.0]}})


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "configs/pools").mkdir(parents=True)
    (tmp_path / "configs/pools/exp1.yaml").write_text("name: exp1\nbenchmarks: [gsm8k]\n")
    (tmp_path / "exp1").mkdir()
    assert load_pool(workspace, "exp1", {}).config.name == "exp1", "a directory of that name is no config"
    for name in ("exp2", "x" * 300):
        with pytest.raises(UnknownReference, match="No pool config"):
            load_pool(workspace, name, {})


SHIPPED = Workspace(REPOSITORY)
SEED: dict[str, tuple[int, str, list[str]]] = {
    "exp1": (1000, "80:20", ["humaneval", "gsm8k"]),
    "exp2": (500, "50:50", ["humaneval", "gsm8k"]),
    "exp3": (500, "50:50", ["humaneval", "gsm8k"]),
    "exp5": (2000, "50:50", ["humaneval", "gsm8k", "bbh", "amc", "medical_qa"]),
}


@pytest.mark.parametrize("name", SEED)
def test_the_experiments_that_ship(name: str) -> None:
    found = load_pool(SHIPPED, name, {}).config
    assert (found.n_total_tasks, found.difficulty_split, list(found.benchmarks)) == SEED[name]
    assert found.name == name
    assert found.random_seed == 2025
    assert found.benchmark_ratios == dict.fromkeys(found.benchmarks, 1 / len(found.benchmarks))


def test_every_config_that_ships_is_valid() -> None:
    found = all_pools(SHIPPED)
    assert {Path(path).stem for path in found} >= SEED.keys()
    for path in found:
        pool = load_pool(SHIPPED, path, {})
        benchmarks = load_benchmarks(SHIPPED, benchmarks_of(SHIPPED, pool))
        assert set(pool.config.benchmarks) <= benchmarks.benchmarks.keys()
    shipped = load_benchmarks(SHIPPED)
    assert all(spec.enabled for spec in shipped.benchmarks.values())
    assert set(shipped.stream_generation.difficulty_percentiles.values()) == {(20.0, 80.0)}
    assert not shipped.stream_generation.sample_with_replacement
    assert len(shipped.benchmarks["bbh"].configs or ()) == 10
