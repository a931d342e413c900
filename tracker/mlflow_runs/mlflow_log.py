"""Tells MLflow what the record holds: what is in the outbox, by one process at a time.

MLflow is a view. Each outbox row becomes one flat run, found again by its tag; deleted runs can be made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tracker import clock
from tracker.errors import StorageError
from tracker.mlflow_runs.mlflow_store import Store
from tracker.paths import Workspace, without_password
from tracker.record import outbox
from tracker.record.catalogue import reading
from tracker.record.outbox import Entry

if TYPE_CHECKING:
    from tracker.record.database import Database

PATIENCE_S = 10.0
"""How long a command that has other things to do waits for another process to log its runs."""
_POLL_S = 0.5
_MANY = 100


@dataclass(slots=True)
class Drained:
    """What came of a drain."""

    logged: int = 0
    already_there: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)


def drain(
    workspace: Workspace,
    *,
    rebuild: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    patience_s: float | None = PATIENCE_S,
    on_wait: Callable[[], None] = lambda: None,
) -> Drained:
    """Logs every outbox row that is not logged yet; ``rebuild``: also those whose MLflow run is gone.

    What cannot be logged stays in the outbox with its error and is counted, never raised. ``on_progress`` is told
    (done, total). While another process drains, this calls ``on_wait`` once and waits until that one has logged
    everything or ends, at most ``patience_s`` (None: as long as it takes): a drainer looks for new rows before it ends,
    so what is left then is its next. Raises UnknownReference where there is no workspace, StorageError where the
    workspace cannot be written.
    """
    waiting = partial(_waiting, workspace, rebuild=rebuild)
    lock = FileLock(workspace.root / ".mlflow.lock")
    if not waiting() or not _acquired(lock, waiting, patience_s, on_wait):
        return Drained()
    try:
        return _drain_all(workspace, waiting, on_progress)
    finally:
        lock.release()


def _acquired(
    lock: FileLock, waiting: Callable[[], list[Entry]], patience_s: float | None, on_wait: Callable[[], None]
) -> bool:
    """Whether it is this process's turn: not where another one did the work, or takes longer than we have patience."""
    end = None if patience_s is None else clock.monotonic() + patience_s
    told = False
    while True:
        try:
            lock.acquire(timeout=0 if not told else _POLL_S)
        except Timeout:
            if not told:
                told = True
                on_wait()
        except OSError as error:
            raise StorageError(
                f"{lock.lock_file} cannot be written: {error.strerror or error}.",
                hint="MLflow is logged to by who may write the workspace; the record itself can be read.",
            ) from error
        else:
            return True
        if (end is not None and clock.monotonic() >= end) or not waiting():
            return False


def _drain_all(
    workspace: Workspace, waiting: Callable[[], list[Entry]], on_progress: Callable[[int, int], None] | None
) -> Drained:
    from tracker.record.database import open_database

    drained = Drained()
    seen: set[int] = set()
    with open_database(workspace) as database:
        # Who came meanwhile and did not want to wait relies on being looked for once more.
        while entries := [entry for entry in waiting() if entry.id not in seen]:
            seen.update(entry.id for entry in entries)
            _drain(workspace, database, drained, entries, on_progress)
    return drained


def _waiting(workspace: Workspace, *, rebuild: bool) -> list[Entry]:
    with reading(workspace) as reader:
        return outbox.pending(reader, everything=rebuild)


def _drain(
    workspace: Workspace,
    database: Database,
    drained: Drained,
    entries: list[Entry],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    store: Store | None = None
    for done, entry in enumerate(entries, 1):
        try:
            # A store that does not answer fails at once here, not once per run after all its retries.
            store = store or Store(workspace)
            there, run_id = store.log(entry)
        except Exception as error:  # noqa: BLE001  whatever fails in MLflow, the data is made and recorded
            _fail(database, drained, entries[done - 1 :] if store is None else [entry], error)
            if store is None:
                break
            store = store if store.answers() else None
        else:
            outbox.mark_logged(database, entry, run_id)
            drained.already_there += there
            drained.logged += not there
        if on_progress is not None:
            on_progress(done, len(entries))
    if store is not None:
        if len(entries) >= _MANY:
            store.analyze()
        store.close()


def _fail(database: Database, drained: Drained, entries: list[Entry], error: Exception) -> None:
    # MLflow repeats the address it was given, with the password in it.
    text = without_password(f"{type(error).__name__}: {error}")[:4000]
    for entry in entries:
        outbox.mark_failed(database, entry, text)
    drained.failed += len(entries)
    if text not in drained.errors:
        drained.errors.append(text)
