"""Rows for tests of the view: small source data sets, experiments over them, batches, and the tree as plain data."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, Table

from tracker.paths import Workspace
from tracker.record.content import synthetic_data
from tracker.record.database import open_database
from tracker.schema import METADATA

COMPLETED = "2026-11-20T21:46:52.123456Z"
LINES = (
    '{"premise":"The man fell.","choice1":"He slept.","idx":0,"label":1.0}',
    '{"premise": "Caf\\u00e9 \\"au\\" lait", "nested": {"premise": [1e-6]}, "idx": 1}',
    '{ "idx" : 2 , "premise" : "Die Tür 👋 fiel zu." }',
)
COPIED = {"validation": b'{"premise":"v"}\r\n', "test": b'{"premise":"t"}'}


@dataclass(frozen=True)
class Made:
    """One experiment: what became of each record (a rephrasing, or the status that kept the original)."""

    dataset: str = "Copa"
    name: str = "temp07_topp10_gpt4o"
    outcomes: tuple[str, ...] = ("Ein Mann fiel.", "rejected", 'Two\nlines, "quoted" 👋')
    batches: tuple[str, ...] = ("batch_a",)
    status: str = "complete"
    record_limit: int | None = None
    completed_at: str | None = COMPLETED

    @property
    def home(self) -> str:
        return f"_shared/{self.dataset}/{self.name}"

    @property
    def samples(self) -> list[dict[str, Any]]:
        kept = {"rejected", "failed"}
        return [
            {
                "line": line,
                "status": outcome if outcome in kept else "accepted",
                "rephrased": None if outcome in kept else outcome,
            }
            for line, outcome in zip(LINES[: self.record_limit], self.outcomes, strict=False)
        ]

    @property
    def data(self) -> bytes:
        return synthetic_data(self.samples, "premise")


def workspace(root: Path, made: Sequence[Made] = (Made(),), **environ: str) -> Workspace:
    """A workspace whose record holds ``made``; ids count from 1 in their order."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "tracker.db").write_bytes(_empty())
    found = Workspace(root, environ=environ)
    with open_database(found) as database, database.writing() as connection:
        _insert(connection, made)
    return found


def execute(workspace: Workspace, *statements: str) -> None:
    """Changes the record behind the program's back."""
    with sqlite3.connect(workspace.database) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def snapshot(workspace: Workspace) -> dict[str, tuple[str, bytes | str, int]]:
    """The tree as plain data: kind, content or target, and the time of files."""
    return dict(_walk(workspace.synthetic_dir, ""))


def _walk(directory: Path, prefix: str) -> Iterator[tuple[str, tuple[str, bytes | str, int]]]:
    for path in sorted(directory.iterdir()) if directory.exists() else ():
        name = prefix + path.name
        if path.is_symlink():
            yield name, ("link", str(path.readlink()), 0)
        elif path.is_dir():
            yield name, ("directory", "", 0)
            yield from _walk(path, f"{name}/")
        else:
            yield name, ("file", path.read_bytes(), path.stat().st_mtime_ns)


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as directory:
        open_database(Workspace(Path(directory), environ={})).close()
        return (Path(directory) / "tracker.db").read_bytes()


def _table(name: str) -> Table:
    return METADATA.tables[name]


def _insert(connection: Connection, made: Sequence[Made]) -> None:
    datasets = sorted({each.dataset for each in made})
    batches = sorted({batch for each in made for batch in each.batches} | {"batch_a"})
    records: dict[str, list[int]] = {}
    for number, name in enumerate(datasets, 1):
        records[name] = _insert_source(connection, number, name)
    for number, name in enumerate(batches, 1):
        connection.execute(
            _table("batch").insert().values(id=number, name=name, purpose="test", description="", created_at=COMPLETED)
        )
    for number, each in enumerate(made, 1):
        original = batches.index((*each.batches, "batch_a")[0]) + 1
        _insert_experiment(connection, number, each, datasets.index(each.dataset) + 1, original)
        for record_id, position, sample in zip(records[each.dataset], range(99), each.samples, strict=False):
            values = {key: sample[key] for key in ("status", "rephrased")}
            connection.execute(
                _table("sample")
                .insert()
                .values(
                    shared_experiment_id=number,
                    position=position,
                    source_record_id=record_id,
                    original=str(position),
                    updated_at=COMPLETED,
                    **values,
                )
            )
        for batch in each.batches:
            connection.execute(
                _table("batch_membership")
                .insert()
                .values(
                    batch_id=batches.index(batch) + 1, shared_experiment_id=number, created_at=COMPLETED, reused=False
                )
            )


