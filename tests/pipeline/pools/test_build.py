"""A pool is what its settings say: the same bytes anywhere, found again, and short where it must be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.pools.build import Built, build, prepare
from pipeline.pools.configs import Named, given_pool, load_benchmarks, load_pool
from pipeline.pools.preprocess import preprocess
from pipeline.pools.stream import Shortfall
from tests import benchmark_tasks
from tests.benchmark_tasks import data_config, pool, preprocessed, read_tasks, write_config, write_tasks
from tests.databases import KINDS, empty_workspace, rows
from tests.workspaces import REPOSITORY, call, environment, finish, start
from tracker.errors import WrongStep
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.views import pool_view


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose benchmarks are preprocessed; tests add pools, each of its own name."""
    return preprocessed(tmp_path_factory.mktemp("made") / "workspace")


def build_in(root: Path, **changes: Any) -> Built:
    return built_from(root, given_pool(pool(**changes)))


def built_from(root: Path, named: Named) -> Built:
    here = Workspace(root, environ={})
    job = prepare(here, load_benchmarks(here), named.config, path=named.path, command="test")
    found = build(here, job)
    with reading(here) as reader:
        pool_view.refresh(here, reader, [found.pool["id"]])
    return found


def files(root: Path, name: str) -> tuple[bytes, bytes]:
    directory = root / "data" / name
    return (directory / "task_pool.jsonl").read_bytes(), (directory / "statistics.json").read_bytes()


def test_a_pool_is_made_once_and_found_again(made: Path) -> None:
    first = build_in(made, name="once")
    assert (first.outcome, first.pool["name"], first.shortfalls) == ("made", "once", ())
    content = files(made, "once")
    again = build_in(made, name="once", description="another sentence")
    assert (again.outcome, again.pool) == ("reused", first.pool)
    assert files(made, "once") == content


@pytest.mark.parametrize(
    "same",
    [
        {"difficulty_split": "1:1"},
        {"difficulty_split": [50, 50]},
        {"benchmark_ratios": {"gsm8k": 0.5, "humaneval": 0.5}},
        {"benchmark_ratios": {"gsm8k": 0.5000001, "humaneval": 0.4999999}},
        {"difficulty_split": "50.0000001:50"},
        {"difficulty_percentiles": {"gsm8k": [20, 80]}},
        {"sample_with_replacement": False},
        {"n_total_tasks": "12"},
    ],
)
def test_what_means_the_same_is_the_same_pool(made: Path, same: dict[str, Any]) -> None:
    first = build_in(made, name="same")
    assert build_in(made, name="same", **same).pool["id"] == first.pool["id"]


OTHER: list[dict[str, Any]] = [
    {"difficulty_split": "60:40"},
    {"benchmark_ratios": {"gsm8k": 0.6, "humaneval": 0.4}},
    {"benchmarks": ["gsm8k", "humaneval"]},
    {"benchmarks": ["gsm8k"]},
    {"difficulty_percentiles": {"gsm8k": [20, 79]}},
    {"sample_with_replacement": True},
    {"n_total_tasks": 11},
    {"random_seed": 8},
]


def test_other_settings_are_another_pool_whose_name_gets_a_number(made: Path) -> None:
    names = [build_in(made, name="many").pool["name"]]
    names += [build_in(made, name="many", **other).pool["name"] for other in OTHER]
    assert names == ["many", *(f"many_{number}" for number in range(2, len(OTHER) + 2))]
    assert len({files(made, name)[0] for name in names}) > len(OTHER) - 2
    assert [build_in(made, name="many", **other).outcome for other in OTHER] == ["reused"] * len(OTHER)


def test_the_files_are_in_the_form_that_users_know(made: Path) -> None:
    build_in(made, name="form", benchmarks=["humaneval", "gsm8k", "bbh"], n_total_tasks=18)
    tasks = read_tasks(made / "data/form/task_pool.jsonl")
    assert len(tasks) == 18
    for at, task in enumerate(tasks):
        assert list(task) == [
            "task_id", "benchmark", "difficulty_score", "difficulty_bin", "raw_data", "scorer_metadata",
        ]  # fmt: skip
        assert task["task_id"] == f"exp_{at:05d}_{task['benchmark']}"
        assert task["difficulty_bin"] in {"easy", "hard"}
        assert 0 <= task["difficulty_score"] <= 1
    sources = {name: read_tasks(made / f"tasks/{name}.jsonl") for name in ("humaneval", "gsm8k")}
    assert all(task["raw_data"] in sources[task["benchmark"]] for task in tasks if task["benchmark"] in sources)
    assert {name for task in tasks if task["benchmark"] == "humaneval" for name in task["scorer_metadata"]} == {
        "n_asserts", "prompt_len",
    }  # fmt: skip
    found = json.loads((made / "data/form/statistics.json").read_text())
    scores = [task["difficulty_score"] for task in tasks]
    assert list(found) == [
        "n_total", "benchmarks", "difficulty_distribution", "difficulty_bins", "benchmark_breakdown",
    ]  # fmt: skip
    assert (found["n_total"], found["benchmarks"]) == (18, ["humaneval", "gsm8k", "bbh"])
    assert found["difficulty_distribution"] == {
        "mean": pytest.approx(np.mean(scores)),
        "std": pytest.approx(np.std(scores)),
        "min": min(scores),
        "max": max(scores),
    }
    assert found["difficulty_bins"] == {"easy": 9, "hard": 9}
    assert list(found["benchmark_breakdown"]) == ["humaneval", "gsm8k", "bbh"]
    for name, own in found["benchmark_breakdown"].items():
        inside = [task["difficulty_score"] for task in tasks if task["benchmark"] == name]
        assert own == {"count": 6, "mean_difficulty": pytest.approx(np.mean(inside)), "easy": 3, "hard": 3}


