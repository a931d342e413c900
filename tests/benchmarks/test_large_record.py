"""The benchmarks of a large record run on a small one, and compare equal work; timings are no matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import database, identity, large_record, listings, view
from benchmarks.large_record import Size
from tests.benchmarks.tables import tables
from tracker.record.catalogue import reading

SMALL = Size(60, 3, 120, 200)
OPTIONS = ["--experiments", "60", "--batches", "3", "--memberships", "120", "--trainings", "200"]


def test_a_large_record_is_whole(tmp_path: Path) -> None:
    workspace = large_record.build(tmp_path, SMALL)
    with reading(workspace) as reader:
        for table, number in (
            ("shared_experiment", 60),
            ("batch", 3),
            ("batch_membership", 120),
            ("training_run", 200),
        ):
            assert reader.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"] == number
        assert reader.rows("PRAGMA foreign_key_check") == []
        assert reader.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        for lonely in ("batch_membership", "generation_run"):
            sql = f"SELECT id FROM shared_experiment WHERE id NOT IN (SELECT shared_experiment_id FROM {lonely})"
            assert reader.rows(sql) == []


def test_every_question_is_answered_with_the_rows_that_sqlite_gives(tmp_path: Path) -> None:
    workspace = large_record.build(tmp_path, SMALL)
    asked = database.questions(workspace, SMALL)
    found = list(database.answer(workspace, asked, 1))
    assert [each.name for each in found] == list(asked)
    assert all(each.n_statements and each.n_rows for each in found)
    everything = found[-1]
    with reading(workspace) as reader:
        seen = database.Statements(reader)
        asked[everything.name](seen)
        assert everything.n_rows == sum(len(reader.rows(sql, **values)) for sql, values in seen.asked)


def test_writers_store_what_they_count(tmp_path: Path) -> None:
    rates = list(database.writes(tmp_path, 0.05))
    assert [name.partition(",")[0] for name, _, _ in rates] == ["sample", "ledger", "claim"] * 2
    assert all(ours > 0 and bare > 0 for _, ours, bare in rates)


def test_decisions_and_inputs_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    identity.main(["--experiments", "60", "--records", "50", "--rounds", "1"])
    decisions, inputs = tables(capsys.readouterr().out)
    assert {"claim: there already, reused", "claim: new, made"} <= set(decisions)
    assert {"bare: read and hash the bytes", "`generate --dry-run`"} <= set(inputs)


def test_commands_are_measured_as_processes(tmp_path: Path) -> None:
    workspace = large_record.build(tmp_path, SMALL)
    commands = listings.commands(workspace, SMALL)
    chosen = {name: commands[name] for name in commands if name.endswith((listings.BATCH_LIST, listings.PATH_RESOLVE))}
    assert len(chosen) == 4
    times = listings.measure(chosen, workspace, 1)
    assert {name: len(each) for name, each in times.items()} == dict.fromkeys(chosen, 1)


def test_the_tree_is_measured_and_no_reader_misses_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    view.main(["--links", "1000", "--experiments", "100", "--rounds", "1"])
    printed = capsys.readouterr().out
    [found] = tables(printed)
    assert view.BARE in found
    assert "1% of the links missing, brought by a refresh" in found
    assert printed.endswith("and missed one 0 times.\n")
