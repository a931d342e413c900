"""A terminal as one whole screen: what is drawn on it, and the keys that come from it.

Keys are read here rather than by ``click.getchar``, which drops what was typed ahead, shows what is typed while nobody
reads, and takes keys that come together for one.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Self

UP, DOWN, LEFT, RIGHT = "up", "down", "left", "right"
PAGE_UP, PAGE_DOWN = "page up", "page down"
ENTER, ESCAPE, BACKSPACE, KILL = "enter", "escape", "backspace", "kill"
END = "end"
"""Nobody is there any more: Ctrl-D, or the terminal is gone."""
RESIZED = "resized"
PASTED = "pasted:"
"""Stands before a text that was pasted: it is no keys."""

_NAMED = {
    "\r": ENTER, "\n": ENTER, "\x1b": ESCAPE, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x15": KILL, "\x04": END,
    "\x1b[5~": PAGE_UP, "\x1b[6~": PAGE_DOWN,
    "\x1b[A": UP, "\x1b[B": DOWN, "\x1b[C": RIGHT, "\x1b[D": LEFT,
    "\x1bOA": UP, "\x1bOB": DOWN, "\x1bOC": RIGHT, "\x1bOD": LEFT,
}  # fmt: skip
_PASTE = "\x1b[200~"
_KEY = re.compile(r"\x1b\[200~(?P<pasted>.*?)\x1b\[201~|\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b?.", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?")
_ESCAPE_S, _PASTE_S, _LOOK_S = 0.05, 1.0, 0.25

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[2J"
_LEAVE = "\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l"


def split_key(typed: str) -> tuple[str, str] | None:
    """The first key of what was typed, and the rest; None where it is not all there yet. An unknown key is empty."""
    if (typed.startswith(_PASTE) and "\x1b[201~" not in typed) or _UNFINISHED.fullmatch(typed):
        return None
    found = _KEY.match(typed)
    if found is None:
        return None
    key, rest = found.group(), typed[found.end() :]
    if found["pasted"] is not None:
        return PASTED + found["pasted"], rest
    return _NAMED.get(key, key if key.isprintable() else ""), rest


def is_dumb() -> bool:
    """Whether the terminal can show lines only, one below the other."""
    return os.environ.get("TERM", "") in {"", "dumb", "unknown"}


def has_colour() -> bool:
    return not is_dumb() and not os.environ.get("NO_COLOR")


def edited(text: str, key: str) -> str:
    """A line of text after a key."""
    if key == BACKSPACE:
        return text[:-1]
    if key == KILL:
        return ""
    if key.startswith(PASTED):
        return text + " ".join(key.removeprefix(PASTED).split())
    return text + key if len(key) == 1 else text


class Terminal:
    """The terminal on stdin and stdout, held while the context lasts; afterwards it is as it was before."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed = ""
        self.is_dumb = is_dumb()
        self._lines: list[str] = []
        self._drawn: os.terminal_size | None = None

    @staticmethod
    def is_there() -> bool:
        """Whether somebody sits before stdin and stdout."""
        return sys.stdin.isatty() and sys.stdout.isatty()

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines as they are now."""
        found = os.get_terminal_size(sys.stdout.fileno())
        # A terminal that knows no size says 0.
        return found if all(found) else os.terminal_size((80, 24))

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._input)
        self._take_keys()
        self._write("" if self.is_dumb else _ENTER)
        return self

    def _take_keys(self) -> None:
        tty.setcbreak(self._input, termios.TCSADRAIN)
        attributes = termios.tcgetattr(self._input)
        # Stopped by Ctrl-Z, it would leave its screen to the shell.
        attributes[6][termios.VSUSP] = os.fpathconf(self._input, "PC_VDISABLE").to_bytes()
        termios.tcsetattr(self._input, termios.TCSADRAIN, attributes)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._write("" if self.is_dumb else _LEAVE)
        finally:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def draw(self, lines: Sequence[str]) -> None:
        """Shows these lines, from the top; only what changed is written."""
        if self.is_dumb:
            self._write("\n".join([*lines, ""]))
            return
        size, before = self.size, self._lines
        if size != self._drawn:
            before = []
        self._lines, self._drawn = list(lines[: size.lines]), size
        found = [] if before else ["\x1b[2J"]
        for at in range(max(len(self._lines), len(before))):
            line = self._lines[at] if at < len(self._lines) else ""
            if at >= len(before) or before[at] != line:
                # Erased before it is written: a cursor in the last column would erase what it has just written.
                found.append(f"\x1b[{at + 1};1H\x1b[0m\x1b[2K{line}")
        self._write("".join(found))

    def key(self) -> str:
        """The next key: itself, or one of the names above."""
        drawn = self._drawn
        while True:
            found = split_key(self._typed)
            if found is not None:
                key, self._typed = found
                if key:
                    return key
            elif not self._is_ready():
                # The Escape key alone; or a sequence whose end was lost.
                typed, self._typed = self._typed, ""
                if typed == "\x1b":
                    return ESCAPE
                if drawn is not None and self.size != drawn:
                    return RESIZED
            elif not self._read():
                return END

    def line(self, prompt: str) -> str | None:
        """A line that is typed on a dumb terminal, which edits it by itself; None where there is none."""
        self.discard()
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)
        try:
            return input(prompt).strip() or None
        except EOFError:
            return None
        finally:
            self._take_keys()

    def discard(self) -> None:
        """Forgets what has been typed ahead of what is on the screen."""
        termios.tcflush(self._input, termios.TCIFLUSH)
        self._typed = ""

    def _is_ready(self) -> bool:
        wait = _LOOK_S if not self._typed else _PASTE_S if self._typed.startswith(_PASTE) else _ESCAPE_S
        return bool(select.select([self._input], [], [], wait)[0])

    def _read(self) -> bool:
        try:
            found = os.read(self._input, 4096)
        except OSError:
            return False
        self._typed += self._decoder.decode(found)
        return bool(found)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
