"""``synthtrack view``: the directory tree and the files in data, made from the record and compared with it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click

from cli import options, render
from tracker.errors import Corrupt
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views.plan import Changes, Difference

_LISTED = 20
_OF_TREE = (("directories", "experiment"), ("files", "file"), ("links", "link"))


@dataclass(frozen=True)
class _Data:
    """What a tree below ``data/`` is called, how it is spoken of, and whether there is anything of it."""

    name: str
    directory: str
    words: str
    counted: tuple[tuple[str, str], ...]
    recorded: str
    rebuild: Callable[[Workspace, Reader], Changes]
    check: Callable[[Workspace, Reader], list[Difference]]

    def place(self, workspace: Workspace) -> Path:
        """Its directory."""
        return workspace.data_dir / self.directory

    def rebuilt(self, workspace: Workspace, reader: Reader) -> Changes:
        """What was done, by paths relative to the workspace."""
        done = self.rebuild(workspace, reader)

        def placed(paths: Sequence[str]) -> tuple[str, ...]:
            return tuple(_below_data(workspace, each) for each in paths)

        return replace(
            done,
            directories=placed(done.directories),
            files=placed(done.files),
            aside=placed(done.aside),
            leftovers=placed(done.leftovers),
            stamps=placed(done.stamps),
            unknown=placed(done.unknown),
        )

    def differences(self, workspace: Workspace, reader: Reader) -> list[Difference]:
        """Where it differs from the record, by paths relative to the workspace."""
        found = self.check(workspace, reader)
        return [replace(each, path=_below_data(workspace, each.path)) for each in found]


def _below_data(workspace: Workspace, path: str) -> str:
    return workspace.relative(workspace.data_dir / path)


def _data() -> tuple[_Data, ...]:
    from tracker.views import agent_view, pool_view

    return (
        _Data(
            "agents", agent_view.DIRECTORY, "{place}", (("files", "file"),),
            "SELECT id FROM agent_dataset LIMIT 1", agent_view.rebuild, agent_view.check,
        ),
        _Data(
            "pools", "", "the pools in {place}", (("directories", "pool"), ("files", "file")),
            "SELECT id FROM benchmark LIMIT 1", pool_view.rebuild, pool_view.check,
        ),
    )  # fmt: skip


@click.group()
def view() -> None:
    """Rebuild and check the directory tree, the agents' files and the pools'.

    The tree below Data_v2/synthetic, the files in data/agents, and those of pools and benchmarks in data are made from
    the database: they can be deleted and come back byte for byte.
    """


@view.command()
@options.as_json
@options.workspace
def rebuild(workspace: Workspace, *, as_json: bool) -> None:
    """Make the tree, and the files in data, what the database says, from whatever is there.

    What was edited or stood in the way is moved to .trash, never deleted; unknown files are left alone. In the JSON
    what was done to the agents' files is under `agents`, to those of pools and benchmarks under `pools`, where there
    are any, by paths relative to the workspace.
    """
    from tracker.deleting.trash import settle_all
    from tracker.views.synthetic_view import rebuild as rebuild_view

    settle_all(workspace)

    def tree(reader: Reader) -> Changes:
        with _bar() as progress:
            return rebuild_view(workspace, reader, progress)

    trees = _data()
    changes, *others = _each(workspace, tree, *(partial(each.rebuilt, workspace) for each in trees))
    if as_json:
        with reading(workspace) as reader:
            of_data = {
                each.name: asdict(done)
                for each, done in zip(trees, others, strict=True)
                if done or done.unknown or reader.rows(each.recorded)
            }
        render.show_json(asdict(changes) | of_data)
        return
    if not changes and not any(others):
        render.show("The tree is what the database says; nothing to do.")
    _show_changes(workspace.synthetic_dir, changes, _OF_TREE)
    for each, done in zip(trees, others, strict=True):
        place = f" in {workspace.relative(each.place(workspace))}"
        _show_changes(workspace.root, done, each.counted, place=place)


@view.command()
@options.as_json
@options.workspace
def check(workspace: Workspace, *, as_json: bool) -> None:
    """List where the tree, or a file in data, differs from the database; exit code 6 where it does. Changes nothing.

    In the JSON the tree's differences have `"tree": "synthetic"` and paths within it, those of the agents' files
    `"tree": "agents"` and those of pools and benchmarks `"tree": "pools"`, with paths relative to the workspace.
    """
    from tracker.views.synthetic_view import check as check_view

    trees = _data()
    with reading(workspace) as reader:
        found = check_view(workspace, reader)
        others = [each.differences(workspace, reader) for each in trees]
        recorded = [each for each in trees if reader.rows(each.recorded)]
    named = list(zip(trees, others, strict=True))
    if as_json:
        of_data = [asdict(each) | {"tree": tree.name} for tree, differences in named for each in differences]
        render.show_json([asdict(each) | {"tree": "synthetic"} for each in found] + of_data)
    elif found or any(others):
        _show_differences([*found, *(each for own in others for each in own)])
    else:
        words = [each.words.format(place=workspace.relative(each.place(workspace))) for each in recorded]
        are = _joined([workspace.relative(workspace.synthetic_dir), *words])
        render.show(f"{are} {'are' if words else 'is'} what the database says.")
    _refuse([(workspace.synthetic_dir, found), *((tree.place(workspace), own) for tree, own in named)])


def _refuse(found: Sequence[tuple[Path, Sequence[Difference]]]) -> None:
    """Raises Corrupt where anything differs."""
    wrong = [(directory, [each for each in own if each.what != "unknown"]) for directory, own in found]
    all_wrong = [each for _, own in wrong for each in own]
    if all_wrong:
        where = _joined([str(directory) for directory, own in wrong if own])
        raise Corrupt(
            f"{render.counted(len(all_wrong), 'difference')} between the database and {where}.", hint=_hint(all_wrong)
        )


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


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


def _show_changes(directory: Path, changes: Changes, words: Sequence[tuple[str, str]], place: str = "") -> None:
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


def _show_differences(found: Sequence[Difference]) -> None:
    for difference in found:
        detail = f"  ({difference.detail})" if difference.detail else ""
        alone = "  (left alone)" if difference.what == "unknown" else ""
        render.show(f"{difference.what:<17} {difference.path}{detail}{alone}")
    number_of = Counter(each.what for each in found)
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
