"""How long task pools take: ``python -m benchmarks.pools [--data DIR] [--repeat N]``.

On the sample that ships, and with ``--data`` on the benchmarks in DIR (humaneval.jsonl, gsm8k_test.jsonl, bbh/,
amc12_2023.jsonl, medqa_sample.jsonl). Every figure is the median of N processes of their own, which take turns; each
pool is drawn with a seed that was not drawn before. Work is what is done when the modules are loaded; the rest of a
process is the interpreter's start and loading them. Prints markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "configs/inputs/benchmarks"
FILES = {
    "humaneval": ("humaneval.jsonl",),
    "gsm8k": ("gsm8k_test.jsonl", "gsm8k.jsonl"),
    "bbh": ("bbh",),
    "amc": ("amc12_2023.jsonl", "amc.jsonl"),
    "medical_qa": ("medqa_sample.jsonl", "medical_qa.jsonl"),
}
POOL = {
    "description": "2,000 tasks of five benchmarks, as exp5",
    "benchmarks": list(FILES),
    "difficulty_split": "50:50",
    "n_total_tasks": 2000,
    "sample_with_replacement": True,
}
SEEDS = count(1)

SCORING = """
import gc, json, sys, time
from pathlib import Path
import numpy as np
from pipeline.pools.configs import load_benchmarks
from pipeline.pools.difficulty import SCORERS, scaled
from pipeline.pools.sources import read_full
from tracker.paths import find_workspace
np.percentile([1.0, 2.0], 95)
workspace = find_workspace(None)
spent = {"read": 0.0, "score": 0.0}
gc.collect()
for name, spec in load_benchmarks(workspace).benchmarks.items():
    start = time.perf_counter()
    records = read_full(name, spec, workspace.find).records
    read = time.perf_counter()
    scaled(SCORERS[name](records).scores)
    spent["read"] += read - start
    spent["score"] += time.perf_counter() - read
print(json.dumps(spent))
"""
BUILDING = """
import gc, json, sys, time
import numpy as np
from numpy.random import PCG64
import sqlalchemy, sqlmodel, yaml
from pipeline.pools.build import build
from pipeline.pools.configs import given_pool, load_benchmarks
from pipeline.pools.build import prepare
from tracker.views import pool_view
from tracker.record.catalogue import reading
from tracker.paths import find_workspace
given = json.loads(sys.argv[1])
gc.collect()
start = time.perf_counter()
workspace = find_workspace(None)
job = prepare(workspace, load_benchmarks(workspace), given_pool(given).config, path=None, command="benchmark")
built = build(workspace, job)
recorded = time.perf_counter()
with reading(workspace) as reader:
    pool_view.refresh(workspace, reader, [built.pool["id"]], deep=True)
assert built.pool["n_tasks"] == given["n_total_tasks"], built
print(json.dumps({"record": recorded - start, "files": time.perf_counter() - recorded, "outcome": built.outcome}))
"""
WRITING = "import alembic.command, numpy, pydantic, sqlmodel, yaml"


def workspace(root: Path, data: Path) -> None:
    """A workspace whose benchmarks are those in ``data``."""
    found = {name: next(data / file for file in files if (data / file).exists()) for name, files in FILES.items()}
    (root / "configs/pools").mkdir(parents=True)
    config = {"benchmarks": {name: {"path": f"file:{path}"} for name, path in found.items()}}
    (root / "configs/pools/data_config.yaml").write_text(json.dumps(config), encoding="utf-8")


def pool() -> dict[str, object]:
    """A pool that was not drawn before."""
    seed = next(SEEDS)
    return {"name": f"pool{seed}", "random_seed": seed, **POOL}


def work(root: Path, script: str, given: Mapping[str, object] | None = None) -> dict[str, float]:
    """What a script says of its own work, in seconds."""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(given)],
        env=_environ(root), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def process(root: Path, *arguments: str) -> float:
    """The seconds that a whole process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=_environ(root), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(root: Path, data: Path) -> Iterator[tuple[str, float]]:
    """One round: what was measured, and its seconds."""
    command = ("-m", "cli.main", "pool")
    shutil.rmtree(root, ignore_errors=True)
    workspace(root, data)
    yield "process: `python -c pass`", process(root, "-c", "pass")
    yield f"process: `python -c '{WRITING}'`", process(root, "-c", WRITING)
    yield "process: `pool preprocess`, all five, new workspace", process(root, *command, "preprocess")
    yield "process: `pool preprocess`, nothing has changed", process(root, *command, "preprocess")
    scoring = work(root, SCORING)
    yield "work: reading all five", scoring["read"]
    yield "work: scoring all five", scoring["score"]
    building = work(root, BUILDING, given := pool())
    yield "work: a pool of 2,000, into the record", building["record"]
    yield "work: its files", building["files"]
    yield "work: both", building["record"] + building["files"]
    again = work(root, BUILDING, given)
    yield "work: the same pool again", again["record"] + again["files"]
    for name, end in (("", ("--no-mlflow",)), (", with its MLflow run", ())):
        given = pool()
        words = ("--name", given["name"], "--seed", given["random_seed"], "--n", 2000, "--benchmarks", ",".join(FILES))
        options = (*map(str, words), "--with-replacement", *end)
        yield f"process: `pool build`, a pool of 2,000{name}", process(root, *command, "build", *options)
    yield "process: `pool build`, the same pool again", process(root, *command, "build", *options, "--no-mlflow")


def table(rounds: list[dict[str, float]]) -> str:
    """Medians and the best, in milliseconds."""
    lines = ["| what | median, ms | best, ms |", "|---|---:|---:|"]
    for name in rounds[0]:
        found = [1000 * each[name] for each in rounds]
        lines.append(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} |")
    return "\n".join(lines)


def _environ(root: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SYNTHTRACK_", "MLFLOW_"))}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**environ, "SYNTHTRACK_ROOT": str(root), "PYTHONPATH": str(ROOT)}


def main() -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="the real benchmarks")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    places = {"the sample that ships": SAMPLE} | ({} if options.data is None else {"--data": options.data.resolve()})
    for name, data in places.items():
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory) / "workspace"
            dict(measure(root, data))
            rounds = [dict(measure(root, data)) for _ in range(options.repeat)]
        sizes = {each: _tasks(data, files) for each, files in FILES.items()}
        print(
            f"{name}: {', '.join(f'{each} {size:,}' for each, size in sizes.items())} tasks; {os.cpu_count()} cores of "
            f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, numpy {version('numpy')}; "
            f"load before the run {load:.1f}\n\n{table(rounds)}\n"
        )


def _tasks(data: Path, files: tuple[str, ...]) -> int:
    path = next(data / file for file in files if (data / file).exists())
    return sum(each.read_text(encoding="utf-8").count("\n") for each in ([path] if path.is_file() else path.iterdir()))


if __name__ == "__main__":
    main()
