"""Commands whose system calls fail, or whose wall clock was set: ``failing.c`` between them and the C library."""

from __future__ import annotations

import errno
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest


@cache
def library() -> Path:
    """The compiled library; skips where nothing compiles it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    found = Path(mkdtemp(prefix="synthtrack-faults-")) / "failing.so"
    source = Path(__file__).with_name("failing.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(found), str(source), "-ldl"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the library of faults is not for this system: {done.stderr[:200]}")
    return found


def failing(
    calls: str, path: object, *, after: int = 0, count: int | None = None, number: int = errno.EIO
) -> dict[str, str]:
    """The environment in which these calls on files whose path holds that text fail, ``after`` so many went well."""
    given = {
        "LD_PRELOAD": str(library()), "FAULT_CALLS": calls, "FAULT_PATH": str(path), "FAULT_AFTER": str(after),
        "FAULT_ERRNO": str(number),
    }  # fmt: skip
    return given if count is None else {**given, "FAULT_COUNT": str(count)}


class WallClock:
    """A wall clock for processes of their own, that can be set while they run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.environ = {"LD_PRELOAD": str(library()), "FAULT_CLOCK": str(file)}

    def set(self, seconds: int) -> None:
        """Makes it go that much before the real one, or after it."""
        beside = self._file.with_suffix(".new")
        beside.write_text(str(seconds))
        beside.rename(self._file)
