"""``synthtrack view``: the directory tree and the agents' files, made from the record and compared with it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from cli import options, render
from tracker.catalogue import Reader, reading
from tracker.errors import Corrupt
from tracker.paths import Workspace
from tracker.view_plan import Changes, Difference

_LISTED = 20


@click.group()
def view() -> None:
    """Rebuild and check the directory tree and the agents' files.

    The tree below Data_v2/synthetic and the files in data/agents are made from the database: they can be deleted and
    come back byte for byte.
    """


@view.command()
@options.as_json
@options.workspace
def rebuild(workspace: Workspace, *, as_json: bool) -> None:
    """Make the tree, and the agents' files, what the database says, from whatever is there.

    What was edited or stood in the way is moved to .trash, never deleted; unknown files are left alone. In the JSON
    what was done to the agents' files is under `agents`, where there are any.
    """
    from tracker import agent_view
    from tracker.view import rebuild as rebuild_view

    def tree(reader: Reader) -> Changes:
        with _bar() as progress:
            return rebuild_view(workspace, reader, progress)

    changes, of_agents = _each(workspace, tree, lambda reader: agent_view.rebuild(workspace, reader))
    if as_json:
        has_agents = _has_agents(workspace) or bool(of_agents) or bool(of_agents.unknown)
        render.show_json(asdict(changes) | ({"agents": asdict(of_agents)} if has_agents else {}))
        return
    if not changes and not of_agents:
        render.show("The tree is what the database says; nothing to do.")
    _show_changes(workspace.synthetic_dir, changes)
    _show_changes(workspace.data_dir, of_agents, place=f" in {workspace.relative(_agents_dir(workspace))}")


@view.command()
@options.as_json
@options.workspace
def check(workspace: Workspace, *, as_json: bool) -> None:
    """List where the tree, or an agents' file, differs from the database; exit code 6 where it does. Changes nothing.

    In the JSON a difference of the agents' files has `"tree": "agents"`.
    """
    from tracker import agent_view
    from tracker.view import check as check_view

    with reading(workspace) as reader:
        found, of_agents = check_view(workspace, reader), agent_view.check(workspace, reader)
    if as_json:
        render.show_json([asdict(each) for each in found] + [asdict(each) | {"tree": "agents"} for each in of_agents])
    else:
        _show_differences(workspace, found, of_agents)
    wrong = {
        directory: [each for each in differences if each.what != "unknown"]
        for directory, differences in ((workspace.synthetic_dir, found), (_agents_dir(workspace), of_agents))
    }
    number = sum(map(len, wrong.values()))
    if number:
        where = " and ".join(str(directory) for directory, differences in wrong.items() if differences)
        raise Corrupt(
            f"{render.counted(number, 'difference')} between the database and {where}.",
            hint=_hint([each for differences in wrong.values() for each in differences]),
        )


def _each(workspace: Workspace, *work: Callable[[Reader], Changes]) -> list[Changes]:
    """What each did, with a reader of its own: rows that contradict each other in one tree do not keep the others."""
    done, problems = [], []
    for rebuild_tree in work:
        try:
            with reading(workspace) as reader:
                done.append(rebuild_tree(reader))
        except Corrupt as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return done


def _agents_dir(workspace: Workspace) -> Path:
    from tracker.agent_view import DIRECTORY

    return workspace.data_dir / DIRECTORY


def _has_agents(workspace: Workspace) -> bool:
    with reading(workspace) as reader:
        return bool(reader.rows("SELECT id FROM agent_dataset LIMIT 1"))


def _show_changes(directory: Path, changes: Changes, place: str = "") -> None:
    words = (("files", "file"),) if place else (("directories", "experiment"), ("files", "file"), ("links", "link"))
    for name, word in words:
        paths = getattr(changes, name)
        if paths:
            render.show(f"Wrote {render.counted(len(paths), word)}{place}.")
    if changes.leftovers:
        render.show(f"Removed {render.counted(len(changes.leftovers), 'leftover')} of killed processes{place}.")
    if changes.aside:
        render.show(f"Moved to {changes.trash}, because the database says otherwise:")
        _show_paths(changes.aside)
    if changes.unknown:
        render.show(f"Unknown to the database and left alone in {directory}:")
        _show_paths(changes.unknown)


def _show_differences(workspace: Workspace, found: Sequence[Difference], of_agents: Sequence[Difference]) -> None:
    if not found and not of_agents:
        tree = workspace.relative(workspace.synthetic_dir)
        both = (
            f"{tree} and {workspace.relative(_agents_dir(workspace))} are" if _has_agents(workspace) else f"{tree} is"
        )
        render.show(f"{both} what the database says.")
        return
    data = workspace.relative(workspace.data_dir)
    for difference in [*found, *(replace(each, path=f"{data}/{each.path}") for each in of_agents)]:
        detail = f"  ({difference.detail})" if difference.detail else ""
        alone = "  (left alone)" if difference.what == "unknown" else ""
        render.show(f"{difference.what:<17} {difference.path}{detail}{alone}")
    number_of = Counter(each.what for each in (*found, *of_agents))
    render.show()
    render.show(", ".join(f"{number:,} {what}" for what, number in number_of.items()))


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
