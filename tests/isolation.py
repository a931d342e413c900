"""Code that may go wrong in ways that no test survives, run where it can do no harm."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def bounded(code: str, text: str, *, cpu_s: int = 30, memory: int = 1_500_000_000) -> str:
    """What ``code`` prints, with ``text`` as its input, in a process that has so many seconds of CPU and bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    done = subprocess.run(
        [sys.executable, "-c", code],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        preexec_fn=limit,
        check=False,
    )
    return done.stdout or f"exit code {done.returncode}: {done.stderr[-300:]}"
