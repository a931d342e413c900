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
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tracker.errors import Unsupported

PROTECTION = "no network, no environment, no rights, no files but Python's own (read-only) and 16 MiB in memory"
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take; ``memory_bytes`` are each process's and include its files, ``n_processes`` all of its
    processes and threads.
    """

    timeout_s: float = 10.0
    memory_bytes: int = 512 * 2**20
    n_processes: int = 1


_LIMITS = Limits()


def run_code(code: str | Sequence[str], test: str, entry_point: str, limits: Limits = _LIMITS) -> CodeResult:
    """Runs ``code``, then ``test``, then ``check(entry_point)``, confined; passed: it came through to the end.

    Of several readings of an answer the first that compiles is run. It has no network, no environment, no rights, no
    sight of other processes, and no files but Python's own; nothing of it is left. A solution that leaves early, prints
    or guesses does not pass; one that is made to cheat this very program, in one process with its tests, can. Raises
    Unsupported where this system cannot confine it.
    """
    check_system()
    return _run([code] if isinstance(code, str) else list(code), test, entry_point, limits)


@cache
def check_system() -> None:
    """Raises Unsupported where a program that is right does not pass."""
    hint = "Leave --run-code out: the other benchmarks are graded."
    if sys.platform != "linux":
        raise Unsupported("Code that a model wrote is run on Linux alone, whose kernel can confine it.", hint=hint)
    found = _run(["def f(): return 1"], "def check(f): assert f() == 1", "f", _LIMITS)
    if not found.passed:
        raise Unsupported(
            f"Code that a model wrote cannot be run here: a right program gave {found.what!r}.", hint=hint
        )


def _run(programs: list[str], test: str, entry_point: str, limits: Limits) -> CodeResult:
    job = {
        "programs": programs, "test": test, "entry_point": entry_point, **asdict(limits),
        "token": secrets.token_hex(16), "number": next(_numbers), "python": _python(), "shown": _shown(),
    }  # fmt: skip
    timeout_s = limits.timeout_s
    found = _told(json.dumps(job).encode(), timeout_s)
    if "refused" in found:
        raise Unsupported(
            f"Code that a model wrote is not run here, because it cannot be confined: {found['refused']}.",
            hint="It takes Linux 5.12 on x86_64 or aarch64 with namespaces that this user may make (in a container: "
            "--privileged, or a profile that allows unshare and mount). Without --run-code the others are graded.",
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


def _python() -> str:
    return str(Path(sys.executable).resolve())


def _shown() -> list[str]:
    """What a Python needs of the file system: itself, its library and the system's; of a home it may lie in no more."""
    base = Path(sys.base_prefix).resolve()
    own = {_python(), str(base / "lib"), str(base / sys.platlibdir), str(sysconfig.get_config_var("LIBDIR"))}
    paths = [each for each in (*_SHOWN, *sorted(own)) if Path(each).is_absolute() and Path(each).exists()]
    inside = [each for each in paths if any(each.startswith(f"{other}/") for other in paths)]
    return [each for each in dict.fromkeys(paths) if each not in inside]
