"""The directory tree that training scripts read, kept as the record says: it can be deleted and comes back.

Here: which part of the tree is compared, and written. Behind it:

    rows   what the record says that the tree holds
    plan   plan(wanted, tree) -> changes, pure
    tree   look at the disk, and apply the changes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import SHARED, Workspace, name_problem
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.imported import in_view
from tracker.views.pending import without_pending
from tracker.views.plan import (
    DIRECTORY,
    LINK,
    Changes,
    Difference,
    Entry,
    Expected,
    Wanted,
    differences,
    experiment_of,
    own_link,
    parent_of,
    plan,
    union,
)
from tracker.views.rows import Record, completed_ns, home_of, is_finished, link_of
from tracker.views.tree import LOCK_TIMEOUT_S, Tree, explained, look, stamp, walk, writing

_AHEAD = 256
"""So many experiments are written before they are seen: a kill leaves no more of them to clear away."""


def refresh(
    workspace: Workspace,
    reader: Reader,
    experiment_ids: Iterable[int],
    *,
    deep: bool = False,
    patience_s: float = LOCK_TIMEOUT_S,
) -> Changes:
    """Brings the directories and batch links of these experiments up to date; gives what was done.

    Without ``deep`` a file is taken as right by its size and time. Raises StorageError where the tree cannot be
    written, Conflict where another process is still writing it after ``patience_s``, and, when all the rest is done,
    Corrupt where rows contradict each other.
    """
    ids = sorted(set(experiment_ids))
    problems: list[Difference] = []
    with explained(workspace):
        changes = _bring(workspace.synthetic_dir, _record(workspace, reader), ids, None, problems, deep=deep)
    if changes:
        # What is written must come from a snapshot younger than the lock: an older one could undo another's work.
        with writing(workspace, patience_s, ahead=_AHEAD) as tree, reading(workspace) as fresh:
            problems.clear()
            changes = _bring(workspace.synthetic_dir, _record(workspace, fresh), ids, tree, problems, deep=deep)
    refuse(problems)
    return changes


def rebuild(workspace: Workspace, reader: Reader, progress: Callable[[int, int], None] | None = None) -> Changes:
    """Brings the whole tree up to date, also from nothing; gives what was done and what is unknown.

    ``reader`` must not have been used before, so that it sees what others wrote until this got its turn. ``progress``
    gets how many experiments and batches are done, and of how many. Raises as ``refresh`` does.
    """
    problems: list[Difference] = []
    with writing(workspace, ahead=_AHEAD) as tree:
        parts = _parts(workspace.synthetic_dir, _record(workspace, reader), problems, progress)
        done = union(part.apply(tree) for part in parts)
    refuse(problems)
    return done


def check(
    workspace: Workspace,
    reader: Reader,
    only: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Difference]:
    """Where the tree, or the directories of ``only`` these experiments, differ from the record; changes nothing.

    Content is compared; what was deleted and is still to be moved is no difference. ``progress`` gets how many
    experiments and batches are done, and of how many.
    """
    found: list[Difference] = []
    missing: set[str] = set()
    with explained(workspace):
        for part in _checked(workspace.synthetic_dir, _record(workspace, reader), found, only, progress):
            missing.update(part.changes.directories)
            found.extend(differences(part.changes, part.tree))
            found.extend(_dangling(part, missing))
    return without_pending(reader, workspace, found, workspace.synthetic_dir)


def _checked(
    root: Path,
    record: Record,
    problems: list[Difference],
    only: Sequence[int] | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Part]:
    if only is None:
        yield from _parts(root, record, problems, progress)
        return
    for experiment_id in only:
        if in_view(record.experiment(experiment_id)):
            yield from _experiment(root, record, experiment_id, problems)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a tree that is compared and written at once."""

    changes: Changes
    tree: Mapping[str, Entry]
    content: Mapping[str, bytes] = field(default_factory=dict)
    mtime_ns: int = 0

    def apply(self, tree: Tree) -> Changes:
        """Makes the changes; gives what was done."""
        if self.changes or self.changes.stamps:
            return tree.apply(self.changes, self.content, self.mtime_ns)
        return self.changes

    def bring(self, root: Path, tree: Tree | None) -> Changes:
        """What is to be done, and done where there is a ``tree``; without one wrong times alone are mended."""
        if tree is not None:
            return self.apply(tree)
        stamp(root, self.changes.stamps, self.mtime_ns)
        return self.changes


def _bring(
    root: Path, record: Record, ids: Sequence[int], tree: Tree | None, problems: list[Difference], *, deep: bool
) -> Changes:
    """What is to be done for ``ids``; with a ``tree`` it is done. Directories that look right are not read."""
    experiments, expected = record.expected(ids)
    glance = plan(Wanted(expected), look(root, (path for files in expected.values() for path in files)))
    suspects = set(experiments) if deep else {*glance.directories, *map(experiment_of, glance.files)}
    done = []
    for home in sorted(suspects):
        if tree is None and home in glance.directories:
            done.append(Changes(directories=(home,)))
            continue
        done += [part.bring(root, tree) for part in _experiment(root, record, experiments[home], problems)]
    links, older = dict[str, str](), set[str]()
    try:
        links, older = record.links(ids)
    except Corrupt as error:
        problems.append(Difference("batch links", "contradiction", error.message))
    tree_of_links = look(root, links)
    links = _without_older(links, older, tree_of_links)
    done.append(Part(plan(Wanted(links=links), tree_of_links), tree_of_links).bring(root, tree))
    return union(done)


