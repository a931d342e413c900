"""A workspace that commands cannot leave: it is watched, bounded in time, and as new for every example."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from cli.main import run
from tests.workspaces import Done, environment

SECONDS = 20
"""Of the processor, for one command on small input."""
REFUSED = (2, 3, 4, 12, 18)
"""Exit codes of wrong arguments, configs, references, data and SQL: these must leave every row as it was."""
EXPLAINED = (0, 1, *range(2, 19))

_CHANGES = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.setxattr": 1, "os.symlink": 2, "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1,
}  # fmt: skip
"""Audit events that change files, with how many of their first arguments are paths; of a link's target none is."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CACHES = ("__pycache__", "/matplotlib", "/dev/null", "/dev/tty", "/proc/self/")


class Escaped(BaseException):
    """A command was about to change what lies outside its cage; it was kept from it."""


class TooSlow(BaseException):
    """A command took more than its seconds."""


@dataclass
class _Watch:
    top: str = ""
    changed: bool = False
    escaped: list[str] = field(default_factory=list)


_watch = _Watch()


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if not _watch.top:
        return
    if event == "open":
        if isinstance(given[0], int) or not isinstance(given[2], int) or not given[2] & _WRITING:
            return
        _check(event, given[0], -1)
    elif event == "sqlite3.connect":
        _watch.changed |= "mode=ro" not in str(given[0])
    elif event in _CHANGES:
        count = _CHANGES[event]
        paths = given[1:2] if event == "os.symlink" else given[:count]
        folders = [each for each in given[count:] if isinstance(each, int)][-count:]
        for number, path in enumerate(paths):
            _check(event, path, folders[number] if len(folders) > number and event != "os.chmod" else -1)


def _check(event: str, path: object, folder: int) -> None:
    if isinstance(path, int):
        return
    name = os.fsdecode(path)  # type: ignore[arg-type]  # what these events name is a path
    if any(cache in name for cache in _CACHES):
        return
    base = Path(f"/proc/self/fd/{folder}").readlink() if folder > 2 else Path()
    parent = os.path.realpath((base / name).parent)
    _watch.changed = True
    if not f"{parent}/".startswith(_watch.top):
        _watch.escaped.append(f"{event} {name}")
        raise Escaped(f"{event} {name}")


sys.addaudithook(_audit)


class Cage:
    """``top`` with the workspace, what lies beside it, and a copy of the workspace to begin anew from."""

    def __init__(self, top: Path) -> None:
        self.top = Path(os.path.realpath(top))
        self.root = self.top / "workspace"
        self.beside = self.top / "beside"
        self._origin = self.top.with_name(f"{self.top.name}_origin")
        self.root.mkdir(parents=True)
        self.beside.mkdir()
        (self.beside / "letter.txt").write_text("not yours\n", encoding="utf-8")
        (self.top / "tmp").mkdir()
        self._rows: dict[str, int] = {}
        self._outside = self._seen()

    def keep(self) -> None:
        """Makes the workspace as it is what every example begins from."""
        shutil.rmtree(self._origin, ignore_errors=True)
        shutil.copytree(self.root, self._origin, symlinks=True)
        self._rows, self._outside = self.rows(), self._seen()

    def renew(self) -> None:
        """The workspace as it was kept."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._origin, self.root, symlinks=True)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A workspace for one example, whose files the example may change."""
        try:
            yield self.root
        finally:
            self.renew()

    def call(self, *arguments: object, stdin: str = "") -> Done:
        """A command, which must end as commands do."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.root),
            mock.patch.dict(os.environ, self._environment(), clear=True),
            mock.patch.object(tempfile, "tempdir", str(self.top / "tmp")),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _watched(f"{self.top}/"),
            _bounded(),
        ):
            code = run(["--root", str(self.root), *map(str, arguments)])
        assert _watch.escaped == []  # also where the command has got over it
        done = Done(code, out.getvalue(), err.getvalue())
        self._well_ended(arguments, done)
        if _watch.changed:
            self._left_well(done)
        return done

    def rows(self) -> dict[str, int]:
        """How many rows each table holds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.root / 'tracker.db'}?mode=ro", uri=True)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1").fetchall()
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}

    def _environment(self) -> dict[str, str]:
        # A store that MLflow refuses at once: what is logged there has tests of its own.
        uri = "/dev/null/none"
        no_keys = {"OPENAI_API_KEY": None, "TOGETHER_API_KEY": None}
        return environment({**no_keys, "TMPDIR": str(self.top / "tmp"), "MLFLOW_TRACKING_URI": uri})

    def _well_ended(self, arguments: tuple[object, ...], done: Done) -> None:
        assert done.code in EXPLAINED, done
        assert "Traceback (most recent call last)" not in done.err, done
        if done.code:
            assert "Error: " in done.err, done
            assert done.err.split("Error: ", 1)[1].strip(), done
        elif "--json" in arguments:
            json.loads(done.out, parse_constant=_no_number)

    def _left_well(self, done: Done) -> None:
        assert self._seen() == self._outside
        # torch makes itself a directory where it is first imported.
        assert [each for each in (self.top / "tmp").iterdir() if not each.name.startswith("torchinductor_")] == []
        if done.code in REFUSED:
            assert self.rows() == self._rows, done

    def _seen(self) -> list[tuple[str, int, int]]:
        """What lies beside the workspace."""
        paths = [self.top, *self.top.iterdir(), *self.beside.rglob("*")]
        own = {self.top, self.root, self.top / "tmp"}
        return [(str(path), (found := path.lstat()).st_size, found.st_mtime_ns) for path in paths if path not in own]


def _no_number(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@contextlib.contextmanager
def _watched(top: str) -> Iterator[None]:
    _watch.top, _watch.changed, _watch.escaped = top, False, []
    try:
        yield
    except (Escaped, TooSlow) as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    finally:
        _watch.top = ""


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
