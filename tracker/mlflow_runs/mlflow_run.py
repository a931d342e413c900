"""What one MLflow run is to hold, as plain data: the same for every kind of thing that MLflow is told of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tracker.fingerprint import Json, canonical_json
from tracker.listings.compare import dotted
from tracker.record.catalogue import Row

PARAMETER_LIMIT = 6000
"""Characters of a parameter's value; MLflow cuts longer ones without a word."""
DIGEST_LIMIT = 36
"""Characters of a data set's digest in MLflow."""
TABLE_LIMIT = 2000
"""Rows of a table: more than a person looks through, less than what slows the browser down."""
ENDED = ("FINISHED", "FAILED", "KILLED")
FIGURES = (
    *("prompt_tokens", "completion_tokens", "n_calls", "n_cached", "n_retried", "n_rate_limited"),
    *("cost_usd", "duration_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
)
"""What every run that asks models has to say of its asking: columns of its table."""

Table = dict[str, Json]
"""A table in the form of MLflow's ``log_table``: ``columns`` and ``data``."""


@dataclass(frozen=True, slots=True)
class Point:
    """A metric at a step; ``time`` in milliseconds since the epoch."""

    name: str
    value: float
    time: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class Input:
    """A data set that a run used; ``columns`` are its fields with MLflow's names for their types."""

    context: str
    name: str
    digest: str
    uri: str
    n_records: int | None
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MlflowRun:
    """One flat run. ``started`` and ``ended`` are milliseconds since the epoch.

    Of the tables, runs are compared by the first one unasked; ``files`` are made when they are asked for.
    """

    title: str
    status: str
    started: int
    ended: int
    parameters: Mapping[str, str]
    points: Sequence[Point]
    tags: Mapping[str, str]
    tables: Mapping[str, Table]
    inputs: Sequence[Input]
    files: Callable[[], Mapping[str, bytes]]


def milliseconds(text: str) -> int:
    """A stored time in milliseconds since the epoch, as MLflow counts."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def directory_name(purpose: str) -> str:
    """``purpose`` as one harmless path component."""
    return re.sub(r"[^\w.-]", "_", purpose).strip(".") or "_"


def setting_parameters(settings: str, config: str) -> dict[str, str]:
    """Every setting of a run under its dotted name, from the JSON of its record and of the run's own config.

    The settings that the record keeps are those of the run that made it: a run that reused it may have had others.
    """
    given = dict(dotted(json.loads(config)))
    # A config leaves out what is null; a group that is given stands under the names in it.
    groups = {name[:at] for name in given for at, letter in enumerate(name) if letter == "."}
    found = {name: given.get(name) for name in json.loads(settings) if name not in groups} | given
    return {name: value if isinstance(value, str) else canonical_json(value) for name, value in found.items()}


def run_tags(run: Row, maker: Row | None, source: str) -> dict[str, str | None]:
    """The tags of every run that asks models; ``maker`` made what it reused, ``source`` is what MLflow calls it."""
    made_by = maker or {}
    return {
        "synthtrack.fingerprint": run["fingerprint"],
        "synthtrack.outcome": run["outcome"],
        "synthtrack.status": run["status"],
        "synthtrack.source_digest": run["source_digest"],
        "synthtrack.made_by": made_by.get("uuid"),
        "synthtrack.made_by_mlflow_run": made_by.get("mlflow_run_id"),
        "synthtrack.error": (run["error"] or "")[:2000],
        "synthtrack.host": run["host"],
        "synthtrack.command": run["command"][:2000],
        # MLflow shows what follows the last slash, which of a whole command would be anything.
        "mlflow.source.name": source,
        "mlflow.source.type": "LOCAL",
    }
