"""Claims, leases and the end of a run: one owner for each agent data set, whatever happens to the owners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.engine.ledger import RunLedger
from tests import agent_rows
from tests.agent_rows import FAILED, GOOD, answer, claim, dataset, finish, wanted
from tests.databases import attempt, rows
from tracker import clock
from tracker.clock import Process, this_process
from tracker.errors import Corrupt
from tracker.fingerprint import Identity
from tracker.record import agents, ledger
from tracker.record.agents import AGENTS, Claimed, Wanted
from tracker.record.catalogue import Row, reading
from tracker.record.database import Database
from tracker.record.generation import Totals
from tracker.record.lease import Busy

REPOSITORY = Path(__file__).parents[3]
ELSEWHERE = Process("another-host.invalid", 7, 1.0)
GONE = Process(clock.host(), 2**22 + 1, 1.0)
"""A process of this machine that is not there: the PID is above what Linux gives."""


@pytest.fixture
def want(database: Database) -> Wanted:
    return wanted(database)


def runs(database: Database) -> list[tuple[str, str]]:
    found = rows(database.workspace, "SELECT outcome, status FROM agent_run ORDER BY id")
    return [(row["outcome"], row["status"]) for row in found]


def run_row(database: Database, run_id: int) -> Row:
    return rows(database.workspace, "SELECT * FROM agent_run WHERE id = :id", id=run_id)[0]


def change(database: Database, table: Any, **columns: Any) -> None:
    with database.writing() as connection:
        connection.execute(table.update().values(**columns))


def held_elsewhere(database: Database, heartbeat_age_s: float) -> None:
    """The only agent data set is being made on another host, whose lease has that old a heartbeat."""
    heartbeat = clock.to_text(clock.now() - timedelta(seconds=heartbeat_age_s))
    lease = {"lease_host": ELSEWHERE.host, "lease_pid": ELSEWHERE.pid, "lease_started": ELSEWHERE.started}
    change(database, agents.DATASET, **lease, lease_heartbeat=heartbeat)


def pay(database: Database, claimed: Claimed, *keys: str, **columns: Any) -> None:
    """Answers at a hundredth of a dollar, or what ``columns`` say."""
    triples = [attempt(key, None, agent_run_id=claimed.run_id, **columns) for key in keys]
    with database.writing() as connection:
        ledger.save_attempts(database, connection, triples)


def test_what_nobody_has_made_is_mine(database: Database) -> None:
    want = wanted(database, references=True)
    found = claim(database, want)
    assert (found.outcome, found.name, found.partial) == ("made", want.name, False)
    row = dataset(database.workspace)
    assert (row["status"], row["fingerprint"], row["digest"]) == (
        "unfinished",
        want.identity.fingerprint,
        want.identity.digest,
    )
    assert json.loads(row["identity"])["kind"] == "agent_dataset"
    assert Process(row["lease_host"], row["lease_pid"], row["lease_started"]).is_same(this_process())
    assert row["lease_heartbeat"] == row["lease_since"] == row["created_at"]
    perspectives = rows(database.workspace, "SELECT * FROM agent_perspective ORDER BY position")
    assert [
        (each["position"], each["condition"], bool(each["is_reference"]), each["reading"]) for each in perspectives
    ] == [(0, "Reference", True, None), (1, "Original", False, None), (2, "Noted", False, "Take notes.")]
    assert runs(database) == [("made", "running")]


def test_what_is_complete_is_reused(database: Database, want: Wanted) -> None:
    made = agent_rows.make(database)
    before = dataset(database.workspace)
    found = claim(database, want)
    assert (found.outcome, found.dataset_id, found.name) == ("reused", made.dataset_id, made.name)
    ended = agents.finish(database, found, Totals(), status="complete")
    assert (ended["status"], ended["n_responses"], ended["cost_usd"], ended["n_calls"]) == ("complete", 4, 0, 0)
    assert dataset(database.workspace) == before
    assert before["lease_host"] is None
    assert runs(database) == [("made", "complete"), ("reused", "complete")]
    told = rows(database.workspace, "SELECT kind, agent_run_id, logged_at FROM mlflow_outbox ORDER BY id")
    assert told == [{"kind": "agent_run", "agent_run_id": number, "logged_at": None} for number in (1, 2)]


def test_what_was_interrupted_is_resumed(database: Database, want: Wanted) -> None:
    made = claim(database, want)
    agents.finish(database, made, Totals(), status="interrupted", error="Ctrl-C")
    row = dataset(database.workspace)
    assert (row["status"], row["completed_at"], row["data_digest"], row["lease_host"]) == ("unfinished",) + (None,) * 3
    found = claim(database, want, replace(this_process(), pid=os.getppid()))
    assert (found.outcome, found.name, found.dataset_id) == ("resumed", made.name, made.dataset_id)
    assert runs(database) == [("made", "interrupted"), ("resumed", "running")]
    assert len(rows(database.workspace, "SELECT * FROM agent_perspective")) == 2


def test_what_a_living_process_makes_is_busy_and_leaves_no_trace(database: Database, want: Wanted) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = Process(clock.host(), child.pid, psutil.Process(child.pid).create_time())
        claim(database, want, other)
        before = dataset(database.workspace)
        assert agents.claim(database, want, this_process()) == Busy(other, before["lease_since"])
        assert dataset(database.workspace) == before
        assert runs(database) == [("made", "running")]
    assert claim(database, want).outcome == "resumed"


def test_what_a_dead_process_left_is_resumed(database: Database, want: Wanted) -> None:
    claim(database, want, GONE)
    assert claim(database, want).outcome == "resumed"
    assert runs(database) == [("made", "interrupted"), ("resumed", "running")]
    errors = rows(database.workspace, "SELECT error FROM agent_run ORDER BY id")
    assert errors == [{"error": "its process ended without a word"}, {"error": None}]


def test_a_process_is_not_busy_with_itself(database: Database, want: Wanted) -> None:
    claim(database, want)
    # Two readings of a process's start can differ by a little.
    again = this_process()
    assert claim(database, want, replace(again, started=again.started + 0.5)).outcome == "resumed"


@pytest.mark.parametrize(
    ("age", "busy"), [(0, True), (clock.LEASE_TIMEOUT_S - 30, True), (clock.LEASE_TIMEOUT_S + 30, False)]
)
def test_a_lease_on_another_host_lives_as_long_as_its_heartbeat(
    database: Database, want: Wanted, age: float, busy: bool
) -> None:
    claim(database, want)
    held_elsewhere(database, age)
    found = agents.claim(database, want, this_process())
    if busy:
        assert found == Busy(ELSEWHERE, dataset(database.workspace)["lease_since"])
    else:
        assert not isinstance(found, Busy)
        assert found.outcome == "resumed"


def test_only_its_holder_beats_for_a_lease(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    change(database, agents.DATASET, lease_heartbeat="2000-01-01T00:00:00.000000Z")
    assert agents.heartbeat(database, mine)
    assert dataset(database.workspace)["lease_heartbeat"] > "2026"
    held_elsewhere(database, 0)
    before = dataset(database.workspace)
    assert not agents.heartbeat(database, mine)
    assert dataset(database.workspace) == before


def test_a_run_that_was_taken_over_keeps_what_it_paid_and_leaves_the_data_set_alone(
    database: Database, want: Wanted
) -> None:
    standing_still = claim(database, want)
    pay(database, standing_still, "k1")
    held_elsewhere(database, clock.LEASE_TIMEOUT_S + 1)
    taken = claim(database, want)
    assert taken.outcome == "resumed"
    record = rows(database.workspace, "SELECT id FROM source_record ORDER BY id")[0]["id"]
    late = {
        "agent_dataset_id": standing_still.dataset_id, "position": 0, "perspective": 0, "source_record_id": record,
        "status": "answered", "response": "late", "updated_at": agent_rows.MOMENT,
    }  # fmt: skip
    with reading(database.workspace, snapshot=False) as reader:
        writer = RunLedger(database, reader, standing_still.run_id, AGENTS)
        writer.save([], [late])
    assert writer.taken_over
    assert rows(database.workspace, "SELECT * FROM agent_response") == []
    before = dataset(database.workspace)
    ended = agents.finish(
        database, standing_still, Totals(n_calls=1), status="complete", data_digest="f" * 64,
        results={0: {"n_responses": 9}},
    )  # fmt: skip
    assert (ended["status"], ended["cost_usd"], ended["n_calls"]) == ("interrupted", 0.01, 1)
    assert dataset(database.workspace) == before
    assert rows(database.workspace, "SELECT n_responses FROM agent_perspective WHERE position = 0") == [
        {"n_responses": 0}
    ]


def test_a_run_that_was_taken_over_on_another_host_may_spend_nothing_more(database: Database, want: Wanted) -> None:
    standing_still = claim(database, want)
    assert agents.reserve(database, standing_still, total_usd=0.1, cap_usd=1.0)
    held_elsewhere(database, clock.LEASE_TIMEOUT_S + 1)
    taken = claim(database, want)
    # What the other one had reserved may have been billed.
    assert not agents.reserve(database, taken, total_usd=0.91, cap_usd=1.0)
    assert agents.reserve(database, taken, total_usd=0.9, cap_usd=1.0)
    assert not agents.reserve(database, standing_still, total_usd=0.01, cap_usd=100.0)
    row = run_row(database, standing_still.run_id)
    assert (row["status"], row["reserved_usd"], row["at_risk_usd"]) == ("interrupted", None, 0.1)


def test_any_claim_ends_the_runs_whose_process_is_gone(database: Database, want: Wanted) -> None:
    dead = claim(database, want, GONE)
    pay(database, dead, "k1", "k2")
    assert agents.reserve(database, dead, total_usd=0.05, cap_usd=1)
    claim(database, wanted(database, draw=1))
    assert runs(database) == [("made", "interrupted"), ("made", "running")]
    row = run_row(database, dead.run_id)
    expected = {"n_calls": 2, "prompt_tokens": 20, "completion_tokens": 10, "cost_usd": 0.02, "reserved_usd": None}
    assert {name: row[name] for name in expected} == expected
    assert row["at_risk_usd"] == pytest.approx(0.03)
    assert row["finished_at"] == "2026-11-20T21:46:52.123456Z"  # when its last request was sent
    assert rows(database.workspace, "SELECT agent_run_id FROM mlflow_outbox") == [{"agent_run_id": dead.run_id}]
    # It is said once.
    claim(database, wanted(database, draw=2))
    assert len(rows(database.workspace, "SELECT * FROM mlflow_outbox")) == 1


def test_the_runs_that_are_ended_are_counted(database: Database, want: Wanted) -> None:
    assert agents.end_dead_runs(database) == 0
    claim(database, want, GONE)
    assert (agents.end_dead_runs(database), agents.end_dead_runs(database)) == (1, 0)
    assert runs(database) == [("made", "interrupted")]


def test_a_run_that_only_reuses_is_not_taken_for_dead_with_the_data_set_it_found(
    database: Database, want: Wanted
) -> None:
    agent_rows.make(database, [[FAILED, "a"], ["b", "c"]])
    reusing = claim(database, wanted(database, accept_partial=True))
    assert reusing.outcome == "reused"
    assert reusing.partial
    assert claim(database, want).outcome == "resumed"
    assert runs(database) == [("made", "partial"), ("reused", "running"), ("resumed", "running")]


def test_a_fingerprint_that_stands_for_other_settings_is_corrupt(database: Database, want: Wanted) -> None:
    claim(database, want, GONE)
    identity = Identity("agent_dataset", "{}", want.identity.fingerprint, "0" * 64)
    with pytest.raises(Corrupt, match=f"Fingerprint {want.identity.fingerprint} stands for other settings in"):
        agents.claim(database, replace(want, identity=identity), this_process())
    assert runs(database) == [("made", "running")]


def test_a_name_that_is_taken_gets_a_suffix_once(database: Database) -> None:
    wants = [wanted(database, name="t_m_20261120_214652", draw=number) for number in range(3)]
    names = ["t_m_20261120_214652", "t_m_20261120_214652_2", "t_m_20261120_214652_3"]
    assert [claim(database, want).name for want in wants] == names
    later = [replace(want, name="another_moment") for want in wants]
    assert [claim(database, want).name for want in reversed(later)] == names[::-1]


def test_the_end_of_a_run_counts_pays_and_frees(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    pay(database, mine, "k1")
    pay(database, mine, "k2", tokens_estimated=True, failure="truncated")
    answer(database, mine, [["Hello", FAILED], ["Bye", "So long"]])
    assert agents.reserve(database, mine, total_usd=1, cap_usd=2)
    totals = Totals(n_calls=3, n_cached=2, n_retried=1, latency_p50_s=0.5, limits={("e", "KEY"): 17})
    run = agents.finish(database, mine, totals, status="partial", error="1 of 4")
    spent = {"prompt_tokens": 20, "completion_tokens": 10, "cost_usd": 0.02}
    counts = {"n_responses": 3, "n_failed": 1, "n_calls": 3, "n_cached": 2}
    expected = {**counts, **spent, "tokens_estimated": True, "status": "partial", "reserved_usd": None}
    assert {name: run[name] for name in expected} == expected
    assert run["duration_s"] == clock.seconds_between(run["started_at"], run["finished_at"])
    row = dataset(database.workspace)
    assert {name: row[name] for name in counts | spent} == counts | spent
    assert (row["status"], row["data_digest"], row["lease_host"]) == ("unfinished", None, None)
    assert ledger.learned_limits(database) == {("e", "KEY"): 17}


def test_what_came_of_each_perspective_is_kept(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    results: dict[int, Row] = {
        0: {"n_responses": 2, "mean_words": 1.5, "chrf": 40.25},
        1: {"n_failed": 1, "chrf": None},
    }
    agents.finish(database, mine, Totals(), status="complete", data_digest="d", results=results)
    found = rows(database.workspace, "SELECT * FROM agent_perspective ORDER BY position")
    assert [{name: found[at][name] for name in columns} for at, columns in results.items()] == list(results.values())


def test_accepted_failures_make_it_partial_which_is_reused_only_where_that_is_accepted(
    database: Database, want: Wanted
) -> None:
    agent_rows.make(database, [["Hello", FAILED], ["Bye", "So long"]])
    first = dataset(database.workspace)
    assert (first["status"], first["n_failed"]) == ("partial", 1)
    found = claim(database, replace(want, accept_partial=True))
    assert (found.outcome, found.partial) == ("reused", True)
    again = claim(database, want)
    assert (again.outcome, again.partial) == ("resumed", True)
    # While it is changed, what was recorded of it says nothing.
    assert dataset(database.workspace)["data_digest"] is None
    assert agents.claim(database, replace(want, accept_partial=True), ELSEWHERE) == Busy(
        this_process(), dataset(database.workspace)["lease_since"]
    )
    answer(database, again, GOOD)
    finish(database, again)
    row = dataset(database.workspace)
    assert (row["status"], row["n_failed"], row["n_responses"]) == ("complete", 0, 4)
    assert row["data_digest"] not in {None, first["data_digest"]}
    assert row["completed_at"] > first["completed_at"]


def test_a_data_set_costs_what_all_its_runs_cost_and_reuse_is_free(database: Database, want: Wanted) -> None:
    for key, status, digest in (("k1", "interrupted", None), ("k2", "complete", "d")):
        mine = claim(database, want)
        pay(database, mine, key)
        agents.finish(database, mine, Totals(n_calls=1, n_cached=1), status=status, data_digest=digest)
    agents.finish(database, claim(database, want), Totals(n_cached=7), status="complete")
    row = dataset(database.workspace)
    assert (row["cost_usd"], row["prompt_tokens"], row["n_calls"], row["n_cached"]) == (0.02, 20, 2, 2)
    costs = rows(database.workspace, "SELECT cost_usd FROM agent_run ORDER BY id")
    assert [each["cost_usd"] for each in costs] == [0.01, 0.01, 0]


def test_an_unknown_price_makes_the_cost_unknown(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    pay(database, mine, "k1")
    pay(database, mine, "k2", cost_usd=None)
    assert agents.unpriced_answers(database, mine) == 0  # its own are its own affair
    assert agents.finish(database, mine, Totals(), status="interrupted")["cost_usd"] is None
    assert agents.unpriced_answers(database, claim(database, want)) == 1
    assert dataset(database.workspace)["cost_usd"] is None


def test_a_cap_holds_for_all_runs_of_a_data_set_together(database: Database, want: Wanted) -> None:
    first = claim(database, want, GONE)
    assert not agents.reserve(database, first, total_usd=0.11, cap_usd=0.10)
    assert run_row(database, first.run_id)["reserved_usd"] is None
    assert agents.reserve(database, first, total_usd=0.04, cap_usd=0.10)
    assert agents.reserve(database, first, total_usd=0.05, cap_usd=0.10)
    pay(database, first, "k1", "k2")
    # It ends without a word: 2 cents were paid, 3 may have been billed without an answer.
    second = claim(database, want)
    assert agents.reserve(database, second, total_usd=0.05, cap_usd=0.10)
    assert not agents.reserve(database, second, total_usd=0.051, cap_usd=0.10)
    assert run_row(database, second.run_id)["reserved_usd"] == 0.05
    agents.finish(database, second, Totals(at_risk_usd=0.01), status="interrupted")
    third = claim(database, want)
    assert agents.reserve(database, third, total_usd=0.04, cap_usd=0.10)
    assert not agents.reserve(database, third, total_usd=0.041, cap_usd=0.10)
    # Who was taken over gets nothing, and its reservations do not count against who took over.
    assert not agents.reserve(database, first, total_usd=0.001, cap_usd=1.0)
    assert run_row(database, first.run_id)["reserved_usd"] is None
    # Another data set has a cap of its own.
    assert agents.reserve(database, claim(database, wanted(database, draw=1)), total_usd=0.1, cap_usd=0.10)


CLAIM = """
import sys, time
from pathlib import Path
from tests.agent_rows import wanted
from tracker.record import agents
from tracker.clock import this_process
from tracker.record.database import open_database
from tracker.record.lease import Busy
from tracker.paths import Workspace
from tracker.record.generation import Totals
with open_database(Workspace(Path(sys.argv[1]))) as database:
    want = wanted(database)
    while isinstance(found := agents.claim(database, want, this_process()), Busy):
        time.sleep(0.02)
    if found.outcome != "reused":
        time.sleep(0.2)
    agents.finish(database, found, Totals(), status="complete", data_digest="d")
    print(found.outcome, found.name)
"""


def test_eight_processes_at_once_have_one_owner(database: Database) -> None:
    environ = {**os.environ, **database.workspace.environ, "PYTHONPATH": str(REPOSITORY)}
    code = [sys.executable, "-c", CLAIM, str(database.workspace.root)]
    started = [subprocess.Popen(code, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = sorted(process.communicate(timeout=60)[0] for process in started)
    name = wanted(database).name
    assert said == [f"made {name}\n", *[f"reused {name}\n"] * 7]
    assert sorted(runs(database)) == [("made", "complete"), *[("reused", "complete")] * 7]
    assert len(rows(database.workspace, "SELECT * FROM mlflow_outbox")) == 8
