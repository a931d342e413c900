"""Damage to the record of benchmarks and pools, and to their files, and what `verify` says of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.pools.difficulty import Difficulty
from pipeline.pools.preprocess import rescore
from tests import pool_rows
from tests.databases import KINDS, empty_workspace
from tests.pool_rows import populate, refresh
from tests.workspaces import tree, write_lines
from tracker.errors import DataError, Problem
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database
from tracker.record.findings import Finding
from tracker.verifying.pool_findings import Rescore
from tracker.verifying.verify import Rules, Subject, Verified, verify
from tracker.views.pool_view import FULL

NONE = {"experiment": 0, "agent data set": 0, "source data": 0, "training run": 0, "training data": 0, "results": 0}
GSM8K = "benchmark_id = (SELECT id FROM benchmark WHERE name = 'gsm8k')"
RIDDLES = "benchmark_id = (SELECT id FROM benchmark WHERE name = 'riddles')"
FIRST = "task_pool_id = 1 AND position = 0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return populate(Workspace(tmp_path_factory.mktemp("made") / "workspace", environ={}))


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, made: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    with empty_workspace(request.param, tmp_path / "workspace") as found:
        if request.param == "sqlite":
            shutil.copytree(made.root, found.root)
        else:
            populate(found)
        yield found


def checked(here: Workspace, subject: Subject | None = None, scorers: Rescore = rescore) -> Verified:
    with reading(here) as reader:
        return verify(here, reader, Rules(lambda _: (), scorers), subject)


def found(here: Workspace, subject: Subject | None = None, scorers: Rescore = rescore) -> list[Finding]:
    return list(checked(here, subject, scorers).findings)


def edit(here: Workspace, statement: str) -> None:
    """Changes the record behind the program's back."""
    with open_database(here) as database, database.writing() as connection:
        assert connection.execute(text(statement)).rowcount > 0


def test_where_all_is_as_it_was_nothing_is_said_and_nothing_done(here: Workspace) -> None:
    before = tree(here.root)
    assert checked(here) == Verified({**NONE, "benchmark": 3, "task pool": 3}, ())
    assert checked(here, Subject(pool_ids=(2,))) == Verified({**NONE, "task pool": 1}, ())
    assert checked(here, Subject()) == Verified(NONE, ())
    assert tree(here.root) == before


def test_a_benchmark_without_pools_and_one_of_the_past_are_checked_too(tmp_path: Path) -> None:

    here = Workspace(tmp_path, environ={})
    pool_rows.write_sources(tmp_path)
    pool_rows.score(here, "gsm8k")
    write_lines(tmp_path / "sources/other.jsonl", pool_rows.gsm8k(start=3))
    pool_rows.score(here, "gsm8k", gsm8k="sources/other.jsonl")
    assert checked(here) == Verified({**NONE, "benchmark": 2}, ())
    edit(here, "UPDATE benchmark SET n_tasks = 3 WHERE NOT is_current")
    assert [each.what for each in found(here)] == ["n_tasks is 3, its rows give 20"]


