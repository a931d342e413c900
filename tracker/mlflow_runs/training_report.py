"""What MLflow is shown of a training run, as plain data: its name, parameters, metrics, tags and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tracker.fingerprint import Json, canonical_json
from tracker.mlflow_runs.mlflow_run import DIGEST_LIMIT, PARAMETER_LIMIT, TABLE_LIMIT, Point, Table, milliseconds
from tracker.record.catalogue import Reader, Row
from tracker.statistics import confusion

RUN_TAG = "synthtrack.training_run"
GROUP_TAG = "synthtrack.sweep"
"""On the runs of a sweep and on its summary: what MLflow's list is filtered and grouped by."""
KIND_TAG = "synthtrack.kind"
FINGERPRINT_TAG = "synthtrack.data_fingerprint"
"""Of the data that a run was trained on: what leads from the run that made data to those that learned from it."""
HYPERPARAMETERS = "hyperparameters."
# MLflow groups by the first column and compares the second unasked, and shows four or five without scrolling.
PREDICTION_COLUMNS = ("record", "predicted", "label", "correct", "zero_shot", "margin", "scores")

_RUN = """
    SELECT r.*, w.uuid AS sweep, w.varied, w.n_points FROM training_run r
    JOIN training_sweep w ON w.id = r.training_sweep_id WHERE r.id = :id"""
_DATA = """
    SELECT d.*, e.settings AS made_with, e.identity AS made_of, b.name AS batch, g.uuid AS generation_run,
           o.mlflow_run_id
    FROM training_data d LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
    LEFT JOIN batch b ON b.id = d.batch_id
    LEFT JOIN generation_run g ON g.id = (
        SELECT MAX(m.id) FROM generation_run m
        WHERE m.shared_experiment_id = e.id AND m.outcome NOT IN ('reused', 'tested'))
    LEFT JOIN mlflow_outbox o ON o.generation_run_id = g.id
    WHERE d.training_run_id = :id ORDER BY d.position"""
_METRICS = """
    SELECT name, step, value, recorded_at FROM training_metric WHERE training_run_id = :id ORDER BY name, step"""
# What the untrained model answers is measured once for all runs of which it is the same.
_PREDICTIONS = """
    SELECT p.stage, p.position, p.label, p.predicted, p.correct, p.scores FROM prediction p
    WHERE (p.training_run_id = :id AND p.stage = 'trained') OR (p.stage = 'zero_shot' AND p.training_run_id = (
        SELECT MIN(n.id) FROM training_run n JOIN training_run r ON r.zero_shot_key = n.zero_shot_key
        WHERE r.id = :id AND EXISTS (
            SELECT 1 FROM prediction z WHERE z.training_run_id = n.id AND z.stage = 'zero_shot')))
    ORDER BY p.position"""
_GENERATION = ("generation", "validation")
_SHOWN_ELSEWHERE = ("data.", "experiment.")


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """A training run with all that is shown of it; predictions by stage, ``trained`` and ``zero_shot``."""

    run: Row
    data: list[Row]
    metrics: list[Row]
    predictions: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows.

        What tells runs apart comes first: of long names, both show the beginning.
        """
        run = self.run
        what = [run["data"], f"{run['task']} {run['method']}", short_model(run["model"]), *self._attempt]
        return " · ".join([point_name(run), *what])

    @property
    def subject(self) -> str:
        """``Copa zo · temp07_topp10_gpt4o``."""
        return f"{self.run['task']} {self.run['method']} · {self.run['data']}"

    @property
    def _attempt(self) -> list[str]:
        return [f"attempt {self.run['attempt']}"] if self.run["attempt"] > 1 else []

    @property
    def status(self) -> str:
        """MLflow's word for how the run ended."""
        return mlflow_status(self.run["status"])

    @property
    def started_at(self) -> str:
        return str(self.run["started_at"] or self.run["created_at"])

    @property
    def ended_at(self) -> str:
        return str(self.run["finished_at"] or self.run["heartbeat"] or self.started_at)

    @property
    def classes(self) -> list[str] | None:
        """The names of the answers; None where each record has its own choices."""
        return json.loads(self.run["classes"]) if self.run["classes"] else None

    @property
    def confusion(self) -> list[list[int]] | None:
        """How often each answer was given, by the right answer; None where the answers have no fixed names."""
        rows = self.predictions.get("trained")
        if self.classes is None or not rows:
            return None
        return confusion([row["label"] for row in rows], [row["predicted"] for row in rows], len(self.classes))


