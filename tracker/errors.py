"""Every error that a user can meet, drawn as one tree.

    Error                      1
    |-- PartialResult          1   some records still fail; the rest is kept
    |-- ConfigError            3   the configuration is wrong: every problem at once
    |-- UnknownReference       4   no such batch, experiment, path ...: close matches
    |-- Conflict               5   somebody else is making this, or something else is in its place
    |-- Corrupt                6   the disk is not what the database says
    |-- SchemaError            7   the database is newer than this program, or none
    |-- ProviderError          8   the LLM endpoint refused or cannot be reached
    |   `-- MissingKey         9   no API key
    |-- BudgetReached          10  the next request could exceed --max-cost
    |-- StorageError           11  full disk, read-only directory, locked database
    |-- DataError              12  the input data is wrong: every problem at once
    |-- Unsupported            13  this system, or this terminal, cannot do it
    |-- WrongStep              14  the experiment is not at the step that this belongs to
    |-- JudgeFailed            15  the judge agrees too little with the people
    |-- TrainingFailed         16  a training run failed; its row says why
    |   `-- Diverged           17  its loss or its scores are not finite
    |-- QueryError             18  the SQL is wrong, would write, or takes too long
    `-- Interrupted            130 Ctrl-C; the same command resumes

The number is the process's exit code. A message says what is wrong, where, and what to do next.
Only ``cli/main.py`` turns an Error into an exit code; anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Error(Exception):
    """A problem the user can act on: ``message`` says what and where, ``hint`` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class PartialResult(Error):
    """Some records still fail after their retries; everything else is kept."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a file: where it stands and what it is."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class _Problems(Error):
    def __init__(self, title: str, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        super().__init__("\n".join([title, *(f"  {problem}" for problem in problems)]), hint=hint)
        self.problems = tuple(problems)


class ConfigError(_Problems):
    """The configuration is wrong; ``problems`` holds every problem, with file and line."""

    exit_code = 3


class UnknownReference(Error):
    """Nothing of that name exists; close matches are offered."""

    exit_code = 4

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), *, hint: str | None = None) -> None:
        from difflib import get_close_matches

        matches = get_close_matches(name, list(known), n=3, cutoff=0.5)
        did_you_mean = f"Did you mean {' or '.join(matches)}?" if matches else None
        lines = [line for line in (did_you_mean, hint) if line]
        super().__init__(f"No {kind} {name!r}.", hint="\n".join(lines) or None)
        self.matches = tuple(matches)


class Conflict(Error):
    """Another process is making this right now, or something that is not ours stands in its place."""

    exit_code = 5


class Corrupt(Error):
    """The disk, or a row, is not what the database says."""

    exit_code = 6


class SchemaError(Error):
    """The database cannot be used by this version of synthtrack."""

    exit_code = 7


class ProviderError(Error):
    """The LLM endpoint refused the requests or cannot be reached."""

    exit_code = 8


class MissingKey(ProviderError):
    """No API key was found for a provider that needs one."""

    exit_code = 9


class BudgetReached(Error):
    """The next request could exceed the cost cap."""

    exit_code = 10


class StorageError(Error):
    """Something could not be written or read: full disk, read-only directory, locked database."""

    exit_code = 11

    def __init__(self, message: str, *, hint: str | None = None, is_full: bool = False) -> None:
        super().__init__(message, hint=hint)
        # For want of room, which seldom comes back by itself; a lock does.
        self.is_full = is_full


class DataError(_Problems):
    """The input data is wrong; ``problems`` holds what was found, with file and line."""

    exit_code = 12


class Unsupported(Error):
    """This system, or this terminal, cannot do what was asked."""

    exit_code = 13


class WrongStep(Error):
    """The experiment is not at the step that this belongs to: not there yet, past it, or without such steps."""

    exit_code = 14


class JudgeFailed(Error):
    """The judge agrees with the people less than the configuration requires."""

    exit_code = 15


class TrainingFailed(Error):
    """A training run failed: out of memory, a loss that is not finite, a model that cannot be loaded."""

    exit_code = 16


class Diverged(TrainingFailed):
    """A loss or a score is not finite: the same settings would fail again."""

    exit_code = 17


class QueryError(Error):
    """SQL that cannot be answered: it is wrong, would write, or takes too much time or memory."""

    exit_code = 18


class Interrupted(Error):
    """Stopped by Ctrl-C after finishing what was in flight, or by a no before anything was changed."""

    exit_code = 130


def reason(recorded: str) -> str:
    """The line of a recorded error that says what went wrong: after an Error's message comes what to do about it."""
    lines = recorded.strip().splitlines() or ["no reason was recorded"]
    # Of a long traceback only the end may have been recorded.
    is_traceback = any(line.lstrip().startswith(("Traceback (", 'File "')) for line in lines)
    return lines[-1 if is_traceback or lines[-1].startswith("Its process") else 0]
