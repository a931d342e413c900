"""A record of any size, written straight into SQLite, for what is measured on a large one.

Prompts and settings have a usual length. Every experiment is in some batch and was made by a run of it; every training
run is a point of a sweep of a hundred.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.fingerprint import canonical_json
from tracker.paths import DATABASE_NAME, Workspace
from tracker.record.database import open_database

MOMENT = "2026-01-01T00:00:00.000000Z"
PROMPT = "Say the premise in other words and keep its meaning: {premise}\n" * 16
DATASETS = ("Copa", "CB")
PURPOSES = ("hyperparameter_tuning", "data_quality_impact", "baseline_comparison", "model_comparison")
MODELS = ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B")
SWEEP = 100
"""Training runs of a sweep."""
_ORIGINAL_EVERY, _MIX_EVERY = 20, 50
_EMPTY = {"INTEGER": 0, "BIGINT": 0, "FLOAT": 0.0, "BOOLEAN": 0}
_WITH_UUID = ("generation_run", "training_sweep", "training_run")
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows of each kind there are; every experiment is a member of at least one batch."""

    experiments: int = 100_000
    batches: int = 1_000
    memberships: int = 1_000_000
    trainings: int = 100_000

    def __str__(self) -> str:
        return (
            f"{self.experiments:,} experiments, {self.batches:,} batches, {self.memberships:,} memberships, "
            f"{self.trainings:,} training runs"
        )


DEFAULTS = {"experiments": 100_000, "batches": 1_000, "memberships": 1_000_000, "trainings": 100_000}
"""The sizes as options have them."""


