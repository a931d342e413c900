"""Runs what a model wrote against its tests: the one place that does.

The kernel confines it or it is not run. Nothing that Python alone could forbid (sockets, files) holds against code that
may call the system itself, and who asked for protection would take that for one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tracker.errors import Unsupported

TIMEOUT_S = 10.0
MEMORY_BYTES = 512 * 2**20
PROTECTION = (
    "own network (none), own processes, own file system (Python read-only and 16 MiB of memory), no rights, no environment"
)
"""What was in force for every result there is."""

_SANDBOX = Path(__file__).with_name("sandbox.py")
_GRACE_S = 10.0
_SHOWN = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store")
_ENDS = {
    "timeout": "no end within {timeout_s:g} s",
    "flood": "more output than is read",
    "SIGXCPU": "no end within {timeout_s:g} s",
    "SIGKILL": "no end within {timeout_s:g} s",
    "SIGXFSZ": "wrote a file that is too large",
}
_numbers = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class CodeResult:
    """Whether the code passed its tests; ``what`` became of it: ``passed`` or what went wrong, one line."""

    passed: bool
    what: str


def run_code(
    code: str,
    test: str,
    entry_point: str,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    n_processes: int = 1,
) -> CodeResult:
    """Runs ``code``, then ``test``, then ``check(entry_point)``, confined; a test that is through is passed.

    Without network, environment, other processes' sight and any file but Python's own; ``n_processes`` it may be in
    all, threads count. Nothing of it is left. In one process with its tests a solution that is made to cheat this very
    program can; one that leaves early, prints or guesses cannot. Raises Unsupported where this system cannot confine.
    """
    _check_system()
    return _run(code, test, entry_point, timeout_s, memory_bytes, n_processes)


def _run(
    code: str, test: str, entry_point: str, timeout_s: float, memory_bytes: int, n_processes: int = 1
) -> CodeResult:
    job = {
        "code": code, "test": test, "entry_point": entry_point, "timeout_s": timeout_s, "memory_bytes": memory_bytes,
        "n_processes": n_processes, "token": secrets.token_hex(16), "number": next(_numbers), "python": _python(),
        "shown": _shown(),
    }  # fmt: skip
    found = _told(json.dumps(job).encode(), timeout_s)
    if "refused" in found:
        raise Unsupported(
            f"Code that a model wrote is not run here, because it cannot be confined: {found['refused']}.",
            hint="It takes Linux 5.12 with namespaces that this user may make (in a container: --privileged, or a "
            "profile that allows unshare and mount). Without --run-code the other benchmarks are graded.",
        )
    if found["passed"]:
        return CodeResult(passed=True, what="passed")
    return CodeResult(passed=False, what=_words(found, timeout_s))


def _told(job: bytes, timeout_s: float) -> dict[str, object]:
    """What the sandbox says of a job; whatever it does, it ends soon after ``timeout_s``."""
    process = subprocess.Popen(  # noqa: S603  our own program, with this interpreter
        [sys.executable, "-I", "-S", "-B", str(_SANDBOX)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(job, timeout=timeout_s + _GRACE_S)
    except subprocess.TimeoutExpired:
        return {"passed": False, "why": "timeout", "said": ""}
    finally:
        # The kernel ends everything inside when its warden ends.
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    try:
        found: dict[str, object] = json.loads(said.splitlines()[0])
    except (IndexError, ValueError):
        return {"refused": f"its process ended without a word ({process.returncode})"}
    return found


def _words(found: dict[str, object], timeout_s: float) -> str:
    why, said = found["why"], str(found["said"]).strip()
    if why is not None:
        return _ENDS.get(str(why), f"ended by {why}").format(timeout_s=timeout_s)
    last = said.splitlines()[-1].strip() if said else ""
    return last[:300] or "ended before its tests were through"


@cache
def _check_system() -> None:
    """Raises Unsupported where a program that is right does not pass."""
    if sys.platform != "linux":
        raise Unsupported(
            "Code that a model wrote is run on Linux alone, whose kernel can confine it.",
            hint="Leave --run-code out: the other benchmarks are graded.",
        )
    found = _run("def f(): return 1", "def check(f): assert f() == 1", "f", _GRACE_S, MEMORY_BYTES)
    if not found.passed:
        raise Unsupported(
            f"Code that a model wrote cannot be run here: a program that is right gave: {found.what}.",
            hint="Leave --run-code out: the other benchmarks are graded.",
        )


def _python() -> str:
    return str(Path(sys.executable).resolve())


def _shown() -> list[str]:
    """What a Python needs of the file system: itself, its library and the system's."""
    own = {str(Path(sys.base_prefix).resolve()), str(Path(_python()).parent.parent)}
    paths = [*(each for each in _SHOWN if Path(each).exists()), *sorted(own - {"/"})]
    inside = [each for each in paths if any(each.startswith(f"{other}/") for other in paths)]
    return [each for each in dict.fromkeys(paths) if each not in inside]