def load_report(reader: Reader, training_run_id: int) -> TrainingReport:
    """Everything that is shown of one training run."""
    predictions: dict[str, list[Row]] = {}
    for row in reader.rows(_PREDICTIONS, id=training_run_id):
        predictions.setdefault(row["stage"], []).append(row)
    return TrainingReport(
        run=reader.rows(_RUN, id=training_run_id)[0],
        data=reader.rows(_DATA, id=training_run_id),
        metrics=reader.rows(_METRICS, id=training_run_id),
        predictions=predictions,
    )


def mlflow_status(status: str) -> str:
    """MLflow's word for the status of a training run or sweep."""
    return {"complete": "FINISHED", "failed": "FAILED"}.get(status, "KILLED")


def short_model(model: str) -> str:
    """``Llama-3.2-1B`` of ``meta-llama/Llama-3.2-1B``."""
    return model.rstrip("/").rpartition("/")[2] or model


def point_name(run: Row) -> str:
    """What tells a run from the others of its sweep: ``lr 1e-06 s0`` (seed 0), then what else was varied."""
    settings = json.loads(run["settings"])
    others = [name for name in json.loads(run["varied"]) if name not in {"learning_rate", "seed"}]
    shown = [f"{name} {shown_value(settings.get(HYPERPARAMETERS + name))}" for name in others]
    seed = "" if run["seed"] is None else f" s{run['seed']}"
    return " · ".join([f"lr {shown_value(run['learning_rate'])}{seed}", *shown])


