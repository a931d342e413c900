"""Benchmarks and pools in the record: one row for each identity, one current benchmark of each name, names apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import KINDS, empty_workspace, rows
from tracker.errors import Corrupt
from tracker.fingerprint import Identity, identify
from tracker.paths import Workspace, name_problem
from tracker.record import pools
from tracker.record.database import Database, open_database
from tracker.record.pools import Registered


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    with empty_workspace(request.param, tmp_path) as found:
        open_database(found).close()
        yield found


@pytest.fixture
def database(here: Workspace) -> Iterator[Database]:
    with open_database(here) as found:
        yield found


def benchmark(database: Database, source: str = "one", name: str = "gsm8k", n: int = 3, **columns: Any) -> Registered:
    values = {
        "name": name, "path": "file:a.jsonl", "source_digest": source, "n_tasks": n, "score_low": 0.25,
        "score_high": 1.0, "constants": '{"most": 4}', "config": '{"path": "file:a.jsonl"}',
    }  # fmt: skip
    tasks = [
        {
            "part": None, "difficulty_score": at / n, "raw_score": at / n, "scorer_metadata": "{}",
            "raw_data": f'{{"at": {at}}}',
        }
        for at in range(n)
    ]  # fmt: skip
    return pools.register_benchmark(
        database, identify("benchmark", {"source": source, "name": name}), values | columns, tasks
    )


def pool(
    database: Database,
    benchmark_id: int,
    name: str = "exp1",
    seed: int = 1,
    tasks: tuple[int, ...] = (2, 1, 2),
    *,
    identity: Identity | None = None,
) -> Registered:
    columns = {
        "wanted_name": name, "random_seed": seed, "difficulty_split": "50:50", "with_replacement": True, "n_wanted": 3,
        "n_tasks": len(tasks), "n_easy": 2, "n_hard": 1, "n_short": 0, "mean_difficulty": None, "duration_s": 0.5,
        "data_digest": "d", "config_path": None, "description": "", "command": "c", "versions": "{}", "settings": "{}",
        "config": "{}", "statistics": "{}",
    }  # fmt: skip
    contributions = [
        {
            "benchmark_id": benchmark_id, "ratio": 1.0, "low_percentile": 20.0, "high_percentile": 80.0,
            "low_threshold": 0.1, "high_threshold": 0.9, "n_easy_wanted": 2, "n_easy": 2, "n_hard_wanted": 1,
            "n_hard": 1,
        }
    ]  # fmt: skip
    own = identity or identify("task_pool", {"name": name, "seed": seed})
    drawn = [{"benchmark_task_id": each, "difficulty_bin": "easy"} for each in tasks]
    return pools.register_pool(database, own, columns, contributions, drawn)


def current(here: Workspace) -> list[tuple[str, str]]:
    found = rows(here, "SELECT name, source_digest FROM benchmark WHERE is_current ORDER BY name")
    return [(row["name"], row["source_digest"]) for row in found]


def test_a_benchmark_is_registered_once_with_its_tasks_in_order(here: Workspace, database: Database) -> None:
    first = benchmark(database)
    assert first == Registered(first.id, "gsm8k", is_new=True)
    assert benchmark(database) == Registered(first.id, "gsm8k", is_new=False)
    (row,) = rows(here, "SELECT * FROM benchmark")
    own = identify("benchmark", {"source": "one", "name": "gsm8k"})
    assert (row["fingerprint"], row["digest"], row["identity"]) == (own.fingerprint, own.digest, own.canonical)
    assert (row["scheme"], row["n_tasks"], row["score_low"]) == (1, 3, 0.25)
    tasks = rows(here, "SELECT * FROM benchmark_task ORDER BY position")
    assert [(task["position"], task["raw_data"], task["benchmark_id"]) for task in tasks] == [
        (at, f'{{"at": {at}}}', first.id) for at in range(3)
    ]


def test_the_last_that_was_registered_is_the_current_one_of_its_name(here: Workspace, database: Database) -> None:
    benchmark(database, "one")
    benchmark(database, "other", name="bbh")
    benchmark(database, "two")
    assert current(here) == [("bbh", "other"), ("gsm8k", "two")]
    assert not benchmark(database, "one").is_new
    assert current(here) == [("bbh", "other"), ("gsm8k", "one")]
    assert len(rows(here, "SELECT id FROM benchmark_task")) == 9


def test_only_where_it_lies_is_written_anew(here: Workspace, database: Database) -> None:
    benchmark(database)
    before = rows(here, "SELECT * FROM benchmark")[0]
    benchmark(database, path="file:b.jsonl", config='{"path": "file:b.jsonl"}', constants="{}", n=5)
    assert rows(here, "SELECT * FROM benchmark")[0] == {
        **before, "path": "file:b.jsonl", "config": '{"path": "file:b.jsonl"}',
    }  # fmt: skip


def test_more_tasks_than_go_in_at_once(here: Workspace, database: Database) -> None:
    benchmark(database, n=5_003)
    (found,) = rows(
        here, "SELECT COUNT(*) AS n, MAX(position) AS top, COUNT(DISTINCT position) AS places FROM benchmark_task"
    )
    assert found == {"n": 5003, "top": 5002, "places": 5003}


def test_a_pool_is_registered_once_with_its_tasks_and_for_mlflow(here: Workspace, database: Database) -> None:
    source = benchmark(database).id
    ids = [row["id"] for row in rows(here, "SELECT id FROM benchmark_task ORDER BY position")]
    first = pool(database, source, tasks=(ids[2], ids[0], ids[2]))
    assert first == Registered(first.id, "exp1", is_new=True)
    assert pool(database, source) == Registered(first.id, "exp1", is_new=False)
    drawn = rows(here, "SELECT position, benchmark_task_id FROM task_pool_task ORDER BY position")
    assert [(row["position"], row["benchmark_task_id"]) for row in drawn] == [(0, ids[2]), (1, ids[0]), (2, ids[2])]
    assert rows(here, "SELECT kind, task_pool_id FROM mlflow_outbox") == [
        {"kind": "task_pool", "task_pool_id": first.id}
    ]
    assert [row["position"] for row in rows(here, "SELECT position FROM task_pool_benchmark")] == [0]
    own = identify("task_pool", {"name": "exp1", "seed": 1})
    assert pools.find_pool(database, own) == Registered(first.id, "exp1", is_new=False)
    assert pools.find_pool(database, identify("task_pool", {"name": "exp1", "seed": 2})) is None


def test_a_name_that_is_taken_gets_the_next_number(here: Workspace, database: Database) -> None:
    source = benchmark(database).id
    task = rows(here, "SELECT MIN(id) AS id FROM benchmark_task")[0]["id"]
    named = [
        pool(database, source, name, seed, (task,)).name for name, seed in [("a", 1), ("a_3", 1), ("a", 2), ("a", 3)]
    ]
    assert named == ["a", "a_3", "a_2", "a_4"]
    assert {row["wanted_name"] for row in rows(here, "SELECT wanted_name FROM task_pool")} == {"a", "a_3"}
    assert pool(database, source, "a", 3).name == "a_4"


@pytest.mark.parametrize("name", ["a" * 200, "ä" * 100, f"a{'ä' * 98} b", "a" * 198])
def test_a_name_with_a_number_is_still_a_name(here: Workspace, database: Database, name: str) -> None:
    source = benchmark(database).id
    named = [pool(database, source, name, seed, ()).name for seed in range(12)]
    assert len(set(named)) == 12
    assert [name_problem(each) for each in named] == [None] * 12
    assert all(each.rpartition("_")[2] == str(number) for number, each in enumerate(named[1:], 2))
    assert [pool(database, source, name, seed, ()).name for seed in range(12)] == named


def test_a_pool_of_no_tasks(here: Workspace, database: Database) -> None:
    assert pool(database, benchmark(database).id, tasks=()).is_new
    assert rows(here, "SELECT * FROM task_pool_task") == []


def test_one_fingerprint_never_stands_for_two_things(database: Database) -> None:
    source = benchmark(database).id
    first = identify("task_pool", {"name": "exp1", "seed": 1})
    pool(database, source, identity=first, tasks=())
    other = Identity(first.kind, "other", first.fingerprint, "0" * 64)
    said = f"Fingerprint {first.fingerprint} stands for another task_pool"
    with pytest.raises(Corrupt, match=said):
        pools.find_pool(database, other)
    with pytest.raises(Corrupt, match=said):
        pool(database, source, identity=other)
    own = identify("benchmark", {"source": "one", "name": "gsm8k"})
    with pytest.raises(Corrupt, match="stands for another benchmark"):
        pools.register_benchmark(
            database, Identity(own.kind, "other", own.fingerprint, "0" * 64), {"name": "gsm8k"}, []
        )


def test_what_fails_leaves_nothing(here: Workspace, database: Database) -> None:
    source = benchmark(database).id
    with pytest.raises(Exception, match=r"(?i)foreign key|null value|NOT NULL"):
        pool(database, source, tasks=(10**6,))
    assert [rows(here, f"SELECT * FROM {name}") for name in ("task_pool", "task_pool_benchmark", "mlflow_outbox")] == [
        [], [], [],
    ]  # fmt: skip


def test_many_at_once_get_one_row_and_one_name_each(here: Workspace, database: Database) -> None:
    source = benchmark(database).id
    found: list[Registered] = []

    def register(seed: int) -> None:
        with open_database(here) as own:
            found.append(pool(own, source, seed=seed % 3, tasks=()))

    threads = [threading.Thread(target=register, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.is_new for each in found) == 3
    assert {each.name for each in found} == {"exp1", "exp1_2", "exp1_3"}
    assert len(rows(here, "SELECT * FROM task_pool")) == len(rows(here, "SELECT * FROM mlflow_outbox")) == 3
