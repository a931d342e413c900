"""``synthtrack init`` and ``synthtrack config``."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from cli import options, render
from tracker.errors import ConfigError, StorageError
from tracker.paths import (
    Place,
    Workspace,
    current_directory,
    find_workspace,
    mark_above,
    without_password,
)


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--root", metavar="DIR", help="The same as DIRECTORY.")
@options.as_json
@click.pass_context
def init(context: click.Context, *, directory: Path | None, root: str | None, as_json: bool) -> None:
    """Make a workspace: the database, example configs and sample data. Nothing that is there is overwritten."""
    chosen = directory or root or context.find_root().obj or "."
    workspace = find_workspace(chosen)
    from tracker.record.database import open_database

    mark = mark_above(workspace.root)
    if mark is not None and mark.parent != workspace.root:
        render.note(f"💾 Note: this lies within the workspace {mark.parent}; what is there is not seen from here.")
    open_database(workspace).close()
    written = _examples(workspace)
    if as_json:
        render.show_json({"workspace": str(workspace.root), "written": [workspace.relative(path) for path in written]})
        return
    render.show(f"✅ Workspace: {workspace.root}")
    render.show(
        f"   {render.counted(len(written), 'file')} written: example configs under configs/, sample data under "
        f"{workspace.relative(workspace.original_dir)}/ and {workspace.relative(workspace.data_dir / 'inputs')}/"
    )
    here = current_directory()
    there = "" if here in {None, workspace.root} else f"cd {shlex.quote(os.path.relpath(workspace.root, here))} && "
    render.show(f"💾 Next: {there}synthtrack generate configs/stage1/copa_offline.yaml")
    render.show(f"   or:   {there}synthtrack perspectives configs/perspectives/translation_offline.yaml")


def _examples(workspace: Workspace) -> list[Path]:
    """Copies the examples that ship with the package; gives the files that were not there."""
    from importlib.resources import as_file, files

    written = []
    with as_file(files("configs")) as source:
        for part, target in (
            ("stage1", workspace.configs_dir / "stage1"),
            ("stage2", workspace.configs_dir / "stage2"),
            ("perspectives", workspace.configs_dir / "perspectives"),
            ("pools", workspace.configs_dir / "pools"),
            ("sample", workspace.original_dir),
            ("inputs", workspace.data_dir / "inputs"),
        ):
            for path in sorted((source / part).rglob("*")):
                copy = target / path.relative_to(source / part)
                if path.is_dir() or copy.exists():
                    continue
                try:
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
                except OSError as error:
                    raise StorageError(f"{copy} cannot be written: {error.strerror}.") from error
                written.append(copy)
    return written


@click.command()
@options.as_json
@options.workspace
def config(workspace: Workspace, /, *, as_json: bool) -> None:
    """Show every path and setting in force, where each came from, and whether it is usable."""
    rows = [
        *(_row(place, _usable(workspace, place)) for place in workspace.places()),
        *(_row(place, usable) for place, usable in _providers(workspace)),
    ]
    if as_json:
        render.show_json(rows)
        return
    from tabulate import tabulate

    render.show(tabulate(rows, headers="keys", disable_numparse=True))


def _row(place: Place, usable: str) -> dict[str, str]:
    return {
        "name": place.name,
        "value": place.value,
        "origin": place.origin,
        "usable": usable,
        "purpose": place.purpose,
    }


def _providers(workspace: Workspace) -> Iterator[tuple[Place, str]]:
    """The variables by which providers are reached, each with whether it is usable; never the value of a key."""
    from pipeline.providers import PROVIDERS

    for name, known in PROVIDERS.items():
        variable = known["base_url_env"]
        if variable:
            given = workspace.environ.get(variable)
            origin = "environment" if given else "default"
            place = Place(variable, without_password(given or known["url"]), f"address of {name}", origin)
            yield place, _address_usable(given or known["url"])
    for name, known in PROVIDERS.items():
        variable = known["api_key_env"]
        if variable:
            there = bool(workspace.environ.get(variable))
            place = Place(variable, "set" if there else "not set", f"API key of {name}", "environment")
            yield place, "yes" if there else "no key"


def _address_usable(url: str) -> str:
    from pydantic import ValidationError

    from pipeline.specs import ModelSpec

    try:
        ModelSpec.model_validate({"model": "any", "base_url": url})
    except ValidationError as error:
        return f"no: it {error.errors()[0]['msg'].removeprefix('Value error, base_url ')}"
    return "yes"


def _usable(workspace: Workspace, place: Place) -> str:
    if place.name == "busy_timeout":
        return _accepted(lambda: workspace.busy_timeout, "yes")
    if place.name == "mlflow" and not place.value.startswith("sqlite:"):
        return "server"
    if place.name == "database" and workspace.database_url is not None:
        from tracker.record.database import server_url

        return _accepted(lambda: server_url(str(workspace.database_url)), "server")
    path = Path(place.value.removeprefix("sqlite:///") if place.name == "mlflow" else place.value)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        parent = next((each for each in path.parents if each.exists()), Path("/"))
        possible = parent.is_dir() and os.access(parent, os.W_OK) and not path.is_symlink()
        return "not there yet" if possible else "cannot be made"
    except OSError as error:
        return f"no: {error.strerror}"
    return "yes" if os.access(path, os.W_OK) else "read-only"


def _accepted(read: Callable[[], object], usable: str) -> str:
    try:
        read()
    except ConfigError as error:
        return f"no: {error.problems[0].what}"
    return usable
