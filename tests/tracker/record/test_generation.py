"""Claims, leases and the end of a run: one owner for each experiment, whatever happens to the owners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.ledger import RunLedger
from tests.databases import LINES, add_source, attempt, claim, rows, sample, wanted
from tracker import clock
from tracker.clock import Process, this_process
from tracker.errors import Corrupt
from tracker.fingerprint import Identity
from tracker.record import generation, ledger
from tracker.record.catalogue import reading
from tracker.record.database import Database
from tracker.record.generation import Totals, Wanted
from tracker.record.lease import Busy

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def want(database: Database) -> Wanted:
    return wanted(add_source(database), temperature=0.7)


def elsewhere(heartbeat_age_s: float, database: Database) -> Process:
    """A process on another host whose lease of the only experiment has that old a heartbeat."""
    process = Process("another-host.invalid", 7, 1.0)
    heartbeat = clock.to_text(clock.now() - timedelta(seconds=heartbeat_age_s))
    lease(database, lease_host=process.host, lease_pid=7, lease_started=1.0, lease_heartbeat=heartbeat)
    return process


def lease(database: Database, **columns: Any) -> None:
    with database.writing() as connection:
        connection.execute(ledger.EXPERIMENT.update().values(**columns))


def experiment(database: Database) -> dict[str, Any]:
    (found,) = rows(database.workspace, "SELECT * FROM shared_experiment")
    return found


def runs(database: Database) -> list[tuple[str, str]]:
    found = rows(database.workspace, "SELECT outcome, status FROM generation_run ORDER BY id")
    return [(row["outcome"], row["status"]) for row in found]


def save(database: Database, *samples: dict[str, Any]) -> None:
    with database.writing() as connection:
        ledger.save_results(database, connection, samples)


def records(database: Database) -> list[int]:
    return [row["id"] for row in rows(database.workspace, "SELECT id FROM source_record ORDER BY position")]


def test_a_source_is_stored_once(database: Database) -> None:
    first = add_source(database)
    assert add_source(database) == first
    assert add_source(database, "CB") != first
    found = rows(database.workspace, "SELECT line FROM source_record ORDER BY source_split_id, position")
    assert [row["line"] for row in found] == LINES + LINES
    splits = rows(
        database.workspace, "SELECT split, n_records, content FROM source_split WHERE source_dataset_id = :i", i=first
    )
    assert [(row["split"], row["n_records"], row["content"]) for row in splits] == [
        ("train", 4, None),
        ("validation", 1, b"xx"),
    ]


def test_what_nobody_has_made_is_mine(database: Database, want: Wanted) -> None:
    found = claim(database, want)
    assert (found.outcome, found.name, found.original_batch) == ("made", "temp07", "batch_a")
    row = experiment(database)
    assert (row["status"], row["fingerprint"], row["digest"]) == (
        "unfinished",
        want.identity.fingerprint,
        want.identity.digest,
    )
    assert json.loads(row["identity"])["identity"] == {"source": want.source_dataset_id, "temperature": 0.7}
    assert Process(row["lease_host"], row["lease_pid"], row["lease_started"]).is_same(this_process())
    assert rows(database.workspace, "SELECT reused FROM batch_membership") == [{"reused": False}]
    assert runs(database) == [("made", "running")]


def test_what_is_complete_is_reused_and_says_where_it_is_from(database: Database, want: Wanted) -> None:
    made = claim(database, want)
    generation.finish(database, made, Totals(), status="complete", data_digest="d")
    found = claim(database, replace(want, batch="batch_b"))
    assert (found.outcome, found.experiment_id, found.original_batch) == ("reused", made.experiment_id, "batch_a")
    members = rows(database.workspace, "SELECT batch, reused, original_batch FROM batch_experiment ORDER BY batch")
    assert [(row["batch"], bool(row["reused"]), row["original_batch"]) for row in members] == [
        ("batch_a", False, "batch_a"),
        ("batch_b", True, "batch_a"),
    ]
    assert experiment(database)["lease_host"] is None


def test_asking_again_within_a_batch_adds_a_run_and_no_membership(database: Database, want: Wanted) -> None:
    generation.finish(database, claim(database, want), Totals(), status="complete", data_digest="d")
    generation.finish(database, claim(database, want), Totals(), status="complete")
    assert runs(database) == [("made", "complete"), ("reused", "complete")]
    assert rows(database.workspace, "SELECT reused FROM batch_membership") == [{"reused": False}]


def test_what_was_interrupted_is_resumed(database: Database, want: Wanted) -> None:
    made = claim(database, want)
    generation.finish(database, made, Totals(), status="interrupted", error="Ctrl-C")
    found = claim(database, want, replace(this_process(), pid=os.getppid()))
    assert (found.outcome, found.name) == ("resumed", made.name)
    assert runs(database) == [("made", "interrupted"), ("resumed", "running")]


def test_what_a_living_process_makes_is_busy_and_leaves_no_trace(database: Database, want: Wanted) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        import psutil

        other = Process(this_process().host, child.pid, psutil.Process(child.pid).create_time())
        claim(database, want, other)
        found = generation.claim(database, replace(want, batch="batch_b"), this_process())
        assert isinstance(found, Busy)
        assert found.process == other
        assert found.since == experiment(database)["lease_since"]
        assert rows(database.workspace, "SELECT name FROM batch") == [{"name": "batch_a"}]
        assert len(runs(database)) == 1
    assert claim(database, want).outcome == "resumed"


def test_what_a_dead_process_left_is_resumed(database: Database, want: Wanted) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    claim(database, want, Process(this_process().host, child.pid, 1.0))
    assert claim(database, want).outcome == "resumed"
    assert runs(database) == [("made", "interrupted"), ("resumed", "running")]
    errors = rows(database.workspace, "SELECT error FROM generation_run ORDER BY id")
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
    other = elsewhere(age, database)
    found = generation.claim(database, want, this_process())
    if busy:
        assert found == Busy(other, experiment(database)["lease_since"])
    else:
        assert not isinstance(found, Busy)
        assert found.outcome == "resumed"


def test_only_its_holder_beats_for_a_lease(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    lease(database, lease_heartbeat="2000-01-01T00:00:00.000000Z")
    generation.heartbeat(database, mine)
    assert experiment(database)["lease_heartbeat"] > "2026"
    elsewhere(0, database)
    before = experiment(database)["lease_heartbeat"]
    generation.heartbeat(database, mine)
    assert experiment(database)["lease_heartbeat"] == before


def test_a_run_that_was_taken_over_keeps_what_it_paid_and_leaves_the_experiment_alone(
    database: Database, want: Wanted
) -> None:
    standing_still = claim(database, want)
    elsewhere(clock.LEASE_TIMEOUT_S + 1, database)
    taken = claim(database, want)
    assert taken.outcome == "resumed"
    with reading(database.workspace, snapshot=False) as reader:
        late = RunLedger(database, reader, standing_still.run_id)
        late.save([], [sample(standing_still, records(database)[0], 0)])
    assert late.taken_over
    ended = generation.finish(database, standing_still, Totals(), status="complete", data_digest="f" * 64)
    assert ended["status"] == "interrupted"
    found = experiment(database)
    assert (found["status"], found["data_digest"], found["lease_pid"]) == ("unfinished", None, os.getpid())
    assert rows(database.workspace, "SELECT * FROM sample") == []


def test_any_claim_ends_the_runs_whose_process_is_gone(database: Database, want: Wanted) -> None:
    dead = claim(database, want)
    with database.writing() as connection:
        connection.execute(ledger.RUN.update().values(pid=4194304))
    claim(database, wanted(want.source_dataset_id, temperature=0.9))
    assert runs(database) == [("made", "interrupted"), ("made", "running")]
    waiting = rows(database.workspace, "SELECT generation_run_id FROM mlflow_outbox")
    assert waiting == [{"generation_run_id": dead.run_id}]


def test_the_runs_that_are_ended_are_counted(database: Database, want: Wanted) -> None:
    claim(database, want)
    assert generation.end_dead_runs(database) == 0
    with database.writing() as connection:
        connection.execute(ledger.RUN.update().values(pid=4194304))
    assert (generation.end_dead_runs(database), generation.end_dead_runs(database)) == (1, 0)


def test_a_fingerprint_that_stands_for_other_settings_is_corrupt(database: Database, want: Wanted) -> None:
    claim(database, want, Process("another-host.invalid", 7, 1.0))
    identity = Identity("shared_experiment", "{}", want.identity.fingerprint, "0" * 64)
    with pytest.raises(
        Corrupt, match=rf"Fingerprint {want.identity.fingerprint} stands for other settings in Copa/temp07"
    ):
        generation.claim(database, replace(want, identity=identity, batch="batch_b"), this_process())
    assert len(runs(database)) == 1
    assert rows(database.workspace, "SELECT name FROM batch") == [{"name": "batch_a"}]


def test_a_name_that_is_taken_gets_a_suffix_once(database: Database) -> None:
    source = add_source(database)
    wants = [wanted(source, temperature=0.7, max_tokens=number) for number in range(3)]
    assert [claim(database, want).name for want in wants] == ["temp07", "temp07_2", "temp07_3"]
    assert [claim(database, want).name for want in reversed(wants)] == ["temp07_3", "temp07_2", "temp07"]
    assert claim(database, replace(wanted(source, temperature=1), dataset="CB")).name == "temp07"


def test_the_end_of_a_run_counts_pays_and_frees(database: Database, want: Wanted) -> None:
    mine = claim(database, want)
    ids = records(database)
    with database.writing() as connection:
        ledger.save_attempts(
            database,
            connection,
            [attempt("k1", mine.run_id), attempt("k2", mine.run_id, tokens_estimated=True, failure="truncated")],
        )
    save(
        database,
        sample(mine, ids[0], 0, rephrase_request_key="k1"),
        sample(mine, ids[1], 1, "rejected", verdict="unclear"),
        sample(mine, ids[2], 2, "rejected", verdict="not_the_same"),
        sample(mine, ids[3], 3, "failed", verdict=None, error="500"),
    )
    ledger.reserve(database, mine.run_id, mine.batch_id, total_usd=1, cap_usd=2)
    totals = Totals(n_calls=3, n_retried=1, latency_p50_s=0.5, limits={("e", "KEY"): 17})
    run = generation.finish(database, mine, totals, status="partial", error="1 of 4")
    counts = {"n_accepted": 1, "n_rejected": 2, "n_unclear": 1, "n_failed": 1}
    spent = {"prompt_tokens": 20, "completion_tokens": 10, "cost_usd": 0.02}
    expected = {**counts, **spent, "n_records": 4, "n_calls": 3, "tokens_estimated": True, "status": "partial"}
    assert {name: run[name] for name in expected} == expected
    assert run["duration_s"] == clock.seconds_between(run["started_at"], run["finished_at"])
    row = experiment(database)
    assert {name: row[name] for name in counts | spent} == counts | spent
    assert (row["status"], row["n_records"], row["lease_host"]) == ("unfinished", 4, None)
    assert rows(database.workspace, "SELECT * FROM cost_reservation") == []
    assert ledger.learned_limits(database) == {("e", "KEY"): 17}
    outbox = rows(database.workspace, "SELECT kind, generation_run_id, logged_at FROM mlflow_outbox")
    assert outbox == [{"kind": "generation_run", "generation_run_id": mine.run_id, "logged_at": None}]


def test_a_learned_limit_is_replaced(database: Database, want: Wanted) -> None:
    for limit in (17, 9):
        generation.finish(database, claim(database, want), Totals(limits={("e", "KEY"): limit}), status="interrupted")
    assert ledger.learned_limits(database) == {("e", "KEY"): 9}


def test_accepted_failures_make_it_partial_which_is_reused_only_where_that_is_accepted(
    database: Database, want: Wanted
) -> None:
    mine = claim(database, want)
    save(database, sample(mine, records(database)[0], 0, "failed"))
    generation.finish(database, mine, Totals(), status="partial", data_digest="d")
    assert experiment(database)["status"] == "partial"
    assert claim(database, replace(want, accept_partial=True)).outcome == "reused"
    again = claim(database, want)
    assert again.outcome == "resumed"
    save(database, sample(again, records(database)[0], 0))
    generation.finish(database, again, Totals(), status="complete", data_digest="e")
    row = experiment(database)
    assert (row["status"], row["n_failed"], row["n_accepted"], row["data_digest"]) == ("complete", 0, 1, "e")


def test_an_experiment_costs_what_all_its_runs_cost_and_reuse_is_free(database: Database, want: Wanted) -> None:
    for key, status, digest in (("k1", "interrupted", None), ("k2", "complete", "d")):
        mine = claim(database, want)
        with database.writing() as connection:
            ledger.save_attempts(database, connection, [attempt(key, mine.run_id)])
        generation.finish(database, mine, Totals(), status=status, data_digest=digest)
    reused = generation.finish(database, claim(database, want), Totals(), status="complete")
    assert (reused["cost_usd"], reused["prompt_tokens"]) == (0, 0)
    assert experiment(database)["cost_usd"] == 0.02
    costs = rows(database.workspace, "SELECT cost_usd FROM generation_run ORDER BY id")
    assert [row["cost_usd"] for row in costs] == [0.01, 0.01, 0]


CLAIM = """
import sys
from pathlib import Path
from pipeline.engine.ledger import RunLedger
from tests.databases import claim, wanted
from tracker.record import generation
from tracker.clock import this_process
from tracker.record.database import open_database
from tracker.paths import Workspace
from tracker.record.generation import Busy, Totals
import time
with open_database(Workspace(Path(sys.argv[1]))) as database:
    want = wanted(int(sys.argv[2]), batch=f"batch_{sys.argv[3]}")
    while isinstance(found := generation.claim(database, want, this_process()), Busy):
        time.sleep(0.02)
    if found.outcome != "reused":
        time.sleep(0.2)
    generation.finish(database, found, Totals(), status="complete", data_digest="d")
    print(found.outcome, found.name)
"""


def test_eight_processes_at_once_have_one_owner_and_each_its_membership(database: Database) -> None:
    source = add_source(database)
    environ = {**os.environ, **database.workspace.environ, "PYTHONPATH": str(REPOSITORY)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(database.workspace.root), str(source), str(number)],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    said = sorted(process.communicate()[0].strip() for process in started)
    assert said == ["made temp07"] + ["reused temp07"] * 7
    members = rows(database.workspace, "SELECT name, n_experiments, n_reused FROM batch_overview ORDER BY name")
    assert [(row["name"], row["n_experiments"]) for row in members] == [(f"batch_{number}", 1) for number in range(8)]
    assert sum(row["n_reused"] for row in members) == 7
    assert len(rows(database.workspace, "SELECT id FROM mlflow_outbox")) == 8
