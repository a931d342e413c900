"""The bytes of the files of benchmarks and pools: functions of their rows and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, sqrt

from tracker.fingerprint import Json, bytes_digest
from tracker.record.catalogue import Row

UNASSIGNED = "unassigned"
"""The bin of a task in the full data: thresholds are a pool's."""
BINS = ("easy", "hard")


def full_file(benchmark: Row, tasks: Iterable[Row]) -> bytes:
    """``{benchmark}_full.jsonl``: every task with its difficulty, in the order of the source."""
    name = benchmark["name"]
    return _lines(task_line(full_id(name, row["position"]), name, row, UNASSIGNED) for row in tasks)


def meta_file(benchmark: Row) -> bytes:
    """``{benchmark}_full_meta.json``: counts, normalization constants, fingerprints."""
    config = json.loads(benchmark["config"])
    return _json(
        {
            "benchmark": benchmark["name"],
            "n_tasks": benchmark["n_tasks"],
            "path": config["path"],
            "split": config.get("split"),
            "configs": config.get("configs"),
            "normalization_constants": json.loads(benchmark["constants"]),
            "raw_score_range": [benchmark["score_low"], benchmark["score_high"]],
            "config_fingerprint": benchmark["fingerprint"],
            "source_digest": benchmark["source_digest"],
            "scored_at": benchmark["created_at"],
        }
    )


def pool_file(tasks: Iterable[Row]) -> bytes:
    """``task_pool.jsonl``: the tasks of a pool in their order; rows of task_pool_task_overview."""
    return _lines(
        task_line(task_id(row["position"], row["benchmark"]), row["benchmark"], row, row["difficulty_bin"])
        for row in tasks
    )


def source_digest(tasks: Iterable[tuple[str | None, str]]) -> str:
    """SHA-256 over the (part, JSON text) of a benchmark's tasks in their order."""
    return bytes_digest(f"{part or ''}\t{text}\n".encode() for part, text in tasks)


def full_id(benchmark: str, position: int) -> str:
    """``gsm8k_00000``: a task's name within the full data."""
    return f"{benchmark}_{position:05d}"


def task_id(position: int, benchmark: str) -> str:
    """``exp_00000_humaneval``: a task's name within its pool."""
    return f"exp_{position:05d}_{benchmark}"


def task_line(name: str, benchmark: str, task: Row, difficulty_bin: str) -> str:
    """One line: the keys in their order, ``raw_data`` as it is recorded."""
    head = {
        "task_id": name, "benchmark": benchmark, "difficulty_score": task["difficulty_score"],
        "difficulty_bin": difficulty_bin,
    }  # fmt: skip
    text = json.dumps(head, ensure_ascii=False)[:-1]
    return f'{text}, "raw_data": {task["raw_data"]}, "scorer_metadata": {task["scorer_metadata"]}}}'


def statistics(
    tasks: Sequence[tuple[str, str, float]], shortfalls: Sequence[Mapping[str, Json]], benchmarks: Sequence[str]
) -> dict[str, Json]:
    """What ``statistics.json`` says of (benchmark, bin, score) in the pool's order; the deviation is the population's.

    ``shortfalls`` are there only where tasks were missing.
    """
    scores = [score for _, _, score in tasks]
    by_benchmark = {name: [task for task in tasks if task[0] == name] for name in benchmarks}
    found: dict[str, Json] = {
        "n_total": len(tasks),
        "benchmarks": list(benchmarks),
        "difficulty_distribution": {
            "mean": mean(scores), "std": deviation(scores), "min": min(scores, default=None),
            "max": max(scores, default=None),
        },
        "difficulty_bins": {each: sum(task[1] == each for task in tasks) for each in BINS},
        "benchmark_breakdown": {
            name: {
                "count": len(own), "mean_difficulty": mean([score for _, _, score in own]),
                **{each: sum(task[1] == each for task in own) for each in BINS},
            }
            for name, own in by_benchmark.items()
        },
    }  # fmt: skip
    return found | ({"shortfalls": list(shortfalls)} if shortfalls else {})


def mean(values: Sequence[float]) -> float | None:
    """The mean, None of nothing; the sum is exact, so that order and machine do not matter."""
    return fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of the values themselves (population)."""
    centre = mean(values)
    return None if centre is None else sqrt(fsum((value - centre) ** 2 for value in values) / len(values))


def statistics_file(found: Mapping[str, Json]) -> bytes:
    """``statistics.json``."""
    return _json(found)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _json(value: Json) -> bytes:
    return f"{json.dumps(value, ensure_ascii=False, indent=2)}\n".encode()
