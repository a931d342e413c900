"""Counts what is meant to end a program, for one that has something to bring to its end first."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType
from typing import Any, Self


class Interrupts:
    """How often this process was asked to end since the context began: Ctrl-C, SIGTERM, or its terminal's end.

    What is ignored (under nohup, in a background job of a script) stays ignored.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Outside the main thread (a notebook's helper, a test) signals are somebody else's.
            with contextlib.suppress(ValueError):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _heard(self, number: int, _: FrameType | None) -> None:
        # Shell and system both tell of a terminal's end, and then SIGTERM may follow: nobody was impatient.
        self.count = max(self.count, 1) if number == signal.SIGHUP else self.count + 1
