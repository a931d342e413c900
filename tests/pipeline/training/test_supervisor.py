"""Sweeps in the background: a supervisor that nobody waits for, and that nothing but a wish ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.training import supervisor
from tests.training_bench import PATIENCE_S, SUPERVISOR, Bench, bench, is_gone, until
from tracker import clock
from tracker.errors import Conflict, Error, StorageError
from tracker.record import training
from tracker.record.database import open_database


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "workspace") as found:
        yield found


def start(found: Bench, *, only: list[int] | None = None, mlflow: bool = False) -> Path:
    return supervisor.start_in_background(found.workspace, found.sweep_id, only=only, mlflow=mlflow, command=SUPERVISOR)


def code(found: Bench, pid: int) -> int:
    """The exit code of a supervisor in the background, once it has ended."""
    path = found.control / f"ended.{pid}"
    until(path.exists)
    until(lambda: is_gone(pid))
    return int(path.read_text())


def test_it_returns_once_the_sweep_is_taken_and_nobody_has_to_wait_for_the_rest(two: Bench) -> None:
    log = start(two)
    held = two.sweep()
    assert held["status"] == "running"
    assert (held["host"], os.getsid(held["pid"])) != (clock.host(), os.getsid(0))
    assert log == two.workspace.results_dir / "study" / ".sweeps" / f"{held['uuid']}.log"
    directory = two.run(two.run_ids[0])["directory"]
    until(lambda: f"🔧 lr 1e-06, seed 0: training on cpu ({directory})\n" in log.read_text())
    two.tell("complete")
    assert code(two, held["pid"]) == 0
    assert (two.sweep()["status"], two.statuses()) == ("complete", ["complete", "complete"])
    said = [line.split(" ", 2)[2] for line in log.read_text().splitlines()]
    assert said[0] == f"supervised by PID {held['pid']} on {clock.host()}"
    assert said[-2:] == ["✅ lr 5e-07, seed 0: complete, accuracy 75.0%", "complete"]


STARTER = """
import sys
from pathlib import Path
from pipeline.training.supervisor import start_in_background
from tests.training_bench import SUPERVISOR
from tests.workspaces import environment
from tracker.paths import Workspace
start_in_background(Workspace(Path(sys.argv[1]), environ=environment()), 1, mlflow=False, command=SUPERVISOR)
print("started", flush=True)
sys.stdin.read()
"""


def test_it_survives_the_session_that_it_was_started_from(two: Bench) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(two.workspace.root)],
        env=dict(two.workspace.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"started\n"
    held = two.sweep()["pid"]
    worker = two.wait_for_start(two.run_ids[0])["pid"]
    for pid in (held, worker):
        # What a terminal sends to those it leaves behind.
        os.kill(pid, signal.SIGHUP)
    os.killpg(starter.pid, signal.SIGHUP)
    starter.communicate(timeout=PATIENCE_S)
    assert not is_gone(held)
    two.tell("complete")
    assert code(two, held) == 0
    assert two.statuses() == ["complete", "complete"]
    assert two.began(two.run_ids[0])[0]["pid"] == worker


def test_a_sweep_that_this_process_registered_is_handed_over(two: Bench) -> None:
    with open_database(two.workspace) as database:
        assert training.supervise(database, two.sweep_id, clock.this_process()) is None
    start(two)
    held = two.sweep()["pid"]
    assert held != os.getpid()
    two.tell("complete")
    assert code(two, held) == 0


def test_a_second_one_is_refused_and_the_first_goes_on(two: Bench) -> None:
    start(two)
    held = two.sweep()["pid"]
    with pytest.raises(Conflict, match=f"is being trained by PID {held} ") as refused:
        start(two)
    assert "training stop" in str(refused.value.hint)
    assert two.sweep()["pid"] == held
    two.tell("complete")
    assert code(two, held) == 0


def test_sigterm_stops_it_with_checkpoints(two: Bench) -> None:
    log = start(two)
    held = two.sweep()["pid"]
    two.wait_for_start(two.run_ids[0])
    os.kill(held, signal.SIGTERM)
    assert code(two, held) == 130
    assert (two.sweep()["status"], two.statuses()) == ("stopped", ["stopped", "pending"])
    assert "asked to end; waiting for the checkpoints" in log.read_text()


def test_a_failure_is_its_exit_code_and_in_its_log(two: Bench) -> None:
    two.tell("fail")
    log = start(two)
    held = two.sweep()["pid"]
    assert code(two, held) == 16
    assert "⚠️  lr 1e-06, seed 0: failed at step 0 of 1,000: Loss is not finite." in log.read_text()


def test_only_the_chosen_run_is_trained(two: Bench) -> None:
    two.tell("complete")
    start(two, only=[two.run_ids[1]])
    assert code(two, two.sweep()["pid"]) == 0
    assert two.statuses() == ["pending", "complete"]


def test_what_breaks_in_it_is_recorded(two: Bench) -> None:
    two.change("training_sweep", devices=json.dumps(7))
    log = start(two)
    until(lambda: two.sweep()["status"] == "interrupted")
    assert two.sweep()["error"] == "The supervisor failed: TypeError: object of type 'int' has no len()"
    assert "Traceback" in log.read_text()
    assert two.statuses() == ["pending", "pending"]


def test_one_that_was_taken_over_leaves_the_sweep_to_the_other(two: Bench) -> None:
    log = start(two)
    held = two.sweep()["pid"]
    two.wait_for_start(two.run_ids[0])
    two.change("training_sweep", host="another-host.invalid", pid=7)
    two.tell("complete")
    assert code(two, held) == Conflict.exit_code
    assert (two.sweep()["status"], two.sweep()["error"]) == ("running", None)
    assert "has taken this sweep over" in log.read_text()


def test_one_that_cannot_begin_says_why(two: Bench) -> None:
    with open_database(two.workspace) as database:
        training.hand_over(database, two.sweep_id, clock.this_process())
    command = (sys.executable, "-c", "import sys; sys.exit('No such module.')")
    with pytest.raises(StorageError, match=r"ended before it began\.\nNo such module\.") as failure:
        supervisor.start_in_background(two.workspace, two.sweep_id, command=command)
    assert "study/.sweeps/" in str(failure.value.hint)
    assert two.shown()["status"] == "interrupted"


def test_its_errors_reach_who_started_it(two: Bench) -> None:
    answer = json.dumps({"exit_code": 3, "message": "SYNTHTRACK_BUSY_TIMEOUT: wrong", "hint": "Set it."})
    command = (sys.executable, "-c", f"print({answer!r})")
    with pytest.raises(Error, match="SYNTHTRACK_BUSY_TIMEOUT: wrong") as failure:
        supervisor.start_in_background(two.workspace, two.sweep_id, command=command)
    assert failure.value.hint == "Set it."


def test_what_cannot_be_logged_to_mlflow_is_in_its_log(two: Bench) -> None:
    two.tell("complete")
    two.workspace = type(two.workspace)(
        two.workspace.root, environ={**two.workspace.environ, "MLFLOW_TRACKING_URI": "nonsense://nowhere"}
    )
    log = start(two, mlflow=True)
    assert code(two, two.sweep()["pid"]) == 0
    assert "MLflow: " in log.read_text()
    assert two.sweep()["status"] == "complete"
