"""Asks what is being trained to end, from any terminal and any host that shares the record."""

from __future__ import annotations

from pipeline.training.workers import Worker
from tracker import clock
from tracker.paths import Workspace
from tracker.record import sweeps, training
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database
from tracker.record.sweeps import RESUMABLE, Found


def request(workspace: Workspace, found: Found, *, now: bool = False) -> list[Row]:
    """Asks the run, or all that the sweep has left, to end; the runs that were asked, none where nobody works on them.

    It is the record that says it: workers look there twice a second, and supervisors start nothing that was asked to
    end. ``now``: the workers on this host are killed as well.
    """
    with open_database(workspace) as database:
        training.settle(database)
        with reading(workspace) as reader:
            sweep = sweeps.sweep(reader, found.sweep_id)
        left = [run for run in _chosen(sweep, found) if run["status"] in {*RESUMABLE, "running"}]
        if sweep["status"] != "running" and not any(map(_is_at_work, left)):
            return []
        training.request_stop(database, [run["id"] for run in left])
        for run in filter(_is_at_work, left if now else ()):
            holder = sweeps.holder_of(run)
            if holder is not None and holder.host == clock.host():
                Worker(run["id"], None, holder, run["finished_at"]).kill()
        return left


def ended(workspace: Workspace, found: Found) -> list[Row] | None:
    """The runs as they were left, once nobody works on the run, or the sweep, any more; None before that."""
    with reading(workspace) as reader:
        sweep = sweeps.sweep(reader, found.sweep_id)
    chosen = _chosen(sweep, found)
    if any(map(_is_at_work, chosen)) or (found.run_id is None and sweep["status"] == "running"):
        return None
    return chosen


def _chosen(sweep: Row, found: Found) -> list[Row]:
    return [run for run in sweep["runs"] if found.run_id in {None, run["id"]}]


def _is_at_work(run: Row) -> bool:
    return run["status"] == "running" or (run["status"] in RESUMABLE and sweeps.has_process(run))
