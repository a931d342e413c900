"""Times as text, and processes that no restart is mistaken for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker import clock
from tracker.clock import Process

REPOSITORY = Path(__file__).parents[2]
MOMENTS = st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  made aware by timezones


@given(MOMENTS, MOMENTS)
def test_text_order_is_time_order_and_nothing_is_lost(one: datetime, other: datetime) -> None:
    assert clock.from_text(clock.to_text(one)) == one
    assert (clock.to_text(one) < clock.to_text(other)) == (one < other)
    assert clock.seconds_between(clock.to_text(one), clock.to_text(other)) == (other - one).total_seconds()


def test_a_time_is_utc_wherever_it_was_read() -> None:
    there = datetime(2026, 11, 20, 22, 46, 52, 123456, tzinfo=timezone(timedelta(hours=1)))
    assert clock.to_text(there) == "2026-11-20T21:46:52.123456Z"
    assert clock.to_text(there.replace(microsecond=0)) == "2026-11-20T21:46:52.000000Z"


def test_this_process_lives_and_is_itself() -> None:
    process = clock.this_process()
    assert process.pid == os.getpid()
    assert clock.is_alive(process) is True
    assert process.is_same(clock.this_process())
    assert str(process) == f"PID {os.getpid()} on {process.host}"


def test_a_reused_pid_is_another_process() -> None:
    process = clock.this_process()
    earlier = replace(process, started=process.started - 3600)
    # Or it is this very process, and the wall clock was set: only its heartbeat can say.
    assert clock.is_alive(earlier) is None
    assert not process.is_same(earlier)


def test_a_process_on_another_host_cannot_be_asked() -> None:
    assert clock.is_alive(Process("another-host.invalid", os.getpid(), 0.0)) is None


NAMESPACE = ("--pid", "--fork", "--mount-proc")
ASK = """
import sys
from tracker import clock
print(clock.host(), clock.is_alive(clock.Process(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), sep="|")
"""


def _may_be_made() -> bool:
    command = ["unshare", *NAMESPACE, "true"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.mark.skipif(not _may_be_made(), reason="no PID namespace may be made here")
def test_a_process_in_another_container_of_the_same_host_cannot_be_asked() -> None:
    process = clock.this_process()
    fields = [process.host, str(process.pid), str(process.started)]
    command = ["unshare", *NAMESPACE, sys.executable, "-c", ASK, *fields]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    there, _, alive = said.strip().partition("|")
    assert alive == "None"
    assert there != process.host
    assert re.fullmatch(rf"{re.escape(socket.gethostname())} in PID namespace \d+", there)
    assert clock.is_alive(Process(there, process.pid, process.started)) is None


def test_a_process_that_ended_is_dead_even_before_it_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = clock.process_of(child.pid)
        assert clock.is_alive(process) is True
        assert child.stdin is not None
        child.stdin.close()
        # WNOWAIT leaves the zombie where it is.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert clock.is_alive(process) is False
    assert clock.is_alive(process) is False


def test_who_cannot_be_asked_is_gone_when_it_has_long_been_silent() -> None:
    elsewhere, now = Process("another-host.invalid", 7, 0.0), clock.now()
    heard = [clock.to_text(now - timedelta(seconds=clock.LEASE_TIMEOUT_S + late)) for late in (-30, 30)]
    assert [clock.is_gone(elsewhere, each) for each in heard] == [False, True]


def test_who_can_be_asked_needs_no_heartbeat() -> None:
    long_ago, now = "2020-01-01T00:00:00.000000Z", clock.to_text(clock.now())
    assert not clock.is_gone(clock.this_process(), long_ago)
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = clock.process_of(child.pid)
    assert clock.is_gone(process, now)


def test_the_start_of_this_process_is_read_once() -> None:
    assert clock.this_process().started is clock.this_process().started
