"""One training run in a process of its own: ``python -m pipeline.training.worker --root ROOT RUN_ID``.

Exit codes: 0 complete, 130 stopped (``synthtrack training resume`` goes on with it), else the error's.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipeline.training import places, surroundings
from pipeline.training.execution import Work, train_and_measure
from pipeline.training.memory import out_of_memory
from pipeline.training.record_monitor import RecordMonitor, patiently
from pipeline.training.setup import Stopped
from pipeline.training.specs import TrainingConfig
from pipeline.training.workers import STOPPED_CODE
from tracker import clock
from tracker.errors import (
    Conflict,
    Diverged,
    Error,
    StorageError,
    UnknownReference,
)
from tracker.paths import Workspace, find_workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.columns import to_json
from tracker.record.database import Database, open_database
from tracker.record.lease import Busy
from tracker.record.work import CHECKPOINT_KEPT

_ERROR_LINES = 20


def main() -> int:
    """Trains the run that the command line names; errors go to stderr in words, and into the run's row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="the workspace")
    parser.add_argument("run_id", type=int, help="id of the training_run")
    given = parser.parse_args()
    workspace = find_workspace(given.root)
    with open_database(workspace) as database:
        try:
            return _run(workspace, database, given.run_id)
        except Error as error:
            _say(f"Error: {error}", sys.stderr)
            return error.exit_code


def _run(workspace: Workspace, database: Database, run_id: int) -> int:
    began = clock.monotonic()
    me = clock.this_process()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    device = "cuda" if listed else "cpu"
    start = _start(workspace, f"cuda:{listed}" if listed else "cpu", _begun_with(workspace, run_id))
    row = patiently(lambda: training.claim(database, run_id, me, start))
    if isinstance(row, Busy):
        raise Conflict(f"This run is being trained by {row.process}, since {row.since}.")
    torch.set_num_threads(int(row["threads"]))
    config = TrainingConfig.model_validate(json.loads(row["config"]))
    monitor = RecordMonitor(database, run_id, config.hyperparameters.steps, peak_memory=_peak(device), say=_say)
    _on_signals(monitor)
    directory = workspace.root / row["directory"]
    work = Work(workspace, database, row, config, directory, device, monitor)
    before = row["duration_s"] or 0.0

    def end(
        status: str, columns: Mapping[str, Any], error: str | None = None, *, after: BaseException | None = None
    ) -> bool:
        took = {"duration_s": before + clock.monotonic() - began, "peak_memory_bytes": _peak(device)()}
        return patiently(
            lambda: training.end_run(database, run_id, status, {**columns, **took}, error=error, process=me),
            after=after,
        )

    try:
        with monitor, out_of_memory(config.method):
            columns = train_and_measure(work)
    except Stopped:
        end(training.STOPPED, {})
        _say("stopped; its checkpoint is kept")
        return STOPPED_CODE
    # Recorded before it leaves, whatever it is.
    except BaseException as error:
        text = str(error) if isinstance(error, Error) else "".join(traceback.format_exception(error))
        last = "\n".join(text.strip().splitlines()[-_ERROR_LINES:])
        status = training.INTERRUPTED if _may_go_on(error, work) else training.FAILED
        if end(status, {}, last, after=error) and status == training.FAILED:
            _clean(work)
        raise
    if not end(training.COMPLETE, columns):
        raise Conflict("This run was taken over by another process, as this one was not heard of for long.")
    _clean(work)
    return 0


def _may_go_on(error: BaseException, work: Work) -> bool:
    """Whether what went wrong may be over another time, so that the checkpoint is worth keeping.

    A full disk is; so is everything that befalls a run which had begun (a hub that is down, memory that others took),
    but a loss that is not finite, and our own mistakes.
    """
    begun = any((work.directory / places.CHECKPOINT).glob("*"))
    return isinstance(error, StorageError) or (begun and isinstance(error, Error) and not isinstance(error, Diverged))


def _begun_with(workspace: Workspace, run_id: int) -> Mapping[str, Any]:
    """The packages that an earlier process of the run had; empty for a run that begins. Raises UnknownReference."""
    with reading(workspace) as reader:
        rows = reader.rows("SELECT started_at, versions FROM training_run WHERE id = :id", id=run_id)
    if not rows:
        raise UnknownReference("training run", str(run_id), [])
    begun = rows[0]["started_at"] is not None and rows[0]["versions"] is not None
    found: dict[str, Any] = json.loads(rows[0]["versions"]) if begun else {}
    return found


def _start(workspace: Workspace, device: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a run begins with. One that goes on keeps what it was begun with."""
    columns = {"device": device, "threads": int(os.environ.get("OMP_NUM_THREADS") or 1)}
    versions = surroundings.versions(workspace.root)
    if not before:
        environment = surroundings.environment(os.environ)
        return columns | {"versions": to_json(versions), "environment": to_json(environment)}
    other = [name for name, value in versions.items() if name in before and before[name] != value]
    if other:
        _say(f"going on with another {', '.join(other)} than the run was begun with: bits may differ", sys.stderr)
    return columns


def _clean(work: Work) -> None:
    """Removes what was only there to resume from; a zo run's log from its beginning is kilobytes, and replays it."""
    for each in (work.directory / places.CHECKPOINT).glob("*"):
        if each.is_dir():
            shutil.rmtree(each, ignore_errors=True)
        elif each.name not in CHECKPOINT_KEPT:
            each.unlink(missing_ok=True)


def _on_signals(monitor: RecordMonitor) -> None:
    def ask(number: int, _: object) -> None:
        monitor.stop()
        signal.signal(number, signal.SIG_DFL)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, ask)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _peak(device: str) -> Callable[[], int]:
    if device == "cuda":
        return torch.cuda.max_memory_allocated
    # Linux counts in kibibytes.
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(text: str, to: Any = None) -> None:
    # A line that finds no room on a full disk is no reason to end a training.
    with contextlib.suppress(OSError):
        print(text, file=to or sys.stdout, flush=True)


if __name__ == "__main__":
    code = main()
    # What torch and transformers made is not worth looking through at exit: that took a second, and the device waited.
    gc.freeze()
    sys.exit(code)
