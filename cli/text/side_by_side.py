"""Texts beside each other, wrapped into the columns of a terminal: whole, or their first lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from cli.render import harmless

_GAP = "  "
_MORE = " ..."
_NARROWEST = 8
MOST_CHARACTERS = 100_000
"""Of one text that are laid out: fifty pages, which somebody may still read in a terminal."""


def beside(
    rows: Sequence[Sequence[str]], columns: int, *, labels: int = 22, most_lines: int | None = None
) -> list[str]:
    """Rows of a label and one or more texts, the texts in columns of equal width; nothing is wider than ``columns``.

    Labels take up to ``labels`` cells. Of a text with more than ``most_lines`` lines the first are shown, with dots.
    """
    if not rows:
        return []
    n_texts = max(len(row) for row in rows) - 1
    label = min(labels, max(cells(harmless(row[0])) for row in rows), columns // 3)
    width = max(_NARROWEST, (columns - label - n_texts * len(_GAP)) // n_texts)
    widths = [label, *[width] * n_texts]
    blocks = [list(zip_longest(*_cells(row, widths, most_lines), fillvalue="")) for row in rows]
    apart = any(len(block) > 1 for block in blocks)
    found: list[str] = []
    for block in blocks:
        found += [""] if apart and found else []
        found += [_GAP.join(map(padded, line, widths)).rstrip() for line in block]
    return found


def _cells(row: Sequence[str], widths: Sequence[int], most_lines: int | None) -> Iterator[list[str]]:
    for at, (text, width) in enumerate(zip(row, widths, strict=True)):
        yield wrapped(text, width, most_lines if at else None)


def wrapped(text: str, width: int, most_lines: int | None = None) -> list[str]:
    """``text`` in lines of at most ``width`` cells, made harmless; dots where lines are left out.

    Of a very long text it is the beginning, and how much more there is.
    """
    lines: list[str] = []
    for line in harmless(text[:MOST_CHARACTERS]).split("\n"):
        for each in _wrapped(line.rstrip(), width):
            if most_lines is not None and len(lines) == most_lines:
                lines[-1] = f"{_cut(lines[-1], width - len(_MORE)).rstrip()}{_MORE}"
                return lines
            lines.append(each)
    left = len(text) - MOST_CHARACTERS
    return [*lines, *_wrapped(f"... {left:,} more characters; --json shows all", width)] if left > 0 else lines


def hanging(line: str, width: int) -> Iterator[str]:
    """A line of so many cells, made harmless, what follows it set off."""
    first = wrapped(line, width)[0]
    yield first
    rest = harmless(line)[len(first) :].strip()
    if rest:
        yield from (f"{_GAP}{each}" for each in wrapped(rest, width - len(_GAP)))


def cells(text: str) -> int:
    """How wide a terminal shows one line of ``text``."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def padded(text: str, width: int) -> str:
    """``text`` with blanks up to ``width`` cells."""
    return text + " " * (width - cells(text))


def _cells_of(char: str) -> int:
    if unicodedata.combining(char) or char in "\u200c\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _wrapped(line: str, width: int) -> Iterator[str]:
    """One line at least; broken at blanks, within words where those are too long."""
    start = 0
    while (end := _end(line, start, width)) < len(line):
        head = line[start:end]
        blank = head.rfind(" ") if line[end] != " " else len(head)
        at = blank if blank > 0 and head[:blank].strip() else len(head)
        yield head[:at].rstrip()
        start += at
        while line[start] == " ":
            start += 1
    yield line[start:]


def _cut(text: str, width: int) -> str:
    """The beginning of ``text`` that takes at most ``width`` cells, one character at least."""
    return text[: _end(text, 0, width)]


def _end(text: str, start: int, width: int) -> int:
    """Where in ``text`` that many cells from ``start`` on end."""
    taken = 0
    for at in range(start, len(text)):
        taken += _cells_of(text[at])
        if taken > width:
            return max(at, start + 1)
    return len(text)
