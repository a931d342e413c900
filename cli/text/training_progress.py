"""What a waiting `train` shows: a bar over all steps of the sweep on a terminal, elsewhere a line for each run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli import render
from pipeline.training.news import news
from tracker.record.catalogue import Row
from tracker.record.sweeps import point

if TYPE_CHECKING:
    from tqdm import tqdm

    from pipeline.training.sweep import Progress

Display = Callable[["Progress"], None]
_BAR = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{rate_fmt}, {remaining} left{postfix}]"


@contextmanager
def training_progress() -> Iterator[Display]:
    """A display for ``pipeline.training.sweep.work``; on a terminal a bar, and lines for runs that ended."""
    shown = _Shown(render.is_terminal())
    try:
        yield shown.show
    finally:
        with contextlib.suppress(OSError):
            shown.close()


class _Shown:
    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._before: Sequence[Row] | None = None
        self._is_heard = False
        self._bar: tqdm[Any] | None = None

    def show(self, progress: Progress) -> None:
        # A terminal that was closed is no reason to stop a training that can be resumed.
        with contextlib.suppress(OSError):
            self._tell(progress)
        self._before = progress.runs

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _tell(self, progress: Progress) -> None:
        running = [run for run in progress.runs if run["status"] == "running"]
        for line in news(self._before, progress.runs):
            if not self._is_terminal or not line.startswith("🔧"):
                self._write(line)
        if progress.n_interrupts and not self._is_heard:
            self._is_heard = True
            saving = f"Saving {render.counted(len(running), 'checkpoint')}" if running else "Stopping"
            self._write(f"{saving}; Ctrl-C again stops at once.")
        if self._is_terminal:
            self._draw(progress.runs, running)

    def _write(self, line: str) -> None:
        if self._bar is None:
            render.note(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def _draw(self, runs: Sequence[Row], running: Sequence[Row]) -> None:
        done = sum(run["step"] for run in runs)
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=sum(run["steps"] for run in runs), initial=done, unit="step", mininterval=0.2, file=sys.stderr,
                leave=False, dynamic_ncols=True, bar_format=_BAR,
            )  # fmt: skip
        finished = sum(run["status"] in {"complete", "failed"} for run in runs)
        self._bar.n = done
        self._bar.set_description_str(f"run {min(finished + 1, len(runs))} of {len(runs)}", refresh=False)
        self._bar.set_postfix_str("; ".join(map(_postfix, running)), refresh=False)
        self._bar.refresh()


def _postfix(run: Row) -> str:
    parts = [f"{point(run)}: {run['step']:,}/{run['steps']:,}"]
    if run["train_loss"] is not None:
        parts.append(f"loss {run['train_loss']:.4g}")
    if run["dev_accuracy"] is not None:
        parts.append(f"dev {run['dev_accuracy']:.1%}")
    return ", ".join(parts)