def _insert_source(connection: Connection, number: int, name: str) -> list[int]:
    stem = name.lower()
    connection.execute(
        _table("source_dataset")
        .insert()
        .values(id=number, name=name, task_name=stem, digest=f"{number:064x}", origin="a test", created_at=COMPLETED)
    )
    split_ids = []
    for split, content in {"train": None, **COPIED}.items():
        data = content if content is not None else "".join(f"{line}\n" for line in LINES).encode()
        row = {
            "source_dataset_id": number,
            "split": split,
            "filename": f"{stem}_{split}.jsonl",
            "digest": hashlib.sha256(data).hexdigest(),
            "n_records": len(LINES) if content is None else 1,
            "n_bytes": len(data),
            "content": None if content is None else zlib.compress(content),
        }
        inserted = connection.execute(_table("source_split").insert().values(**row))
        assert inserted.inserted_primary_key is not None
        split_ids.append(inserted.inserted_primary_key[0])
    ids = []
    for position, line in enumerate(LINES):
        record = connection.execute(
            _table("source_record").insert().values(source_split_id=split_ids[0], position=position, line=line)
        )
        assert record.inserted_primary_key is not None
        ids.append(record.inserted_primary_key[0])
    return ids


def _insert_experiment(connection: Connection, number: int, made: Made, dataset_id: int, batch_id: int) -> None:
    statuses = [sample["status"] for sample in made.samples]
    done = made.status != "unfinished"
    settings = {"generation.temperature": 0.7, "generation.model": "gpt-4o"}
    connection.execute(
        _table("shared_experiment")
        .insert()
        .values(
            id=number,
            fingerprint=f"{number:012x}",
            digest=f"{number:064x}",
            scheme=1,
            identity="{}",
            dataset=made.dataset,
            name=made.name,
            semantic_name=made.name,
            source_dataset_id=dataset_id,
            status=made.status,
            provider="openai",
            endpoint="https://api.openai.com/v1",
            model="gpt-4o",
            temperature=0.7,
            strategy="direct_all",
            field_to_rephrase="premise",
            record_limit=made.record_limit,
            settings=json.dumps(settings),
            config=json.dumps({"generation": {"temperature": 0.7, "model": "gpt-4o", "rephrase_prompt": "Say\nä"}}),
            purpose="test",
            description="",
            original_batch_id=batch_id,
            draw=0,
            created_at=COMPLETED,
            completed_at=made.completed_at if done else None,
            n_records=len(statuses),
            n_accepted=statuses.count("accepted"),
            n_rejected=statuses.count("rejected"),
            n_unclear=0,
            n_failed=statuses.count("failed"),
            prompt_tokens=10,
            completion_tokens=5,
            data_digest=hashlib.sha256(made.data).hexdigest() if done else None,
        )
    )
    connection.execute(
        _table("generation_run")
        .insert()
        .values(
            uuid=f"{number:032x}",
            shared_experiment_id=number,
            batch_id=batch_id,
            outcome="made",
            status=made.status if done else "running",
            purpose="test",
            description="",
            started_at=COMPLETED,
            host="here",
            pid=1,
            pid_started=0.0,
            command="synthtrack generate",
            config="{}",
            versions=json.dumps({"synthtrack": "0.1.0"}),
            **dict.fromkeys(("n_records", "n_accepted", "n_rejected", "n_unclear", "n_failed", "n_calls"), 0),
            **dict.fromkeys(("n_cached", "n_retried", "n_rate_limited", "prompt_tokens", "completion_tokens"), 0),
            tokens_estimated=False,
        )
    )
