"""A command that is killed at one of its steps: ``python -m tests.killing NUMBER COMMAND ...``.

A step is a change of the workspace's files that Python is about to make, or a commit of the database.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.workspaces import Done, environment, finish

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link"}
_WRITES = os.O_WRONLY | os.O_RDWR


def killed(root: Path, number: int, *arguments: object) -> Done:
    """What a command left that was killed before its step of that ``number``, from 1 on, if it came to it."""
    return finish(
        subprocess.Popen(
            [sys.executable, "-m", "tests.killing", str(number), *map(str, arguments)],
            cwd=root,
            env=environment({"SYNTHTRACK_ROOT": str(root)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


class _Steps:
    def __init__(self, fatal: int, root: str) -> None:
        self._left, self._root = fatal, root

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            paths = [str(each) for each in arguments if isinstance(each, str | os.PathLike)]
            if any(each.startswith(self._root) and not each.endswith(".lock") for each in paths):
                self.take()

    def take(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    from sqlalchemy import Engine, event

    from cli.main import run

    steps = _Steps(int(sys.argv[1]), os.environ["SYNTHTRACK_ROOT"])
    event.listen(Engine, "commit", steps.take)
    sys.addaudithook(steps.hear)
    sys.exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
