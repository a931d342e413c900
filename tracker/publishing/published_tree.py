"""Published directories on the disk: looked at without following a link, and changed from old to new in one step.

What is new is written beside its place under a hidden name, synced, and renamed, or exchanged with what stands there
(renameat2). Where the system cannot exchange, the old directory is renamed out of the way first: who is killed between
these two renames leaves no directory in that place, and both, complete, under other names beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Container, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from tracker import clock
from tracker.durable import clear_leftovers, place_beside, remove, removed_on_error, sync_path, write_file
from tracker.errors import Conflict, StorageError
from tracker.paths import Workspace
from tracker.views.plan import DIRECTORY, FILE, LINK, OTHER, Entry
from tracker.views.tree import look, walk

METADATA = ".publish_metadata.json"
KINDS = {FILE: "a file", DIRECTORY: "a directory", LINK: "a link", OTHER: "a pipe or device"}

_PATIENCE_S = 60.0
_BEFORE = ".before-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


@contextlib.contextmanager
def publishing(workspace: Workspace) -> Iterator[None]:
    """The right to publish from this workspace, one process at a time. Raises Conflict, StorageError."""
    from filelock import FileLock, Timeout

    lock = FileLock(workspace.root / ".publish.lock")
    with explained(workspace.root):
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            hint = "Run the command again when it is done."
            raise Conflict("Another process has been publishing for a minute.", hint=hint) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turns what the system says into a StorageError, or a Conflict, that a person can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise Conflict(
                f"Something else was put at {directory} a moment ago.", hint="Run the same command again."
            ) from error
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "Free some disk space, then run the same command again." if full else "Check its permissions."
        raise StorageError(f"{directory}: {error.strerror or error}.", hint=hint) from error


def kind_of(path: Path) -> str | None:
    """What stands at ``path`` itself: file, directory, link or other; None where there is nothing."""
    found = look(path.parent, [path.name])
    return found[path.name].kind if path.name in found else None


def contents(directory: Path, read: Container[str]) -> dict[str, Entry]:
    """What lies directly in ``directory`` by name, with the digests of the files in ``read``."""
    return walk(directory, "", 1, read)


def strangers(directory: Path, ours: Mapping[str, AbstractSet[str]], tree: Path) -> dict[str, str]:
    """What stands at ``directory`` or lies in it and would be lost with it, by name: what it is.

    ``ours`` are the digests that files were published with, by name. A link of such a name into ``tree``, where all
    comes back from the record, is ours too.
    """
    kind = kind_of(directory)
    if kind != DIRECTORY:
        return {} if kind is None else {directory.name: f"{KINDS[kind]}, no directory"}
    lost = {}
    for name, entry in sorted(contents(directory, ours).items()):
        known = entry.digest in ours.get(name, ())
        if entry.kind == LINK:
            target = Path(os.path.realpath(directory / entry.target))
            known = name in ours and target.is_relative_to(os.path.realpath(tree))
        if not known:
            what = "changed since it was published" if name in ours else "not published there"
            lost[name] = what if entry.kind == FILE else f"{KINDS[entry.kind]}, {what}"
    return lost


def in_the_way(directory: Path, lost: Mapping[str, str]) -> Conflict:
    """The error that names what would be lost in ``directory``."""
    lines = [f"  {name}: {what}" for name, what in lost.items()]
    return Conflict(
        "\n".join([f"{directory} holds files that synthtrack did not put there, or that were changed since:", *lines]),
        hint=f"--force moves it aside to {directory.name}.before-<time>; another --target or --dataset leaves it.",
    )


def digest_behind(path: Path) -> str | None:
    """The SHA-256 of the file at ``path`` or behind the link there; empty for no file, None for nothing at all."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def write(directory: Path, files: Mapping[str, bytes], links: Mapping[str, str], mtime_ns: int) -> Path:
    """Writes a directory that is to take the place of ``directory``, beside it; gives where. Raises OSError."""
    _make(directory.parent)
    clear_leftovers(directory.parent)
    new = place_beside(directory.parent)
    with removed_on_error(new):
        new.mkdir()
        for name, data in files.items():
            write_file(new / name, data, mtime_ns)
        for name, target in links.items():
            (new / name).symlink_to(target)
        sync_path(new)
    return new


def put(
    new: Path, directory: Path, *, ours: Mapping[str, AbstractSet[str]], tree: Path, aside: Path | None = None
) -> None:
    """Puts ``new`` in the place of ``directory``; what stood there goes to ``aside``, or goes where that is None.

    Raises Conflict where somebody has put there in the meantime what ``strangers`` names, or OSError; then all is as it
    was.
    """
    with removed_on_error(new):
        held = _swap(new, directory, aside)
    if held is None or aside is not None:
        return
    lost = strangers(held, ours, tree)
    if lost:
        back = _swap(held, directory)
        remove(back or held)
        raise in_the_way(directory, lost)
    remove(held)


def free_aside(directory: Path) -> Path:
    """A free name beside ``directory`` under which what is there can be kept: ``Copa.before-20261120T214652``."""
    name, number = f"{directory.name}{_BEFORE}{clock.now():%Y%m%dT%H%M%S}", 1
    while os.path.lexists(directory.with_name(name if number == 1 else f"{name}-{number}")):
        number += 1
    return directory.with_name(name if number == 1 else f"{name}-{number}")


def asides(directory: Path) -> list[Path]:
    """What was moved aside from ``directory`` and is still there, oldest first."""
    try:
        return sorted(each for each in directory.parent.iterdir() if each.name.startswith(f"{directory.name}{_BEFORE}"))
    except OSError:
        return []


def _make(directory: Path) -> None:
    missing = [directory, *directory.parents]
    missing = missing[: next(at for at, path in enumerate(missing) if path.is_dir())]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_path(path.parent)


def _swap(new: Path, directory: Path, aside: Path | None = None) -> Path | None:
    """Where the old one is now: ``aside`` or a hidden place beside; None where there was none."""
    if kind_of(directory) is None:
        new.rename(directory)
        sync_path(directory.parent)
        return None
    # What is kept must not for a moment bear a name that is cleared away, so the new one bears its name before it does;
    # who is killed just then leaves a second copy of the new one there.
    held = aside or place_beside(directory.parent)
    new.rename(held)
    try:
        if not _exchange(held, directory):
            _rename_both(held, directory)
    except BaseException:
        held.rename(new)
        raise
    sync_path(directory.parent)
    return held


def _exchange(one: Path, other: Path) -> bool:
    """Swaps what stands at two names at once; False where the system, or the file system, cannot. Raises OSError."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _rename_both(one: Path, other: Path) -> None:
    between = place_beside(one.parent)
    one.rename(between)
    try:
        other.rename(one)
        try:
            between.rename(other)
        except BaseException:
            one.rename(other)
            raise
    except BaseException:
        between.rename(one)
        raise
