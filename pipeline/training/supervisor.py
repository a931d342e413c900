"""A sweep's supervisor in a process of its own: ``python -m pipeline.training.supervisor --root ROOT SWEEP_ID``.

It needs no terminal and survives the one that it was started from. What it says is in ``.sweeps/{uuid}.log`` beside the
results of its purpose. Exit codes are those of ``synthtrack train``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.training import workers
from pipeline.training.interrupts import Interrupts
from pipeline.training.news import news
from pipeline.training.sweep import Progress, work
from tracker import clock
from tracker.errors import Conflict, Error, StorageError
from tracker.mlflow_runs.mlflow_log import drain
from tracker.paths import Workspace, find_workspace
from tracker.record import sweeps, training
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database

COMMAND = (sys.executable, "-m", "pipeline.training.supervisor")
_TAKEN = "taken"


def start_in_background(
    workspace: Workspace,
    sweep_id: int,
    *,
    only: Collection[int] | None = None,
    mlflow: bool = True,
    command: Sequence[str] = COMMAND,
) -> Path:
    """Starts a supervisor that survives this process and its terminal; its log, once it has taken the sweep.

    ``mlflow``: whether it logs to MLflow at its end. Raises what keeps it from beginning: Conflict where another
    process works on the sweep, StorageError.
    """
    with reading(workspace) as reader:
        log = sweeps.log_file(workspace, sweeps.sweep(reader, sweep_id))
    with open_database(workspace) as database:
        # What this process registered would look taken to the one that is to take it.
        training.hand_over(database, sweep_id, clock.this_process())
    options = [f"--only={run_id}" for run_id in only or ()] + ([] if mlflow else ["--no-mlflow"])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as to_log:
            before = to_log.tell()
            starter = subprocess.Popen(  # noqa: S603  our own interpreter
                [*command, "--root", str(workspace.root), "--detach", *options, str(sweep_id)],
                cwd=workspace.root,
                env=dict(workspace.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=to_log,
                start_new_session=True,
            )
    except OSError as error:
        raise StorageError(f"The supervisor cannot be started: {error.strerror or error}.") from error
    with starter:
        # Its end of the pipe is open until it has taken the sweep, or is gone.
        said = starter.stdout.read().decode() if starter.stdout is not None else ""
    if said.strip() != _TAKEN:
        raise _error(said, log, workers.last_lines(log, before))
    return log


def _error(said: str, log: Path, last: str) -> Error:
    if not said.strip():
        return StorageError(f"The supervisor ended before it began.\n{last}".rstrip(), hint=f"Its log: {log}")
    given = json.loads(said)
    kind = next((each for each in (Conflict, StorageError) if each.exit_code == given["exit_code"]), Error)
    return kind(given["message"], hint=given["hint"])


def main(arguments: Sequence[str] | None = None, *, worker: Sequence[str] = workers.COMMAND) -> int:
    """Works through the sweep that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="the workspace")
    parser.add_argument("--only", type=int, action="append", metavar="RUN_ID", help="nothing but this run; repeatable")
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow for later")
    parser.add_argument("--detach", action="store_true", help="go on as a process that nobody waits for")
    parser.add_argument("sweep_id", type=int, help="id of the training_sweep")
    given = parser.parse_args(arguments)
    if given.detach and os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    workspace = find_workspace(given.root)
    code = _work(workspace, given.sweep_id, given.only, worker)
    if not given.no_mlflow and code != Conflict.exit_code:
        _log_to_mlflow(workspace)
    return code


def _work(workspace: Workspace, sweep_id: int, only: Collection[int] | None, worker: Sequence[str]) -> int:
    is_taken = False

    def taken() -> None:
        nonlocal is_taken
        is_taken = True
        _answer(_TAKEN)
        _say(f"supervised by {clock.this_process()}")

    try:
        with Interrupts() as interrupts:
            end = work(
                workspace, sweep_id, on_progress=_Log().show, interrupts=interrupts, only=only, on_taken=taken,
                command=worker,
            )  # fmt: skip
        _say(end.status)
    except Error as error:
        if is_taken:
            _record(workspace, sweep_id, str(error))
        else:
            _answer(json.dumps({"exit_code": error.exit_code, "message": error.message, "hint": error.hint}))
        return _failed(error)
    # A bug: recorded before it leaves, since nobody is there to see the traceback.
    except BaseException as error:
        traceback.print_exc()
        _record(workspace, sweep_id, f"{type(error).__name__}: {error}")
        raise
    try:
        end.check()
    except Error as error:
        return _failed(error)
    return 0


def _failed(error: Error) -> int:
    _say(str(error))
    return error.exit_code


def _record(workspace: Workspace, sweep_id: int, error: str) -> None:
    # Where the record cannot be used, the log has it.
    with contextlib.suppress(Error), open_database(workspace) as database:
        if training.beat_sweep(database, sweep_id, clock.this_process()):
            training.end_sweep(database, sweep_id, training.INTERRUPTED, error=f"The supervisor failed: {error}")


class _Log:
    """Writes what happens to the log."""

    def __init__(self) -> None:
        self._before: Sequence[Row] | None = None
        self._n_interrupts = 0

    def show(self, progress: Progress) -> None:
        for line in news(self._before, progress.runs):
            _say(line)
        if progress.n_interrupts > self._n_interrupts:
            _say("asked to end; waiting for the checkpoints" if progress.n_interrupts == 1 else "asked to end at once")
        self._before, self._n_interrupts = progress.runs, progress.n_interrupts


def _answer(text: str) -> None:
    # Whoever started us reads until this end of the pipe is closed; what we print from now on goes to the log.
    print(text, flush=True)  # noqa: T201  its stdout is the answer to who started it
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _say(text: str) -> None:
    print(f"{clock.now():%Y-%m-%d %H:%M:%S} {text}", file=sys.stderr, flush=True)  # noqa: T201  its stderr is its log


def _log_to_mlflow(workspace: Workspace) -> None:
    try:
        drained = drain(workspace, patience_s=None)
    except Error as error:
        _say(f"MLflow: {error}")
        return
    for each in drained.errors:
        _say(f"MLflow: {each}")


if __name__ == "__main__":
    sys.exit(main())
