"""What a fingerprint costs: the decision whether data is there already, and the fingerprint of a large input.

    python -m benchmarks.identity [--experiments N] [--records N] [--rounds N] [--keep DIR]

The input is read in processes of their own, in turns, for their time and peak memory. The floor is one that reads and
hashes the bytes, and one that takes every line for JSON and back, which is what it takes to know that it is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks import large_record
from benchmarks.database_writer import wanted
from benchmarks.large_record import Size
from benchmarks.machine import heading
from tracker.clock import this_process
from tracker.fingerprint import Identity, identify
from tracker.paths import Workspace
from tracker.record import generation
from tracker.record.database import open_database

HASHED = """
import hashlib, sys
print(hashlib.file_digest(open(sys.argv[1], "rb"), "sha256").hexdigest())
"""
PARSED = """
import hashlib, json, sys
digest = hashlib.sha256()
for line in open(sys.argv[1], encoding="utf-8"):
    digest.update(json.dumps(json.loads(line), sort_keys=True).encode())
print(digest.hexdigest())
"""
FINGERPRINT = """
import sys
from pathlib import Path
from pipeline.generation.job import Options, prepare
from tracker.paths import Workspace
print(prepare(Workspace(Path(sys.argv[2])), Path(sys.argv[3]), Options()).plan.identity.fingerprint)
"""
# A process counts the memory of the one that it was forked from, so a small one has to start it.
LAUNCHER = """
import os, sys
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
CONFIG = """
experiment: {{purpose: study}}
dataset: {{task_name: copa, dataset_name: Copa, input_path: {path}}}
generation:
  provider: offline
  model: rules-v1
  field_to_rephrase: premise
  rephrase_prompt: "Say in other words: {{premise}}"
"""


def decisions(workspace: Workspace, size: Size, rounds: int) -> dict[str, float]:
    """Microseconds of the processor for each decision, the median of ``rounds``."""
    numbers = iter(range(10_000_000, 11_000_000))
    with open_database(workspace) as database, closing(sqlite3.connect(workspace.database)) as bare:
        process = this_process()

        def claim(n: int, identity: Identity) -> str:
            found = generation.claim(database, wanted(n, identity), process)
            assert isinstance(found, generation.Claimed)
            return found.outcome

        def reuse() -> None:
            n = size.experiments // 2
            name = large_record.fingerprint("experiment", n)
            assert claim(n, Identity("shared_experiment", "{}", name, name * 5)) == "reused"

        def new() -> None:
            n = next(numbers)
            assert claim(n, identify("shared_experiment", {"number": n})) == "made"

        def look(n: int, there: int) -> None:
            sql = "SELECT * FROM shared_experiment WHERE fingerprint = ?"
            assert len(bare.execute(sql, [large_record.fingerprint("experiment", n)]).fetchall()) == there

        setting = {"prompt": large_record.PROMPT, "model": "gpt-4o", "temperature": 0.7}
        each: dict[str, Callable[[], object]] = {
            "fingerprint of a config's settings": lambda: identify("shared_experiment", setting),
            "claim: there already, reused": reuse,
            "claim: new, made": new,
            "bare sqlite3: one row by its fingerprint": lambda: look(size.experiments // 2, 1),
            "bare sqlite3: no such row": lambda: look(-1, 0),
        }
        found: dict[str, list[float]] = {name: [] for name in each}
        for _ in range(rounds):
            for name, work in each.items():
                start = time.thread_time()
                work()
                found[name].append(1e6 * (time.thread_time() - start))
    return {name: statistics.median(times) for name, times in found.items()}


def inputs(root: Path, records: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of the processor (median) and peak MB of each process that reads an input of so many records."""
    path, config = root / "copa_train.jsonl", root / "study.yaml"
    with path.open("w", encoding="utf-8") as file:
        for n in range(records):
            record = {"premise": f"The man turned on faucet {n}.", "choice1": "Water flowed out.", "label": 1, "idx": n}
            file.write(f"{json.dumps(record)}\n")
    config.write_text(CONFIG.format(path=json.dumps(str(path))), encoding="utf-8")
    python = [sys.executable]
    commands = {
        "bare: read and hash the bytes": [*python, "-c", HASHED, str(path)],
        "bare: every line from JSON and back": [*python, "-c", PARSED, str(path)],
        "`prepare`: check, hash, plan, fingerprint": [*python, "-c", FINGERPRINT, str(path), str(root), str(config)],
        "`generate --dry-run`": [*python, "-m", "cli.main", "generate", str(config), "--dry-run", "--root", str(root)],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(_run(command))
    return {
        name: (statistics.median(each[0] for each in all_), max(each[1] for each in all_))
        for name, all_ in found.items()
    }


def _run(command: Sequence[str]) -> tuple[float, float]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command], env=environ, check=True, capture_output=True, text=True
    )
    status, seconds, kilobytes = done.stderr.split()[-3:]
    assert status == "0", done.stderr
    return float(seconds), int(kilobytes) * 1024 / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiments", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build the record here, or use what was built here")
    given = parser.parse_args(arguments)
    batches = max(1, given.experiments // 100)
    size = Size(given.experiments, batches, given.experiments, 0)
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary).resolve()
        workspace = large_record.build((given.keep or here / "record").resolve(), size)
        what = f"{given.experiments:,} experiments, an input of {given.records:,} records; medians of {given.rounds}"
        print(heading(what, sqlite=sqlite3.sqlite_version))
        print("\n| decision | CPU, microseconds |\n|---|---:|")
        for name, microseconds in decisions(workspace, size, max(given.rounds, 20)).items():
            print(f"| {name} | {microseconds:,.0f} |", flush=True)
        (here / "input").mkdir()
        print("\n| input | CPU s | of JSON and back | peak MB |\n|---|---:|---:|---:|")
        found = inputs(here / "input", given.records, given.rounds)
        floor = found["bare: every line from JSON and back"][0]
        for name, (seconds, memory) in found.items():
            print(f"| {name} | {seconds:.2f} | {seconds / floor:.2f} | {memory:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
