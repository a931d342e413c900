"""What a real MLflow store shows of a training study, read back through MLflow's own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from tests.training_rows import Study, training_study
from tracker.mlflow_runs.mlflow_log import Drained, drain
from tracker.mlflow_runs.sweep_report import SWEEP_TAG
from tracker.mlflow_runs.training_report import RUN_TAG
from tracker.paths import Workspace
from tracker.record.catalogue import reading


class Logged:
    """A study whose runs and sweeps were drained once."""

    def __init__(self, root: Path) -> None:
        self.study: Study = training_study(root)
        self.drained: Drained = drain(self.study.workspace)
        self.client = client_of(self.study.workspace)

    def run(self, name: str) -> Run:
        return only(self.client, RUN_TAG, self.study.uuid(name))

    def sweep(self, name: str) -> Run:
        return only(
            self.client, SWEEP_TAG, row_of(self.study.workspace, "training_sweep", self.study.sweeps[name])["uuid"]
        )


def client_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.mlflow_uri)


def found(client: MlflowClient, tag: str, value: str) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`{tag}` = '{value}'"))


def only(client: MlflowClient, tag: str, value: str) -> Run:
    (run,) = found(client, tag, value)
    return run


def row_of(workspace: Workspace, table: str, row_id: int) -> dict[str, Any]:
    with reading(workspace) as reader:
        return reader.rows(f"SELECT * FROM {table} WHERE id = :id", id=row_id)[0]


def artifact(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri, name)


def artifacts(run: Run) -> set[str]:
    root = Path(run.info.artifact_uri)
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def inputs(run: Run) -> dict[str, list[DatasetInput]]:
    """The data sets of a run by their context."""
    assert run.inputs is not None
    by_context: dict[str, list[DatasetInput]] = {}
    for given in run.inputs.dataset_inputs:
        by_context.setdefault(given.tags[0].value, []).append(given)
    return by_context
