"""The monitor of a real run: what happens goes into the record twice a second, and from there comes a wish to stop."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

from tracker import clock
from tracker.clock import Process
from tracker.errors import Error, StorageError
from tracker.record import training
from tracker.record.database import Database
from tracker.record.training import Measured

if TYPE_CHECKING:
    from pipeline.training.evaluate import Evaluation

BEAT_S = 0.5
POINTS = 1000
"""Most points of a curve: more than a picture shows, less than what slows MLflow down."""
PATIENCE_S = 600.0
"""How long the record may be locked before a worker gives up: what it has found took hours, perhaps."""
FULL_PATIENCE_S = 30.0
"""How long its disk may be full: nobody frees a disk by itself, and the run goes on from its checkpoint afterwards."""
_SAID_EVERY_S = 5.0
_KEPT_TIMES = 1000

_T = TypeVar("_T")


def patiently(write: Callable[[], _T], *, after: BaseException | None = None) -> _T:
    """What ``write`` gives, tried again until the record takes it.

    Raises StorageError after ``PATIENCE_S``, after ``FULL_PATIENCE_S`` where the disk is full, and at once where it is
    and ``after``, what went wrong before, is a StorageError as well: that was waited for.
    """
    began = clock.monotonic()
    while True:
        try:
            return write()
        except StorageError as error:
            full_patience_s = 0.0 if isinstance(after, StorageError) else FULL_PATIENCE_S
            if clock.monotonic() - began >= (full_patience_s if error.is_full else PATIENCE_S):
                raise
        time.sleep(BEAT_S)


class RecordMonitor:
    """Sends metrics and a heartbeat to the record from a thread of its own; a context manager.

    Of many steps it records the mean of as many as make at most ``POINTS`` points. ``say`` gets a line now and then.
    """

    def __init__(
        self, database: Database, run_id: int, steps: int, *, peak_memory: Callable[[], int], say: Callable[[str], None]
    ) -> None:
        self._database, self._run_id, self._steps = database, run_id, steps
        self._peak_memory, self.say = peak_memory, say
        self._process: Process = clock.this_process()
        self._interval = max(1, -(-steps // POINTS))
        self._lock = threading.Lock()
        self._measured = Measured()
        self._window: list[tuple[float, float]] = []
        self._timed: list[tuple[float, float]] = []
        self._times: list[tuple[float, float]] = []
        self._last: float | None = None
        self._said = clock.monotonic()
        self._stop, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, daemon=True, name="heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Error):
            patiently(self._send, after=error)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """See ``pipeline.training.setup.Monitor``."""
        now = clock.monotonic()
        took = None if self._last is None else now - self._last
        self._last = now
        loss, tokens = metrics["train/loss"], metrics.get("train/tokens", 0.0)
        self._window.append((loss, metrics["train/learning_rate"]))
        # What a process does before its first step (a replay, warming up) is no part of the step's time.
        if took is not None:
            self._times = [*self._times[-_KEPT_TIMES:], (took, tokens)]
            self._timed.append((took, tokens))
        with self._lock:
            self._measured.columns |= {"step": step, "train_loss": loss}
            if step % self._interval == 0 or step == self._steps:
                self._measured.metrics += self._points(step)
        if now - self._said > _SAID_EVERY_S or step == self._steps:
            self._said = now
            self.say(f"step {step}/{self._steps}  loss {loss:.4f}  {1000 * (took or 0):.0f} ms")

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        """See ``pipeline.training.setup.Monitor``."""
        with self._lock:
            self._measured.metrics += [("dev/loss", step, evaluation.loss), ("dev/accuracy", step, evaluation.accuracy)]
        self.say(f"step {step}/{self._steps}  dev loss {evaluation.loss:.4f}  dev accuracy {evaluation.accuracy:.4f}")
        # An evaluation is no part of the next step's time.
        if self._last is not None:
            self._last = clock.monotonic()

    def stopping(self) -> bool:
        """Whether a signal came, or the record says so."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Asks the loop to save a checkpoint and end."""
        self._stop.set()

    def flush(self) -> None:
        """Writes what was measured so far. Raises StorageError, as ``patiently`` does."""
        patiently(self._send)

    def speed(self) -> dict[str, float]:
        """Median seconds of a step and tokens a second, of this process's last steps; empty before the second."""
        if not self._times:
            return {}
        seconds = sum(took for took, _ in self._times)
        found = {"step_time_s": statistics.median(took for took, _ in self._times)}
        tokens = sum(tokens for _, tokens in self._times)
        return found | ({"tokens_per_s": tokens / seconds} if tokens and seconds else {})

    def _points(self, step: int) -> list[tuple[str, int, float]]:
        window, self._window, timed, self._timed = self._window, [], self._timed, []
        found = [
            ("train/loss", step, statistics.fmean(loss for loss, _ in window)),
            ("train/learning_rate", step, statistics.fmean(rate for _, rate in window)),
            ("memory/peak_bytes", step, float(self._peak_memory())),
        ]
        seconds, tokens = sum(took for took, _ in timed), sum(tokens for _, tokens in timed)
        found += [("train/step_time_s", step, seconds / len(timed))] if timed else []
        return found + ([("train/tokens_per_s", step, tokens / seconds)] if tokens and seconds else [])

    def _beat_until_ended(self) -> None:
        while not self._ended.wait(BEAT_S):
            # A database that is locked or full for a while is no reason to lose hours of work: said again next time.
            with contextlib.suppress(Error):
                self._send()

    def _send(self) -> None:
        with self._lock:
            measured, self._measured = self._measured, Measured()
        try:
            if training.beat(self._database, self._run_id, self._process, measured):
                self._stop.set()
        except Error:
            with self._lock:
                self._measured.metrics = measured.metrics + self._measured.metrics
                self._measured.columns = measured.columns | self._measured.columns
            raise
