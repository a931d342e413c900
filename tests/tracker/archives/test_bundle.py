"""Rows that belong together: every table has its place, and what is taken out and put back is what was there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import agent_rows, pool_rows, training_rows
from tests.databases import KINDS, empty_workspace
from tracker.archives.bundle import KEYS, LOCAL, RELATIONS, Bundle, gather, insert, owned, remove
from tracker.archives.bundle_tables import Follow, Row
from tracker.errors import Conflict, Corrupt
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, reading
from tracker.record.database import open_database
from tracker.schema import METADATA, table

VARIES = {"id", "created_at", "logged_at"}
ROOTS = ("shared_experiment", "training_run", "agent_dataset", "task_pool")
SKIPPED = {*LOCAL, "publication", "import_run"}


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with trainings on experiments, agent data sets and pools."""
    here = training_rows.training_study(tmp_path / "here").workspace
    with open_database(here) as database:
        agent_rows.add_source(database)
        agent_rows.make(database)
    return pool_rows.populate(here)


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "other", environ={})


def everything(reader: Reader) -> Bundle:
    return gather(reader, {name: [row["id"] for row in reader.rows(f"SELECT id FROM {name}")] for name in ROOTS})


def held(bundle: Bundle) -> Bundle:
    """The bundle with its rows in memory, as the record may change."""
    rows = {name: list(bundle.read(name)) for name in bundle.tables()}
    return replace(bundle, read=lambda name: rows[name])


def natural(reader: Reader) -> dict[str, list[tuple[Any, ...]]]:
    """Every row without its id, with the natural keys of its parents instead of theirs, in an order of its own."""
    found: dict[str, dict[Any, tuple[str, ...]]] = {}
    result = {}
    for each in METADATA.sorted_tables:
        rows = reader.rows(f"SELECT * FROM {each.name}")
        # What runs is interrupted when it goes elsewhere.
        rows = [row | ({"status": "interrupted"} if row.get("status") == "running" else {}) for row in rows]
        own = next(iter(each.primary_key)).name
        targets = {column.name: key.column.table.name for column in each.columns for key in column.foreign_keys}
        plain = [
            {
                column: found[targets[column]][value] if column in targets and value is not None else value
                for column, value in row.items()
                if column != "id"
            }
            for row in rows
        ]
        keys = KEYS.get(each.name, ())
        found[each.name] = {
            row[own]: tuple(repr(one[column]) for column in keys) for row, one in zip(rows, plain, strict=True)
        }
        result[each.name] = sorted(tuple(sorted((k, repr(v)) for k, v in one.items())) for one in plain)
    return result


