"""Databases for tests: SQLite files always, a PostgreSQL server where SYNTHTRACK_TEST_POSTGRES_URL names one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tracker.clock import Process, this_process
from tracker.fingerprint import identify
from tracker.paths import Workspace
from tracker.record import generation, sources
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database, open_database
from tracker.record.generation import Claimed, Wanted
from tracker.record.lease import Busy

POSTGRES_URL = os.environ.get("SYNTHTRACK_TEST_POSTGRES_URL")
KINDS = [
    "sqlite",
    pytest.param(
        "postgresql", marks=pytest.mark.skipif(POSTGRES_URL is None, reason="SYNTHTRACK_TEST_POSTGRES_URL is not set")
    ),
]
LINES = [f'{{"premise": "It rained {number} times.", "idx": {number}}}' for number in range(4)]


@contextmanager
def empty_workspace(kind: str, root: Path) -> Iterator[Workspace]:
    """A workspace without a database; on the server, within a database of its own that is dropped at the end."""
    if kind == "sqlite":
        yield Workspace(root, environ={})
        return
    from sqlalchemy import create_engine, make_url, text

    url = make_url(str(POSTGRES_URL)).set(drivername="postgresql+psycopg")
    name = f"synthtrack_test_{os.getpid()}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        own = url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        yield Workspace(root, environ={"SYNTHTRACK_DB_URL": own})
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def rows(workspace: Workspace, sql: str, **parameters: Any) -> list[Row]:
    with reading(workspace) as reader:
        return reader.rows(sql, **parameters)


def add_source(database: Database, name: str = "Copa", lines: Sequence[str] = LINES) -> int:
    """A source data set with the ``lines`` as its train split and a validation split of two bytes."""
    splits = [
        {"split": "train", "filename": "copa_train.jsonl", "digest": "d", "n_records": len(lines), "n_bytes": 9,
         "content": None},
        {"split": "validation", "filename": "copa_validation.jsonl", "digest": "e", "n_records": 1, "n_bytes": 2,
         "content": b"xx"},
    ]  # fmt: skip
    dataset = {"name": name, "task_name": name.lower(), "digest": f"digest of {name}", "origin": "somewhere"}
    return sources.register_source(database, dataset, splits, lines)


def wanted(source: int, *, batch: str = "batch_a", accept_partial: bool = False, **settings: Any) -> Wanted:
    """An experiment over the source with those ``settings``; all have the semantic name ``temp07``."""
    identity = identify("shared_experiment", {"source": source, **settings})
    columns = {
        "provider": "openai", "endpoint": "e", "model": "gpt-4o", "strategy": "direct_all",
        "field_to_rephrase": "premise", "settings": "{}", "config": "{}", "n_records": len(LINES),
    }  # fmt: skip
    run = {"command": "synthtrack generate", "config": "{}", "versions": "{}"}
    return Wanted(
        identity, "Copa", "temp07", source, batch, "study", "why", columns, run, accept_partial=accept_partial
    )


def claim(database: Database, want: Wanted, process: Process | None = None) -> Claimed:
    """A claim that must not find anybody else at it."""
    found = generation.claim(database, want, process or this_process())
    assert not isinstance(found, Busy)
    return found


def sample(claimed: Claimed, source_record: int, position: int, status: str = "accepted", **columns: Any) -> Row:
    values = {
        "shared_experiment_id": claimed.experiment_id, "position": position, "source_record_id": source_record,
        "status": status, "original": "o", "rephrased": "r", "verdict": "same", "error": None,
        "rephrase_request_key": None, "judge_request_key": None, "updated_at": "2026-11-20T21:46:52.123456Z",
    }  # fmt: skip
    return values | columns


def attempt(key: str, run_id: int | None, **columns: Any) -> tuple[Row, list[Row], Row]:
    """A request with one message, and one attempt at it: a good answer that cost a hundredth of a dollar."""
    request = {
        "key": key, "endpoint": "e", "model": "m", "messages": '["m"]', "settings": "{}", "sample_index": 0,
        "created_at": "2026-11-20T21:46:52.123456Z",
    }  # fmt: skip
    values = {
        "request_key": key, "generation_run_id": run_id, "ordinal": 1, "started_at": request["created_at"],
        "latency_s": 0.5, "failure": None, "http_status": None, "error": None, "answer": "a", "finish_reason": "stop",
        "prompt_tokens": 10, "completion_tokens": 5, "tokens_estimated": False, "cost_usd": 0.01,
        "provider_request_id": None,
    }  # fmt: skip
    return request, [{"key": "m", "role": "user", "content": "Say it."}], values | columns


@contextmanager
def opened(kind: str, root: Path) -> Iterator[Database]:
    """The database of a new workspace."""
    with empty_workspace(kind, root) as workspace, open_database(workspace) as database:
        yield database
