"""A process of its own that is killed at its Nth step: a file opened, renamed, removed or copied, some pages copied.

``python -m tests.killed_at N backup|restore ROOT FILE``; N = 0 kills nothing, and prints how many steps there were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import filelock
import psutil

from tracker.backups.backup import backup
from tracker.backups.restore import restore_backup
from tracker.paths import Workspace

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "sqlite3.connect"}
_LOADED = (filelock, psutil)


def main(number: int, what: str, root: Path, file: Path) -> int:
    steps = 0

    def step(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)

    workspace = Workspace(root, environ={})
    # Paths elsewhere are those of other processes that are looked at.
    places = (str(root), str(file.parent))

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        if event in _EVENTS and any(place in str(arguments[0]) for place in places):
            step()

    sys.addaudithook(heard)
    if what == "backup":
        backup(workspace, file, overwrite=True, progress=step)
    else:
        restore_backup(workspace, file, progress=step)
    return steps


if __name__ == "__main__":
    sys.stdout.write(f"{main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))}\n")
