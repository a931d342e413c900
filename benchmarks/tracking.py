"""What MLflow costs: ``python -m benchmarks.tracking``. What a drain of the outbox takes, and a sorted list of runs.

The drain is measured beside MLflow's own client that logs the same parameters, metrics and tags call by call, and in
one batch a run, each to a store of its own made by the drain (``artifacts``, which the drain also writes, are not in
theirs). The list is what MLflow's page asks: runs of an experiment ordered by a metric. The generation and the training
are real ones in processes of their own, with and without ``--no-mlflow``. Everything is printed as markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.engine import machine
from tests.llm_server import running_server
from tests.mlflow_rows import add_run
from tests.trainings import config as training_config
from tests.trainings import new_root
from tracker.mlflow_runs.mlflow_log import drain
from tracker.paths import Workspace

ROOT = Path(__file__).parents[1]
Run = dict[str, Any]
FEW, MORE = 200, 1000
"""Steps of the two trainings that say how many fill a given time on this machine."""
_TABLES = ("runs", "metrics", "latest_metrics", "params", "tags")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def content(workspace: Workspace) -> list[Run]:
    """What the drained runs hold, as MLflow gives it back."""
    from mlflow import MlflowClient

    client = MlflowClient(workspace.mlflow_uri)
    ids = [each.experiment_id for each in client.search_experiments()]
    return [
        {
            "params": run.data.params,
            "metrics": run.data.metrics,
            # MLflow reads this one itself, as the names of tables that would have to be there.
            "tags": {name: text for name, text in run.data.tags.items() if name != "mlflow.loggedArtifacts"},
        }
        for run in client.search_runs(ids, max_results=50_000)
    ]


def one_by_one(uri: str, runs: list[Run]) -> None:
    """A call for each parameter, metric and tag, as MLflow's examples have it."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.create_experiment("benchmark")
    for run in runs:
        run_id = client.create_run(experiment).info.run_id
        for name, text in run["params"].items():
            client.log_param(run_id, name, text)
        for name, value in run["metrics"].items():
            client.log_metric(run_id, name, value)
        for name, text in run["tags"].items():
            client.set_tag(run_id, name, text)
        client.set_terminated(run_id)


def batches(uri: str, runs: list[Run]) -> None:
    """``log_batch``, once for each run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(uri)
    experiment = client.create_experiment("benchmark")
    for run in runs:
        run_id = client.create_run(experiment).info.run_id
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            [Metric(name, value, now, 0) for name, value in run["metrics"].items()],
            [Param(name, text) for name, text in run["params"].items()][:100],
            [RunTag(name, text) for name, text in run["tags"].items()],
        )
        client.set_terminated(run_id)


def multiplied(store: Path, times: int) -> None:
    """Every run of the store so many times more, row by row, past MLflow; what ANALYZE knew is forgotten."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("DELETE FROM sqlite_stat1")
        connection.execute("CREATE TEMP TABLE first AS SELECT run_uuid FROM runs")
        for table in _TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join("substr(run_uuid, 1, 26) || printf('%06d', ?)" if n == "run_uuid" else n for n in names)
            insert = f"INSERT INTO {table} ({', '.join(names)}) SELECT {copied} FROM {table}"
            for number in range(times):
                connection.execute(f"{insert} WHERE run_uuid IN (SELECT run_uuid FROM first)", [number])
        connection.commit()


