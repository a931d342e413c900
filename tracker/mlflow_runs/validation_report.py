"""What MLflow is shown of a validation of a pool: one run with its figures by benchmark, its answers and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from tracker.listings.validation_results import Results, by_benchmark, results
from tracker.mlflow_runs import validation_plots
from tracker.mlflow_runs.generation_note import cell, used
from tracker.mlflow_runs.mlflow_run import (
    DIGEST_LIMIT,
    FIGURES,
    PARAMETER_LIMIT,
    TABLE_LIMIT,
    Input,
    MlflowRun,
    Point,
    Table,
    milliseconds,
    setting_parameters,
)
from tracker.mlflow_runs.pool_report import text_of
from tracker.mlflow_runs.training_report import short_model, shown_value
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row
from tracker.record.pool_files import full_id

VALIDATION_TAG = "synthtrack.pool_validation"
_ROW = """
    SELECT v.*, p.name AS pool, p.fingerprint AS pool_fingerprint, p.uuid AS pool_uuid, p.data_digest,
           p.n_tasks AS n_pool, p.difficulty_split
    FROM pool_validation v JOIN task_pool p ON p.id = v.task_pool_id WHERE v.id = :id"""
_ANSWERS = """
    SELECT o.*, k.position AS benchmark_position, k.raw_data,
           (SELECT a.answer FROM attempt a WHERE a.request_key = o.request_key AND a.failure IS NULL
            ORDER BY a.id LIMIT 1) AS answer
    FROM pool_answer_overview o
    JOIN pool_validation v ON v.id = o.pool_validation_id
    JOIN task_pool_task t ON t.task_pool_id = v.task_pool_id AND t.position = o.position
    JOIN benchmark_task k ON k.id = t.benchmark_task_id
    WHERE o.pool_validation_id = :id ORDER BY o.benchmark, k.position"""
_STATUSES = {"complete": "FINISHED", "interrupted": "KILLED"}
_TEXT_LIMIT = 1000
"""Characters of a task in the table: enough to know it again."""
_ANSWER_LIMIT = 4000


@dataclass(frozen=True)
class ValidationReport:
    """A validation with all that is shown of it; ``answers`` by benchmark, in the benchmark's order."""

    row: Row
    answers: Sequence[Row]

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows."""
        row = self.row
        warmth = [] if row["temperature"] is None else [f"t{shown_value(row['temperature'])}"]
        draw = [f"seed {row['random_seed']}"] if row["random_seed"] else []
        status = [] if row["status"] == "complete" else [row["status"]]
        model = " ".join([short_model(row["model"]), *warmth])
        return " · ".join([row["pool"], model, f"{row['n_samples']:,} per bin", *draw, *status])

    @cached_property
    def overall(self) -> Results:
        return results(self.answers)

    @cached_property
    def benchmarks(self) -> dict[str, Results]:
        return by_benchmark(self.answers)


def load_report(reader: Reader, validation_id: int) -> ValidationReport:
    """Everything that is shown of one validation."""
    return ValidationReport(reader.rows(_ROW, id=validation_id)[0], reader.rows(_ANSWERS, id=validation_id))


def mlflow_run(reader: Reader, workspace: Workspace, validation_id: int) -> MlflowRun:
    """What MLflow is told of one validation."""
    report = load_report(reader, validation_id)
    row = report.row
    ended = milliseconds(row["finished_at"] or row["started_at"])
    path = str(workspace.data_dir / row["pool"])
    return MlflowRun(
        title=report.title,
        status=_STATUSES.get(row["status"], "FAILED"),
        started=milliseconds(row["started_at"]),
        ended=ended,
        parameters=parameters(report),
        points=[Point(name, value, ended) for name, value in metrics(report).items()],
        tags=tags(report),
        # Of the first table, runs are compared unasked.
        tables={"answers.json": answer_table(report), "benchmarks.json": benchmark_table(report)},
        inputs=[Input("validated", row["pool"], row["data_digest"][:DIGEST_LIMIT], path, row["n_pool"])],
        files=partial(_files, report),
    )


def parameters(report: ValidationReport) -> dict[str, str]:
    """Every setting of the model, the pool and the sample.

    The compare page draws the first three by name that differ: the fingerprint, which always does, is to be none.
    """
    row = report.row
    shown = setting_parameters(row["settings"], "{}")
    shown |= {name: shown_value(value) for name, value in json.loads(row["settings"]).items()}
    shown |= {
        "benchmarks": ", ".join(report.benchmarks),
        "pool": row["pool"],
        "pool_fingerprint": row["pool_fingerprint"],
        "run.fingerprint": row["fingerprint"],
        "run_code": str(bool(row["run_code"])).lower(),
        "sample_seed": str(row["random_seed"]),
        "samples": str(row["n_samples"]),
    }
    return {name: value[:PARAMETER_LIMIT] for name, value in shown.items()}


def metrics(report: ValidationReport) -> dict[str, float]:
    """The figures of all benchmarks, then those of each, then what was asked and paid; what is unknown is absent."""
    row = report.row
    found = {f"validation/{name}": value for name, value in _figures(report.overall).items()}
    for name, each in report.benchmarks.items():
        found |= {f"{name}/{figure}": value for figure, value in _figures(each).items()}
    counts = {"n_tasks": row["n_tasks"], "n_graded": row["n_graded"], **{name: row[name] for name in FIGURES}}
    found |= {f"validation/{name}": value for name, value in counts.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def _figures(each: Results) -> dict[str, float | None]:
    return {
        "easy_accuracy": each.easy.share, "hard_accuracy": each.hard.share, "accuracy_gap": each.gap,
        "rank_correlation": each.rank_correlation, "p": each.p, "n_easy": each.easy.n, "n_hard": each.hard.n,
        "n_failed": each.n_failed, "n_ungraded": each.n_ungraded,
    }  # fmt: skip


def _bounds(each: Results) -> dict[str, float | None]:
    """The 95 % intervals: a table's, for a chart could not show them as such."""
    pairs = {
        "easy_accuracy": each.easy.interval if each.easy.n else None,
        "hard_accuracy": each.hard.interval if each.hard.n else None,
        "accuracy_gap": each.gap_interval,
    }
    return {
        f"{name}_{end}": pair and pair[at] for name, pair in pairs.items() for at, end in enumerate(("low", "high"))
    }


