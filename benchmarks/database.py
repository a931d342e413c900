"""What asking a large record costs beyond SQLite itself, and what writing to it does.

    python -m benchmarks.database [--experiments N] [--trainings N] [--memberships N] [--rounds N] [--keep DIR]

Each question is a function of the product, called in a warm process. Beside it, in turns, the SQL statements that it
sent are run by bare sqlite3, which fetches the same rows; whatever lies between the two is the product's. Times of
questions are the processor's, which on a quiet machine is what a person waits for and on a busy one still is the work.
A table that is scanned is named: it should be one that the question asks about as a whole.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import large_record
from benchmarks.large_record import SWEEP, Size
from benchmarks.machine import heading
from tracker.listings import listings, results
from tracker.listings.results import Filters
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import Reader, Row, SqliteReader, reading
from tracker.tracing.lineage import lineage

Question = Callable[[Reader], object]
_SMALL = 2_000
"""A table of fewer rows may be scanned."""


@dataclass
class Statements:
    """A reader that writes down what it is asked."""

    reader: Reader
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        self.asked.append((sql, parameters))
        return self.reader.rows(sql, **parameters)


@dataclass(frozen=True)
class Answered:
    """A question as it was measured, in milliseconds of the processor: by the product, and by bare sqlite3."""

    name: str
    ours: float
    bare: float
    n_statements: int
    n_rows: int
    scans: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


def questions(workspace: Workspace, size: Size) -> dict[str, Question]:
    """What people ask by commands, as the functions behind these."""
    n = size.experiments // 2
    batch, dataset, name = (
        large_record.batch_name(n % size.batches + 1),
        large_record.dataset_of(n),
        large_record.experiment_name(n),
    )
    in_batch = f"Data_v2/synthetic/{batch}/{dataset}/{name}/{dataset}"
    shared = f"Data_v2/synthetic/_shared/{dataset}/{name}/{dataset}"
    run = large_record.uuid("training_run", size.trainings // 2)
    sweep = large_record.uuid("training_sweep", max(1, size.trainings // SWEEP // 2))
    trained = Filters(data=large_record.experiment_name(large_record.trained_on(size.trainings // 2 + 1, size) or 1))
    purpose = Filters(purpose=large_record.PURPOSES[1], task=large_record.DATASETS[1])
    return {
        "batch list": lambda reader: listings.batches(reader, 100),
        "batch list --limit 0": listings.batches,
        "batch show": lambda reader: (
            listings.batch(reader, batch),
            listings.batch_experiments(reader, batch, None, 100),
        ),
        "batch show --dataset": lambda reader: listings.batch_experiments(reader, batch, dataset, 100),
        "experiment list": lambda reader: listings.experiments(reader, None, 100),
        "experiment list --dataset": lambda reader: listings.experiments(reader, dataset, 100),
        "experiment list --limit 0": listings.experiments,
        "experiment show": lambda reader: listings.experiment(reader, f"{dataset}/{name}", workspace),
        "path list": lambda reader: listings.data_paths(reader, workspace, None, None, 100),
        "path list --batch": lambda reader: listings.data_paths(reader, workspace, batch, None, 100),
        "path resolve SHARED": lambda reader: listings.resolve_path(reader, workspace, shared),
        "path resolve IN_BATCH": lambda reader: listings.resolve_path(reader, workspace, in_batch),
        "result list": lambda reader: results.summary(reader, Filters()),
        "result list --detail": lambda reader: results.details(reader, Filters(), 100),
        "result list --detail --purpose --task": lambda reader: results.details(reader, purpose, 100),
        "result list --detail --data": lambda reader: results.details(reader, trained, 100),
        "training status": sweeps.sweeps,
        "lineage EXPERIMENT": lambda reader: lineage(reader, workspace, f"{dataset}/{name}", 10),
        "lineage RUN": lambda reader: lineage(reader, workspace, run, 10),
        "lineage SWEEP": lambda reader: lineage(reader, workspace, sweep, 10),
        "lineage BATCH": lambda reader: lineage(reader, workspace, batch, 10),
        "lineage DATASET": lambda reader: lineage(reader, workspace, dataset, 10),
        "lineage DATASET, everything": lambda reader: lineage(reader, workspace, dataset, 0),
    }


def answer(workspace: Workspace, asked: dict[str, Question], rounds: int) -> Iterator[Answered]:
    """Each question by the product and by bare sqlite3, in turns; medians."""
    with _bare(workspace) as bare, reading(workspace) as reader:
        assert isinstance(reader, SqliteReader)
        tables = {name: n for name, n in _sizes(bare).items() if n >= _SMALL}
        for name, question in asked.items():
            said = Statements(reader)
            question(said)
            times: tuple[list[float], list[float]] = ([], [])
            found = 0
            for _ in range(rounds):
                start = time.thread_time()
                question(reader)
                middle = time.thread_time()
                found = sum(len(bare.execute(*each).fetchall()) for each in said.asked)
                times[0].append(1000 * (middle - start))
                times[1].append(1000 * (time.thread_time() - middle))
            scans = sorted({table for each in said.asked for table in _scans(bare, each) if table in tables})
            ours, alone = map(statistics.median, times)
            yield Answered(name, ours, alone, len(said.asked), found, tuple(scans))


@contextmanager
def _bare(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(workspace.database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection


def _sizes(connection: sqlite3.Connection) -> dict[str, int]:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: int(connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]) for name in names}


def _scans(connection: sqlite3.Connection, asked: tuple[str, dict[str, Any]]) -> Iterator[str]:
    """The tables that a statement reads from end to end, by themselves or through an index that orders them."""
    sql, values = asked
    aliases = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN)\s+(\w+)\s+(?:AS\s+)?(\w+)", sql)}
    for _, _, _, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values):
        if (scan := re.match(r"SCAN (\w+)", str(detail))) is not None:
            yield str(aliases.get(scan[1], scan[1]))


def writes(root: Path, seconds: float) -> Iterator[tuple[str, float, float]]:
    """Transactions a second of the product and of bare sqlite3, by what is written; one writer, then eight at once."""
    for writers in (1, 8):
        for kind in ("sample", "ledger", "claim"):
            rates = [_rate(root / f"{writers} {how}", how, seconds, writers) for how in (kind, f"bare {kind}")]
            yield f"{kind}, {writers} writer{'s' if writers > 1 else ''}", rates[0], rates[1]


def _rate(root: Path, how: str, seconds: float, writers: int) -> float:
    large_record.build(root, Size(8, 1, 8, 0))
    command = [sys.executable, "-m", "benchmarks.database_writer", str(root), how, str(seconds)]
    running = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        for number in range(writers)
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    # All of them start before the first is waited for.
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    done = [each.communicate() for each in running]
    assert not any(each.returncode for each in running)
    return sum(float(out) for out, _ in done)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in large_record.DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement of writes")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build it here, or use what was built here")
    given = parser.parse_args(arguments)
    size = Size(given.experiments, given.batches, given.memberships, given.trainings)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = large_record.build(Path(given.keep or Path(temporary) / "record").resolve(), size)
        print(heading(f"{size}; medians of {given.rounds}", sqlite=sqlite3.sqlite_version))
        print("\n| question | CPU ms | bare sqlite3, CPU ms | ratio | statements | rows | scanned |")
        print("|---|---:|---:|---:|---:|---:|---|")
        for each in answer(workspace, questions(workspace, size), given.rounds):
            print(
                f"| {each.name} | {each.ours:.2f} | {each.bare:.2f} | {each.ratio:.2f} | {each.n_statements} | "
                f"{each.n_rows:,} | {', '.join(each.scans)} |",
                flush=True,
            )
        print("\n| written | transactions/s | bare sqlite3 | of bare |\n|---|---:|---:|---:|")
        for name, ours, bare in writes(Path(temporary).resolve(), given.seconds):
            print(f"| {name} | {ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} |", flush=True)


if __name__ == "__main__":
    main()
