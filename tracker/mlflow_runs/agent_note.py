"""The note of a run of `perspectives` in MLflow: what it made, of what, and where to go from here."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.mlflow_runs.agent_report import AgentReport
from tracker.mlflow_runs.generation_note import cell, used
from tracker.mlflow_runs.mlflow_run import TABLE_LIMIT
from tracker.paths import Workspace
from tracker.record.catalogue import Row
from tracker.views.agent_view import path_of

_HEADS = ("Condition", "chrF", "Words", "Tokens", "Latency", "Responses")


def note(report: AgentReport, workspace: Workspace) -> str:
    """The run in Markdown: what it made, of what, and where to go from here."""
    run = report.run
    lines = [f"## {run['name']}", "", _story(report), ""]
    if run["task_description"]:
        lines += [run["task_description"], ""]
    if run["error"]:
        lines += [f"**{run['status']}**: {run['error'][:1000]}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in _rows(report, workspace)), ""]
    if report.is_current:
        # Between two tables, so that MLflow does not show them as one.
        lines += ["Means over the responses of each condition; chrF (0 to 100) is of all of them together:", ""]
        lines += [f"| {' | '.join(_HEADS)} |", f"|---|{'---:|' * (len(_HEADS) - 1)}"]
        lines += [f"| {' | '.join(_condition(each))} |" for each in report.perspectives]
        lines.append("")
    if run["n_inputs"] > TABLE_LIMIT:
        lines += [f"`responses.json` holds the first {TABLE_LIMIT:,} of {run['n_inputs']:,} inputs.", ""]
    commands = (f"perspectives show {run['name']}", "perspectives list", f"lineage {run['fingerprint']}")
    return "\n".join([*lines, "```", *(f"synthtrack {command}" for command in commands), "```"])


def _story(report: AgentReport) -> str:
    if not report.reused:
        return {"made": "Made by this run.", "resumed": "Resumed and continued by this run."}[report.run["outcome"]]
    maker = (report.maker or {}).get("mlflow_run_id")
    where = f" (MLflow run `{maker}`, which holds the data)" if maker else ""
    return f"Reused: an earlier run had made this data already{where}. No request was sent."


def _rows(report: AgentReport, workspace: Workspace) -> Iterator[tuple[str, str]]:
    run = report.run
    n_all, n_responses = run["n_inputs"] * run["n_perspectives"], run["n_responses"] or len(report.answers)
    failed = f", {run['n_failed']:,} failed" if run["n_failed"] else ""
    yield "Task", run["task_type"]
    yield "Fingerprint", f"`{run['fingerprint']}`"
    yield "Inputs", f"{run['n_inputs']:,} of `{run['source_origin']}`, SHA-256 `{run['inputs_digest']}`"
    yield "Model", f"`{run['model']}`"
    yield "Responses", f"{n_responses:,} of {n_all:,}{failed}"
    if report.data_digest:
        path = workspace.relative(workspace.data_dir / path_of(run["name"]))
        yield "Data", f"`{path}`, SHA-256 of the answers `{report.data_digest}`"
    else:
        yield "Data", "not finished"
    yield "This run", used(run)


def _condition(each: Row) -> Iterator[str]:
    yield cell(each["condition"])
    for name, form in (("chrf", ".1f"), ("mean_words", ".1f"), ("mean_completion_tokens", ".1f")):
        yield "" if each[name] is None else format(each[name], form)
    yield "" if each["mean_latency_s"] is None else f"{each['mean_latency_s']:.3g} s"
    yield f"{each['n_responses']:,}" + (f" ({each['n_failed']:,} failed)" if each["n_failed"] else "")
