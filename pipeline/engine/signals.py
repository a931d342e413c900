"""Ctrl-C and SIGTERM for runs in an event loop, however many go on at once.

A first signal asks every run to finish what is in flight, those too that begin before the last of them has ended; a
second one is handled as it would be without us. Whoever handled signals before does so afterwards, and a handler that
somebody put on the loop itself is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ON_A_LOOP = "_sighandler_noop"
"""What asyncio leaves as the process's handler where a loop has one of its own."""


class _Listening:
    """The runs of one loop that want to hear of signals, and who handled these before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._before: dict[int, Any] = {}
        self._own: dict[int, object] = {}
        self.runs: dict[object, Callable[[], None]] = {}
        self.heard = False

    def begin(self) -> None:
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if getattr(before, "__name__", "") == _ON_A_LOOP:
                continue
            # Outside the main thread (a notebook's helper, a test) signals are somebody else's.
            with contextlib.suppress(RuntimeError, ValueError):
                self._loop.add_signal_handler(number, self._heard, number)
                self._before[number] = before
                self._own[number] = self._on_loop(number)

    def end(self) -> None:
        for number in list(self._before):
            self._give_back(number)

    def _heard(self, number: int) -> None:
        self.heard = True
        if number not in self._before:
            # It came before the first was heard of.
            signal.raise_signal(number)
            return
        # A second one means it.
        self._give_back(number)
        for stop in list(self.runs.values()):
            stop()

    def _give_back(self, number: int) -> None:
        before, now = self._before.pop(number), signal.getsignal(number)
        is_ours = getattr(now, "__name__", "") == _ON_A_LOOP
        if is_ours and self._on_loop(number) is not self._own[number]:
            return
        self._loop.remove_signal_handler(number)
        before = before if is_ours else now
        if before is not None:
            signal.signal(number, before)

    def _on_loop(self, number: int) -> object:
        # There is no public way to see whether somebody has put another handler in the place of ours.
        return getattr(self._loop, "_signal_handlers", {}).get(number)


_listening: WeakKeyDictionary[asyncio.AbstractEventLoop, _Listening] = WeakKeyDictionary()


@contextlib.contextmanager
def heeding(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop``, in the running loop, when a signal asks this process to end."""
    loop, own = asyncio.get_running_loop(), object()
    found = _listening.get(loop)
    if found is None:
        found = _listening[loop] = _Listening(loop)
        found.begin()
    found.runs[own] = stop
    if found.heard:
        stop()
    try:
        yield
    finally:
        del found.runs[own]
        if not found.runs:
            del _listening[loop]
            found.end()
