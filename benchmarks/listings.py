"""How long a command that looks takes as a whole process, on a large record.

    python -m benchmarks.listings [--experiments N] [--trainings N] [--memberships N] [--repeat N] [--keep DIR]

Commands take turns, medians. Beside them stand an interpreter that imports click, which no command can be faster than,
and for the two that are timed in earnest a script of sqlite3 and nothing else that prints the same facts. The tree of
what is printed is written by a first call that is not counted.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import large_record
from benchmarks.large_record import DATASETS, PURPOSES, Size
from benchmarks.machine import heading
from tracker.paths import Workspace

CLICK = 'python -c "import click"'
BATCH_LIST, PATH_RESOLVE = "synthtrack batch list", "synthtrack path resolve PATH"
_BARE_BATCHES = """
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(
    "SELECT name, purpose, created_at, (SELECT COUNT(*) FROM batch_membership m WHERE m.batch_id = b.id) FROM batch b"
    " WHERE deleted_at IS NULL ORDER BY id DESC LIMIT 100"
):
    print(*row)
"""
_BARE_RESOLVE = """
import sqlite3, sys
_, _, dataset, name, _ = sys.argv[2].rsplit("/", 4)
for row in sqlite3.connect(sys.argv[1]).execute(
    "SELECT b.name, e.dataset, e.name, m.reused FROM shared_experiment e JOIN batch_membership m"
    " ON m.shared_experiment_id = e.id JOIN batch b ON b.id = m.batch_id WHERE e.dataset = ? AND e.name = ?",
    [dataset, name],
):
    print(*row)
"""


def measure(commands: dict[str, list[str]], workspace: Workspace, repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each command, the commands taking turns so that other work on the machine hits all alike."""
    environ = {**os.environ, "SYNTHTRACK_ROOT": str(workspace.root), "PYTHONPATH": str(Path(__file__).parent.parent)}
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


def commands(workspace: Workspace, size: Size) -> dict[str, list[str]]:
    """What is measured, by the name it has in the table."""
    middle, batch = size.experiments // 2, large_record.batch_name(size.batches // 2)
    dataset, name = large_record.dataset_of(middle), large_record.experiment_name(middle)
    shared = f"Data_v2/synthetic/_shared/{dataset}/{name}/{dataset}"
    run = large_record.uuid("training_run", size.trainings // 2)
    calls = {
        "--help": ["--help"],
        "batch list": ["batch", "list"],
        "batch list --verbose": ["batch", "list", "--verbose"],
        "batch show BATCH": ["batch", "show", batch],
        "batch show BATCH --dataset": ["batch", "show", batch, "--dataset", DATASETS[0]],
        "experiment list": ["experiment", "list"],
        "experiment list --dataset": ["experiment", "list", "--dataset", DATASETS[1]],
        "experiment show REF": ["experiment", "show", f"{dataset}/{name}"],
        "experiment show FINGERPRINT": ["experiment", "show", large_record.fingerprint("experiment", middle)],
        "path list": ["path", "list"],
        "path list --format table": ["path", "list", "--format", "table"],
        "path resolve PATH": ["path", "resolve", shared],
        "result list --detail --purpose": ["result", "list", "--detail", "--purpose", PURPOSES[1]],
        "training status": ["training", "status"],
        "lineage RUN": ["lineage", run],
        "lineage EXPERIMENT": ["lineage", f"{dataset}/{name}"],
    }
    python, database = sys.executable, str(workspace.database)
    return {
        CLICK: [python, "-c", "import click"],
        f"sqlite3 alone: {BATCH_LIST}": [python, "-c", _BARE_BATCHES, database],
        f"sqlite3 alone: {PATH_RESOLVE}": [python, "-c", _BARE_RESOLVE, database, shared],
        **{f"synthtrack {name}": [python, "-m", "cli.main", *call] for name, call in calls.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in large_record.DEFAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build it here, or use what was built here")
    given = parser.parse_args(arguments)
    size = Size(given.experiments, given.batches, given.memberships, given.trainings)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = large_record.build(Path(given.keep or temporary).resolve(), size)
        print(heading(f"{size}; medians of {given.repeat}, in turns", sqlite=sqlite3.sqlite_version))
        times = measure(commands(workspace, size), workspace, given.repeat)
    median = {name: statistics.median(each) for name, each in times.items()}
    print(
        "\n| whole process | best, ms | median, ms | of `import click` | of sqlite3 alone |\n|---|---:|---:|---:|---:|"
    )
    for name, each in times.items():
        alone = median.get(f"sqlite3 alone: {name}")
        of_alone = "" if alone is None else f"{median[name] / alone:.2f}"
        print(f"| `{name}` | {min(each):.0f} | {median[name]:.0f} | {median[name] / median[CLICK]:.2f} | {of_alone} |")


if __name__ == "__main__":
    main()