def test_bins_come_from_the_full_data(made: Path) -> None:
    build_in(made, name="full", n_total_tasks=4, difficulty_percentiles={"gsm8k": [10, 60]})
    full = {
        name: [task["difficulty_score"] for task in read_tasks(made / f"data/benchmarks/full/{name}_full.jsonl")]
        for name in ("humaneval", "gsm8k")
    }
    bounds = {"humaneval": np.percentile(full["humaneval"], [20, 80]), "gsm8k": np.percentile(full["gsm8k"], [10, 60])}
    for task in read_tasks(made / "data/full/task_pool.jsonl"):
        low, high = bounds[task["benchmark"]]
        assert task["difficulty_score"] <= low if task["difficulty_bin"] == "easy" else task["difficulty_score"] >= high
    stored = rows(Workspace(made, environ={}), "SELECT * FROM task_pool_benchmark_overview WHERE pool = 'full'")
    assert {row["benchmark"]: (row["low_threshold"], row["high_threshold"]) for row in stored} == {
        name: tuple(pair) for name, pair in bounds.items()
    }


def test_full_data_bears_no_bin(made: Path) -> None:
    tasks = read_tasks(made / "data/benchmarks/full/bbh_full.jsonl")
    assert [task["task_id"] for task in tasks] == [f"bbh_{at:05d}" for at in range(30)]
    assert {task["difficulty_bin"] for task in tasks} == {"unassigned"}
    meta = json.loads((made / "data/benchmarks/full/bbh_full_meta.json").read_text())
    assert meta["normalization_constants"] == {"max_input_len": pytest.approx(14.55)}
    assert (meta["benchmark"], meta["n_tasks"], meta["path"]) == ("bbh", 30, "file:tasks/bbh")


def test_a_bin_that_is_too_small_is_said_with_what_was_wanted(made: Path) -> None:
    found = build_in(made, name="short", n_total_tasks=40, difficulty_split="75:25")
    # Of 20 tasks of humaneval and 40 of gsm8k, a fifth is easy and a fifth is hard.
    assert found.shortfalls == (
        Shortfall("humaneval", "easy", 15, 4),
        Shortfall("humaneval", "hard", 5, 4),
        Shortfall("gsm8k", "easy", 15, 8),
    )
    assert (found.pool["n_wanted"], found.pool["n_tasks"], found.pool["n_short"]) == (40, 21, 19)
    figures = json.loads(files(made, "short")[1])
    assert figures["shortfalls"] == [
        {"benchmark": "humaneval", "bin": "easy", "wanted": 15, "got": 4},
        {"benchmark": "humaneval", "bin": "hard", "wanted": 5, "got": 4},
        {"benchmark": "gsm8k", "bin": "easy", "wanted": 15, "got": 8},
    ]
    assert (figures["n_total"], figures["difficulty_bins"]) == (21, {"easy": 12, "hard": 9})
    raw = [json.dumps(task["raw_data"]) for task in read_tasks(made / "data/short/task_pool.jsonl")]
    assert len(set(raw)) == 21
    again = build_in(made, name="short", n_total_tasks=40, difficulty_split="75:25")
    assert (again.outcome, again.shortfalls) == ("reused", found.shortfalls)


def test_with_replacement_nothing_is_short(made: Path) -> None:
    found = build_in(made, name="repeated", n_total_tasks=400, sample_with_replacement=True)
    assert (found.shortfalls, found.pool["n_tasks"], found.pool["n_short"]) == ((), 400, 0)
    assert "shortfalls" not in json.loads(files(made, "repeated")[1])
    assert len({json.dumps(task["raw_data"]) for task in read_tasks(made / "data/repeated/task_pool.jsonl")}) == 24