def lasting(found: Mapping[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows for name, rows in found.items() if name not in SKIPPED}


def test_no_table_and_no_foreign_key_is_forgotten() -> None:
    tables = {each.name for each in METADATA.sorted_tables}
    assert KEYS.keys() | LOCAL == tables
    assert not KEYS.keys() & LOCAL
    foreign = {
        f"{each.name}.{column.name}"
        for each in METADATA.sorted_tables
        for column in each.columns
        if column.foreign_keys
    }
    assert RELATIONS.keys() == foreign
    for name, columns in KEYS.items():
        assert set(columns) <= {column.name for column in table(name).columns}, name


def test_a_key_that_may_be_null_is_never_owning() -> None:
    # What is deleted with its owner has one; where it may have none, it only loses it.
    for name, follow in RELATIONS.items():
        child, _, column = name.partition(".")
        if Follow.DELETE in follow and child not in LOCAL:
            assert not table(child).c[column].nullable, name


def test_all_that_is_taken_along_is_the_same_there(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader, open_database(other) as database:
        with database.writing() as connection:
            done = insert(database, connection, everything(reader))
        before = lasting(natural(reader))
    assert (done.renamed, +done.unlinked) == ([], {})
    with reading(other) as reader:
        found = lasting(natural(reader))
    kept = {name for name, rows in before.items() if rows}
    assert {"shared_experiment", "prediction", "training_metric", "agent_response", "task_pool_task"} <= kept
    for name in before:
        if name not in {
            "batch",
            "batch_membership",
            "source_dataset",
            "source_split",
            "source_record",
            "benchmark",
            "benchmark_task",
            "request",
            "message",
            "attempt",
        }:
            assert found[name] == before[name], name
    # Of what is not owned there is only what is needed.
    assert all(set(found[name]) <= set(before[name]) for name in before if name != "benchmark")


def test_the_second_time_nothing_is_new(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader, open_database(other) as database:
        bundle = everything(reader)
        for n_new in (sum(bundle.counts.values()), 0):
            with database.writing() as connection:
                done = insert(database, connection, bundle)
            assert sum(done.new.values()) == n_new
        assert sum(done.known.values()) == sum(bundle.counts.values())


def test_every_new_run_is_told_to_mlflow(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader, open_database(other) as database, database.writing() as connection:
        insert(database, connection, everything(reader))
    with reading(other) as reader:
        for name in ("generation_run", "training_run", "training_sweep", "agent_run", "task_pool", "pool_validation"):
            told = reader.rows(f"SELECT COUNT(*) AS n FROM mlflow_outbox WHERE {name}_id IS NOT NULL")[0]["n"]
            assert told == reader.rows(f"SELECT COUNT(*) AS n FROM {name}")[0]["n"], name


@pytest.mark.parametrize("name", ROOTS)
def test_what_is_removed_and_put_back_is_what_was_there(place: Workspace, name: str) -> None:
    with reading(place) as reader:
        ids = [row["id"] for row in reader.rows(f"SELECT id FROM {name} ORDER BY id")][:2]
        bundle, going, before = held(gather(reader, {name: ids})), owned(reader, {name: ids}), natural(reader)
    assert going[name] == [(each,) for each in ids]
    with open_database(place) as database:
        with database.writing() as connection:
            n_rows = remove(connection, going)
        assert n_rows == sum(map(len, going.values()))
        with reading(place) as reader:
            assert reader.rows(f"SELECT id FROM {name} WHERE id IN ({', '.join(map(str, ids))})") == []
            assert {row["n"] for row in reader.rows("SELECT COUNT(*) AS n FROM request")} == {len(before["request"])}
            assert len(natural(reader)["attempt"]) == len(before["attempt"])
        with database.writing() as connection:
            insert(database, connection, bundle)
    with reading(place) as reader:
        assert lasting(natural(reader)) == lasting(before)


def test_the_same_settings_with_other_data_are_refused_and_named(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader, open_database(other) as database:
        bundle = held(everything(reader))
        with database.writing() as connection:
            insert(database, connection, bundle)
        experiments = [row | {"data_digest": "f" * 64} for row in bundle.read("shared_experiment")]
        with pytest.raises(Conflict) as caught, database.writing() as connection:
            insert(database, connection, with_rows(bundle, "shared_experiment", experiments))
        assert all(row["fingerprint"] in caught.value.message for row in experiments[:10])
        experiments = [row | {"digest": "f" * 64} for row in bundle.read("shared_experiment")]
        with pytest.raises(Corrupt, match="other settings"), database.writing() as connection:
            insert(database, connection, with_rows(bundle, "shared_experiment", experiments))


def with_rows(bundle: Bundle, name: str, rows: list[Row]) -> Bundle:
    return replace(bundle, read=lambda wanted: rows if wanted == name else bundle.read(wanted))


def test_what_ran_is_interrupted_and_leases_are_free(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader, open_database(other) as database:
        bundle = held(everything(reader))
        runs = [row | {"status": "running"} for row in bundle.read("training_run")]
        sets = [
            row | {"lease_pid": 7, "lease_host": "h", "status": "unfinished"} for row in bundle.read("agent_dataset")
        ]
        changed = with_rows(with_rows(bundle, "training_run", runs), "agent_dataset", sets)
        with database.writing() as connection:
            insert(database, connection, changed)
    with reading(other) as reader:
        assert {row["status"] for row in reader.rows("SELECT status FROM training_run")} == {"interrupted"}
        assert {row["lease_pid"] for row in reader.rows("SELECT lease_pid FROM agent_dataset")} == {None}


def test_names_that_are_taken_get_a_number(place: Workspace) -> None:
    with reading(place) as reader:
        bundle = held(gather(reader, {"training_run": [1], "task_pool": [1]}))
    runs = [row | {"uuid": f"other-{row['uuid']}"} for row in bundle.read("training_run")]
    pools = [row | {"uuid": "other", "fingerprint": "0" * 12} for row in bundle.read("task_pool")]
    changed = with_rows(with_rows(bundle, "training_run", runs), "task_pool", pools)
    with open_database(place) as database, database.writing() as connection:
        done = insert(database, connection, changed)
    (run, pool) = sorted(done.renamed, key=lambda each: each[0] == "task_pool")
    assert run == ("training_run", runs[0]["directory"], f"{runs[0]['directory']}_2")
    assert pool == ("task_pool", "exp1", "exp1_2")
    with reading(place) as reader:
        attempts = reader.rows(
            "SELECT attempt FROM training_run WHERE fingerprint = :f ORDER BY id", f=runs[0]["fingerprint"]
        )
    assert len({row["attempt"] for row in attempts}) == len(attempts) > 1


def test_what_points_out_of_a_bundle_is_linked_again_or_left_empty(place: Workspace, other: Workspace) -> None:
    with reading(place) as reader:
        used = reader.rows(
            """SELECT training_run_id AS run, shared_experiment_id AS e FROM training_data
               WHERE shared_experiment_id IS NOT NULL"""
        )[0]
        run = held(gather(reader, {"training_run": [used["run"]]}))
        experiment = held(gather(reader, {"shared_experiment": [used["e"]]}))
        expected = reader.rows("SELECT fingerprint FROM shared_experiment WHERE id = :id", id=used["e"])
    assert ("shared_experiment", used["e"]) in {(each.table, each.id) for each in run.mentions}
    linked = """SELECT e.fingerprint FROM training_data d JOIN shared_experiment e ON e.id = d.shared_experiment_id"""
    with open_database(other) as database:
        with database.writing() as connection:
            assert insert(database, connection, run).unlinked["training_data"] > 0
        with reading(other) as reader:
            assert reader.rows(linked) == []
        # What brings the experiment in links the run that was here first; so does the run again.
        with database.writing() as connection:
            insert(database, connection, experiment)
        with reading(other) as reader:
            assert expected[0] in reader.rows(linked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_goes_into_any_database(kind: str, place: Workspace, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(empty_workspace(kind, tmp_path / "there"))
        database, reader = stack.enter_context(open_database(there)), stack.enter_context(reading(place))
        bundle = everything(reader)
        with database.writing() as connection:
            insert(database, connection, bundle)
        found = stack.enter_context(reading(there))
        again = everything(found)
        assert again.counts == bundle.counts
        assert [*_contents(again)] == [*_contents(bundle)]
        with database.writing() as connection:
            remove(connection, owned(database.reader_on(connection), {"shared_experiment": [1]}))


def _contents(bundle: Bundle) -> Iterator[tuple[str, int]]:
    for name in bundle.tables():
        yield name, sum(1 for _ in bundle.read(name))
