"""``synthtrack import FILE``: an archive that `export` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cli import render
from cli.text.listing import bring_files_up_to_date, bring_pools_up_to_date, bring_up_to_date
from tracker.paths import Workspace, current_directory, is_new
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from tracker.archives.exchange import Taken

_SHOWN = 5
_KINDS = {
    "batch": ("batch", "batches"),
    "shared_experiment": ("experiment", "experiments"),
    "sample": ("sample", "samples"),
    "decision": ("decision", "decisions"),
    "generation_run": ("run", "runs"),
    "training_run": ("training run", "training runs"),
    "agent_dataset": ("agent data set", "agent data sets"),
    "agent_response": ("response", "responses"),
    "task_pool": ("task pool", "task pools"),
    "benchmark": ("benchmark", "benchmarks"),
    "pool_validation": ("validation", "validations"),
    "attempt": ("paid answer", "paid answers"),
}
"""The tables that are named in a report, as a person calls their rows."""


def counted_kinds(rows: Mapping[str, int]) -> list[str]:
    """``2 batches``, ``80 samples`` ... of rows by table."""
    return [render.counted(rows[name], *words) for name, words in _KINDS.items() if rows.get(name)]


def said_of_others(others: Sequence[str]) -> str:
    """That batches come along only because experiments are in them; a line."""
    names = ", ".join(render.harmless(each) for each in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
    return f"   Named, not asked for: {names}{more}, where experiments of these are, or were made."


def import_archive(
    workspace: Workspace, path: Path, *, dry_run: bool = False, as_json: bool = False, max_bytes: int | None = None
) -> None:
    """Takes an archive into the record, writes its data into the tree and its results below ``results_dir``.

    ``max_bytes`` is what it may unpack to, however small it is. Raises DataError and SchemaError for an archive that is
    refused, Conflict and Corrupt where the record says otherwise, StorageError, also where only the tree, which the
    record can make at any time, finds no room.
    """
    from cli.progress import command_line, log_to_mlflow
    from tracker.archives.archive_check import Limits
    from tracker.archives.exchange import take

    limits = Limits() if max_bytes is None else Limits(n_bytes=max_bytes, ratio=None)
    here = current_directory()
    if here is not None and path.is_relative_to(here):
        path = path.relative_to(here)  # as a person gave it
    if is_new(workspace):
        render.note_new_workspace(workspace.root, dry_run=dry_run)
    taken = take(workspace, path, command=command_line(), dry_run=dry_run, limits=limits)
    if as_json:
        told = asdict(taken)
        told |= {"file": str(path.resolve()), "dry_run": dry_run, "about": dict(taken.about)}
        told["renamed"] = [{"table": name, "there": old, "here": new} for name, old, new in taken.renamed]
        del told["ids"]
        render.show_json(told)
    else:
        _show(path, taken, dry_run=dry_run)
    if not dry_run:
        with reading(workspace) as reader:
            bring_up_to_date(workspace, reader, taken.ids["shared_experiment"], required=True)
            bring_files_up_to_date(workspace, reader, taken.ids["agent_dataset"], required=True)
            bring_pools_up_to_date(workspace, reader, taken.ids["task_pool"], full=True, required=True)
        log_to_mlflow(workspace)


def _show(path: Path, taken: Taken, *, dry_run: bool) -> None:
    given, new, known = render.harmless(str(path)), counted_kinds(taken.new), counted_kinds(taken.known)
    if not taken.new:
        render.show(f"⚡ {given}: nothing is new, all of it is here already.")
    else:
        render.show(f"📦 {given}: {'would be taken' if dry_run else 'taken'}: {', '.join(new) or 'other rows'}.")
        if known:
            render.show(f"⚡ Here already: {', '.join(known)}.")
        if taken.others:
            render.show(said_of_others(taken.others))
    for name, old, here in taken.renamed:
        what = _KINDS[name][0]
        render.show(f"   {what} {render.harmless(old)} is called {render.harmless(here)} here.")
    if taken.directories:
        render.show(f"🔧 {render.counted(len(taken.directories), 'result directory', 'result directories')} written.")
    if taken.unlinked:
        render.note(
            f"⚠️  {render.counted(sum(taken.unlinked.values()), 'link')} to what is neither in the archive nor here "
            f"{'was' if sum(taken.unlinked.values()) == 1 else 'were'} left empty."
        )
