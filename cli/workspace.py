"""``synthtrack init`` and ``synthtrack config``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from cli import options, render
from tracker.errors import StorageError
from tracker.paths import Place, Workspace, find_workspace


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--root", metavar="DIR", help="The same as DIRECTORY.")
@click.pass_context
def init(context: click.Context, directory: Path | None, root: str | None) -> None:
    """Make a workspace: the database, example configs and sample data. Nothing that is there is overwritten."""
    chosen = directory or root or context.find_root().obj or "."
    workspace = find_workspace(chosen)
    from tracker.database import open_database

    open_database(workspace).close()
    written = _examples(workspace)
    render.show(f"✅ Workspace: {workspace.root}")
    render.show(
        f"   {render.counted(len(written), 'file')} written: example configs under configs/, sample data under "
        f"{workspace.relative(workspace.original_dir)}/"
    )
    render.show("💾 Next: synthtrack generate configs/stage1/copa_offline.yaml")


def _examples(workspace: Workspace) -> list[Path]:
    """Copies the examples that ship with the package; gives the files that were not there."""
    from importlib.resources import as_file, files

    written = []
    with as_file(files("configs")) as source:
        for part, target in (
            ("stage1", workspace.configs_dir / "stage1"),
            ("stage2", workspace.configs_dir / "stage2"),
            ("sample", workspace.original_dir),
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
        {
            "name": place.name,
            "value": place.value,
            "origin": place.origin,
            "usable": _usable(workspace, place),
            "purpose": place.purpose,
        }
        for place in workspace.places()
    ] + [
        {
            "name": variable,
            "value": "set" if workspace.environ.get(variable) else "not set",
            "origin": "environment",
            "usable": "yes" if workspace.environ.get(variable) else "no key",
            "purpose": "API key",
        }
        for variable in ("OPENAI_API_KEY", "TOGETHER_API_KEY")
    ]
    if as_json:
        render.show_json(rows)
        return
    from tabulate import tabulate

    render.show(tabulate(rows, headers="keys", disable_numparse=True))


def _usable(workspace: Workspace, place: Place) -> str:
    if place.name == "mlflow" and not place.value.startswith("sqlite:"):
        return "server"
    if place.name == "database" and workspace.database_url is not None:
        return "server"
    path = Path(place.value.removeprefix("sqlite:///") if place.name == "mlflow" else place.value)
    if path.exists():
        return "yes" if os.access(path, os.W_OK) else "read-only"
    parent = next((each for each in path.parents if each.exists()), Path("/"))
    return "not there yet" if os.access(parent, os.W_OK) else "cannot be made"
