"""Rows that belong together: taken out of a record with all that they need, and removed with all that they own.

What is put into a record is in ``tracker.archives.bundle_insert``.
"""

# ruff: noqa: S608  what is put into a text here are names of tables and columns of the schema; values are parameters

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Connection, tuple_

from tracker.archives.bundle_insert import Inserted, insert
from tracker.archives.bundle_tables import (
    KEYS,
    LOCAL,
    RELATIONS,
    Backlink,
    Bundle,
    Follow,
    Key,
    Link,
    Mention,
    Row,
    links_from,
    links_to,
    parents_first,
    primary_key,
)
from tracker.record.catalogue import Reader
from tracker.schema import table

__all__ = ["KEYS", "LOCAL", "RELATIONS", "Bundle", "Inserted", "gather", "insert", "owned", "remove"]

_CHUNK = 400

Roots = Mapping[str, Iterable[Any]]
Owned = Mapping[str, Sequence[Key]]
"""Primary keys by table, children first."""


def gather(reader: Reader, roots: Roots, *, leave: Collection[str] = ()) -> Bundle:
    """Everything that the rows ``roots`` (ids by table) own and need, as it stands in the reader's snapshot.

    Tables of ``leave`` are left out. Rows are read from ``reader`` when they are asked for, in the order of their keys.
    """
    found = _Selection(reader, {*leave, *LOCAL})
    found.add(roots)
    keys = {name: sorted(of) for name, of in found.keys.items() if of}
    outside = dict.fromkeys(found.outside(keys))
    return Bundle(
        counts={name: len(of) for name, of in keys.items()},
        read=lambda name: _rows(reader, name, keys.get(name, [])),
        mentions=[Mention(name, each, natural_key(reader, name, each)) for name, each in sorted(outside, key=str)],
        backlinks=list(found.backlinks(keys)),
    )


def owned(reader: Reader, roots: Roots) -> dict[str, list[Key]]:
    """What a deletion of ``roots`` (ids by table) removes: primary keys by table, children first, the roots as well."""
    found: dict[str, set[Key]] = {}
    todo = [(name, [_as_key(each) for each in ids]) for name, ids in roots.items()]
    while todo:
        name, keys = todo.pop()
        seen = found.setdefault(name, set())
        new = [key for key in keys if key not in seen]
        seen.update(new)
        deleting = [link for link in links_to(name) if new and Follow.DELETE in link.follow]
        todo += [(link.child, _children(reader, link, new)) for link in deleting]
    return {name: sorted(found[name]) for name in reversed(parents_first()) if found.get(name)}


def remove(connection: Connection, removed: Owned) -> int:
    """Removes these rows; what points to them and stays (attempts, adopted decisions) points to nothing.

    How many rows were removed. For the caller's transaction.
    """
    for name, keys in removed.items():
        for link in links_to(name):
            column = table(link.child).c[link.column]
            if link.nullable and link.child not in LOCAL:
                for chunk in _chunks(keys):
                    gone = column.in_([key[0] for key in chunk])
                    connection.execute(table(link.child).update().where(gone).values({link.column: None}))
    n_rows = 0
    for name in reversed(parents_first()):
        of = table(name)
        columns = [of.c[each] for each in primary_key(name)]
        for chunk in _chunks(removed.get(name, ())):
            where = tuple_(*columns).in_(chunk) if len(columns) > 1 else columns[0].in_([key[0] for key in chunk])
            n_rows += connection.execute(of.delete().where(where)).rowcount
    return n_rows


def natural_key(reader: Reader, name: str, row_id: Any) -> Key:
    """What a row is known by in another record; where a part of it is a parent, the parent's key stands there."""
    columns = ", ".join(KEYS[name])
    row = reader.rows(f"SELECT {columns} FROM {name} WHERE {primary_key(name)[0]} = :id", id=row_id)[0]
    return _key_of(reader, name, row)


def _key_of(reader: Reader, name: str, row: Row) -> Key:
    parents = {link.column: link.parent for link in links_from(name)}
    return tuple(
        natural_key(reader, parents[column], row[column]) if column in parents else row[column] for column in KEYS[name]
    )


