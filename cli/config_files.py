"""The configs that a command line names: files, and directories of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import click

from cli import render
from tracker.errors import ConfigError, Error, Problem
from tracker.paths import Workspace, is_new, workspace_of

YAML = (".yaml", ".yml")


class Job(Protocol):
    """What a config asks for, checked."""

    @property
    def warnings(self) -> Sequence[str]: ...


JobT = TypeVar("JobT", bound=Job)


def prepared(
    workspace: Workspace,
    given: tuple[Path, ...],
    prepare: Callable[[Path], JobT],
    *,
    dry_run: bool,
    missing: Callable[[JobT], Sequence[Error]] = lambda _: (),
    suffixes: Sequence[str] = YAML,
) -> list[JobT]:
    """What ``prepare`` makes of each config that ``given`` names; their warnings, and a new workspace, are said.

    ``missing`` gives what keeps a job from asking anybody: a dry run says it. No workspace is made where none of the
    jobs could run: the first of it is raised. Raises what ``prepare`` raises, ConfigError and UsageError: before
    anything is said.
    """
    new = is_new(workspace)
    if new:
        refuse_elsewhere(workspace, given)
    jobs = [prepare(path) for path in config_files(workspace, given, suffixes=suffixes)]
    obstacles = [missing(job) for job in jobs] if new or dry_run else []
    if new and not dry_run and obstacles and all(obstacles):
        raise obstacles[0][0]
    for job in jobs:
        for warning in job.warnings:
            render.note(f"⚠️  {warning}")
    if dry_run:
        for said in dict.fromkeys(str(error) for found in obstacles for error in found):
            render.note(f"⚠️  {said}")
    if new:
        render.note_new_workspace(workspace.root, dry_run=dry_run)
    return jobs


def config_files(workspace: Workspace, given: tuple[Path, ...], *, suffixes: Sequence[str] = YAML) -> list[Path]:
    """Every config that ``given`` names; of a directory all files with ``suffixes``, by name.

    A file that is named itself may be called anything. Raises ConfigError and UsageError.
    """
    kinds = [suffix for suffix in suffixes if suffix != ".yml"]
    if not given:
        names = " or ".join(kind.removeprefix(".").upper() for kind in kinds)
        raise click.UsageError(f"Missing argument 'CONFIG...': a {names} file or a directory of them.")
    found: list[Path] = []
    for path in given:
        there = workspace.find(path)
        if not os.path.isdir(there):  # noqa: PTH112  Path.is_dir raises for names that are too long
            found.append(there)
            continue
        inside = sorted(each for each in there.rglob("*") if each.suffix in suffixes)
        if not inside:
            what = f"no {' or '.join(kinds)} files in this directory"
            raise ConfigError("There is no configuration.", [Problem(str(path), what)])
        found += inside
    return found


def refuse_elsewhere(workspace: Workspace, given: tuple[Path, ...]) -> None:
    """Raises ConfigError where a new workspace would be made here for a config that lies in another one."""
    for path in given:
        other = workspace_of(workspace.find(path))
        if other is not None:
            raise ConfigError(
                "There is no workspace here, and the configuration lies in another one.",
                [Problem(str(path), f"in the workspace {other}")],
                hint=f"Add --root {other}, or --root . to make a new workspace here.",
            )
