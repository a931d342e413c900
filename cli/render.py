"""How results look: the one place that writes to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from tracker.fingerprint import Json

RULE = "=" * 80
THIN_RULE = "-" * 80


def show_json(value: Json) -> None:
    """``value`` as indented JSON."""
    click.echo(json_text(value, indent=2))


def json_text(value: Json, *, indent: int | None = None) -> str:
    """``value`` as JSON; NaN and the infinities, for which that has no words, as texts."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=str)
        return json.dumps(finite, indent=indent, ensure_ascii=False)


def show_either(value: Json, lines: Callable[[], Iterable[str]], *, as_json: bool) -> None:
    """``value`` as JSON, or the ``lines`` for people."""
    if as_json:
        show_json(value)
    else:
        show("\n".join(lines()))


def show(text: str = "") -> None:
    """A line of the result."""
    click.echo(text)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], widths: Sequence[int | None] | None = None) -> str:
    """Rows under their headers, cells as they are; texts wider than ``widths`` are wrapped."""
    from tabulate import tabulate

    return tabulate(rows, headers, maxcolwidths=None if widths is None else list(widths), disable_numparse=True)


def note(text: str) -> None:
    """A line for the person, not the pipe: stderr."""
    click.echo(text, err=True)


def note_new_workspace(root: Path, *, dry_run: bool = False) -> None:
    """Where a new workspace is made, or would be: to be said before anything is paid for in a wrong directory."""
    note(f"💾 {'A new workspace would be made' if dry_run else 'New workspace'}: {root}")


def is_terminal() -> bool:
    """Whether stderr, where bars are drawn, is a terminal."""
    return sys.stderr.isatty()


def columns() -> int:
    """How wide the result may be: as the terminal, elsewhere as the rules; never below 60 columns."""
    if not sys.stdout.isatty():
        return len(RULE)
    from shutil import get_terminal_size

    return max(60, get_terminal_size((len(RULE), 24)).columns)


def usd(amount: float | None) -> str:
    """``$0.0123``, or ``unknown``."""
    return "unknown" if amount is None else f"${amount:,.4f}"


def moment(text: str | None) -> str:
    """``2026-11-20 21:46:52`` of a stored time (UTC)."""
    return "-" if text is None else text[:19].replace("T", " ")


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """``1 experiment``, ``2 experiments``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def quoted(text: str) -> str:
    """A longer text within a result, set off from it."""
    return "\n".join(f"   | {line}".rstrip() for line in text.splitlines())


def harmless(text: str) -> str:
    """``text`` with what would steer a terminal, or hide in it, made visible; lines, letters and emoji stay."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    import unicodedata

    # Joiners make letters and emoji; the other format characters can turn a text round or hide in it.
    if char in "\n\u200c\u200d":
        return char
    if char == "\t" or unicodedata.category(char) == "Zs":
        return "    " if char == "\t" else " "
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return chr(0x2421 if code == 0x7F else 0x2400 + code)
    return f"<U+{code:04X}>"
