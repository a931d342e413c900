"""``generate`` interrupted and started many times at once: one data set, and no answer is paid for twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.llm_server import Server, running_server
from tests.workspaces import (
    call,
    finish,
    new_root,
    rows,
    served,
    start,
    statuses,
    train_file,
    write_config,
    write_recording,
    write_records,
)
from tracker.clock import host

COUNT = 60
IN_FLIGHT = 8
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
PATIENCE_S = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, COUNT)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recording.jsonl", COUNT)


def received(server: Server) -> int:
    return int(server.stats()["received"])


def wait_for(server: Server, number: int, process: subprocess.Popen[str]) -> None:
    """Waits until the server has got that many requests, or the process has ended."""
    until = time.monotonic() + PATIENCE_S
    while received(server) < number and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


def answered_twice(server: Server) -> int:
    answered: dict[str, int] = server.stats()["answered"]
    return sum(times - 1 for times in answered.values())


def expected(root: Path, tmp_path: Path, recording: Path) -> bytes:
    """The data that a run without trouble makes."""
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    write_records(quiet, COUNT)
    with running_server(recorded=recording) as server:
        write_config(quiet, served(server.base_url))
        assert call(quiet, *GENERATE).code == 0
    return train_file(quiet).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_in_flight(
    number: signal.Signals, root: Path, recording: Path, tmp_path: Path
) -> None:
    with running_server(recorded=recording, latency=0.5) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        process = start(root, *GENERATE)
        wait_for(server, IN_FLIGHT + 1, process)
        process.send_signal(number)
        done = finish(process)
        assert done.code == 130, done.err
        assert (done.out, "Traceback" in done.err) == ("", False)
        assert "Ctrl-C again stops at once" in done.err
        assert f"of {COUNT} records" in done.err
        assert "nothing is paid twice" in done.err
        stats = server.stats()
        assert len(stats["answered"]) == stats["received"] < 2 * COUNT
        assert rows(root, "SELECT count(*) FROM attempt WHERE failure IS NULL") == [(stats["received"],)]
        assert statuses(root) == ["interrupted"]
        assert rows(root, "SELECT lease_pid FROM shared_experiment") == [(None,)]
        again = call(root, *GENERATE)
        assert again.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
        assert answered_twice(server) == 0
    assert train_file(root).read_bytes() == expected(root, tmp_path, recording)


def test_a_second_interrupt_does_not_wait_for_answers(root: Path) -> None:
    with running_server(fault_rate=1, faults="hang") as server:
        write_config(root, served(server.base_url, generation__timeout=600))
        process = start(root, *GENERATE)
        wait_for(server, 1, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        heard = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert re.fullmatch(r"Finishing \d+ requests? in flight; Ctrl-C again stops at once\.\n", heard)
    assert done.code == 130
    assert done.err.strip() == "Error: Interrupted."
    assert statuses(root) == ["interrupted"]


def test_who_makes_it_now_is_told_and_can_be_waited_for(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, latency=0.5) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        first = start(root, *GENERATE)
        wait_for(server, 1, first)
        since = rows(root, "SELECT lease_since FROM shared_experiment")[0][0]
        refused = call(root, *GENERATE, "--batch", "refused")
        waiting = start(root, *GENERATE, "--batch", "second", "--wait")
        done, shared = finish(first), finish(waiting)
        assert (done.code, shared.code) == (0, 0)
        assert answered_twice(server) == 0
    assert refused.code == 5
    owner = f"is being made now by PID {first.pid} on {host()} since {since[:19].replace('T', ' ')} UTC"
    assert owner in refused.err
    assert "Add --wait" in refused.err
    assert shared.out.startswith("⚡ Copa/temp07_topp10_gpt4o: already made, nothing generated")
    assert [name for (name,) in rows(root, "SELECT name FROM batch ORDER BY id")] == ["first", "second"]
    assert train_file(root, group="second").read_bytes() == train_file(root).read_bytes()


def test_who_waits_takes_over_from_who_dies(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, latency=0.2) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        first = start(root, *GENERATE)
        wait_for(server, 3 * IN_FLIGHT, first)
        waiting = start(root, *GENERATE, "--wait")
        time.sleep(0.5)
        first.kill()
        finish(first)
        done = finish(waiting)
        assert answered_twice(server) <= 2 * IN_FLIGHT
    assert done.out.startswith("✅ Copa/temp07_topp10_gpt4o: resumed, complete")
    ended = rows(root, "SELECT status, error FROM generation_run ORDER BY id")
    assert ended == [("interrupted", "its process ended without a word"), ("complete", None)]


def test_a_lease_of_another_host_holds_until_its_heart_stops(root: Path, recording: Path) -> None:
    with running_server(recorded=recording, poison="house 000") as server:
        write_config(root, served(server.base_url, generation__max_retries=0))
        assert call(root, *GENERATE).code == 1
    import sqlite3

    def lease(heartbeat: str) -> None:
        with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
            connection.execute(
                "UPDATE shared_experiment SET lease_host = 'elsewhere', lease_pid = ?, lease_started = 1.0, "
                "lease_since = ?, lease_heartbeat = ?",
                (os.getpid(), heartbeat, heartbeat),
            )

    with running_server(recorded=recording) as server:
        command = (*GENERATE, "--set", f"generation.base_url={server.base_url}")
        lease("2999-01-01T00:00:00.000000Z")
        busy = call(root, *command)
        lease("2020-01-01T00:00:00.000000Z")
        taken = call(root, *command)
    assert (busy.code, f"PID {os.getpid()} on elsewhere" in busy.err) == (5, True)
    assert taken.code == 0


def test_eight_at_once_make_one_data_set(root: Path, recording: Path, tmp_path: Path) -> None:
    with running_server(recorded=recording, latency=0.05) as server:
        write_config(root, served(server.base_url, generation__concurrency=IN_FLIGHT))
        processes = [start(root, *GENERATE, "--batch", f"batch_{number}", "--wait") for number in range(8)]
        done = [finish(process) for process in processes]
        assert [each.code for each in done] == [0] * 8, done
        assert server.stats()["received"] == 2 * COUNT
        assert answered_twice(server) == 0
    assert sum(": made, complete" in each.out for each in done) == 1
    assert sum("already made, nothing generated" in each.out for each in done) == 7
    assert rows(root, "SELECT count(*) FROM shared_experiment") == [(1,)]
    assert rows(root, "SELECT count(*) FROM batch_membership") == [(8,)]
    data = {train_file(root, group=f"batch_{number}").read_bytes() for number in range(8)}
    assert data == {expected(root, tmp_path, recording)}
    assert call(root, "view", "check").code == 0
