"""The clock and this process's name: the only place that asks the system for either."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

START_DIFFERS_S = 2.0
"""Readings of one process's start differ by less, as the clock is set; the starts of two with one PID by far more."""

LEASE_TIMEOUT_S = 120.0
"""A process that cannot be asked whether it lives is gone when it has not been heard of for so long."""

_INITIAL_NAMESPACE = 0xEFFFFFFC
"""Linux's PROC_PID_INIT_INO: the number of the PID namespace outside all containers."""


def now() -> datetime:
    """The current time, UTC, aware."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back."""
    return time.monotonic()


def to_text(moment: datetime) -> str:
    """``2026-11-20T21:46:52.123456Z``: fixed width, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that a restart or a reused PID cannot be mistaken for; ``host`` is what ``clock.host`` says there."""

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"PID {self.pid} on {self.host}"

    def is_same(self, other: Process) -> bool:
        """Whether ``other`` is a reading of this process."""
        return (self.host, self.pid) == (other.host, other.pid) and abs(self.started - other.started) < START_DIFFERS_S


@cache
def host() -> str:
    """Where PIDs mean what they mean here: the host's name and, in a container, its PID namespace.

    Containers that share the host's network share its name too, and see none of each other's processes.
    """
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  a link to no path
    except OSError:
        return os.uname().nodename
    inside = f" in PID namespace {namespace}" if namespace != _INITIAL_NAMESPACE else ""
    return f"{os.uname().nodename}{inside}"


def this_process() -> Process:
    """The running process, with its start time in seconds since the epoch."""
    return Process(host(), os.getpid(), _started(os.getpid()))


def process_of(pid: int) -> Process:
    """The process that has this PID here now, which must be a child not waited for yet, or this one."""
    import psutil

    return Process(host(), pid, psutil.Process(pid).create_time())


@cache
def _started(pid: int) -> float:
    """Read once: start times are reckoned from the wall clock, so another reading would move with a step of it."""
    return process_of(pid).started


def is_alive(process: Process) -> bool | None:
    """Whether ``process`` runs; None where that cannot be told, and only its heartbeat can say.

    It cannot be told on another host or in another container, and where there is a process of that PID with another
    start time: a reused PID, or this very process after the wall clock was set.
    """
    import psutil

    if process.host != host():
        return None
    try:
        found = psutil.Process(process.pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return True if process.is_same(Process(process.host, process.pid, found.create_time())) else None
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def is_gone(process: Process, last_seen: str) -> bool:
    """Whether a process will not come back, as far as anybody can know; ``last_seen`` is a stored time."""
    alive = is_alive(process)
    if alive is None:
        return last_seen < to_text(now() - timedelta(seconds=LEASE_TIMEOUT_S))
    return not alive


def from_text(text: str) -> datetime:
    """The moment that ``to_text`` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one stored time to another."""
    return (from_text(later) - from_text(earlier)).total_seconds()
