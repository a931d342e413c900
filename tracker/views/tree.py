"""The tree on the disk: looks at it without following a link, and changes it so that every reader sees old or new.

What is new is written beside its place, synced and renamed. What it takes the place of goes to the trash.

The sync comes first because a glance takes a file as right by its time: without it a power cut could leave a file of
the right name and time with nothing in it. The rename itself may be lost, since the record says what is missing. So
many directories can be written, synced side by side (each commit of the file system's journal then serves all that
wait for it, where one file after the other waits for a commit of its own) and renamed once they are all on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tracker import clock, durable
from tracker.durable import (
    clear_leftovers,
    is_leftover,
    place_beside,
    remove,
    removed_on_error,
    sync,
    write_file,
    write_unsynced,
)
from tracker.errors import Conflict, StorageError
from tracker.paths import TEMPORARY, Workspace
from tracker.views.plan import DIRECTORY, FILE, LINK, OTHER, Changes, Entry, parent_of

LOCK_TIMEOUT_S = 600.0
_NO_HARD_LINK = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def look(root: Path, paths: Iterable[str], read: Container[str] = ()) -> dict[str, Entry]:
    """What stands at ``paths`` and their parents, never looking below something that is not a directory.

    With the digests of ``read``.
    """
    tree: dict[str, Entry] = {}
    real = {"": True}

    def visit(path: str) -> bool:
        known = real.get(path)
        if known is None:
            found = _entry(f"{root}/{path}", read=path in read) if visit(parent_of(path)) else None
            if found is not None:
                tree[path] = found
            known = real[path] = found is not None and found.kind == DIRECTORY
        return known

    for path in paths:
        visit(path)
    return tree


def walk(root: Path, top: str, depth: int, read: Container[str] = ()) -> dict[str, Entry]:
    """What lies at ``top`` (empty: the root) and at most ``depth`` levels below it, with the digests of ``read``."""
    tree = look(root, [top] if top else [])
    if not top or (top in tree and tree[top].kind == DIRECTORY):
        _descend(f"{root}/{top}" if top else str(root), f"{top}/" if top else "", depth, tree, read)
    return tree


def stamp(root: Path, paths: Iterable[str], mtime_ns: int) -> None:
    """Sets the time of files whose content is right, where that can be."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(root / path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def _descend(directory: str, prefix: str, depth: int, tree: dict[str, Entry], read: Container[str]) -> None:
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for item in entries:
            if item.name.startswith(TEMPORARY) and not is_leftover(item.path):
                continue
            path = prefix + item.name
            # Links come by the hundred thousand, and what they are is known without a stat.
            try:
                found = _link_entry(item.path) if item.is_symlink() else _entry(item.path, read=path in read)
            except FileNotFoundError:
                # A link that has gone since the directory was listed must not end the listing of the others.
                continue
            if found is None:
                continue
            tree[path] = found
            if found.kind == DIRECTORY and depth > 1:
                _descend(item.path, f"{path}/", depth - 1, tree, read)


def _entry(path: str, *, read: bool = False) -> Entry | None:
    try:
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            digest = _digest(path) if read else None
            return Entry(FILE, "", status.st_size, status.st_mtime_ns, digest)
        if stat.S_ISLNK(status.st_mode):
            return _link_entry(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Entry(DIRECTORY if stat.S_ISDIR(status.st_mode) else OTHER)


def _link_entry(path: str) -> Entry:
    return Entry(LINK, os.readlink(path))  # noqa: PTH115  a Path for each of 100,000 links takes longer than the links


def _digest(path: str) -> str:
    from hashlib import file_digest

    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(
    workspace: Workspace, patience_s: float = LOCK_TIMEOUT_S, root: Path | None = None, *, ahead: int = 1
) -> Iterator[Tree]:
    """The tree at ``root`` (default: synthetic_dir), to be changed by this process alone.

    At most ``ahead`` directories are written before they are seen: together they are faster. Raises Conflict where
    another process that changes any of the workspace's trees does not finish in time.
    """
    from filelock import FileLock, Timeout

    path = workspace.root / ".view.lock"
    with explained(workspace):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=patience_s)
        except Timeout:
            waited = f"has been writing {workspace.synthetic_dir} for {patience_s / 60:.0f} minutes"
            now = f"is writing {workspace.synthetic_dir} now"
            raise Conflict(
                f"Another process {waited if patience_s >= 60 else now}.",
                hint="Wait for it (`synthtrack view rebuild`?) and run the command again.",
            ) from None
        tree = Tree(workspace, root, ahead)
        try:
            yield tree
            tree.settle()
        finally:
            tree.discard()
            lock.release()


