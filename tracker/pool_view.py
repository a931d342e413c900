"""The files of benchmarks and pools below ``data/``, kept as the record says: they come back byte for byte.

A pool's directory appears whole. How files are compared and written is the tree's (tracker.view).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from tracker.catalogue import Reader, Row, reading
from tracker.content import RESTORE
from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace, name_problem
from tracker.pool_files import full_file, meta_file, pool_file, statistics_file
from tracker.view import Part, refuse
from tracker.view_plan import Changes, Difference, Expected, Wanted, differences, plan, union
from tracker.view_tree import LOCK_TIMEOUT_S, Tree, explained, look, walk, writing

FULL = "benchmarks/full"
RESERVED = frozenset({"agents", "benchmarks", "inputs"})
"""Directories below ``data/`` that no pool can be called."""
TASKS, STATISTICS = "task_pool.jsonl", "statistics.json"

_POOLS = "SELECT id, name, created_at FROM task_pool ORDER BY id"
_POOL = "SELECT * FROM task_pool WHERE id = :id"
_POOL_TASKS = "SELECT * FROM task_pool_task_overview WHERE task_pool_id = :id ORDER BY position"
_BENCHMARKS = "SELECT id, name, created_at FROM benchmark WHERE is_current ORDER BY name"
_BENCHMARK = "SELECT * FROM benchmark WHERE id = :id"
_TASKS = "SELECT * FROM benchmark_task WHERE benchmark_id = :id ORDER BY position"


@dataclass(frozen=True)
class _Home:
    """A directory with everything the record wants in it; ``ids`` are those of its pool, or of the benchmarks."""

    path: str
    names: tuple[str, ...]
    mtime_ns: int
    ids: tuple[int, ...]
    is_pool: bool

    def content(self, reader: Reader) -> dict[str, bytes]:
        """Its files by path. Raises Corrupt."""
        files: dict[str, bytes] = {}
        for each in self.ids:
            files |= pool_content(reader, each) if self.is_pool else _benchmark(reader, each)
        return {f"{self.path}/{name}": data for name, data in files.items()}


def refresh(
    workspace: Workspace,
    reader: Reader,
    pool_ids: Collection[int] = (),
    *,
    full: bool = False,
    deep: bool = False,
    patience_s: float = LOCK_TIMEOUT_S,
) -> Changes:
    """Brings the files of these pools up to date, and with ``full`` those of the benchmarks; gives what was done.

    Without ``deep`` a file is taken as right by its time. What was edited or stands in the way is moved to the trash.
    Raises StorageError, Conflict, and Corrupt when all the rest is done.
    """
    problems: list[Difference] = []
    with explained(workspace):
        changes = _bring(workspace, reader, pool_ids, None, problems, full=full, deep=deep)
    if changes:
        # What is written must come from a snapshot younger than the lock: an older one could undo another's work.
        with writing(workspace, patience_s, workspace.data_dir) as tree, reading(workspace) as fresh:
            problems.clear()
            changes = _bring(workspace, fresh, pool_ids, tree, problems, full=full, deep=True)
    refuse(problems)
    return changes


def rebuild(workspace: Workspace, reader: Reader) -> Changes:
    """Brings all files up to date, also from nothing. ``reader`` must not have been used before."""
    problems: list[Difference] = []
    with writing(workspace, root=workspace.data_dir) as tree:
        done = union(part.apply(tree) for part in _parts(workspace, reader, _homes(reader, None, full=True), problems))
    refuse(problems)
    return done


def check(workspace: Workspace, reader: Reader, only: Collection[int] | None = None) -> list[Difference]:
    """Where the files, or those of ``only`` these pools, differ from the record; changes nothing."""
    found: list[Difference] = []
    with explained(workspace):
        for part in _parts(workspace, reader, _homes(reader, only, full=only is None), found):
            found.extend(differences(part.changes, part.tree))
    return found


def _bring(
    workspace: Workspace,
    reader: Reader,
    pool_ids: Collection[int],
    tree: Tree | None,
    problems: list[Difference],
    *,
    full: bool,
    deep: bool,
) -> Changes:
    root = workspace.data_dir
    suspects = []
    for home in _homes(reader, pool_ids, full=full):
        expected = {f"{home.path}/{name}": Expected(home.mtime_ns) for name in home.names}
        if deep or plan(Wanted({home.path: expected}), look(root, expected)):
            suspects.append(home)
    parts = _parts(workspace, reader, suspects, problems)
    return union(part.changes if tree is None else part.apply(tree) for part in parts)


def _homes(reader: Reader, pool_ids: Collection[int] | None, *, full: bool) -> list[_Home]:
    found = [
        _Home(row["name"], (TASKS, STATISTICS), _ns(row["created_at"]), (row["id"],), is_pool=True)
        for row in reader.rows(_POOLS)
        if pool_ids is None or row["id"] in pool_ids
    ]
    benchmarks = reader.rows(_BENCHMARKS) if full else []
    if benchmarks:
        names = tuple(f"{row['name']}_{end}" for row in benchmarks for end in ("full.jsonl", "full_meta.json"))
        newest = max(_ns(row["created_at"]) for row in benchmarks)
        found.append(_Home(FULL, names, newest, tuple(row["id"] for row in benchmarks), is_pool=False))
    return found


def _parts(
    workspace: Workspace, reader: Reader, homes: Collection[_Home], problems: list[Difference]
) -> Iterator[Part]:
    for home in homes:
        problem = name_problem(home.path) if home.is_pool else None
        if problem is not None or home.path in RESERVED:
            problems.append(Difference(home.path, "contradiction", f"No pool can be called so: {problem or home.path}"))
            continue
        try:
            content = home.content(reader)
        except Corrupt as error:
            problems.append(Difference(home.path, "contradiction", error.message))
            continue
        files = {
            path: Expected(home.mtime_ns, len(data), hashlib.sha256(data).hexdigest()) for path, data in content.items()
        }
        tree = look(workspace.data_dir, [home.path]) | walk(workspace.data_dir, home.path, 1, read=files)
        yield Part(plan(Wanted({home.path: files}), tree), tree, content, home.mtime_ns)


def pool_content(reader: Reader, pool_id: int) -> dict[str, bytes]:
    """The files of a pool by name. Raises Corrupt where rows contradict each other."""
    pool = reader.rows(_POOL, id=pool_id)[0]
    tasks = pool_file(reader.rows(_POOL_TASKS, id=pool_id))
    if bytes_digest([tasks]) != pool["data_digest"]:
        raise Corrupt(f"The tasks of pool {pool['name']} are not those that it was made of.", hint=RESTORE)
    return {TASKS: tasks, STATISTICS: statistics_file(json.loads(pool["statistics"]))}


def _benchmark(reader: Reader, benchmark_id: int) -> dict[str, bytes]:
    row: Row = reader.rows(_BENCHMARK, id=benchmark_id)[0]
    tasks = reader.rows(_TASKS, id=benchmark_id)
    return {f"{row['name']}_full.jsonl": full_file(row, tasks), f"{row['name']}_full_meta.json": meta_file(row)}


def _ns(stored: str) -> int:
    return round(datetime.fromisoformat(stored).timestamp()) * 1_000_000_000
