"""One process that writes to a record for so many seconds, for ``benchmarks.database``; prints transactions a second.

    python -m benchmarks.database_writer ROOT [bare ]sample|ledger|claim SECONDS NUMBER

Every row is a transaction of its own: the most expensive way to write, and the only one that nothing is lost by.
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.large_record import MOMENT, PROMPT, Size, filled, made, new_experiment
from tracker.clock import this_process
from tracker.fingerprint import Identity, identify
from tracker.paths import DATABASE_NAME, Workspace

if TYPE_CHECKING:
    from tracker.record.generation import Wanted

Write = Callable[[int], object]
_COLUMNS = (
    "provider", "endpoint", "model", "temperature", "top_p", "max_tokens", "strategy", "field_to_rephrase", "draw",
    "validation_model", "validation_temperature", "settings", "config", "n_records",
)  # fmt: skip


def ours(root: Path, kind: str) -> Write:
    """The product's own write of that kind; the number that it takes is of no other row."""
    from tracker.record import generation, ledger
    from tracker.record.database import open_database

    database, process = open_database(Workspace(root, environ={})), this_process()

    def sample(n: int) -> None:
        with database.writing() as connection:
            ledger.save_results(database, connection, [_sample(n)])

    def attempt(n: int) -> None:
        request, message, answer = _asked(n)
        with database.writing() as connection:
            ledger.save_attempts(database, connection, [(request, [message], answer)])

    def claim(n: int) -> None:
        found = generation.claim(database, wanted(n, identify("shared_experiment", {"number": n})), process)
        assert isinstance(found, generation.Claimed)

    return {"sample": sample, "ledger": attempt, "claim": claim}[kind]


def wanted(n: int, identity: Identity) -> Wanted:
    """What a run asks the record for."""
    from tracker.record.generation import Wanted

    row = new_experiment(n, Size(batches=1))
    return Wanted(
        identity=identity, dataset="Copa", semantic_name=row["name"], source_dataset_id=1, batch="batch_new",
        purpose="study", description="", columns={name: row.get(name, 0) for name in _COLUMNS},
        run={"config": "{}", "command": "synthtrack generate", "versions": "{}"},
    )  # fmt: skip


def bare(root: Path, kind: str) -> Write:
    """The same rows by sqlite3 alone, with the same journal and the same promise of what outlives a crash."""
    connection = sqlite3.connect(root / DATABASE_NAME, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")

    def insert(table: str, row: Mapping[str, Any], conflict: str = "") -> None:
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", row)

    def sample(n: int) -> None:
        changed = ", ".join(f"{name} = excluded.{name}" for name in ("status", "rephrased", "updated_at"))
        insert("sample", _sample(n), f"ON CONFLICT (shared_experiment_id, position) DO UPDATE SET {changed}")

    def attempt(n: int) -> None:
        request, message, answer = _asked(n)
        insert("message", message, "ON CONFLICT DO NOTHING")
        insert("request", request, "ON CONFLICT DO NOTHING")
        insert("attempt", answer)

    def claim(n: int) -> None:
        row = filled(connection, "shared_experiment", new_experiment(n, Size(batches=1)))
        assert not connection.execute(
            "SELECT * FROM shared_experiment WHERE fingerprint = ?", [row["fingerprint"]]
        ).fetchall()
        insert("shared_experiment", row)
        membership = {"batch_id": 1, "shared_experiment_id": n, "created_at": MOMENT, "reused": 0}
        insert("batch_membership", membership)
        insert("generation_run", filled(connection, "generation_run", made(n, Size(batches=1))))

    write = {"sample": sample, "ledger": attempt, "claim": claim}[kind]

    def transaction(n: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        write(n)
        connection.execute("COMMIT")

    return transaction


def _sample(n: int) -> dict[str, Any]:
    return {
        "shared_experiment_id": 1, "position": n, "source_record_id": 1, "status": "accepted", "original": "a",
        "rephrased": "b", "verdict": "same", "error": None, "rephrase_request_key": None, "judge_request_key": None,
        "updated_at": MOMENT, "decided_by": None,
    }  # fmt: skip


def _asked(n: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    key = f"{n:032x}"
    message = {"key": key, "role": "user", "content": f"{n} {PROMPT}"}
    request = {
        "key": key, "endpoint": "https://api.openai.com/v1", "model": "gpt-4o", "messages": f'["{key}"]',
        "settings": "{}", "sample_index": 0, "created_at": MOMENT,
    }  # fmt: skip
    answer = {
        "request_key": key, "generation_run_id": 1, "ordinal": 1, "started_at": MOMENT, "latency_s": 0.05,
        "prompt_tokens": 100, "completion_tokens": 20, "tokens_estimated": False, "cost_usd": 0.001, "answer": "b",
    }  # fmt: skip
    return request, message, answer


def main() -> None:
    root, how, seconds, number = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    write = bare(root, how.removeprefix("bare ")) if how.startswith("bare ") else ours(root, how)
    numbers = itertools.count(1_000_000 * (number + 1))
    write(next(numbers))
    print("ready", flush=True)
    sys.stdin.readline()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        write(next(numbers))
        done += 1
    print(done / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
