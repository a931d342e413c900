"""The inside of ``run_code``: a program of its own, by the standard library alone, in three processes.

    warden     leaves every namespace of the system behind; outside, one kill of it ends the rest
    keeper     process 1 of the new namespaces: builds a file system that holds Python and nothing else, starts the
               solution without any right, reads what it says, tells the verdict; with it everything inside ends
    solution   what the model wrote, then its tests

Kernel interfaces: namespaces(7), mount_setattr(2) (Linux 5.12), pivot_root(2), prctl(2), setrlimit(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_APART = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 2, 4, 0x1000, 0x4000, 0x40000, 2
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FORBIDDEN = {
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "perf_event_open": (298, 241), "bpf": (321, 280), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "ptrace": (101, 117),
}  # fmt: skip
"""Calls that hold memory which no limit of a process counts, or look into others; numbers on x86_64 and aarch64."""
_SECCOMP_MODE_FILTER, _SECCOMP_KILL, _SECCOMP_ERRNO, _SECCOMP_ALLOW = 2, 0x80000000, 0x50000, 0x7FFF0000
_BPF_LOAD, _BPF_EQUAL, _BPF_AT_LEAST, _BPF_RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000
"""From here on numbers are those of x86's x32 mode."""
_NEW_ROOT = "/proc"
"""Any directory that every Linux has, and that nothing is taken from once the new root lies over it."""
_INSIDE, _HOME = "inside", "tmp"
_WORK_BYTES = 16 * 2**20
_KEPT = 4_000
"""Characters of what the solution said last that are kept."""
_FLOOD = 64 * 2**20
"""Bytes of output after which a solution is ended."""
_TOKEN_FD, _VERDICT_FD = 3, 4

