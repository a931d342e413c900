"""What MLflow is shown of a sweep: one summary run with a table of all points, their statistics and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev

from tracker.fingerprint import Json
from tracker.mlflow_runs import training_note, training_plots
from tracker.mlflow_runs.mlflow_run import PARAMETER_LIMIT, TABLE_LIMIT, MlflowRun, Point, Table, milliseconds
from tracker.mlflow_runs.training_artifacts import inputs
from tracker.mlflow_runs.training_plots import Line
from tracker.mlflow_runs.training_report import (
    HYPERPARAMETERS,
    TrainingReport,
    group_tags,
    load_report,
    mlflow_status,
    parameters,
    short_model,
    shown_value,
)
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row
from tracker.yaml_text import to_yaml

SWEEP_TAG = "synthtrack.training_sweep"
SEED = "seed"
BASELINES = ("zero_shot_accuracy", "majority_accuracy")
# MLflow groups by the first column and compares the second unasked, and shows four or five without scrolling.
COLUMNS = (
    *("point", "accuracy", "learning_rate", "seed", "status", "accuracy_low", "accuracy_high", "macro_f1", "eval_loss"),
    *("dev_loss", "best_step", "steps", "duration_s", "batch_size", "attempt", "fingerprint", "mlflow_run_id"),
    "directory",
)
_SWEEP = "SELECT * FROM training_sweep WHERE id = :id"
# A point that failed may have got another attempt, which is the one that counts.
_RUNS = """
    SELECT r.*, o.mlflow_run_id FROM training_run r LEFT JOIN mlflow_outbox o ON o.training_run_id = r.id
    WHERE r.training_sweep_id = :id AND r.id = (
        SELECT MAX(n.id) FROM training_run n WHERE n.training_sweep_id = :id AND n.position = r.position)
    ORDER BY r.position"""
_CURVES = """
    SELECT training_run_id, name, step, value FROM training_metric
    WHERE name IN ('dev/loss', 'dev/accuracy')
      AND training_run_id IN (SELECT id FROM training_run WHERE training_sweep_id = :id)"""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """A sweep with its runs, one for each point; ``first`` is what its runs have in common, as that of the first."""

    sweep: Row
    runs: list[Row]
    first: TrainingReport
    curves: list[Row]

    @property
    def varied(self) -> list[str]:
        return list(json.loads(self.sweep["varied"]))

    @property
    def complete(self) -> list[Row]:
        return [run for run in self.runs if run["accuracy"] is not None]

    @property
    def baselines(self) -> dict[str, float | None]:
        """Their means over the runs: of a model made on the spot, zero-shot answers depend on the seed."""
        known = {name: [run[name] for run in self.complete if run[name] is not None] for name in BASELINES}
        return {name: fmean(values) if values else None for name, values in known.items()}

    @property
    def title(self) -> str:
        """The essentials, beginning with what tells it from the runs that it sums up."""
        what = " and ".join(self.varied) or "one point"
        return f"sweep · {self.first.subject} · {what} · {len(self.runs)} runs · {short_model(self.sweep['model'])}"


@dataclass(frozen=True, slots=True)
class Setting:
    """The finished runs of a sweep that differ in nothing but the seed."""

    name: str
    accuracies: list[float]

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """The sample standard deviation over the seeds."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


def load_sweep(reader: Reader, sweep_id: int) -> SweepReport:
    """Everything that is shown of one sweep."""
    runs = reader.rows(_RUNS, id=sweep_id)
    first = load_report(reader, runs[0]["id"])
    return SweepReport(reader.rows(_SWEEP, id=sweep_id)[0], runs, first, reader.rows(_CURVES, id=sweep_id))


def mlflow_run(reader: Reader, _: Workspace, sweep_id: int) -> MlflowRun:
    """What MLflow is told of one sweep."""
    report = load_sweep(reader, sweep_id)
    sweep = report.sweep
    ended = milliseconds(sweep["finished_at"] or sweep["heartbeat"] or sweep["started_at"])
    own = {SWEEP_TAG: sweep["uuid"], **group_tags(sweep, "training_sweep", sweep["uuid"])}
    return MlflowRun(
        title=report.title,
        status=mlflow_status(sweep["status"]),
        started=milliseconds(sweep["started_at"]),
        ended=ended,
        parameters=sweep_parameters(report),
        points=[Point(name, value, ended) for name, value in metrics(report).items()],
        tags={**own, "mlflow.note.content": training_note.sweep_note(report)},
        tables={"sweep.json": table(report)},
        inputs=list(inputs(report.first.data, report.first.run["n_eval"])),
        files=partial(files, report),
    )


