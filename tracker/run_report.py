"""What MLflow is shown of a generation run, as plain data: names, parameters, metrics, tags and the note."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from tracker.catalogue import Reader, Row
from tracker.fingerprint import Json, canonical_json
from tracker.paths import Workspace

PARAMETER_LIMIT = 6000
"""Characters of a parameter's value; MLflow cuts longer ones without a word."""
DIGEST_LIMIT = 36
"""Characters of a data set's digest in MLflow."""
TABLE_LIMIT = 2000
"""Rows of samples.json: more than a person looks through, less than what slows the browser down."""
CURVE_POINTS = 100
RUN_TAG = "synthtrack.generation_run"
TABLE_COLUMNS = ("original", "rephrased", "verdict", "status", "final")
ENDED = ("FINISHED", "FAILED", "KILLED")

_RUN = """
    SELECT r.*, b.name AS batch, o.name AS original_batch, e.fingerprint, e.dataset, e.name, e.model, e.settings,
           e.status AS experiment_status, e.data_digest, s.digest AS source_digest, s.origin AS source_origin,
           e.n_records AS e_n_records, e.n_accepted AS e_n_accepted, e.n_rejected AS e_n_rejected,
           e.n_unclear AS e_n_unclear, e.n_failed AS e_n_failed
    FROM generation_run r
    JOIN batch b ON b.id = r.batch_id
    JOIN shared_experiment e ON e.id = r.shared_experiment_id
    JOIN batch o ON o.id = e.original_batch_id
    JOIN source_dataset s ON s.id = e.source_dataset_id
    WHERE r.id = :id"""
_MAKER = """
    SELECT r.uuid, x.mlflow_run_id FROM generation_run r LEFT JOIN mlflow_outbox x ON x.generation_run_id = r.id
    WHERE r.shared_experiment_id = :experiment AND r.outcome <> 'reused' ORDER BY r.id DESC LIMIT 1"""
_SAMPLES = """
    SELECT original, rephrased, verdict, status, final FROM sample_side_by_side
    WHERE shared_experiment_id = :experiment ORDER BY position"""
_ATTEMPTS = """
    SELECT latency_s, prompt_tokens, completion_tokens FROM attempt
    WHERE generation_run_id = :id AND failure IS NULL ORDER BY id"""
_FIRST_RECORD = """
    SELECT c.line FROM source_record c JOIN source_split p ON p.id = c.source_split_id
    JOIN shared_experiment e ON e.source_dataset_id = p.source_dataset_id
    WHERE e.id = :experiment AND c.position = 0 ORDER BY c.id LIMIT 1"""
