"""Files that outlive a power cut: written beside their place and synced; and what killed processes left of that."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracker import clock
from tracker.paths import TEMPORARY

HOST = re.sub(r"[/\s]", "_", clock.host())
_LEFTOVER_AGE_S = 3600.0
_SYNCS = 16
"""So many files are synced side by side."""
_FIRST = round(clock.now().timestamp() * 1e6)
numbers = itertools.count(_FIRST)
"""From the time on, since a process of another start can have had this one's PID: in a container it always has."""


def place_beside(directory: Path) -> Path:
    """A free name for what is being written in ``directory``; ``is_leftover`` tells when its process is gone."""
    return directory / f"{TEMPORARY}{os.getpid()}-{HOST}-{next(numbers)}"


def clear_leftovers(directory: Path) -> None:
    """Removes what killed processes left in ``directory``."""
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(directory) as entries:
        found = [item.path for item in entries if item.name.startswith(TEMPORARY)]
    for path in found:
        if is_leftover(path):
            remove(Path(path))


def write_file(path: Path, data: bytes, mtime_ns: int) -> None:
    """Writes a new file, synced, with that time (nanoseconds since the epoch)."""
    write_unsynced(path, data, mtime_ns)
    sync_path(path)


def write_unsynced(path: Path, data: bytes, mtime_ns: int) -> None:
    """The same, left to be synced with others."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))


def sync(paths: Iterable[Path]) -> None:
    """Makes files and directories outlive a power cut, several of them side by side."""
    several = list(paths)
    if len(several) > 1:
        from concurrent.futures import ThreadPoolExecutor

        # Where the system has no thread to spare, they are synced one after the other.
        with contextlib.suppress(RuntimeError), ThreadPoolExecutor(min(_SYNCS, len(several))) as threads:
            list(threads.map(sync_path, several))
            return
    for path in several:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Makes a file, or what was made and renamed in a directory, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def removed_on_error(beside: Path) -> Iterator[None]:
    """Removes what stands at ``beside`` where the rest fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(beside)
        raise


def remove(path: Path) -> None:
    """Removes a file, a link or a whole directory, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            from shutil import rmtree

            rmtree(path)
        else:
            path.unlink()


def is_leftover(path: str) -> bool:
    """Whether a temporary file's process is gone; one of another host is taken for dead after an hour."""
    pid, _, rest = path.rpartition("/")[2].removeprefix(TEMPORARY).partition("-")
    host, _, number = rest.rpartition("-")
    if host == HOST and pid.isdigit() and int(pid) == os.getpid():
        if number.isdigit() and int(number) < _FIRST:
            return True
    elif host == HOST and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    try:
        return clock.now().timestamp() - os.lstat(path).st_mtime > _LEFTOVER_AGE_S
    except FileNotFoundError:
        return False
