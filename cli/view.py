"""``synthtrack view``: the directory tree, made from the record and compared with it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import click

from cli import options, render
from tracker.catalogue import reading
from tracker.errors import Corrupt
from tracker.paths import Workspace
from tracker.view_plan import Changes, Difference

_LISTED = 20


@click.group()
def view() -> None:
    """Rebuild and check the directory tree.

    The tree below Data_v2/synthetic is made from the database: it can be deleted and comes back byte for byte.
    """


@view.command()
@options.as_json
@options.workspace
def rebuild(workspace: Workspace, *, as_json: bool) -> None:
    """Make the tree what the database says, from whatever is there.

    What was edited or stood in the way is moved to .trash, never deleted; unknown files are left alone.
    """
    from tracker.view import rebuild as rebuild_view

    with reading(workspace) as reader, _bar() as progress:
        changes = rebuild_view(workspace, reader, progress)
    if as_json:
        render.show_json(asdict(changes))
    else:
        _show_changes(workspace, changes)


@view.command()
@options.as_json
@options.workspace
def check(workspace: Workspace, *, as_json: bool) -> None:
    """List where the tree differs from the database; exit code 6 where it does. Changes nothing."""
    from tracker.view import check as check_view

    with reading(workspace) as reader:
        found = check_view(workspace, reader)
    if as_json:
        render.show_json([asdict(difference) for difference in found])
    else:
        _show_differences(workspace, found)
    wrong = [difference for difference in found if difference.what != "unknown"]
    if wrong:
        raise Corrupt(
            f"{render.counted(len(wrong), 'difference')} between the database and {workspace.synthetic_dir}.",
            hint=_hint(wrong),
        )


def _show_changes(workspace: Workspace, changes: Changes) -> None:
    if not changes:
        render.show("The tree is what the database says; nothing to do.")
    for paths, word in ((changes.directories, "experiment"), (changes.files, "file"), (changes.links, "link")):
        if paths:
            render.show(f"Wrote {render.counted(len(paths), word)}.")
    if changes.leftovers:
        render.show(f"Removed {render.counted(len(changes.leftovers), 'leftover')} of killed processes.")
    if changes.aside:
        render.show(f"Moved to {changes.trash}, because the database says otherwise:")
        _show_paths(changes.aside)
    if changes.unknown:
        render.show(f"Unknown to the database and left alone in {workspace.synthetic_dir}:")
        _show_paths(changes.unknown)


def _show_differences(workspace: Workspace, found: Sequence[Difference]) -> None:
    if not found:
        render.show(f"{workspace.relative(workspace.synthetic_dir)} is what the database says.")
        return
    for difference in found:
        detail = f"  ({difference.detail})" if difference.detail else ""
        alone = "  (left alone)" if difference.what == "unknown" else ""
        render.show(f"{difference.what:<17} {difference.path}{detail}{alone}")
    render.show()
    render.show(", ".join(f"{number:,} {what}" for what, number in Counter(each.what for each in found).items()))


def _show_paths(paths: Sequence[str]) -> None:
    for path in paths[:_LISTED]:
        render.show(f"  {path}")
    if len(paths) > _LISTED:
        render.show(f"  and {len(paths) - _LISTED:,} more (--json lists all)")


def _hint(wrong: Sequence[Difference]) -> str:
    lines = []
    if any(difference.what != "contradiction" for difference in wrong):
        lines.append("`synthtrack view rebuild` mends the tree; what was edited is kept in .trash.")
    if any(difference.what == "contradiction" for difference in wrong):
        lines.append("Where rows contradict each other, restore the database from a backup.")
    return "\n".join(lines)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    if not render.is_terminal():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=" entries", mininterval=0.2, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
