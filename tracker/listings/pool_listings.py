"""What people ask the record about benchmarks and pools: functions over a Reader that give rows by column name."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import UnknownReference
from tracker.fingerprint import MIN_DIGITS, Json
from tracker.listings.compare import compare_settings
from tracker.listings.listings import Listing
from tracker.paths import Workspace, current_directory
from tracker.record.catalogue import EVERY, Reader, Row

_POOLS = """
    SELECT * FROM task_pool_overview
    WHERE id IN (SELECT id FROM task_pool ORDER BY id DESC LIMIT :limit) ORDER BY name"""
_NAMES = "SELECT id, name, fingerprint FROM task_pool ORDER BY name"
_POOL = "SELECT * FROM task_pool WHERE id = :id"
_PARTS = "SELECT * FROM task_pool_benchmark_overview WHERE task_pool_id = :id ORDER BY position"
_DRAWN = """
    SELECT t.position, t.difficulty_bin, t.benchmark_task_id, k.difficulty_score, b.name AS benchmark
    FROM task_pool_task t JOIN benchmark_task k ON k.id = t.benchmark_task_id JOIN benchmark b ON b.id = k.benchmark_id
    WHERE t.task_pool_id = :id ORDER BY t.position"""
_CONTENT = """
    SELECT t.difficulty_bin, k.part, k.raw_data, b.name AS benchmark
    FROM task_pool_task t JOIN benchmark_task k ON k.id = t.benchmark_task_id JOIN benchmark b ON b.id = k.benchmark_id
    WHERE t.task_pool_id = :id"""
_SAMPLE = "SELECT * FROM task_pool_task_overview WHERE task_pool_id = :id AND position < :n ORDER BY position"
_VALIDATIONS = """
    SELECT uuid, fingerprint, model, temperature, status, n_samples, random_seed, run_code, n_tasks, n_graded, n_failed,
           n_ungraded, easy_accuracy, hard_accuracy, accuracy_gap, rank_correlation, n_calls, n_cached, cost_usd,
           started_at
    FROM pool_validation WHERE task_pool_id = :id ORDER BY id"""
_SCORES = """
    SELECT k.difficulty_score FROM benchmark_task k JOIN benchmark b ON b.id = k.benchmark_id
    WHERE b.fingerprint = :fingerprint ORDER BY k.position"""
_BENCHMARKS = "SELECT * FROM benchmark_overview WHERE is_current ORDER BY name"


_Task = tuple[str, str | None, str]
"""Benchmark, part and content, which stay where a benchmark has been read anew."""


@dataclass(frozen=True)
class Overlap:
    """What two pools share: settings, and distinct tasks (by benchmark and bin, as ``(first, second, both)``).

    ``shares`` is that of the tasks of both in those of either (Jaccard 1912), None where neither has any.
    """

    same: dict[str, Json]
    different: dict[str, list[Json]]
    counts: dict[tuple[str, str], tuple[int, int, int]]
    n_first: int
    n_second: int
    n_both: int

    @property
    def shared(self) -> float | None:
        either = self.n_first + self.n_second - self.n_both
        return self.n_both / either if either else None


def pools(reader: Reader, limit: int = 0) -> Listing:
    """The newest ``limit`` pools (0: all) by name, each with its benchmarks."""
    rows = [
        _plain(row) | {"benchmarks": [part["benchmark"] for part in reader.rows(_PARTS, id=row["id"])]}
        for row in reader.rows(_POOLS, limit=limit or EVERY)
    ]
    return Listing(rows, int(reader.rows("SELECT COUNT(*) AS n FROM task_pool")[0]["n"]))


def benchmarks(reader: Reader) -> list[Row]:
    """The benchmarks that pools are drawn from now."""
    return [row | {"constants": json.loads(row["constants"])} for row in reader.rows(_BENCHMARKS)]


def pool(reader: Reader, workspace: Workspace, ref: str) -> Row:
    """All that is known of one pool, its JSON columns as objects, with ``benchmarks`` and ``validations``.

    REF is a name, a fingerprint or its beginning, or the path of the directory or a file in it. Raises
    UnknownReference.
    """
    row = _plain(reader.rows(_POOL, id=find(reader, workspace, ref))[0])
    objects = {name: json.loads(row[name]) for name in ("settings", "config", "statistics", "versions", "identity")}
    drawn = reader.rows(_DRAWN, id=row["id"])
    distinct = Counter(name for name, _ in {(task["benchmark"], task["benchmark_task_id"]) for task in drawn})
    parts = [part | {"n_distinct": distinct[part["benchmark"]]} for part in reader.rows(_PARTS, id=row["id"])]
    validations = [each | {"run_code": bool(each["run_code"])} for each in reader.rows(_VALIDATIONS, id=row["id"])]
    return row | objects | {"benchmarks": parts, "validations": validations}


def tasks(reader: Reader, pool_id: int, n: int) -> list[Row]:
    """The first ``n`` tasks of a pool, their JSON as objects."""
    return [
        row | {name: json.loads(row[name]) for name in ("raw_data", "scorer_metadata")}
        for row in reader.rows(_SAMPLE, id=pool_id, n=n)
    ]


def drawn_scores(reader: Reader, pool_id: int) -> dict[str, list[float]]:
    """The scores of a pool's tasks by benchmark, in the pool's order."""
    found: dict[str, list[float]] = {}
    for row in reader.rows(_DRAWN, id=pool_id):
        found.setdefault(row["benchmark"], []).append(row["difficulty_score"])
    return found


def full_scores(reader: Reader, fingerprint: str) -> list[float]:
    """The scores of a benchmark's full data."""
    return [row["difficulty_score"] for row in reader.rows(_SCORES, fingerprint=fingerprint)]


