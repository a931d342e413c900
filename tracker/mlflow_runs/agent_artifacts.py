"""A run of `perspectives` as one MLflow run: its figures, its data sets, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial

from tracker.mlflow_runs import agent_note, agent_plots, agent_report
from tracker.mlflow_runs.agent_report import AgentReport
from tracker.mlflow_runs.generation_report import columns
from tracker.mlflow_runs.mlflow_run import DIGEST_LIMIT, Input, MlflowRun, Point, milliseconds
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views import agent_view
from tracker.yaml_text import to_yaml

_DATASET = "SELECT * FROM agent_dataset WHERE id = :id"


def mlflow_run(reader: Reader, workspace: Workspace, agent_run_id: int) -> MlflowRun:
    """What MLflow is told of one run of `perspectives`."""
    report = agent_report.load_report(reader, agent_run_id)
    started = milliseconds(report.run["started_at"])
    ended = milliseconds(report.run["finished_at"] or report.run["started_at"])
    # Of the first table, runs are compared unasked.
    tables = {"responses.json": agent_report.response_table(report)}
    if report.is_current:
        tables["conditions.json"] = agent_report.condition_table(report)
    return MlflowRun(
        title=report.title,
        status=report.status,
        started=started,
        ended=ended,
        parameters=agent_report.parameters(report),
        points=[Point(name, value, ended) for name, value in agent_report.metrics(report).items()],
        tags={**agent_report.tags(report), "mlflow.note.content": agent_note.note(report, workspace)},
        tables=tables,
        inputs=list(_inputs(report, workspace)),
        files=partial(_files, report, workspace),
    )


def _inputs(report: AgentReport, workspace: Workspace) -> Iterator[Input]:
    run = report.run
    fields = tuple(columns(report.inputs[0]))
    digest = run["inputs_digest"][:DIGEST_LIMIT]
    yield Input("source", run["source_name"], digest, run["source_origin"], run["n_inputs"], fields)
    if report.data_digest:
        path = str(workspace.data_dir / agent_view.path_of(run["name"]))
        yield Input("generated", run["name"], report.data_digest[:DIGEST_LIMIT], path, run["n_inputs"])


def _files(report: AgentReport, workspace: Workspace) -> Mapping[str, bytes]:
    """The artifacts of a run by name, without its tables. A run that reused data points to the run that holds it."""
    config = json.loads(report.run["config"])
    found = {
        "config/config.json": json.dumps(config, indent=2, ensure_ascii=False).encode(),
        "config/perspectives_config.yaml": to_yaml(config).encode(),
    }
    if report.is_current:
        found["plots/conditions.png"] = agent_plots.conditions(report.title, report.perspectives)
    if report.is_current and not report.reused:
        # From the record: in the tree, anybody may have put a link or another file.
        with reading(workspace) as reader:
            dataset = reader.rows(_DATASET, id=report.run["agent_dataset_id"])[0]
            found[f"data/{dataset['name']}.json"] = agent_view.content(reader, dataset)
    return found