class _Selection:
    def __init__(self, reader: Reader, left: Collection[str]) -> None:
        self._reader = reader
        self._left = left
        self.keys: dict[str, set[Key]] = {}
        self._own: dict[str, set[Key]] = {}

    def add(self, roots: Roots) -> None:
        todo = [(name, [_as_key(each) for each in ids], True) for name, ids in roots.items()]
        while todo:
            name, keys, is_own = todo.pop()
            if name in self._left:
                continue
            known, own = self.keys.setdefault(name, set()), self._own.setdefault(name, set())
            new = [key for key in keys if key not in known]
            newly_own = [key for key in keys if is_own and key not in own]
            known.update(new)
            own.update(newly_own)
            todo += self._parents(name, new)
            for link in links_to(name):
                if Follow.ALL in link.follow:
                    todo.append((link.child, _children(self._reader, link, new), False))
                elif Follow.OWN in link.follow:
                    todo.append((link.child, _children(self._reader, link, newly_own), True))

    def _parents(self, name: str, keys: Sequence[Key]) -> list[tuple[str, list[Key], bool]]:
        needed = [link for link in links_from(name) if Follow.NEED in link.follow]
        wanted: dict[str, set[Key]] = {link.parent: set() for link in needed}
        columns = [link.column for link in needed]
        if name == "request":
            columns, wanted = ["messages"], {"message": set()}
        for row in _rows(self._reader, name, keys, columns) if columns else ():
            for link in needed:
                if row[link.column] is not None:
                    wanted[link.parent].add((row[link.column],))
            if name == "request":
                wanted["message"].update((key,) for key in json.loads(row["messages"]))
        return [(parent, list(of), False) for parent, of in wanted.items() if of]

    def outside(self, keys: Mapping[str, Sequence[Key]]) -> Iterator[tuple[str, Any]]:
        """Rows that are pointed to and left out."""
        for name, of in keys.items():
            loose = [link for link in links_from(name) if Follow.NEED not in link.follow]
            for row in _rows(self._reader, name, of, [link.column for link in loose]) if loose else ():
                for link in loose:
                    value = row[link.column]
                    if value is not None and (value,) not in self.keys.get(link.parent, ()):
                        yield link.parent, value

    def backlinks(self, keys: Mapping[str, Sequence[Key]]) -> Iterator[Backlink]:
        """Rows that are left out and point to what is owned in here."""
        for name in keys:
            for link in links_to(name):
                if not link.nullable or link.child in self._left or KEYS[link.child][0] == link.column:
                    continue
                for key in _children(self._reader, link, sorted(self._own.get(name, ()))):
                    if key not in self.keys.get(link.child, ()):
                        row = next(iter(_rows(self._reader, link.child, [key])))
                        yield Backlink(
                            link.child, _key_of(self._reader, link.child, row), link.column, row[link.column]
                        )


def _rows(reader: Reader, name: str, keys: Sequence[Key], columns: Sequence[str] = ()) -> Iterator[Row]:
    own = primary_key(name)
    flags = [column.name for column in table(name).columns if isinstance(column.type, Boolean)]
    chosen = ", ".join(columns) if columns else ", ".join(column.name for column in table(name).columns)
    for chunk in _chunks(keys):
        condition, values = _among(own, chunk)
        for row in reader.rows(f"SELECT {chosen} FROM {name} WHERE {condition} ORDER BY {', '.join(own)}", **values):
            yield row | {flag: bool(row[flag]) for flag in flags if row.get(flag) is not None}


def _children(reader: Reader, link: Link, keys: Sequence[Key]) -> list[Key]:
    own = primary_key(link.child)
    found: list[Key] = []
    for chunk in _chunks(keys):
        condition, values = _among([link.column], chunk)
        rows = reader.rows(f"SELECT {', '.join(own)} FROM {link.child} WHERE {condition}", **values)
        found += [tuple(row[column] for column in own) for row in rows]
    return found


def _among(columns: Sequence[str], keys: Sequence[Key]) -> tuple[str, dict[str, Any]]:
    values = {f"k{at}_{part}": value for at, key in enumerate(keys) for part, value in enumerate(key)}
    if len(columns) == 1:
        return f"{columns[0]} IN ({', '.join(f':k{at}_0' for at in range(len(keys)))})", values
    tuples = (f"({', '.join(f':k{at}_{part}' for part in range(len(columns)))})" for at in range(len(keys)))
    return f"({', '.join(columns)}) IN (VALUES {', '.join(tuples)})", values


def _as_key(given: Any) -> Key:
    return given if isinstance(given, tuple) else (given,)


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
