"""From a plan to rows: the sweep that the same command resumes, or a new one with a directory for every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.training import places
from pipeline.training.plan import Plan, Point, recorded_settings
from tracker import clock
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.columns import to_json
from tracker.record.database import Database
from tracker.spec import public

_RUNS = """
    SELECT r.id, r.position, r.status, r.fingerprint FROM training_run r WHERE r.training_sweep_id = :id
    AND r.attempt = (SELECT MAX(n.attempt) FROM training_run n
                     WHERE n.training_sweep_id = :id AND n.position = r.position)
    ORDER BY r.position"""


def register(workspace: Workspace, database: Database, plan: Plan, devices: Sequence[str]) -> int:
    """The id of the sweep to work on: the unfinished one of the same config, else a new one.

    In an unfinished sweep, points that failed get another attempt; devices and what else operates it are as they are
    given now. Raises Conflict where another process works on it, StorageError where a result directory cannot be made.
    """
    if plan.unfinished is not None:
        return _resume(workspace, database, plan, devices)
    moment = clock.now()
    points = [_point(workspace, plan, each, places.make_directory(each.place, moment)) for each in plan.wanted()]
    return training.register(
        database, _sweep(workspace, plan, devices), points, clock.this_process(), fresh=plan.options.fresh
    ).id


def _resume(workspace: Workspace, database: Database, plan: Plan, devices: Sequence[str]) -> int:
    assert plan.unfinished is not None
    sweep_id = int(plan.unfinished["id"])
    busy = training.supervise(database, sweep_id, clock.this_process(), _operation(plan, devices))
    if busy is not None:
        raise Conflict(
            f"{plan.path} is being trained by {busy.process}, since {busy.since[:19].replace('T', ' ')} UTC.",
            hint="`synthtrack training status` shows how far it is, `synthtrack training stop` ends it.",
        )
    # What operates a run is as the config says now; what shapes it is in the fingerprint.
    configs = {point.identity.fingerprint: _config(workspace, plan, point) for point in plan.points}
    training.reconfigure(database, sweep_id, configs)
    with reading(workspace) as reader:
        failed = {row["fingerprint"]: row for row in reader.rows(_RUNS, id=sweep_id) if row["status"] == "failed"}
    moment = clock.now()
    again = {
        failed[each.identity.fingerprint]["position"]: _point(
            workspace, plan, each, places.make_directory(each.place, moment)
        )
        for each in plan.points
        if each.identity.fingerprint in failed
    }
    training.add_attempts(database, sweep_id, again)
    return sweep_id


def _sweep(workspace: Workspace, plan: Plan, devices: Sequence[str]) -> Mapping[str, Any]:
    config = plan.config
    return {
        "key": plan.key, "purpose": config.experiment.purpose, "description": config.experiment.description,
        "model": config.model, "task": config.task, "method": config.method,
        "config_path": workspace.relative(workspace.find(plan.path)), "varied": to_json(plan.varied),
        "config": to_json(plan.document.data), **_operation(plan, devices),
    }  # fmt: skip


def _operation(plan: Plan, devices: Sequence[str]) -> Mapping[str, Any]:
    """The columns of a sweep that say how it is worked through."""
    return {
        "background": not plan.config.wait_for_completion, "continue_on_error": plan.config.continue_on_error,
        "devices": to_json(devices), "command": plan.options.command,
    }  # fmt: skip


def _point(workspace: Workspace, plan: Plan, point: Point, directory: Path) -> training.Point:
    config, given = point.config, point.config.hyperparameters
    zo = config.method == "zo"
    columns = {
        "purpose": config.experiment.purpose, "description": config.experiment.description, "model": config.model,
        "task": config.task, "method": config.method, "data": plan.data_name, "learning_rate": given.learning_rate,
        "batch_size": given.batch_size, "steps": given.steps, "seed": given.seed,
        "zo_eps": given.zo_eps if zo else None,
        "lora_rank": None if config.method == "fo_full" else given.lora_rank, "precision": config.precision,
        "n_train": len(plan.material.train), "n_dev": len(plan.material.dev), "n_eval": len(plan.material.evaluation),
        "n_parameters": plan.model.n_parameters, "majority_accuracy": plan.material.majority_accuracy(),
        "classes": to_json(plan.task.classes) if plan.task.classes else None,
        "settings": to_json(recorded_settings(config)),
        "config": _config(workspace, plan, point), "command": plan.options.command,
    }  # fmt: skip
    return training.Point(point.identity, workspace.relative(directory), columns, tuple(_data(workspace, plan)))


def _config(workspace: Workspace, plan: Plan, point: Point) -> str:
    """With what operates the run, which a worker needs and no fingerprint holds.

    A model's directory moves with the workspace where it lies in it.
    """
    return to_json(public(point.config) | {"model": workspace.relative(Path(plan.model_location))})


def _data(workspace: Workspace, plan: Plan) -> Iterator[Mapping[str, Any]]:
    for each, share in zip(plan.data, plan.material.shares, strict=True):
        yield {
            "path": each.given, "directory": workspace.relative(each.directory), "dataset": each.dataset,
            "name": each.name, "shared_experiment_id": None if each.experiment is None else each.experiment["id"],
            "batch_id": each.batch_id, "fingerprint": each.fingerprint, "train_digest": each.train_digest,
            "eval_digest": each.eval_digest, "n_records": share.n_records, "first_record": share.first_record,
            "n_train": share.n_train, "warning": None,
        }  # fmt: skip
