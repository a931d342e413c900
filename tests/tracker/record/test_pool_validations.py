"""Validations in the record: one process at a time, what was paid counts, and every end is written down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.engine.ledger import RunLedger
from tests.databases import attempt, rows
from tracker import clock
from tracker.clock import Process, this_process
from tracker.fingerprint import identify
from tracker.record import ledger, pool_validations, pools
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database
from tracker.record.generation import Totals
from tracker.record.lease import Busy
from tracker.record.pool_validations import VALIDATION, VALIDATIONS, Claimed

ELSEWHERE = Process("another-host.invalid", 7, 1.0)
GONE = Process(clock.host(), 2**22 + 1, 1.0)
RESULTS = {"n_graded": 2, "easy_accuracy": 1.0, "hard_accuracy": 0.0, "accuracy_gap": 1.0, "rank_correlation": 1.0}


@pytest.fixture
def database(database: Database) -> Database:
    add_pool(database)
    return database


def add_pool(database: Database) -> None:
    """A pool of an easy and a hard task."""
    named = {"name": "gsm8k", "path": "file:x", "source_digest": "d", "n_tasks": 2, "score_low": 0.0, "score_high": 1.0}
    task = {"part": None, "raw_score": 1.0, "scorer_metadata": "{}", "raw_data": "{}"}
    benchmark = pools.register_benchmark(
        database, identify("benchmark", {"name": "gsm8k"}), {**named, "constants": "{}", "config": "{}"},
        [{**task, "difficulty_score": 0.0}, {**task, "difficulty_score": 1.0}],
    )  # fmt: skip
    ids = [row["id"] for row in rows(database.workspace, "SELECT id FROM benchmark_task ORDER BY id")]
    columns: dict[str, Any] = {
        "wanted_name": "exp1", "random_seed": 1, "difficulty_split": "50:50", "with_replacement": False, "n_wanted": 2,
        "n_tasks": 2, "n_easy": 1, "n_hard": 1, "n_short": 0, "mean_difficulty": 0.5, "duration_s": 0.0,
        "data_digest": "d", "description": "", "command": "c", "versions": "{}", "settings": "{}", "config": "{}",
        "statistics": "{}",
    }  # fmt: skip
    share = {
        "benchmark_id": benchmark.id, "ratio": 1.0, "low_percentile": 20.0, "high_percentile": 80.0,
        "low_threshold": 0.0, "high_threshold": 1.0, "n_easy_wanted": 1, "n_easy": 1, "n_hard_wanted": 1, "n_hard": 1,
    }  # fmt: skip
    tasks = [
        {"benchmark_task_id": ids[0], "difficulty_bin": "easy"},
        {"benchmark_task_id": ids[1], "difficulty_bin": "hard"},
    ]
    pools.register_pool(database, identify("task_pool", {"name": "exp1"}), columns, [share], tasks)


def columns(**changes: Any) -> Row:
    return {
        "fingerprint": "aaaaaaaaaaaa", "task_pool_id": 1, "provider": "openai", "endpoint": "e", "model": "m",
        "temperature": 0.0, "n_samples": 20, "random_seed": 0, "run_code": False, "n_tasks": 2, "command": "c",
        "settings": "{}", "versions": "{}", **changes,
    }  # fmt: skip


def claim(database: Database, process: Process | None = None, **changes: Any) -> Claimed:
    found = pool_validations.claim(database, columns(**changes), process or this_process())
    assert isinstance(found, Claimed)
    return found


def finish(database: Database, claimed: Claimed, status: str = "complete", **totals: Any) -> Row:
    pool_validations.finish(database, claimed, Totals(**totals), RESULTS, status=status)
    return rows(database.workspace, "SELECT * FROM pool_validation WHERE id = :id", id=claimed.id)[0]


def pay(database: Database, claimed: Claimed, *keys: str, **given: Any) -> None:
    triples = [attempt(key, None, pool_validation_id=claimed.id, **given) for key in keys]
    with database.writing() as connection:
        ledger.save_attempts(database, connection, triples)


def change(database: Database, **values: Any) -> None:
    with database.writing() as connection:
        connection.execute(VALIDATION.update().values(**values))


def test_one_that_is_complete_is_reused_and_no_other(database: Database) -> None:
    first = claim(database)
    finish(database, first, "partial")
    second = claim(database)
    assert (first.outcome, second.outcome, second.id != first.id) == ("made", "made", True)
    finish(database, second)
    assert claim(database) == Claimed("reused", second.id, second.uuid, second.fingerprint)
    assert claim(database, fingerprint="bbbbbbbbbbbb").outcome == "made"


def test_two_processes_do_not_ask_the_same_model_about_the_same_pool(database: Database) -> None:
    claim(database, ELSEWHERE)
    found = pool_validations.claim(database, columns(fingerprint="bbbbbbbbbbbb"), this_process())
    assert isinstance(found, Busy)
    assert found.process == ELSEWHERE
    assert claim(database, model="another").outcome == "made"


@pytest.mark.parametrize("process", [GONE, ELSEWHERE])
def test_what_a_process_paid_that_is_gone_is_written_down(database: Database, process: Process) -> None:
    dead = claim(database, process)
    pay(database, dead, "k1", "k2", cost_usd=0.25, prompt_tokens=3, completion_tokens=1, tokens_estimated=False)
    assert pool_validations.reserve(database, dead, total_usd=0.75, cap_usd=1.0)
    change(database, heartbeat=clock.to_text(clock.now() - timedelta(seconds=2 * clock.LEASE_TIMEOUT_S)))
    claim(database)
    row = rows(database.workspace, "SELECT * FROM pool_validation WHERE id = :id", id=dead.id)[0]
    assert (row["status"], row["error"]) == ("interrupted", "its process ended without a word")
    assert (row["cost_usd"], row["at_risk_usd"], row["reserved_usd"], row["n_calls"]) == (0.5, 0.25, None, 2)


def test_a_cap_counts_what_earlier_goes_at_the_same_paid_and_may_have_paid(database: Database) -> None:
    first = claim(database)
    pay(database, first, "k1", cost_usd=0.5, prompt_tokens=3, completion_tokens=1, tokens_estimated=False)
    finish(database, first, "partial", at_risk_usd=0.25)
    second = claim(database)
    assert not pool_validations.reserve(database, second, total_usd=0.5, cap_usd=1.0)
    assert pool_validations.reserve(database, second, total_usd=0.25, cap_usd=1.0)
    other = claim(database, fingerprint="bbbbbbbbbbbb")
    assert pool_validations.reserve(database, other, total_usd=1.0, cap_usd=1.0)


def test_answers_at_no_known_price_are_counted_where_a_cap_is_to_hold(database: Database) -> None:
    first = claim(database)
    pay(database, first, "k1", prompt_tokens=3, completion_tokens=1, cost_usd=None, tokens_estimated=False)
    finish(database, first, "partial")
    assert pool_validations.unpriced_answers(database, claim(database)) == 1


def test_one_that_was_taken_over_keeps_what_it_paid_and_leaves_the_answers(database: Database) -> None:
    claimed = claim(database)
    assert pool_validations.heartbeat(database, claimed)
    change(database, status="interrupted")
    assert not pool_validations.heartbeat(database, claimed)
    assert not pool_validations.reserve(database, claimed, total_usd=0.1, cap_usd=1.0)
    answer = {"pool_validation_id": claimed.id, "position": 0, "status": "failed", "error": "e"}
    with reading(database.workspace) as reader:
        mine = RunLedger(database, reader, claimed.id, VALIDATIONS)
        mine.save([], [answer])
    assert mine.taken_over
    assert rows(database.workspace, "SELECT * FROM pool_answer") == []
    assert finish(database, claimed)["status"] == "interrupted"


def test_its_end_has_results_and_is_told_to_mlflow(database: Database) -> None:
    claimed = claim(database)
    row = finish(database, claimed, n_calls=2)
    assert {name: row[name] for name in RESULTS} == RESULTS
    assert (row["status"], row["n_calls"], row["duration_s"] >= 0) == ("complete", 2, True)
    told = rows(database.workspace, "SELECT kind FROM mlflow_outbox WHERE pool_validation_id = :id", id=claimed.id)
    assert told == [{"kind": "pool_validation"}]
