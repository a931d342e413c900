"""`synthtrack sql`: a question of one's own to the record, which it can only read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from cli.options import as_json, workspace
from cli.render import counted, note, show, show_either
from cli.text.sql_text import as_table, csv_portions, json_portions
from tracker.errors import QueryError, StorageError, UnknownReference
from tracker.paths import Workspace
from tracker.tracing.query import Answer, asking, relations

DEFAULT_LIMIT = 1000
DEFAULT_TIMEOUT_S = 30.0
_PORTION = 1000
_ALL = "*"
_NO_ROWS = "The query gave no rows."


@click.command()
@click.argument("query", required=False)
@click.option("--file", "file", type=click.Path(path_type=Path), metavar="FILE", help="Read the query from a file.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@as_json
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Print N rows at most; 0 is all. Default: {DEFAULT_LIMIT}, with --csv and --json all.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=DEFAULT_TIMEOUT_S,
    metavar="S",
    help=f"Stop a query after S seconds of work; 0 is never. Default: {DEFAULT_TIMEOUT_S:g}.",
)
@click.option(
    "--schema",
    is_flag=False,
    flag_value=_ALL,
    metavar="[NAME]",
    help="Print the views and tables and example questions, or one of them with its columns.",
)
@workspace
def sql(
    place: Workspace,
    *,
    query: str | None,
    file: Path | None,
    as_csv: bool,
    as_json: bool,
    limit: int | None,
    timeout: float,
    schema: str | None,
) -> None:
    """Ask the database a question in SQL, which cannot change it.

    QUERY is one SELECT; - reads it from standard input.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    if schema is not None:
        if query is not None or file is not None:
            raise click.UsageError("--schema takes the name of a view or table, and no query.")
        _show_schema(place, schema, as_json=as_json)
        return
    asked = _query(query, file)
    most = limit if limit is not None else 0 if as_csv or as_json else DEFAULT_LIMIT
    with asking(place, asked, timeout_s=timeout) as answer:
        rows = _Portions(answer, most)
        if as_csv:
            _print(csv_portions(answer.columns, rows))
        elif as_json:
            _print(json_portions(answer.columns, rows))
        else:
            show(as_table(answer.columns, list(chain.from_iterable(rows)), cut=sys.stdout.isatty()))
        if rows.is_cut:
            note(f"💾 Only the first {counted(most, 'row')}; --limit 0 prints all.")
        elif rows.n == 0 and not (as_csv or as_json):
            note(_NO_ROWS)


class _Portions:
    """The rows of an answer up to ``most``; whether there would have been more is known at their end."""

    def __init__(self, answer: Answer, most: int) -> None:
        self._answer, self._most = answer, most
        self.n, self.is_cut = 0, False

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        while True:
            wanted = min(_PORTION, self._most - self.n) if self._most else _PORTION
            rows = self._answer.fetch(wanted)
            self.n += len(rows)
            if rows:
                yield rows
            if len(rows) < wanted:
                return
            if self.n == self._most:
                self.is_cut = bool(self._answer.fetch(1))
                return


def _print(portions: Iterator[str]) -> None:
    for portion in portions:
        show(portion)


def _query(query: str | None, file: Path | None) -> str:
    if (query is None) == (file is None):
        raise click.UsageError("Give one query: as an argument, - for standard input, or --file FILE.")
    try:
        if file is not None:
            return file.read_text(encoding="utf-8")
        # What is not UTF-8 is held in surrogates in arguments, and may be in standard input.
        return (sys.stdin.read() if query == "-" else str(query)).encode().decode()
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeError as error:
        what = file or ("Standard input" if query == "-" else "The query")
        raise QueryError(f"{what} is no text in UTF-8.") from error


def _show_schema(place: Workspace, name: str, *, as_json: bool) -> None:
    from cli.text.sql_schema import relation_json, relation_text, schema_text

    found = relations(place)
    if name != _ALL:
        chosen = [each for each in found if each.name == name]
        if not chosen:
            raise UnknownReference("table or view", name, [each.name for each in found])
        found = chosen
    show_either(
        [relation_json(each) for each in found],
        lambda: schema_text(found) if name == _ALL else relation_text(found[0]),
        as_json=as_json,
    )
