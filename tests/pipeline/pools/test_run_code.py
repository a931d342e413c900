"""What a model wrote, run: right and wrong solutions, and everything that code should not be able to do."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipeline.pools.code_answer import programs
from pipeline.pools.run_code import CodeResult, Limits, run_code
from tests.pipeline.pools.benchmark_files import real
from tests.pipeline.pools.confinement import WAYS, needs_confinement, prefix

REPOSITORY = Path(__file__).parents[3]
TEST = "def check(candidate):\n    assert candidate() == 1\n"


@pytest.fixture(scope="module", autouse=True)
def confined() -> None:
    needs_confinement()


def ran(body: str, *, timeout_s: float = 10.0, n_processes: int = 1) -> CodeResult:
    """What came of a function with that body, which should give 1."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return run_code(f"def f():\n{lines}", TEST, "f", Limits(timeout_s=timeout_s, n_processes=n_processes))


def told(body: str, **limits: int) -> str:
    """What the function found out where it ran."""
    what = ran(f"{body}\nraise ValueError(found)", **limits).what
    assert what.startswith("ValueError: "), what
    return what.removeprefix("ValueError: ")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Nothing of what was run is there afterwards: no process, no file, no mount."""

    def there() -> tuple[set[str], set[str], str]:
        ours = {" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
        running = {line for line in ours if "-PsSB" in line or "pools/sandbox.py" in line}
        return running, {path.name for path in Path(tempfile.gettempdir()).iterdir()}, Path("/proc/mounts").read_text()

    before = there()
    yield
    after = there()
    assert after[0] <= before[0]
    assert not {name for name in after[1] - before[1] if "escaped" in name}
    assert after[2] == before[2]


@pytest.mark.usefixtures("nothing_left")
def test_a_right_solution_passes_and_a_wrong_one_does_not() -> None:
    assert ran("return 1") == CodeResult(passed=True, what="passed")
    assert ran("return 2") == CodeResult(passed=False, what="AssertionError")
    assert ran("return 1 +").what.startswith("SyntaxError")
    assert run_code("x = 1", TEST, "f").what == "KeyError: 'f'"


def solved(answer: str, task: dict[str, str]) -> CodeResult:
    return run_code(programs(answer, task["prompt"], task["entry_point"]), task["test"], task["entry_point"])


@pytest.mark.parametrize(
    "form",
    [
        "{solution}",
        "Sure!\n\n```python\n{prompt}{solution}\n```\n\nUsage:\n```python\nprint({entry_point}(1))\n```",
        "Here you go.\n\n{prompt}{solution}\nThis works because it does.",
    ],
)
def test_the_solutions_of_humaneval_pass_in_every_form(form: str) -> None:
    tasks = real("humaneval.jsonl")
    answers = [form.format(solution=task["canonical_solution"], **task) for task in tasks]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(solved, answers, tasks))
    assert len(tasks) == 164
    assert [task["task_id"] for task, each in zip(tasks, found, strict=True) if not each.passed] == []


def test_wrong_solutions_of_humaneval_do_not_pass() -> None:
    tasks = real("humaneval.jsonl")
    answers = ["    return None\n" if at % 2 else "    raise SystemExit(0)\n" for at in range(len(tasks))]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(solved, answers, tasks))
    assert [task["task_id"] for task, each in zip(tasks, found, strict=True) if each.passed] == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
    ],
)
def test_an_endless_program_is_ended(body: str) -> None:
    assert ran(body, timeout_s=1) == CodeResult(passed=False, what="no end within 1 s")


@pytest.mark.usefixtures("nothing_left")
def test_it_may_start_no_process_and_no_thread() -> None:
    assert "Resource temporarily unavailable" in ran("import os\nos.fork()\nreturn 1").what
    assert "can't start new thread" in ran("import threading\nthreading.Thread(target=print).start()\nreturn 1").what
    assert not ran("import subprocess\nsubprocess.run(['/usr/bin/env'])\nreturn 1").passed


@pytest.mark.usefixtures("nothing_left")
def test_a_fork_bomb_is_bounded_and_ends_with_it() -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert ran(bomb, timeout_s=1, n_processes=20).what == "no end within 1 s"


@pytest.mark.usefixtures("nothing_left")
def test_what_it_leaves_behind_ends_with_it() -> None:
    orphan = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1000)\n"
        "    os._exit(0)\n"
        "return 1"
    )
    assert ran(orphan, n_processes=10).passed


@pytest.mark.usefixtures("nothing_left")
def test_memory_and_files_are_bounded() -> None:
    assert ran("x = []\nwhile True: x.append(bytearray(10**7))").what == "MemoryError"
    assert not ran("return len(bytearray(10**9))").passed
    ten_gb = "with open('escaped', 'wb') as f:\n    for _ in range(1000): f.write(bytes(10**7))\nreturn 1"
    assert "File too large" in ran(ten_gb).what
    many = "for n in range(10**6):\n    with open(f'escaped{n}', 'wb') as f: f.write(bytes(10**5))\nreturn 1"
    assert "No space left" in ran(many).what
    assert ran("while True: print('x' * 10**6)").what == "more output than is read"
    assert "Too many open files" in ran("x = [open('escaped', 'w') for _ in range(1000)]\nreturn 1").what


@pytest.mark.usefixtures("nothing_left")
def test_a_small_file_of_its_own_is_allowed() -> None:
    assert ran("open('notes', 'w').write('1')\nreturn int(open('notes').read())").passed


def test_it_sees_no_environment_and_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    (tmp_path / "key").write_text(secret)
    assert secret not in told("import os\nfound = dict(os.environ)")
    assert "OPENAI" not in told("import os\nfound = sorted(os.environ)")
    for path in (
        tmp_path / "key",
        Path("/proc/self/environ"),
        Path(f"/proc/{os.getpid()}/environ"),
        Path("/etc/passwd"),
    ):
        assert "No such file" in ran(f"return open({str(path)!r}).read()").what
    names = told("import os\nfound = sorted(os.listdir('/'))")
    assert not {"home", "etc", "proc", "sys", "dev", "work", "var"} & set(names.strip("[]'").split("', '"))


@pytest.mark.usefixtures("nothing_left")
def test_it_reaches_no_server_not_even_on_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        found = ran(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)\nreturn 1")
        assert "Network is unreachable" in found.what
        with pytest.raises(TimeoutError):
            server.accept()
    assert not ran("import urllib.request\nurllib.request.urlopen('http://example.org')\nreturn 1").passed


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "def f():\n    import os\n    os._exit(0)",
        "def f():\n    raise SystemExit",
        "import atexit, os\natexit.register(os._exit, 0)",
        "print('passed'); print('0' * 32)\nimport os\nos._exit(0)",
        "import os\nfor fd in range(5, 60):\n    try: os.write(fd, b'0' * 32)\n    except OSError: pass\nos._exit(0)",
        "import os\nos.write(4, b'0' * 32)\nos._exit(0)",
        "import builtins\nbuiltins.AssertionError = None\ndef f(): return 2",
        "import builtins\nbuiltins.exec = builtins.compile = lambda *a: None\ndef f(): return 2",
        "def check(candidate): pass\ndef f(): return 2",
        "import sys\nsys.modules['solution'] = None\ndef f(): return 2",
        "import sys\nsys.excepthook = lambda *a: None\ndef f(): return 2",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import ctypes\nctypes.string_at(0)",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()",
        "(" * 100_000,
        "x = '\\ud800'\nraise ValueError(x)",
        "class E(BaseException):\n    def __str__(self): raise SystemExit(0)\nraise E",
    ],
)
def test_what_does_not_come_through_its_tests_is_not_passed(code: str) -> None:
    found = run_code(code, TEST, "f", Limits(timeout_s=5))
    assert not found.passed
    assert found.what
    assert "\n" not in found.what


def test_its_own_hooks_do_not_keep_a_right_solution_from_passing() -> None:
    assert run_code("import builtins\nbuiltins.print = None\ndef f(): return 1", TEST, "f").passed
    assert run_code("import os\nos.read = os.write = os._exit = None\ndef f(): return 1", TEST, "f").passed


@pytest.mark.usefixtures("nothing_left")
def test_it_changes_and_deletes_nothing_above_its_directory(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("here")
    assert "No such file" in ran(f"import os\nos.remove({str(kept)!r})\nreturn 1").what
    delete = "import os, shutil\nfor name in os.listdir('/'): shutil.rmtree('/' + name, ignore_errors=True)\nreturn 1"
    assert ran(delete).passed
    assert kept.read_text() == "here"
    assert Path(os.__file__).exists()
    for place in ("/escaped", "/usr/escaped", f"{sys.base_prefix}/escaped"):
        assert "Read-only file system" in ran(f"open({place!r}, 'w')\nreturn 1").what
    assert "No such file" in ran("open('../../tmp/../work/escaped', 'w')\nreturn 1").what


def test_it_has_no_right_to_change_what_confines_it() -> None:
    calls = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    assert told(f"{calls}found = [libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)]") == "[-1, -1, -1]"
    mounted = "[libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None), libc.umount2(b'/tmp', 0), libc.chroot(b'/tmp')]"
    assert told(f"{calls}found = {mounted}") == "[-1, -1, -1]"
    assert told("import os\nfound = os.getuid() != 0, os.getpid()").endswith(", 2)")
    raised = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))\nreturn 1"
    assert "not allowed to raise maximum limit" in ran(raised).what


def test_the_same_code_gets_the_same_verdict() -> None:
    assert len({told("found = list({'a', 'b', 'c', 'd', 'e'})") for _ in range(3)}) == 1


def test_of_several_readings_the_first_that_compiles_is_run() -> None:
    assert run_code(["def f(: return 1", "def f(): return 1", "def f(): return 2"], TEST, "f").passed
    assert run_code(["def f(: return 1", "def f(): return 2", "def f(): return 1"], TEST, "f").what == "AssertionError"


def test_everything_ends_when_this_process_is_killed() -> None:
    code = (
        "from pipeline.pools.run_code import Limits, check_system, run_code\n"
        "check_system(); print('ready', flush=True)\n"
        "run_code('def f():\\n    while True: pass', '', 'f', Limits(timeout_s=60))\n"
        "run_code('while True: pass', '', 'f', Limits(timeout_s=60))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"ready\n"
        inside: list[psutil.Process] = []
        while not any("-PsSB" in each.cmdline() for each in inside):
            inside = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(inside, timeout=20)
    assert alive == []


def test_a_system_that_cannot_confine_it_is_told_so() -> None:
    code = (
        "import pipeline.pools.run_code as own\n"
        "own._SANDBOX = own.Path('/nowhere')\n"
        "try: own.run_code('def f(): return 1', 'def check(f): pass', 'f')\n"
        "except own.Unsupported as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert "Code that a model wrote is not run here, because it cannot be confined" in done.stdout
    assert "--run-code" in done.stdout


RUN = (
    "import sys\n"
    "from pipeline.pools.run_code import Limits, check_system, run_code\n"
    "check_system(); print('ready', flush=True)\n"
    "print(run_code(sys.argv[1], sys.argv[2], 'f', Limits(timeout_s=float(sys.argv[3]))).what, flush=True)"
)


def run_in(
    way: str, code: str, *, timeout_s: float = 20.0, python: str | Path = sys.executable
) -> subprocess.Popen[str]:
    """A process that runs that code, confined in that way; it prints what became of it."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = [*prefix(way), str(python), "-c", RUN, code, TEST, str(timeout_s)]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True)


