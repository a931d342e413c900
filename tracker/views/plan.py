"""What would have to change for the tree to be what the record says: pure, from what is wanted and what was found.

Paths are text below ``synthetic_dir``, with ``/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from tracker.paths import SHARED, TEMPORARY

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"


class Entry(NamedTuple):
    """One thing found in the tree; ``digest`` (SHA-256) where its content was read."""

    kind: str
    target: str = ""
    size: int = 0
    mtime_ns: int = 0
    digest: str | None = None


class Expected(NamedTuple):
    """A file as the record has it. It is compared by digest where that is known, else by size and time.

    The view sets every file's time to the moment its experiment was completed: a rebuilt tree has the times of the
    first one, and an edit shows without reading the content.
    """

    mtime_ns: int
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the record says that the tree holds: files by experiment directory, and links with their targets."""

    directories: Mapping[str, Mapping[str, Expected]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    known: AbstractSet[str] = frozenset()
    """Directories that may stand there although nothing is wanted below them."""
    unfinished: AbstractSet[str] = frozenset()
    """Paths of experiments that are not to be seen yet."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be done, or was done. True where that is anything."""

    directories: tuple[str, ...] = ()
    """Experiment directories, written whole."""
    files: tuple[str, ...] = ()
    """Single files of a directory that is there."""
    links: tuple[tuple[str, str], ...] = ()
    """Links made or replaced, with their targets."""
    aside: tuple[str, ...] = ()
    """What was edited, stood in the way or is not in the record any more: moved to the trash."""
    leftovers: tuple[str, ...] = ()
    """Temporary files of killed processes."""
    stamps: tuple[str, ...] = ()
    """Files whose content is right and whose time is not; mended where that can be, and no change."""
    unknown: tuple[str, ...] = ()
    """What the record knows nothing about: reported, never touched."""
    trash: str | None = None
    """Where ``aside`` went, once it did."""

    def __bool__(self) -> bool:
        return bool(self.directories or self.files or self.links or self.aside or self.leftovers)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the tree is not what the record says."""

    path: str
    what: str
    """missing, edited, replaced, dangling, wrong target, not in the record, leftover, contradiction or unknown"""
    detail: str = ""


def union(changes: Iterable[Changes]) -> Changes:
    """All of ``changes`` as one."""
    parts = list(changes)
    joined = {
        each.name: tuple(item for part in parts for item in getattr(part, each.name))
        for each in fields(Changes)
        if each.name != "trash"
    }
    return Changes(**joined, trash=next((part.trash for part in parts if part.trash), None))


def plan(wanted: Wanted, tree: Mapping[str, Entry]) -> Changes:
    """The changes that make ``tree`` what is ``wanted``.

    ``tree`` holds what was found, and nothing below something that is not a directory. What is in it and not wanted is
    unknown, unless it bears the marks of the view's own work.
    """
    parents = _parents(wanted)
    aside = [path for path in parents if path in tree and tree[path].kind != DIRECTORY]
    directories, files, stamps = [], [], []
    for home, expected in wanted.directories.items():
        if home not in tree or tree[home].kind != DIRECTORY:
            directories.append(home)
            continue
        for path, file in expected.items():
            found = tree.get(path)
            if found is not None and _same(found, file):
                if found.mtime_ns != file.mtime_ns:
                    stamps.append(path)
                continue
            files.append(path)
            if found is not None:
                aside.append(path)
    links = []
    for path, target in wanted.links.items():
        found = tree.get(path)
        if found is None:
            links.append((path, target))
        elif found.kind != LINK or found.target.rstrip("/") != target:  # the older system's links end in a slash
            links.append((path, target))
            aside.append(path)
    strays = _strays(wanted, parents, tree)
    return replace(
        strays,
        directories=tuple(directories),
        files=tuple(files),
        links=tuple(links),
        aside=(*aside, *strays.aside),
        stamps=tuple(stamps),
    )


def differences(changes: Changes, tree: Mapping[str, Entry]) -> Iterator[Difference]:
    """What ``plan`` found in ``tree``, in words."""
    wanted = {*changes.directories, *changes.files, *(path for path, _ in changes.links)}
    aside = set(changes.aside)
    for path in (*changes.directories, *changes.files):
        edited = path in tree and tree[path].kind == FILE and path in changes.files
        yield Difference(path, "missing" if path not in tree else "edited" if edited else "replaced")
    for path, target in changes.links:
        found = tree.get(path)
        if found is None:
            yield Difference(path, "missing")
        elif found.kind == LINK:
            yield Difference(path, "wrong target", f"{found.target} instead of {target}")
        else:
            yield Difference(path, "replaced")
    for path in aside - wanted:
        parent = any(name.startswith(f"{path}/") for name in wanted)
        yield Difference(path, "replaced" if parent else "not in the record")
    yield from (Difference(path, "leftover") for path in changes.leftovers)
    yield from (Difference(path, "unknown") for path in changes.unknown)


def link_target(path: str) -> str:
    """Where the link ``batch/dataset/name`` points."""
    _, dataset, name = path.split("/")
    return f"../../{SHARED}/{dataset}/{name}"


def own_link(path: str, found: Entry) -> bool:
    """Whether a link is one that only the view makes."""
    return found.kind == LINK and path.count("/") == 2 and found.target == link_target(path)


def experiment_of(path: str) -> str:
    """The experiment directory that a file lies in."""
    return "/".join(path.split("/", 3)[:3])


def parent_of(path: str) -> str:
    """The directory of ``path``; empty for the top."""
    return path.rpartition("/")[0]


def _same(found: Entry, file: Expected) -> bool:
    if found.kind != FILE:
        return False
    if file.digest is not None:
        return found.digest == file.digest
    return found.mtime_ns == file.mtime_ns and file.size in (None, found.size)


def _parents(wanted: Wanted) -> dict[str, None]:
    """Every directory that something wanted lies in, from the top down."""
    direct = {parent_of(path): None for path in wanted.links}
    for home, expected in wanted.directories.items():
        direct |= {home: None}
        direct |= {parent_of(path): None for path in expected}
    found: dict[str, None] = {}
    for path in direct:
        parts = path.split("/")
        found |= {"/".join(parts[:depth]): None for depth in range(1, len(parts) + 1)}
    return found


def _strays(wanted: Wanted, parents: Mapping[str, None], tree: Mapping[str, Entry]) -> Changes:
    files = {path for expected in wanted.directories.values() for path in expected}
    aside, leftovers, unknown = [], [], []
    for path, found in tree.items():
        if path in parents or path in files or path in wanted.links or path in wanted.known:
            continue
        above = parent_of(path)
        if above and above not in parents and above not in wanted.known:
            continue
        if path.rpartition("/")[2].startswith(TEMPORARY):
            leftovers.append(path)
        elif path in wanted.unfinished or own_link(path, found):
            aside.append(path)
        else:
            unknown.append(path)
    return Changes(aside=tuple(sorted(aside)), leftovers=tuple(sorted(leftovers)), unknown=tuple(sorted(unknown)))
