"""What one MLflow run is to hold, as plain data: the same for every kind of thing that MLflow is told of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tracker.fingerprint import Json

PARAMETER_LIMIT = 6000
"""Characters of a parameter's value; MLflow cuts longer ones without a word."""
DIGEST_LIMIT = 36
"""Characters of a data set's digest in MLflow."""
TABLE_LIMIT = 2000
"""Rows of a table: more than a person looks through, less than what slows the browser down."""
ENDED = ("FINISHED", "FAILED", "KILLED")

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
    n_records: int
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