def shown_value(value: Json) -> str:
    """``value`` as people write it: 1e-06 and not 0.000001, 16 and not 16.0."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else canonical_json(value)


def parameters(report: TrainingReport) -> dict[str, str]:
    """Every setting of this run under its dotted name, what its data was made with, and what it was done on.

    The settings of the data stand under the names that they have in the run that made it, so that one compare page
    answers which of them gave the best model. That page draws the first three by name that differ.
    """
    run = report.run
    settings = json.loads(run["settings"])
    shown: dict[str, Json] = {name: settings[name] for name in settings if not name.startswith(_SHOWN_ELSEWHERE)}
    shown |= _data_parameters(report.data)
    shown |= {name: run[name] for name in ("model", "task", "method", "data", "sweep", "n_train", "n_dev", "n_eval")}
    shown |= {name: run[name] for name in ("n_parameters", "n_trainable")}
    shown |= {f"run.{name}": run[name] for name in ("fingerprint", "attempt", "device", "threads")}
    return {name: shown_value(value)[:PARAMETER_LIMIT] for name, value in shown.items() if value is not None}


def _data_parameters(data: Sequence[Row]) -> dict[str, Json]:
    made = [_made_with(row) if row["made_with"] else None for row in data]
    names = dict.fromkeys(name for each in made if each is not None for name in each)
    # A mix is neither of its parts: `original + 0.5` is not 0.5.
    parts = {name: ["original" if each is None else each.get(name) for each in made] for name in names}
    return {name: _joined(values) for name, values in parts.items()} | {
        "train_data.path": _joined([row["path"] for row in data]),
        "train_data.fingerprint": _joined([row["fingerprint"] for row in data]),
        "train_data.batch": _joined([row["batch"] for row in data]),
        "train_data.digest": _joined([row["train_digest"][:DIGEST_LIMIT] or None for row in data]),
        "eval_data.digest": (data[0]["eval_digest"] or "")[:DIGEST_LIMIT] or None,
    }


def _made_with(row: Row) -> dict[str, Json]:
    """The settings that shaped a synthetic data set, without those that only operated its making."""
    shaping = json.loads(row["made_of"])["identity"]
    names = {f"{group}.{name}" for group in _GENERATION for name in shaping.get(group) or {}}
    return {name: value for name, value in json.loads(row["made_with"]).items() if name in names}


def _joined(values: Sequence[Json]) -> Json:
    """The one value of several data sets, or all of them in a text."""
    known = {canonical_json(value): value for value in values if value is not None}
    return next(iter(known.values()), None) if len(known) < 2 else " + ".join(map(shown_value, known.values()))


def points(report: TrainingReport) -> list[Point]:
    """The final figures, then the figures by step with the times at which they were measured."""
    ended = milliseconds(report.ended_at)
    finals = [Point(name, value, ended) for name, value in metrics(report).items()]
    return finals + [
        Point(row["name"], float(row["value"]), milliseconds(row["recorded_at"]), int(row["step"]))
        for row in report.metrics
    ]


def metrics(report: TrainingReport) -> dict[str, float]:
    """The final figures of a run; what is unknown is absent."""
    run = report.run
    # First, because the compare page draws the first metric unasked.
    figures: dict[str, float | None] = {f"eval/{name}": run[name] for name in ("accuracy", *_EVALUATION)}
    figures |= {
        "eval/loss": run["eval_loss"],
        "eval/gain_over_zero_shot": _difference(run["accuracy"], run["zero_shot_accuracy"]),
        "eval/gain_over_majority": _difference(run["accuracy"], run["majority_accuracy"]),
        "eval/zero_shot_accuracy": run["zero_shot_accuracy"],
        "eval/majority_accuracy": run["majority_accuracy"],
        "dev/best_loss": run["dev_loss"],
        "dev/best_accuracy": run["dev_accuracy"],
        "dev/best_step": run["best_step"],
        # MLflow sorts parameters as texts.
        "run/learning_rate": run["learning_rate"],
        "run/train_loss": run["train_loss"],
        "run/steps": run["step"],
        "run/step_time_s": run["step_time_s"],
        "run/tokens_per_s": run["tokens_per_s"],
        "run/peak_memory_mib": None if run["peak_memory_bytes"] is None else run["peak_memory_bytes"] / 2**20,
        "run/duration_s": run["duration_s"],
        "run/n_resumed": run["n_resumed"],
        "run/n_truncated": run["n_truncated"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


_EVALUATION = ("accuracy_low", "accuracy_high", "macro_f1", "n_correct")


def _difference(value: float | None, baseline: float | None) -> float | None:
    return None if value is None or baseline is None else value - baseline


def tags(report: TrainingReport) -> dict[str, str]:
    """What a run is found by."""
    run, data = report.run, report.data
    versions = json.loads(run["versions"] or "{}")
    found = {
        RUN_TAG: run["uuid"],
        **group_tags(run, "training_run", run["sweep"]),
        "synthtrack.data": run["data"],
        FINGERPRINT_TAG: _joined([row["fingerprint"] for row in data]),
        "synthtrack.data_batch": _joined([row["batch"] for row in data]),
        # MLflow's own ids are new where its store was made anew; the uuid stays.
        "synthtrack.data_generation_run": _joined([row["generation_run"] for row in data]),
        "synthtrack.data_mlflow_run": _joined([row["mlflow_run_id"] for row in data]),
        "synthtrack.fingerprint": run["fingerprint"],
        "synthtrack.attempt": str(run["attempt"]),
        "synthtrack.directory": run["directory"],
        "mlflow.source.git.commit": versions.get("git_commit"),
    }
    return {name: value for name, value in found.items() if value}


def group_tags(row: Row, kind: str, sweep: str) -> dict[str, str]:
    """The tags that a training run and the summary of a sweep have in common; ``row`` is of either."""
    found = {
        KIND_TAG: kind,
        GROUP_TAG: sweep,
        "synthtrack.purpose": row["purpose"],
        "synthtrack.task": row["task"],
        "synthtrack.method": row["method"],
        "synthtrack.model": row["model"],
        "synthtrack.status": row["status"],
        # Its last lines say what went wrong.
        "synthtrack.error": (row["error"] or "")[-2000:],
        "synthtrack.host": row["host"],
        "synthtrack.command": (row["command"] or "")[:2000],
        "mlflow.source.name": "synthtrack train",
        "mlflow.source.type": "LOCAL",
    }
    return {name: value for name, value in found.items() if value}


def prediction_table(report: TrainingReport, records: Mapping[int, str]) -> Table:
    """The answers of the trained model, the wrong ones too, in record order; same columns in all runs, 2,000 rows.

    ``records`` are the texts of the records by position, as far as they are known.
    """
    before = {row["position"]: row["predicted"] for row in report.predictions.get("zero_shot", [])}
    shown = report.predictions.get("trained", [])[:TABLE_LIMIT]
    return {
        "columns": list(PREDICTION_COLUMNS),
        "data": [list(_prediction(report, row, before, records)) for row in shown],
    }


def _prediction(
    report: TrainingReport, row: Row, before: Mapping[int, int], records: Mapping[int, str]
) -> Iterator[Json]:
    position, scores = row["position"], json.loads(row["scores"])
    text = records.get(position)
    yield f"{position + 1}: {text}" if text else f"{position + 1}"
    yield _answer(report, row["predicted"])
    yield _answer(report, row["label"])
    yield bool(row["correct"])
    yield _answer(report, before.get(position))
    # How far the right answer is ahead of the best wrong one, in log-probability; below 0: wrong.
    yield round(scores[row["label"]] - max(scores[: row["label"]] + scores[row["label"] + 1 :], default=0.0), 6)
    yield [round(score, 6) for score in scores]


def _answer(report: TrainingReport, index: int | None) -> str | None:
    if index is None:
        return None
    return report.classes[index] if report.classes else f"choice {index + 1}"
