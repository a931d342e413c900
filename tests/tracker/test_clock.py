"""Times as text, and processes that no restart is mistaken for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from tracker import clock
from tracker.clock import Process

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
    assert clock.is_alive(earlier) is False
    assert not process.is_same(earlier)


def test_a_process_on_another_host_cannot_be_asked() -> None:
    assert clock.is_alive(Process("another-host.invalid", os.getpid(), 0.0)) is None


def test_a_process_that_ended_is_dead_even_before_it_is_waited_for() -> None:
    import psutil

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process(clock.this_process().host, child.pid, psutil.Process(child.pid).create_time())
        assert clock.is_alive(process) is True
        assert child.stdin is not None
        child.stdin.close()
        # WNOWAIT leaves the zombie where it is.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert clock.is_alive(process) is False
    assert clock.is_alive(process) is False