def _parts(
    root: Path, record: Record, problems: list[Difference], progress: Callable[[int, int], None] | None
) -> Iterator[Part]:
    """The whole tree: what lies between the pieces, each experiment, each batch."""
    experiments = record.experiments()
    batches = record.batches()
    known = {path for row in experiments for path in record.in_place(row)}
    # In a tree that was imported where it stands, links that the record does not know may be the older system's.
    abandoned = [] if known else list(_abandoned(root, {SHARED, *(row["name"] for row in batches)}))
    yield _between(root, experiments, [*batches, *abandoned], known)
    pieces = [row for row in experiments if in_view(row)]
    batches += abandoned
    total = len(pieces) + len(batches)
    for number, row in enumerate([*pieces, *batches]):
        if progress is not None:
            progress(number, total)
        if number < len(pieces):
            yield from _experiment(root, record, row["id"], problems)
        else:
            yield from _batch(root, record, row, problems, spare=bool(known))
    if progress is not None:
        progress(total, total)


def _between(root: Path, experiments: Sequence[Row], batches: Sequence[Row], in_place: set[str]) -> Part:
    known = {SHARED, *(row["name"] for row in batches), *in_place}
    known |= {f"{SHARED}/{row['dataset']}" for row in experiments}
    known |= {home_of(row) for row in experiments if in_view(row)}
    unfinished = {home_of(row) for row in experiments if not is_finished(row)}
    tree = walk(root, "", 1) | walk(root, SHARED, 2)
    return Part(plan(Wanted(known=known, unfinished=unfinished), tree), tree)


def _abandoned(root: Path, known: set[str]) -> Iterator[Row]:
    """Batches that are in the tree and no longer in the record: what is not known and holds the view's own links."""
    for name, entry in sorted(walk(root, "", 1).items()):
        if name in known or entry.kind != DIRECTORY or name_problem(name):
            continue
        if any(own_link(path, found) for path, found in walk(root, name, 2).items()):
            yield {"id": None, "name": name}


def _experiment(root: Path, record: Record, experiment_id: int, problems: list[Difference]) -> Iterator[Part]:
    experiment = record.experiment(experiment_id)
    home = home_of(experiment)
    try:
        content = record.files(experiment)
    except Corrupt as error:
        problems.append(Difference(home, "contradiction", error.message))
        return
    mtime_ns = completed_ns(experiment)
    files = {path: Expected(mtime_ns, len(data), bytes_digest([data])) for path, data in content.items()}
    tree = walk(root, home, 2, read=files)
    yield Part(plan(Wanted({home: files}), tree), tree, content, mtime_ns)


def _batch(
    root: Path, record: Record, batch: Row, problems: list[Difference], *, spare: bool = False
) -> Iterator[Part]:
    """A batch's links; ``spare`` leaves alone those that look like the view's and are not in the record."""
    rows = record.members(batch)
    name = batch["name"]
    tree = walk(root, name, 2)
    try:
        linked = [(link_of(name, row), row) for row in rows if is_finished(row) and record.is_linked(row)]
    except Corrupt as error:
        problems.append(Difference(name, "contradiction", error.message))
        return
    unfinished = {f"{name}/{row['dataset']}/{row['name']}" for row in rows if not is_finished(row)}
    older = {path for (path, _), row in linked if row["directory"] is not None}
    links = _without_older(dict(link for link, _ in linked), older, tree)
    known = {name, *(older - links.keys()), *(f"{name}/{row['dataset']}" for row in rows)}
    own = {path for path, entry in tree.items() if own_link(path, entry)}
    known |= {parent_of(path) for path in own}
    known |= own if spare else set()
    yield Part(plan(Wanted(links=links, known=known, unfinished=unfinished), tree), tree)


def _without_older(links: Mapping[str, str], older: set[str], tree: Mapping[str, Entry]) -> dict[str, str]:
    """``links`` without those to data in its ``older`` place that are there: however they lead to it, they stay."""
    there = {path for path in older if path in tree and tree[path].kind == LINK}
    return {path: target for path, target in links.items() if path not in there}


def _record(workspace: Workspace, reader: Reader) -> Record:
    return Record(reader, workspace.relative(workspace.shared_dir))


def _dangling(part: Part, missing: set[str]) -> Iterator[Difference]:
    for path, entry in part.tree.items() if missing else ():
        if own_link(path, entry):
            home = entry.target.removeprefix("../../")
            if home in missing and path not in part.changes.aside:
                yield Difference(path, "dangling", f"{home} is missing")


def refuse(problems: Sequence[Difference]) -> None:
    """Raises Corrupt where rows contradict each other."""
    if problems:
        lines = [f"{problem.path}: {problem.detail}" for problem in problems]
        raise Corrupt(
            "\n".join(["The database contradicts itself.", *lines]),
            hint="Nothing was written for these. Restore the database from a backup.",
        )
