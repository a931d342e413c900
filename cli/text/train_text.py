"""A plan of a training, and what came of it, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cli.render import counted, table
from pipeline.training.news import UNTRAINED
from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from pipeline.training.data import DataSet
    from pipeline.training.estimate import Estimate
    from pipeline.training.plan import Plan, Point

_GIB = 2**30


def planned(workspace: Workspace, plan: Plan, devices: Sequence[str], taken: Estimate, free: int) -> Iterator[str]:
    """What would be trained, where it would go and what it would take."""
    config, material = plan.config, plan.material
    yield f"Purpose:  {config.experiment.purpose}"
    yield f"Model:    {config.model} ({plan.model.n_parameters:,} parameters)"
    loss = (
        "cross-entropy over the candidates" if config.train_as_classification else "loss on the right answer's tokens"
    )
    yield f"Task:     {config.task} ({config.prompt_style} prompts; {loss})"
    yield f"Method:   {config.method}, {config.precision}"
    for at, each in enumerate(plan.data):
        yield f"{'Data:' if at == 0 else '':10}{_data(workspace, each)}"
    counts = f"{len(material.train):,} train, {len(material.dev):,} dev, {len(material.evaluation):,} evaluation"
    yield f"Records:  {counts} (majority class {material.majority_accuracy():.1%})"
    yield f"Devices:  {', '.join(devices)}; one run at a time on each"
    yield f"Memory:   about {gib(taken.memory_bytes)} a run, {gib(free)} free"
    yield f"Steps:    {_steps(plan, taken, len(devices))}"
    wanted = plan.wanted()
    over = f" over {', '.join(plan.varied)}" if plan.varied else ""
    yield f"Grid:     {counted(len(plan.points), 'point')}{over}; {len(wanted)} to train"
    if plan.unfinished is not None:
        uuid = plan.unfinished["uuid"][:8]
        yield f"          an unfinished sweep of this config is resumed ({uuid}; --fresh begins anew)"
    yield ""
    yield table(("#", *plan.varied, "fingerprint", "attempt", "result directory"),
                [_point(workspace, plan, number, each) for number, each in enumerate(plan.points, 1)])  # fmt: skip


def planned_json(
    workspace: Workspace, plan: Plan, devices: Sequence[str], taken: Estimate, free: int
) -> dict[str, Json]:
    """The same as data."""
    from pipeline.training.plan import recorded_settings

    return {
        "config": plan.path,
        "settings": recorded_settings(plan.config),
        "varied": list(plan.varied),
        "data": [
            {
                "path": each.given, "directory": workspace.relative(each.directory), "dataset": each.dataset,
                "name": each.name, "fingerprint": each.fingerprint, "batches": list(each.batches),
                "train_digest": each.train_digest, "eval_digest": each.eval_digest, "n_records": share.n_records,
                "n_train": share.n_train,
            }
            for each, share in zip(plan.data, plan.material.shares, strict=True)
        ],
        "n_train": len(plan.material.train),
        "n_dev": len(plan.material.dev),
        "n_eval": len(plan.material.evaluation),
        "n_parameters": plan.model.n_parameters,
        "devices": list(devices),
        "memory_bytes": taken.memory_bytes,
        "free_bytes": free,
        "batch_tokens": taken.batch_tokens,
        "epochs": taken.epochs,
        "step_time_s": taken.step_time_s,
        "resumes": None if plan.unfinished is None else plan.unfinished["uuid"],
        "warnings": list(plan.warnings),
        "points": [
            {
                **{name: getattr(each.config.hyperparameters, name) for name in plan.varied},
                "fingerprint": each.identity.fingerprint,
                "attempt": each.n_attempts + 1,
                "n_complete": each.n_complete,
                "directory": workspace.relative(each.place),
                "wanted": each in plan.wanted(),
            }
            for each in plan.points
        ],
    }  # fmt: skip


def trained(varied: Sequence[str], runs: Sequence[Row]) -> str:
    """The runs of a sweep with what they reached, and where their results are."""
    above = PurePosixPath(runs[0]["directory"]).parents[1]
    rows = []
    for run in runs:
        reached = "-"
        if run["accuracy"] is not None:
            reached = f"{run['accuracy']:.1%} ({run['accuracy_low']:.1%} to {run['accuracy_high']:.1%})"
        values = [shown(run["settings"].get(f"hyperparameters.{name}")) for name in varied]
        where = PurePosixPath(run["directory"]).relative_to(above)
        shares = (_share(run["zero_shot_accuracy"]), _share(run["majority_accuracy"]))
        rows.append([*values, run["status"], reached, *shares, run["uuid"][:8], f"{where}/"])
    untrained = [run["uuid"][:8] for run in runs if run["status"] == "complete" and run["best_step"] == 0]
    note = [f"⚠️  {', '.join(untrained)}: the accuracy is {UNTRAINED.removeprefix('which is ')}."] if untrained else []
    titles = (*varied, "status", "accuracy (95% interval)", "zero-shot", "majority", "run", f"below {above}/")
    return "\n".join([table(titles, rows), *note])


def gib(amount: int) -> str:
    """``1.5 GiB``."""
    return f"{amount / _GIB:.1f} GiB" if amount >= _GIB / 10 else f"{amount / 2**20:.0f} MiB"


def shown(value: Json) -> str:
    """A setting in a table: ``1e-06``, ``16``, ``-``."""
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _data(workspace: Workspace, data: DataSet) -> str:
    where = workspace.relative(data.directory)
    if data.experiment is None:
        return f"{data.name}: {where} (no experiment of this workspace; SHA-256 {data.train_digest[:12]})"
    batches = f"; in {', '.join(data.batches)}" if data.batches else ""
    status = data.experiment["status"]
    return f"{data.dataset}/{data.name}: {where} (fingerprint {data.fingerprint}, {status}{batches})"


def _steps(plan: Plan, taken: Estimate, n_devices: int) -> str:
    given = plan.config.hyperparameters
    tokens = f"about {taken.batch_tokens:,} tokens each"
    about = f"{given.steps:,} of {given.batch_size} records, {taken.epochs:.1f} epochs, {tokens}"
    if taken.step_time_s is None:
        return f"{about}; no run like this was timed here yet"
    rounds = -(-len(plan.wanted()) // n_devices)
    whole = duration(taken.step_time_s * given.steps * rounds)
    return f"{about}; {taken.step_time_s:.3g} s a step in earlier runs, so about {whole} in all"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _point(workspace: Workspace, plan: Plan, number: int, point: Point) -> list[Any]:
    values = [shown(getattr(point.config.hyperparameters, name)) for name in plan.varied]
    attempt = "left out (done)" if plan.options.skip_done and point.n_complete else str(point.n_attempts + 1)
    return [number, *values, point.identity.fingerprint, attempt, f"{workspace.relative(point.place)}/"]
