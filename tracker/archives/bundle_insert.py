"""Puts a bundle into a record: rows get new ids; what is there already is known by its natural key and left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select

from tracker import clock
from tracker.archives.bundle_check import check
from tracker.archives.bundle_tables import (
    KEYS,
    LOCAL,
    Backlink,
    Bundle,
    Key,
    Link,
    Row,
    links_from,
    links_to,
    primary_key,
)
from tracker.paths import name_problem
from tracker.record import data_links
from tracker.record.database import Database
from tracker.record.lease import NO_LEASE
from tracker.record.sources import blocks
from tracker.schema import table

Adapt = Callable[[Connection, str, Row], Row]
"""Changes a row of a table before it is put in; its foreign keys are those of the record that it goes to."""

T = TypeVar("T")

_BLOCK = 1000
_LOGGED = ("generation_run", "training_run", "training_sweep", "agent_run", "task_pool", "pool_validation")
_RUNS = ("generation_run", "training_run", "training_sweep", "agent_run", "pool_validation")
_OPEN = frozenset({"decision", "checkpoint"})
_SEALED = frozenset({
    "source_split", "source_record", "benchmark_task", "sample", "imported_file", "agent_perspective", "agent_response",
    "task_pool_benchmark", "task_pool_task", "training_data", "training_metric", "prediction", "pool_answer",
    "judge_test_sample", *_OPEN,
})  # fmt: skip
"""What makes up its parent: where that is known already, it keeps its own."""
_BROUGHT_IN_BY = "import_run_id"
"""What was made here stays so, wherever else it was imported."""


@dataclass
class Inserted:
    """What became of a bundle: ids here by ids there, new and known rows by table, what had to be called otherwise.

    ``ids`` and ``made`` (the ids of new rows) hold those that others may point to; ``renamed`` is (table, name there,
    name here); ``unlinked`` counts links, and rows that are nothing without them, whose other end is not here.
    ``regained`` are attempts that were here and have their generation run again.
    """

    ids: dict[str, dict[Any, Any]] = field(default_factory=dict)
    made: dict[str, set[Any]] = field(default_factory=dict)
    new: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    unlinked: Counter[str] = field(default_factory=Counter)
    renamed: list[tuple[str, str, str]] = field(default_factory=list)
    regained: list[int] = field(default_factory=list)


def insert(database: Database, connection: Connection, bundle: Bundle, adapt: Adapt | None = None) -> Inserted:
    """Puts the rows of ``bundle`` in, in the caller's transaction, and into MLflow's outbox what belongs there.

    Parents come before children; a row whose natural key is here is left as it is, but for links that it lacks. What
    runs is interrupted, leases are free. Raises Corrupt and Conflict before anything is put in: a fingerprint that
    stands for other settings here, or for other data.
    """
    check(connection, bundle)
    return _Insertion(database, connection, bundle, adapt).run()


class _Insertion:
    def __init__(self, database: Database, connection: Connection, bundle: Bundle, adapt: Adapt | None) -> None:
        self._database, self._connection, self._bundle, self._adapt = database, connection, bundle, adapt
        self._done = Inserted()
        self._mentioned: dict[tuple[str, Any], Any] = {}
        self._finished: set[Any] = set()

    def run(self) -> Inserted:
        for mention in self._bundle.mentions:
            self._mentioned[mention.table, mention.id] = self._find(mention.table, mention.key)
        for name in self._bundle.tables():
            if name in LOCAL:
                continue
            self._done.ids.setdefault(name, {})
            self._done.made.setdefault(name, set())
            of_table = _Table(name)
            for rows in blocks(self._bundle.read(name), _BLOCK):
                self._block(of_table, rows)
            if name == "shared_experiment":
                self._note_finished()
        for backlink in self._bundle.backlinks:
            self._link_back(backlink)
        if self._done.made.get("shared_experiment") or self._done.made.get("training_run"):
            data_links.link(self._connection)
        self._tell_mlflow()
        self._revive_batches()
        return self._done

    def _block(self, of: _Table, rows: Sequence[Row]) -> None:
        linked = [(row, found) for row in rows if (found := self._linked(of, row)) is not None]
        known = self._known(of, [found for _, found in linked])
        new: list[tuple[Row, Row]] = []
        for row, found in linked:
            key = tuple(found[column] for column in of.key)
            here = known.get(key)
            if here is not None:
                self._done.known[of.name] += 1
                self._note(of, row, here[0])
                self._fill(of, here, found)
            elif self._is_sealed(of, found):
                self._done.known[of.name] += 1
            else:
                new.append((row, self._adapted(of, found)))
        self._put(of, new)

    def _linked(self, of: _Table, row: Row) -> Row | None:
        """``row`` with the foreign keys of this record; None where it is nothing without one that is not here."""
        found = dict(row)
        for link in of.links:
            there = row[link.column]
            if there is None:
                continue
            here = self._here(link, there)
            if here is None:
                self._done.unlinked[of.name] += 1
                if not link.nullable:
                    return None
            found[link.column] = here
        return found

    def _here(self, link: Link, there: Any) -> Any:
        ids = self._done.ids.get(link.parent, {})
        return ids[there] if there in ids else self._mentioned.get((link.parent, there))

    def _known(self, of: _Table, rows: Sequence[Row]) -> dict[Key, tuple[Any, Row]]:
        """Rows that are here, by natural key: their primary key and the links that may be filled."""
        first = of.key[0]
        made = self._done.made.get(of.parent, set()) if of.parent is not None else set()
        values = {row[first] for row in rows} - made - of.looked_up.keys()
        if of.parent is not None:
            of.forget({row[first] for row in rows})
        columns = [*of.primary, *of.key, *of.fillable]
        chosen = [of.table.c[column] for column in dict.fromkeys(columns)]
        for chunk in blocks(sorted(values, key=str), _BLOCK):
            of.looked_up.update({value: {} for value in chunk})
            for found in self._connection.execute(select(*chosen).where(of.table.c[first].in_(chunk))).mappings():
                key = tuple(found[column] for column in of.key)
                of.looked_up[key[0]][key] = found[of.primary[0]], dict(found)
        # Asked row by row: of a parent with many children all are looked up at once.
        keys = [tuple(row[column] for column in of.key) for row in rows]
        known = {key: of.looked_up[key[0]][key] for key in keys if key in of.looked_up.get(key[0], ())}
        if of.parent is None:
            of.looked_up.clear()
        return known

    def _is_sealed(self, of: _Table, row: Row) -> bool:
        if of.name not in _SEALED or of.parent is None or row[of.key[0]] in self._done.made.get(of.parent, ()):
            return False
        return of.name not in _OPEN or row[of.key[0]] in self._finished

    def _fill(self, of: _Table, here: tuple[Any, Row], row: Row) -> None:
        lacking = {column: row[column] for column in of.fillable if here[1][column] is None and row[column] is not None}
        if lacking:
            own = (of.table.c[column] == here[1][column] for column in of.primary)
            self._connection.execute(of.table.update().where(*own).values(lacking))
            if of.name == "attempt" and "generation_run_id" in lacking:
                self._done.regained.append(here[0])

    def _adapted(self, of: _Table, row: Row) -> Row:
        if "lease_host" in row:
            row |= NO_LEASE
        if of.name in _RUNS and row["status"] == "running":
            row["status"] = "interrupted"
        if self._adapt is not None:
            row = self._adapt(self._connection, of.name, row)
        if of.name == "benchmark" and row["is_current"]:
            same = of.table.c.name == row["name"], of.table.c.is_current
            row["is_current"] = self._connection.execute(select(of.table.c.id).where(*same)).first() is None
        return row

    def _put(self, of: _Table, rows: Sequence[tuple[Row, Row]]) -> None:
        if not rows:
            return
        self._done.new[of.name] += len(rows)
        if of.name in _NAMING:
            for there, row in rows:
                self._done.renamed += _NAMING[of.name](self._connection, row)
                self._insert(of, [(there, row)])
        else:
            self._insert(of, rows)

    def _insert(self, of: _Table, rows: Sequence[tuple[Row, Row]]) -> None:
        own_parent = [link for link in of.links if link.parent == of.name]
        values = [{column: value for column, value in row.items() if column != "id"} for _, row in rows]
        statement = of.table.insert()
        if "id" in of.primary:
            returned = self._connection.execute(
                statement.returning(of.table.c.id, sort_by_parameter_order=True), values
            ).scalars()
            for (there, row), here in zip(rows, returned, strict=True):
                self._note(of, there, here)
                if of.is_pointed_to:
                    self._done.made[of.name].add(here)
                for link in own_parent:
                    self._adopt(of, link, there, row, here)
        else:
            self._connection.execute(statement, values)
            for there, row in rows:
                self._note(of, there, row[of.primary[0]])
                self._done.made[of.name].add(row[of.primary[0]])

    def _adopt(self, of: _Table, link: Link, there: Row, row: Row, here: Any) -> None:
        # A row of the same block, or of the table's later ones, has its id only now.
        value = there[link.column]
        if value is not None and row[link.column] is None and (found := self._here(link, value)) is not None:
            self._connection.execute(of.table.update().where(of.table.c.id == here).values({link.column: found}))
            self._done.unlinked[of.name] -= 1

    def _note(self, of: _Table, there: Row, here: Any) -> None:
        if of.is_pointed_to:
            self._done.ids[of.name][there[of.primary[0]]] = here

    def _find(self, name: str, key: Key) -> Any:
        of = table(name)
        parents = {link.column: link.parent for link in links_from(name)}
        conditions = []
        for column, value in zip(KEYS[name], key, strict=True):
            wanted = self._find(parents[column], tuple(value)) if column in parents else value
            if wanted is None:
                return None
            conditions.append(of.c[column] == wanted)
        return self._connection.execute(select(of.c[primary_key(name)[0]]).where(*conditions)).scalar()

    def _link_back(self, backlink: Backlink) -> None:
        of = table(backlink.child)
        parent = next(link.parent for link in links_from(backlink.child) if link.column == backlink.column)
        here = self._done.ids.get(parent, {}).get(backlink.target)
        found = self._find(backlink.child, backlink.key)
        if here is not None and found is not None:
            own = of.c[primary_key(backlink.child)[0]] == found
            lacks = of.c[backlink.column].is_(None)
            self._connection.execute(of.update().where(own, lacks).values({backlink.column: here}))

    def _note_finished(self) -> None:
        of = table("shared_experiment")
        ids = list(self._done.ids["shared_experiment"].values())
        for chunk in blocks(ids, _BLOCK):
            finished = of.c.id.in_(chunk), of.c.status != "unfinished"
            self._finished.update(self._connection.execute(select(of.c.id).where(*finished)).scalars())

    def _tell_mlflow(self) -> None:
        now = clock.to_text(clock.now())
        for name in _LOGGED:
            rows = [
                {"kind": name, f"{name}_id": each, "created_at": now} for each in sorted(self._done.made.get(name, ()))
            ]
            for block in blocks(rows, _BLOCK):
                self._database.insert_new(self._connection, table("mlflow_outbox"), block)

    def _revive_batches(self) -> None:
        batch = table("batch")
        for batch_id in sorted(self._done.made.get("batch_membership", ())):
            deleted = batch.c.id == batch_id, batch.c.deleted_at.is_not(None)
            self._connection.execute(batch.update().where(*deleted).values(deleted_at=None))


class _Table:
    """What is asked about a table again and again."""

    def __init__(self, name: str) -> None:
        self.name, self.table = name, table(name)
        self.key, self.primary = KEYS[name], primary_key(name)
        self.links = links_from(name)
        # Of the many rows that nothing points to (samples, attempts, predictions) no id has to be kept.
        self.is_pointed_to = len(self.primary) == 1 and bool(links_to(name))
        parents = {link.column: link.parent for link in self.links}
        self.parent = parents.get(self.key[0])
        self.fillable = [
            link.column for link in self.links if link.nullable and link.column not in {*self.key, _BROUGHT_IN_BY}
        ]
        self.looked_up: dict[Any, dict[Key, tuple[Any, Row]]] = {}

    def forget(self, kept: set[Any]) -> None:
        """Drops what was looked up of other parents than these."""
        for value in [each for each in self.looked_up if each not in kept]:
            del self.looked_up[value]


def _experiment_name(connection: Connection, row: Row) -> Iterator[tuple[str, str, str]]:
    of = table("shared_experiment")
    names = connection.execute(select(of.c.name).where(of.c.dataset == row["dataset"])).scalars()
    yield from _renamed("shared_experiment", "name", row, set(names))


def _dataset_name(connection: Connection, row: Row) -> Iterator[tuple[str, str, str]]:
    yield from _renamed(
        "agent_dataset", "name", row, set(connection.execute(select(table("agent_dataset").c.name)).scalars())
    )


def _pool_name(connection: Connection, row: Row) -> Iterator[tuple[str, str, str]]:
    yield from _renamed("task_pool", "name", row, set(connection.execute(select(table("task_pool").c.name)).scalars()))


def _run_names(connection: Connection, row: Row) -> Iterator[tuple[str, str, str]]:
    of = table("training_run")
    stem = of.c.directory.startswith(row["directory"], autoescape=True)
    yield from _renamed(
        "training_run", "directory", row, set(connection.execute(select(of.c.directory).where(stem)).scalars())
    )
    attempts = select(of.c.attempt).where(of.c.fingerprint == row["fingerprint"])
    if row["attempt"] in set(connection.execute(attempts).scalars()):
        latest = select(func.max(of.c.attempt)).where(of.c.fingerprint == row["fingerprint"])
        row["attempt"] = connection.execute(latest).scalar_one() + 1


def _renamed(name: str, column: str, row: Row, taken: set[str]) -> Iterator[tuple[str, str, str]]:
    wanted = stem = row[column]
    number = 1
    while row[column] in taken:
        number += 1
        row[column] = f"{stem}_{number}"
        while name_problem(row[column].rpartition("/")[2]) is not None and len(stem) > 1:
            stem = stem[:-1]
            row[column] = f"{stem}_{number}"
    if row[column] != wanted:
        yield name, wanted, row[column]


_NAMING: Mapping[str, Callable[[Connection, Row], Iterator[tuple[str, str, str]]]] = {
    "shared_experiment": _experiment_name,
    "agent_dataset": _dataset_name,
    "task_pool": _pool_name,
    "training_run": _run_names,
}
