"""Sweeps worked through by real processes, which are killed, asked to stop and found again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.training import sweep
from pipeline.training.sweep import end_status
from tests.training_bench import PATIENCE_S, SUPERVISOR, Bench, bench, is_gone, until
from tests.training_rows import GONE
from tests.workspaces import REPOSITORY
from tracker import clock
from tracker.clock import Process
from tracker.errors import Conflict, Interrupted, TrainingFailed
from tracker.record import outbox, sweeps, training
from tracker.record.catalogue import reading
from tracker.record.database import open_database


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "workspace") as found:
        yield found


@contextlib.contextmanager
def supervisor(found: Bench) -> Iterator[subprocess.Popen[str]]:
    """A supervisor in a process of its own, not detached."""
    process = subprocess.Popen(
        [*SUPERVISOR, "--root", str(found.workspace.root), "--no-mlflow", str(found.sweep_id)],
        env=dict(found.workspace.environ),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))


def test_one_run_after_the_other_each_in_a_process_of_its_own(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    seen = two.wait_for_start(first)
    assert two.run(second)["pid"] is None
    assert seen["session"] == seen["pid"] != os.getsid(0)
    assert (seen["stdin"], seen["cwd"]) == ("", str(two.workspace.root))
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == ("", seen["MKL_NUM_THREADS"])
    row = two.run(first)
    assert (row["device"], str(row["threads"])) == ("cpu", seen["OMP_NUM_THREADS"])
    two.tell("complete", first)
    two.wait_for_start(second)
    two.tell("complete", second)
    end = working.end()
    end.check()
    assert (end.status, two.statuses()) == ("complete", ["complete"] * 2)
    assert (two.sweep()["status"], two.sweep()["error"]) == ("complete", None)
    assert not two.overlaps()
    directory = two.workspace.root / row["directory"]
    assert (directory / "1_6_train.out").read_text() == f"run {first} goes on from step 0\n"
    assert (directory / "1_6_train.err").read_text() == ""
    steps = [[run["step"] for run in each.runs] for each in working.progress]
    assert steps == sorted(steps)
    assert steps[-1] == [1000, 1000]


def test_two_devices_train_one_run_each_at_a_time(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", [1e-3, 1e-4, 1e-5], devices=["0", "3"]) as found:
        first, second, third = found.run_ids
        working = found.working()
        seen = [found.wait_for_start(run_id)["CUDA_VISIBLE_DEVICES"] for run_id in (first, second)]
        assert seen == ["0", "3"]
        assert [found.run(run_id)["device"] for run_id in found.run_ids] == ["cuda:0", "cuda:3", None]
        found.tell("complete", second)
        assert found.wait_for_start(third)["CUDA_VISIBLE_DEVICES"] == "3"
        assert found.statuses() == ["running", "complete", "running"]
        found.tell("complete")
        assert working.end().status == "complete"
        assert not found.overlaps()


def test_after_a_failure_nothing_new_begins_and_what_runs_is_finished(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", [1e-3, 1e-4, 1e-5], devices=["0", "1"]) as found:
        first, second, third = found.run_ids
        working = found.working()
        found.wait_for_start(second)
        found.wait_for_start(first)
        found.tell("fail", first)
        until(lambda: found.run(first)["status"] == "failed")
        found.tell("complete", second)
        end = working.end()
        assert found.statuses() == ["failed", "complete", "pending"]
        assert (found.began(third), found.sweep()["status"]) == ([], "failed")
        assert found.sweep()["error"] == "1 of 3 runs failed. lr 0.001, seed 0: Loss is not finite."
        with pytest.raises(TrainingFailed, match="Loss is not finite") as failure:
            end.check()
        assert "training resume" in str(failure.value.hint)
        # What was left goes on; what failed stays failed, and the sweep with it.
        found.tell("complete")
        assert found.working().end().status == "failed"
        assert found.statuses() == ["failed", "complete", "complete"]
        assert len(found.began(first)) == 1


def test_a_sweep_that_continues_on_errors_trains_the_rest(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", [1e-3, 1e-4, 1e-5], go_on=True) as found:
        found.tell("fail", found.run_ids[0])
        found.tell("exit", found.run_ids[1])
        found.tell("complete", found.run_ids[2])
        assert found.working().end().status == "failed"
        assert found.statuses() == ["failed", "failed", "complete"]


def test_what_a_worker_did_not_write_down_is_read_from_its_stderr(two: Bench) -> None:
    first, second = two.run_ids
    two.tell("exit")
    working = two.working()
    assert working.end().status == "failed"
    row = two.run(first)
    assert row["status"] == "failed"
    assert row["error"].splitlines() == [
        "Something broke.",
        "Nobody wrote it down.",
        "Its process ended with exit code 1 without recording why.",
    ]
    assert two.run(second)["status"] == "pending"
    with open_database(two.workspace) as database, database.reading() as connection:
        logged = connection.execute(training.OUTBOX.select()).mappings().all()
    assert [row["training_run_id"] for row in logged if row["kind"] == "training_run"] == [first]


def test_a_worker_that_broke_before_it_claimed_its_run_failed(two: Bench) -> None:
    (two.control / f"{two.run_ids[0]}.unclaimed").touch()
    two.working().end()
    row = two.run(two.run_ids[0])
    assert (row["status"], row["started_at"]) == ("failed", None)
    assert row["error"].startswith("It broke before it began.\n")


def test_a_stopped_run_whose_next_worker_breaks_is_not_taken_for_stopped(two: Bench) -> None:
    working = two.working()
    two.wait_for_start(two.run_ids[0])
    working.interrupts.count = 1
    assert working.end().status == "stopped"
    (two.control / f"{two.run_ids[0]}.unclaimed").touch()
    assert two.working().end().status == "failed"
    assert two.statuses() == ["failed", "pending"]


def test_a_killed_worker_leaves_a_run_that_goes_on(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    kill(two.wait_for_start(first)["pid"])
    end = working.end()
    assert (end.status, two.sweep()["status"]) == ("interrupted", "interrupted")
    assert two.statuses() == ["interrupted", "pending"]
    assert "SIGKILL (by a person, or by the system because memory ran out)" in two.run(first)["error"]
    with pytest.raises(TrainingFailed, match="1 of 2 runs interrupted"):
        end.check()
    two.tell("complete")
    assert two.working().end().status == "complete"
    assert [len(two.began(run_id)) for run_id in (first, second)] == [2, 1]
    assert two.run(first)["n_resumed"] == 1


def test_a_killed_worker_does_not_stop_a_sweep_that_continues_on_errors(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", go_on=True) as found:
        found.tell("complete", found.run_ids[1])
        working = found.working()
        kill(found.wait_for_start(found.run_ids[0])["pid"])
        assert working.end().status == "interrupted"
        assert found.statuses() == ["interrupted", "complete"]


def test_an_interrupt_waits_for_the_checkpoint_and_the_next_goes_on_from_it(two: Bench) -> None:
    first, second = two.run_ids
    working = two.working()
    two.wait_for_start(first)
    until(lambda: two.run(first)["step"] > 3)
    working.interrupts.count = 1
    end = working.end()
    with pytest.raises(Interrupted, match="0 of 2 runs complete"):
        end.check()
    assert (end.status, two.statuses()) == ("stopped", ["stopped", "pending"])
    assert two.sweep()["status"] == "stopped"
    assert not two.run(first)["stop_requested"]
    saved = int((two.workspace.root / two.run(first)["directory"] / "checkpoint.txt").read_text())
    assert saved > 3
    two.change("training_run", threads=7)
    working = two.working()
    again = two.wait_for_start(first, times=2)
    assert (again["step"], again["OMP_NUM_THREADS"]) == (saved, "7")
    two.tell("complete")
    assert working.end().status == "complete"
    assert len(two.began(second)) == 1


def test_a_second_interrupt_kills_who_does_not_end(two: Bench) -> None:
    two.tell("hang")
    working = two.working()
    pid = two.wait_for_start(two.run_ids[0])["pid"]
    working.interrupts.count = 1
    until(lambda: two.run(two.run_ids[0])["stop_requested"])
    assert not is_gone(pid)
    working.interrupts.count = 2
    assert working.end().status == "stopped"
    assert is_gone(pid)
    row = two.run(two.run_ids[0])
    assert (row["status"], row["error"], two.sweep()["status"]) == ("interrupted", None, "stopped")


def test_who_has_not_begun_has_nothing_to_save(two: Bench) -> None:
    (two.control / "hold").touch()
    working = two.working()
    until(lambda: two.run(two.run_ids[0])["pid"] is not None)
    pid = two.run(two.run_ids[0])["pid"]
    working.interrupts.count = 1
    assert working.end().status == "stopped"
    assert is_gone(pid)
    assert two.statuses() == ["pending", "pending"]
    assert two.run(two.run_ids[0])["error"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_supervisor_stops_its_workers(two: Bench, number: signal.Signals) -> None:
    two.change("training_sweep", continue_on_error=True)
    worker = "import sys; from tests.training_worker import COMMAND; from pipeline.training.sweep import work; "
    code = worker + (
        "from pipeline.training.interrupts import Interrupts; from tracker.paths import find_workspace\n"
        "with Interrupts() as heard:\n"
        "    print(work(find_workspace(sys.argv[1]), 1, interrupts=heard, command=COMMAND).status)"
    )
    command = [*SUPERVISOR[:1], "-c", code, str(two.workspace.root)]
    process = subprocess.Popen(command, env=dict(two.workspace.environ), stdout=subprocess.PIPE, text=True)
    try:
        two.wait_for_start(two.run_ids[0])
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
    assert (process.returncode, said) == (0, "stopped\n")
    assert two.statuses() == ["stopped", "pending"]


def test_two_supervisors_cannot_work_on_one_sweep(two: Bench) -> None:
    with supervisor(two) as first:
        two.wait_for_start(two.run_ids[0])
        with pytest.raises(Conflict) as refused:
            two.working().end()
        assert f"is being trained by PID {first.pid} on {clock.host()}, since 2025-12-26 14:31:00 UTC" in str(
            refused.value
        )
        assert "training status" in str(refused.value.hint)
        two.tell("complete")
        until(lambda: two.sweep()["status"] == "complete")
    assert [len(two.began(run_id)) for run_id in two.run_ids] == [1, 1]


def test_workers_outlive_a_killed_supervisor_and_the_next_finds_them(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", [1e-3, 1e-4, 1e-5], devices=["0", "1"]) as found:
        first, second, third = found.run_ids
        with supervisor(found) as process:
            pids = [found.wait_for_start(run_id)["pid"] for run_id in (first, second)]
            kill(process.pid)
        assert found.shown()["status"] == "interrupted"
        assert [run["status"] for run in found.shown()["runs"]] == ["running", "running", "pending"]
        working = found.working()
        until(lambda: working.progress)
        found.tell("complete", second)
        # On the device of the one that ended, not beside the one that goes on.
        assert found.wait_for_start(third)["CUDA_VISIBLE_DEVICES"] == "1"
        found.tell("complete")
        assert working.end().status == "complete"
        assert [found.began(run_id)[0]["pid"] for run_id in (first, second)] == pids
        assert [len(found.began(run_id)) for run_id in found.run_ids] == [1, 1, 1]
        assert not found.overlaps()


def test_an_adopted_worker_takes_the_device_that_it_is_on(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", [1e-3, 1e-4, 1e-5], devices=["0", "1"]) as found:
        first, second, third = found.run_ids
        with supervisor(found) as process:
            pids = [found.wait_for_start(run_id)["pid"] for run_id in (first, second)]
            kill(process.pid)
        found.tell("complete", first)
        until(lambda: is_gone(pids[0]))
        working = found.working()
        assert found.wait_for_start(third)["CUDA_VISIBLE_DEVICES"] == "0"
        found.tell("complete")
        assert working.end().status == "complete"
        assert not found.overlaps()


def test_a_worker_that_had_not_begun_when_its_supervisor_was_killed_is_found_too(two: Bench) -> None:
    (two.control / "hold").touch()
    with supervisor(two) as process:
        until(lambda: two.run(two.run_ids[0])["pid"] is not None)
        pid = two.run(two.run_ids[0])["pid"]
        kill(process.pid)
    two.tell("complete")
    working = two.working()
    until(lambda: working.progress)
    (two.control / "hold").unlink()
    assert working.end().status == "complete"
    assert [len(two.began(run_id)) for run_id in two.run_ids] == [1, 1]
    assert two.began(two.run_ids[0])[0]["pid"] == pid


def test_an_adopted_worker_that_dies_is_started_again(two: Bench) -> None:
    with supervisor(two) as process:
        pid = two.wait_for_start(two.run_ids[0])["pid"]
        kill(process.pid)
    working = two.working()
    until(lambda: working.progress)
    kill(pid)
    two.wait_for_start(two.run_ids[0], times=2)
    two.tell("complete")
    assert working.end().status == "complete"
    assert [len(two.began(run_id)) for run_id in two.run_ids] == [2, 1]


def test_an_adopted_worker_is_asked_and_killed_like_any_other(two: Bench) -> None:
    two.tell("hang")
    with supervisor(two) as process:
        pid = two.wait_for_start(two.run_ids[0])["pid"]
        kill(process.pid)
    working = two.working()
    working.interrupts.count = 1
    until(lambda: two.run(two.run_ids[0])["stop_requested"])
    working.interrupts.count = 2
    assert working.end().status == "stopped"
    assert is_gone(pid)
    assert two.statuses() == ["interrupted", "pending"]


def test_after_a_reboot_nothing_is_running_and_all_goes_on(two: Bench) -> None:
    first, second = two.run_ids
    with open_database(two.workspace) as database:
        training.supervise(database, two.sweep_id, GONE)
        training.claim(database, first, GONE, {"device": "cpu", "threads": 1})
        training.note_start(database, second, GONE, {"device": "cpu", "threads": 1})
    assert two.statuses() == ["running", "pending"]
    assert [two.shown()["status"], *(run["status"] for run in two.shown()["runs"])] == [
        "interrupted", "interrupted", "pending",
    ]  # fmt: skip
    two.tell("complete")
    assert two.working().end().status == "complete"
    assert [len(two.began(run_id)) for run_id in two.run_ids] == [1, 1]


def test_a_sweep_whose_runs_ended_after_its_supervisor_is_closed_by_the_next(two: Bench) -> None:
    """And MLflow is told of it: until then nobody had said that it is complete."""
    with open_database(two.workspace) as database:
        training.supervise(database, two.sweep_id, GONE)
        for run_id in two.run_ids:
            training.claim(database, run_id, GONE, {"device": "cpu", "threads": 1})
            training.end_run(database, run_id, training.COMPLETE, {})
    assert two.shown()["status"] == "interrupted"
    assert sweeps.is_unfinished(two.shown())
    end = two.working().end()
    assert (end.status, two.shown()["status"], sweeps.is_unfinished(two.shown())) == ("complete", "complete", False)
    with reading(two.workspace) as reader:
        assert "training_sweep" in {entry.kind for entry in outbox.pending(reader)}


def test_only_what_was_chosen_is_trained(two: Bench) -> None:
    two.tell("complete")
    end = two.working(only=[two.run_ids[1]]).end()
    end.check()
    assert [run["id"] for run in end.runs] == [two.run_ids[1]]
    assert two.statuses() == ["pending", "complete"]
    assert (end.status, two.sweep()["status"]) == ("complete", "stopped")


def test_a_result_directory_that_cannot_be_made_holds_up_its_run_alone(tmp_path: Path) -> None:
    with bench(tmp_path / "workspace", go_on=True) as found:
        in_the_way = found.workspace.root / found.run(found.run_ids[0])["directory"]
        in_the_way.parent.mkdir(parents=True)
        in_the_way.write_text("a file")
        found.tell("complete")
        assert found.working().end().status == "interrupted"
        assert found.statuses() == ["interrupted", "complete"]
        assert "cannot be started: " in found.run(found.run_ids[0])["error"]
        # It may have a checkpoint, of hours.
        in_the_way.unlink()
        assert found.working().end().status == "complete"


def test_a_record_that_is_locked_for_a_while_ends_nothing(two: Bench) -> None:
    impatient = {**two.workspace.environ, "SYNTHTRACK_BUSY_TIMEOUT": "0.05"}
    patient = two.workspace
    two.workspace = type(patient)(patient.root, environ=impatient)
    working = two.working()
    first = two.run_ids[0]
    two.wait_for_start(first)
    with open_database(patient) as database, database.writing() as connection:
        connection.execute(training.SWEEP.update().values(description="locked"))
        # The worker cannot say anything either, and breaks; the supervisor tries to write that down, more than once.
        until(lambda: is_gone(two.began(first)[0]["pid"]))
        time.sleep(1)
    end = working.end()
    assert end.status == "failed"
    assert "is locked by another program" in two.run(first)["error"]


def test_who_was_taken_over_starts_nothing_more(two: Bench) -> None:
    first = two.run_ids[0]
    working = two.working()
    two.wait_for_start(first)
    elsewhere = Process("another-host.invalid", 7, 1.0)
    two.change("training_sweep", host=elsewhere.host, pid=elsewhere.pid, pid_started=elsewhere.started)
    two.tell("complete")
    with pytest.raises(Conflict, match="has taken this sweep over"):
        working.end()
    assert two.statuses() == ["complete", "pending"]
    assert (two.sweep()["status"], two.sweep()["host"]) == ("running", elsewhere.host)


def test_a_worker_whose_run_another_one_claimed_leaves_it_to_that_one(two: Bench) -> None:
    first = two.run_ids[0]
    (two.control / "hold").touch()
    working = two.working()
    until(lambda: list(two.control.glob("process.*")) and two.run(first)["pid"])
    pid = two.run(first)["pid"]
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            with open_database(two.workspace) as database:
                training.claim(database, first, clock.process_of(other.pid), {})
            (two.control / "hold").unlink()
            until(lambda: is_gone(pid))
            looked = len(working.progress)
            until(lambda: len(working.progress) > looked + 2)
            assert two.statuses() == ["running", "pending"]
            with open_database(two.workspace) as database:
                training.end_run(database, first, "complete", {})
        finally:
            other.kill()
    two.tell("complete")
    assert working.end().status == "complete"
    assert two.began(first) == []


def test_the_supervisor_leaves_no_process_behind(two: Bench) -> None:
    two.tell("complete")
    two.working().end()
    children = psutil.Process().children(recursive=True)
    assert [each for each in children if "tests.training_worker" in each.cmdline()] == []


@pytest.mark.parametrize(
    ("runs", "was_stopped", "status"),
    [
        (["complete", "complete"], False, "complete"),
        (["complete", "complete"], True, "complete"),
        (["complete", "failed"], True, "failed"),
        (["failed", "pending"], False, "failed"),
        (["failed", "interrupted"], False, "failed"),
        (["failed", "pending"], True, "stopped"),
        (["failed", "stopped"], False, "stopped"),
        (["complete", "interrupted", "pending"], False, "interrupted"),
        (["complete", "interrupted"], True, "stopped"),
        (["complete", "pending"], False, "stopped"),
        (["running"], True, "stopped"),
    ],
)
def test_how_a_sweep_ends(runs: list[str], was_stopped: bool, status: str) -> None:
    rows = [{"status": each, "stop_requested": False} for each in runs]
    assert end_status(rows, was_stopped=was_stopped) == status


def test_runs_that_were_not_begun_because_somebody_asked_are_stopped() -> None:
    rows = [{"status": "complete", "stop_requested": False}, {"status": "pending", "stop_requested": True}]
    assert end_status(rows, was_stopped=False) == "stopped"


def test_a_sweep_that_was_complete_stays_so(two: Bench) -> None:
    two.tell("complete")
    two.working().end()
    assert two.working().end() == sweep.End("complete", two.working().end().runs)
    assert [len(two.began(run_id)) for run_id in two.run_ids] == [1, 1]
