"""How long task pools take: ``python -m benchmarks.pools [--data DIR] [--repeat N]``.

On the real benchmarks in DIR (humaneval.jsonl, gsm8k_test.jsonl, bbh/, amc12_2023.jsonl, medqa_sample.jsonl), or on the
sample that ships. Every figure is of processes of their own, which take turns; each pool is drawn with a seed that was
not drawn before. Work is what is done when the modules are loaded; the rest of a process is the interpreter's start and
loading them. CPU is of the process and what it starts: where others are at work beside it, it tells more than the
clock does. Prints markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path

from tracker import clock

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "configs/inputs/benchmarks"
REAL = ROOT.parent / "shared/data/benchmarks"
FILES = {
    "humaneval": ("humaneval.jsonl",),
    "gsm8k": ("gsm8k_test.jsonl", "gsm8k.jsonl"),
    "bbh": ("bbh",),
    "amc": ("amc12_2023.jsonl", "amc.jsonl"),
    "medical_qa": ("medqa_sample.jsonl", "medical_qa.jsonl"),
}
POOL = {
    "description": "tasks of five benchmarks, as exp5",
    "benchmarks": list(FILES),
    "difficulty_split": "50:50",
    "sample_with_replacement": True,
}
SEEDS = count(1)

SCORING = """
import gc, json, time
import numpy as np
from pipeline.pools.configs import load_benchmarks
from pipeline.pools.difficulty import SCORERS, scaled
from pipeline.pools.sources import read_full
from tracker.paths import find_workspace
np.percentile([1.0, 2.0], 95)
workspace = find_workspace(None)
found = {}
gc.collect()
for name, spec in load_benchmarks(workspace).benchmarks.items():
    start, cpu = time.perf_counter(), time.process_time()
    records = read_full(name, spec, workspace.find).records
    read, read_cpu = time.perf_counter(), time.process_time()
    scaled(SCORERS[name](records).scores)
    found[f"reading {name}, {len(records):,} tasks"] = read - start, read_cpu - cpu
    found[f"scoring {name}"] = time.perf_counter() - read, time.process_time() - read_cpu
print(json.dumps(found))
"""
BUILDING = """
import gc, json, sys, time
import numpy as np
from numpy.random import PCG64
import sqlalchemy, sqlmodel, yaml
from pipeline.pools.build import build, prepare
from pipeline.pools.configs import given_pool, load_benchmarks
from tracker.paths import find_workspace
from tracker.record.catalogue import reading
from tracker.views import pool_view
given = json.loads(sys.argv[1])
gc.collect()
start, cpu = time.perf_counter(), time.process_time()
workspace = find_workspace(None)
job = prepare(workspace, load_benchmarks(workspace), given_pool(given).config, path=None, command="benchmark")
built = build(workspace, job)
recorded, recorded_cpu = time.perf_counter(), time.process_time()
with reading(workspace) as reader:
    pool_view.refresh(workspace, reader, [built.pool["id"]], deep=True)
