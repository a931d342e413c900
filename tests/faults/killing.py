"""Commands that are killed: before their Nth step, or at any moment.

A step is a change of the files that Python is about to make, a file opened to be written, a connection to a database,
a commit, or a piece of work that a person would be told of. Commands run as forks of one process that has imported
everything, so that a moment falls into what a command does, and not into what it loads:
``python -m tests.faults.killing`` takes a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.workspaces import REPOSITORY, Done, environment

NEVER = 0
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "sqlite3.connect"}
_WRITES = os.O_WRONLY | os.O_RDWR
_PACKAGES = ("tracker", "pipeline", "cli")
_OTHERS = ("sqlalchemy.dialects.sqlite", "alembic.command", "openai.resources.chat", "aiohttp", "psutil", "filelock")
_TRAINING = ("pipeline.training.worker", "pipeline.training.zo_loop", "pipeline.training.first_order", "peft")
_COUNTER = 8


@dataclass(frozen=True)
class Ended:
    """How a command ended: what it said, how many steps it had begun, and how long it ran."""

    done: Done
    steps: int
    seconds: float

    @property
    def was_killed(self) -> bool:
        return self.done.code == -signal.SIGKILL


class Forge:
    """Where commands are run and killed. Close it, or all that it started stays."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.killing"],
            cwd=REPOSITORY,
            env=environment({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.communicate()

    def run(self, root: Path, *arguments: object, program: str = "cli.main:run") -> Done:
        """A command in a workspace, to its end."""
        return self.killed(root, *arguments, program=program).done

    def killed(
        self,
        root: Path,
        *arguments: object,
        step: int = NEVER,
        after_s: float | None = None,
        program: str = "cli.main:run",
    ) -> Ended:
        """A command that is killed before its step of that number, from 1 on, or so many seconds after its start.

        It comes to its end where it has fewer steps, or is faster. A step counts where it changes something below the
        directory that holds the workspace.
        """
        order = {
            "root": str(root), "arguments": [*map(str, arguments)], "step": step, "program": program,
            "out": str(self._place / "out"), "err": str(self._place / "err"), "steps": str(self._place / "steps"),
        }  # fmt: skip
        (self._place / "steps").write_bytes(bytes(_COUNTER))
        pid = int(self._ask(order)["pid"])
        if after_s is not None:
            time.sleep(after_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        left = self._ask({"wait": pid})
        # Whatever it had started itself.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        out, err = ((self._place / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
        steps = int.from_bytes((self._place / "steps").read_bytes(), "little")
        return Ended(Done(int(left["code"]), out, err), steps, float(left["seconds"]))

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextlib.contextmanager
def forge(place: Path) -> Iterator[Forge]:
    """A forge that is closed in the end."""
    found = Forge(place)
    try:
        yield found
    finally:
        found.close()


class _Steps:
    def __init__(self, fatal: int, place: str, counter: Path) -> None:
        self._fatal, self._place = fatal, place
        # Shared memory outlives the process, and writing to it is no step.
        with counter.open("r+b") as file:
            self._counter = mmap.mmap(file.fileno(), _COUNTER)
        self._taken = 0

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if event in _CHANGES or writes:
            paths = [os.fsdecode(each) for each in arguments if isinstance(each, str | bytes | os.PathLike)]
            if any(self._place in each and not each.endswith(".lock") for each in paths):
                self.take()

    @contextlib.contextmanager
    def told(self) -> Iterator[Callable[..., None]]:
        yield self.take

    def take(self, *_: object) -> None:
        self._taken += 1
        if self._taken == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self._counter[:] = self._taken.to_bytes(_COUNTER, "little")


def worker(arguments: list[str]) -> int:
    """The program that trains one run."""
    from pipeline.training.worker import main

    sys.argv[1:] = ["--root", os.environ["SYNTHTRACK_ROOT"], *arguments]
    return main()


def _obey(order: dict[str, Any]) -> None:
    """The child's whole life."""
    os.setpgid(0, 0)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["SYNTHTRACK_ROOT"] = order["root"]
    os.chdir(order["root"])
    sys.argv = ["synthtrack", *order["arguments"]]
    steps = _Steps(order["step"], str(Path(order["root"]).parent), Path(order["steps"]))
    from sqlalchemy import Engine, event

    import cli.commands.backup
    from tracker.mlflow_runs import mlflow_log

    event.listen(Engine, "commit", steps.take)
    # What a person would be told of each piece.
    cli.commands.backup.bars = steps.told
    # It takes seconds, and is killed where it is tested.
    mlflow_log.drain = lambda *_, **__: mlflow_log.Drained()
    sys.addaudithook(steps.hear)
    module, _, name = order["program"].partition(":")
    run: Callable[[list[str]], int | None] = getattr(importlib.import_module(module), name)
    sys.exit(run(order["arguments"]))


def _load(training: bool) -> None:
    for package in _PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not found.name.startswith(("pipeline.training", "tracker.migrations.")):
                importlib.import_module(found.name)
    for name in (*_OTHERS, *(_TRAINING if training else ())):
        importlib.import_module(name)
    gc.freeze()


def main() -> None:
    loaded, began = [False, False], dict[int, float]()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            seconds = time.monotonic() - began.pop(order["wait"])
            answer = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        else:
            training = order["program"] != "cli.main:run"
            if not loaded[training]:
                _load(training)
                loaded[training] = True
            assert threading.active_count() == 1, "a fork would lose threads"
            pid = os.fork()
            if pid == 0:
                _obey(order)
            # Here as well as in the child: whichever is first, its group is there before anybody is told of it.
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            began[pid] = time.monotonic()
            answer = {"pid": pid}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
