"""A generation run as one MLflow run: its figures, its data sets, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from tracker.mlflow_runs import generation_note, generation_plots, generation_report, step_report
from tracker.mlflow_runs.generation_report import RunReport
from tracker.mlflow_runs.mlflow_run import DIGEST_LIMIT, Input, MlflowRun, Point, Table, milliseconds
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views.rows import Record
from tracker.yaml_text import to_yaml


def mlflow_run(reader: Reader, workspace: Workspace, generation_run_id: int) -> MlflowRun:
    """What MLflow is told of one generation run."""
    report = generation_report.load_report(reader, generation_run_id)
    run, tables = report.run, _tables(report)
    ended = milliseconds(run["finished_at"] or run["started_at"])
    points = [Point(name, value, ended) for name, value in generation_report.metrics(report).items()]
    points += [
        Point("generation/acceptance_rate_so_far", value, ended, step)
        for step, value in generation_report.acceptance_curve(report)
    ]
    return MlflowRun(
        title=report.title,
        status=report.status,
        started=milliseconds(run["started_at"]),
        ended=ended,
        parameters=generation_report.parameters(report),
        points=points,
        tags={**generation_report.tags(report), "mlflow.note.content": generation_note.note(report, workspace)},
        tables=tables,
        inputs=_inputs(report, workspace),
        files=partial(_files, report, workspace),
    )


def _inputs(report: RunReport, workspace: Workspace) -> list[Input]:
    run = report.run
    columns, n_records = tuple(generation_report.columns(report.first_record)), run["e_n_records"]
    data = str(workspace.experiment_dir(run["dataset"], run["name"]))
    wanted = [("source", run["dataset"], run["source_digest"], run["source_origin"])]
    if report.data_digest:
        wanted.append(("generated", report.reference, report.data_digest, data))
    return [
        Input(context, name, digest[:DIGEST_LIMIT], uri, n_records, columns) for context, name, digest, uri in wanted
    ]


def _files(report: RunReport, workspace: Workspace) -> Mapping[str, bytes]:
    """The artifacts of a run by name. A run that reused data points to the run that holds it.

    All from the record: in the tree, anybody may have put a link or another file.
    """
    run = report.run
    config = json.loads(run["config"])
    found = {
        "config/config.json": json.dumps(config, indent=2, ensure_ascii=False).encode(),
        "config/generation_config.yaml": to_yaml(config).encode(),
    }
    if report.step is not None and report.step.test is not None:
        found["plots/confusion.png"] = generation_plots.confusion(report.title, report.step.confusion)
    elif not report.reused and not report.is_test:
        found["plots/overview.png"] = generation_plots.overview(report.title, report.samples, report.attempts)
    if report.judges and not report.reused and run["experiment_status"] != "unfinished":
        with reading(workspace) as reader:
            files = Record(reader).data_files(run["shared_experiment_id"])
        found |= {f"data/{name}": content for name, content in files.items()}
    return found


def _tables(report: RunReport) -> dict[str, Table]:
    """The tables of a run by name; of the first, runs are compared unasked."""
    found = {}
    if report.step is not None and report.step.test is not None:
        found["judge_test.json"] = step_report.judge_table(report.step)
    found["samples.json"] = generation_report.table(report)
    if report.step is not None and report.step.checkpoints.names:
        found["decisions.json"] = step_report.decisions_table(report.step)
    return found
