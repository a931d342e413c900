"""What training runs write, once or as it comes."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.render import harmless, note, show
from cli.text.result_words import progress
from pipeline.training.places import output_files
from tracker.paths import Workspace
from tracker.record import sweeps
from tracker.record.catalogue import Row, reading
from tracker.record.sweeps import RESUMABLE, Found

_POLL_S = 0.3


def files(workspace: Workspace, run: Row) -> tuple[Path, Path]:
    """Where a run's stdout and stderr are."""
    return output_files(workspace.root / run["directory"], run["learning_rate"])


def show_logs(workspace: Workspace, found: Found, *, errors: bool) -> None:
    """Prints what the run, or each run of the sweep, has written."""
    _, runs = _look(workspace, found)
    printer = _Printer(workspace, errors=errors, titled=found.run_id is None)
    printer.print(runs, is_last=True)
    if not printer.has_printed:
        note(f"Nothing was written yet: {', '.join(map(printer.name, runs))}")


def follow_logs(workspace: Workspace, found: Found, *, errors: bool) -> None:
    """Prints what they write, until the run, or the sweep, has ended."""
    printer = _Printer(workspace, errors=errors, titled=found.run_id is None)
    has_run = False
    while True:
        # What was written before it ended is read after that was seen.
        sweep, runs = _look(workspace, found)
        has_run = has_run or runs[0]["status"] == "running"
        has_ended = _has_ended(sweep, runs[0], has_run=has_run) if found.run_id is not None else _is_left(sweep)
        printer.print(runs, is_last=has_ended)
        if has_ended:
            break
        time.sleep(_POLL_S)
    for run in runs:
        if found.run_id is not None or run["status"] != "complete":
            note(f"💾 {sweeps.point(run)}: {run['status']} at {progress(run)}")


def _look(workspace: Workspace, found: Found) -> tuple[Row, Sequence[Row]]:
    with reading(workspace) as reader:
        sweep = sweeps.sweep(reader, found.sweep_id)
        return sweep, sweep["runs"] if found.run_id is None else [sweeps.run(reader, found.run_id)]


def _has_ended(sweep: Row, run: Row, *, has_run: bool) -> bool:
    if run["status"] == "running":
        return False
    may_begin = run["status"] in RESUMABLE and sweep["status"] == "running" and not run["stop_requested"]
    return has_run or not may_begin


def _is_left(sweep: Row) -> bool:
    return sweep["status"] != "running" and all(run["status"] != "running" for run in sweep["runs"])


class _Printer:
    """Prints what files have got since it looked last, whole lines of one at a time, under its name where titled."""

    def __init__(self, workspace: Workspace, *, errors: bool, titled: bool) -> None:
        self._workspace, self._errors, self._titled = workspace, errors, titled
        self._tails: dict[int, Callable[[bool], list[str]]] = {}
        self._last: int | None = None
        self.has_printed = False

    def name(self, run: Row) -> str:
        return self._workspace.relative(files(self._workspace, run)[self._errors])

    def print(self, runs: Sequence[Row], *, is_last: bool) -> None:
        for run in runs:
            tail = self._tails.setdefault(run["id"], _tail(files(self._workspace, run)[self._errors]))
            lines = tail(is_last)
            if lines and self._titled and self._last != run["id"]:
                show(f"{'' if self._last is None else chr(10)}==> {self.name(run)} <==")
            for line in lines:
                show(line)
                self._last, self.has_printed = run["id"], True


def _tail(path: Path) -> Callable[[bool], list[str]]:
    """Reads the lines that a file has got since the last call; an unfinished one only at the last call."""
    position, rest = 0, ""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(is_last: bool) -> list[str]:
        nonlocal position, rest
        try:
            with path.open("rb") as file:
                file.seek(position)
                found = file.read()
        except FileNotFoundError:
            found = b""
        position += len(found)
        *lines, rest = (rest + decoder.decode(found, final=is_last)).split("\n")
        if is_last and rest:
            lines, rest = [*lines, rest], ""
        # Of a bar that was drawn over itself the last state counts.
        return [harmless(line.rstrip("\r").rpartition("\r")[2]) for line in lines]

    return read
