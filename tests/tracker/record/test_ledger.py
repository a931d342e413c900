"""What was paid for: found again, summed with the unknown unknown, and kept below a cap by all processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import add_source, attempt, claim, rows, sample, wanted
from tracker.clock import Process, this_process
from tracker.paths import Workspace
from tracker.record import generation, ledger
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database, open_database
from tracker.record.generation import Claimed, Totals


@pytest.fixture
def mine(database: Database) -> Claimed:
    return claim(database, wanted(add_source(database)))


def pay(database: Database, *attempts: tuple[Row, list[Row], Row]) -> None:
    with database.writing() as connection:
        ledger.save_attempts(database, connection, attempts)


def answer(database: Database, key: str) -> str | None:
    with reading(database.workspace) as reader:
        found = ledger.find_answer(reader, key)
    return found["answer"] if found else None


def test_the_first_good_answer_is_found(database: Database, mine: Claimed) -> None:
    assert answer(database, "k") is None
    pay(database, attempt("k", mine.run_id, failure="transient", answer=None), attempt("other", mine.run_id))
    assert answer(database, "k") is None
    pay(database, attempt("k", mine.run_id, answer="first"), attempt("k", mine.run_id, answer="later"))
    pay(database, attempt("k", mine.run_id, answer="cut", failure="truncated"))
    assert answer(database, "k") == "first"


def test_requests_and_messages_are_stored_once(database: Database, mine: Claimed) -> None:
    pay(database, attempt("k1", mine.run_id), attempt("k1", mine.run_id), attempt("k2", mine.run_id))
    pay(database, attempt("k1", None))
    pay(database)
    counted = [
        rows(database.workspace, f"SELECT COUNT(*) AS n FROM {table}")[0]["n"]
        for table in ("message", "request", "attempt")
    ]
    assert counted == [1, 2, 4]


def test_a_later_result_for_a_record_replaces_the_earlier_one(database: Database, mine: Claimed) -> None:
    (record, *_) = [row["id"] for row in rows(database.workspace, "SELECT id FROM source_record ORDER BY position")]
    for found in (sample(mine, record, 0, "failed", error="500"), sample(mine, record, 0, rephrased="new", error=None)):
        with database.writing() as connection:
            ledger.save_results(database, connection, [found])
    (stored,) = rows(database.workspace, "SELECT status, rephrased, error FROM sample")
    assert stored == {"status": "accepted", "rephrased": "new", "error": None}


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ([], 0),
        ([0.01, 0.02], 0.03),
        ([0.0], 0),
        ([0.01, None], None),
        ([None], None),
    ],
)
def test_a_cost_is_unknown_as_soon_as_that_of_one_answer_is(
    database: Database, mine: Claimed, costs: list[float | None], total: float | None
) -> None:
    pay(database, *(attempt(f"k{number}", mine.run_id, cost_usd=cost) for number, cost in enumerate(costs)))
    # An attempt without an answer has no tokens, and no price makes it unknown.
    nothing = {"answer": None, "prompt_tokens": None, "completion_tokens": None, "cost_usd": None}
    pay(database, attempt("failed", mine.run_id, failure="transient", **nothing))
    run = generation.finish(database, mine, Totals(), status="complete", data_digest="d")
    assert run["cost_usd"] == (None if total is None else pytest.approx(total))
    assert run["prompt_tokens"] == 10 * len(costs)
    (overview,) = rows(database.workspace, "SELECT cost_usd FROM batch_overview")
    assert overview["cost_usd"] == run["cost_usd"]


def test_a_cap_counts_what_others_may_spend_and_have_spent(database: Database, mine: Claimed) -> None:
    source = rows(database.workspace, "SELECT id FROM source_dataset")[0]["id"]
    other = claim(database, wanted(source, temperature=1))
    elsewhere = claim(database, wanted(source, batch="batch_b", temperature=2))

    def reserve(run: Claimed, total: float) -> bool:
        return ledger.reserve(database, run.run_id, run.batch_id, total_usd=total, cap_usd=1.0)

    assert reserve(other, 0.75)
    assert not reserve(mine, 0.5)
    assert reserve(mine, 0.25)
    assert reserve(elsewhere, 1.0), "another batch has its own cap"
    assert not reserve(other, 1.0)
    pay(database, attempt("k", other.run_id, cost_usd=0.5))
    generation.finish(database, other, Totals(), status="complete", data_digest="d")
    assert reserve(mine, 0.5), "what was not spent is free again"
    assert not reserve(mine, 0.75), "what was spent is not"


def test_what_a_process_that_died_was_allowed_and_did_not_pay_may_be_gone(database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    source = add_source(database)
    dead = claim(database, wanted(source), Process(this_process().host, child.pid, 1.0))
    pay(database, attempt("k", dead.run_id, cost_usd=0.25))
    assert ledger.reserve(database, dead.run_id, dead.batch_id, total_usd=0.5, cap_usd=1.0)
    mine = claim(database, wanted(source, temperature=2))
    assert not ledger.reserve(database, mine.run_id, mine.batch_id, total_usd=0.6, cap_usd=1.0)
    assert ledger.reserve(database, mine.run_id, mine.batch_id, total_usd=0.5, cap_usd=1.0)
    assert [row["generation_run_id"] for row in rows(database.workspace, "SELECT * FROM cost_reservation")] == [
        mine.run_id
    ]
    (found,) = rows(database.workspace, "SELECT status, at_risk_usd FROM generation_run WHERE id = 1")
    assert found == {"status": "interrupted", "at_risk_usd": 0.25}


def test_a_process_elsewhere_counts_until_it_has_not_been_heard_of_for_long(database: Database) -> None:
    source = add_source(database)
    far = claim(database, wanted(source), Process("another-host.invalid", 7, 1.0))
    mine = claim(database, wanted(source, temperature=2))
    assert ledger.reserve(database, far.run_id, far.batch_id, total_usd=0.9, cap_usd=1.0)
    assert not ledger.reserve(database, mine.run_id, mine.batch_id, total_usd=0.5, cap_usd=1.0)
    with database.writing() as connection:
        long_ago = "2026-01-01T00:00:00.000000Z"
        here = ledger.EXPERIMENT.c.id == far.experiment_id
        connection.execute(ledger.EXPERIMENT.update().where(here).values(lease_heartbeat=long_ago))
    claim(database, wanted(source, temperature=3))
    (found,) = rows(database.workspace, "SELECT status, at_risk_usd FROM generation_run WHERE id = 1")
    assert found == {"status": "interrupted", "at_risk_usd": 0.9}


def spend(root: str, environ: dict[str, str], source: int, number: int, cap: float) -> float:
    """Reserves and pays a cent at a time until the cap says no; gives what it spent."""
    with open_database(Workspace(Path(root), environ=environ)) as database:
        mine = claim(database, wanted(source, temperature=number), this_process())
        spent = 0
        while ledger.reserve(database, mine.run_id, mine.batch_id, total_usd=(spent + 1) / 128, cap_usd=cap):
            spent += 1
            pay(database, attempt(f"{number}-{spent}", mine.run_id, cost_usd=1 / 128))
        return spent / 128


def test_processes_together_never_exceed_the_cap(database: Database) -> None:
    source = add_source(database)
    workspace = database.workspace
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        arguments = [(str(workspace.root), dict(workspace.environ), source, number, 0.5) for number in range(4)]
        spent = pool.starmap(spend, arguments)
    paid = rows(workspace, "SELECT SUM(cost_usd) AS total FROM attempt")[0]["total"]
    assert paid == sum(spent) == 0.5, "all of it, and not a cent more"
    assert os.getpid() not in {row["pid"] for row in rows(workspace, "SELECT pid FROM generation_run")}
