"""How many CPU threads a run gets."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST = 8
"""Threads of one run at most, unless the user names a number: what is left may be wanted by others."""

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def threads_of(recorded: int | None, given: str | None, *, cores: int, devices: int, busy: int) -> int:
    """The threads of a run: as many as it had when it was begun, since other numbers add up in another order.

    A new run gets what ``given`` (OMP_NUM_THREADS of the environment) says. Otherwise one core is left to the rest of
    the machine, ``busy`` are those of other sweeps' threads, and what is free is shared by the sweep's devices; at
    least one, at most ``MOST``.
    """
    if recorded:
        return recorded
    if given and given.isdecimal() and int(given) > 0:
        return int(given)
    return min(MOST, max(1, (cores - 1 - busy) // max(1, devices)))


def usable_cores(quota: Path = _QUOTA) -> int:
    """The cores that this process may use: those it is bound to, or fewer where its container has a quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        granted, period = quota.read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(granted) // int(period)))
    return cores