def tags(report: ValidationReport) -> dict[str, str]:
    """What a run is found by."""
    row = report.row
    found = {
        VALIDATION_TAG: row["uuid"], "synthtrack.fingerprint": row["fingerprint"], "synthtrack.pool": row["pool"],
        "synthtrack.pool_uuid": row["pool_uuid"], "synthtrack.pool_fingerprint": row["pool_fingerprint"],
        "synthtrack.model": row["model"], "synthtrack.purpose": "pools",
        "synthtrack.status": row["status"], "synthtrack.error": (row["error"] or "")[:2000],
        "synthtrack.host": row["host"], "synthtrack.command": row["command"][:2000],
        "mlflow.source.name": "synthtrack pool validate", "mlflow.source.type": "LOCAL",
        "mlflow.note.content": note(report),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def answer_table(report: ValidationReport) -> Table:
    """A row for each task that was to be asked, at most 2,000.

    MLflow's evaluation view groups by the first column, which is the same for every model, and compares the second
    unasked.
    """
    columns = ["task", "extracted", "expected", "correct", "benchmark", "difficulty_bin", "difficulty_score"]
    rows = [
        [
            f"{full_id(each['benchmark'], each['benchmark_position'])}: {_cut(text_of(each['raw_data']), _TEXT_LIMIT)}",
            each["extracted"], each["expected"], None if each["correct"] is None else bool(each["correct"]),
            each["benchmark"], each["difficulty_bin"], round(each["difficulty_score"], 4), each["status"],
            _cut(each["answer"] or each["error"], _ANSWER_LIMIT),
        ]
        for each in report.answers[:TABLE_LIMIT]
    ]  # fmt: skip
    return {"columns": [*columns, "status", "answer"], "data": rows}


def benchmark_table(report: ValidationReport) -> Table:
    """A row for each benchmark with its figures."""
    found = [{"benchmark": name, **_figures(each), **_bounds(each)} for name, each in report.benchmarks.items()]
    columns = ["benchmark", *_figures(report.overall), *_bounds(report.overall)]
    return {"columns": columns, "data": [[each[name] for name in columns] for each in found]}


def note(report: ValidationReport) -> str:
    """What a person reads first, in markdown."""
    row = report.row
    lines = [
        f"`{row['model']}` on the pool **{row['pool']}**: {row['n_graded']:,} of {row['n_tasks']:,} tasks graded",
        "",
    ]
    if row["error"]:
        lines += [f"**{row['status']}**: {row['error'][:1000]}", ""]
    lines += ["| benchmark | easy | hard | gap | p | rank correlation |", "|---|---:|---:|---:|---:|---:|"]
    several = {"all": report.overall} if len(report.benchmarks) > 1 else {}
    lines += [f"| {cell(name)} | {' | '.join(_shown(each))} |" for name, each in (report.benchmarks | several).items()]
    left = ((row["n_ungraded"], "not asked (programs, without --run-code)"), (row["n_failed"], "without an answer"))
    lines += ["", *(f"- {n:,} {what}" for n, what in left if n), f"- {used(row)}"]
    return "\n".join([*lines, "", "```", f"synthtrack pool show {row['pool']}", row["command"], "```"])


def _shown(each: Results) -> Iterator[str]:
    for of in (each.easy, each.hard):
        yield "" if of.share is None else f"{of.share:.1%} of {of.n:,}"
    yield "" if each.gap is None else f"{each.gap:.1%}"
    yield "" if each.p is None else f"{each.p:.3g}"
    yield "" if each.rank_correlation is None else f"{each.rank_correlation:.3f}"


def _files(report: ValidationReport) -> Mapping[str, bytes]:
    if report.overall.easy.n + report.overall.hard.n == 0:
        return {}
    return {"plots/validation.png": validation_plots.overview(report.title, report.benchmarks, report.answers)}


def _cut(text: str | None, limit: int) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]} ..."
