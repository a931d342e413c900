"""What `sql` can be made to do: read, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import KINDS, empty_workspace
from tests.query_rows import GONE, MORE, filled
from tests.training_rows import BATCH, COOL, HOT, MODEL
from tests.workspaces import REPOSITORY
from tracker.errors import Corrupt, QueryError, StorageError, UnknownReference
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.tracing.query import asking, relations
from tracker.tracing.questions import QUESTIONS, VIEWS

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r"
WRITES = (
    "INSERT INTO batch (name, purpose, description, created_at) VALUES ('a', 'b', 'c', 'd')",
    "UPDATE batch SET name = 'a'",
    "DELETE FROM batch",
    "DROP TABLE batch",
    "DROP VIEW batch_cost",
    "ALTER TABLE batch ADD COLUMN mood TEXT",
    "CREATE TABLE mood (id INTEGER)",
    "CREATE TEMP TABLE mood AS SELECT 1",
    "WITH a AS (SELECT 1) DELETE FROM batch WHERE id IN (SELECT * FROM a)",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
)
SQLITE_WRITES = (
    "REPLACE INTO batch (id, name, purpose, description, created_at) VALUES (1, 'a', 'b', 'c', 'd')",
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "REINDEX",
    "ANALYZE",
    "SAVEPOINT a",
    "CREATE VIRTUAL TABLE temp.t USING fts5(x)",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode(delete)",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA user_version = 3",
    "PRAGMA temp_store_directory = '.'",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA optimize",
    "SELECT load_extension('x')",
    "SELECT LOAD_EXTENSION('x', 'y')",
    "UPDATE sqlite_master SET sql = ''",
    "INSERT INTO sqlite_master DEFAULT VALUES",
)


def ask(workspace: Workspace, sql: str, n: int = 100_000, timeout_s: float = 30.0) -> list[dict[str, Any]]:
    with asking(workspace, sql, timeout_s=timeout_s) as answer:
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetch(n)]


@pytest.fixture(params=KINDS, scope="module")
def workspace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with empty_workspace(request.param, tmp_path_factory.mktemp("query")) as found:
        yield filled(found).workspace


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return filled(tmp_path_factory.mktemp("sqlite")).workspace


def content(workspace: Workspace) -> list[str]:
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        return list(connection.iterdump())


def files(workspace: Workspace) -> dict[str, str]:
    return {
        str(path.relative_to(workspace.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in workspace.root.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize("sql", WRITES)
def test_nothing_can_be_written(workspace: Workspace, sql: str) -> None:
    with pytest.raises(QueryError) as refused:
        ask(workspace, sql)
    assert "only reads" in str(refused.value.hint)
    assert ask(workspace, "SELECT COUNT(*) AS n FROM batch") == [{"n": 3}]


@pytest.mark.parametrize("sql", SQLITE_WRITES)
def test_neither_the_file_nor_another_can_be_written(
    sqlite: Workspace, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, there = content(sqlite), files(sqlite)
    with pytest.raises(QueryError, match=r"Refused|more than one") as refused:
        ask(sqlite, sql)
    assert "only reads" in str(refused.value.hint)
    assert (content(sqlite), files(sqlite), list(tmp_path.iterdir())) == (before, there, [])


def test_what_is_refused_is_named(sqlite: Workspace) -> None:
    for sql, what in (
        ("drop table batch", "DROP"),
        ("WITH a AS (SELECT 1) DELETE FROM batch", "DELETE"),
        ("VACUUM INTO 'x'", "ATTACH"),
        ("PRAGMA journal_mode = OFF", "PRAGMA journal_mode"),
        ("create temp view v AS SELECT 1", "CREATE"),
        ("CREATE TABLE t (id INTEGER)", "CREATE"),
    ):
        with pytest.raises(QueryError, match=f"^Refused: {what}\\."):
            ask(sqlite, sql)


def test_a_sort_that_does_not_fit_in_memory_makes_no_file(sqlite: Workspace, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tracker.tracing import query; from tracker.paths import Workspace\n"
        "query.HEAP_BYTES = 50 << 20\n"
        "sql = 'WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 2000000)'\n"
        "sql += ' SELECT n, hex(randomblob(20)) AS x FROM r ORDER BY x'\n"
        "with query.asking(Workspace(Path(sys.argv[1]), environ={}), sql) as answer:\n"
        "    print(answer.fetch(1))"
    )
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SQLITE_TMPDIR": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(sqlite.root)], env=environ, capture_output=True, text=True, check=False
    )
    assert "QueryError: The query needs more than" in done.stderr


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "SELECT 1; DROP TABLE batch"])
def test_one_statement_at_a_time(workspace: Workspace, sql: str) -> None:
    with pytest.raises(QueryError, match="more than one statement"):
        ask(workspace, sql)
    assert ask(workspace, "SELECT 1 AS n;  -- and a word") == [{"n": 1}]


@pytest.mark.parametrize("sql", ["", "  ", ";"])
def test_no_query_is_said_to_be_none(workspace: Workspace, sql: str) -> None:
    with pytest.raises(QueryError, match="no query"):
        ask(workspace, sql)


def test_an_endless_query_is_stopped(workspace: Workspace) -> None:
    with pytest.raises(QueryError, match=r"took more than 0\.2 s"):
        ask(workspace, ENDLESS, timeout_s=0.2)


def test_an_endless_answer_is_stopped_while_it_is_fetched(workspace: Workspace) -> None:
    endless = ENDLESS.replace("COUNT(*)", "n")
    with asking(workspace, endless, timeout_s=0.3) as answer:
        portions = iter(lambda: answer.fetch(1000), [])
        assert next(portions)[0] == (1,)
        with pytest.raises(QueryError, match="took more than"):
            list(portions)


def test_ctrl_c_stops_a_query_at_once(sqlite: Workspace) -> None:
    code = "import sys; from cli.main import run; print('begins', flush=True); sys.exit(run(sys.argv[1:]))"
    started = subprocess.Popen(
        [sys.executable, "-c", code, "--root", str(sqlite.root), "sql", "--timeout", "0", ENDLESS],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "begins\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(1.5)
        started.send_signal(signal.SIGINT)
        assert (started.communicate(timeout=60)[1].strip(), started.returncode) == ("Error: Interrupted.", 130)
    finally:
        started.kill()
        started.wait(60)


@pytest.mark.parametrize(
    ("sql", "name", "matches"),
    [
        ("SELECT accuracy_rate FROM acceptance_by_model", "accuracy_rate", "acceptance_rate"),
        ("SELECT b.puprose FROM batch b", "puprose", "purpose"),
        ("SELECT * FROM shared_experimnt", "shared_experimnt", "shared_experiment"),
        ("SELECT nothing_like_it(1)", "nothing_like_it", None),
    ],
)
def test_a_wrong_name_gets_what_was_meant(workspace: Workspace, sql: str, name: str, matches: str | None) -> None:
    with pytest.raises(UnknownReference) as unknown:
        ask(workspace, sql)
    assert name in unknown.value.message
    assert unknown.value.matches[:1] == (() if matches is None else (matches,))


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT 1 FROM", "SELECT 'a", "SELECT * FROM batch WHERE name = ?"])
def test_wrong_sql_is_an_error_of_its_own(workspace: Workspace, sql: str) -> None:
    with pytest.raises(QueryError):
        ask(workspace, sql)


@pytest.mark.parametrize("sql", ["SELECT zeroblob(1000000000)", "SELECT 'a' LIKE printf('%.5000c', '%')"])
def test_what_would_take_memory_or_time_without_end_is_too_big(sqlite: Workspace, sql: str) -> None:
    with pytest.raises(QueryError, match=r"too big|too complex"):
        ask(sqlite, sql)


def test_what_is_no_utf_8_can_be_read(sqlite: Workspace) -> None:
    assert ask(sqlite, "SELECT CAST(x'61ff' AS TEXT) AS a") == [{"a": "a\ufffd"}]


def test_a_pragma_that_only_tells_can_be_asked(sqlite: Workspace) -> None:
    assert ask(sqlite, "PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    assert [row["name"] for row in ask(sqlite, "PRAGMA table_info(batch_membership)")][:2] == [
        "batch_id",
        "shared_experiment_id",
    ]
    assert ask(sqlite, "SELECT value FROM json_each('[7]')") == [{"value": 7}]


def test_what_others_commit_meanwhile_is_not_seen(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with asking(workspace, "SELECT name FROM batch ORDER BY id") as answer:
        assert answer.fetch(1) == [(BATCH,)]
        with open_database(workspace) as database, database.writing() as connection:
            connection.exec_driver_sql("UPDATE batch SET name = name || '_new'")
        assert answer.fetch(9) == [(MORE,), (GONE,)]
    assert {row["name"] for row in ask(workspace, "SELECT name FROM batch")} == {
        f"{n}_new" for n in (BATCH, MORE, GONE)
    }


def test_there_must_be_a_workspace(tmp_path: Path) -> None:
    with pytest.raises(UnknownReference, match="No workspace"):
        ask(Workspace(tmp_path, environ={}), "SELECT 1")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'training_run'").fetchone()[0]
    with workspace.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises((Corrupt, StorageError)):
        ask(workspace, "SELECT * FROM training_run")


def test_the_relations_are_the_databases(workspace: Workspace) -> None:
    found = {each.name: each for each in relations(workspace)}
    assert found["batch"].kind == "table"
    assert [name for name, _ in found["batch"].columns][:2] == ["id", "name"]
    assert VIEWS.keys() <= {each.name for each in found.values() if each.kind == "view"}
    in_order = sorted(found.values(), key=lambda each: (each.kind != "view", each.name))
    assert list(found.values()) == in_order
    assert "alembic_version" not in found


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_said_of_columns_is_said_of_columns_that_are_there(workspace: Workspace, view: str) -> None:
    with asking(workspace, f"SELECT * FROM {view}") as answer:
        assert VIEWS[view].columns.keys() - set(answer.columns) <= (
            {"zero_shot_accuracy", "setting", "standard_error", "n_train", "eval_digest"}
        )
        assert answer.fetch(1)


def test_every_question_has_an_answer(workspace: Workspace) -> None:
    unanswered = [each.title for each in QUESTIONS if not ask(workspace, each.sql)]
    assert unanswered == ["How often do requests fail, and why?", "How good are the judges?"]


def test_accuracy_by_temperature(workspace: Workspace) -> None:
    found = ask(workspace, "SELECT * FROM accuracy_by_temperature ORDER BY learning_rate, generation_temperature")
    assert [
        (
            row["task"],
            row["model"],
            row["learning_rate"],
            row["generation_temperature"],
            row["n_experiments"],
            row["n_runs"],
        )
        for row in found
    ] == [("Copa", MODEL, 5e-7, 0.5, 1, 2), ("Copa", MODEL, 1e-6, 0.5, 1, 2), ("Copa", MODEL, 1e-6, 0.9, 1, 2)]
    assert [row["accuracy"] for row in found] == pytest.approx([0.695, 0.75, 0.77])
    # sqrt(0.75 * 0.25 / 100): of the 100 records, not of 200 answers.
    assert found[1]["standard_error"] == pytest.approx(0.0433013, abs=1e-7)
    assert found[1]["setting"] == found[2]["setting"] != found[0]["setting"]
    assert {row["experiment_error"] for row in found} == {None}


def test_an_experiment_whose_data_changed_is_one_experiment(tmp_path: Path) -> None:
    """As one that was trained on while it was partial, and again when it was complete."""
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE training_run SET identity = json_set(identity, '$.identity.data[0].train', 'before')"
            " WHERE data = ? AND seed = 1 AND learning_rate = 1e-6",
            (COOL,),
        )
    assert len(ask(workspace, f"SELECT * FROM training_point WHERE data = '{COOL}' AND learning_rate = 1e-6")) == 2
    [row] = ask(
        workspace, "SELECT * FROM accuracy_by_temperature WHERE generation_temperature = 0.5 AND learning_rate = 1e-6"
    )
    assert [row[name] for name in ("n_experiments", "n_runs", "experiment_error")] == [1, 2, None]
    assert row["accuracy"] == pytest.approx(0.75)


def test_the_seeds_of_a_point(workspace: Workspace) -> None:
    found = ask(workspace, "SELECT * FROM training_point WHERE task = 'Copa' AND learning_rate = 1e-6 ORDER BY data")
    assert [(row["data"], row["n_seeds"], row["n_data"], row["is_original"]) for row in found] == [
        ("original", 1, 1, 1), (COOL, 2, 1, 0), (f"{COOL}+{HOT}", 1, 2, 0), (HOT, 2, 1, 0),
    ]  # fmt: skip
    # 0.76 and 0.74: sd 0.01 sqrt(2), over sqrt(2). The second attempt at one of them is not a third seed.
    assert [row["seed_error"] for row in found] == [None, pytest.approx(0.01), None, pytest.approx(0.02)]
    assert found[2]["shared_experiment_id"] is None


def test_what_a_point_of_accuracy_cost(workspace: Workspace) -> None:
    found = {(row["data"], row["learning_rate"]): row for row in ask(workspace, "SELECT * FROM cost_per_point")}
    assert len(found) == 5
    cool, mix = found[COOL, 1e-6], found[f"{COOL}+{HOT}", 1e-6]
    assert (cool["original_accuracy"], cool["n_original_seeds"]) == (0.73, 1)
    assert cool["points_over_original"] == pytest.approx(2)
    assert cool["usd_per_point_over_original"] == pytest.approx(0.012 / 2)
    assert cool["usd_per_point_over_zero_shot"] == pytest.approx(0.012 / 15)
    # In points: 100 times the root of 0.75 times 0.25, and 0.73 times 0.27, over 100 records.
    assert cool["points_error"] == pytest.approx(6.2016, abs=1e-4)
    assert (mix["data_cost_usd"], mix["usd_per_point_over_original"]) == pytest.approx((0.024, 0.024 / 5))
    alone = found[COOL, 5e-7]
    assert (alone["original_accuracy"], alone["usd_per_point_over_original"]) == (None, None)
    # Original data cost nothing, but what the experiment on CB in the mix cost is not known.
    cb = found[f"original+{COOL}", 5e-5]
    assert (cb["data_cost_usd"], cb["usd_per_point_over_original"]) == (None, None)
    assert cb["points_over_original"] == pytest.approx(300 / 57)


def test_a_point_that_was_lost_has_no_price(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_run SET accuracy = 0.95 WHERE data = 'original' AND task = 'Copa'")
    found = ask(workspace, "SELECT * FROM cost_per_point WHERE task = 'Copa' AND learning_rate = 1e-6")
    assert all(row["points_over_original"] < 0 for row in found)
    assert {row["usd_per_point_over_original"] for row in found} == {None}
    assert None not in {row["usd_per_point_over_zero_shot"] for row in found}


def test_of_a_mix_each_experiment_counts_once_and_data_that_nobody_knows_have_no_price(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    mix = f"SELECT data_cost_usd, usd_per_point_over_original FROM cost_per_point WHERE data = '{COOL}+{HOT}'"
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE training_data SET shared_experiment_id = 1 WHERE shared_experiment_id = 2")
    assert ask(workspace, mix)[0]["data_cost_usd"] == pytest.approx(0.012)
    used = ask(workspace, f"SELECT n_runs FROM experiment_use WHERE reference = 'Copa/{COOL}'")
    assert used == ask(
        workspace, "SELECT COUNT(DISTINCT training_run_id) AS n_runs FROM training_data WHERE shared_experiment_id = 1"
    )
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE training_data SET shared_experiment_id = NULL, name = 'elsewhere' WHERE position = 1"
        )
    assert ask(workspace, mix) == [{"data_cost_usd": None, "usd_per_point_over_original": None}]


def test_imported_runs_of_which_little_is_known_are_compared_all_the_same(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        # As the logs of an older system leave them: no counts, no digests, no seed, no accuracy before training.
        connection.exec_driver_sql(
            "UPDATE training_run SET import_run_id = 1, n_eval = NULL, n_train = NULL, seed = NULL, batch_size = NULL,"
            " zero_shot_accuracy = NULL, precision = 'unknown', identity = json_set(json_remove(identity,"
            " '$.identity.hyperparameters.seed'), '$.identity.evaluation', NULL) WHERE task = 'Copa'"
        )
        connection.exec_driver_sql("UPDATE training_data SET eval_digest = NULL, train_digest = ''")
    found = {(row["data"], row["learning_rate"]): row for row in ask(workspace, "SELECT * FROM cost_per_point")}
    cool = found[COOL, 1e-6]
    assert cool["usd_per_point_over_original"] == pytest.approx(0.012 / 2)
    assert [cool[name] for name in ("points_error", "n_eval", "usd_per_point_over_zero_shot")] == [None] * 3
    rows = ask(workspace, "SELECT * FROM accuracy_by_temperature WHERE learning_rate = 1e-6")
    assert [(row["generation_temperature"], row["n_runs"], row["standard_error"]) for row in rows] == [
        (0.5, 2, None),
        (0.9, 2, None),
    ]


def test_which_data_was_never_trained_on(workspace: Workspace) -> None:
    found = {row["name"]: row for row in ask(workspace, "SELECT * FROM experiment_use WHERE dataset = 'Copa'")}
    assert {name for name, row in found.items() if not row["n_runs"]} == {
        "temp03_llama", "temp07_llama", "temp08_llama", "colleague",
    }  # fmt: skip
    # Five of its own, with the attempt that was made again, and the mix.
    assert (found[COOL]["n_runs"], found[COOL]["n_complete_runs"], found[COOL]["n_batches"]) == (6, 6, 2)
    assert (found["colleague"]["is_imported"], found["colleague"]["cost_usd"]) == (1, None)


def test_what_batches_cost(workspace: Workspace) -> None:
    found = {row["batch"]: row for row in ask(workspace, "SELECT * FROM batch_cost")}
    first, more, gone = found[BATCH], found[MORE], found[GONE]
    assert first["cost_usd"] == pytest.approx(0.024)
    # One of its three experiments, on CB, is of unknown cost: what they cost in all is not known.
    assert (first["n_experiments"], first["data_cost_usd"], first["cost_per_accepted_usd"]) == (3, None, None)
    assert (more["n_experiments"], more["n_reused"], more["n_unpriced_runs"], more["cost_usd"]) == (4, 1, 1, None)
    assert gone["cost_usd"] == pytest.approx(0.25)
    assert (gone["n_experiments"], gone["n_accepted"], gone["deleted_at"] is None) == (0, None, False)


def test_a_reused_experiment_is_paid_by_one_batch_and_counted_in_the_data_of_both(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE generation_run SET cost_usd = 0.5 WHERE n_calls = 200 AND cost_usd IS NULL")
        connection.exec_driver_sql("UPDATE shared_experiment SET cost_usd = 0.5 WHERE cost_usd IS NULL")
        connection.exec_driver_sql("UPDATE shared_experiment SET cost_usd = 0 WHERE status = 'unfinished'")
    found = {row["batch"]: row for row in ask(workspace, "SELECT * FROM batch_cost")}
    assert found[MORE]["cost_usd"] == pytest.approx(0.8)
    assert found[MORE]["data_cost_usd"] == pytest.approx(0.812)
    assert found[MORE]["cost_per_accepted_usd"] == pytest.approx(0.812 / 143)
    paid = ask(workspace, "SELECT SUM(cost_usd) AS usd FROM generation_run")[0]["usd"]
    assert sum(row["cost_usd"] for row in found.values()) == pytest.approx(paid) == pytest.approx(1.074)


def test_what_deleted_experiments_cost_stays_with_their_batch(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        for number, spent, restored in ((1, f'{{"{BATCH}": 1.5}}', None), (2, f'{{"{BATCH}": 8}}', "2025-01-01")):
            connection.exec_driver_sql(
                "INSERT INTO deletion (uuid, kind, name, deleted_at, deleted_by, archive, archive_digest, n_rows,"
                " n_bytes, restored_at, command, paths, mlflow_runs, spent)"
                " VALUES (?, 'experiment', 'x', '', 'gc', '', '', 1, 1, ?, '', '[]', '[]', ?)",
                (str(number), restored, spent),
            )
    asked = f"SELECT cost_usd FROM batch_cost WHERE batch = '{BATCH}'"
    assert ask(workspace, asked)[0]["cost_usd"] == pytest.approx(1.524)
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE deletion SET spent = ? WHERE uuid = '1'", (f'{{"{BATCH}": null}}',))
    assert ask(workspace, asked) == [{"cost_usd": None}]


def test_what_was_deleted_is_summed_once_and_not_for_each_batch(sqlite: Workspace) -> None:
    plan = [row["detail"] for row in ask(sqlite, "EXPLAIN QUERY PLAN SELECT * FROM batch_cost")]
    at = [number for number, line in enumerate(plan) if line.startswith("SCAN x")]
    assert len(at) == 1
    assert any(line.startswith("MATERIALIZE d") for line in plan[: at[0]])


def test_acceptance_by_model(workspace: Workspace) -> None:
    found = {row["model"]: row for row in ask(workspace, "SELECT * FROM acceptance_by_model WHERE dataset = 'Copa'")}
    assert found.keys() == {"gpt-4o", "llama-70b"}  # not what no judge has seen
    llama = found["llama-70b"]
    assert (llama["n_experiments"], llama["n_accepted"], llama["n_rejected"]) == (2, 140, 60)
    rates = [float(llama[name]) for name in ("acceptance_rate", "lowest_rate", "highest_rate")]
    assert rates == pytest.approx([0.7, 0.6, 0.8])
    # Two rates 0.1 beside their mean: sd 0.1 sqrt(2), over sqrt(2); of 200 records alone, sqrt(0.7 * 0.3 / 200).
    assert float(llama["standard_error"]) == pytest.approx(0.1)
    assert float(llama["record_error"]) == pytest.approx(0.0324037, abs=1e-7)
    assert llama["cost_usd"] is None


def test_what_changed_between_two_experiments(workspace: Workspace) -> None:
    assert ask(workspace, next(each.sql for each in QUESTIONS if "What changed" in each.title)) == [
        {"name": "generation.temperature", "one": "0.5", "other": "0.9", "shapes_data": 1}
    ]
    told = {
        row["name"]: (row["value"], row["shapes_data"])
        for row in ask(workspace, f"SELECT * FROM experiment_setting WHERE reference = 'Copa/{COOL}'")
    }
    assert told["generation.timeout"] == ("60.0", 0)
    assert told["generation.seed"] == (None, 1)
    assert told["draw"] == ("0", 1)
    assert told["dataset.source"][0] == f"{'copa':0<64}"


def test_of_an_imported_experiment_there_are_only_the_settings_that_are_known(workspace: Workspace) -> None:
    found = ask(workspace, "SELECT name FROM experiment_setting WHERE reference = 'Copa/colleague' ORDER BY name")
    assert [row["name"] for row in found] == ["dataset.source", "draw", "experiment.purpose", "record_limit"]


def test_a_setting_with_quotes_in_its_name_breaks_no_view(tmp_path: Path) -> None:
    workspace = filled(tmp_path).workspace
    with open_database(workspace) as database, database.writing() as connection:
        connection.exec_driver_sql("""UPDATE shared_experiment SET settings = '{"a\\"b.[c]": true}' WHERE id = 1""")
    found = ask(
        workspace, "SELECT name, value FROM experiment_setting WHERE shared_experiment_id = 1 AND value = 'true'"
    )
    assert found == [{"name": 'a"b.[c]', "value": "true"}]
