from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from pipeline.engine.writer import Writer
from tests.pipeline.simulation import now, simulate
from tracker.errors import StorageError

Group = tuple[list[int], list[str]]


class Disk:
    """Keeps groups; ``troubles`` are raised by its next saves, one each, and ``full`` by every one."""

    def __init__(self, troubles: Sequence[Exception] = (), *, full: bool = False) -> None:
        self.groups: list[Group] = []
        self.tries: list[Group] = []
        self.troubles = list(troubles)
        self.full = full
        self.threads: set[str] = set()

    def save(self, attempts: Sequence[int], rows: Sequence[str]) -> None:
        self.threads.add(threading.current_thread().name)
        self.tries.append((list(attempts), list(rows)))
        if self.troubles:
            raise self.troubles.pop(0)
        if self.full:
            raise StorageError("no space left")
        self.groups.append((list(attempts), list(rows)))

    @property
    def attempts(self) -> list[int]:
        return [attempt for attempts, _ in self.groups for attempt in attempts]


def written(disk: Disk, main: Callable[[Writer[int, str]], Awaitable[None]], **options: float) -> list[str]:
    """What the writer told, after ``main`` and ``close``."""
    told: list[str] = []

    async def run() -> None:
        writer: Writer[int, str] = Writer(
            disk.save,
            on_saved=lambda attempts: told.append(f"saved {len(attempts)}"),
            on_trouble=lambda error: told.append("well again" if error is None else f"trouble at {now():.1f}"),
            on_failed=lambda error: told.append(f"{error} at {now():.1f}"),
            **options,  # type: ignore[arg-type]  # size is whole where it is given
        )
        try:
            await main(writer)
        finally:
            await writer.close()

    simulate(run())
    return told


def test_rows_are_committed_in_order_in_one_worker_thread() -> None:
    disk = Disk()

    async def main(writer: Writer[int, str]) -> None:
        for n in range(1000):
            writer.attempt(n)
            if n % 7 == 0:
                await asyncio.sleep(0.01)

    written(disk, main)
    assert disk.attempts == list(range(1000))
    assert len(disk.threads) == 1
    assert threading.current_thread().name not in disk.threads


def test_a_group_ends_after_its_delay() -> None:
    disk = Disk()

    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)
        await asyncio.sleep(0.04)
        writer.attempt(2)
        assert disk.groups == []
        await asyncio.sleep(0.011)
        assert disk.groups == [([1, 2], [])]

    written(disk, main, delay=0.05)


def test_a_group_ends_when_it_is_large() -> None:
    disk = Disk()

    async def main(writer: Writer[int, str]) -> None:
        for n in range(200):
            writer.attempt(n)
        await asyncio.sleep(0.0001)
        assert len(disk.attempts) == 200

    written(disk, main)


def test_a_row_is_never_committed_before_the_attempts_it_points_to() -> None:
    disk = Disk([StorageError("no space left")])

    async def main(writer: Writer[int, str]) -> None:
        for n in range(100):
            writer.attempt(n)
            writer.row(str(n))
            await asyncio.sleep(0.003)

    written(disk, main)
    there: set[int] = set()
    for attempts, rows in disk.groups:
        there.update(attempts)
        assert there.issuperset(int(row) for row in rows)
    assert [row for _, rows in disk.groups for row in rows] == [str(n) for n in range(100)]


def test_closing_commits_what_is_left_at_once() -> None:
    disk = Disk()

    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)
        writer.row("one")

    assert written(disk, main, delay=1000) == ["saved 1"]
    assert disk.groups == [([1], ["one"])]


def test_a_full_disk_is_tried_again_with_the_same_rows_until_there_is_room() -> None:
    disk = Disk([StorageError("no space left")] * 3)

    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)
        await asyncio.sleep(0.1)
        writer.attempt(2)
        await asyncio.sleep(5)

    assert written(disk, main) == ["trouble at 0.1", "well again", "saved 1", "saved 1"]
    assert disk.tries[:4] == [([1], [])] * 4
    assert disk.attempts == [1, 2]


def test_hope_ends_after_the_patience_and_what_is_left_gets_a_last_chance() -> None:
    disk = Disk(full=True)

    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)
        await asyncio.sleep(40)
        writer.attempt(2)
        disk.full = False

    assert written(disk, main, patience=30) == ["trouble at 0.1", "no space left at 30.1", "saved 2"]
    assert disk.attempts == [1, 2]
    assert 8 < len(disk.tries) < 20


def test_without_room_at_the_end_the_error_is_raised() -> None:
    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)

    with pytest.raises(StorageError, match="no space left"):
        written(Disk(full=True), main, patience=1)


def test_a_bug_in_save_is_no_reason_to_try_again() -> None:
    disk = Disk([ValueError("a bug"), ValueError("a bug")])

    async def main(writer: Writer[int, str]) -> None:
        writer.attempt(1)
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="a bug"):
        written(disk, main)
    assert len(disk.tries) == 2


class Picky(Disk):
    """Refuses whole groups with a row that is at fault, as a database does."""

    def save(self, attempts: Sequence[int], rows: Sequence[str]) -> None:
        if 13 in attempts or "13" in rows:
            self.tries.append((list(attempts), list(rows)))
            raise UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
        super().save(attempts, rows)


def test_only_the_row_at_fault_is_lost_and_the_run_ends_with_its_error() -> None:
    disk = Picky()
    told: list[str] = []

    async def main(writer: Writer[int, str]) -> None:
        writer._on_failed = lambda error: told.append(f"{type(error).__name__} at {now():.2f}")
        for n in range(20):
            writer.attempt(n)
            writer.row(str(n))
        await asyncio.sleep(1)
        writer.attempt(20)

    with pytest.raises(UnicodeEncodeError):
        written(disk, main)
    assert told == ["UnicodeEncodeError at 0.05"]
    assert disk.attempts == [n for n in range(21) if n != 13]
    assert [row for _, rows in disk.groups for row in rows] == [str(n) for n in range(20) if n != 13]


def test_a_row_at_fault_in_the_last_group_is_lost_alone_as_well() -> None:
    disk = Picky([StorageError("no space left")])

    async def main(writer: Writer[int, str]) -> None:
        for n in (12, 13, 14):
            writer.attempt(n)

    with pytest.raises(UnicodeEncodeError):
        written(disk, main)
    # The disk was full for a moment while the rows were saved one by one: the first of them had another chance.
    assert sorted(disk.attempts) == [12, 14]
