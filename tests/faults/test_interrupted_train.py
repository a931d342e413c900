"""``train`` killed, interrupted and stopped: the same command goes on, to the same bits, and nothing is there twice."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.trainings import (
    config,
    curve,
    model_digest,
    n_logged,
    n_saved,
    new_root,
    predictions,
    run,
    trained,
    until,
    work,
)
from tests.workspaces import Done, call, finish, rows, start, write_config

# Processes of their own take seconds to begin, and more where many tests run at once.
pytestmark = pytest.mark.timeout(900)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
STEPS, EVERY = 160, 40
TRAIN = ("train", "config.yaml", "--no-mlflow")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A workspace; no process that trains there is left afterwards."""
    found = new_root(tmp_path / "workspace")
    yield found
    for process in psutil.process_iter(["cmdline"]):
        if str(found) in (process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def settings(method: str, purpose: str) -> dict[str, Any]:
    given = {"steps": STEPS, "eval_steps": EVERY, "batch_size": 8, "lr_schedule": "linear", "learning_rate": 2e-4}
    changes = {f"hyperparameters__{name}": value for name, value in given.items()}
    return {"method": method, "experiment__purpose": purpose, "wait_for_completion": False, **changes}


def undisturbed(root: Path, method: str) -> int:
    """A run that nothing happens to; the next one is of the same settings."""
    (run_id,) = trained(root, **settings(method, "quiet"))
    write_config(root, config(**settings(method, "trial")), "config.yaml")
    return run_id


def worker_pid(root: Path, run_id: int) -> int:
    row = run(root, run_id)
    assert row["status"] == "running", row
    return int(row["pid"])


def supervisor_pid(root: Path) -> int:
    return int(rows(root, "SELECT pid FROM training_sweep ORDER BY id DESC LIMIT 1")[0][0])


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))


