"""Options that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import click

from tracker.paths import Workspace, find_workspace

P = ParamSpec("P")
R = TypeVar("R")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
# --force is what some of these commands called it first.
overwrite = click.option("--overwrite", "--force", is_flag=True, help="Replace a file that is there already.")
dry_run = click.option(
    "--dry-run", is_flag=True, help="Show what would be done and what it would cost; no call is made."
)
fresh = click.option("--fresh", is_flag=True, help="Another draw of the same settings, asked and paid for anew.")
wait = click.option(
    "--wait", is_flag=True, help="Where another process makes this now, wait for it and share its data."
)
no_mlflow = click.option("--no-mlflow", is_flag=True, help="Leave logging to MLflow for `synthtrack mlflow sync`.")


def checked_range(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """The callback of ``--range``: ``21-40`` as it is, ``21`` as ``21-21``. Raises BadParameter."""
    if given is None:
        return None
    matched = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", given, re.ASCII)
    first, last = (int(matched[1]), int(matched[2] or matched[1])) if matched else (0, 0)
    if not 1 <= first <= last:
        raise click.BadParameter(f"{given!r} is no range of samples, such as 21-40.")
    return f"{first}-{last}"


def checked_name(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """The callback of ``--annotator``: the name without spaces around it. Raises BadParameter."""
    if given is not None and not (given.strip() and given.isprintable()):
        raise click.BadParameter(f"{given!r} is no name.")
    return given and given.strip()


def workspace(command: Callable[Concatenate[Workspace, P], R]) -> Callable[P, R]:
    """Gives a command the workspace in force as its first argument, and the ``--root`` option."""

    @click.option("--root", metavar="DIR", help="The workspace, where it is not found by itself.")
    @functools.wraps(command)
    def with_workspace(*args: P.args, **kwargs: P.kwargs) -> R:
        own = kwargs.pop("root", None)
        root = own if own is not None else click.get_current_context().find_root().obj
        return command(find_workspace(str(root) if root is not None else None), *args, **kwargs)

    return with_workspace
