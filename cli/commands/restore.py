"""``synthtrack restore``: brings back an entry of the trash, or puts a backup in the place of the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options, render
from tracker.errors import Corrupt
from tracker.paths import Workspace

if TYPE_CHECKING:
    from tracker.deleting.trash_restore import Restored


@click.command()
@click.argument("what", metavar="ENTRY|FILE")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, where a backup is to take the database's place.")
@click.option("--no-mlflow", is_flag=True, help="Leave MLflow for later; `synthtrack mlflow sync` tells it.")
@options.as_json
@options.workspace
def restore(workspace: Workspace, *, what: str, yes: bool, no_mlflow: bool, as_json: bool) -> None:
    """Bring back what was deleted, or a backup.

    ENTRY is in the trash: the beginning of its id or fingerprint, or a name, of which the newest is meant;
    `synthtrack trash list` shows them. FILE was written by `synthtrack backup` and takes the place of the database.
    """
    path = Path(what).expanduser()
    if path.is_file():
        from cli.commands.backup import restore_file

        restore_file(workspace, path, yes=yes, as_json=as_json)
        return
    _restore_entry(workspace, what, no_mlflow=no_mlflow, as_json=as_json)


def _restore_entry(workspace: Workspace, ref: str, *, no_mlflow: bool, as_json: bool) -> None:
    from cli.progress import log_to_mlflow
    from tracker.deleting.trash_restore import restore_entry
    from tracker.mlflow_runs.mlflow_store import bring_back
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        done = restore_entry(workspace, database, ref)
    if not no_mlflow:
        if done.mlflow_runs:
            bring_back(workspace, done.mlflow_runs)
        log_to_mlflow(workspace)
    if as_json:
        render.show_json(
            {
                "kind": done.kind, "name": done.name, "n_rows": done.n_rows, "renamed": done.renamed,
                "damaged": list(done.damaged), "missing": list(done.missing), "left": done.left,
            }
        )  # fmt: skip
    else:
        _show(done)
    if done.damaged:
        what = render.counted(len(done.damaged), "file is", "files are")
        raise Corrupt(f"{what} not as deleted; the rows are back, and the archive is kept.", hint=_listed(done.damaged))


def _show(done: Restored) -> None:
    from tracker.deleting.deletion import WORDS

    what = f"{WORDS[done.kind].capitalize()} {render.harmless(done.name)}"
    if done.n_rows:
        render.show(f"✅ {what} is back: {render.counted(done.n_rows, 'row')}.")
    else:
        render.show(f"✅ {what} is there as it was: it had come back another way.")
    if done.renamed is not None:
        render.show(f"   Its name is taken by now; it is called {render.harmless(done.renamed)}.")
    if done.missing:
        n_missing = render.counted(len(done.missing), "experiment of it is", "experiments of it are")
        render.show(f"   ⚠️ {n_missing} not there any more: {', '.join(done.missing)}")
        again = f"`synthtrack restore {done.missing[0]}`, then `synthtrack restore {done.name}` again"
        render.show(f"   {again}, puts it back into the batch: until then the entry stays in the trash.")
    if done.left is not None:
        render.show(f"   ⚠️ Something else is in the place of some files; they are still in {done.left}.")


def _listed(paths: tuple[str, ...]) -> str:
    return "\n".join(f"  {render.harmless(path)}" for path in paths)
