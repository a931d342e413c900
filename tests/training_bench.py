"""A sweep with workers that have no model (``tests.training_worker``), and what they are told."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.training import sweep
from pipeline.training.interrupts import Interrupts
from tests import databases
from tests.training_rows import Trained, add_sweep, workspace_with_data
from tests.training_worker import COMMAND, STEPS
from tests.workspaces import environment
from tracker.paths import Workspace
from tracker.record import sweeps, training
from tracker.record.catalogue import Row, reading
from tracker.record.database import open_database

SUPERVISOR = (sys.executable, "-m", "tests.training_supervisor")
PATIENCE_S = 60


@dataclass
class Bench:
    """A workspace with one sweep of pending runs, and what its workers do."""

    workspace: Workspace
    sweep_id: int
    run_ids: tuple[int, ...]

    @property
    def control(self) -> Path:
        return self.workspace.root / "control"

    def tell(self, what: str, run_id: int | str = "all") -> None:
        """Tells a worker, or all of them, what to do next."""
        beside = self.control / f".{run_id}.do"
        beside.write_text(what, encoding="utf-8")
        beside.rename(self.control / f"{run_id}.do")

    def began(self, run_id: int) -> list[dict[str, Any]]:
        """What the workers of a run saw when they had claimed it, one after the other."""
        path = self.control / f"{run_id}.began"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_start(self, run_id: int, times: int = 1) -> dict[str, Any]:
        """Waits until a worker of that run makes steps."""
        until(lambda: len(self.began(run_id)) >= times)
        return self.began(run_id)[-1]

    def run(self, run_id: int) -> Row:
        return databases.rows(self.workspace, "SELECT * FROM training_run WHERE id = :id", id=run_id)[0]

    def statuses(self) -> list[str]:
        return [self.run(run_id)["status"] for run_id in self.run_ids]

    def sweep(self) -> Row:
        return databases.rows(self.workspace, "SELECT * FROM training_sweep WHERE id = :id", id=self.sweep_id)[0]

    def shown(self) -> Row:
        with reading(self.workspace) as reader:
            return sweeps.sweep(reader, self.sweep_id)

    def change(self, table: str, **columns: Any) -> None:
        with open_database(self.workspace) as database, database.writing() as connection:
            connection.execute(
                {"training_sweep": training.SWEEP, "training_run": training.RUN}[table].update().values(**columns)
            )

    def overlaps(self) -> bool:
        """Whether two workers were on one device at once."""
        return (self.control / "overlap").exists()

    def pids(self) -> set[int]:
        """Every process that ever began to work here."""
        found = {int(path.suffix[1:]) for path in self.control.glob("process.*")}
        return found | {row["pid"] for row in map(self.run, self.run_ids) if row["pid"] is not None}

    def working(self, **options: Any) -> Working:
        return Working(self, **options)


class Working:
    """``sweep.work`` in a thread of this process."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.interrupts = Interrupts()
        self.progress: list[sweep.Progress] = []
        self._options: dict[str, Any] = {"command": COMMAND, "on_progress": self.progress.append, **options}
        self._bench = bench
        self._end: sweep.End | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._end = sweep.work(
                self._bench.workspace, self._bench.sweep_id, interrupts=self.interrupts, **self._options
            )
        except BaseException as error:  # noqa: BLE001  handed to the test, which is in another thread
            self._error = error

    def end(self) -> sweep.End:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the supervisor did not end"
        if self._error is not None:
            raise self._error
        assert self._end is not None
        return self._end


@contextlib.contextmanager
def bench(
    root: Path, rates: Sequence[float] = (1e-6, 5e-7), *, devices: Sequence[str] = ("cpu",), go_on: bool = False
) -> Iterator[Bench]:
    """A sweep with a pending run for each learning rate; no process of it is left afterwards."""
    with_rows = workspace_with_data(root)
    workspace = Workspace(root, environ=environment())
    wanted = [Trained(hyperparameters={"learning_rate": rate, "steps": STEPS}, status="pending") for rate in rates]
    with open_database(with_rows) as database:
        registered = add_sweep(database, "study", wanted)
    found = Bench(workspace, registered.id, registered.run_ids)
    found.control.mkdir()
    found.change("training_sweep", devices=json.dumps(list(devices)), continue_on_error=go_on)
    try:
        yield found
    finally:
        for pid in found.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if any("training_" in word for word in process.cmdline()):
                    process.kill()


def until(condition: Callable[[], object]) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also one that nobody has waited for."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
