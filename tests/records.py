"""Rows as a run would have left them, for tests of what reads them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert
from sqlmodel import SQLModel

from tracker.fingerprint import bytes_digest, identify
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.schema import (
    Batch,
    BatchMembership,
    GenerationRun,
    MlflowOutbox,
    Sample,
    SharedExperiment,
    SourceDataset,
    SourceRecord,
    SourceSplit,
)

MOMENT = "2024-12-29T10:30:00.000000Z"
PROMPT = "Say it in other words.\nKeep the meaning.\n\n{premise}"


def add_source(connection: Connection, name: str = "Copa", lines: Sequence[str] = ()) -> int:
    """A source data set whose train split has ``lines``; validation and test are one blank line each."""
    stem = name.lower()
    dataset = _insert(
        connection,
        SourceDataset,
        name=name, task_name=stem, digest=f"{stem:0<64}", origin=f"Data/original/{name}/{stem}_train.jsonl",
        created_at=MOMENT,
    )  # fmt: skip
    for split in ("train", "validation", "test"):
        split_id = _insert(
            connection,
            SourceSplit,
            source_dataset_id=dataset, split=split, filename=f"{stem}_{split}.jsonl",
            digest=bytes_digest([b"\n"]), n_records=len(lines) if split == "train" else 1, n_bytes=1,
            content=None if split == "train" else zlib.compress(b"\n"),
        )  # fmt: skip
        for position, line in enumerate(lines if split == "train" else ()):
            _insert(connection, SourceRecord, source_split_id=split_id, position=position, line=line)
    return dataset


def add_batch(connection: Connection, name: str, *, purpose: str = "temperature_study", description: str = "") -> int:
    return _insert(connection, Batch, name=name, purpose=purpose, description=description, created_at=MOMENT)


def add_experiment(
    connection: Connection,
    name: str,
    *,
    batch: int,
    source: int,
    dataset: str = "Copa",
    temperature: float = 0.7,
    settings: Mapping[str, Any] | None = None,
    operational: Mapping[str, Any] | None = None,
    judge: bool = True,
    **columns: Any,
) -> int:
    """An experiment that ``batch`` made first; ``settings`` shape its data, ``operational`` ones do not."""
    shaping = {
        "generation.temperature": temperature, "generation.top_p": 1.0, "generation.model": "gpt-4o",
        "generation.max_tokens": 256, "generation.rephrase_prompt": PROMPT, "generation.seed": None,
        **({"validation.model": "gpt-4o", "validation.temperature": 0.0} if judge else {}),
        **(settings or {}),
    }  # fmt: skip
    identity = identify(
        "shared_experiment",
        {"dataset": {"name": dataset, "source": str(source)}, **_nested(shaping), "name": name, **columns},
    )
    values = {
        "fingerprint": identity.fingerprint, "digest": identity.digest, "scheme": 1,
        "identity": json.dumps({"scheme": 1, "kind": "shared_experiment", "identity": {
            "dataset": {"name": dataset, "source": str(source)}, **_nested(shaping), "record_limit": None, "draw": 0,
        }}),
        "dataset": dataset, "name": name, "semantic_name": name, "source_dataset_id": source, "status": "complete",
        "provider": "openai", "endpoint": "https://api.openai.com/v1", "model": "gpt-4o", "temperature": temperature,
        "top_p": 1.0, "max_tokens": 256, "strategy": "direct_all", "field_to_rephrase": "premise",
        "validation_model": "gpt-4o" if judge else None, "validation_temperature": 0.0 if judge else None,
        "settings": json.dumps({**shaping, "generation.timeout": 60.0, **(operational or {})}), "config": "{}",
        "purpose": "temperature_study", "original_batch_id": batch, "created_at": MOMENT, "completed_at": MOMENT,
        "n_records": 0,
    }  # fmt: skip
    experiment = _insert(connection, SharedExperiment, **{**values, **columns})
    add_membership(connection, batch, experiment, reused=False)
    return experiment


def add_membership(connection: Connection, batch: int, experiment: int, *, reused: bool = True) -> None:
    connection.execute(
        insert(BatchMembership),
        {"batch_id": batch, "shared_experiment_id": experiment, "created_at": MOMENT, "reused": reused},
    )


def add_run(
    connection: Connection, experiment: int, batch: int, *, mlflow_run_id: str | None = None, **columns: Any
) -> int:
    """A generation run, and its outbox entry: logged where there is an MLflow run id."""
    values = {
        "uuid": f"uuid-{experiment}-{batch}-{len(columns)}", "shared_experiment_id": experiment, "batch_id": batch,
        "outcome": "made", "status": "complete", "purpose": "temperature_study", "started_at": MOMENT, "host": "here",
        "pid": 1, "pid_started": 0.0, "command": "synthtrack generate configs/copa.yaml",
        "config_path": "configs/copa.yaml", "config": "{}", "versions": "{}",
    }  # fmt: skip
    run = _insert(connection, GenerationRun, **{**values, **columns})
    _insert(
        connection,
        MlflowOutbox,
        kind="generation_run", generation_run_id=run, created_at=MOMENT, mlflow_run_id=mlflow_run_id,
        logged_at=MOMENT if mlflow_run_id else None,
    )  # fmt: skip
    return run


def add_sample(connection: Connection, experiment: int, position: int, source_record: int, **columns: Any) -> int:
    values = {
        "shared_experiment_id": experiment, "position": position, "source_record_id": source_record,
        "status": "accepted", "verdict": "same", "updated_at": MOMENT,
    }  # fmt: skip
    return _insert(connection, Sample, **{**values, **columns})


def _insert(connection: Connection, table: type[SQLModel], /, **values: Any) -> int:
    # Through the class, so that its defaults apply, and Core, so that a transaction of our own holds it.
    row = table(**values).model_dump(exclude={"id"})
    key = connection.execute(insert(table), row).inserted_primary_key
    assert key is not None
    return int(key[0])


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in dotted.items():
        group, _, key = name.partition(".")
        found.setdefault(group, {})[key] = value
    return found


LINES = tuple(f'{{"premise": "The man opened door {n}.", "label": 0, "idx": {n}}}' for n in range(4))


def temperature_study(root: Path) -> Workspace:
    """A pilot batch with one experiment, and a batch that reuses it, made two more, and has one unfinished."""
    workspace = Workspace(root, environ={})
    with open_database(workspace) as database, database.writing() as connection:
        copa, cb = add_source(connection, "Copa", LINES), add_source(connection, "CB", LINES)
        pilot = add_batch(connection, "batch_20241228_pilot", purpose="pilot")
        study = add_batch(connection, "batch_20241229_temperature", description="How warm?")
        warm = add_experiment(
            connection, "temp07_topp10_gpt4o", batch=pilot, source=copa, description="The first try",
            n_records=4, n_accepted=3, n_rejected=1, n_unclear=1, prompt_tokens=1000, completion_tokens=200,
            cost_usd=0.012,
        )  # fmt: skip
        cool = add_experiment(
            connection, "temp05_topp10_gpt4o", batch=study, source=copa, temperature=0.5,
            settings={"generation.rephrase_prompt": PROMPT.replace("Keep", "Do keep")},
            operational={"generation.timeout": 30.0}, n_records=4, n_accepted=4,
        )  # fmt: skip
        hot = add_experiment(
            connection, "temp09_topp10_gpt4o", batch=study, source=copa, temperature=0.9, judge=False, n_records=4,
            status="unfinished", completed_at=None,
        )  # fmt: skip
        other = add_experiment(
            connection, "temp07_topp10_gpt4o", batch=study, source=cb, dataset="CB", n_records=4, n_rejected=4
        )
        add_membership(connection, study, warm)
        for experiment, first in ((warm, 1), (cool, 1), (other, 5)):
            for n in range(4):
                accepted = experiment == cool or (experiment == warm and n < 3)
                add_sample(
                    connection, experiment, n, first + n, original=f"The man opened door {n}.",
                    rephrased=f"Door {n} was opened by the man, who had been standing in front of it.",
                    status="accepted" if accepted else "rejected", verdict="same" if accepted else "not_the_same",
                )  # fmt: skip
        add_run(connection, warm, pilot, mlflow_run_id="0123abcd", n_calls=8, cost_usd=0.012)
        add_run(connection, warm, study, outcome="reused")
        add_run(
            connection, hot, study, status="interrupted", n_calls=3, n_cached=1,
            command="synthtrack generate configs/copa.yaml --set generation.temperature=0.9",
        )  # fmt: skip
    return workspace
