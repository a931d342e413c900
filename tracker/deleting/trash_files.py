"""The files of what is deleted: measured, moved into the workspace's trash and back, so that a kill loses nothing.

What lies at ``PATH`` goes to ``.trash/ENTRY/PATH``; each is renamed as a whole, or, from another disk, copied beside
its place there, synced and renamed before the original goes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tracker.durable import place_beside, remove, sync_path
from tracker.paths import Workspace

OUTSIDE = "outside"
"""Below an entry's directory: what came from a tree of the workspace that lies outside of its root."""
_STAMP = re.compile(r"-(\d{8}T\d{6}\.\d{6}Z)(?:-|\.|$)")


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as it was when it was deleted: its path below the workspace or absolute, size in bytes and SHA-256."""

    path: str
    n_bytes: int
    digest: str


def files_below(workspace: Workspace, path: str) -> Iterator[Path]:
    """Every regular file at ``path`` or below it; no link is followed."""
    top = workspace.root / path
    if top.is_symlink():
        return
    if top.is_file():
        yield top
    for directory, names, files in os.walk(top):
        names.sort()
        yield from (
            found for name in sorted(files) if not (found := Path(directory, name)).is_symlink() and found.is_file()
        )


def measured(workspace: Workspace, paths: tuple[str, ...]) -> list[Kept]:
    """Size and digest of every file at ``paths`` and below."""
    return [
        Kept(workspace.relative(file), file.stat().st_size, digest_of(file))
        for path in paths
        for file in files_below(workspace, path)
    ]


def n_bytes(workspace: Workspace, paths: tuple[str, ...]) -> int:
    """The size of everything at ``paths``."""
    return sum(file.lstat().st_size for path in paths for file in files_below(workspace, path))


def digest_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def place_in_trash(workspace: Workspace, entry: str, path: str) -> Path:
    """Where the trash keeps what lay at ``path``, relative to the workspace or absolute."""
    below = path if not path.startswith("/") else f"{OUTSIDE}{path}"
    return workspace.trash_dir / entry / below


def move_out(workspace: Workspace, entry: str, path: str) -> None:
    """Moves what lies at ``path`` into the trash; nothing where it is there already."""
    source, kept = workspace.root / path, place_in_trash(workspace, entry, path)
    number = 1
    while os.path.lexists(source) and os.path.lexists(kept):
        number += 1
        kept = kept.with_name(f"{Path(path).name}~{number}")
    if os.path.lexists(source):
        move(source, kept)
    # Also where a process was killed that had just moved it.
    _remove_empty(workspace, source.parent)


def move_back(workspace: Workspace, entry: str, path: str) -> None:
    """Moves what the trash keeps of ``path`` back to it; what stands there by now stays, its counterpart as well."""
    kept = place_in_trash(workspace, entry, path)
    if os.path.lexists(kept):
        _merge(kept, workspace.root / path)


def move(source: Path, target: Path) -> None:
    """Renames, also to another disk; whoever is killed leaves the whole of it in one place or the other."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = place_beside(target.parent)
        _copy(source, beside)
        beside.rename(target)
        sync_path(target.parent)
        remove(source)
    sync_path(target.parent)
    sync_path(source.parent)


def _copy(source: Path, beside: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, beside, symlinks=True)
    else:
        shutil.copy2(source, beside, follow_symlinks=False)
    for directory, _, files in os.walk(beside):
        for name in (each for each in files if not Path(directory, each).is_symlink()):
            with os.fdopen(os.open(Path(directory, name), os.O_RDONLY | os.O_NOFOLLOW)) as file:
                os.fsync(file.fileno())
        sync_path(Path(directory))


def _merge(kept: Path, place: Path) -> None:
    if not os.path.lexists(place):
        move(kept, place)
        return
    if _is_directory(kept) and _is_directory(place):
        for each in sorted(kept.iterdir()):
            _merge(each, place / each.name)
        if not any(kept.iterdir()):
            kept.rmdir()


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _remove_empty(workspace: Workspace, directory: Path) -> None:
    """Removes directories that were made for what is gone, up to the tree's own and never one of these."""
    trees = {workspace.synthetic_dir, workspace.shared_dir, workspace.results_dir, workspace.data_dir, workspace.root}
    while directory not in trees and any(directory.is_relative_to(tree) for tree in trees):
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = directory.parent


def unlink_own(workspace: Workspace, path: str, target: str) -> None:
    """Removes a link of the view, and the directories that were made for it; anything else there stays."""
    link = workspace.root / path
    if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115  text, as the view writes it
        link.unlink()
    _remove_empty(workspace, link.parent)


def moment_of(name: str) -> datetime | None:
    """When something in the trash was put there, as its name says; None where it says nothing."""
    found = _STAMP.search(name)
    return None if found is None else datetime.strptime(found[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
