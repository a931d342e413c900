from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.training import workers
from pipeline.training.workers import Worker, device_name, environment, last_lines, verdict
from tests.training_bench import is_gone, until
from tracker import clock
from tracker.clock import Process
from tracker.errors import StorageError
from tracker.paths import Workspace


@pytest.mark.parametrize(
    ("code", "asked", "status", "said"),
    [
        (
            -signal.SIGKILL,
            False,
            "interrupted",
            "from outside by SIGKILL (by a person, or by the system because memory",
        ),
        (-signal.SIGTERM, False, "interrupted", "from outside by SIGTERM."),
        (-(signal.SIGRTMIN + 3), False, "interrupted", f"from outside by signal {signal.SIGRTMIN + 3}."),
        (-signal.SIGKILL, True, "interrupted", None),
        (130, True, "interrupted", None),
        (130, False, "interrupted", "Its process was interrupted."),
        (-signal.SIGSEGV, False, "failed", "The last line.\nIts process was ended by SIGSEGV without"),
        (-signal.SIGABRT, True, "failed", "The last line.\nIts process was ended by SIGABRT without"),
        (1, False, "failed", "The last line.\nIts process ended with exit code 1 without recording why."),
        (0, False, "failed", "exit code 0 without recording why."),
        (11, False, "interrupted", "The last line."),
    ],
)
def test_who_is_ended_from_outside_can_go_on(code: int, asked: bool, status: str, said: str | None) -> None:
    found, error = verdict(code, "The last line.", asked=asked)
    assert found == status
    assert error is None if said is None else said in str(error)


def test_a_worker_sees_its_device_and_its_threads() -> None:
    seen = environment({"HOME": "/h", "OMP_NUM_THREADS": "9"}, "2", 4)
    assert seen == {
        "HOME": "/h", "CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "OMP_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    assert environment({"CUDA_VISIBLE_DEVICES": "0"}, "cpu", 1)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "0", 1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert [device_name(each) for each in ("cpu", "0", "11")] == ["cpu", "cuda:0", "cuda:11"]


def test_only_the_end_of_what_it_wrote_this_time_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "err"
    earlier = "an earlier failure\n"
    path.write_bytes(earlier.encode() + b"".join(b"line %d\n" % number for number in range(30)) + b"\xff\n\n")
    shown = last_lines(path, len(earlier)).splitlines()
    assert (shown[0], shown[-2:], len(shown)) == ("line 11", ["line 29", "�"], 20)
    path.write_text(earlier)
    assert last_lines(path, len(earlier)) == ""
    assert last_lines(tmp_path / "missing") == ""


RUN: dict[str, Any] = {"id": 7, "directory": "results/here", "learning_rate": 5e-7, "finished_at": None}


def test_a_worker_appends_to_its_files(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={"A": "b"})
    (tmp_path / "results/here").mkdir(parents=True)
    (tmp_path / "results/here/5_7_train.err").write_text("before\n")
    code = "import os, sys; print(sys.argv[1:]); print(os.environ['A'], file=sys.stderr); sys.exit(3)"
    worker = workers.start(workspace, RUN, 0, "cpu", threads=1, command=(sys.executable, "-c", code))
    assert worker.child is not None
    worker.child.wait()
    assert worker.has_ended("")
    assert (tmp_path / "results/here/5_7_train.out").read_text() == f"['--root', '{tmp_path}', '7']\n"
    assert (tmp_path / "results/here/5_7_train.err").read_text() == "before\nb\n"
    status, error = worker.verdict({"stop_requested": False})
    assert (status, str(error).splitlines()[0]) == ("failed", "b")


def test_a_command_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be started: No such file"):
        workers.start(Workspace(tmp_path, environ={}), RUN, 0, "cpu", threads=1, command=(str(tmp_path / "none"),))


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


def test_killing_a_worker_kills_what_it_started_too(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    worker = workers.start(workspace, RUN, 0, "cpu", threads=1, command=(sys.executable, "-uc", PARENT))
    out = tmp_path / "results/here/5_7_train.out"
    until(lambda: out.read_text().endswith("\n"))
    worker.kill()
    until(lambda: worker.has_ended(""))
    until(lambda: is_gone(int(out.read_text())))
    worker.kill()


def test_a_process_that_has_only_the_pid_of_an_adopted_worker_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        there = clock.process_of(other.pid)
        stranger = Process(there.host, there.pid, there.started - 3600)
        elsewhere = Process("another-host.invalid", there.pid, there.started)
        for each in (stranger, elsewhere):
            Worker(7, None, each, None).kill()
        assert not is_gone(other.pid)
        Worker(7, None, there, None).terminate()
        assert other.wait() == -signal.SIGTERM


def test_an_adopted_worker_in_somebody_elses_group_is_killed_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert os.getpgid(other.pid) == os.getpgid(0)
        Worker(7, None, clock.process_of(other.pid), None).kill()
        assert other.wait() == -signal.SIGKILL
