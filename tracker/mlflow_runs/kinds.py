"""The kinds of things that MLflow is told of: by which tag each is found again, and what loads its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tracker.mlflow_runs import (
    agent_artifacts,
    agent_report,
    generation_artifacts,
    generation_report,
    pool_report,
    sweep_report,
    training_artifacts,
    training_report,
    validation_report,
)
from tracker.mlflow_runs.mlflow_run import MlflowRun
from tracker.paths import Workspace
from tracker.record.catalogue import Reader

ENDED_TAG = "synthtrack.ended_at"
"""When the thing ended that a run shows, where it can go on and end anew: the run shows it as it was then."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a thing of the outbox becomes a run: the tag that holds its uuid, and what loads it."""

    tag: str
    load: Callable[[Reader, Workspace, int], MlflowRun]
    may_end_anew: bool = True


KINDS = {
    "generation_run": Kind(generation_report.RUN_TAG, generation_artifacts.mlflow_run, may_end_anew=False),
    "training_run": Kind(training_report.RUN_TAG, training_artifacts.mlflow_run),
    "training_sweep": Kind(sweep_report.SWEEP_TAG, sweep_report.mlflow_run),
    "agent_run": Kind(agent_report.RUN_TAG, agent_artifacts.mlflow_run, may_end_anew=False),
    "task_pool": Kind(pool_report.POOL_TAG, pool_report.mlflow_run, may_end_anew=False),
    "pool_validation": Kind(validation_report.VALIDATION_TAG, validation_report.mlflow_run, may_end_anew=False),
}

BY_OWN_TAG = ("generation_run", "training_run", "agent_run", "pool_validation", "task_pool", "training_sweep")
"""Kinds so that of a run's tags its own comes first: those of what it belongs to are tags of it too."""
