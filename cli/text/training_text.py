"""Trainings under way, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cli.render import counted, harmless, moment, table
from cli.text.result_words import known, progress, told
from cli.text.train_text import duration, shown
from tracker.errors import reason
from tracker.record.catalogue import Row
from tracker.record.sweeps import holder_of, is_unfinished, point

_ALWAYS = ("learning_rate", "seed")


def statuses(sweeps: Sequence[Row], logs: Sequence[str | None]) -> Iterator[str]:
    """Each sweep with its runs; ``logs`` are those of supervisors in the background."""
    if not sweeps:
        yield "💾 Nothing is trained, and nothing was. `synthtrack train CONFIG` begins."
    for number, (sweep, log) in enumerate(zip(sweeps, logs, strict=True)):
        yield from ([] if number == 0 else [""])
        yield from _sweep(sweep, log)


def run_details(run: Row, files: Sequence[str]) -> Iterator[str]:
    """What the table of a sweep has no room for."""
    yield f"   Results: {run['directory']}"
    yield from (f"   Output:  {file}" for file in files)
    yield f"   Run:     {run['uuid']}, fingerprint {run['fingerprint']}, attempt {run['attempt']}"
    if run["n_resumed"]:
        yield f"   Resumed: {counted(run['n_resumed'], 'time')}"


def ended(run: Row) -> str:
    """Where a run that was asked to stop is now."""
    at = f"{run['status']} at {progress(run)}"
    return f"💾 {point(run)}: {at} ({run['directory']})"


def _sweep(sweep: Row, log: str | None) -> Iterator[str]:
    runs = sweep["runs"]
    done = sum(run["status"] == "complete" for run in runs)
    yield f"🔧 Sweep {sweep['uuid'][:8]} [{sweep['status']}]: {sweep['task']}, {sweep['method']}, {sweep['model']}"
    yield f"   Purpose: {sweep['purpose']}; {done} of {counted(len(runs), 'run')} complete"
    yield f"   Began:   {moment(sweep['started_at'])} UTC{_supervisor(sweep)}"
    if log is not None:
        yield f"   Log:     {log}"
    if sweep["error"]:
        yield f"   ⚠️  {_reason(sweep['error'])}"
    yield from (f"   {line}" for line in _table(sweep).splitlines())
    for run in runs:
        if run["error"] and run["status"] != "complete":
            yield f"   ⚠️  {point(run)}: {_reason(run['error'])}"
    if sweep["status"] != "running" and is_unfinished(sweep):
        if any(run["status"] == "running" for run in runs):
            yield "   ⚠️  Its supervisor is gone; what runs goes on, and nothing else begins."
        yield f"   `synthtrack training resume {sweep['uuid'][:8]}` goes on with it."


def _supervisor(sweep: Row) -> str:
    where = " in the background" if sweep["background"] else ""
    return f", supervised by {holder_of(sweep)}{where}" if sweep["status"] == "running" else ""


def _table(sweep: Row) -> str:
    varied = [name for name in sweep["varied"] if name not in _ALWAYS]
    titles = (
        "run",
        "lr",
        "seed",
        *varied,
        "status",
        "step",
        "loss",
        "dev",
        "accuracy",
        "steps/s",
        "left",
        "device",
        "PID",
    )
    return table(titles, [_row(run, varied) for run in sweep["runs"]])


def _row(run: Row, varied: Sequence[str]) -> list[str]:
    is_running = run["status"] == "running"
    left, pace = run["seconds_left"], run["step_time_s"]
    return [
        run["uuid"][:8],
        shown(run["learning_rate"]),
        told(run["seed"]),
        *(shown(run["settings"].get(f"hyperparameters.{name}")) for name in varied),
        _status(run),
        f"{run['step']:,}/{known(run['steps'])}",
        "-" if run["train_loss"] is None else f"{run['train_loss']:.4g}",
        _share(run["dev_accuracy"]),
        _share(run["accuracy"]),
        f"{1 / pace:.3g}" if is_running and pace else "-",
        duration(left) if is_running and left is not None else "-",
        run["device"] or "-",
        str(run["pid"]) if is_running else "-",
    ]


def _status(run: Row) -> str:
    return "stopping" if run["status"] == "running" and run["stop_requested"] else str(run["status"])


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _reason(text: str) -> str:
    return harmless(reason(text))
