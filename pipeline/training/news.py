"""What happened in a sweep since somebody last looked, in a line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracker.errors import reason
from tracker.record.catalogue import Row
from tracker.record.sweeps import point


def news(before: Sequence[Row] | None, now: Sequence[Row]) -> Iterator[str]:
    """A line for each run that began or ended between two looks; at the first, for those that run."""
    known = None if before is None else {run["id"]: run["status"] for run in before}
    for run in now:
        status = run["status"]
        if known is None and status != "running":
            continue
        if known is None or known.get(run["id"], "pending") != status:
            yield f"{_SYMBOLS.get(status, '💾')} {point(run)}: {_what(run)}"


UNTRAINED = "which is the untrained model's: no step lowered the loss on dev"
_SYMBOLS = {"running": "🔧", "complete": "✅", "failed": "⚠️ ", "interrupted": "⚠️ "}


def _what(run: Row) -> str:
    status, at = run["status"], f"step {run['step']:,} of {run['steps']:,}"
    if status == "running":
        goes_on = f", goes on from about {at}" if run["n_resumed"] else ""
        return f"training on {run['device']}{goes_on} ({run['directory']})"
    if status == "complete":
        done = "complete" if run["accuracy"] is None else f"complete, accuracy {run['accuracy']:.1%}"
        return f"{done}, {UNTRAINED}" if run["best_step"] == 0 else done
    why = "" if run["error"] is None else f": {reason(run['error'])}"
    return f"{status} at {at}{why}"
