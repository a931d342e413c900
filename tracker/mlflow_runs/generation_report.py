"""What MLflow is shown of a generation run, as plain data: names, parameters, metrics and tags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tracker.fingerprint import Json
from tracker.mlflow_runs import step_report
from tracker.mlflow_runs.mlflow_run import (
    DIGEST_LIMIT,
    FIGURES,
    PARAMETER_LIMIT,
    TABLE_LIMIT,
    run_tags,
    setting_parameters,
)
from tracker.mlflow_runs.step_report import JUDGE_TEST, StepReport
from tracker.record.catalogue import Reader, Row

CURVE_POINTS = 100
RUN_TAG = "synthtrack.generation_run"
TABLE_COLUMNS = ("original", "rephrased", "verdict", "status", "final")

_RUN = """
    SELECT r.*, b.name AS batch, o.name AS original_batch, e.fingerprint, e.dataset, e.name, e.model, e.strategy,
           e.settings, e.status AS experiment_status, e.data_digest, s.digest AS source_digest,
           s.origin AS source_origin, e.n_records AS e_n_records, e.n_accepted AS e_n_accepted,
           e.n_rejected AS e_n_rejected, e.n_unclear AS e_n_unclear, e.n_failed AS e_n_failed
    FROM generation_run r
    JOIN batch b ON b.id = r.batch_id
    JOIN shared_experiment e ON e.id = r.shared_experiment_id
    JOIN batch o ON o.id = e.original_batch_id
    JOIN source_dataset s ON s.id = e.source_dataset_id
    WHERE r.id = :id"""
_MAKER = """
    SELECT r.uuid, x.mlflow_run_id FROM generation_run r LEFT JOIN mlflow_outbox x ON x.generation_run_id = r.id
    WHERE r.shared_experiment_id = :experiment AND r.outcome NOT IN ('reused', 'tested') ORDER BY r.id DESC LIMIT 1"""
_SAMPLES = """
    SELECT position, original, rephrased, verdict, decided_by, status, updated_at FROM sample
    WHERE shared_experiment_id = :experiment ORDER BY position"""
_ATTEMPTS = """
    SELECT latency_s, prompt_tokens, completion_tokens FROM attempt
    WHERE generation_run_id = :id AND failure IS NULL ORDER BY id"""
_FIRST_RECORD = """
    SELECT c.line FROM source_record c JOIN source_split p ON p.id = c.source_split_id
    JOIN shared_experiment e ON e.source_dataset_id = p.source_dataset_id
    WHERE e.id = :experiment AND c.position = 0 ORDER BY c.id LIMIT 1"""
_COUNTS = ("n_records", "n_accepted", "n_rejected", "n_unclear", "n_failed")


@dataclass(frozen=True, slots=True)
class RunReport:
    """A generation run with all that is shown of it; ``step`` where it is one of strategy two_stage."""

    run: Row
    samples: list[Row]
    attempts: list[Row]
    first_record: Json
    maker: Row | None
    step: StepReport | None = None

    @property
    def reused(self) -> bool:
        return bool(self.run["outcome"] == "reused")

    @property
    def reference(self) -> str:
        """``Copa/temp07_topp10_gpt4o``."""
        return f"{self.run['dataset']}/{self.run['name']}"

    @property
    def title(self) -> str:
        """The essentials, because a run's name is what every table and chart of MLflow shows.

        A step that makes no data begins with its name: of long names a table shows the beginning.
        """
        experiment = f"{self.reference} · {self.run['batch']}"
        if self.step is not None and not self.judges:
            return f"{self.step.title} · {experiment}"
        return f"{experiment} · {(self.step and self.step.name) or self.run['outcome']}"

    @property
    def is_test(self) -> bool:
        """Whether a judge was tested, which makes no data."""
        return self.step is not None and self.step.name == JUDGE_TEST

    @property
    def judges(self) -> bool:
        """Whether records were accepted and rejected, so that there is a rate, and data in the end."""
        return self.step is None or not (self.is_test or self.step.rephrases)

    @property
    def data_digest(self) -> str | None:
        """That of the data that this run made or reused."""
        return self.run["data_digest"] if self.judges else None

    @property
    def status(self) -> str:
        """MLflow's word for how the run ended. A partial run is finished where its failures were accepted."""
        if self.run["status"] == "partial":
            return "FINISHED" if self.run["experiment_status"] == "partial" and not self.is_test else "FAILED"
        ends = {"complete": "FINISHED", "waiting": "FINISHED", "interrupted": "KILLED"}
        return ends.get(self.run["status"], "FAILED")

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
    samples, step = reader.rows(_SAMPLES, experiment=experiment), step_report.load_step(reader, run)
    return RunReport(
        run=run,
        samples=samples if step is None or step.name is None else step_report.samples_then(samples, run),
        attempts=reader.rows(_ATTEMPTS, id=generation_run_id),
        first_record=json.loads(first[0]["line"]) if first else {},
        maker=makers[0] if makers else None,
        step=step,
    )