@pytest.mark.parametrize(("split", "bins"), [("100:0", (6, 0)), ("0:100", (0, 6))])
def test_one_bin_alone(made: Path, split: str, bins: tuple[int, int]) -> None:
    found = build_in(made, name=f"all_{bins[0]}", n_total_tasks=6, difficulty_split=split)
    assert (found.pool["n_easy"], found.pool["n_hard"]) == bins


def test_a_benchmark_without_a_share_is_in_the_figures(made: Path) -> None:
    build_in(made, name="none", n_total_tasks=4, benchmark_ratios={"humaneval": 0, "gsm8k": 1})
    found = json.loads(files(made, "none")[1])["benchmark_breakdown"]
    assert found["humaneval"] == {"count": 0, "mean_difficulty": None, "easy": 0, "hard": 0}
    assert found["gsm8k"]["count"] == 4


def test_a_pool_of_nothing(tmp_path: Path) -> None:
    """All tasks are as difficult: all are easy, and none is hard."""
    root = tmp_path / "workspace"
    root.mkdir()
    write_tasks(root / "tasks/gsm8k.jsonl", benchmark_tasks.gsm8k(1) * 5)
    write_config(root, {"benchmarks": {"gsm8k": {"path": "file:tasks/gsm8k.jsonl"}}}, "data_config")
    assert call(root, "pool", "preprocess").code == 0
    found = build_in(root, benchmarks=["gsm8k"], n_total_tasks=3, difficulty_split="0:100")
    assert (found.pool["n_tasks"], found.pool["mean_difficulty"]) == (0, None)
    tasks, figures = files(root, "tiny")
    assert tasks == b""
    assert json.loads(figures)["difficulty_distribution"] == {"mean": None, "std": None, "min": None, "max": None}
    assert call(root, "pool", "show", "tiny").code == 0


def test_what_is_recorded_of_a_pool(made: Path) -> None:
    path = write_config(made, pool(name="row", description="why"), "row")
    here = Workspace(made, environ={})
    found = built_from(made, load_pool(here, "row", {})).pool
    assert (found["wanted_name"], found["description"], found["config_path"]) == (
        "row",
        "why",
        "configs/pools/row.yaml",
    )
    assert path == made / found["config_path"]
    assert (found["random_seed"], found["difficulty_split"], found["n_wanted"]) == (7, "50:50", 12)
    assert (found["n_tasks"], found["n_easy"], found["n_hard"], found["n_short"]) == (12, 6, 6, 0)
    tasks = read_tasks(made / "data/row/task_pool.jsonl")
    assert found["mean_difficulty"] == pytest.approx(np.mean([task["difficulty_score"] for task in tasks]))
    stored = rows(here, "SELECT * FROM task_pool_task_overview WHERE pool = 'row' ORDER BY position")
    assert [(row["position"], row["benchmark"], json.loads(row["raw_data"])) for row in stored] == [
        (at, task["benchmark"], task["raw_data"]) for at, task in enumerate(tasks)
    ]
    outbox = rows(here, "SELECT kind FROM mlflow_outbox WHERE task_pool_id = :id", id=found["id"])
    assert outbox == [{"kind": "task_pool"}]


def test_without_its_benchmarks(tmp_path: Path) -> None:
    benchmark_tasks.write_benchmarks(tmp_path)
    with pytest.raises(WrongStep, match=r"Not preprocessed yet: humaneval, gsm8k\.") as caught:
        build_in(tmp_path)
    assert caught.value.hint == "Run `synthtrack pool preprocess`."
    assert call(tmp_path, "pool", "preprocess", "gsm8k").code == 0
    with pytest.raises(WrongStep, match=r"Not preprocessed yet: humaneval\."):
        build_in(tmp_path)


def test_a_config_that_changed_since_is_not_drawn_from(tmp_path: Path) -> None:
    root = preprocessed(tmp_path / "workspace")
    build_in(root, name="before")
    (root / "tasks/gsm8k.jsonl").rename(root / "tasks/moved.jsonl")
    write_config(root, data_config(benchmarks={"gsm8k": {"path": "file:tasks/moved.jsonl"}}))
    with pytest.raises(WrongStep, match=r"The config of gsm8k is not the one that was preprocessed\."):
        build_in(root, name="before")
    assert call(root, "pool", "preprocess").code == 0
    assert build_in(root, name="before").outcome == "reused"
    meta = json.loads((root / "data/benchmarks/full/gsm8k_full_meta.json").read_text())
    assert meta["path"] == "file:tasks/moved.jsonl"