def overlap(reader: Reader, first: Row, second: Row) -> Overlap:
    """What two pools, as ``pool`` gives them, share. A task is itself in whatever data of its benchmark it is."""
    settings = [row["settings"] | {"data": _data(row)} for row in (first, second)]
    same, different = compare_settings(settings)
    own = [_bins(reader, row["id"]) for row in (first, second)]
    counts = {}
    for key in dict.fromkeys((name, each) for name, each, _ in sorted(own[0] | own[1])):
        of = [{task for name, each, task in tasks_ if (name, each) == key} for tasks_ in own]
        counts[key] = (len(of[0]), len(of[1]), len(of[0] & of[1]))
    ids = [{task for _, _, task in tasks_} for tasks_ in own]
    return Overlap(same, different, counts, len(ids[0]), len(ids[1]), len(ids[0] & ids[1]))


def _bins(reader: Reader, pool_id: int) -> set[tuple[str, str, _Task]]:
    return {
        (row["benchmark"], row["difficulty_bin"], (row["benchmark"], row["part"], row["raw_data"]))
        for row in reader.rows(_CONTENT, id=pool_id)
    }


def find(reader: Reader, workspace: Workspace, ref: str) -> int:
    """The id of the pool that ``ref`` means. Raises UnknownReference with close matches."""
    text = ref.strip().rstrip("/")
    rows = reader.rows(_NAMES)
    for row in rows:
        if text in {row["name"], row["fingerprint"]}:
            return int(row["id"])
    found = [row for row in rows if len(text) >= MIN_DIGITS and row["fingerprint"].startswith(text.lower())]
    found = found or [row for row in rows if _is_path_of(workspace, row["name"], text)]
    if len(found) == 1:
        return int(found[0]["id"])
    names = [row["name"] for row in rows]
    hint = "`synthtrack pool list` shows what there is."
    if found:
        hint = f"It could be {' or '.join(row['fingerprint'] for row in found)}."
    raise UnknownReference("pool", ref, names, hint=hint)


def _is_path_of(workspace: Workspace, name: str, text: str) -> bool:
    home = os.path.normpath(workspace.data_dir / name)
    starts = [workspace.root, *([here] if (here := current_directory()) is not None else [])]
    given = {os.path.normpath(start / Path(text)) for start in starts}
    return any(path == home or os.path.dirname(path) == home for path in given)  # noqa: PTH120  text, not a file


def _data(row: Row) -> Json:
    return {part["benchmark"]: part["benchmark_fingerprint"] for part in row["benchmarks"]}


def _plain(row: Row) -> Row:
    return row | {"with_replacement": bool(row["with_replacement"])}