def found_in(way: str, body: str, **others: float | str | Path) -> str:
    """What came of a function with that body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    needs_confinement(way)
    return run_in(way, f"def f():\n{lines}", **others).communicate()[0].removeprefix("ready\n").strip()  # type: ignore[arg-type]  # by name


HELD = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype, libc.shmat.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
libc.shmdt.argtypes, libc.shmget.argtypes = (ctypes.c_void_p,), (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
MIB, held = 2**20, 0
def segment(n_mib):
    there = libc.shmat(libc.shmget(0, n_mib * MIB, 0o1600), None, 0)
    if there in (None, 2**64 - 1):
        return 0
    ctypes.memset(there, 1, n_mib * MIB)
    libc.shmdt(there)
    return n_mib
def unnamed(n_mib):
    try:
        return os.write(os.memfd_create("x"), bytes(n_mib * MIB)) // MIB
    except OSError:
        return 0
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["segment(200) for _ in range(6)", "unnamed(15) for _ in range(55)"])
def test_memory_that_is_in_no_address_space_cannot_be_had(kind: str, way: str) -> None:
    assert found_in(way, f"{HELD}\nraise ValueError(sum({kind}))") == "ValueError: 0"


@pytest.mark.parametrize("way", WAYS)
def test_calls_that_hold_memory_in_the_kernel_or_look_into_others_are_refused(way: str) -> None:
    asked = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def errno(*call):\n    libc.syscall(*call)\n    return ctypes.get_errno()\n"
        "there = {'x86_64': (29, 30, 319, 64, 68, 240, 323, 425, 298, 321, 250, 248, 101),"
        " 'aarch64': (194, 196, 279, 190, 186, 180, 282, 425, 241, 280, 219, 217, 117)}[os.uname().machine]\n"
        "raise ValueError({errno(number, 0, 0, 0, 0, 0) for number in (*there, 447)})"
    )
    assert found_in(way, asked) == "ValueError: {1}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code is that of x86")
def test_the_calls_of_the_processors_other_mode_are_no_way_round() -> None:
    other = (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "page.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
        "return 1"
    )
    assert ran(other).what == "ended by SIGSYS"


@pytest.fixture(scope="module", params=WAYS)
def solution(request: pytest.FixtureRequest) -> Iterator[Path]:
    """What the kernel says of a solution that runs, in /proc."""
    needs_confinement(request.param)
    with run_in(request.param, "import time\ntime.sleep(1000)", timeout_s=60) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            inside: list[psutil.Process] = []
            while not inside and process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
                inside = [each for each in children if "-PsSB" in each.cmdline()]
            assert inside, process.communicate()[0]
            yield Path(f"/proc/{inside[0].pid}")
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["mnt", "ipc", "net", "uts", "pid"])
def test_it_is_in_a_namespace_of_its_own(kind: str, solution: Path) -> None:
    assert (solution / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink()


def test_it_has_no_route_to_anywhere(solution: Path) -> None:
    assert (solution / "net/route").read_text().splitlines()[1:] == []


LIMITS = {
    "Max cpu time": 61,
    "Max address space": (512 - 16) * 2**20,
    "Max file size": 16 * 2**20,
    "Max open files": 64,
    "Max core file size": 0,
    "Max processes": 1,
}


@pytest.mark.parametrize("name", LIMITS)
def test_its_limit_is_in_force(name: str, solution: Path) -> None:
    [line] = [each for each in (solution / "limits").read_text().splitlines() if each.startswith(name)]
    assert line.removeprefix(name).split()[:2] == [str(LIMITS[name])] * 2


def test_it_has_no_right_and_a_filter_of_calls(solution: Path) -> None:
    status = dict(line.split(":\t") for line in (solution / "status").read_text().splitlines() if ":\t" in line)
    assert {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0,
    }  # fmt: skip
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_its_mounts_are_few_and_all_but_its_directory_read_only(solution: Path) -> None:
    mounts = [line.split() for line in (solution / "mountinfo").read_text().splitlines()]
    writable = [each[4] for each in mounts if "rw" in each[5].split(",")]
    assert writable == ["/tmp"]
    assert all({"nosuid", "nodev"} <= set(each[5].split(",")) for each in mounts)
    assert len(mounts) < len(Path("/proc/self/mountinfo").read_text().splitlines()) + 10
    assert not {"proc", "sysfs", "devtmpfs", "cgroup2"} & {each[each.index("-") + 1] for each in mounts}


ROOT_OF = (
    "import ctypes, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
    "assert ctypes.CDLL(None).setns(fd, 0) == 0\n"
    "print(os.listdir('/'))"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may enter")
def test_the_root_of_the_system_is_not_below_its_own(solution: Path) -> None:
    words = [sys.executable, "-c", ROOT_OF, str(solution / "ns/mnt")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "['inside']\n"


@pytest.mark.parametrize("way", WAYS)
def test_root_and_user_see_the_same_little(way: str) -> None:
    asked = "import os\nraise ValueError([os.path.exists(p) for p in ('/proc/self', '/etc', '/home', '/sys', '/dev')])"
    assert found_in(way, asked) == "ValueError: [False, False, False, False, False]"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that is not below the one that a program has for its own, as pytest's are."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        yield Path(path)


def test_a_python_in_a_home_directory_does_not_show_that_home(home: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    here = home / library.relative_to(Path(sys.base_prefix).resolve())
    shutil.copytree(library, here, ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*"))
    for shared in library.parent.glob("libpython*.so*"):
        shutil.copy(shared, here.parent)
    python = home / "bin" / f"python3.{sys.version_info.minor}"
    python.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), python)
    (home / "bin/key").write_text("secret")
    (home / "key").write_text("secret")
    for path in (home / "key", home / "bin/key"):
        found = found_in("root" if os.geteuid() == 0 else "user", f"return open({str(path)!r}).read()", python=python)
        assert "No such file" in found
