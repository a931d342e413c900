"""A real pseudo-terminal with a command in it: what stands on its screen, and the keys that are typed."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

from tests.workspaces import environment

LEFT, RIGHT, UP, DOWN, ESCAPE, CTRL_C = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B", "\x1b", "\x03"
_TOKEN = re.compile(r"\x1b\[(?P<given>[?\d;]*)(?P<end>[a-zA-Z])|(?P<text>[^\x00-\x1f\x7f-\x9f]+)|(?P<line>\r\n)")
_UNFINISHED = re.compile(r"\x1b(\[[?\d;]*)?|\r")
_MODES = {"?25", "?7", "?2004"}
_PATIENCE_S = 60
_IN_TERMINAL = """
import os, sys
os.login_tty(0)
os.execv(sys.executable, [sys.executable, "-m", "cli.main", *sys.argv[1:]])
"""


class Screen:
    """What a terminal shows that knows a few sequences and no others; ``main`` is what stays when a program is done."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns, self.n_lines = columns, lines
        self.lines: dict[int, str] = {}
        self.main = ""
        self.is_alternate = False
        self.row = 1
        self._rest = ""

    @property
    def text(self) -> str:
        if not self.is_alternate:
            return self.main
        return "\n".join(self.lines.get(row, "").rstrip() for row in range(1, self.n_lines + 1))

    def feed(self, received: str) -> None:
        """Takes what the program wrote. What would steer a terminal elsewhere is an error."""
        received, at = self._rest + received, 0
        while at < len(received) and not _UNFINISHED.fullmatch(received, at):
            token = _TOKEN.match(received, at)
            assert token is not None, f"no terminal was meant to get {received[at : at + 20]!r}"
            self._take(token)
            at = token.end()
        self._rest = received[at:]

    def _take(self, token: re.Match[str]) -> None:
        if token["end"] is not None:
            self._obey(token["given"], token["end"])
        elif not self.is_alternate:
            self.main += "\n" if token["line"] else token["text"]
        else:
            assert token["text"], "a new line scrolls the screen"
            self.lines[self.row] = self.lines.get(self.row, "") + token["text"]
            assert cell_len(self.lines[self.row]) <= self.columns, f"too wide: {self.lines[self.row]!r}"

    def _obey(self, given: str, end: str) -> None:
        match end:
            case "H":
                self.row = int(given.partition(";")[0])
                assert 1 <= self.row <= self.n_lines
            case "K":
                self.lines[self.row] = ""
            case "J":
                self.lines = {}
            case "h" | "l" if given == "?1049":
                self.is_alternate = end == "h"
            case _:
                assert end == "m" or (end in "hl" and given in _MODES), f"no terminal was meant to get {given}{end}"


class Session:
    """A command at work in a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int, columns: int, lines: int) -> None:
        self.process, self.terminal = process, terminal
        self.screen = Screen(columns, lines)
        self.received = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.columns, self.screen.n_lines, self.screen.lines = columns, lines, {}
        _set_size(self.terminal, columns, lines)

    def wait_for(self, *texts: str) -> str:
        """Reads until all the texts are on the screen at once; gives what is on it."""
        until = time.monotonic() + _PATIENCE_S
        while not all(text in self.screen.text for text in texts):
            assert time.monotonic() < until, f"{texts} did not come:\n{self.screen.text}"
            assert self._read(), f"{texts} did not come, the program ended:\n{self.screen.text}"
        return self.screen.text

    def answer(self, keys: str, *texts: str) -> str:
        """Types, then waits."""
        self.type(keys)
        return self.wait_for(*texts)

    def end(self) -> tuple[int, str]:
        """The exit code, and what is left on the terminal."""
        while self._read():
            pass
        code = self.process.wait(_PATIENCE_S)
        assert not self.screen.is_alternate, "the terminal was not left as it was"
        return code, self.screen.main

    def _read(self) -> bool:
        if not select.select([self.terminal], [], [], _PATIENCE_S)[0]:
            return False
        try:
            found = self._decoder.decode(os.read(self.terminal, 65536))
        except OSError:
            return False  # the other end is closed
        self.received += found
        self.screen.feed(found)
        return True


@contextlib.contextmanager
def session(
    root: Path, *arguments: str, columns: int = 120, lines: int = 30, environ: Mapping[str, str | None] | None = None
) -> Iterator[Session]:
    """A command of synthtrack in a terminal of that size, on the workspace ``root``."""
    with _in_terminal(root, arguments, columns, lines, environ or {}) as (process, own):
        yield Session(process, own, columns, lines)


def written(
    root: Path, *arguments: object, typed: str = "", environ: Mapping[str, str | None] | None = None
) -> tuple[int, str]:
    """The exit code of a command in a terminal, and every byte that it wrote there; ``typed`` is typed at once."""
    found = b""
    with _in_terminal(root, [str(each) for each in arguments], 100, 30, environ or {}) as (process, own):
        os.write(own, typed.encode())
        # A terminal whose other end is closed cannot be read any more.
        with contextlib.suppress(OSError):
            while select.select([own], [], [], _PATIENCE_S)[0]:
                found += os.read(own, 65536)
        return process.wait(_PATIENCE_S), found.decode(errors="replace")


@contextlib.contextmanager
def _in_terminal(
    root: Path, arguments: Sequence[str], columns: int, lines: int, environ: Mapping[str, str | None]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    own, others = pty.openpty()
    _set_size(own, columns, lines)
    # pytest-xdist sets both variables, and they go before the terminal's own size.
    sizes = {"COLUMNS": None, "LINES": None}
    changes = {"TERM": "xterm-256color", "NO_COLOR": None, "SYNTHTRACK_ROOT": str(root), **sizes, **environ}
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_TERMINAL, *arguments],
        cwd=root,
        env=environment(changes),
        stdin=others,
        stdout=others,
        stderr=others,
    )
    os.close(others)
    try:
        yield process, own
    finally:
        process.kill()
        process.wait()
        os.close(own)


def _set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