def sorting(workspace: Workspace, n_rounds: int) -> tuple[int, float, float]:
    """(runs, seconds before ANALYZE, seconds after) of the list that MLflow's page asks for."""
    from mlflow import MlflowClient

    def asked() -> float:
        client = MlflowClient(workspace.mlflow_uri)
        ids = [each.experiment_id for each in client.search_experiments()]
        order = ["metrics.`total_tokens` DESC"]
        return statistics.median(
            timed(lambda: client.search_runs(ids, order_by=order, max_results=100))[0] for _ in range(n_rounds)
        )

    before = asked()
    with contextlib.closing(sqlite3.connect(workspace.mlflow_store)) as connection:
        connection.execute("ANALYZE")
        (n_runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    return n_runs, before, asked()


def draining(root: Path, n_runs: int) -> tuple[Workspace, float, float]:
    """(workspace, wall, CPU seconds) of a drain of ``n_runs`` runs of 40 records into a store that is there."""
    workspace = Workspace(root / "space", environ={})
    add_run(workspace)
    drain(workspace)
    for number in range(1, n_runs + 1):
        add_run(workspace, number=number)
    wall, cpu = timed(lambda: drain(workspace))
    return workspace, wall, cpu


def generating(seconds: float, *, logged: bool) -> tuple[float, float]:
    """(wall, CPU seconds) of a whole ``synthtrack generate`` that waits about ``seconds`` for its answers."""
    records = "".join(f'{{"text": "The man turned on faucet {n}."}}\n' for n in range(100))
    with tempfile.TemporaryDirectory() as root, running_server(latency=seconds / 10) as server:
        Path(root, "Text").mkdir()
        for split in ("train", "validation", "test"):
            Path(root, "Text", f"text_{split}.jsonl").write_text(records, encoding="utf-8")
        config = {
            "experiment": {"purpose": "benchmark"},
            "dataset": {"input_path": "Text/text_train.jsonl", "task_name": "Text"},
            "generation": {
                "provider": "openai", "model": "test-model", "base_url": server.base_url, "concurrency": 10,
                "field_to_rephrase": "text", "rephrase_prompt": "Say it otherwise: {text}",
            },
        }  # fmt: skip
        return whole(Path(root), "generate", config, logged=logged)


def training(steps: int, *, logged: bool) -> tuple[float, float]:
    """(wall, CPU seconds) of a whole ``synthtrack train`` of so many zeroth-order steps."""
    with tempfile.TemporaryDirectory() as root:
        changes = {"hyperparameters__steps": steps, "hyperparameters__eval_steps": max(1, steps // 10)}
        return whole(new_root(Path(root)), "train", training_config(**changes), logged=logged)


def steps_of(seconds: float, few_s: float, more_s: float) -> int:
    """How many steps a training of about so many seconds has, where FEW took ``few_s`` and MORE, later, ``more_s``."""
    if more_s <= few_s:
        raise RuntimeError(f"{MORE} steps took {more_s:.1f} s, {FEW} of them {few_s:.1f} s: others are at work here")
    return max(2, round(FEW + (seconds - few_s) * (MORE - FEW) / (more_s - few_s)))


def whole(root: Path, command: str, config: dict[str, Any], *, logged: bool) -> tuple[float, float]:
    """(wall, CPU seconds) of ``synthtrack COMMAND`` on that config, as a process of its own with all that it starts."""
    (root / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    asked = [sys.executable, "-m", "cli.main", command, "config.yaml", *([] if logged else ["--no-mlflow"])]
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environ = os.environ | {"OPENAI_API_KEY": "test-key", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(asked, cwd=root, env=environ, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def print_added(what: str, run: Callable[..., tuple[float, float]], size: float, n_rounds: int) -> None:
    """What logging adds to a command of that size; with and without take turns."""
    pairs = [[run(size, logged=logged) for logged in (False, True)] for _ in range(n_rounds)]
    print(f"\nA {what}, medians of {n_rounds}; {machine()}\n")
    print("| MLflow | wall, s | CPU, s |\n|---|---:|---:|")
    for at, name in enumerate(("left for later", "logged, with the drain")):
        wall, cpu = (statistics.median(pair[at][which] for pair in pairs) for which in (0, 1))
        print(f"| {name} | {wall:.2f} | {cpu:.2f} |")
    more = statistics.median(with_[0] / without[0] - 1 for without, with_ in pairs)
    print(f"\nLogging adds {more:.1%} of wall time, the median of the rounds' ratios.", flush=True)


def print_drain(root: Path, n_runs: int, n_sorted: int, n_rounds: int) -> None:
    """The drain beside MLflow's client, and the sorted list."""
    workspace, wall, cpu = draining(root, n_runs)
    runs = content(workspace)[:n_runs]
    rows = {"`synthtrack mlflow sync`, files and inputs too": (wall, cpu)}
    for name, log in (("MLflow's client, `log_batch`", batches), ("MLflow's client, call by call", one_by_one)):
        store = root / f"{log.__name__}.db"
        _ = shutil.copy(workspace.mlflow_store, store)
        uri = f"sqlite:///{store}"
        rows[name] = timed(lambda uri=uri, log=log: log(uri, runs))  # type: ignore[misc]  # mypy infers no lambda default
    print(f"{n_runs:,} runs, once; mlflow {version('mlflow')}, {machine()}\n")
    print("| who logs | s | runs/s | CPU ms/run |\n|---|---:|---:|---:|")
    for name, (seconds, busy) in rows.items():
        print(f"| {name} | {seconds:.1f} | {n_runs / seconds:.1f} | {1000 * busy / n_runs:.0f} |")
    multiplied(workspace.mlflow_store, max(0, n_sorted // (n_runs + 1)))
    n_found, before, after = sorting(workspace, n_rounds)
    print(f"\n{n_found:,} runs ordered by a metric, the first hundred: {before:.2f} s, after ANALYZE {after:.2f} s")


def main() -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--sorted", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a generation and a training; 0: neither")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        print_drain(Path(root), given.runs, given.sorted, given.rounds)
    if given.seconds:
        print_added(f"generation of about {given.seconds:g} s", generating, given.seconds, given.rounds)
        # The first one finds nothing in the system's caches.
        _, few, more = (training(steps, logged=False)[0] for steps in (FEW, FEW, MORE))
        steps = steps_of(given.seconds, few, more)
        print_added(f"training of {steps:,} steps", training, steps, given.rounds)


if __name__ == "__main__":
    main()
