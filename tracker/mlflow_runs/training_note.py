"""The notes of a training run and of a sweep in MLflow: what came of it, on what data, and where to go from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tracker.mlflow_runs.generation_note import cell
from tracker.mlflow_runs.mlflow_run import TABLE_LIMIT
from tracker.mlflow_runs.training_report import GROUP_TAG, TrainingReport
from tracker.paths import Workspace
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from tracker.mlflow_runs.sweep_report import SweepReport

_SETTINGS = 50
"""Settings of a sweep that its note lists."""
_REF = 8
"""Digits of a uuid that commands are given."""


def note(report: TrainingReport, workspace: Workspace) -> str:
    """A training run in Markdown."""
    run = report.run
    lines = [f"## {report.subject}", "", _result(run), ""]
    if run["description"]:
        lines += [run["description"], ""]
    if run["error"]:
        lines += [f"**{run['status']}**", "", "```", run["error"][-2000:], "```", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in _rows(report, workspace)), ""]
    n_predictions = len(report.predictions.get("trained", []))
    if n_predictions > TABLE_LIMIT:
        lines += [f"`predictions.json` holds the first {TABLE_LIMIT:,} of {n_predictions:,} records.", ""]
    ref = run["uuid"][:_REF]
    commands = (f"result show {ref}", f"training logs {ref}", f"lineage {ref}")
    return "\n".join([*lines, "```", *(f"synthtrack {command}" for command in commands), "```"])


def _result(run: Row) -> str:
    if run["accuracy"] is None:
        return f"No result: {run['status']} after {run['step']:,} of {_known(run['steps'])} steps."
    of = "of how many records is not known"
    if run["accuracy_low"] is not None:
        interval = f"95% interval {run['accuracy_low']:.1%} to {run['accuracy_high']:.1%}"
        of = f"{run['n_correct']:,} of {run['n_eval']:,} right, {interval}"
    against = "".join(
        f", {(run['accuracy'] - run[name]) * 100:+.1f} points against {what} ({run[name]:.1%})"
        for name, what in (("zero_shot_accuracy", "zero-shot"), ("majority_accuracy", "the majority class"))
        if run[name] is not None
    )
    return f"**Accuracy {run['accuracy']:.1%}** ({of}){against}."


def _known(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"


def _rows(report: TrainingReport, workspace: Workspace) -> Iterator[tuple[str, str]]:
    run = report.run
    yield "Model", f"`{run['model']}`"
    yield "Purpose", run["purpose"]
    for row in report.data:
        named = f"`{row['path']}`: {_known(row['n_train'])} records of `{row['dataset']}/{row['name']}`"
        fingerprint = f", fingerprint `{row['fingerprint']}`" if row["fingerprint"] else ""
        digest = f", SHA-256 `{row['train_digest']}`" if row["train_digest"] else ", not in the record"
        yield "Data", f"{named}{fingerprint}{digest}"
        if row["mlflow_run_id"]:
            yield "Made by", f"MLflow run `{row['mlflow_run_id']}`"
        elif row["generation_run"]:
            yield "Made by", f"generation run `{row['generation_run']}`"
        if row["warning"]:
            yield "Warning", row["warning"]
    batches = f"batches of {_known(run['batch_size'])} records"
    yield "Training", f"{run['step']:,} of {_known(run['steps'])} steps, {batches}, {run['precision']}"
    if run["best_step"] is not None:
        yield (
            "Best checkpoint",
            f"step {run['best_step']:,}, dev loss {run['dev_loss']:.4f}, of {run['n_dev']:,} records",
        )
    if run["n_truncated"]:
        yield "Cut", f"{run['n_truncated']:,} records were too long and lost the beginning of their prompts"
    if run["duration_s"] is not None:
        resumed = f", resumed {run['n_resumed']} times" if run["n_resumed"] else ""
        device = "" if run["device"] is None else f" on {run['device']}"
        yield "Time", f"{run['duration_s']:,.1f} s{device}{resumed}"
    yield "Fingerprint", f"`{run['fingerprint']}`, attempt {run['attempt']}"
    yield "Sweep", f"`{run['sweep']}`, point {run['position'] + 1} of {run['n_points']}"
    yield "Results", f"`{workspace.relative(workspace.root / run['directory'])}`"


def sweep_note(report: SweepReport) -> str:
    """A sweep in Markdown: the mean over the seeds of each setting, the best first."""
    from tracker.mlflow_runs.sweep_report import settings

    sweep, found = report.sweep, settings(report)
    n_failed = sum(run["status"] == "failed" for run in report.runs)
    done = f"{len(report.complete):,} of {len(report.runs):,} runs have a result, {n_failed:,} failed."
    lines = [f"## {report.first.subject}", "", done, ""]
    if sweep["description"]:
        lines += [sweep["description"], ""]
    if found:
        lines += ["| Setting | Mean accuracy | Standard deviation | Seeds |", "|---|---|---|---|"]
        for setting in found[:_SETTINGS]:
            spread = "" if setting.spread is None else f"{setting.spread:.1%}"
            lines.append(f"| {cell(setting.name)} | {setting.mean:.1%} | {spread} | {len(setting.accuracies)} |")
        if len(found) > _SETTINGS:
            lines.append(f"\n`sweep.json` holds all {len(report.runs):,} points.")
        lines += [_baselines(report.baselines), ""]
    lines += ["Its runs, as a filter of MLflow's list:", "", "```", f"tags.`{GROUP_TAG}` = '{sweep['uuid']}'", "```"]
    ref = sweep["uuid"][:_REF]
    commands = (f"synthtrack result show {ref}", f"synthtrack result compare --sweep {ref}")
    return "\n".join([*lines, "", f"Made by `{sweep['command']}`.", "", "```", *commands, "```"])


def _baselines(run: Mapping[str, float | None]) -> str:
    known = {"zero-shot": run["zero_shot_accuracy"], "majority class": run["majority_accuracy"]}
    said = [f"{name} {value:.1%}" for name, value in known.items() if value is not None]
    return f"\nFor comparison: {', '.join(said)}." if said else ""