assert built.pool["n_tasks"] == given["n_total_tasks"], built
found = {
    "into the record": (recorded - start, recorded_cpu - cpu),
    "its files": (time.perf_counter() - recorded, time.process_time() - recorded_cpu),
    "both": (time.perf_counter() - start, time.process_time() - cpu),
}
print(json.dumps(found))
"""
WRITING = "import alembic.command, numpy, pydantic, sqlmodel, yaml"
MLFLOW = "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore"


@dataclass(frozen=True)
class Figure:
    """What was measured, and its seconds by the clock and of the processor."""

    name: str
    wall: float
    cpu: float


def workspace(root: Path, data: Path) -> None:
    """A workspace whose benchmarks are those in ``data``."""
    found = {name: next(data / file for file in files if (data / file).exists()) for name, files in FILES.items()}
    (root / "configs/pools").mkdir(parents=True)
    config = {"benchmarks": {name: {"path": f"file:{path}"} for name, path in found.items()}}
    (root / "configs/pools/data_config.yaml").write_text(json.dumps(config), encoding="utf-8")


def pool(n: int) -> dict[str, object]:
    """A pool that was not drawn before."""
    seed = next(SEEDS)
    return {"name": f"pool{seed}", "random_seed": seed, "n_total_tasks": n, **POOL}


def work(root: Path, script: str, given: Mapping[str, object] | None = None) -> dict[str, tuple[float, float]]:
    """What a script says of its own work: seconds by the clock and of the processor."""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(given)],
        env=_environ(root), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return found


def process(name: str, root: Path, *arguments: str) -> Figure:
    """What a whole process takes."""
    start, cpu = time.perf_counter(), _children()
    subprocess.run([sys.executable, *arguments], env=_environ(root), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return Figure(f"process: {name}", time.perf_counter() - start, _children() - cpu)


def measure(root: Path, data: Path, n: int, *, mlflow: bool) -> Iterator[Figure]:
    """One round."""
    command = ("-m", "cli.main", "pool")
    shutil.rmtree(root, ignore_errors=True)
    workspace(root, data)
    yield process("`python -c pass`", root, "-c", "pass")
    yield process(f"`python -c '{WRITING}'`", root, "-c", WRITING)
    yield process("`pool preprocess`, all five, new workspace", root, *command, "preprocess")
    yield process("`pool preprocess`, nothing has changed", root, *command, "preprocess")
    scoring = work(root, SCORING)
    yield from (Figure(f"work: {name}", *spent) for name, spent in scoring.items())
    for verb in ("reading", "scoring"):
        spent = [each for name, each in scoring.items() if name.startswith(verb)]
        yield Figure(f"work: {verb} all five", sum(wall for wall, _ in spent), sum(cpu for _, cpu in spent))
    given = pool(n)
    for name, each in work(root, BUILDING, given).items():
        yield Figure(f"work: a pool of {n:,}, {name}", *each)
    yield Figure("work: the same pool again", *work(root, BUILDING, given)["both"])
    built = f"`pool build`, a pool of {n:,}"
    options = _options(n)
    yield process(built, root, *command, "build", *options, "--no-mlflow")
    yield process("`pool build`, the same pool again", root, *command, "build", *options, "--no-mlflow")
    if mlflow:
        yield process(f"`python -c '{MLFLOW}'`", root, "-c", MLFLOW)
        yield process(f"{built}, with the first MLflow runs of a workspace", root, *command, "build", *_options(n))
        yield process(f"{built}, with its MLflow run", root, *command, "build", *_options(n))


def table(rounds: Sequence[Sequence[Figure]]) -> str:
    """Medians, and the best by the clock, in milliseconds."""
    lines = ["| what | median, ms | best, ms | CPU, ms |", "|---|---:|---:|---:|"]
    for found in zip(*rounds, strict=True):
        walls, cpus = [1000 * each.wall for each in found], [1000 * each.cpu for each in found]
        figures = statistics.median(walls), min(walls), statistics.median(cpus)
        lines.append(f"| {found[0].name} | {' | '.join(f'{each:,.{int(each < 10)}f}' for each in figures)} |")
    return "\n".join(lines)


def _options(n: int) -> tuple[str, ...]:
    given = pool(n)
    words = ("--name", given["name"], "--seed", given["random_seed"], "--n", n, "--benchmarks", ",".join(FILES))
    return (*map(str, words), "--with-replacement")


def _children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _environ(root: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SYNTHTRACK_", "MLFLOW_"))}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**environ, "SYNTHTRACK_ROOT": str(root), "PYTHONPATH": str(ROOT)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=(__doc__ or "").splitlines()[0])
    default = REAL if REAL.is_dir() else SAMPLE
    parser.add_argument("--data", type=Path, default=default, metavar="DIR", help="the benchmarks")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--n", type=int, default=2000, help="tasks of a pool")
    parser.add_argument("--no-mlflow", action="store_true", help="leave out what logs to MLflow")
    given = parser.parse_args(arguments)
    data, load = given.data.resolve(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "workspace"
        rounds = [list(measure(root, data, given.n, mlflow=not given.no_mlflow)) for _ in range(given.repeat)]
    sizes = {each: _tasks(data, files) for each, files in FILES.items()}
    print(
        f"`python -m benchmarks.pools`, medians of {given.repeat}; {clock.now():%Y-%m-%d}; "
        f"{', '.join(f'{each} {size:,}' for each, size in sizes.items())} tasks; {os.cpu_count()} cores of "
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"mlflow {version('mlflow')}; load before the run {load:.1f}\n\n{table(rounds)}"
    )


def _tasks(data: Path, files: tuple[str, ...]) -> int:
    path = next(data / file for file in files if (data / file).exists())
    return sum(each.read_text(encoding="utf-8").count("\n") for each in ([path] if path.is_file() else path.iterdir()))


if __name__ == "__main__":
    main()