def parameters(report: RunReport) -> dict[str, str]:
    """Every setting of this run under its dotted name, and what the compare page shows nowhere else."""
    run = report.run
    shown = setting_parameters(run["settings"], run["config"])
    shown |= {
        "batch": run["batch"],
        "dataset": run["dataset"],
        "fingerprint": run["fingerprint"],
        "source_digest": run["source_digest"][:DIGEST_LIMIT],
        "outcome": run["outcome"],
        **({"step": report.step.name} if report.step and report.step.name else {}),
    }
    return {name: value[:PARAMETER_LIMIT] for name, value in shown.items()}


def metrics(report: RunReport) -> dict[str, float]:
    """The figures of the run; what is unknown is absent, and so is what this step says nothing of."""
    figures = _results(report) | {name: report.run[name] for name in FIGURES}
    found = {f"generation/{name}": value for name, value in figures.items()}
    if report.step is not None:
        judge, people = step_report.judge_metrics(report.step), step_report.people_metrics(report.step)
        found = judge | found | people if report.is_test else found | people | judge
    return {name: float(value) for name, value in found.items() if value is not None}


def _results(report: RunReport) -> dict[str, float | None]:
    counts = report.counts
    if report.is_test:
        return {}
    if not report.judges:
        n_records, n_failed = counts["n_records"], counts["n_failed"]
        return {"n_rephrased": n_records - n_failed, "n_failed": n_failed}
    judged = counts["n_accepted"] + counts["n_rejected"]
    # First, because the compare page draws the first metric unasked.
    return {"acceptance_rate": counts["n_accepted"] / judged if judged else None, **counts}


def acceptance_curve(report: RunReport) -> list[tuple[int, float]]:
    """(records so far, share of them accepted), at most 100 points, the last one over all records."""
    if not report.judges:
        return []
    judged = [
        sample["status"] == "accepted" for sample in report.samples if sample["status"] in {"accepted", "rejected"}
    ]
    total = len(judged)
    accepted = list(accumulate(judged))
    steps = sorted({round(total * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)} - {0})
    return [(step, accepted[step - 1] / step) for step in steps]


def tags(report: RunReport) -> dict[str, str]:
    """What a run is found by."""
    run, source = report.run, "judge-test" if _is_judge_test(report.run["command"]) else "generate"
    found = run_tags(run, report.maker, f"synthtrack {source}") | {
        RUN_TAG: run["uuid"],
        "synthtrack.experiment": report.reference,
        "synthtrack.dataset": run["dataset"],
        "synthtrack.batch": run["batch"],
        "synthtrack.original_batch": run["original_batch"],
        "synthtrack.purpose": run["purpose"],
        "synthtrack.step": report.step and report.step.name,
        "synthtrack.data_digest": report.data_digest,
    }
    return {name: value for name, value in found.items() if value}


def table(report: RunReport) -> dict[str, Json]:
    """The samples in the form of MLflow's ``log_table``: same columns in every run, at most 2,000 rows."""
    rows = [sample | {"final": _final(sample)} for sample in report.samples[:TABLE_LIMIT]]
    return {"columns": list(TABLE_COLUMNS), "data": [[row[column] for column in TABLE_COLUMNS] for row in rows]}


def _final(sample: Row) -> Json:
    if sample["status"] == "undecided":
        return None
    return sample["rephrased" if sample["status"] == "accepted" else "original"]


def columns(record: Json) -> Iterator[tuple[str, str]]:
    """The fields of a record with MLflow's names for their types."""
    kinds = {bool: "boolean", int: "long", float: "double"}
    for name, value in record.items():
        yield name, kinds.get(type(value), "string")


def _is_judge_test(command: str) -> bool:
    return "judge-test" in command.split()
