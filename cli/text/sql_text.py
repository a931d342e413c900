"""How the rows of a query look: as a table, as CSV, as JSON; the last two a portion at a time."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from cli.render import counted, harmless

Rows = Sequence[Sequence[Any]]
_WIDEST = 60
_DIGITS = 10


def as_table(columns: Sequence[str], rows: Rows, *, cut: bool) -> str:
    """The rows under their columns; NULL is written out. With ``cut`` each is one line and long cells end early."""
    from tabulate import tabulate

    sides = ["right" if _is_numeric(row[at] for row in rows) else "left" for at in range(len(columns))]
    cells = [[_cell(value, cut=cut) for value in row] for row in rows]
    return tabulate(
        cells, [harmless(each) for each in columns], disable_numparse=True, colalign=sides if rows else None
    )


def csv_portions(columns: Sequence[str], portions: Iterable[Rows]) -> Iterator[str]:
    """CSV with a header (RFC 4180, but that lines end in a plain newline); NULL is an empty field."""
    yield _csv([columns])
    yield from (_csv(rows) for rows in portions)


def json_portions(columns: Sequence[str], portions: Iterable[Rows]) -> Iterator[str]:
    """A JSON array, one object on a line; of columns of one name the later ones get a number: ``id``, ``id_2``."""
    names = _distinct(columns)
    held = ""
    for rows in portions:
        if held:
            yield f"{held},"
        objects = (dict(zip(names, map(_for_json, row), strict=True)) for row in rows)
        lines = ",\n".join(f"  {json.dumps(each, ensure_ascii=False, default=str)}" for each in objects)
        held = lines if held else f"[\n{lines}"
    yield f"{held}\n]" if held else "[]"


def _is_numeric(values: Iterable[Any]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, int | float | Decimal) for value in there)


def _cell(value: Any, *, cut: bool) -> str:
    value = _plain(value)
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    text = harmless(str(value))
    if not cut:
        return text
    line = text.replace("\n", "␊")
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"


def _csv(rows: Rows) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([_plain(value) for value in row] for row in rows)
    return written.getvalue().removesuffix("\n")


def _for_json(value: Any) -> Any:
    value = _plain(value)
    # JSON has no word for what is not finite.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return f"<{counted(len(value), 'byte')}>"
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _distinct(names: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name}_{number}"
        found[own] = None
    return list(found)
