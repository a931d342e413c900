"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import click

from tracker.paths import Workspace, find_workspace

P = ParamSpec("P")
R = TypeVar("R")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def workspace(command: Callable[Concatenate[Workspace, P], R]) -> Callable[P, R]:
    """Gives a command the workspace in force as its first argument, and the ``--root`` option."""

    @click.option("--root", metavar="DIR", help="The workspace, where it is not found by itself.")
    @functools.wraps(command)
    def with_workspace(*args: P.args, **kwargs: P.kwargs) -> R:
        own = kwargs.pop("root", None)
        root = own if own is not None else click.get_current_context().find_root().obj
        return command(find_workspace(str(root) if root is not None else None), *args, **kwargs)

    return with_workspace
