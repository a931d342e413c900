"""Works through a sweep: one worker process on each device at a time, until every run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.training import workers
from pipeline.training.interrupts import Interrupts
from pipeline.training.record_monitor import FULL_PATIENCE_S
from pipeline.training.threads import threads_of, usable_cores
from pipeline.training.workers import Worker, device_name
from tracker import clock
from tracker.clock import Process
from tracker.errors import Conflict, Interrupted, StorageError, TrainingFailed
from tracker.paths import Workspace
from tracker.record import sweeps, training
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import Database, open_database
from tracker.record.lease import HEARTBEAT_S, Busy
from tracker.record.sweeps import RESUMABLE

PATIENCE_S = 600.0
"""How long the record may be locked, or full while workers go on, before a supervisor gives up."""
_TICK_S = 0.2


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: its runs as ``tracker.record.sweeps.runs`` has them, and how often it was asked to end."""

    runs: Sequence[Row]
    n_interrupts: int = 0


@dataclass(frozen=True)
class End:
    """How a sweep was left: complete, failed, stopped or interrupted; ``runs`` are those that were to be trained."""

    status: str
    runs: Sequence[Row]

    @property
    def error(self) -> str | None:
        """What went wrong with the first run that failed, or was killed."""
        if self.status not in {"failed", "interrupted"}:
            return None
        wrong = [run for run in self.runs if run["status"] == self.status]
        first = next((run for run in wrong if run["error"]), wrong[0])
        return f"{len(wrong)} of {len(self.runs)} runs {self.status}. {sweeps.point(first)}: {first['error']}"

    def check(self) -> None:
        """Raises TrainingFailed where a run failed or was killed, Interrupted where the sweep was stopped."""
        left = any(run["status"] in RESUMABLE for run in self.runs)
        hint = "`synthtrack training resume` goes on where they stopped." if left else None
        if self.error is not None:
            raise TrainingFailed(self.error, hint=hint)
        if self.status == "stopped":
            done = sum(run["status"] == "complete" for run in self.runs)
            raise Interrupted(f"Stopped with {done} of {len(self.runs)} runs complete.", hint=hint)


def work(
    workspace: Workspace,
    sweep_id: int,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    interrupts: Interrupts | None = None,
    only: Collection[int] | None = None,
    on_taken: Callable[[], None] = lambda: None,
    command: Sequence[str] = workers.COMMAND,
) -> End:
    """Trains what a sweep has left to train, or ``only`` these runs of it, and says how it ended.

    Workers of an earlier supervisor that still live are waited for. After a failure nothing new is started, unless the
    sweep continues on errors. Once ``interrupts`` has counted one, workers are asked to save their checkpoints and end;
    at two they are killed. Raises Conflict where another process works on it, StorageError where the record cannot be
    used for ``PATIENCE_S``, or, its disk full and no worker left, for ``FULL_PATIENCE_S``; workers go on then, and the
    next supervisor finds them.
    """
    with open_database(workspace) as database:
        training.settle(database)
        me = clock.this_process()
        busy = training.supervise(database, sweep_id, me)
        if busy is not None:
            raise busy_error(busy)
        on_taken()
        with reading(workspace) as reader:
            row = sweeps.sweep(reader, sweep_id)
        supervisor = _Supervisor(workspace, database, row, me, interrupts or Interrupts(), on_progress, only, command)
        return supervisor.work()


def busy_error(busy: Busy) -> Conflict:
    """The error that says who works on a sweep, and since when."""
    return Conflict(
        f"This sweep is being trained by {busy.process}, since {busy.since[:19].replace('T', ' ')} UTC.",
        hint="`synthtrack training status` shows how far it is, `synthtrack training stop` ends it.",
    )