def value_of(run: Row, name: str) -> str:
    """The value of a hyperparameter in a run, as it is shown."""
    return shown_value(json.loads(run["settings"]).get(HYPERPARAMETERS + name))


def point(run: Row, varied: Sequence[str]) -> str:
    """``learning_rate 1e-06, seed 0``: what tells a run from the others of its sweep."""
    return ", ".join(f"{name} {value_of(run, name)}" for name in varied) or "the only one"


def settings(report: SweepReport) -> list[Setting]:
    """The settings of a sweep with the accuracies over their seeds, the best mean first."""
    names = [name for name in report.varied if name != SEED]
    found: dict[str, list[float]] = {}
    for run in report.complete:
        found.setdefault(point(run, names), []).append(run["accuracy"])
    return sorted((Setting(*each) for each in found.items()), key=lambda setting: -setting.mean)


def sweep_parameters(report: SweepReport) -> dict[str, str]:
    """What is constant under its dotted name, as in the runs; what was varied as ``sweep.NAME``, all values."""
    everywhere = parameters(report.first)
    varied = {HYPERPARAMETERS + name for name in report.varied}
    found = {name: value for name, value in everywhere.items() if name not in varied and not name.startswith("run.")}
    found |= {"sweep.varied": ", ".join(report.varied)}
    for name in report.varied:
        values = dict.fromkeys(value_of(run, name) for run in report.runs)
        found[f"sweep.{name}"] = ", ".join(values)[:PARAMETER_LIMIT]
    return found


def metrics(report: SweepReport) -> dict[str, float]:
    """The statistics over the points; what is unknown is absent."""
    found = settings(report)
    accuracies = [run["accuracy"] for run in report.complete]
    spreads = [(setting.spread, len(setting.accuracies) - 1) for setting in found if setting.spread is not None]
    freedom = sum(n for _, n in spreads)
    figures = {
        "sweep/best_accuracy": max(accuracies, default=None),
        "sweep/best_mean_over_seeds": found[0].mean if found else None,
        "sweep/mean_accuracy": fmean(accuracies) if accuracies else None,
        # Pooled over the settings, so that it is of seeds alone.
        "sweep/sd_over_seeds": (sum(sd * sd * n for sd, n in spreads) / freedom) ** 0.5 if freedom else None,
        "sweep/n_points": len(report.runs),
        "sweep/n_complete": sum(run["status"] == "complete" for run in report.runs),
        "sweep/n_failed": sum(run["status"] == "failed" for run in report.runs),
        "sweep/duration_s": sum(run["duration_s"] or 0.0 for run in report.runs),
        "sweep/zero_shot_accuracy": report.baselines["zero_shot_accuracy"],
        "sweep/majority_accuracy": report.baselines["majority_accuracy"],
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def table(report: SweepReport) -> Table:
    """All points, the best first; same columns for all sweeps."""
    ranked = sorted(report.runs, key=lambda run: -(run["accuracy"] or 0.0))[:TABLE_LIMIT]
    rows = [{**run, "point": point(run, report.varied), "steps": run["step"]} for run in ranked]
    return {"columns": list(COLUMNS), "data": [[_short(row[name]) for name in COLUMNS] for row in rows]}


def _short(value: Json) -> Json:
    # Four digits are more than a sweep can tell apart, and all that a column of MLflow shows.
    return float(f"{value:.4g}") if isinstance(value, float) else value


def files(report: SweepReport) -> Mapping[str, bytes]:
    """The artifacts of a sweep by name, without its table."""
    found = {"config/training_config.yaml": to_yaml(json.loads(report.sweep["config"])).encode()}
    if report.complete:
        # Without anything else, seeds are what is looked at.
        names = [name for name in report.varied if name != SEED] or report.varied
        varied = {name: [value_of(run, name) for run in report.complete] for name in names}
        found["plots/accuracy.png"] = training_plots.points(report.title, report.complete, varied, report.baselines)
    if report.curves:
        found["plots/learning_curves.png"] = training_plots.all_curves(report.title, list(_lines(report)))
    return found


def _lines(report: SweepReport) -> Iterator[Line]:
    names = [name for name in report.varied if name != SEED]
    for run in report.runs:
        curves = [row for row in report.curves if row["training_run_id"] == run["id"]]
        if curves:
            yield Line(point(run, report.varied), point(run, names), training_plots.curves_of(curves))
