"""What the pages about pools claim: their commands run, their formulas are the scorers', their keys are the files'."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from docs.generate import pools as configuration
from pipeline.pools import difficulty
from pipeline.pools.difficulty import SCORERS, top
from tests.test_docs import command, options, shapes
from tests.test_pool_samples import full
from tests.test_readme import README
from tests.workspaces import REPOSITORY, call

PAGE = (REPOSITORY / "docs/pools.md").read_text(encoding="utf-8")
FORMULAS = dict(re.findall(r"^\| `(\w+)` \| `([^`]*(?:/|min)[^`]*)` \|$", PAGE, re.MULTILINE))
SAMPLE = "configs/pools/data_config_sample.yaml"
CONFIG = {
    "benchmarks": {"bbh": {"path": "file:data/inputs/benchmarks/bbh", "configs": ["boolean_expressions", "navigate"]}},
}
POOL: dict[str, Any] = {"name": "p", "benchmarks": ["bbh"], "n_total_tasks": 10}


def outcome(words: list[str], here: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(here)}
    environ["PYTHONPATH"] = str(REPOSITORY)
    return subprocess.run(words, cwd=here, env=environ, capture_output=True, text=True, timeout=170, check=False)


def test_what_python_saves_is_what_the_command_writes(tmp_path: Path) -> None:
    call(tmp_path, "init")
    scripts = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    [script] = [each for each in scripts if "DatasetBuilder" in each]
    done = outcome([sys.executable, "-c", script], tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("task_pool.jsonl", "statistics.json"):
        assert (tmp_path / "elsewhere" / name).read_bytes() == (tmp_path / "data/from_python" / name).read_bytes()


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    call(tmp_path, "init")
    scripts = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    [script] = [each for each in scripts if "DatasetBuilder" in each]
    done = outcome([sys.executable, "-c", script], tmp_path)
    assert re.fullmatch(r"exp_00000_(humaneval|gsm8k) [01]\.\d+ (easy|hard)\n", done.stdout), done.stderr
    assert len((tmp_path / "data/from_python/task_pool.jsonl").read_text().splitlines()) == 20


def value(formula: str, known: Mapping[str, Any]) -> float:
    found = eval(formula, {"__builtins__": {}, "min": min}, dict(known))
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("name", SCORERS)
def test_the_formulas_are_the_scorers(name: str) -> None:
    found = SCORERS[name](full(name).records)
    assert set(found.constants) <= set(re.findall(r"max_\w+", FORMULAS[name]))
    for score, features in zip(found.scores, found.features, strict=True):
        assert value(FORMULAS[name], {**features, **found.constants}) == score


def test_the_constants_are_what_the_page_says() -> None:
    steps = re.findall(r"how many of (.*?) occur", PAGE, re.DOTALL)[0]
    assert tuple(re.findall(r"`([^`]+)`", steps)) == tuple(difficulty.STEP_WORDS)
    words = re.findall(r"parts of words: (.*?)\.\n", PAGE, re.DOTALL)[0]
    assert tuple(re.findall(r"`(\w+)`", words)) == difficulty.MEDICAL_WORDS
    base = re.findall(r"`base_complexity` is.*?: (.*?), all others (0\.\d+)", PAGE, re.DOTALL)[0]
    assert {name: float(each) for name, each in re.findall(r"`(\w+)` (0\.\d+)", base[0])} == difficulty.BASE_COMPLEXITY
    assert float(base[1]) == 0.5
    assert f"`max_problem` is {difficulty.PROBLEMS}." in PAGE
    assert top([0.0, 0.0]) == 1.0
    assert f"the {difficulty.PERCENTILE}th percentile (linear)" in PAGE


@pytest.mark.parametrize("features", list(SCORERS["gsm8k"](full("gsm8k").records).features))
def test_the_steps_of_an_answer_are_the_mean_that_the_page_says(features: Mapping[str, Any]) -> None:
    [formula] = re.findall(r"`reasoning_steps` is `([^`]+)`", PAGE)
    assert value(formula, features) == features["reasoning_steps"]


def keys(heading: str) -> list[str]:
    """The keys in the table below a file's name."""
    table = PAGE.partition(heading)[2].partition("| key | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_the_files_have_the_keys_that_the_page_says_in_its_order(tmp_path: Path) -> None:
    call(tmp_path, "init")
    call(tmp_path, "pool", "preprocess", "--config", SAMPLE)
    assert call(tmp_path, "pool", "build", "sample", "--n", "200", "--no-mlflow").code == 0
    data = tmp_path / "data"
    line = json.loads((data / "sample/task_pool.jsonl").read_text().splitlines()[0])
    assert list(line) == keys("`data/{pool}/task_pool.jsonl`")
    assert re.fullmatch(r"exp_00000_\w+", line["task_id"])
    statistics = json.loads((data / "sample/statistics.json").read_text())
    assert list(statistics) == keys("`data/{pool}/statistics.json`")
    for name in ("difficulty_distribution", "difficulty_bins"):
        [row] = re.findall(rf"^\| `{name}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert list(statistics[name]) == re.findall(r"`(\w+)`", row)
    [row] = re.findall(r"^\| `benchmark_breakdown` \| (.*) \|$", PAGE, re.MULTILINE)
    assert list(statistics["benchmark_breakdown"]["amc"]) == re.findall(r"`(\w+)`", row)
    [row] = re.findall(r"^\| `shortfalls` \| (.*) \|$", PAGE, re.MULTILINE)
    assert list(statistics["shortfalls"][0]) == re.findall(r"`(\w+)`", row)
    line = json.loads((data / "benchmarks/full/gsm8k_full.jsonl").read_text().splitlines()[0])
    assert (list(line)[:2], line["task_id"], line["difficulty_bin"]) == (
        ["task_id", "benchmark"], "gsm8k_00000", "unassigned",
    )  # fmt: skip
    meta = json.loads((data / "benchmarks/full/gsm8k_full_meta.json").read_text())
    assert list(meta) == keys("`{benchmark}_full_meta.json`")


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "benchmarks.NAME.enabled": ({"benchmarks": {"bbh": {"enabled": True}}}, {}),
    "benchmarks.NAME.path": ({"benchmarks": {"bbh": {"path": "file:elsewhere"}}}, {}),
    "benchmarks.NAME.split": ({"benchmarks": {"bbh": {"split": "train"}}}, {}),
    "benchmarks.NAME.configs": ({"benchmarks": {"bbh": {"configs": None}}}, {}),
    "stream_generation.difficulty_percentiles": (
        {"stream_generation": {"difficulty_percentiles": {"bbh": [1, 2]}}},
        {},
    ),
    "stream_generation.sample_with_replacement": ({"stream_generation": {"sample_with_replacement": True}}, {}),
    "mixing_rules.exclude_combinations": ({"mixing_rules": {"exclude_combinations": [["bbh", "other"]]}}, {}),
    "a pool.name": ({}, {"name": "q"}),
    "a pool.description": ({}, {"description": "other"}),
    "a pool.data_config": ({}, {"data_config": "other.json"}),
    "a pool.benchmark_ratios": ({}, {"benchmark_ratios": {"bbh": 0.4, "other": 0.6}}),
    "a pool.difficulty_split": ({}, {"difficulty_split": "60:40"}),
    "a pool.n_total_tasks": ({}, {"n_total_tasks": 12}),
    "a pool.random_seed": ({}, {"random_seed": 1}),
    "a pool.difficulty_percentiles": ({}, {"difficulty_percentiles": {"bbh": [1, 2]}}),
    "a pool.sample_with_replacement": ({}, {"sample_with_replacement": True}),
    "a pool.benchmarks": ({}, {"benchmarks": ["bbh"]}),
}


def fingerprints(root: Path, changes: tuple[dict[str, Any], dict[str, Any]]) -> tuple[str, str]:
    """Of benchmark bbh and of the pool, with changes to the two configs."""
    spec = {**CONFIG["benchmarks"]["bbh"], **changes[0].get("benchmarks", {}).get("bbh", {})}
    other = {"path": "file:data/inputs/benchmarks/bbh"}
    benchmarks = {**changes[0], "benchmarks": {"bbh": spec, "other": other}}
    (root / "data.json").write_text(json.dumps(benchmarks))
    (root / "other.json").write_text(json.dumps(benchmarks))
    (root / "scorers.py").write_text(
        "from pipeline.pools.difficulty import bbh\n\n\ndef other(r):\n    return bbh(r)\n"
    )
    pool = {"data_config": "data.json", **POOL, "benchmarks": ["bbh", "other"], **changes[1]}
    (root / "pool.json").write_text(json.dumps(pool))
    done = call(root, "pool", "preprocess", "--config", "data.json", "--scorers", "scorers.py", "--json")
    built = call(root, "pool", "build", "pool.json", "--no-mlflow", "--json")
    assert (done.code, built.code) in {(0, 0), (0, 3)}, done.err + built.err
    made = json.loads(built.out or '[{"fingerprint": ""}]')[0]["fingerprint"]
    return json.loads(done.out)[0]["fingerprint"], made


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("workspace")
    call(found, "init")
    shutil.copytree(found / "data/inputs/benchmarks/bbh", found / "elsewhere")
    return found


@pytest.mark.parametrize("key", CHANGES)
def test_what_is_part_of_a_fingerprint_is_said_as_it_is(key: str, root: Path) -> None:
    said = shapes(configuration())[key]
    (benchmark, pool), (changed, changed_pool) = fingerprints(root, ({}, {})), fingerprints(root, CHANGES[key])
    assert (changed != benchmark) is (said == "of the benchmark")
    if key != "mixing_rules.exclude_combinations":  # which then forbids the pool
        assert (changed_pool != pool) is said.startswith("of the ")


def test_every_key_is_tried() -> None:
    assert {key for key, what in shapes(configuration()).items() if what != "see below"} == {
        *CHANGES,
        "benchmarks' configuration.mixing_rules",
    }


SPANS = {span for text in (PAGE, README) for span in re.findall(r"`((?:synthtrack )?pool [^`\n]+)`", text)}


@pytest.mark.parametrize("span", sorted(SPANS))
def test_every_command_that_is_named_exists(span: str) -> None:
    found, rest = command(["pool", *shlex.split(span.partition("pool ")[2])])
    assert found.name not in {None, "pool"}
    assert {word for word in rest if word.startswith("--")} <= options(found)
