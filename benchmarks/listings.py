"""How long a listing takes as a whole process, on a database of 100,000 experiments and a million memberships.

    python -m benchmarks.listings [--experiments N] [--batches N] [--memberships N] [--repeat N] [--keep DIR]

Prints a markdown table: the best and the median of the repetitions, against an interpreter that imports click and one
that reads the same database with sqlite3 and nothing else. The tree of what is printed is written by a first call that
is not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tracker.paths import DATABASE_NAME, Workspace
from tracker.record.database import open_database

MOMENT = "2026-01-01T00:00:00.000000Z"
PROMPT = "Say the premise in other words and keep its meaning: {premise}\n" * 16
LINE = '{"premise": "The man turned on the faucet.", "label": 1, "idx": 0}'
DATASETS = ("Copa", "CB")
COLUMNS = (
    "id fingerprint digest scheme identity dataset name semantic_name source_dataset_id status provider endpoint model "
    "temperature top_p max_tokens strategy field_to_rephrase draw validation_model validation_temperature settings "
    "config purpose description original_batch_id created_at completed_at n_records n_accepted n_rejected n_unclear "
    "n_failed prompt_tokens completion_tokens cost_usd"
)


def build(root: Path, experiments: int, batches: int, memberships: int) -> None:
    """A workspace whose database has that many rows, with prompts of a usual length; every experiment in some batch."""
    open_database(Workspace(root)).close()
    with closing(sqlite3.connect(root / DATABASE_NAME)) as connection, connection:
        _insert(connection, "batch", ((n, _batch(n), "study", "", MOMENT, None) for n in range(1, batches + 1)))
        for number, dataset in enumerate(DATASETS, 1):
            stem = dataset.lower()
            _insert(connection, "source_dataset", [(number, dataset, stem, f"{stem:0<64}", "benchmark", MOMENT)])
            _insert(connection, "source_split", list(_splits(number, stem)))
            _insert(connection, "source_record", [(number, 3 * number - 2, 0, LINE)])
        connection.executemany(
            f"INSERT INTO shared_experiment ({', '.join(COLUMNS.split())}) VALUES ({_marks(len(COLUMNS.split()))})",
            (_experiment(n, batches) for n in range(1, experiments + 1)),
        )
        _insert(connection, "batch_membership", _memberships(experiments, batches, memberships))


def measure(commands: dict[str, list[str]], root: Path, repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each command, the commands taking turns so that other work on the machine hits all alike."""
    environ = {**os.environ, "SYNTHTRACK_ROOT": str(root), "PYTHONPATH": str(Path(__file__).parent.parent)}
    for unwanted in ("SYNTHTRACK_DB_URL", "PYTHONDONTWRITEBYTECODE"):
        environ.pop(unwanted, None)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
            if turn:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def commands(root: Path, experiments: int, batches: int) -> dict[str, list[str]]:
    """What is measured, by the name it has in the table."""
    middle, batch = experiments // 2, _batch(batches // 2)
    dataset, name = _dataset(middle), _name(middle)
    shared = f"Data_v2/synthetic/_shared/{dataset}/{name}/{dataset}"
    sql = "SELECT * FROM experiment_overview ORDER BY id DESC LIMIT 100"
    bare = f"import sqlite3; print(sqlite3.connect({str(root / DATABASE_NAME)!r}).execute({sql!r}).fetchall())"
    calls = {
        "--help": ["--help"],
        "batch list": ["batch", "list"],
        "batch list --verbose": ["batch", "list", "--verbose"],
        "batch show BATCH": ["batch", "show", batch],
        "batch show BATCH --dataset": ["batch", "show", batch, "--dataset", DATASETS[0]],
        "experiment list": ["experiment", "list"],
        "experiment list --dataset": ["experiment", "list", "--dataset", DATASETS[1]],
        "experiment show REF": ["experiment", "show", f"{dataset}/{name}"],
        "experiment show FINGERPRINT": ["experiment", "show", _fingerprint(middle)[:10]],
        "path list": ["path", "list"],
        "path list --format table": ["path", "list", "--format", "table"],
        "path resolve PATH": ["path", "resolve", shared],
    }
    python = sys.executable
    return {
        'python -c "import click"': [python, "-c", "import click"],
        "sqlite3 alone, 100 rows": [python, "-c", bare],
        **{f"synthtrack {name}": [python, "-m", "cli.main", *call] for name, call in calls.items()},
    }


def _splits(number: int, stem: str) -> Iterator[tuple[Any, ...]]:
    for place, split in enumerate(("train", "validation", "test")):
        data = f"{LINE}\n".encode()
        content = None if split == "train" else zlib.compress(data)
        digest = hashlib.sha256(data).hexdigest()
        yield 3 * number - 2 + place, number, split, f"{stem}_{split}.jsonl", digest, 1, len(data), content


def _experiment(n: int, batches: int) -> tuple[Any, ...]:
    settings = json.dumps({"generation.model": "gpt-4o", "generation.rephrase_prompt": PROMPT, "number": n})
    config = json.dumps({"generation": {"model": "gpt-4o", "rephrase_prompt": PROMPT}})
    fingerprint = _fingerprint(n)
    return (
        n, fingerprint, fingerprint * 5, 1, settings, _dataset(n), _name(n), _name(n), n % 2 + 1, "complete", "openai",
        "https://api.openai.com/v1", "gpt-4o", n % 20 / 10, 1.0, 256, "direct_all", "premise", 0, "gpt-4o", 0.0,
        settings, config, "study", "", n % batches + 1, MOMENT, MOMENT, 1, 0, 1, 0, 0, 1000, 1000, 0.01,
    )  # fmt: skip


def _memberships(experiments: int, batches: int, memberships: int) -> Iterator[tuple[int, int, str, bool]]:
    chance = random.Random(1)
    for batch in range(1, batches + 1):
        own = set(range(batch - 1 or batches, experiments + 1, batches))
        own |= set(chance.sample(range(1, experiments + 1), max(0, memberships // batches - len(own))))
        yield from ((batch, n, MOMENT, n % batches + 1 != batch) for n in own)


def _insert(connection: sqlite3.Connection, table: str, rows: Any) -> None:
    columns = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    connection.executemany(f"INSERT INTO {table} VALUES ({_marks(columns)})", rows)


def _marks(number: int) -> str:
    return ", ".join("?" * number)


def _batch(n: int) -> str:
    return f"batch_2026{n:06d}_study"


def _dataset(n: int) -> str:
    return DATASETS[n % 2]


def _name(n: int) -> str:
    return f"temp{n % 20:02d}_topp{n % 11:02d}_gpt4o_{n}"


def _fingerprint(n: int) -> str:
    return hashlib.md5(str(n).encode()).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiments", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--memberships", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build it here, or use what was built here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(given.keep or temporary).resolve()
        if not (root / DATABASE_NAME).exists():
            build(root, given.experiments, given.batches, given.memberships)
        times = measure(commands(root, given.experiments, given.batches), root, given.repeat)
    print(f"{given.experiments:,} experiments, {given.batches:,} batches, {given.memberships:,} memberships\n")
    print("| whole process | best, ms | median, ms |\n|---|---:|---:|")
    for name, each in times.items():
        print(f"| `{name}` | {min(each):.0f} | {statistics.median(each):.0f} |")


if __name__ == "__main__":
    main()
