"""Workspaces with finished generation runs, as `generate` leaves them, for the tests of what MLflow is told."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from tests import records
from tracker.clock import to_text
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.record.content import synthetic_data
from tracker.record.database import open_database

SOURCE = [
    json.dumps({"premise": f"The man turned on faucet {n}.", "choice1": "The toilet filled.", "label": n % 2, "idx": n})
    for n in range(40)
]
WORDS = ("the", "a", "man", "woman", "dog", "river", "turned", "found", "broke", "quickly", "on", "off", "loudly")
BATCH = "batch_20241229_temperature"


def workspace_at(directory: Path, **environ: str) -> Workspace:
    return Workspace(directory, environ=environ)


def add_run(
    workspace: Workspace,
    *,
    number: int = 0,
    batch: str = BATCH,
    outcome: str = "made",
    status: str = "complete",
    purpose: str = "temperature_study",
    n_records: int = 40,
    temperature: float = 0.7,
    settings: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
    **columns: Any,
) -> str:
    """The uuid of a new run of experiment ``number``, which is made where it is not there yet.

    ``settings`` are the experiment's, ``given`` what this run's config says beside them.
    """
    name = f"temp{str(temperature).replace('.', '')}_topp10_gpt4o" + (f"_{number + 1}" if number else "")
    with open_database(workspace) as database, database.writing() as connection:
        batch_id = _id(connection, "batch", batch) or records.add_batch(connection, batch, purpose=purpose)
        experiment = _id(connection, "shared_experiment", name)
        if experiment is None:
            experiment = _add_experiment(
                connection,
                name,
                batch_id,
                number=number,
                n_records=n_records,
                columns={
                    "temperature": temperature,
                    "purpose": purpose,
                    "status": "complete" if status == "complete" else "unfinished",
                    "settings": {"generation.few_shot_examples": [["A", "B"]], **(settings or {})},
                },
            )
        run_uuid = uuid.uuid4().hex
        values = _run(number, n_records, outcome, status)
        values["config"] = _config(connection, experiment, {"experiment.batch_id": batch, **(given or {})})
        run = records.add_run(connection, experiment, batch_id, uuid=run_uuid, purpose=purpose, **{**values, **columns})
        if outcome != "reused":
            _add_attempts(connection, run, number, n_records)
    return run_uuid


def _add_experiment(
    connection: Connection, name: str, batch_id: int, *, number: int, n_records: int, columns: dict[str, Any]
) -> int:
    source = _id(connection, "source_dataset", "Copa") or records.add_source(connection, lines=SOURCE)
    n_accepted = sum(_accepted(number, position) for position in range(n_records))
    samples = [_sample(number, position) for position in range(n_records)]
    lines = [{"line": line, "status": "kept"} | sample for line, sample in zip(SOURCE, samples, strict=False)]
    lines += [{"line": line, "status": "kept"} for line in SOURCE[n_records:]]
    digest = bytes_digest([synthetic_data(lines, "premise")]) if columns["status"] == "complete" else None
    experiment = records.add_experiment(
        connection,
        name,
        batch=batch_id,
        source=source,
        n_records=n_records,
        n_accepted=n_accepted,
        n_rejected=n_records - n_accepted,
        n_unclear=n_records // 10,
        data_digest=digest,
        **columns,
    )
    record = connection.execute(text("SELECT MIN(id) FROM source_record")).scalar_one()
    for position, sample in enumerate(samples):
        records.add_sample(connection, experiment, position, record + position % len(SOURCE), **sample)
    return experiment


def _run(number: int, n_records: int, outcome: str, status: str) -> dict[str, Any]:
    n_accepted = sum(_accepted(number, position) for position in range(n_records))
    counts = {"n_records": n_records, "n_accepted": n_accepted, "n_rejected": n_records - n_accepted}
    spent = {"n_calls": 2 * n_records, "prompt_tokens": 60 * n_records, "completion_tokens": 12 * n_records}
    latency = {"latency_p50_s": 0.8, "latency_p95_s": 1.9, "latency_p99_s": 2.4, "cost_usd": 0.0123}
    return {
        "outcome": outcome,
        "status": status,
        "description": "does temperature matter?",
        "finished_at": _at(60),
        "duration_s": 60.0,
        "error": None if status == "complete" else "the endpoint said no",
        "n_unclear": n_records // 10,
        **counts,
        **({} if outcome == "reused" else spent | latency),
    }


def _sample(number: int, position: int) -> dict[str, Any]:
    words = [WORDS[(position * 7 + index * 3) % len(WORDS)] for index in range(6 + position % 5)]
    changed = [WORDS[(position + number) % len(WORDS)] if (n + position) % 3 == 0 else w for n, w in enumerate(words)]
    accepted = _accepted(number, position)
    return {
        "status": "accepted" if accepted else "rejected",
        "original": " ".join(words),
        "rephrased": " ".join([*changed, "indeed"][: 5 + position % 7]),
        "verdict": "same" if accepted else "unclear" if position % 10 == 9 else "not_the_same",
    }


def _accepted(number: int, position: int) -> bool:
    return (position * (11 + number)) % 10 != 1 and position % 10 != 9


def _add_attempts(connection: Connection, run: int, number: int, n_records: int) -> None:
    connection.execute(
        text(
            "INSERT INTO request (key, endpoint, model, messages, settings, sample_index, created_at)"
            " VALUES ('k', 'e', 'gpt-4o', '[]', '{}', 0, '') ON CONFLICT DO NOTHING"
        )
    )
    rows = [
        {
            "run": run,
            "latency": 0.4 + 0.05 * ((position * 13 + number) % 17) + (2.0 if position % 29 == 0 else 0.0),
            "prompt": 40 + position % 11 * 3 if position % 2 else 90 + position % 7 * 4,
            "completion": 8 + position % 9 if position % 2 else 1 + position % 3,
        }
        for position in range(2 * n_records)
    ]
    connection.execute(
        text(
            "INSERT INTO attempt (request_key, generation_run_id, ordinal, started_at, latency_s, answer,"
            " prompt_tokens, completion_tokens, tokens_estimated)"
            " VALUES ('k', :run, 1, '', :latency, 'text', :prompt, :completion, FALSE)"
        ),
        rows,
    )


def _config(connection: Connection, experiment: int, given: dict[str, Any]) -> str:
    """The settings as a run stores them: nested, without what is null."""
    kept = connection.execute(text("SELECT settings FROM shared_experiment WHERE id = :id"), {"id": experiment})
    nested: dict[str, Any] = {}
    for name, value in {**json.loads(kept.scalar_one()), **given}.items():
        group, _, key = name.partition(".")
        if value is not None:
            nested.setdefault(group, {})[key] = value
    return json.dumps(nested)


def _id(connection: Connection, table: str, name: str) -> int | None:
    found = connection.execute(text(f"SELECT id FROM {table} WHERE name = :name"), {"name": name}).scalar()
    return None if found is None else int(found)


def _at(second: int) -> str:
    start = datetime.strptime(records.MOMENT, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return to_text(start + timedelta(seconds=second))
