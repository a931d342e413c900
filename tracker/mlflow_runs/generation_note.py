"""The note of a generation run in MLflow: what it made, of what, and where to go from here."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.mlflow_runs import step_report
from tracker.mlflow_runs.generation_report import RunReport
from tracker.mlflow_runs.mlflow_run import TABLE_LIMIT
from tracker.mlflow_runs.training_report import FINGERPRINT_TAG
from tracker.paths import Workspace
from tracker.record.catalogue import Row


def note(report: RunReport, workspace: Workspace) -> str:
    """The run in Markdown: what it made, of what, and where to go from here."""
    run = report.run
    lines = [f"## {report.reference}", "", f"{_story(report)}", ""]
    if run["description"]:
        lines += [run["description"], ""]
    if run["error"]:
        lines += [f"**{run['status']}**: {run['error'][:1000]}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in _note_rows(report)), ""]
    if len(report.samples) > TABLE_LIMIT:
        lines += [f"`samples.json` holds the first {TABLE_LIMIT:,} of {len(report.samples):,} records.", ""]
    link = workspace.relative(workspace.link(run["batch"], run["dataset"], run["name"]))
    following = step_report.next_commands(report.step, report.reference) if report.step else ()
    commands = [*following, f"experiment show {report.reference}", f"batch show {run['batch']}"]
    if report.judges:
        commands.insert(-1, f"path resolve {link}")
        lines += ["What was trained on this data, as a filter of MLflow's list:", "", "```"]
        lines += [f"tags.`{FINGERPRINT_TAG}` LIKE '%{run['fingerprint']}%'", "```", ""]
    commands.append(f"lineage {run['fingerprint']}")
    return "\n".join([*lines, "```", *(f"synthtrack {command}" for command in commands), "```"])


def _note_rows(report: RunReport) -> Iterator[tuple[str, str]]:
    run, counts = report.run, report.counts
    yield "Batch", f"`{run['batch']}`"
    yield "Purpose", run["purpose"]
    yield "Fingerprint", f"`{run['fingerprint']}`"
    yield "Source", f"`{run['source_origin']}`, SHA-256 `{run['source_digest']}`"
    if report.judges:
        yield "Data", f"SHA-256 `{report.data_digest}`" if report.data_digest else "not finished"
    yield "Model", f"`{run['model']}`"
    if report.judges:
        kept = f"{counts['n_rejected']:,} kept the original ({counts['n_unclear']:,} unclear)"
        yield (
            "Records",
            f"{counts['n_records']:,}: {counts['n_accepted']:,} accepted, {kept}, {counts['n_failed']:,} failed",
        )
    elif not report.is_test:
        n_records, n_failed = counts["n_records"], counts["n_failed"]
        yield "Records", f"{n_records - n_failed:,} of {run['e_n_records']:,} rephrased, {n_failed:,} failed"
    if report.step is not None:
        yield from step_report.note_rows(report.step, report.samples)
    yield "This run", used(run)


def used(run: Row) -> str:
    """What a run asked and paid, in words."""
    cost = "unknown" if run["cost_usd"] is None else f"${run['cost_usd']:,.4f}"
    tokens = f"{run['prompt_tokens']:,} + {run['completion_tokens']:,} tokens, cost {cost}"
    return f"{run['n_calls']:,} requests, {run['n_cached']:,} answers reused, {tokens}"


def _story(report: RunReport) -> str:
    run = report.run
    if report.step is not None and not report.reused:
        return step_report.story(report.step, run)
    if not report.reused:
        return {"made": "Made", "resumed": "Resumed and continued"}[run["outcome"]] + f" by batch `{run['batch']}`."
    maker = report.maker or {}
    where = f" (MLflow run `{maker['mlflow_run_id']}`, which holds the data)" if maker.get("mlflow_run_id") else ""
    return f"Reused: batch `{run['original_batch']}` had made this data already{where}. No request was sent."


def cell(text: str) -> str:
    """``text`` as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