_HARNESS = """
import sys
def run(payload, os=__import__("os"), json=__import__("json"), exec=exec, compile=compile, print=print,
        types=__import__("types"), error=__import__("traceback").format_exception_only):
    given = json.loads(payload)
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    names, read, write, leave = module.__dict__, os.read, os.write, os._exit
    try:
        test = compile(given["test"], "<test>", "exec")
        for at, code in enumerate(given["programs"], 1):
            try:
                program = compile(code, "<solution>", "exec")
                break
            except (SyntaxError, ValueError):
                if at == len(given["programs"]):
                    raise
        exec(program, names)
        exec(test, names)
        names["check"](names[given["entry_point"]])
    except BaseException as raised:
        print("".join(error(raised)).strip(), file=sys.stderr, flush=True)
        leave(1)
    write(4, read(3, 100))
    leave(0)
run(sys.stdin.buffer.read())
"""
"""What it is to be passed must be read from a pipe when the tests are through: whoever leaves early never had it."""

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Reads a job from standard input, writes what came of it to standard output; both are JSON."""
    _die_with_parent()
    job = json.loads(sys.stdin.buffer.read())
    try:
        _leave_all()
        keeper = os.fork()
        if keeper == 0:
            _keep(job)
        status = os.waitpid(keeper, 0)[1]
        if status:
            _say({"refused": f"the process that confines it ended ({os.waitstatus_to_exitcode(status)})"})
    except OSError as error:
        _say({"refused": str(error)})


def _leave_all() -> None:
    """New namespaces for everything; who is not root becomes so inside, which gives no right outside."""
    if os.geteuid() == 0:
        _call("unshare", _libc.unshare(_APART))
        return
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _libc.unshare(_NEWUSER | _APART))
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _keep(job: Mapping[str, Any]) -> None:
    """Process 1: never returns."""
    try:
        _die_with_parent()
        # Nobody inside may look into the process that knows what stands for success.
        _call("prctl", _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
        _new_root(job["shown"])
        _say(_supervised(job))
    except OSError as error:
        _say({"refused": str(error)})
    finally:
        os._exit(0)


def _new_root(shown: list[str]) -> None:
    """A root of its own: ``shown`` as they are but read-only, an empty working directory in memory, nothing else."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", _NEW_ROOT, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in shown:
        place = Path(f"{_NEW_ROOT}/{_INSIDE}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_symlink():
            place.symlink_to(Path(path).readlink())
            continue
        if Path(path).is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()
        _mount(path, str(place), None, _MS_BIND | _MS_REC)
    home = Path(_NEW_ROOT, _INSIDE, _HOME)
    home.mkdir(parents=True, exist_ok=True)
    _read_only(_NEW_ROOT)
    _mount("tmpfs", str(home), "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={_WORK_BYTES},nr_inodes=1000,mode=777")
    os.chdir(_NEW_ROOT)
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: not known for {os.uname().machine}")
    _call("pivot_root", _libc.syscall(number, b".", b"."))
    _call("umount", _libc.umount2(b".", _MNT_DETACH))
    # Who is below the root of its mounts is refused namespaces of its own, and with them the rights to mount.
    os.chroot(_INSIDE)
    os.chdir(f"/{_HOME}")


def _supervised(job: Mapping[str, Any]) -> dict[str, Any]:
    """Starts the solution, reads what it says until it ends or its time is over, and tells what came of it."""
    given, output, token, verdict = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    os.write(token[1], job["token"].encode())
    solution = os.fork()
    if solution == 0:
        _become_solution(job, given[0], output[1], token[0], verdict[1])
    for end in (given[0], output[1], token[0], token[1], verdict[1]):
        os.close(end)
    deadline = time.monotonic() + job["timeout_s"]
    payload = {name: job[name] for name in ("programs", "test", "entry_point")}
    said, why = _heard(solution, given[1], json.dumps(payload).encode(), output[0], deadline)
    os.set_blocking(verdict[0], False)
    try:
        passed = why is None and os.read(verdict[0], 200) == job["token"].encode()
    except BlockingIOError:
        passed = False
    return {"passed": passed, "why": why, "said": said.decode(errors="replace")}


def _heard(solution: int, into: int, payload: bytes, output: int, deadline: float) -> tuple[bytes, str | None]:
    """The end of what a solution says, and why it was ended or how it ended, where that is not by itself and well."""
    said, n_bytes = b"", 0
    os.set_blocking(into, False)
    os.set_blocking(output, False)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or n_bytes > _FLOOD:
            os.kill(solution, signal.SIGKILL)
            return said, "timeout" if left <= 0 else "flood"
        readable, writable, _ = select.select([output], [into] if payload else [], [], min(left, 0.05))
        if writable:
            payload = _sent(into, payload)
        if readable:
            chunk = os.read(output, 65_536)
            n_bytes += len(chunk)
            said = (said + chunk)[-_KEPT:]
            if chunk:
                continue
        ended, status = os.waitpid(solution, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return (said + _rest(output))[-_KEPT:], None if code >= 0 else signal.Signals(-code).name
        if readable:
            # It has closed its output and lives: nothing more is to be read.
            time.sleep(0.01)


def _rest(output: int) -> bytes:
    """What was said between the last look and the end."""
    try:
        return os.read(output, 65_536)
    except BlockingIOError:
        return b""


def _sent(into: int, payload: bytes) -> bytes:
    """What is left to be written."""
    try:
        rest = payload[os.write(into, payload) :]
    except BrokenPipeError:
        rest = b""
    if not rest:
        os.close(into)
    return rest


def _become_solution(job: Mapping[str, Any], given: int, output: int, token: int, verdict: int) -> None:
    """Gives up every right and becomes a fresh Python; never returns."""
    try:
        os.setsid()
        # Above all of them first, so that none is overwritten by the next.
        high = [os.dup2(fd, 20 + at) for at, fd in enumerate((given, output, token, verdict))]
        for number, fd in ((0, high[0]), (1, high[1]), (2, high[1]), (_TOKEN_FD, high[2]), (_VERDICT_FD, high[3])):
            os.dup2(fd, number, inheritable=True)
        os.closerange(_VERDICT_FD + 1, 256)
        if os.geteuid() == 0:
            nobody = 61_000 + job["number"] % 4_000
            os.setgroups([])
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
        _call("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        cpu = math.ceil(job["timeout_s"]) + 1
        for which, most in (
            (resource.RLIMIT_CPU, cpu),
            # Its files are in memory as well.
            (resource.RLIMIT_AS, job["memory_bytes"] - _WORK_BYTES),
            (resource.RLIMIT_FSIZE, _WORK_BYTES),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NPROC, job["n_processes"]),
        ):
            resource.setrlimit(which, (most, most))
        _filter_calls()
        python = job["python"]
        # Sets in the same order each time: the same code gets the same verdict.
        os.execve(python, [python, "-PsSB", "-X", "utf8", "-c", _HARNESS], {"PYTHONHASHSEED": "0"})  # noqa: S606
    except (OSError, ValueError) as error:
        os.write(2, f"not started: {error}".encode())
    finally:
        os._exit(127)


def _filter_calls() -> None:
    """What is forbidden gives EPERM from now on; a call of another mode of the processor is the end."""
    machine = os.uname().machine
    numbers = [each[list(_AUDIT_ARCH).index(machine)] for each in _FORBIDDEN.values()]
    rules = [
        (_BPF_LOAD, 0, 0, 4),
        (_BPF_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_BPF_RETURN, 0, 0, _SECCOMP_KILL),
        (_BPF_LOAD, 0, 0, 0),
        (_BPF_AT_LEAST, len(numbers) + 1, 0, _X32),
        *((_BPF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_BPF_RETURN, 0, 0, _SECCOMP_ALLOW),
        (_BPF_RETURN, 0, 0, _SECCOMP_ERRNO | errno.EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
    unused = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    _call("seccomp", _libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(program), unused, unused))


def _die_with_parent() -> None:
    _call("prctl", _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if each is None else each.encode() for each in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _call(f"mount {source or ''} {target}", result)


def _read_only(path: str) -> None:
    """``path`` and every mount below it."""
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    at = ctypes.c_long(_AT_FDCWD)
    result = _libc.syscall(_SYS_MOUNT_SETATTR, at, path.encode(), _AT_RECURSIVE, ctypes.byref(attributes), size)
    _call("mount_setattr", result)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _say(what: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
