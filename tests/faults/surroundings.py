"""What surrounds a command, made bad for real: small disks, read-only ones, ordinary users, other hosts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.workspaces import REPOSITORY, Done, environment

NOBODY = 65534
"""The user that no file here belongs to."""
_WITHIN = "SYNTHTRACK_TEST_WITHIN_NAMESPACE"


@contextlib.contextmanager
def mounted(at: Path, size: str) -> Iterator[Path]:
    """A small disk of its own; skips where none may be mounted."""
    at.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "synthtrack-test", str(at)]
    allowed = os.geteuid() == 0 and shutil.which("mount") is not None
    if not allowed or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no disk may be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def within_own_mounts(module: str) -> None:
    """Runs a module's tests once more where an ordinary user may mount: in a namespace of its own, or not at all."""
    if os.geteuid() == 0 or os.environ.get(_WITHIN):
        pytest.skip("mounts need no namespace of their own here")
    if not _allows("-Urm"):
        pytest.skip("an ordinary user may make no namespace here")
    if not os.access(sys.executable, os.X_OK):
        pytest.skip("this user cannot start this interpreter")
    command = ["unshare", "-Urm", sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", module]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, _WITHIN: "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@cache
def _allows(*options: str) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode == 0


def free(disk: Path) -> int:
    """Bytes that are left on a disk."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves that many bytes of the disk free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * max(0, free(disk) - leave))
    return filler


@contextlib.contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Makes a mounted directory read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)


def started(
    root: Path,
    *arguments: object,
    before: Sequence[str] = (),
    environ: Mapping[str, str | None] | None = None,
) -> subprocess.Popen[str]:
    """A command in a process of its own, begun by the program ``before``."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "cli.main", *map(str, arguments)],
        cwd=root,
        env=environment({"SYNTHTRACK_ROOT": str(root), **(environ or {})}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_host(name: str) -> tuple[str, ...]:
    """What begins a program as if on the host of that name; skips where nobody may."""
    options = ("--uts",) if os.geteuid() == 0 else ("-Ur", "--uts")
    if not _allows(*options):
        pytest.skip("no host name may be changed here")
    return ("unshare", *options, "sh", "-c", 'hostname "$0" && exec "$@"', name)


def is_told(done: Done, code: int) -> bool:
    """Whether a command failed as it should: with that code, in words that end with what to do, and no traceback."""
    assert done.code == code, (done.code, done.out, done.err)
    assert "Traceback" not in done.err, done.err
    errors = [number for number, line in enumerate(done.err.splitlines()) if line.startswith("Error: ")]
    assert errors, done.err
    assert len(done.err.splitlines()) > errors[-1] + 1, done.err
    return True