Damage = tuple[str, list[tuple[str, str]]]
B, P, T = "benchmark", "task pool", "tree"
RECORD: dict[str, Damage] = {
    "identity of a benchmark": (
        "UPDATE benchmark SET identity = REPLACE(identity, 'gsm8k 1', 'gsm8k 2') WHERE name = 'gsm8k'",
        [(B, "fingerprint "), (B, "digest ")],
    ),
    "unreadable identity of a benchmark": (
        "UPDATE benchmark SET identity = '{' WHERE name = 'gsm8k'",
        [(B, "fingerprint "), (B, "digest "), (B, "its identity cannot be read")],
    ),
    "digest of a benchmark": (
        "UPDATE benchmark SET digest = '0' || SUBSTR(digest, 2) || '0' WHERE name = 'riddles'",
        [(B, "digest 0"), *[(P, "its benchmarks are not those of its identity")] * 2],
    ),
    "source digest": (
        "UPDATE benchmark SET source_digest = '0' WHERE name = 'riddles'",
        [(B, "source_digest is '0', in its identity '"), (B, "source_digest 0 is recorded, its tasks have "),
         (T, "contradiction: The tasks of riddles are not those that were read")],
    ),
    "raw data": (
        f"UPDATE benchmark_task SET raw_data = REPLACE(raw_data, '?', '!') WHERE {RIDDLES} AND position = 3",
        [(B, "source_digest "), (T, "contradiction: The tasks of riddles")],
    ),
    "part": (
        "UPDATE benchmark_task SET part = 'navigation' WHERE part = 'navigate' AND position = 0",
        [(B, "source_digest "), (T, "contradiction: The tasks of bbh")],
    ),
    "lost task": (
        f"""DELETE FROM benchmark_task WHERE id = (SELECT MIN(id) FROM benchmark_task
        WHERE {RIDDLES} AND id NOT IN (SELECT benchmark_task_id FROM task_pool_task))""",
        [(B, "source_digest "), (B, "n_tasks is 20, its rows give 19"),
         *[(P, "low_threshold of riddles is 0.18"), (P, "high_threshold of riddles is 0.82")] * 2,
         (T, "contradiction: The tasks of riddles")],
    ),
    "path": (
        "UPDATE benchmark SET path = 'file:elsewhere' WHERE name = 'riddles'",
        [(B, "its entry of the config is not that of its path")],
    ),
    "config": (
        "UPDATE benchmark SET config = '[]' WHERE name = 'riddles'",
        [(B, "its entry of the config is not that of its path"),
         (T, "contradiction: The row of riddles cannot be read")],
    ),
    "constants": (
        "UPDATE benchmark SET constants = REPLACE(constants, 'max_', 'most_') WHERE name = 'gsm8k'",
        [(B, "its constants are not what its scorer gives"), (T, "edited")],
    ),
    "constants of one's own scorer": (
        "UPDATE benchmark SET constants = '{}' WHERE name = 'riddles'", [(T, "edited")],
    ),
    "lowest score": (
        "UPDATE benchmark SET score_low = -1 WHERE name = 'riddles'",
        [(B, "score_low is -1.0, its tasks give 0.1"), (B, "18 of its difficulty scores are not its raw scores "),
         (T, "edited")],
    ),
    "difficulty": (
        f"UPDATE benchmark_task SET difficulty_score = 1.5 WHERE {GSM8K} AND position = 1",
        [(B, "1 of its difficulty scores are not its raw scores from 0 to 1"),
         *[(P, "high_threshold of gsm8k is 0.85")] * 3, (T, "edited")],
    ),
    "raw score": (
        f"UPDATE benchmark_task SET raw_score = raw_score + 0.01 WHERE {GSM8K} AND position = 1",
        [(B, "1 of its difficulty scores are not"), (B, "1 of its raw scores are not what its scorer gives")],
    ),
    "features": (
        f"""UPDATE benchmark_task SET scorer_metadata = REPLACE(scorer_metadata, '"n_lines": 8', '"n_lines": 9')
        WHERE {GSM8K} AND position = 1""",
        [(B, "1 of its rows of features are not what its scorer gives"), (T, "edited")],
    ),
    "identity of a pool": (
        "UPDATE task_pool SET identity = REPLACE(identity, '2025', '2026') WHERE id = 1",
        [(P, "fingerprint "), (P, "digest "), (P, "random_seed is 2025, in its identity 2026")],
    ),
    "unreadable identity of a pool": (
        "UPDATE task_pool SET identity = '{' WHERE id = 1",
        [(P, "fingerprint "), (P, "digest "), (P, "its identity cannot be read")],
    ),
    "name that was wanted": (
        "UPDATE task_pool SET wanted_name = 'other' WHERE id = 1",
        [(P, "wanted_name is 'other', in its identity 'exp1'")],
    ),
    "replacement": (
        "UPDATE task_pool SET with_replacement = NOT with_replacement WHERE id = 1",
        [(P, "with_replacement is ")],
    ),
    "split": (
        "UPDATE task_pool SET difficulty_split = '60:40' WHERE id = 1",
        [(P, "difficulty_split is '60:40', and 5 of 10 were to be easy")],
    ),
    "split that is none": (
        "UPDATE task_pool SET difficulty_split = '0:0' WHERE id = 1", [(P, "difficulty_split is '0:0'")],
    ),
    "bin": (
        f"""UPDATE task_pool_task SET difficulty_bin = CASE difficulty_bin WHEN 'easy' THEN 'hard' ELSE 'easy' END
        WHERE {FIRST}""",
        [(P, "data_digest "), (P, "1 of its tasks are not in the bin "), (P, "n_easy is 5, its rows give "),
         (P, "n_hard is 5, its rows give "), (P, "n_easy of "), (P, "n_hard of "),
         (P, "its statistics are not those of its tasks"),
         (T, "contradiction: The tasks of pool exp1 are not those that it was made of")],
    ),
    "lost task of a pool": (
        "DELETE FROM task_pool_task WHERE task_pool_id = 1 AND position = 9",
        [(P, "data_digest "), (P, "n_tasks is 10, its rows give 9"), (P, "n_"), (P, "n_short is 0, its rows give 1"),
         (P, "n_"), (P, "its statistics are "), (P, "mean_difficulty is "), (T, "contradiction: ")],
    ),
    "task that is there twice": (
        f"""UPDATE task_pool_task SET benchmark_task_id =
        (SELECT benchmark_task_id FROM task_pool_task WHERE {FIRST})
        WHERE task_pool_id = 1 AND position = (
            SELECT MIN(t.position) FROM task_pool_task_overview t JOIN task_pool_task_overview o
            ON o.task_pool_id = 1 AND o.position = 0 AND o.benchmark = t.benchmark
            AND o.difficulty_bin = t.difficulty_bin WHERE t.task_pool_id = 1 AND t.position > 0)""",
        [(P, "data_digest "), (P, "1 of its tasks are there again, and it was drawn without replacement"),
         (P, "its statistics are "), (P, "mean_difficulty is "), (T, "contradiction: ")],
    ),
    "threshold": (
        "UPDATE task_pool_benchmark SET low_threshold = -1 WHERE task_pool_id = 3",
        [(P, "low_threshold of gsm8k is -1.0, its scores give "), (P, "4 of its tasks are not in the bin ")],
    ),
    "percentile": (
        "UPDATE task_pool_benchmark SET high_percentile = 50 WHERE task_pool_id = 3",
        [(P, "its benchmarks are not those of its identity"), (P, "high_threshold of gsm8k is ")],
    ),
    "ratio": (
        "UPDATE task_pool_benchmark SET ratio = 0.5 WHERE task_pool_id = 3",
        [(P, "the ratio of gsm8k is 0.5, and 30 of 30 were to be of it")],
    ),
    "lost benchmark": (
        "DELETE FROM task_pool_benchmark WHERE task_pool_id = 1 AND position = 2",
        [(P, "its benchmarks are not those of its identity"), (P, "3 of its tasks are of no benchmark of its own"),
         (P, "n_wanted is 10, its rows give 7"), (P, "n_short is 0, its rows give -3"),
         (P, "its statistics are not those of its tasks")],
    ),
    "what was wanted": (
        "UPDATE task_pool_benchmark SET n_easy_wanted = 14 WHERE task_pool_id = 3",
        [(P, "its benchmarks are not those of its identity"), (P, "n_wanted is 30, its rows give 29"),
         (P, "n_short is "), (P, "its statistics are not")],
    ),
    "contribution": (
        "UPDATE task_pool_benchmark SET n_hard = 1 WHERE task_pool_id = 3",
        [(P, "n_hard of gsm8k is 1, its rows give 4")],
    ),
    "count": ("UPDATE task_pool SET n_easy = 9 WHERE id = 1", [(P, "n_easy is 9, its rows give 5")]),
    "shortfall": ("UPDATE task_pool SET n_short = 0 WHERE id = 3", [(P, "n_short is 0, its rows give ")]),
    "statistics": (
        """UPDATE task_pool SET statistics = REPLACE(statistics, '"n_total": 10', '"n_total": 11') WHERE id = 1""",
        [(P, "its statistics are not those of its tasks"), (T, "edited")],
    ),
    "unreadable statistics": (
        "UPDATE task_pool SET statistics = '{' WHERE id = 1",
        [(P, "its statistics are not those of its tasks"),
         (T, "contradiction: The statistics of pool exp1 cannot be read")],
    ),
    "mean": ("UPDATE task_pool SET mean_difficulty = NULL WHERE id = 1", [(P, "mean_difficulty is None, its tasks ")]),
    "data digest": (
        "UPDATE task_pool SET data_digest = '0' WHERE id = 1",
        [(P, "data_digest 0 is recorded, its tasks have "), (T, "contradiction: The tasks of pool exp1")],
    ),
    "name": (
        "UPDATE task_pool SET name = '../../outside' WHERE id = 1",
        [(T, "contradiction: No pool can be called '../../outside'")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RECORD)
def test_what_was_changed_in_the_record_is_said(here: Workspace, what: str) -> None:
    statement, expected = RECORD[what]
    edit(here, statement)
    said = found(here)
    assert len(said) == len(expected), said
    for each, (kind, start) in zip(said, expected, strict=True):
        assert (each.kind, each.what.startswith(start)) == (kind, True), each
        assert each.where
        assert each.remedy


def linked(directory: Path) -> None:
    directory.rename(directory.with_name("kept"))
    directory.symlink_to("kept")


DISK: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "edited": (
        lambda data: (data / "exp1/task_pool.jsonl").write_text("by hand"), [("edited", "data/exp1/task_pool.jsonl")],
    ),
    "missing": (
        lambda data: (data / "exp1/statistics.json").unlink(), [("missing", "data/exp1/statistics.json")],
    ),
    "directory missing": (lambda data: shutil.rmtree(data / "exp2"), [("missing", "data/exp2")]),
    "full data": (
        lambda data: (data / FULL / "gsm8k_full.jsonl").write_text(""),
        [("edited", f"data/{FULL}/gsm8k_full.jsonl")],
    ),
    "replaced": (
        lambda data: linked(data / "exp2"),
        [("replaced", "data/exp2")],
    ),
    "unknown": (lambda data: (data / "exp1/answers.json").write_text("mine"), []),
    "other": (lambda data: (data / "my_own").mkdir(), []),
}  # fmt: skip


@pytest.mark.parametrize("what", DISK)
def test_what_was_changed_on_the_disk_is_said(here: Workspace, what: str) -> None:
    damage, expected = DISK[what]
    damage(here.data_dir)
    before = tree(here.root)
    said = found(here)
    assert [(each.what, each.where) for each in said] == expected
    assert all(each.kind == "tree" and "view rebuild" in each.remedy for each in said)
    assert tree(here.root) == before


def test_only_what_is_named_is_checked(here: Workspace) -> None:
    edit(here, "UPDATE task_pool SET n_easy = 9 WHERE id = 1")
    edit(here, "UPDATE benchmark SET n_tasks = 9 WHERE name = 'gsm8k'")
    shutil.rmtree(here.data_dir / "exp2")
    assert [each.what for each in found(here, Subject(pool_ids=(1,)))] == ["n_easy is 9, its rows give 5"]
    assert [each.where for each in found(here, Subject(pool_ids=(3, 2)))] == ["data/exp2"]
    assert len(found(here)) == 4


def test_where_it_is_and_what_to_do_is_said(here: Workspace) -> None:
    edit(here, "UPDATE task_pool SET n_easy = 9 WHERE id = 1")
    edit(here, "UPDATE benchmark_task SET raw_score = 0 WHERE id = (SELECT MIN(id) FROM benchmark_task)")
    said = found(here)
    assert {each.where.split(" (")[0] for each in said} == {"gsm8k", "exp1"}
    assert all("restore it from a backup" in each.remedy for each in said)


def test_a_scorer_that_gives_something_else_or_fails_is_said(here: Workspace) -> None:
    def other(benchmark: Row, tasks: Sequence[Row]) -> Difficulty | None:
        found = rescore(benchmark, tasks)
        return found and Difficulty(found.scores, [{} for _ in tasks], {})

    assert [(each.where.split(" (")[0], each.what) for each in found(here, scorers=other)] == [
        (name, what)
        for name in ("gsm8k", "bbh")
        for what in ("20 of its rows of features are not what its scorer gives",
                     "its constants are not what its scorer gives")
    ]  # fmt: skip

    def failing(benchmark: Row, _: Sequence[Row]) -> None:
        raise DataError("No difficulty.", [Problem(benchmark["name"], "no")])

    assert [each.what for each in found(here, scorers=failing)] == [
        f"its scorer fails: No difficulty.\n  {name}: no" for name in ("gsm8k", "bbh", "riddles")
    ]


def test_a_scorer_of_another_version_is_not_asked(here: Workspace) -> None:
    with reading(here) as reader:
        rows = {row["name"]: row for row in reader.rows("SELECT * FROM benchmark")}
    assert rescore(rows["riddles"], []) is None
    older = rows["gsm8k"]["identity"].replace('"gsm8k 1"', '"gsm8k 0"')
    assert older != rows["gsm8k"]["identity"]
    assert rescore({**rows["gsm8k"], "identity": older}, []) is None
    assert rescore({**rows["gsm8k"], "identity": "{"}, []) is None
    [task] = [{"raw_data": '{"answer": "#### 1"}', "part": None}]
    again = rescore(rows["gsm8k"], [task])
    assert again is not None
    assert again.scores == [1.0]


def test_what_was_damaged_on_the_disk_is_mended_by_a_refresh(here: Workspace) -> None:
    shutil.rmtree(here.data_dir)
    assert len(found(here)) == 9
    refresh(here, 1, 2, 3, full=True)
    assert found(here) == []
