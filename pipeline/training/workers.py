"""A worker process of a sweep: how it is started, how it is ended, and what its end means."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.training import places
from pipeline.training.devices import CPU
from tracker import clock
from tracker.clock import Process
from tracker.errors import StorageError
from tracker.paths import Workspace
from tracker.record.catalogue import Row

WORDLESS = "Its process ended without a word."
COMMAND = (sys.executable, "-m", "pipeline.training.worker")
_CRASHES = {
    signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP,
}  # fmt: skip
STOPPED_CODE = 130
_LINES = 20
_BYTES = 8000


@dataclass
class Worker:
    """The process of a run: our ``child``, or one that an earlier supervisor started.

    ``slot`` is the place in the sweep's list of devices that it takes, None where that is not one of ours;
    ``finished_at`` is what the run's row said when it was started; ``columns`` are what is to be noted there.
    """

    run_id: int
    slot: int | None
    process: Process
    finished_at: str | None
    child: subprocess.Popen[bytes] | None = None
    err: Path | None = None
    err_from: int = 0
    columns: Mapping[str, Any] | None = None
    is_asked: bool = False

    def has_ended(self, last_seen: str) -> bool:
        """Whether it is gone; ``last_seen`` is its heartbeat, which counts where it cannot be asked."""
        return clock.is_gone(self.process, last_seen) if self.child is None else self.child.poll() is not None

    def has_recorded(self, run: Row) -> bool:
        """Whether ``run``, read after its end, says how it ended."""
        return run["status"] != "running" and run["finished_at"] not in {None, self.finished_at}

    def verdict(self, run: Row) -> tuple[str, str | None]:
        """Status and error of ``run`` once its worker ended and did not record it."""
        if self.child is None:
            return "interrupted", WORDLESS
        error = "" if self.err is None else last_lines(self.err, self.err_from)
        return verdict(self.child.wait(), error, asked=self.is_asked or bool(run["stop_requested"]))

    def terminate(self) -> None:
        """Asks it to end, where it is one of this host's."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and all that it started, where it is one of this host's."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        pid = self.process.pid
        with contextlib.suppress(ProcessLookupError):
            if self.child is not None and self.child.poll() is None:
                # Not waited for, so its PID cannot be another's; it leads its own session.
                (os.killpg if number == signal.SIGKILL else os.kill)(pid, number)
            elif self.child is None and clock.is_alive(self.process):
                (os.killpg if number == signal.SIGKILL and os.getpgid(pid) == pid else os.kill)(pid, number)


def start(workspace: Workspace, run: Row, slot: int, device: str, *, threads: int, command: Sequence[str]) -> Worker:
    """Starts the process of a run; what it writes goes into the run's directory. Raises StorageError."""
    directory = workspace.root / run["directory"]
    out, err = places.output_files(directory, run["learning_rate"])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with out.open("ab") as to_out, err.open("ab") as to_err:
            before = to_err.tell()
            child = subprocess.Popen(  # noqa: S603  our own interpreter
                [*command, "--root", str(workspace.root), str(run["id"])],
                cwd=workspace.root,
                env=environment(workspace.environ, device, threads),
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                # Ctrl-C and the end of the terminal reach the supervisor alone.
                start_new_session=True,
            )
    except OSError as error:
        raise StorageError(
            f"The run in {directory} cannot be started: {error.strerror or error}.",
            hint="Check permissions and disk space.",
        ) from error
    columns = {"device": device_name(device), "threads": threads}
    return Worker(run["id"], slot, clock.process_of(child.pid), run["finished_at"], child, err, before, columns)


def environment(environ: Mapping[str, str], device: str, threads: int) -> dict[str, str]:
    """The environment of a worker that sees one device, or none."""
    return {
        # So that a GPU's number is the one that nvidia-smi shows.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **environ,
        "CUDA_VISIBLE_DEVICES": "" if device == CPU else device,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }


def device_name(device: str) -> str:
    """A device of a sweep as a run's row names it: ``cuda:0``, ``cpu``."""
    return device if device == CPU else f"cuda:{device}"


def verdict(code: int, error: str, *, asked: bool) -> tuple[str, str | None]:
    """Status and error of a run whose process ended with that exit code and did not say so in the record itself.

    Ended from outside, or by storage, it is interrupted and can be resumed; it failed where the reason is its own.
    ``asked``: by us.
    """
    if code < 0 and -code not in _CRASHES:
        if asked:
            return "interrupted", None
        why = " (by a person, or by the system because memory ran out)" if -code == signal.SIGKILL else ""
        return "interrupted", f"Its process was ended from outside by {_signal_name(-code)}{why}."
    if code == STOPPED_CODE:
        return "interrupted", None if asked else "Its process was interrupted."
    if code == StorageError.exit_code:
        # What kept it from writing its checkpoint, perhaps, kept it from writing that into the record.
        return "interrupted", error or "Its process could not write."
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return "failed", f"{error}\nIts process {how} without recording why.".lstrip()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_lines(path: Path, start_at: int = 0) -> str:
    """The last lines of a file, from a position on."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start_at, end - _BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-_LINES:])