def build(root: Path, size: Size) -> Workspace:
    """A workspace whose record has that many rows; one that is there already is taken as it is."""
    workspace = Workspace(root, environ={})
    if (root / DATABASE_NAME).exists():
        return workspace
    open_database(workspace).close()
    experiments, trainings = range(1, size.experiments + 1), range(1, size.trainings + 1)
    with closing(sqlite3.connect(root / DATABASE_NAME)) as connection, connection:
        _insert(connection, "batch", ({"id": n, "name": batch_name(n)} for n in range(1, size.batches + 1)))
        for number, dataset in enumerate(DATASETS, 1):
            digest = f"{dataset.lower():0<64}"
            values = {"id": number, "name": dataset, "task_name": dataset.lower(), "digest": digest}
            _insert(connection, "source_dataset", [values])
            _insert(connection, "source_split", _splits(number, dataset.lower()))
            line = _lines(dataset.lower(), "train").decode().rstrip("\n")
            _insert(connection, "source_record", [{"id": number, "source_split_id": 3 * number - 2, "line": line}])
        _insert(connection, "shared_experiment", (new_experiment(n, size) for n in experiments))
        _insert(connection, "batch_membership", _memberships(size))
        _insert(connection, "generation_run", (made(n, size) for n in experiments))
        _insert(connection, "training_sweep", (_sweep(n) for n in range(1, -(-size.trainings // SWEEP) + 1)))
        _insert(connection, "training_run", (_training(n, size) for n in trainings))
        data = (_data(n, at, size) for n in trainings for at in range(1 if n % _MIX_EVERY else 2))
        _insert(connection, "training_data", data)
    return workspace


def batch_name(n: int) -> str:
    return f"batch_2026{n:06d}_study"


def dataset_of(n: int) -> str:
    """The data set of the ``n``-th experiment."""
    return DATASETS[n % 2]


def experiment_name(n: int) -> str:
    return f"temp{n % 20:02d}_topp{n % 11:02d}_gpt4o_{n}"


def fingerprint(kind: str, n: int) -> str:
    """12 digits for the ``n``-th row of a kind."""
    return hashlib.md5(f"{kind} {n}".encode(), usedforsecurity=False).hexdigest()[:12]


def uuid(kind: str, n: int) -> str:
    """32 digits for the ``n``-th row of a kind."""
    return hashlib.md5(f"uuid {kind} {n}".encode(), usedforsecurity=False).hexdigest()


def filled(connection: sqlite3.Connection, table: str, row: Values) -> Values:
    """A whole row: what is not given and must not be NULL is empty, times are one moment, uuids are of the id."""
    return _empty(connection, table) | ({"uuid": uuid(table, row["id"])} if table in _WITH_UUID else {}) | row


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[Values]) -> None:
    empty = _empty(connection, table)
    names, marks = ", ".join(f'"{name}"' for name in empty), ", ".join(f":{name}" for name in empty)
    whole = (empty | ({"uuid": uuid(table, row["id"])} if table in _WITH_UUID else {}) | row for row in rows)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", whole)


def _empty(connection: sqlite3.Connection, table: str) -> Values:
    return {
        name: None if not needed else MOMENT if name.endswith("_at") else _EMPTY.get(kind.partition("(")[0], "")
        for _, name, kind, needed, *_ in connection.execute(f"PRAGMA table_info({table})")
    }


def _lines(stem: str, split: str) -> bytes:
    """What is in a file of a source data set: one record."""
    return f'{{"premise": "The man turned on the faucet.", "label": 1, "idx": 0, "of": "{stem} {split}"}}\n'.encode()


def _digest(stem: str, split: str) -> str:
    return hashlib.sha256(_lines(stem, split)).hexdigest()


def _splits(number: int, stem: str) -> Iterator[Values]:
    for place, split in enumerate(("train", "validation", "test")):
        data = _lines(stem, split)
        yield {
            "id": 3 * number - 2 + place, "source_dataset_id": number, "split": split,
            "filename": f"{stem}_{split}.jsonl", "digest": _digest(stem, split), "n_records": 1, "n_bytes": len(data),
            "content": None if split == "train" else zlib.compress(data),
        }  # fmt: skip


def new_experiment(n: int, size: Size) -> Values:
    """The ``n``-th experiment: what is not empty in its row."""
    temperature = n % 20 / 10
    settings = {
        "generation.model": "gpt-4o", "generation.rephrase_prompt": PROMPT, "generation.temperature": temperature,
        "number": n,
    }  # fmt: skip
    shaping = {"generation": {"model": "gpt-4o", "rephrase_prompt": PROMPT, "temperature": temperature}, "number": n}
    name = fingerprint("experiment", n)
    return {
        "id": n, "fingerprint": name, "digest": name * 5, "scheme": 1, "dataset": dataset_of(n),
        "name": experiment_name(n), "semantic_name": experiment_name(n), "source_dataset_id": n % 2 + 1,
        "status": "complete", "provider": "openai", "endpoint": "https://api.openai.com/v1", "model": "gpt-4o",
        "temperature": temperature, "top_p": 1.0, "max_tokens": 256, "strategy": "direct_all",
        "field_to_rephrase": "premise", "validation_model": "gpt-4o", "validation_temperature": 0.0,
        "purpose": "study", "original_batch_id": _first_batch(n, size), "completed_at": MOMENT, "n_records": 1,
        "n_rejected": 1, "prompt_tokens": 1000, "completion_tokens": 1000, "cost_usd": 0.01,
        "identity": canonical_json({"scheme": 1, "kind": "shared_experiment", "identity": shaping}),
        "settings": json.dumps(settings), "config": json.dumps({"generation": shaping["generation"]}),
    }  # fmt: skip


def _first_batch(n: int, size: Size) -> int:
    return n % size.batches + 1


def _memberships(size: Size) -> Iterator[Values]:
    chance = random.Random(1)
    for batch in range(1, size.batches + 1):
        own = set(range(batch - 1 or size.batches, size.experiments + 1, size.batches))
        more = max(0, size.memberships // size.batches - len(own))
        drawn = chance.sample(range(1, size.experiments + 1), min(more + len(own), size.experiments))
        own |= set([n for n in drawn if n not in own][:more])
        for n in own:
            yield {"batch_id": batch, "shared_experiment_id": n, "reused": _first_batch(n, size) != batch}


def made(n: int, size: Size) -> Values:
    """The run that made the ``n``-th experiment."""
    return {
        "id": n, "shared_experiment_id": n, "batch_id": _first_batch(n, size), "outcome": "made", "status": "complete",
        "purpose": "study", "finished_at": MOMENT, "duration_s": 1.0, "host": "here", "n_records": 1, "n_rejected": 1,
        "n_calls": 2, "prompt_tokens": 1000, "completion_tokens": 1000, "cost_usd": 0.01,
        "command": "synthtrack generate study.yaml", "config": "{}", "versions": "{}",
    }  # fmt: skip


def _sweep(n: int) -> Values:
    return {
        "id": n, "key": uuid("key", n), "status": "complete", "purpose": PURPOSES[n % 4], "model": MODELS[n % 2],
        "task": dataset_of(n), "method": "zo", "n_points": SWEEP, "finished_at": MOMENT, "config_path": "sweep.yaml",
        "varied": '["learning_rate", "seed"]', "devices": '["cpu"]', "command": "synthtrack train", "config": "{}",
    }  # fmt: skip


def _training(n: int, size: Size) -> Values:
    sweep = (n - 1) // SWEEP + 1
    rate, seed, of = (n % 7 + 1) * 1e-7, n % 5, trained_on(n, size)
    data = "original" if of is None else experiment_name(of)
    hyperparameters = {"learning_rate": rate, "seed": seed, "batch_size": 16, "steps": 1000}
    shaping = {"hyperparameters": hyperparameters, "model": {"name": MODELS[sweep % 2]}, "number": n // 5,
               "task": dataset_of(sweep), "method": "zo", "data": [data], "questions": "q"}  # fmt: skip
    settings = {f"hyperparameters.{name}": value for name, value in hyperparameters.items()}
    n_correct = 60 + n * 7 % 20
    return {
        "id": n, "training_sweep_id": sweep, "position": (n - 1) % SWEEP, "fingerprint": fingerprint("training", n),
        "scheme": 1, "attempt": 1, "status": "complete", "purpose": PURPOSES[sweep % 4], "model": MODELS[sweep % 2],
        "task": dataset_of(sweep), "method": "zo", "data": data, "digest": uuid("digest", n),
        "directory": f"Results_v2/{PURPOSES[sweep % 4]}/{MODELS[sweep % 2]}/zo_{data}/{n}/20260101",
        "precision": "fp32",
        "learning_rate": rate, "batch_size": 16, "steps": 1000, "seed": seed, "zo_eps": 1e-3, "n_train": 300,
        "n_eval": 100, "step": 1000, "n_correct": n_correct, "accuracy": n_correct / 100, "accuracy_low": 0.5,
        "accuracy_high": 0.9, "majority_accuracy": 0.55, "zero_shot_accuracy": 0.6, "dev_loss": 0.6, "duration_s": 60.0,
        "started_at": MOMENT, "finished_at": MOMENT, "step_time_s": 0.06, "settings": json.dumps(settings),
        "identity": canonical_json({"scheme": 1, "kind": "training_run", "identity": shaping}), "config": "{}",
        "command": "synthtrack train sweep.yaml", "versions": "{}",
    }  # fmt: skip


def trained_on(n: int, size: Size) -> int | None:
    """The experiment of the ``n``-th training run, of the data set of its sweep; None: original data."""
    if n % _ORIGINAL_EVERY == 0:
        return None
    of = n % size.experiments + 1
    return of if of % 2 == ((n - 1) // SWEEP + 1) % 2 else (of % size.experiments) + 1


def _data(n: int, at: int, size: Size) -> Values:
    dataset = dataset_of((n - 1) // SWEEP + 1)
    of = None if at else trained_on(n, size)
    batch = None if of is None else _first_batch(of, size)
    name = "original" if of is None else experiment_name(of)
    stem = dataset.lower()
    digest = _digest(stem, "train") if of is None else hashlib.sha256(name.encode()).hexdigest()
    place = "Data_v2/original" if of is None else f"Data_v2/synthetic/{batch_name(batch or 1)}/{dataset}/{name}"
    return {
        "training_run_id": n, "position": at, "path": f"{place}/{dataset}", "dataset": dataset, "name": name,
        "directory": f"Data_v2/synthetic/_shared/{dataset}/{name}/{dataset}" if of else f"{place}/{dataset}",
        "shared_experiment_id": of, "batch_id": batch, "train_digest": digest,
        "fingerprint": None if of is None else fingerprint("experiment", of),
        "eval_digest": _digest(stem, "validation"), "n_records": 400, "n_train": 300,
    }  # fmt: skip
