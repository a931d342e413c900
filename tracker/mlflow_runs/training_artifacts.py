"""A training run as one MLflow run: its figures, its data sets, and its files.

All from the record, but for what only the disk holds: the texts of evaluated records, taken from a file whose digest is
the recorded one, and the last lines that a failed run printed.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tracker.fingerprint import Json, bytes_digest
from tracker.mlflow_runs import training_note, training_plots, training_report
from tracker.mlflow_runs.mlflow_run import DIGEST_LIMIT, Input, MlflowRun, milliseconds
from tracker.mlflow_runs.training_report import HYPERPARAMETERS, TrainingReport
from tracker.paths import Workspace
from tracker.plain_files import open_plain
from tracker.record.catalogue import Reader, Row
from tracker.yaml_text import to_yaml

_RECORD_CHARACTERS = 600
_OUTPUT_BYTES = 20_000
_EVALUATED = "validation"
_SOURCE = (
    *("path", "directory", "dataset", "name", "fingerprint", "train_digest", "eval_digest", "n_records", "n_train"),
)
_AS_COLUMNS = ("experiment", "model", "task", "method", "data", "hyperparameters")
_NO_TEXT = ("idx", "id", "label", "answer", "answerKey")


def mlflow_run(reader: Reader, workspace: Workspace, training_run_id: int) -> MlflowRun:
    """What MLflow is told of one training run."""
    report = training_report.load_report(reader, training_run_id)
    tables = {}
    if report.predictions.get("trained"):
        records = evaluated_records(workspace, report.data[0])
        tables["predictions.json"] = training_report.prediction_table(report, records)
    return MlflowRun(
        title=report.title,
        status=report.status,
        started=milliseconds(report.started_at),
        ended=milliseconds(report.ended_at),
        parameters=training_report.parameters(report),
        points=training_report.points(report),
        tags={**training_report.tags(report), "mlflow.note.content": training_note.note(report, workspace)},
        tables=tables,
        inputs=list(inputs(report.data, report.run["n_eval"])),
        files=partial(files, report, workspace),
    )


def inputs(data: Sequence[Row], n_eval: int | None) -> Iterator[Input]:
    """The data sets of a run: each that it was trained on, and the one it was measured on; those that are known."""
    for row in data:
        if not row["train_digest"]:
            continue
        name, digest = f"{row['dataset']}/{row['name']}", row["train_digest"][:DIGEST_LIMIT]
        yield Input("training", name, digest, row["directory"], row["n_train"])
    first = data[0]
    if first["eval_digest"]:
        # Copied as it is into all synthetic data: the same file under every name.
        name, digest = f"{first['dataset']}/{_EVALUATED}", first["eval_digest"][:DIGEST_LIMIT]
        yield Input("evaluation", name, digest, first["directory"], n_eval)


def evaluated_records(workspace: Workspace, data: Row) -> dict[int, str]:
    """The texts of the validation records by position; none where their file is not there, or is another one."""
    directory = workspace.root / data["directory"]
    if not data["eval_digest"] or not directory.is_dir():
        return {}
    for path in sorted([*directory.glob(f"*{_EVALUATED}.jsonl"), *directory.glob(f"*{_EVALUATED}.jsonl.gz")]):
        content = path.read_bytes() if path.is_file() else b""
        if bytes_digest([content]) == data["eval_digest"]:
            text = (gzip.decompress(content) if path.name.endswith(".gz") else content).decode("utf-8-sig")
            # Not splitlines: U+2028 and its like are legal inside JSON strings.
            lines = [line for line in text.split("\n") if line.strip()]
            return {position: _text(json.loads(line)) for position, line in enumerate(lines)}
    return {}


def _text(record: Json) -> str:
    values = [_flat(value) for name, value in record.items() if name not in _NO_TEXT]
    return " | ".join(filter(None, values))[:_RECORD_CHARACTERS]


def _flat(value: Json) -> str:
    if isinstance(value, dict):
        return " / ".join(_flat(item) for item in value.values())
    return " / ".join(map(_flat, value)) if isinstance(value, list) else str(value)


def files(report: TrainingReport, workspace: Workspace) -> Mapping[str, bytes]:
    """The artifacts of a run by name, without its tables."""
    run = report.run
    found = {
        "config/experiment_config.yaml": to_yaml(_config(report)).encode(),
        "metrics.json": _json(training_report.metrics(report)),
    }
    if report.metrics:
        found["plots/learning_curve.png"] = training_plots.learning_curve(report.title, run, report.metrics)
    if report.confusion is not None and report.classes is not None:
        found["confusion.json"] = _json({"classes": report.classes, "counts_by_label": report.confusion})
        found["plots/confusion.png"] = training_plots.confusion(report.title, report.classes, report.confusion)
    # What an imported one printed may hold keys.
    if run["status"] != "complete" and run["import_run_id"] is None:
        found |= dict(_output(workspace.root / run["directory"]))
    return found


def _config(report: TrainingReport) -> dict[str, Json]:
    """The settings of a run with what it was done on, in the keys of ``experiment_config.yaml`` in its directory."""
    run, settings = report.run, json.loads(report.run["settings"])
    config = json.loads(run["config"])
    given = {name: value for name, value in config.items() if isinstance(value, dict) or name in settings}
    used = {
        name: value for name, value in config.get("hyperparameters", {}).items() if HYPERPARAMETERS + name in settings
    }
    sources = [{name: row[name] for name in _SOURCE} for row in report.data]
    return {
        "timestamp": Path(run["directory"]).name,
        "experiment_purpose": run["purpose"],
        **{name: run[name] for name in ("description", "model", "task", "method")},
        "data": {**{name: sources[0][name] for name in ("path", "fingerprint")}, "sources": sources},
        "hyperparameters": used,
        **{name: value for name, value in given.items() if name not in _AS_COLUMNS},
        "training_info": {
            **{name: run[name] for name in ("fingerprint", "attempt")},
            "run": run["uuid"],
            **{name: run[name] for name in ("command", "directory", "device", "threads")},
            "env_vars": json.loads(run["environment"] or "{}"),
            "versions": json.loads(run["versions"] or "{}"),
        },
    }


def _output(directory: Path) -> Iterator[tuple[str, bytes]]:
    """The last lines that a run printed, by file; never what a link leads to."""
    for path in sorted([*directory.glob("*_train.err"), *directory.glob("*_train.out")]):
        try:
            with open_plain(path) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _OUTPUT_BYTES))
                content = file.read()
        except OSError:
            continue
        if content:
            # .txt, because MLflow shows no file of another ending.
            yield f"output/{path.name}.txt", content


def _json(value: Json) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
