"""What is kept below ``data/`` as the record says, and comes back byte for byte: the agents' files, the pools'.

Paths are text below the workspace's data directory. How they are compared and written is the synthetic tree's
(tracker.views.plan, tracker.views.tree).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.views.plan import (
    DIRECTORY,
    FILE,
    Changes,
    Difference,
    Entry,
    Expected,
    Wanted,
    differences,
    parent_of,
    plan,
    union,
)
from tracker.views.synthetic_view import Part, refuse
from tracker.views.tree import LOCK_TIMEOUT_S, Tree, explained, look, walk, writing

_HERE = Entry(DIRECTORY)


@dataclass(frozen=True)
class Files:
    """What a row of the record makes: files of one time, in a directory of their own, or in one that is shared."""

    home: str
    paths: tuple[str, ...]
    mtime_ns: int
    content: Callable[[], Mapping[str, bytes]]
    """The bytes by path; raises Corrupt."""
    owns_home: bool = False
    known: Mapping[str, bytes] = field(default_factory=dict)
    """Files whose content is had for nothing, so that they are compared by it at every glance."""
    is_settled: bool = True
    """Whether what was made at its time is what would be made now."""
    was_made: Callable[[str, bytes], bool] = lambda _path, _data: False
    """Whether the record once said this of a path: nobody edited it, and nothing is lost where it is replaced."""


@dataclass(frozen=True)
class Kept:
    """What is to lie below ``data/``; at ``unfinished`` paths nothing is to be seen yet."""

    files: Sequence[Files]
    shared: tuple[str, ...] = ()
    unfinished: AbstractSet[str] = frozenset()
    problems: Sequence[Difference] = ()


def refresh(
    workspace: Workspace,
    reader: Reader,
    kept: Callable[[Reader], Kept],
    *,
    deep: bool = False,
    patience_s: float = LOCK_TIMEOUT_S,
) -> Changes:
    """Brings what is kept up to date; gives what was done.

    Without ``deep`` a file is taken as right by its time. What was edited or stands in the way is moved to the trash.
    Raises StorageError where it cannot be written, Conflict where another process is still writing after
    ``patience_s``, and, when all the rest is done, Corrupt where rows contradict each other.
    """
    root, problems = workspace.data_dir, list[Difference]()
    with explained(workspace):
        changes = _bring(root, kept(reader), None, problems, deep=deep)
    if changes:
        # What is written must come from a snapshot younger than the lock: an older one could undo another's work.
        with writing(workspace, patience_s, root) as tree, reading(workspace) as fresh:
            problems.clear()
            changes = _bring(root, kept(fresh), tree, problems, deep=deep)
    refuse(problems)
    return changes


def rebuild(workspace: Workspace, reader: Reader, kept: Callable[[Reader], Kept]) -> Changes:
    """Brings all of it up to date, also from nothing; gives what was done and what is unknown.

    ``reader`` must not have been used before, so that it sees what others wrote until this got its turn. Raises as
    ``refresh`` does.
    """
    problems: list[Difference] = []
    with writing(workspace, root=workspace.data_dir) as tree:
        done = union(part.apply(tree) for part in _parts(workspace.data_dir, kept(reader), problems))
    refuse(problems)
    return done


def check(workspace: Workspace, kept: Kept, *, only_its_own: bool = False) -> list[Difference]:
    """Where the files differ from what is kept, by content; changes nothing.

    With ``only_its_own`` what lies beside them in a shared directory is not looked at.
    """
    found: list[Difference] = []
    with explained(workspace):
        for part in _parts(workspace.data_dir, kept, found, only_its_own=only_its_own):
            found.extend(differences(part.changes, part.tree))
    return found


def _bring(root: Path, kept: Kept, tree: Tree | None, problems: list[Difference], *, deep: bool) -> Changes:
    """What is to be done; with a ``tree`` it is done. Files that look right are not read."""
    problems.extend(kept.problems)
    suspects = [each for each in kept.files if deep or not each.is_settled or _differs(root, each)]
    done = []
    for home in kept.shared:
        part = _around(home, [each for each in suspects if each.home == home], look(root, [home]))
        done.append(part.bring(root, tree))
    for each in suspects:
        if tree is None and not look(root, each.paths).keys() & set(each.paths):
            done.append(Changes(files=each.paths))
            continue
        done += [part.bring(root, tree) for part in _made(root, each, problems)]
    return union(done)


def _parts(root: Path, kept: Kept, problems: list[Difference], *, only_its_own: bool = False) -> Iterator[Part]:
    """All of it: what lies around the files in shared directories, and the files."""
    problems.extend(kept.problems)
    for home in kept.shared:
        found = look(root, [home]) if only_its_own else walk(root, home, 1)
        yield _around(home, [each for each in kept.files if each.home == home], found, kept.unfinished)
    for each in kept.files:
        yield from _made(root, each, problems)


def _differs(root: Path, files: Files) -> bool:
    found = look(root, files.paths, read=files.known)
    known = {path: _expected(data, files.mtime_ns) for path, data in files.known.items()}
    expected = {path: Expected(files.mtime_ns) for path in files.paths} | known
    return bool(plan(Wanted({files.home: expected}), found))


def _around(
    home: str, files: Sequence[Files], found: Mapping[str, Entry], unfinished: AbstractSet[str] = frozenset()
) -> Part:
    """What is to be done about everything but the files: what is in their directory's place, strangers, leftovers."""
    paths = {path for each in files for path in each.paths}
    wanted = Wanted({home: {}} if files else {}, {}, {home, parent_of(home), *paths}, unfinished)
    # Each row's files are written with their own time, and the first of them make the directory.
    is_free = all(entry.kind == DIRECTORY for path, entry in found.items() if f"{home}/".startswith(f"{path}/"))
    return Part(plan(wanted, {home: _HERE, **found} if is_free else found), found)


def _made(root: Path, files: Files, problems: list[Difference]) -> Iterator[Part]:
    try:
        content = files.content()
    except Corrupt as error:
        problems.append(Difference(files.home if files.owns_home else files.paths[0], "contradiction", error.message))
        return
    expected = {path: _expected(data, files.mtime_ns) for path, data in content.items()}
    if files.owns_home:
        tree = walk(root, files.home, 1, read=expected)
    else:
        found = look(root, expected, read=expected)
        tree = {files.home: _HERE, **{path: found[path] for path in expected if path in found}}
    yield Part(_own(root, files, plan(Wanted({files.home: expected}), tree), tree), tree, content, files.mtime_ns)


def _own(root: Path, files: Files, changes: Changes, tree: Mapping[str, Entry]) -> Changes:
    """The changes without moving aside what was made by the view itself."""
    found = [path for path in changes.aside if path in files.paths and tree[path].kind == FILE]
    own = {path for path in found if files.was_made(path, (root / path).read_bytes())}
    return replace(changes, aside=tuple(path for path in changes.aside if path not in own))


def _expected(data: bytes, mtime_ns: int) -> Expected:
    return Expected(mtime_ns, len(data), bytes_digest([data]))
