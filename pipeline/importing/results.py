"""Takes the trainings of an older tree of results: each directory that holds one becomes a training run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.importing.old_run import Evaluations, Unusable, read_run
from pipeline.importing.report import Report, Resolve
from pipeline.importing.run_files import CONFIG
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace
from tracker.record import imported_runs
from tracker.record.catalogue import Reader, reading, sqlite_version
from tracker.record.database import Database
from tracker.record.imported_runs import ImportedRun, Known

RUN = "training run"
_STAMP = re.compile(r"\d{8}_?\d{6}(?:_\d+)?")
_LOG = re.compile(r"(?:.*_)?train\.(?:out|err)")
_COMMAND = "synthtrack import"


def take_results(  # noqa: PLR0917  its callers have one of each
    workspace: Workspace,
    database: Database | None,
    results: Path,
    resolve: Resolve,
    import_run_id: int | None,
    report: Report,
) -> None:
    """Makes training runs of the directories below ``results``; without a database it only says what it would take.

    ``resolve`` gives the data that a path in a config means. Runs that are in the record already stay as they are, but
    follow a tree that was moved, and have their data where it came into the record after them.
    Every run is reported. Raises Corrupt where a fingerprint stands for other settings.
    """
    found = _read_all(workspace, results, resolve, report)
    with _reading(workspace) as reader:
        known = {
            name: here for name, run in found.items()
            if reader is not None and (here := imported_runs.known_as(reader, workspace.root, run)) is not None
        }  # fmt: skip
    for name, here in known.items():
        _tell_known(name, here, report)
        if here.news is not None and database is not None:
            imported_runs.follow(database, here, found[name])
    new = {name: run for name, run in found.items() if name not in known}
    names = {run.directory: name for name, run in new.items()}
    groups: dict[tuple[str, ...], list[ImportedRun]] = {}
    for run in _each_once(new, report):
        groups.setdefault(run.group, []).append(run)
    for runs in groups.values():
        runs.sort(key=lambda run: (str(run.columns["started_at"] or ""), run.directory))
        if database is not None:
            taken = imported_runs.add(database, runs, import_run_id=import_run_id, command=_COMMAND)
        else:
            taken = runs
        for run in runs:
            if run in taken:
                report.taken(RUN, names[run.directory], _outcome(run))
            else:
                report.known(RUN, names[run.directory], "imported by another command meanwhile")


def _read_all(workspace: Workspace, results: Path, resolve: Resolve, report: Report) -> dict[str, ImportedRun]:
    """The runs by their directories' names in the report."""
    splits = Evaluations(workspace)
    found = {}
    for directory in _directories(results, report):
        shown = str(Path(results.name) / directory.relative_to(results))
        safe = os.fsencode(shown).decode("utf-8", "replace")
        if safe != shown:
            report.skipped(RUN, safe, "its name is not UTF-8")
            continue
        parts = directory.relative_to(results).parts
        try:
            found[shown] = read_run(directory, parts, resolve=resolve, splits=splits, wrong=_telling(report, shown))
        except Unusable as error:
            report.skipped(RUN, shown, str(error))
    return found


def _telling(report: Report, path: str) -> Callable[[str], None]:
    return lambda what: report.wrong(RUN, path, what)


def _directories(results: Path, report: Report) -> Iterator[Path]:
    """Each directory that holds a run, in the order of their names; no link is followed."""

    def unreadable(error: OSError) -> None:
        path = os.fsencode(str(error.filename)).decode("utf-8", "replace")
        report.skipped(RUN, path, f"cannot be read: {error.strerror}")

    for top, below, files in os.walk(results, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(top)
        if here != results and (
            CONFIG in files or _STAMP.fullmatch(here.name) or any(_LOG.fullmatch(name) for name in files)
        ):
            yield here
            # What lies deeper are checkpoints, unless runs share the directory.
            below[:] = [name for name in below if _STAMP.fullmatch(name)]


def _tell_known(name: str, here: Known, report: Report) -> None:
    if here.news is None:
        report.known(RUN, name, here.why)
    else:
        report.taken(RUN, name, here.news)


def _each_once(runs: Mapping[str, ImportedRun], report: Report) -> Iterator[ImportedRun]:
    """The runs without copies of one in the same tree."""
    seen: dict[tuple[str, str], str] = {}
    for name, run in runs.items():
        key = (run.identity.digest, repr(sorted(run.files.items())))
        if key in seen:
            report.skipped(RUN, name, f"a copy of {seen[key]}")
        else:
            seen[key] = name
            yield run


def _outcome(run: ImportedRun) -> str:
    """What became of a run, in words: ``complete, accuracy 77.0% of 100 records``."""
    columns = run.columns
    said = [str(columns["status"])]
    if columns["accuracy"] is not None:
        of = "" if columns["n_eval"] is None else f" of {columns['n_eval']:,} records"
        said.append(f"accuracy {columns['accuracy']:.1%}{of}")
    if columns["error"] is not None:
        said.append(str(columns["error"]).rpartition("\n")[2][:200])
    if all(row["train_digest"] == "" for row in run.data):
        said.append(f"its data {run.data[0]['path'] or 'has no path'} is not in the record")
    said += [row["warning"] for row in run.data[:1] if row["warning"]]
    return ", ".join(said)


@contextlib.contextmanager
def _reading(workspace: Workspace) -> Iterator[Reader | None]:
    """A reader, or None where there is no record yet or an older one, which a dry run must not make or change."""
    own = workspace.database_url is None
    if own and not (workspace.database.exists() and sqlite_version(workspace) == SCHEMA_VERSION):
        yield None
        return
    with reading(workspace) as reader:
        yield reader