@dataclass
class _Supervisor:
    """The loop of ``work``. A tick looks at the workers and reads the record after that: their last word is in it."""

    workspace: Workspace
    database: Database
    sweep: Row
    process: Process
    interrupts: Interrupts
    on_progress: Callable[[Progress], None]
    only: Collection[int] | None
    command: Sequence[str]
    active: list[Worker] = field(default_factory=list)
    started: set[int] = field(default_factory=set)
    rows: dict[int, Row] = field(default_factory=dict)
    is_halted: bool = False
    reader: Reader = field(init=False)
    beaten_at: float = field(default_factory=clock.monotonic)

    def work(self) -> End:
        well_at = clock.monotonic()
        while True:
            try:
                with reading(self.workspace, snapshot=False) as self.reader:
                    while self._tick():
                        well_at = clock.monotonic()
                        time.sleep(_TICK_S)
                    return self._end()
            except StorageError as error:
                # A record that is locked or full for a while is no reason to leave hours of work alone.
                hopeless = error.is_full and all(self._has_ended(each) for each in self.active)
                if clock.monotonic() - well_at > (FULL_PATIENCE_S if hopeless else PATIENCE_S):
                    raise
            time.sleep(_TICK_S)

    def _tick(self) -> bool:
        """Does what is to be done now; whether something is left."""
        ended = [each for each in self.active if self._has_ended(each)]
        self._read()
        for worker in ended:
            self._settle(worker)
            self.active.remove(worker)
        self._adopt()
        tried = 0
        if self.interrupts.count:
            self._stop()
        elif not self.is_halted:
            tried = self._start()
        self._note()
        if clock.monotonic() - self.beaten_at > HEARTBEAT_S:
            self._beat()
        self.on_progress(Progress(list(self.rows.values()), self.interrupts.count))
        return bool(self.active or tried)

    def _has_ended(self, worker: Worker) -> bool:
        return worker.has_ended(str(self.rows[worker.run_id]["heartbeat"]))

    def _read(self) -> None:
        self.rows = {row["id"]: row for row in sweeps.runs(self.reader, self.sweep["id"])}

    def _settle(self, worker: Worker) -> None:
        """Sees how a worker ended, and records it where the worker could not."""
        row = self.rows[worker.run_id]
        status, error = row["status"], row["error"]
        if not worker.has_recorded(row):
            holder = sweeps.holder_of(row)
            if status == "running" and holder is not None and not holder.is_same(worker.process):
                return  # another process was first to claim the run; it is adopted, or found to be gone
            was_running = status == "running"
            status, error = worker.verdict(row)
            if was_running or (worker.child is not None and error):
                self._record(row, status, error)
        # Whatever ended our child without being asked is likely to end the next.
        if status == "failed" or (status == "interrupted" and error and worker.child is not None):
            self.is_halted = self.is_halted or not self.sweep["continue_on_error"]

    def _record(self, row: Row, status: str, error: str | None) -> None:
        training.end_run(self.database, row["id"], status, {}, error=error)
        self.rows[row["id"]] = row | {"status": status, "error": error}

    def _adopt(self) -> None:
        """Finds the processes that others started for runs of this sweep, also those that have not claimed them yet."""
        known = {worker.run_id for worker in self.active}
        for row in [row for row in self.rows.values() if row["id"] not in known]:
            is_running = row["status"] == "running"
            may_begin = row["status"] in RESUMABLE and row["id"] not in self.started and sweeps.has_process(row)
            if is_running and not sweeps.is_held(row):
                self._record(row, "interrupted", workers.WORDLESS)
            # Who is impatient cannot wait for another host's.
            elif (is_running or may_begin) and (self.interrupts.count < 2 or row["host"] == clock.host()):
                holder = sweeps.holder_of(row)
                assert holder is not None
                self.active.append(Worker(row["id"], self._slot_of(row), holder, row["finished_at"]))

    def _slot_of(self, row: Row) -> int | None:
        """The device that an adopted worker takes: the one that its row names, else any that is free."""
        if row["host"] != clock.host():
            return None
        free = self._free()
        named = [slot for slot in free if device_name(self.sweep["devices"][slot]) == row["device"]]
        return next(iter([*named, *free]), None)

    def _free(self) -> list[int]:
        taken = {worker.slot for worker in self.active}
        return [slot for slot in range(len(self.sweep["devices"])) if slot not in taken]

    def _start(self) -> int:
        """Starts a worker on each free device, as long as there are runs to start; how many were tried."""
        not_again = self.started | {worker.run_id for worker in self.active}
        waiting = [
            row
            for row in self._wanted()
            if row["status"] in RESUMABLE and row["id"] not in not_again and not row["stop_requested"]
        ]
        pairs = list(zip(self._free(), waiting, strict=False))
        for slot, row in pairs:
            self._beat()
            busy = sweeps.busy_threads(self.reader, but=self.sweep["id"])
            self.started.add(row["id"])
            try:
                self.active.append(self._worker(row, slot, busy))
            # Of the run's directory or its process: what is wrong with the record was said by then.
            except StorageError as error:
                # A run that failed has lost its checkpoint; this one only lacks room, or a permission.
                self._record(row, "interrupted", str(error))
                if not self.sweep["continue_on_error"]:
                    self.is_halted = True
                    break
        return len(pairs)

    def _worker(self, row: Row, slot: int, busy: int) -> Worker:
        devices = self.sweep["devices"]
        threads = threads_of(
            row["threads"], self.workspace.environ.get("OMP_NUM_THREADS"), cores=usable_cores(), devices=len(devices),
            busy=busy,
        )  # fmt: skip
        return workers.start(self.workspace, row, slot, devices[slot], threads=threads, command=self.command)

    def _wanted(self) -> list[Row]:
        return [row for row in self.rows.values() if self.only is None or row["id"] in self.only]

    def _stop(self) -> None:
        """Asks every worker to end, by its row: a signal may have reached it already, and two would kill it."""
        asked = [worker for worker in self.active if not worker.is_asked]
        if asked:
            try:
                training.request_stop(self.database, [worker.run_id for worker in asked])
                # Who has not begun has nothing to save, and may not look for a while.
                by_signal = [each for each in asked if self.rows[each.run_id]["status"] != "running"]
            except StorageError:
                by_signal = asked
            for worker in asked:
                worker.is_asked = True
                if worker in by_signal:
                    worker.terminate()
        if self.interrupts.count > 1:
            for worker in self.active:
                worker.kill()
            self.active = [worker for worker in self.active if worker.process.host == clock.host()]

    def _note(self) -> None:
        """Writes down whom we started, at once: who comes after a kill -9 is to find a worker that has not begun."""
        for worker in self.active:
            if worker.columns is not None:
                training.note_start(self.database, worker.run_id, worker.process, worker.columns)
                worker.columns = None

    def _beat(self) -> None:
        if not training.beat_sweep(self.database, self.sweep["id"], self.process):
            raise Conflict(
                "Another process has taken this sweep over, because this one had not been heard of for "
                f"{clock.LEASE_TIMEOUT_S:.0f} s.",
                hint="`synthtrack training status` shows how far it is.",
            )
        self.beaten_at = clock.monotonic()

    def _end(self) -> End:
        self._read()
        stopped = self.interrupts.count > 0
        whole = End(end_status(self.rows.values(), was_stopped=stopped), list(self.rows.values()))
        wanted = self._wanted()
        training.end_sweep(self.database, self.sweep["id"], whole.status, error=whole.error)
        return End(end_status(wanted, was_stopped=stopped), wanted)


def end_status(runs: Iterable[Row], *, was_stopped: bool) -> str:
    """How a sweep with these runs ends, of which no one is running here any more.

    Stopped: a person wanted it, or not all of it. Failed: a run failed, whatever became of the others. Interrupted: a
    process was ended from outside.
    """
    found = list(runs)
    left = [run for run in found if run["status"] in {*RESUMABLE, "running"}]
    if left and (was_stopped or any(run["status"] == "stopped" or run["stop_requested"] for run in left)):
        return "stopped"
    statuses = {run["status"] for run in found}
    for status in ("failed", "interrupted"):
        if status in statuses:
            return status
    return "stopped" if left else "complete"
