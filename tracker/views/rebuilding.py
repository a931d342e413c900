"""Brings every tree that follows from the record up to date."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tracker.errors import Corrupt
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views import agent_view, pool_view, synthetic_view
from tracker.views.plan import Changes

Progress = Callable[[str, int, int], None]
"""Is told what is done, how many are done, and of how many."""


def rebuild_trees(workspace: Workspace, progress: Progress | None = None) -> dict[str, dict[str, int]]:
    """Brings the tree and the files in data up to date: of each how much was written, and moved to the trash.

    Raises Corrupt, when all the rest is done, where rows contradict each other.
    """
    told = None if progress is None else partial(progress, "tree")
    work: dict[str, Callable[[Reader], Changes]] = {
        "synthetic": lambda reader: synthetic_view.rebuild(workspace, reader, told),
        "agents": lambda reader: agent_view.rebuild(workspace, reader),
        "pools": lambda reader: pool_view.rebuild(workspace, reader),
    }
    done, problems = {}, []
    for name, rebuild in work.items():
        try:
            with reading(workspace) as reader:
                changes = rebuild(reader)
        except Corrupt as error:
            problems.append(error)
        else:
            written = len(changes.directories) + len(changes.files) + len(changes.links)
            done[name] = {"written": written, "aside": len(changes.aside), "leftovers": len(changes.leftovers)}
    if problems:
        raise problems[0]
    return done