def hold(root: Path, pid: int) -> None:
    """Holds a process where it is, but not in the middle of a transaction, in which it would hold all others too."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        with contextlib.closing(sqlite3.connect(root / "tracker.db", timeout=1, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                other.execute("ROLLBACK")
                return


def go_on_once_asked(root: Path, run_id: int, pid: int) -> None:
    """Lets a process that is held run again when it has been asked to stop."""
    until(lambda: run(root, run_id)["stop_requested"])
    os.kill(pid, signal.SIGCONT)


def status_of(root: Path) -> tuple[str, list[str]]:
    """What the record says of the newest sweep and its runs."""
    sweep_id, status = rows(root, "SELECT id, status FROM training_sweep ORDER BY id DESC LIMIT 1")[0]
    found = rows(root, "SELECT status FROM training_run WHERE training_sweep_id = ? ORDER BY position", sweep_id)
    return status, [each for (each,) in found]


def assert_same(root: Path, run_id: int, other: int) -> None:
    """``run_id`` ended as ``other`` did, to the bit."""
    first, second = run(root, other), run(root, run_id)
    assert second["status"] == "complete", second["error"]
    assert model_digest(root, run_id) == model_digest(root, other)
    same = ("fingerprint", "accuracy", "eval_loss", "dev_loss", "dev_accuracy", "train_loss", "best_step", "step")
    assert {name: second[name] for name in same} == {name: first[name] for name in same}
    assert predictions(root, run_id, "trained") == predictions(root, other, "trained")
    for name in ("dev/loss", "dev/accuracy"):
        assert curve(root, run_id, name) == curve(root, other, name)
    assert list(curve(root, run_id, "dev/loss")) == list(range(0, STEPS + 1, EVERY))
    # What a kill takes with it is the half second that was not recorded yet.
    losses, whole = curve(root, run_id, "train/loss"), curve(root, other, "train/loss")
    assert losses == {step: whole[step] for step in losses}
    assert STEPS in losses


def test_zo_killed_stopped_and_gone_on_with_in_the_background_ends_with_the_same_bits(root: Path) -> None:
    other = undisturbed(root, "zo")
    done = call(root, *TRAIN, environ=ONE_THREAD)
    assert done.code == 0, done.err
    assert "Training in the background: sweep" in done.err
    run_id = other + 1
    until(lambda: n_logged(root, run_id) >= 10)
    worker, supervisor = worker_pid(root, run_id), supervisor_pid(root)
    for pid in (supervisor, worker):
        kill(pid)
    assert 10 <= n_logged(root, run_id) < STEPS
    shown = call(root, "training", "status")
    assert (shown.code, "[interrupted]" in shown.out, "running" in shown.out) == (0, True, False)
    assert status_of(root) == ("running", ["running"])

    before = n_logged(root, run_id)
    done = call(root, "training", "resume", "--background", "--no-mlflow", environ=ONE_THREAD)
    assert done.code == 0, done.err
    until(lambda: n_logged(root, run_id) >= before + 10)
    worker = worker_pid(root, run_id)
    hold(root, worker)
    letting = threading.Thread(target=go_on_once_asked, args=(root, run_id, worker), daemon=True)
    letting.start()
    stopped = call(root, "training", "stop")
    letting.join()
    row = run(root, run_id)
    assert stopped.code == 0
    assert f"stopped at step {row['step']} of {STEPS}" in stopped.out
    assert before + 10 <= row["step"] == n_logged(root, run_id) < STEPS
    assert (status_of(root), row["n_resumed"], row["stop_requested"]) == (("stopped", ["stopped"]), 1, 0)

    done = call(root, *TRAIN, environ=ONE_THREAD)
    assert "Going on with the unfinished sweep" in done.err
    until(lambda: status_of(root)[0] != "running")
    assert status_of(root) == ("complete", ["complete"])
    assert_same(root, run_id, other)
    assert run(root, run_id)["n_resumed"] == 2
    assert rows(root, "SELECT purpose, COUNT(*) FROM training_run GROUP BY 1") == [("quiet", 1), ("trial", 1)]
    (log,) = (root / "Results_v2/trial/.sweeps").glob("*.log")
    said = log.read_text()
    # The killed supervisor said nothing more; the others did.
    assert said.count("supervised by PID") == 3
    assert said.splitlines()[-1].endswith(" complete")
    until(lambda: is_gone(supervisor_pid(root)))


def test_fo_full_interrupted_and_killed_ends_with_the_same_bits(root: Path) -> None:
    other = undisturbed(root, "fo_full")
    process = start(root, *TRAIN, "--set", "wait_for_completion=true", environ=ONE_THREAD)
    run_id = other + 1
    until(lambda: rows(root, "SELECT 1 FROM training_run WHERE id = ?", run_id))
    until(lambda: n_saved(root, run_id) >= EVERY)
    worker = worker_pid(root, run_id)
    hold(root, worker)
    process.send_signal(signal.SIGINT)
    go_on_once_asked(root, run_id, worker)
    done = finish(process)
    row = run(root, run_id)
    assert done.code == 130, done.err
    assert "Stopped with 0 of 1 runs complete" in done.err
    assert "synthtrack training resume" in done.err
    assert (status_of(root), row["n_resumed"]) == (("stopped", ["stopped"]), 0)
    assert EVERY <= row["step"] == n_saved(root, run_id) < STEPS

    again = killed(root, run_id)
    assert again.code == 16
    assert "1 of 1 runs interrupted" in again.err
    assert "ended from outside by SIGKILL" in again.err
    assert "training resume" in again.err
    assert status_of(root) == ("interrupted", ["interrupted"])
    assert n_saved(root, run_id) > row["step"]

    assert work(root, run_id).code == 0
    assert_same(root, run_id, other)
    assert run(root, run_id)["n_resumed"] == 2
    assert rows(root, "SELECT COUNT(*) FROM training_run") == [(2,)]


def killed(root: Path, run_id: int) -> Done:
    """The command, whose worker is killed when it has saved a checkpoint; the command itself waits for it."""
    before = n_saved(root, run_id)

    def end() -> None:
        until(lambda: n_saved(root, run_id) > before)
        os.kill(worker_pid(root, run_id), signal.SIGKILL)

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    done = call(root, *TRAIN, "--set", "wait_for_completion=true", environ=ONE_THREAD)
    ending.join()
    return done
