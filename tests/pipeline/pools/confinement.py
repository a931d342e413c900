"""Whether this system can confine a program at all, found out without our own code, and the two ways to do it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from functools import cache

import pytest

_APART = ("unshare", "--mount", "--ipc", "--net", "--uts", "--pid", "--fork")
_MOUNTED = ("sh", "-c", "mount -t tmpfs probe /proc")
_NO_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
WAYS = ("root", "user")
"""Namespaces that root makes, and those of a user without a right, in a user namespace."""


def prefix(way: str) -> tuple[str, ...]:
    """What a command begins with, so that it is confined in that way."""
    return _NO_ROOT if way == "user" and os.geteuid() == 0 else ()


@cache
def _refused(way: str) -> str | None:
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"} or shutil.which("unshare") is None:
        return "not a Linux that can be tried"
    if way == "root" and os.geteuid() != 0:
        return "not root"
    own = ("--user", "--map-root-user") if way == "user" else ()
    probe = [*prefix(way), *_APART, *own, *_MOUNTED]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{' '.join(probe)}: {done.stderr.strip()}"


def needs_confinement(way: str | None = None) -> None:
    """Skips where the system itself, asked by ``unshare`` and ``mount``, refuses (default: the way of this process)."""
    refused = _refused(way or ("root" if os.geteuid() == 0 else "user"))
    if refused is not None:
        pytest.skip(refused)
