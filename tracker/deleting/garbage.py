"""What nothing needs any more: experiments that nothing references, trials, parts that killed processes left.

Pure, over the rows that a Reader gives and what lies on the disk; nothing is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tracker import clock
from tracker.deleting import deletion
from tracker.deleting.deletion import AGENTS, EXPERIMENT, Plan
from tracker.durable import is_leftover
from tracker.paths import TEMPORARY, Workspace
from tracker.record.catalogue import Reader

SETTLES = timedelta(days=1)
"""What was touched more recently is somebody's work of today."""

_UNREFERENCED = """
    SELECT e.id FROM shared_experiment e
    WHERE NOT EXISTS (SELECT 1 FROM batch_membership m WHERE m.shared_experiment_id = e.id)
      AND e.import_run_id IS NULL AND COALESCE(e.completed_at, e.created_at) < :before"""
_UNFINISHED = """
    SELECT e.id FROM shared_experiment e
    WHERE e.status = 'unfinished' AND e.lease_host IS NULL AND e.created_at < :before
      AND EXISTS (SELECT 1 FROM batch_membership m WHERE m.shared_experiment_id = e.id)
      AND NOT EXISTS (SELECT 1 FROM decision d WHERE d.shared_experiment_id = e.id)
      AND NOT EXISTS (SELECT 1 FROM generation_run r WHERE r.shared_experiment_id = e.id
                      AND (r.status = 'waiting' OR COALESCE(r.finished_at, r.started_at) >= :before))"""
_TRIALS = """
    SELECT d.id FROM agent_dataset d
    WHERE d.is_trial AND d.lease_host IS NULL AND COALESCE(d.completed_at, d.created_at) < :before
      AND NOT EXISTS (SELECT 1 FROM agent_run r WHERE r.agent_dataset_id = d.id
                      AND COALESCE(r.finished_at, r.started_at) >= :before)"""
_RULES = (
    ("nothing references it", _UNREFERENCED, "e.id", EXPERIMENT, False),
    ("it was never finished, and nobody is making it", _UNFINISHED, "e.id", EXPERIMENT, True),
    ("it is a trial (--test)", _TRIALS, "d.id", AGENTS, False),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Something that nothing needs, and why it is thought so; ``from_batches``: it is taken out of its batches."""

    plan: Plan
    why: str
    from_batches: bool = False


def unneeded(reader: Reader, workspace: Workspace) -> Iterator[Found]:
    """Experiments and agent data sets that can go: nothing points to them, and nobody touched them for a day.

    Never what was imported: somebody brought it in on purpose, and it may be nowhere else.
    """
    before = clock.to_text(clock.now() - SETTLES)
    for why, sql, column, kind, from_batches in _RULES:
        for row in reader.rows(f"{sql} ORDER BY {column}", before=before):
            plan = deletion.plan(reader, workspace, kind, row["id"], from_batches=from_batches)
            if not plan.reasons:
                yield Found(plan, why, from_batches)


def is_unneeded(found: Found, reader: Reader) -> bool:
    """Whether that still holds: somebody may have gone on with it, or taken it into a batch, since it was looked at."""
    before = clock.to_text(clock.now() - SETTLES)
    [(sql, column)] = [(sql, column) for why, sql, column, _, _ in _RULES if why == found.why]
    return bool(reader.rows(f"{sql} AND {column} = :id", before=before, id=found.plan.id))


def abandoned(workspace: Workspace) -> list[Path]:
    """Temporary files and directories of processes that are gone, in the workspace's own trees."""
    places = ((workspace.root, 0), (workspace.trash_dir, 0), (workspace.data_dir, 2), (workspace.synthetic_dir, 3))
    found = {each for top, depth in places for each in _leftovers(top, depth)}
    for each in workspace.root.glob(".tracker.db.new*"):
        # Whoever makes it renames it when it is done.
        with contextlib.suppress(FileNotFoundError):
            if clock.now().timestamp() - each.lstat().st_mtime > SETTLES.total_seconds():
                found.add(each)
    return sorted(found)


def old_copies(workspace: Workspace, age: timedelta) -> list[Path]:
    """Copies of the database that upgrades left, older than ``age``."""
    before = (clock.now() - age).strftime("%Y%m%dT%H%M%S")
    found = sorted(workspace.root.glob(f"{workspace.database.name}.v*-*.bak"))
    return [path for path in found if path.name.rpartition("-")[2].removesuffix(".bak") < before]


def _leftovers(top: Path, depth: int) -> Iterator[Path]:
    entries: list[Path] = []
    # Others may be moving it away.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        entries = sorted(top.iterdir())
    for each in entries:
        if each.name.startswith(TEMPORARY):
            if is_leftover(str(each)):
                yield each
        elif depth and each.is_dir() and not each.is_symlink():
            yield from _leftovers(each, depth - 1)
