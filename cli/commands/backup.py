"""``synthtrack backup``, and the part of ``synthtrack restore`` that puts a backup back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from tracker.errors import Conflict, Interrupted
from tracker.paths import Workspace

if TYPE_CHECKING:
    from tracker.backups.copying import Progress
    from tracker.backups.restore import Confirm

_WORDS = {
    "experiments": ("experiment", None),
    "batches": ("batch", "batches"),
    "generation_runs": ("generation run", None),
    "training_runs": ("training run", None),
    "agent_datasets": ("agent data set", None),
    "task_pools": ("task pool", None),
    "attempts": ("paid attempt", None),
}


@click.command()
@click.argument("file", metavar="FILE")
@options.overwrite
@options.as_json
@options.workspace
def backup(workspace: Workspace, *, file: str, overwrite: bool, as_json: bool) -> None:
    """Copy the database to FILE while it is in use; a directory gets a dated file.

    The copy is one moment of the record, checked. From it `synthtrack restore FILE` brings back the record, the tree,
    the files in data and MLflow. What is not in it: result directories and their models, the original data sets, and
    configs; copy those with any tool.
    """
    from tracker.backups.backup import backup as make

    with bars() as progress:
        made = make(workspace, Path(file).expanduser(), overwrite=overwrite, progress=progress)
    if as_json:
        render.show_json(
            {"path": str(made.path), "n_bytes": made.n_bytes, "schema_version": made.version, **made.counts}
        )
        return
    render.show(f"✅ {made.path} ({made.n_bytes / 1e6:,.1f} MB), checked.")
    render.show(f"It holds {holdings(made.counts)}.")
    render.show(
        f"Not in it: what lies in {workspace.relative(workspace.results_dir)} and "
        f"{workspace.relative(workspace.original_dir)}, and your configs."
    )


def restore_file(workspace: Workspace, path: Path, *, yes: bool, as_json: bool) -> None:
    """Puts a backup in the place of the database, shows what changed, and brings the trees up to date."""
    from tracker.backups.restore import restore_backup
    from tracker.views.rebuilding import rebuild_trees

    with bars() as progress:
        done = restore_backup(workspace, path, confirm=None if yes else _confirm(path), progress=progress)
    kept = None if done.kept is None else workspace.relative(done.kept)
    if not as_json:
        _show(done.counts, done.before, kept)
    deleted = _known_again(workspace)
    with bars() as progress:
        trees = rebuild_trees(workspace, progress)
    if as_json:
        render.show_json(
            {
                "restored": dict(done.counts), "before": None if done.before is None else dict(done.before),
                "kept": kept, "schema_version": done.version, "trees": trees, "deleted_since": deleted,
            }
        )  # fmt: skip
        return
    written = sum(tree["written"] for tree in trees.values())
    aside = sum(tree["aside"] for tree in trees.values())
    moved = f" {render.counted(aside, 'entry', 'entries')} that it does not know went to .trash." if aside else ""
    render.show(f"The trees are what it says: {render.counted(written, 'entry', 'entries')} written.{moved}")
    if deleted:
        render.show(f"Deleted since, and still in the trash: {', '.join(map(render.harmless, deleted))}.")
    render.show("Next: `synthtrack mlflow sync --rebuild` tells MLflow what is in the record,")
    render.show("      `synthtrack verify --fix` puts out of its sight what is not, and checks everything.")


def _known_again(workspace: Workspace) -> list[str]:
    """What was made and deleted after the backup: it can be restored from the trash as before."""
    from tracker.deleting.trash_adopt import adopt, has_archives

    if not has_archives(workspace):
        return []
    from tracker.record.database import open_database

    with open_database(workspace) as database:
        return adopt(workspace, database)


@contextlib.contextmanager
def bars() -> Iterator[Progress | None]:
    """What draws a bar for each kind of work in turn, with its rate and the time left; None off a terminal."""
    if not render.is_terminal():
        yield None
        return
    from tqdm import tqdm

    kind = ""
    bar: tqdm[Any] = tqdm(disable=True)

    def progress(what: str, done: int, total: int) -> None:
        nonlocal kind, bar
        if what != kind:
            bar.close()
            kind, bar = what, tqdm(desc=what, mininterval=0.2, leave=False, unit="")
        bar.total = total or None
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        bar.close()


def holdings(counts: Mapping[str, int]) -> str:
    """``2 experiments, 1 batch``; what there is none of is left out."""
    named = [render.counted(number, *_WORDS[name]) for name, number in counts.items() if number and name in _WORDS]
    return ", ".join(named) or "nothing yet"


def _confirm(path: Path) -> Confirm:
    def confirm(new: Mapping[str, int], old: Mapping[str, int] | None) -> None:
        render.note(f"{path} holds {holdings(new)}.")
        render.note("The database cannot be read." if old is None else f"The database holds {holdings(old)}.")
        if not sys.stdin.isatty():
            raise Conflict("Nobody can be asked whether the database is to be replaced.", hint="--yes does it.")
        if not click.confirm("Replace it? It is kept in .trash.", err=True):
            raise Interrupted("Nothing was changed.")

    return confirm


def _show(new: Mapping[str, int], old: Mapping[str, int] | None, kept: str | None) -> None:
    render.show(f"✅ Restored: {holdings(new)}.")
    if old is not None:
        rows = [
            (_WORDS[name][0], f"{old[name]:,}", f"{number:,}", f"{number - old[name]:+,}")
            for name, number in new.items()
            if name in old and number != old[name]
        ]
        render.show(render.table(["", "before", "now", ""], rows) if rows else "It held as many of each kind before.")
    if kept is not None:
        render.show(f"What was there before is kept in {kept}.")
