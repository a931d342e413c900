"""The figures that users know, on the benchmarks themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.benchmark_tasks import read_tasks
from tests.pipeline.pools.benchmark_files import PLACE
from tests.workspaces import REPOSITORY, call, rows

pytestmark = pytest.mark.skipif(not (PLACE / "bbh").is_dir(), reason="no benchmarks in SYNTHTRACK_BENCHMARKS")
FILES = {
    "humaneval": "humaneval.jsonl", "gsm8k": "gsm8k_test.jsonl", "bbh": "bbh", "amc": "amc12_2023.jsonl",
    "medical_qa": "medqa_sample.jsonl",
}  # fmt: skip
EXPERIMENTS = {"exp1": 1000, "exp2": 500, "exp3": 500, "exp5": 2000}
BUILD = ("pool", "build", "--no-mlflow")


def workspace(root: Path) -> Path:
    """The configs that ship, with local copies instead of the hub's."""
    directory = root / "configs/pools"
    directory.mkdir(parents=True)
    for name in EXPERIMENTS:
        (directory / f"{name}.yaml").write_bytes((REPOSITORY / f"configs/pools/{name}.yaml").read_bytes())
    config = yaml.safe_load((REPOSITORY / "configs/pools/data_config.yaml").read_text(encoding="utf-8"))
    config["benchmarks"] = {name: {"path": f"file:{PLACE}/{file}"} for name, file in FILES.items()}
    (directory / "data_config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = call(root, "pool", "preprocess")
    assert done.code == 0, done.err
    return root


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory.mktemp("here"))


def scores(here: Path, benchmark: str) -> list[float]:
    tasks = read_tasks(here / f"data/benchmarks/full/{benchmark}_full.jsonl")
    return [task["difficulty_score"] for task in tasks]


@pytest.mark.parametrize(
    ("benchmark", "n", "easy", "hard"),
    [("humaneval", 164, 33, 33), ("gsm8k", 1319, 454, 332)],
)
def test_tasks_and_bins(here: Path, benchmark: str, n: int, easy: int, hard: int) -> None:
    found = scores(here, benchmark)
    low, high = np.percentile(found, [20, 80])
    assert len(found) == n
    assert (sum(score <= low for score in found), sum(score >= high for score in found)) == (easy, hard)
    assert (min(found), max(found)) == (0.0, 1.0)


def test_thresholds_of_humaneval(here: Path) -> None:
    done = call(here, *BUILD, "--name", "thresholds", "--benchmarks", "humaneval,gsm8k", "--n", "132", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)[0]
    assert (found["n_easy"], found["n_hard"], found["n_short"]) == (66, 66, 0), "33 of each bin are all that there are"
    low, high = rows(
        here,
        "SELECT low_threshold, high_threshold FROM task_pool_benchmark_overview "
        "WHERE pool = 'thresholds' AND benchmark = 'humaneval'",
    )[0]
    assert (round(low, 3), round(high, 3)) == (0.194, 0.633)
    short = json.loads(call(here, *BUILD, "--name", "short", "--benchmarks", "humaneval", "--n", "68", "--json").out)[0]
    assert [(each["wanted"], each["got"]) for each in short["shortfalls"]] == [(34, 33), (34, 33)]


def test_what_there_is_of_each(here: Path) -> None:
    found = dict(rows(here, "SELECT name, n_tasks FROM benchmark WHERE is_current"))
    assert {name: found[name] for name in ("humaneval", "gsm8k", "amc", "medical_qa")} == {
        "humaneval": 164, "gsm8k": 1319, "amc": 40, "medical_qa": 60,
    }  # fmt: skip


def test_every_experiment_builds_and_again_elsewhere_with_the_same_bytes(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    there = workspace(tmp_path / "another/directory")
    for root in (here, there):
        done = call(root, *BUILD, "--all", "--strict")
        assert (done.code, done.err) == (0, "")
    assert call(here, *BUILD, "exp1", "--json").out.count('"reused"') == 1
    for name, n in EXPERIMENTS.items():
        for file in ("task_pool.jsonl", "statistics.json"):
            assert (here / "data" / name / file).read_bytes() == (there / "data" / name / file).read_bytes()
        figures = json.loads((here / "data" / name / "statistics.json").read_text())
        easy = n * 8 // 10 if name == "exp1" else n // 2
        assert figures["difficulty_bins"] == {"easy": easy, "hard": n - easy}
        counts = {each["count"] for each in figures["benchmark_breakdown"].values()}
        assert counts == {n // len(figures["benchmarks"])}
    assert (here / "data/exp2/task_pool.jsonl").read_bytes() == (here / "data/exp3/task_pool.jsonl").read_bytes()
