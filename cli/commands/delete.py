"""What all commands that delete share: the question, what would go in numbers, what went and how it comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.render import harmless, note, show, show_json
from cli.text.deletion_text import described, in_short, plain
from tracker.errors import ConfigError, Interrupted, Problem
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading

if TYPE_CHECKING:
    from tracker.deleting.deletion import Plan
    from tracker.deleting.trash import Contents, Deleted
    from tracker.record.database import Database

Command = TypeVar("Command", bound=Callable[..., Any])
Subject = tuple[str, int]
"""A kind of tracker.deletion, and the id of the row."""

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_OPTIONS = (
    yes_option,
    click.option("--dry-run", is_flag=True, help="Show what would go; change nothing."),
    click.option("--no-mlflow", is_flag=True, help="Leave MLflow for later; `synthtrack mlflow sync` tells it."),
)


def deleting(command: Command) -> Command:
    """The options of every command that deletes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def delete_all(
    workspace: Workspace,
    find: Callable[[Reader], Sequence[Subject]],
    *,
    yes: bool,
    dry_run: bool,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    """Moves what ``find`` gives to the trash, once it is shown in numbers and agreed to.

    Raises Conflict where something forbids one of them.
    """
    from tracker.deleting import deletion, trash

    with reading(workspace) as reader:
        plans = [deletion.plan(reader, workspace, *subject) for subject in dict.fromkeys(find(reader))]
        for plan in plans:
            plan.refuse()
        contents = [trash.preview(reader, workspace, plan) for plan in plans]
    if dry_run:
        _show(contents, [], as_json=as_json)
        return
    if not yes:
        note("\n".join(line for each in contents for line in described(each, "To be deleted")))
    confirm("Move this to the trash?", yes=yes)
    done = _delete(workspace, plans, no_mlflow=no_mlflow)
    _show([each.contents for each in done], done, as_json=as_json)


def _delete(workspace: Workspace, plans: Sequence[Plan], *, no_mlflow: bool) -> list[Deleted]:
    """Moves what is planned to the trash, one after the other, and tells MLflow at the end."""
    from cli.progress import command_line
    from tracker.deleting import trash
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        done = [trash.delete(workspace, database, plan, by="delete", command=command_line()) for plan in plans]
        if not no_mlflow:
            tell_mlflow(workspace, database)
    return done


def tell_mlflow(workspace: Workspace, database: Database) -> None:
    """Takes the MLflow runs of what was deleted out of sight, and says where that failed."""
    from tracker.deleting import trash

    for error in trash.tell_mlflow(workspace, database):
        note(f"⚠️  MLflow: {error.splitlines()[0]} `synthtrack mlflow sync` tries again.")


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal; elsewhere --yes has to be given. Raises Interrupted for a no, ConfigError."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("Nobody can be asked here.", [Problem("--yes", "is needed where there is no terminal")])
    if not click.confirm(question, err=True):
        raise Interrupted("Nothing was changed.")


def _show(contents: Sequence[Contents], done: Sequence[Deleted], *, as_json: bool) -> None:
    if as_json:
        entries: list[dict[str, Any]] = [{"entry": each.entry, "id": each.uuid} for each in done]
        rows = [plain(each) | (entries[at] if done else {}) for at, each in enumerate(contents)]
        show_json({"dry_run": not done, "deleted": rows})
        return
    from tracker.deleting.deletion import WORDS

    for at, each in enumerate(contents):
        if not done:
            show("\n".join(described(each, "Would be deleted")))
            continue
        plan = each.plan
        show(f"🗑️  {WORDS[plan.kind].capitalize()} {harmless(plan.name)} is in the trash: {in_short(each)}.")
        show(f"   💾 `synthtrack restore {done[at].uuid[:8]}` brings it back.")
    if not done:
        show("Nothing was changed (--dry-run).")
