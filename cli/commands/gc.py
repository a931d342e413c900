"""``synthtrack gc``: moves what nothing needs any more to the trash, and removes what is left of killed processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.commands.delete import confirm, tell_mlflow, yes_option
from cli.commands.trash import older_than
from cli.text.deletion_text import size
from cli.text.gc_text import Unneeded, lines, plain
from tracker.errors import Conflict
from tracker.paths import Workspace
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from tracker.deleting.garbage import Found
    from tracker.deleting.trash import Deleted
    from tracker.mlflow_runs.mlflow_store import Leftovers


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would go; change nothing.")
@older_than
@click.option("--copies", is_flag=True, help="Also remove copies of the database older than AGE that upgrades left.")
@click.option("--empty-trash", is_flag=True, help="Also remove for good what is in the trash for longer than AGE.")
@click.option("--no-mlflow", is_flag=True, help="Leave MLflow's store as it is.")
@yes_option
@options.as_json
@options.workspace
def gc(
    workspace: Workspace,
    *,
    dry_run: bool,
    older_than: timedelta,
    copies: bool,
    empty_trash: bool,
    no_mlflow: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Clear away what nothing needs: experiments that nothing references, trials, leftovers.

    Experiments that no batch, publication, training run or other experiment points to, those that were never finished
    and nobody is making, and agent data sets of trials go to the trash, if nobody touched them for a day: `synthtrack
    restore` brings them back. In MLflow's own store, runs that the record does not know are put out of sight, and
    deleted runs older than AGE are removed with their files. What killed processes left is removed.
    """
    from tracker.deleting import trash

    there = _unneeded(workspace, older_than, copies=copies, no_mlflow=no_mlflow)
    if not dry_run and not yes and (there or empty_trash):
        render.note("\n".join(lines(workspace, there)))
        confirm("Clear this away?", yes=yes)
    done: list[Deleted] = []
    if not dry_run:
        trash.settle_all(workspace)
        gone = _delete(workspace, [one for one, _ in there.data], no_mlflow=no_mlflow)
        done = [each for _, each in gone]
        there.data = [(one, each.contents) for one, each in gone]
        _remove(there.parts, there.copies)
        there.leftovers = None if no_mlflow else _clear(workspace, older_than, dry_run=False)
    emptied = _empty(workspace, older_than, dry_run=dry_run) if empty_trash else None
    if as_json:
        about = plain(workspace, there, [each.entry for each in done])
        render.show_json({"dry_run": dry_run, **about, "emptied": emptied})
        return
    render.show("\n".join(lines(workspace, there)))
    if emptied is not None:
        render.show(f"Trash: {len(emptied['entries']) + len(emptied['strays']):,} gone, {size(emptied['n_bytes'])}.")
    if dry_run:
        render.show("Nothing was changed (--dry-run).")
    elif done:
        render.show("💾 `synthtrack trash list` shows what can be restored.")


def _unneeded(workspace: Workspace, age: timedelta, *, copies: bool, no_mlflow: bool) -> Unneeded:
    from tracker.deleting import garbage, trash

    with reading(workspace) as reader:
        data = [(each, trash.preview(reader, workspace, each.plan)) for each in garbage.unneeded(reader, workspace)]
    old = garbage.old_copies(workspace, age) if copies else []
    leftovers = None if no_mlflow else _clear(workspace, age, dry_run=True)
    return Unneeded(data, garbage.abandoned(workspace), old, leftovers)


def _delete(workspace: Workspace, found: Sequence[Found], *, no_mlflow: bool) -> list[tuple[Found, Deleted]]:
    """Moves to the trash what is not needed even now; of the rest it is said why it stays."""
    from cli.progress import command_line
    from tracker.deleting import garbage, trash
    from tracker.record.database import open_database

    done = []
    with open_database(workspace) as database:
        for each in found:
            still = partial(garbage.is_unneeded, each)
            about: dict[str, Any] = {"by": "gc", "command": command_line(), "from_batches": each.from_batches}
            try:
                done.append((each, trash.delete(workspace, database, each.plan, still=still, **about)))
            except Conflict as error:
                render.note(f"Left alone: {render.harmless(error.message)}")
        if not no_mlflow:
            tell_mlflow(workspace, database)
    return done


def _clear(workspace: Workspace, age: timedelta, *, dry_run: bool) -> Leftovers | None:
    from tracker.mlflow_runs.mlflow_store import clear, is_ours

    if not is_ours(workspace) or not workspace.mlflow_store.exists():
        return None
    return clear(workspace, age, dry_run=dry_run)


def _remove(parts: Sequence[Path], copies: Sequence[Path]) -> None:
    from tracker.durable import remove

    for path in (*parts, *copies):
        remove(path)


def _empty(workspace: Workspace, age: timedelta, *, dry_run: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from tracker.deleting.trash_entries import empty
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        return asdict(empty(workspace, database, age, dry_run=dry_run))