def test_other_data_gives_another_pool_and_leaves_the_first(tmp_path: Path) -> None:
    root = preprocessed(tmp_path / "workspace")
    build_in(root)
    before, full = files(root, "tiny"), root / "data/benchmarks/full/gsm8k_full.jsonl"
    content = full.read_bytes()
    source = root / "tasks/gsm8k.jsonl"
    kept = source.read_bytes()
    write_tasks(source, benchmark_tasks.gsm8k(60))
    assert build_in(root).outcome == "reused", "only preprocessing reads"
    assert call(root, "pool", "preprocess").code == 0
    assert len(read_tasks(full)) == 60
    assert build_in(root).pool["name"] == "tiny_2"
    assert files(root, "tiny") == before
    source.write_bytes(kept)
    assert call(root, "pool", "preprocess").code == 0
    assert full.read_bytes() == content, "although another benchmark's row is younger"
    assert build_in(root).pool["name"] == "tiny"


STRANGE = {"LC_ALL": "tr_TR.UTF-8", "LANG": "C", "PYTHONHASHSEED": "4711", "PYTHONUTF8": "0", "TZ": "Asia/Kathmandu"}


def test_the_same_bytes_from_another_directory_process_locale_and_hash_seed(tmp_path: Path) -> None:
    here, there = preprocessed(tmp_path / "here"), tmp_path / "deep/down/there"
    there.mkdir(parents=True)
    benchmark_tasks.write_benchmarks(there)
    for root in (here, there):
        write_config(root, pool(benchmarks=list(benchmark_tasks.ENTRIES), n_total_tasks=50), "tiny")
    assert call(here, "pool", "build", "tiny", "--no-mlflow").code == 0
    for command in (["preprocess"], ["build", "tiny", "--no-mlflow"]):
        done = finish(start(there, "pool", *command, environ=STRANGE))
        assert done.code == 0, done.err
    assert files(here, "tiny") == files(there, "tiny")
    names = ("fingerprint", "digest", "data_digest")
    first, second = (rows(Workspace(root, environ={}), "SELECT * FROM task_pool")[0] for root in (here, there))
    assert [first[name] for name in names] == [second[name] for name in names]
    for name in benchmark_tasks.ENTRIES:
        full = f"data/benchmarks/full/{name}_full.jsonl"
        assert (here / full).read_bytes() == (there / full).read_bytes()


def test_the_known_bytes_of_a_pool(made: Path) -> None:
    """What changes these changes every pool that anybody has."""
    found = build_in(made, name="known", benchmarks=["gsm8k", "bbh"])
    ids = [(task["benchmark"][0], task["raw_data"]) for task in read_tasks(made / "data/known/task_pool.jsonl")]
    places = {
        "g": [task["raw_data"] for task in read_tasks(made / "data/benchmarks/full/gsm8k_full.jsonl")],
        "b": [task["raw_data"] for task in read_tasks(made / "data/benchmarks/full/bbh_full.jsonl")],
    }
    drawn = " ".join(f"{name}{places[name].index(raw)}" for name, raw in ids)
    assert drawn == "b28 g33 g3 g39 b29 g37 b3 g6 b14 b2 g7 b0"
    assert found.pool["data_digest"] == "2ae68091dc87ebb59cbea6c3134ae8394c43927545c82a7702c0a8ce81ec6e3b"


def test_four_processes_build_one_pool_at_once(tmp_path: Path) -> None:
    root = preprocessed(tmp_path / "workspace")
    write_config(root, pool(), "tiny")
    code = (
        "import sys; from pathlib import Path; from cli.main import run\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "sys.exit(run(['--root', sys.argv[1], 'pool', 'build', 'tiny', '--json', '--no-mlflow']))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(), cwd=REPOSITORY,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append(json.loads(out)[0])
    assert len({each["data_digest"] for each in said}) == len({each["path"] for each in said}) == 1
    # Who drew while another was faster has found it already made.
    assert sorted(each["outcome"] for each in said) == ["made", "reused", "reused", "reused"]
    here = Workspace(root, environ={})
    assert rows(here, "SELECT COUNT(*) AS n FROM task_pool") == [{"n": 1}]
    assert sorted(path.name for path in (root / "data/tiny").iterdir()) == ["statistics.json", "task_pool.jsonl"]
    with reading(here) as reader:
        assert pool_view.check(here, reader) == []


@pytest.mark.parametrize("kind", KINDS)
def test_on_both_databases(kind: str, tmp_path: Path) -> None:
    with empty_workspace(kind, tmp_path) as here:
        benchmark_tasks.write_benchmarks(tmp_path)
        preprocess(here, load_benchmarks(here))
        config = given_pool(pool()).config
        for outcome in ("made", "reused"):
            job = prepare(here, load_benchmarks(here), config, path=None, command="test")
            found = build(here, job)
            assert found.outcome == outcome
        with reading(here) as reader:
            pool_view.refresh(here, reader, [found.pool["id"]], full=True)
            assert pool_view.check(here, reader) == []
        assert len(read_tasks(here.data_dir / "tiny/task_pool.jsonl")) == 12
