"""What commands that ask models share: the bar, MLflow at their end, and the command line as it is recorded."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cli import render
from tracker.errors import BudgetReached, Error, Interrupted, StorageError
from tracker.paths import Workspace

if TYPE_CHECKING:
    from pipeline.engine.asking import Display, Progress

_WORDS = {
    "accepted": "accepted", "rejected": "rejected", "undecided": "rephrased", "tested": "tested",
    "answered": "answered", "graded": "graded", "ungraded": "not graded",
}  # fmt: skip
_LASTS_S = 5.0
"""A command that takes longer loads MLflow meanwhile; a shorter one is not slowed down by it."""
_BAR = "{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{rate_fmt}, {remaining} left{postfix}]"


@contextmanager
def progress_bar(name: str, unit: str = "rec") -> Iterator[Display]:
    """A progress bar on a terminal, from the first item on; elsewhere only the word that an interrupt was heard."""
    if not render.is_terminal():
        yield _heard(render.note)
        return
    from tqdm import tqdm

    bar: tqdm[Any] | None = None
    heard = _heard(lambda text: tqdm.write(text, file=sys.stderr))

    def display(progress: Progress) -> None:
        nonlocal bar
        if bar is not None and bar.total != progress.total:
            # The next step of a two_stage experiment.
            bar.close()
            bar = None
        if bar is None:
            bar = tqdm(
                total=progress.total, initial=progress.before, desc=name, unit=unit, mininterval=0.2, file=sys.stderr,
                leave=False, dynamic_ncols=True, bar_format=_BAR,
            )  # fmt: skip
        heard(progress)
        bar.n = progress.done
        bar.set_postfix_str(_postfix(progress), refresh=False)
        bar.refresh()

    try:
        yield display
    finally:
        if bar is not None:
            bar.close()


def _heard(write: Callable[[str], None]) -> Display:
    told = False

    def display(progress: Progress) -> None:
        nonlocal told
        if progress.interrupted and not told:
            told = True
            flying = render.counted(progress.counters.in_flight, "request")
            write(f"Finishing {flying} in flight; Ctrl-C again stops at once.")

    return display


def _postfix(progress: Progress) -> str:
    """What matters most first: a narrow terminal cuts the end."""
    counters = progress.counters
    parts = ["cost unknown"] if counters.unpriced else []
    if counters.cost_usd is not None and not counters.unpriced:
        made = progress.done - progress.before
        whole = counters.cost_usd / made * (progress.total - progress.before) if made else None
        parts.append(render.usd(counters.cost_usd) + (f" of about {render.usd(whole)}" if whole is not None else ""))
    counts = progress.statuses
    others = [status for status in ("undecided", "tested", "answered", "graded", "ungraded") if counts[status]]
    shown = others or ["accepted", "rejected"]
    parts.append(", ".join(f"{counts[status]} {_WORDS[status]}" for status in shown if counts[status]) or "0 done")
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    parts.append(f"{counters.prompt_tokens + counters.completion_tokens:,} tokens")
    return ", ".join(parts)


class HasPath(Protocol):
    """A job that knows its config."""

    @property
    def path(self) -> str: ...


JobT = TypeVar("JobT", bound=HasPath)


def in_turn(
    jobs: Sequence[JobT],
    make: Callable[[JobT], tuple[dict[str, Any], Error | None]],
    there: Callable[[JobT, str], Mapping[str, Any]],
    *,
    as_json: bool,
) -> list[Error]:
    """Makes one job after the other; what is wrong with one of them does not keep the others from being made.

    ``make`` gives what ``--json`` shows, and what is wrong with a result that is there; ``there`` what it shows of a
    job that was interrupted or failed. What is wrong with any but the first is said here; all of it is returned.
    Raises what would meet the other jobs too.
    """
    failures: list[Error] = []
    found = []
    try:
        for job in jobs:
            try:
                made, failure = make(job)
            except (Error, KeyboardInterrupt) as error:
                failure = error if isinstance(error, Error) else Interrupted("Interrupted.")
                made = _ended(job, failure, there) if as_json else {}
                if not isinstance(error, Error) or isinstance(error, (Interrupted, BudgetReached, StorageError)):
                    found.append(made)
                    raise
            found.append(made)
            failures += [] if failure is None else [failure]
    finally:
        # What was made before an error is still made.
        if as_json:
            render.show_json(found)
    for failure in failures[1:]:
        render.note(f"⚠️  {failure}")
    return failures


def _ended(job: JobT, error: Error, there: Callable[[JobT, str], Mapping[str, Any]]) -> dict[str, Any]:
    outcome = "interrupted" if isinstance(error, (Interrupted, BudgetReached)) else "failed"
    found: Mapping[str, Any] = {}
    # Where the record cannot be read, that is what the error says already.
    with suppress(Error):
        found = there(job, outcome)
    return {"config": job.path, "outcome": outcome, "error": error.message, "exit_code": error.exit_code, **found}


def usage(run: Mapping[str, Any]) -> list[str]:
    """What a run asked and what that took, in two lines."""
    estimated = " (estimated)" if run["tokens_estimated"] else ""
    calls = f"{run['n_calls']:,} sent, {run['n_cached']:,} answered from the ledger, {run['n_retried']:,} retried"
    tokens = f"{run['prompt_tokens']:,} prompt + {run['completion_tokens']:,} completion{estimated}"
    return [
        f"   Calls: {calls}, {run['n_rate_limited']:,} rate-limited",
        f"   Tokens: {tokens}; cost: {render.usd(run['cost_usd'])}; {run['duration_s']:.1f} s",
    ]


@contextmanager
def logged_to_mlflow(workspace: Workspace, *, leave: bool, waits: bool = False) -> Iterator[None]:
    """At its end MLflow is brought up to date, however it ends; not with ``leave``.

    ``waits``: what is done meanwhile mostly waits, for answers or for workers, so that MLflow, which takes seconds, can
    be loaded then.
    """
    if leave:
        yield
        return
    loading = threading.Timer(_LASTS_S, _get_ready, [workspace])
    loading.daemon = True
    if waits:
        loading.start()
    try:
        yield
    finally:
        loading.cancel()
        log_to_mlflow(workspace)


def _get_ready(workspace: Workspace) -> None:
    from tracker.mlflow_runs.mlflow_store import get_ready

    # What fails here fails again where it is needed, and is said there.
    with suppress(Exception):
        get_ready(workspace)


def log_to_mlflow(workspace: Workspace) -> None:
    """Brings MLflow up to date at the end of a command; where that fails the command has not."""
    from pipeline.generation.job import has_record
    from tracker.mlflow_runs.mlflow_log import drain
    from tracker.record.catalogue import reading
    from tracker.record.outbox import pending

    if not has_record(workspace):
        return
    with reading(workspace) as reader:
        if not pending(reader):
            return
    if render.is_terminal():
        # It takes seconds, most of them the first time in a workspace, and all was said to be done.
        render.note("Logging to MLflow ...")
    is_failing = sys.exc_info()[0] is not None
    try:
        drained = drain(workspace)
    except KeyboardInterrupt:
        what = "Interrupted while logging to MLflow; what was made is made, and in the record."
        hint = "The next command logs it, or `synthtrack mlflow sync`."
        if not is_failing:
            raise Interrupted(what, hint=hint) from None
        # What kept it from being made is to be said, and is on its way.
        render.note(f"{what} {hint}")
        return
    except Error as error:
        # What was made is made, and what kept it from being made is to be said first.
        render.note(f"⚠️  MLflow: {error.message} `synthtrack mlflow sync` tries again.")
        return
    if drained.failed:
        runs = render.counted(drained.failed, "run")
        render.note(f"⚠️  MLflow: {runs} not logged yet; `synthtrack mlflow sync` tries again.")


def command_line() -> str:
    """The command line as typed, without the value of a key and without what is no text."""
    typed = [os.fsencode(word).decode("utf-8", "replace") for word in sys.argv[1:]]
    words = [
        f"{word.partition('=')[0]}=***" if "api_key" in word.replace("api_key_env", "") else word for word in typed
    ]
    return shlex.join(["synthtrack", *words])
