"""What there is to ask: views, tables, their columns, and example questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cli.render import columns, counted
from tracker.fingerprint import Json
from tracker.tracing.query import Relation
from tracker.tracing.questions import QUESTIONS, VIEWS, Question


def schema_text(found: Sequence[Relation]) -> Iterator[str]:
    """All views and tables with the names of their columns, then the questions."""
    for kind in ("view", "table"):
        there = [each for each in found if each.kind == kind]
        yield f"{counted(len(there), kind).capitalize()}:"
        for each in there:
            yield from ("", f"  {each.name}")
            if each.name in VIEWS:
                yield from _wrapped(VIEWS[each.name].row, "    ")
            yield from _wrapped(", ".join(name for name, _ in each.columns), "    - ", "      ")
        yield ""
    yield "Questions:"
    for question in QUESTIONS:
        yield from ("", *_question(question))
    yield from ("", "💾 `synthtrack sql --schema NAME` prints one of them with the meaning of its columns.")


def relation_text(relation: Relation) -> Iterator[str]:
    """One view or table: its columns with types or meanings, and the questions that use it."""
    view = VIEWS.get(relation.name)
    yield f"{relation.name} ({relation.kind})"
    if view is not None:
        yield from _wrapped(view.row, "  ")
    yield ""
    width = max(len(name) for name, _ in relation.columns)
    for name, kind in relation.columns:
        meaning = (view.columns.get(name) if view is not None else None) or kind
        yield from _wrapped(meaning.replace("`", ""), f"  {name:<{width}}  ", " " * (width + 4))
    for question in QUESTIONS:
        if _is_used(relation, question):
            yield from ("", *_question(question))


def relation_json(relation: Relation) -> dict[str, Json]:
    """The same as JSON."""
    meanings = VIEWS[relation.name].columns if relation.name in VIEWS else {}
    return {
        "name": relation.name,
        "kind": relation.kind,
        "columns": [{"name": name, "type": kind, "meaning": meanings.get(name)} for name, kind in relation.columns],
        "questions": [{"title": each.title, "sql": each.sql} for each in QUESTIONS if _is_used(relation, each)],
    }


def _is_used(relation: Relation, question: Question) -> bool:
    return re.search(rf"\b(?:FROM|JOIN) {re.escape(relation.name)}\b", question.sql) is not None


def _question(question: Question) -> Iterator[str]:
    yield from (f"  -- {question.title}", *(f"  {line}" for line in question.sql.splitlines()))


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    from textwrap import wrap

    return wrap(text, columns(), initial_indent=first, subsequent_indent=first if rest is None else rest) or [
        first.rstrip()
    ]
