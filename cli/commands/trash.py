"""``synthtrack trash``: what was deleted and can be restored, and emptying it by age."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta

import click

from cli import options, render
from cli.commands.delete import confirm, yes_option
from cli.text.deletion_text import size
from tracker.paths import Workspace
from tracker.record.catalogue import reading

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}


def age(_: click.Context, __: click.Parameter, given: str) -> timedelta:
    """The callback of ``--older-than``: ``30d``, ``12h``, ``2w``. Raises BadParameter."""
    matched = re.fullmatch(r"\s*(\d{1,5})\s*([dhmw]?)\s*", given, re.ASCII)
    if matched is None:
        raise click.BadParameter(f"{given!r} is no age, such as 30d, 12h or 2w.")
    return timedelta(**{_UNITS[matched[2] or "d"]: int(matched[1])})


older_than = click.option(
    "--older-than", default="30d", show_default=True, callback=age, metavar="AGE", help="For example 30d, 12h or 2w."
)


@click.group()
def trash() -> None:
    """List what was deleted, and empty the trash by age. `synthtrack restore ENTRY` brings something back."""


@trash.command("list")
@options.as_json
@options.workspace
def list_trash(workspace: Workspace, *, as_json: bool) -> None:
    """Everything in the trash, newest first, and whether it can be restored."""
    from tracker.deleting.trash_entries import entries, strays

    with reading(workspace) as reader:
        found, others = entries(reader, workspace), strays(reader, workspace)
    if as_json:
        aside = [
            {"path": workspace.relative(each.path), "since": each.since.isoformat(), "n_bytes": each.n_bytes}
            for each in others
        ]
        render.show_json({"entries": found, "aside": aside})
        return
    for row in found:
        fingerprint = f" ({row['fingerprint']})" if row["fingerprint"] else ""
        symbol = "🗑️ " if row["state"] == "restorable" else "⚠️ "
        render.show(f"{symbol} {row['id'][:8]}  {row['what']} {render.harmless(row['name'])}{fingerprint}")
        holds = f"{render.counted(row['n_rows'], 'row')}, {size(row['n_bytes'])}"
        render.show(f"   {render.moment(row['deleted_at'])} by {row['deleted_by']}: {holds}; {row['state']}")
    if others:
        total = sum(each.n_bytes for each in others)
        render.show(f"{render.counted(len(others), 'thing')} put aside by the view or left over, {size(total)}:")
        for each in others:
            render.show(f"   {workspace.relative(each.path)}")
    if found:
        render.show("\n💾 `synthtrack restore ENTRY` brings one back: by id, name or fingerprint.")
    elif not others:
        render.show("The trash is empty.")


@trash.command("empty")
@older_than
@yes_option
@click.option("--dry-run", is_flag=True, help="Show what would go; change nothing.")
@options.as_json
@options.workspace
def empty_trash(workspace: Workspace, *, older_than: timedelta, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove for good what has been in the trash for longer than AGE. It cannot be restored after that.

    The ledger keeps every answer that was paid for.
    """
    from tracker.deleting.trash_entries import empty
    from tracker.record.database import open_database

    with reading(workspace), open_database(workspace) as database:
        if not dry_run and not yes:
            wanted = empty(workspace, database, older_than, dry_run=True)
            if wanted.entries or wanted.strays:
                render.note(f"To be removed for good: {_summed_up(wanted.entries, wanted.strays, wanted.n_bytes)}")
                confirm("Remove it for good?", yes=yes)
        done = empty(workspace, database, older_than, dry_run=dry_run)
    if as_json:
        render.show_json({"dry_run": dry_run, **asdict(done)})
        return
    for name in (*done.entries, *done.strays):
        render.show(f"   {render.harmless(name)}")
    word = "Would be removed" if dry_run else "Removed for good"
    render.show(f"{word}: {_summed_up(done.entries, done.strays, done.n_bytes)}.")


def _summed_up(entries: tuple[str, ...], strays: tuple[str, ...], n_bytes: int) -> str:
    parts = [render.counted(len(entries), "entry", "entries")] if entries else []
    parts += [render.counted(len(strays), "other thing")] if strays else []
    return f"{', '.join(parts)}, {size(n_bytes)}" if parts else "nothing is that old"
