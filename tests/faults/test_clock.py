"""The wall clock goes back an hour, between two runs and in the midst of one.

Covered here: generate (leases, heartbeats, durations, MLflow's times), perspectives, a lease whose heartbeat lies in
the future, listings. That a reading of a process's start moves with the clock: ``tests/tracker/test_clock.py``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests import perspectives
from tests.faults.failing import WallClock
from tests.faults.surroundings import started
from tests.llm_server import running_server
from tests.workspaces import (
    call,
    config,
    finish,
    new_root,
    rows,
    served,
    statuses,
    train_file,
    write_config,
    write_recording,
)

COUNT = 12
HOUR = 3600
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
REMEMBERED = (
    "SELECT started_at, finished_at, duration_s FROM generation_run UNION ALL "
    "SELECT started_at, finished_at, duration_s FROM agent_run"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "clock")


def until_asked(root: Path, process: subprocess.Popen[str]) -> None:
    """Waits until a run has committed an answer."""
    while process.poll() is None:
        if (root / "tracker.db").exists() and rows(root, "SELECT 1 FROM sqlite_master WHERE name = 'attempt'"):
            with contextlib.suppress(sqlite3.OperationalError):
                if rows(root, "SELECT 1 FROM attempt"):
                    return
        time.sleep(0.02)


def loaded(root: Path) -> None:
    """Imports here what `generate` needs, so that it is quick beside a run that goes on."""
    assert call(root, "init").code == 0
    assert call(root, *GENERATE, "--dry-run").code == 0


def assert_no_time_runs_backwards(root: Path) -> None:
    for began, ended, took in rows(root, REMEMBERED):
        assert took >= 0, took
        assert ended >= began, (began, ended)


def test_a_run_in_whose_midst_the_clock_goes_back_ends_as_ever(root: Path, recording: Path, clock: WallClock) -> None:
    with running_server(recorded=recording, latency=1) as server:
        write_config(root, served(server.base_url, generation__concurrency=4))
        loaded(root)
        process = started(root, *GENERATE, environ=clock.environ)
        until_asked(root, process)
        clock.set(-HOUR)
        busy = call(root, *GENERATE)
        done = finish(process)
        assert server.stats()["received"] == 2 * COUNT
    assert (done.code, busy.code) == (0, 5), (done.err, busy.err)
    assert "is being made" in busy.err
    assert "; -" not in done.out
    assert_no_time_runs_backwards(root)
    assert call(root, "verify").code == 0


def test_what_was_made_before_the_clock_went_back_is_reused_and_goes_on(
    root: Path, recording: Path, clock: WallClock
) -> None:
    with running_server(recorded=recording, poison="house 003") as server:
        write_config(root, served(server.base_url, generation__max_retries=0))
        assert call(root, *GENERATE).code == 1
    clock.set(-HOUR)
    with running_server(recorded=recording) as server:
        own = ("--set", f"generation.base_url={server.base_url}")
        resumed = finish(started(root, *GENERATE, *own, environ=clock.environ))
        assert server.stats()["received"] == 2
    assert (resumed.code, "resumed, complete" in resumed.out) == (0, True), resumed.err
    again = finish(started(root, *GENERATE, "--batch", "second", environ=clock.environ))
    assert (again.code, again.out[:1]) == (0, "⚡"), again.err
    assert statuses(root) == ["partial", "complete", "complete"]
    assert_no_time_runs_backwards(root)
    for command in (("batch", "list"), ("verify",)):
        assert finish(started(root, *command, environ=clock.environ)).code == 0


def test_agents_answer_on_while_the_clock_goes_back(tmp_path: Path, clock: WallClock) -> None:
    root = perspectives.new_root(tmp_path, 6)
    with running_server(latency=0.3) as server:
        perspectives.write_config(root, perspectives.served(server.base_url, model_config__concurrency=4))
        process = started(root, "perspectives", "config.json", "--no-mlflow", environ=clock.environ)
        until_asked(root, process)
        clock.set(-HOUR)
        done = finish(process)
        assert perspectives.received(server) == 4 * 6
    assert done.code == 0, done.err
    assert_no_time_runs_backwards(root)
    assert call(root, "verify").code == 0


def test_mlflow_shows_no_run_that_ends_before_it_begins(root: Path, recording: Path, clock: WallClock) -> None:
    from tests.mlflow_reading import client_of
    from tracker.paths import Workspace

    with running_server(recorded=recording, latency=0.3) as server:
        write_config(root, served(server.base_url, generation__concurrency=4))
        process = started(root, "generate", "copa.yaml", environ=clock.environ)
        until_asked(root, process)
        clock.set(-HOUR)
        assert finish(process).code == 0
    client = client_of(Workspace(root, environ={}))
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time


def leased_elsewhere(root: Path, heartbeat: str) -> None:
    """What a process on another host left of an experiment, which was last heard of then."""
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(
            "UPDATE shared_experiment SET lease_host = 'elsewhere.invalid', lease_pid = 7, lease_started = 1.0, "
            "lease_since = ?, lease_heartbeat = ?, status = 'unfinished', data_digest = NULL",
            (heartbeat, heartbeat),
        )


def in_sql(seconds: int) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%f', 'now', '{seconds:+d} seconds') || '000Z'"


def test_nobody_waits_an_hour_for_a_heartbeat_of_the_future(root: Path) -> None:
    write_config(root, config())
    assert call(root, *GENERATE).code == 0
    (future,) = rows(root, f"SELECT {in_sql(HOUR)}")[0]
    leased_elsewhere(root, future)
    refused = call(root, *GENERATE)
    assert (refused.code, "on elsewhere.invalid" in refused.err) == (5, True)
    # From now on its time counts, should it be the clock that was wrong.
    assert rows(root, f"SELECT lease_heartbeat <= {in_sql(1)} FROM shared_experiment") == [(1,)]
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(f"UPDATE shared_experiment SET lease_heartbeat = {in_sql(-121)}")
    assert call(root, *GENERATE).code == 0


def test_who_is_alive_keeps_its_lease_though_its_clock_is_an_hour_ahead(
    root: Path, recording: Path, clock: WallClock
) -> None:
    clock.set(HOUR)
    with running_server(recorded=recording, latency=1) as server:
        write_config(root, served(server.base_url, generation__concurrency=4))
        loaded(root)
        process = started(root, *GENERATE, environ=clock.environ)
        until_asked(root, process)
        refused = [call(root, *GENERATE) for _ in range(2)]
        done = finish(process)
        assert server.stats()["received"] == 2 * COUNT
    assert ([each.code for each in refused], done.code) == ([5, 5], 0), done.err


def test_what_was_made_later_at_an_earlier_time_is_found_and_listed(root: Path, clock: WallClock) -> None:
    write_config(root, config())
    assert call(root, *GENERATE).code == 0
    clock.set(-HOUR)
    own = ("--set", "generation.temperature=0.9", "--batch", "second")
    assert finish(started(root, *GENERATE, *own, environ=clock.environ)).code == 0
    name = "temp09_topp10_rulesv1"
    assert train_file(root, name).exists()
    listed = [call(root, *command) for command in (("batch", "list"), ("experiment", "show", f"Copa/{name}"))]
    assert [each.code for each in listed] == [0, 0]
    assert all(word in listed[0].out for word in ("first", "second"))
    assert rows(root, "SELECT name FROM shared_experiment ORDER BY id DESC LIMIT 1") == [(name,)]
    assert call(root, "verify").code == 0
