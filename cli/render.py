"""How results look: the one place that writes to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from tracker.fingerprint import Json

RULE = "=" * 80
THIN_RULE = "-" * 80


def show_json(value: Json) -> None:
    """``value`` as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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


def is_terminal() -> bool:
    """Whether stderr, where bars are drawn, is a terminal."""
    return sys.stderr.isatty()


def usd(amount: float | None) -> str:
    """``$0.0123``, or ``unknown``."""
    return "unknown" if amount is None else f"${amount:,.4f}"


def moment(text: str | None) -> str:
    """``2026-11-20 21:46:52`` of a stored time (UTC)."""
    return "-" if text is None else text[:19].replace("T", " ")


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """``1 experiment``, ``2 experiments``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