_FIGURES = (
    *("prompt_tokens", "completion_tokens", "n_calls", "n_cached", "n_retried", "n_rate_limited"),
    *("cost_usd", "duration_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
)
_COUNTS = ("n_records", "n_accepted", "n_rejected", "n_unclear", "n_failed")


@dataclass(frozen=True, slots=True)
class RunReport:
    """A generation run with all that is shown of it."""

    run: Row
    samples: list[Row]
    attempts: list[Row]
    first_record: Json
    maker: Row | None

    @property
    def reused(self) -> bool:
        return bool(self.run["outcome"] == "reused")

    @property
    def reference(self) -> str:
        """``Copa/temp07_topp10_gpt4o``."""
        return f"{self.run['dataset']}/{self.run['name']}"

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows."""
        return f"{self.reference} · {self.run['batch']} · {self.run['outcome']}"

    @property
    def status(self) -> str:
        """MLflow's word for how the run ended. A partial run is finished where its failures were accepted."""
        if self.run["status"] == "partial":
            return "FINISHED" if self.run["experiment_status"] == "partial" else "FAILED"
        return {"complete": "FINISHED", "interrupted": "KILLED"}.get(self.run["status"], "FAILED")

    @property
    def counts(self) -> dict[str, int]:
        """The run's counts; those of the experiment where the run found it already made."""
        return {name: self.run[f"e_{name}" if self.reused else name] for name in _COUNTS}


def load_report(reader: Reader, generation_run_id: int) -> RunReport:
    """Everything that is shown of one generation run."""
    run = reader.rows(_RUN, id=generation_run_id)[0]
    experiment = run["shared_experiment_id"]
    first = reader.rows(_FIRST_RECORD, experiment=experiment)
    makers = reader.rows(_MAKER, experiment=experiment) if run["outcome"] == "reused" else []
    return RunReport(
        run=run,
        samples=reader.rows(_SAMPLES, experiment=experiment),
        attempts=reader.rows(_ATTEMPTS, id=generation_run_id),
        first_record=json.loads(first[0]["line"]) if first else {},
        maker=makers[0] if makers else None,
    )


def milliseconds(text: str) -> int:
    """A stored time in milliseconds since the epoch, as MLflow counts."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def parameters(report: RunReport) -> dict[str, str]:
    """Every setting of this run under its dotted name, and what the compare page shows nowhere else.

    The settings that the experiment keeps are those of the run that made it: a run that reused it may have had another
    batch, concurrency or address.
    """
    run = report.run
    given = dict(_flat(json.loads(run["config"])))
    # A config leaves out what is null; a group that is given stands under the names in it.
    groups = {name[:at] for name in given for at, letter in enumerate(name) if letter == "."}
    settings = {name: given.get(name) for name in json.loads(run["settings"]) if name not in groups} | given
    shown = {name: _parameter(value) for name, value in settings.items()}
    shown |= {
        "batch": run["batch"],
        "dataset": run["dataset"],
        "fingerprint": run["fingerprint"],
        "source_digest": run["source_digest"][:DIGEST_LIMIT],
        "outcome": run["outcome"],
    }
    return {name: value[:PARAMETER_LIMIT] for name, value in shown.items()}


def metrics(report: RunReport) -> dict[str, float]:
    """The figures of the run; what is unknown is absent."""
    run, counts = report.run, report.counts
    judged = counts["n_accepted"] + counts["n_rejected"]
    # First, because the compare page draws the first metric unasked.
    rate = {"acceptance_rate": counts["n_accepted"] / judged if judged else None}
    figures = rate | counts | {name: run[name] for name in _FIGURES}
    return {f"generation/{name}": float(value) for name, value in figures.items() if value is not None}


def acceptance_curve(report: RunReport) -> list[tuple[int, float]]:
    """(records so far, share of them accepted), at most 100 points, the last one over all records."""
    judged = [sample["status"] == "accepted" for sample in report.samples if sample["status"] != "failed"]
    total = len(judged)
    accepted = list(accumulate(judged))
    steps = sorted({round(total * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)} - {0})
    return [(step, accepted[step - 1] / step) for step in steps]


def tags(report: RunReport, workspace: Workspace) -> dict[str, str]:
    """What a run is found by, and its note."""
    run, maker = report.run, report.maker or {}
    found = {
        RUN_TAG: run["uuid"],
        "synthtrack.fingerprint": run["fingerprint"],
        "synthtrack.experiment": report.reference,
        "synthtrack.dataset": run["dataset"],
        "synthtrack.batch": run["batch"],
        "synthtrack.original_batch": run["original_batch"],
        "synthtrack.purpose": run["purpose"],
        "synthtrack.outcome": run["outcome"],
        "synthtrack.status": run["status"],
        "synthtrack.source_digest": run["source_digest"],
        "synthtrack.data_digest": run["data_digest"],
        "synthtrack.made_by": maker.get("uuid"),
        "synthtrack.made_by_mlflow_run": maker.get("mlflow_run_id"),
        "synthtrack.error": (run["error"] or "")[:2000] or None,
        "synthtrack.host": run["host"],
        "synthtrack.command": run["command"][:2000],
        # MLflow shows what follows the last slash, which of a whole command would be anything.
        "mlflow.source.name": "synthtrack generate",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": note(report, workspace),
    }
    return {name: value for name, value in found.items() if value}


def note(report: RunReport, workspace: Workspace) -> str:
    """The run in Markdown: what it made, of what, and where to go from here."""
    run, counts = report.run, report.counts
    lines = [f"## {report.reference}", "", f"{_story(report)}", ""]
    if run["description"]:
        lines += [run["description"], ""]
    if run["error"]:
        lines += [f"**{run['status']}**: {run['error'][:1000]}", ""]
    cost = "unknown" if run["cost_usd"] is None else f"${run['cost_usd']:,.4f}"
    rows = {
        "Batch": f"`{run['batch']}`",
        "Purpose": run["purpose"],
        "Fingerprint": f"`{run['fingerprint']}`",
        "Source": f"`{run['source_origin']}`, SHA-256 `{run['source_digest']}`",
        "Data": f"SHA-256 `{run['data_digest']}`" if run["data_digest"] else "not finished",
        "Model": f"`{run['model']}`",
        "Records": f"{counts['n_records']:,}: {counts['n_accepted']:,} accepted, {counts['n_rejected']:,} kept the"
        f" original ({counts['n_unclear']:,} unclear), {counts['n_failed']:,} failed",
        "This run": f"{run['n_calls']:,} requests, {run['n_cached']:,} answers reused,"
        f" {run['prompt_tokens']:,} + {run['completion_tokens']:,} tokens, cost {cost}",
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items()), ""]
    if len(report.samples) > TABLE_LIMIT:
        lines += [f"`samples.json` holds the first {TABLE_LIMIT:,} of {len(report.samples):,} records.", ""]
    link = workspace.relative(workspace.link(run["batch"], run["dataset"], run["name"]))
    commands = (f"experiment show {report.reference}", f"path resolve {link}", f"batch show {run['batch']}")
    return "\n".join([*lines, "```", *(f"synthtrack {command}" for command in commands), "```"])


def table(report: RunReport) -> dict[str, Json]:
    """The samples in the form of MLflow's ``log_table``: same columns in every run, at most 2,000 rows."""
    rows = [[sample[column] for column in TABLE_COLUMNS] for sample in report.samples[:TABLE_LIMIT]]
    return {"columns": list(TABLE_COLUMNS), "data": rows}


def directory_name(purpose: str) -> str:
    """``purpose`` as one harmless path component."""
    return re.sub(r"[^\w.-]", "_", purpose).strip(".") or "_"


def columns(record: Json) -> Iterator[tuple[str, str]]:
    """The fields of a record with MLflow's names for their types."""
    kinds = {bool: "boolean", int: "long", float: "double"}
    for name, value in record.items():
        yield name, kinds.get(type(value), "string")


def _story(report: RunReport) -> str:
    run = report.run
    if not report.reused:
        return {"made": "Made", "resumed": "Resumed and continued"}[run["outcome"]] + f" by batch `{run['batch']}`."
    maker = report.maker or {}
    where = f" (MLflow run `{maker['mlflow_run_id']}`, which holds the data)" if maker.get("mlflow_run_id") else ""
    return f"Reused: batch `{run['original_batch']}` had made this data already{where}. No request was sent."


def _flat(config: dict[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _parameter(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
