"""One writer for everything that is paid for: small groups, one transaction each, off the event loop.

Rows are committed in the order in which they came, at most ``delay`` seconds or ``size`` rows after the first of a
group. Where the disk is full, the same rows are tried again; none is dropped while there is hope. Where a row is at
fault, it alone is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from tracker.errors import StorageError

Attempted = TypeVar("Attempted")
Row = TypeVar("Row")


class Writer(Generic[Attempted, Row]):
    """Group commit of two kinds of rows: attempts, and rows of the caller's that may point to them.

    ``save`` is one durable transaction that stores the attempts, then the rows; it is called in one worker thread,
    never twice at once. ``on_saved`` is told of each group after its commit, ``on_trouble`` of the error when a commit
    fails and of None when one succeeds again, ``on_failed`` when there is no hope left; all three in the event loop.
    """

    def __init__(
        self,
        save: Callable[[Sequence[Attempted], Sequence[Row]], None],
        *,
        on_saved: Callable[[Sequence[Attempted]], None] = lambda _: None,
        on_trouble: Callable[[StorageError | None], None] = lambda _: None,
        on_failed: Callable[[BaseException], None] = lambda _: None,
        delay: float = 0.05,
        size: int = 200,
        patience: float = 30.0,
    ) -> None:
        self._save = save
        self._on_saved, self._on_trouble, self._on_failed = on_saved, on_trouble, on_failed
        self._delay, self._size, self._patience = delay, size, patience
        self._attempts: list[Attempted] = []
        self._rows: list[Row] = []
        self._lost: BaseException | None = None
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="synthtrack-writer")
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    def attempt(self, attempt: Attempted) -> None:
        """Queues an attempt; returns at once."""
        self._attempts.append(attempt)
        self._arrived()

    def row(self, row: Row) -> None:
        """Queues a row of the caller's; it is committed with the attempts that were queued before it, or after them."""
        self._rows.append(row)
        self._arrived()

    async def close(self) -> None:
        """Commits what is left. Raises StorageError, or whatever else ``save`` raised, where rows could not be kept."""
        self._closing.set()
        self._due.set()
        try:
            await asyncio.shield(self._task)
        finally:
            if self._task.done():
                self._thread.shutdown()

    def _arrived(self) -> None:
        waiting = len(self._attempts) + len(self._rows)
        if waiting == 1:
            self._timer = self._loop.call_later(self._delay, self._due.set)
        elif waiting >= self._size:
            self._due.set()

    async def _run(self) -> None:
        failed: BaseException | None = None
        while failed is None and not (self._closing.is_set() and not self._attempts and not self._rows):
            await self._due.wait()
            failed = await self._commit(self._patience)
        if failed is None:
            return
        self._on_failed(failed)
        # What is in flight may still bring answers: they get a last chance once nothing more can come.
        await self._closing.wait()
        failed = await self._commit(0.0) or self._lost
        if failed is not None:
            raise failed

    async def _commit(self, patience: float) -> BaseException | None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        attempts, self._attempts = self._attempts, []
        rows, self._rows = self._rows, []
        if not attempts and not rows:
            return None
        failed = await self._try(attempts, rows, patience)
        if failed is None:
            self._on_saved(attempts)
        elif isinstance(failed, StorageError):
            self._attempts[:0], self._rows[:0] = attempts, rows
        else:
            self._lost = self._lost or failed
            await self._save_each(attempts, rows)
        return failed

    async def _save_each(self, attempts: Sequence[Attempted], rows: Sequence[Row]) -> None:
        """After a group failed for another reason than storage: one row is at fault, the others are paid for too."""
        for attempt in attempts:
            failed = await self._try([attempt], [], 0.0)
            if failed is None:
                self._on_saved([attempt])
            elif isinstance(failed, StorageError):
                self._attempts.append(attempt)
        for row in rows:
            if isinstance(await self._try([], [row], 0.0), StorageError):
                self._rows.append(row)

    async def _try(self, attempts: Sequence[Attempted], rows: Sequence[Row], patience: float) -> BaseException | None:
        give_up_at, pause = self._loop.time() + patience, 0.1
        troubled = False
        while True:
            try:
                await self._loop.run_in_executor(self._thread, self._save, attempts, rows)
            except StorageError as error:
                remaining = give_up_at - self._loop.time()
                if remaining <= 0:
                    return error
                if not troubled:
                    troubled = True
                    self._on_trouble(error)
                await asyncio.sleep(min(pause, remaining))
                pause = min(5.0, 2 * pause)
            except Exception as error:  # noqa: BLE001  whatever it is, it must stop the run, not just this task
                return error
            else:
                if troubled:
                    self._on_trouble(None)
                return None