@contextlib.contextmanager
def explained(workspace: Workspace) -> Iterator[None]:
    """Turns what the system says into a StorageError that a person can act on."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or workspace.synthetic_dir
        hint = "Check the permissions of the workspace."
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = "Free some disk space, then run `synthtrack view rebuild`; the record itself is safe."
        raise StorageError(f"{where}: {error.strerror or error}.", hint=hint) from error


class Tree:
    """The tree below ``root`` (default: ``synthetic_dir``), held for writing."""

    def __init__(self, workspace: Workspace, root: Path | None = None, ahead: int = 1) -> None:
        self._root = workspace.synthetic_dir if root is None else root
        self._ahead = ahead
        self._written: list[_Written] = []
        self._trash = workspace.trash_dir / f"view-{clock.now():%Y%m%dT%H%M%S.%fZ}"
        self._touched: dict[Path, bool] = {}
        """Directories that were changed, and whether killed processes may have left something in them."""

    def apply(self, changes: Changes, content: Mapping[str, bytes], mtime_ns: int = 0) -> Changes:
        """Makes ``changes``, with file content by path; gives them with the place that things were moved to."""
        self._root.mkdir(parents=True, exist_ok=True)
        aside = set(changes.aside)
        if changes.files or changes.links or changes.aside:
            self._publish()
        later = {*changes.directories, *changes.files, *(path for path, _ in changes.links)}
        for path in changes.aside:
            if path not in later:
                self._move_aside(path)
        for path in changes.leftovers:
            remove(self._root / path)
        for path in changes.directories:
            self._write_directory(path, content, mtime_ns, in_the_way=path in aside)
        for path in changes.files:
            self._write_file(path, content[path], mtime_ns, in_the_way=path in aside)
        self._write_links(changes.links, aside)
        stamp(self._root, changes.stamps, mtime_ns)
        return replace(changes, trash=str(self._trash)) if changes.aside else changes

    def _write_directory(self, path: str, content: Mapping[str, bytes], mtime_ns: int, *, in_the_way: bool) -> None:
        final, beside = self._place(path)
        files, made = [], {beside: None}
        with removed_on_error(beside):
            beside.mkdir()
            for name, data in content.items():
                file = beside / name.removeprefix(f"{path}/")
                if file.parent not in made:
                    file.parent.mkdir()
                    made[file.parent] = None
                write_unsynced(file, data, mtime_ns)
                files.append(file)
        self._written.append(_Written(path, beside, final, (*files, *reversed(made)), in_the_way))
        if len(self._written) >= self._ahead:
            self._publish()

    def _publish(self) -> None:
        """Lets readers see the directories that were written, once all of them are on the disk."""
        sync(path for each in self._written for path in each.made)
        for each in self._written:
            if each.in_the_way:
                self._move_aside(each.path)
            each.beside.rename(each.final)
        self._written.clear()

    def discard(self) -> None:
        """Removes what was written and is not seen yet."""
        for each in self._written:
            with contextlib.suppress(OSError):
                remove(each.beside)
        self._written.clear()

    def _write_file(self, path: str, data: bytes, mtime_ns: int, *, in_the_way: bool) -> None:
        final, beside = self._place(path)
        with removed_on_error(beside):
            write_file(beside, data, mtime_ns)
            if in_the_way:
                self._keep(path)
            beside.replace(final)

    def _write_links(self, links: Iterable[tuple[str, str]], aside: set[str]) -> None:
        by_parent: dict[str, list[tuple[str, str]]] = {}
        for path, target in links:
            by_parent.setdefault(parent_of(path), []).append((path, target))
        for parent, here in by_parent.items():
            final, beside = self._place(parent)
            is_new = not os.path.lexists(final)
            self._touched[final] = not is_new
            if is_new:
                with removed_on_error(beside):
                    beside.mkdir()
                    _link_all(beside, here)
                    beside.rename(final)
                continue
            _link_all(final, [link for link in here if link[0] not in aside])
            for path, target in here:
                if path in aside:
                    self._replace_link(path, target)

    def _replace_link(self, path: str, target: str) -> None:
        final, beside = self._place(path)
        with removed_on_error(beside):
            beside.symlink_to(target)
            self._keep(path)
            beside.replace(final)

    def _place(self, path: str) -> tuple[Path, Path]:
        """The final place of ``path`` and a free one beside it, in a real directory that is there."""
        directory = self._root
        for part in path.split("/")[:-1]:
            above, directory = directory, directory / part
            try:
                status = directory.lstat()
            except FileNotFoundError:
                directory.mkdir()
                self._touched.setdefault(above, True)
            else:
                if not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
        self._touched.setdefault(directory, True)
        return self._root / path, place_beside(directory)

    def _keep(self, path: str) -> None:
        """Puts what is to be replaced into the trash, without a moment in which its place is empty if that can be."""
        if stat.S_ISDIR((self._root / path).lstat().st_mode):
            self._move_aside(path)
            return
        kept = self._trash_place(path)
        try:
            os.link(self._root / path, kept, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            _rename(self._root / path, kept)

    def _move_aside(self, path: str) -> None:
        _rename(self._root / path, self._trash_place(path))
        self._touched.setdefault((self._root / path).parent, True)
        # The directories of a link that has gone were made for it.
        if path.count("/") == 2:
            with contextlib.suppress(OSError):
                for parent in itertools.islice((self._root / path).parents, 2):
                    parent.rmdir()

    def _trash_place(self, path: str) -> Path:
        kept = self._trash / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        return kept if not os.path.lexists(kept) else kept.with_name(f"{kept.name}~{next(durable.numbers)}")

    def settle(self) -> None:
        """Lets readers see all that was written, syncs every directory that was changed and clears it of leftovers."""
        self._publish()
        for directory, may_hold_leftovers in self._touched.items():
            if may_hold_leftovers:
                with contextlib.suppress(FileNotFoundError):
                    clear_leftovers(directory)
        sync(path for path in self._touched if path.is_dir())
        self._touched.clear()


class _Written(NamedTuple):
    """A directory that lies ``beside`` its ``final`` place; ``made`` are its files and directories, from below."""

    path: str
    beside: Path
    final: Path
    made: tuple[Path, ...]
    in_the_way: bool


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        from shutil import move

        move(source, target)


def _link_all(directory: Path, links: Iterable[tuple[str, str]]) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for path, target in links:
            os.symlink(target, path.rpartition("/")[2], dir_fd=handle)
    finally:
        os.close(handle)
