"""Several commands in one process of its own, which takes seconds to begin: ``python -m tests.faults.several JSON``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.faults.surroundings import NOBODY
from tests.workspaces import Done, environment


@cache
def before() -> tuple[str, ...]:
    """What begins a program as a user that may not write what is read-only; skips where there is none."""
    if os.geteuid() != 0:
        return ()
    begun = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    if shutil.which("setpriv") is None:
        pytest.skip("no way to become an ordinary user here")
    check = [*begun, sys.executable, "-c", "import cli.main, sqlmodel"]
    if subprocess.run(check, check=False, capture_output=True, env=environment()).returncode != 0:
        pytest.skip("an ordinary user cannot run this installation")
    return begun


def as_ordinary_user(
    root: Path, *commands: Sequence[object], environ: Mapping[str, str | None] | None = None
) -> list[Done]:
    """What commands left that a user called to whom permissions apply."""
    given = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [*before(), sys.executable, "-m", "tests.faults.several", given],
        cwd=root,
        env=environment({"SYNTHTRACK_ROOT": str(root), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Done(*each) for each in json.loads(done.stdout)]


def main() -> None:
    from cli.main import run

    found = []
    for command in json.loads(sys.argv[1]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(command)
        found.append((code, out.getvalue(), err.getvalue()))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
