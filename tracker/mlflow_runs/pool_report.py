"""What MLflow is shown of a task pool: one run with its figures by benchmark, its tasks, its files and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from tracker.listings import pool_listings
from tracker.mlflow_runs import pool_plots
from tracker.mlflow_runs.mlflow_run import (
    DIGEST_LIMIT,
    PARAMETER_LIMIT,
    TABLE_LIMIT,
    Input,
    MlflowRun,
    Point,
    Table,
    milliseconds,
    setting_parameters,
)
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.pool_files import full_id
from tracker.views.pool_view import STATISTICS, TASKS, pool_content
from tracker.yaml_text import to_yaml

POOL_TAG = "synthtrack.task_pool"
PURPOSE = "pools"
"""MLflow's experiment of all pools."""
_TASKS = "SELECT * FROM task_pool_task_overview WHERE task_pool_id = :id AND position < :n ORDER BY position"
_BENCHMARKS = """
    SELECT b.name, b.source_digest, b.path, b.n_tasks
    FROM task_pool_benchmark p JOIN benchmark b ON b.id = p.benchmark_id
    WHERE p.task_pool_id = :id ORDER BY p.position"""
_TEXTS = ("prompt", "question", "problem", "input")
_COUNTS = ("n_tasks", "n_easy", "n_hard", "n_short")


@dataclass(frozen=True)
class PoolReport:
    """A pool with all that is shown of it; ``pool`` as ``pool_listings.pool`` gives it, ``tasks`` the first of it."""

    pool: Row
    tasks: list[Row]
    sources: list[Row]

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows."""
        pool, n = self.pool, len(self.pool["benchmarks"])
        count = f"{n} benchmark{'' if n == 1 else 's'}"
        return f"{pool['name']} · {pool['difficulty_split']} · {pool['n_tasks']:,} tasks · {count}"


def load_report(reader: Reader, workspace: Workspace, pool_id: int) -> PoolReport:
    """Everything that is shown of one pool."""
    name = reader.rows("SELECT name FROM task_pool WHERE id = :id", id=pool_id)[0]["name"]
    return PoolReport(
        pool_listings.pool(reader, workspace, name),
        reader.rows(_TASKS, id=pool_id, n=TABLE_LIMIT),
        reader.rows(_BENCHMARKS, id=pool_id),
    )


def mlflow_run(reader: Reader, workspace: Workspace, pool_id: int) -> MlflowRun:
    """What MLflow is told of one pool."""
    report = load_report(reader, workspace, pool_id)
    pool = report.pool
    ended = milliseconds(pool["created_at"])
    own = {
        POOL_TAG: pool["uuid"], "synthtrack.fingerprint": pool["fingerprint"], "synthtrack.pool": pool["name"],
        "synthtrack.purpose": PURPOSE, "synthtrack.data_digest": pool["data_digest"],
        "synthtrack.command": pool["command"][:2000], "mlflow.source.name": "synthtrack pool build",
        "mlflow.source.type": "LOCAL", "mlflow.note.content": note(report),
    }  # fmt: skip
    return MlflowRun(
        title=report.title,
        status="FINISHED",
        started=ended - round(1000 * pool["duration_s"]),
        ended=ended,
        parameters=parameters(report),
        points=[Point(name, value, ended) for name, value in metrics(report).items()],
        tags=own,
        tables={"tasks.json": task_table(report), "benchmarks.json": benchmark_table(report)},
        inputs=[
            Input("source", each["name"], each["source_digest"][:DIGEST_LIMIT], each["path"], each["n_tasks"])
            for each in report.sources
        ],
        files=partial(files, report, workspace),
    )


def parameters(report: PoolReport) -> dict[str, str]:
    """Every setting of the pool, and the fingerprint of each benchmark's data."""
    pool = report.pool
    shown = setting_parameters(json.dumps(pool["settings"]), json.dumps(pool["config"]))
    shown |= {f"data.{part['benchmark']}": part["benchmark_fingerprint"] for part in pool["benchmarks"]}
    shown |= {"with_replacement": str(pool["with_replacement"]).lower(), "run.fingerprint": pool["fingerprint"]}
    return {name: value[:PARAMETER_LIMIT] for name, value in shown.items()}


def metrics(report: PoolReport) -> dict[str, float]:
    """The figures of the pool, then those of each benchmark; what is unknown is absent."""
    pool = report.pool
    found = {"pool/mean_difficulty": pool["mean_difficulty"], **{f"pool/{name}": pool[name] for name in _COUNTS}}
    for part in pool["benchmarks"]:
        own = pool["statistics"]["benchmark_breakdown"][part["benchmark"]]
        figures = {
            "mean_difficulty": own["mean_difficulty"], "n_easy": own["easy"], "n_hard": own["hard"],
            "n_distinct": part["n_distinct"], "low_threshold": part["low_threshold"],
            "high_threshold": part["high_threshold"],
        }  # fmt: skip
        found |= {f"{part['benchmark']}/{name}": value for name, value in figures.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def task_table(report: PoolReport) -> Table:
    """A row for each task in the pool's order, at most 2,000."""
    columns = ["task", "text", "benchmark", "difficulty_bin", "difficulty_score", "position"]
    rows = [
        [
            full_id(task["benchmark"], task["benchmark_position"]), text_of(task["raw_data"]), task["benchmark"],
            task["difficulty_bin"], round(task["difficulty_score"], 4), task["position"],
        ]
        for task in report.tasks
    ]  # fmt: skip
    return {"columns": columns, "data": rows}


def benchmark_table(report: PoolReport) -> Table:
    """A row for each benchmark."""
    columns = [
        *(
            "benchmark",
            "ratio",
            "low_threshold",
            "high_threshold",
            "n_easy_wanted",
            "n_easy",
            "n_hard_wanted",
            "n_hard",
        ),
        *("n_distinct", "low_percentile", "high_percentile", "benchmark_fingerprint"),
    ]
    return {"columns": columns, "data": [[part[name] for name in columns] for part in report.pool["benchmarks"]]}


def files(report: PoolReport, workspace: Workspace) -> Mapping[str, bytes]:
    """The artifacts of a pool by name, without its tables: its files, from the record, and the picture."""
    pool = report.pool
    with reading(workspace) as reader:
        own = pool_content(reader, pool["id"])
        picture = pool_plots.distribution(report.title, pool_plots.panels(reader, pool))
    return {
        "config/pool_config.yaml": to_yaml(pool["config"]).encode(),
        "plots/difficulty.png": picture,
        **{f"data/{name}": own[name] for name in (TASKS, STATISTICS)},
    }


def note(report: PoolReport) -> str:
    """What a person reads first, in markdown."""
    pool = report.pool
    lines = [f"**{pool['name']}**: {pool['description']}" if pool["description"] else f"**{pool['name']}**", ""]
    lines += ["| benchmark | easy | hard | thresholds |", "|---|---|---|---|"]
    for part in pool["benchmarks"]:
        bounds = f"<= {part['low_threshold']:.3f}, >= {part['high_threshold']:.3f}"
        lines.append(f"| {part['benchmark']} | {part['n_easy']:,} | {part['n_hard']:,} | {bounds} |")
    if pool["n_short"]:
        lines += ["", f"{pool['n_short']:,} of {pool['n_wanted']:,} tasks were not there."]
    return "\n".join([*lines, "", f"Draw it again: `{pool['command']}`"])


def text_of(raw_data: str) -> str:
    """What a task asks, of its JSON; all of it where no field is known to say that."""
    record = json.loads(raw_data)
    return next((str(record[name]) for name in _TEXTS if record.get(name)), raw_data)
