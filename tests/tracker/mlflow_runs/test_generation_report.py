from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracker.mlflow_runs.generation_note import note
from tracker.mlflow_runs.generation_report import RunReport, acceptance_curve, columns, metrics
from tracker.mlflow_runs.mlflow_run import directory_name
from tracker.paths import Workspace

COUNTS = ("n_records", "n_accepted", "n_rejected", "n_unclear", "n_failed")


def report(statuses: list[str] | None = None, **run: Any) -> RunReport:
    zeros = (*COUNTS, "n_calls", "n_cached", "n_retried", "n_rate_limited", "prompt_tokens", "completion_tokens")
    unknown = ("cost_usd", "duration_s", "latency_p50_s", "latency_p95_s", "latency_p99_s", "data_digest", "error")
    texts = ("dataset", "name", "batch", "original_batch", "purpose", "model", "fingerprint", "source_origin")
    row = dict.fromkeys(zeros, 0) | dict.fromkeys(unknown) | {name: name for name in (*texts, "source_digest")}
    row |= {"outcome": "made", "status": "complete", "experiment_status": "complete", "description": ""}
    samples = [{"status": status} for status in statuses or []]
    return RunReport({**row, **run}, samples, [], {}, None)


@pytest.mark.parametrize(
    ("run", "experiment", "expected"),
    [
        ("complete", "complete", "FINISHED"),
        ("partial", "unfinished", "FAILED"),
        ("partial", "partial", "FINISHED"),
        ("interrupted", "unfinished", "KILLED"),
        ("failed", "unfinished", "FAILED"),
    ],
)
def test_a_partial_run_is_finished_only_where_its_failures_were_accepted(
    run: str, experiment: str, expected: str
) -> None:
    assert report(status=run, experiment_status=experiment).status == expected


def test_the_curve_counts_judged_records_only() -> None:
    statuses = ["accepted", "failed", "rejected", "accepted"]
    assert acceptance_curve(report(statuses)) == [(1, 1.0), (2, 0.5), (3, 2 / 3)]
    assert acceptance_curve(report(["failed"])) == []


def test_there_is_no_rate_where_nothing_was_judged() -> None:
    assert "generation/acceptance_rate" not in metrics(report(n_failed=3, n_records=3))


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [("temperature_study", "temperature_study"), ("a/b c", "a_b_c"), ("..", "_"), ("été", "été"), ("", "_")],
)
def test_a_purpose_becomes_one_harmless_directory(purpose: str, expected: str) -> None:
    assert directory_name(purpose) == expected


def test_the_fields_of_a_record_have_mlflows_types() -> None:
    record = {"premise": "a", "label": 1, "weight": 0.5, "seen": True, "none": None, "options": ["a"]}
    assert dict(columns(record)) == {
        "premise": "string",
        "label": "long",
        "weight": "double",
        "seen": "boolean",
        "none": "string",
        "options": "string",
    }


def test_the_note_survives_what_would_break_a_table(tmp_path: Path) -> None:
    text = note(report(model="a|b\nc"), Workspace(tmp_path, environ={}))
    assert "| Model | `a\\|b c` |" in text
    assert "cost unknown" in text
