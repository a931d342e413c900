"""Moves work between machines: what belongs to some names into one archive, and such an archive into the record.

Rows go in within one transaction; result directories are written beside their places before it and renamed after it,
so that the same command finishes what was killed in between.
"""

# ruff: noqa: S608  what is put into a text here are whole numbers; values are parameters

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tracker import clock
from tracker.archives import archive
from tracker.archives.archive import Archive
from tracker.archives.archive_check import RESULTS, Limits
from tracker.archives.bundle import Bundle, gather, insert
from tracker.archives.bundle_insert import Inserted
from tracker.archives.exchange_check import check_content
from tracker.archives.exchange_places import Places
from tracker.durable import clear_leftovers, place_beside, removed_on_error, sync_path
from tracker.errors import Conflict, DataError, Problem, StorageError, UnknownReference
from tracker.fingerprint import Json
from tracker.listings import agent_references, pool_listings, references
from tracker.paths import Workspace, name_problem
from tracker.record.catalogue import Reader
from tracker.record.database import Database, open_database
from tracker.record.ledger import count_once
from tracker.schema import table
from tracker.views.tree import explained

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHECKPOINT, MODEL = "checkpoint", "model"
LEFT_OUT = "LEFT_OUT.txt"

_LEFT_OUT = (
    "The weights were left out when this run was exported; `synthtrack export --with-models` takes them along.\n"
)
_CHUNK = 500
_TEXT_LIMIT = 64 << 20
_PLACES = ("publication",)
"""Tables that name places outside of the workspace."""
_HERE = {"batch": "name", "shared_experiment": "dataset || '/' || name", "agent_dataset": "name", "task_pool": "name"}


@dataclass(frozen=True)
class Exported:
    """What an archive holds: rows by table, result files, those left out and why, its bytes.

    ``others`` are batches that nobody asked for: an experiment that was asked for is in them, or was made there.
    """

    rows: Mapping[str, int]
    n_files: int
    n_bytes: int
    left_out: Sequence[tuple[str, str]]
    others: Sequence[str] = ()


@dataclass
class Taken:
    """What became of an archive: rows by table, new and known, things called otherwise, result directories written.

    ``ids`` are the ids here of its experiments, agent data sets and pools, by table; ``others`` those of its batches,
    as they are called there, that nobody asked the export for.
    """

    new: dict[str, int]
    known: dict[str, int]
    renamed: list[tuple[str, str, str]]
    unlinked: dict[str, int]
    directories: list[str] = field(default_factory=list)
    ids: dict[str, list[int]] = field(default_factory=dict)
    about: Mapping[str, Json] = field(default_factory=dict)
    others: Sequence[str] = ()


def export(
    workspace: Workspace,
    reader: Reader,
    refs: Sequence[str],
    path: Path,
    *,
    results: bool = True,
    models: bool = False,
    overwrite: bool = False,
    has_key: Callable[[str], bool] = lambda _: False,
) -> Exported:
    """Writes what belongs to ``refs`` (batches, experiments, agent data sets, pools) into an archive at ``path``.

    Text files for which ``has_key`` is true of are left out. Raises UnknownReference, Conflict where something is at
    ``path`` without ``overwrite``, StorageError.
    """
    if os.path.lexists(path) and (not overwrite or not path.is_file()):
        raise Conflict(f"{path} is there already.", hint="--overwrite replaces a file; or name another one.")
    roots, what = _roots(reader, workspace, refs, results=results)
    bundle = gather(reader, roots, leave={*_PLACES, *(() if results else ("training_run", "training_sweep"))})
    files: list[tuple[str, Path]] = []
    left_out: list[tuple[str, str]] = []
    for run_id, directory, is_begun in _runs(reader, roots["training_run"]):
        if is_begun and not (workspace.root / directory).is_dir():
            left_out.append((directory, "it is not there any more: only what the record has of it is exported"))
        for name, found, problem in _files(workspace.root / directory, models=models, has_key=has_key):
            if problem is None:
                files.append((f"{RESULTS}{run_id}/{name}", found))
            else:
                left_out.append((f"{directory}/{name}", problem))
    about = {"kind": "export", "what": what, "places": Places.of(workspace).to_json(), "models": models}
    clear_leftovers(path.parent)
    beside = place_beside(path.parent)
    with explained(workspace), removed_on_error(beside):
        archive.write(beside, bundle, about, files)
        beside.replace(path)
        sync_path(path.parent)
    return Exported(dict(bundle.counts), len(files), path.stat().st_size, left_out, _others(bundle, what))


def take(
    workspace: Workspace, path: Path, *, command: str, dry_run: bool = False, limits: Limits | None = None
) -> Taken:
    """Puts what the archive at ``path`` holds into the record, and its result directories below ``results_dir``.

    What is here already is left as it is. With ``dry_run`` nothing is written. Raises DataError and SchemaError for an
    archive that is refused, Conflict and Corrupt where it says otherwise than the record, StorageError.
    """
    with archive.opened(path, limits) as found:
        if any(found.bundle.counts.get(name) for name in _PLACES):
            what = [Problem(name, "is of one machine: no export holds it") for name in _PLACES]
            raise DataError("The archive is refused.", what, hint="Nothing was taken from it.")
        if dry_run and workspace.database_url is None and not workspace.database.exists():
            others = _others(found.bundle, found.about.get("what"))
            return Taken(dict(found.bundle.counts), {}, [], {}, about=found.about, others=others)
        with open_database(workspace) as database:
            if dry_run:
                return _rehearsed(workspace, database, found)
            clear_leftovers(workspace.results_dir)
            beside = place_beside(workspace.results_dir)
            with explained(workspace), _empty_again(workspace.results_dir), removed_on_error(beside):
                staged = _staged(workspace, database, found, beside)
                taken = _put(workspace, database, found, origin=str(path.resolve()), command=command)
                taken.directories = _placed(workspace, database, staged)
                shutil.rmtree(beside, ignore_errors=True)
            return taken


def _roots(
    reader: Reader, workspace: Workspace, refs: Sequence[str], *, results: bool
) -> tuple[dict[str, list[int]], list[str]]:
    roots: dict[str, list[int]] = {name: [] for name in (*_HERE, "training_run")}
    for ref in refs:
        name, row_id = _find(reader, workspace, ref)
        roots[name].append(row_id)
        if name == "batch":
            rows = reader.rows(
                "SELECT shared_experiment_id AS id FROM batch_membership WHERE batch_id = :id", id=row_id
            )
            roots["shared_experiment"] += [row["id"] for row in rows]
    for ids in _blocks(sorted(set(roots["shared_experiment"])) if results else []):
        sql = f"SELECT DISTINCT training_run_id AS id FROM training_data WHERE shared_experiment_id IN ({ids})"
        roots["training_run"] += [row["id"] for row in reader.rows(sql)]
    what = [
        f"{name} {row['name']}"
        for name, shown in _HERE.items()
        for ids in _blocks(sorted(set(roots[name])))
        for row in reader.rows(f"SELECT {shown} AS name FROM {name} WHERE id IN ({ids}) ORDER BY 1")
    ]
    return roots, what


def _find(reader: Reader, workspace: Workspace, ref: str) -> tuple[str, int]:
    """The table and id that ``ref`` names. Raises UnknownReference."""
    finders: Mapping[str, Callable[[], int]] = {
        "batch": lambda: int(references.batch(reader, ref)["id"]),
        "shared_experiment": lambda: references.find(reader, workspace, ref).id,
        "agent_dataset": lambda: agent_references.find(reader, workspace, ref),
        "task_pool": lambda: pool_listings.find(reader, workspace, ref),
    }
    hints: dict[str, None] = {}
    for name, find in finders.items():
        # A path through a batch leads to an experiment; its last part alone may be a batch's name.
        if name == "batch" and "/" in ref.rstrip("/") and len(PurePosixPath(ref.rstrip("/")).parts) > 1:
            continue
        try:
            return name, find()
        except UnknownReference as error:
            hints |= dict.fromkeys((error.hint or "").splitlines())
    raise UnknownReference("batch, experiment, agent data set or pool", ref, hint="\n".join(hints))


def _runs(reader: Reader, ids: Iterable[int]) -> Iterator[tuple[str, str, bool]]:
    for chunk in _blocks(sorted(set(ids))):
        for row in reader.rows(f"SELECT uuid, directory, status FROM training_run WHERE id IN ({chunk}) ORDER BY id"):
            yield row["uuid"], row["directory"], row["status"] != "pending"


def _files(directory: Path, *, models: bool, has_key: Callable[[str], bool]) -> Iterator[tuple[str, Path, str | None]]:
    """The files of a result directory: the name below it, where it is, and why it is left out where it is."""
    for top, directories, names in os.walk(directory):
        own = Path(top).relative_to(directory)
        skipped = {CHECKPOINT} if models else {CHECKPOINT, MODEL}
        directories[:] = sorted(each for each in directories if str(own) != "." or each not in skipped)
        for each in sorted(names):
            path, name = Path(top) / each, str(own / each)
            yield name, path, _why_not(path, name, has_key)


def _why_not(path: Path, name: str, has_key: Callable[[str], bool]) -> str | None:
    if path.is_symlink() or not path.is_file():
        return "no file of its own"
    problem = next(filter(None, map(name_problem, name.split("/"))), None)
    if problem is not None:
        return problem
    if name.startswith(f"{MODEL}/") or path.stat().st_size > _TEXT_LIMIT:
        return None
    if has_key(path.read_bytes().decode("utf-8", "replace")):
        return "it holds an API key"
    return None


def _rehearsed(workspace: Workspace, database: Database, found: Archive) -> Taken:
    with database.writing() as connection:
        taken = _taken(_inserted(workspace, database, connection, found), found)
        connection.rollback()
    return taken


def _put(workspace: Workspace, database: Database, found: Archive, *, origin: str, command: str) -> Taken:
    with database.writing() as connection:
        started = clock.to_text(clock.now())
        taken = _taken(_inserted(workspace, database, connection, found), found)
        # What changed nothing is nothing that was brought in.
        if taken.new:
            row = {
                "uuid": uuid.uuid4().hex, "kind": "archive", "origin": origin, "started_at": started,
                "finished_at": clock.to_text(clock.now()), "n_taken": sum(taken.new.values()),
                "n_skipped": sum(taken.known.values()), "n_wrong": 0, "host": clock.host(), "command": command,
                "report": json.dumps([{"kind": name, "outcome": "taken", "n": n} for name, n in taken.new.items()]),
            }  # fmt: skip
            connection.execute(table("import_run").insert().values(**row))
    return taken


def _inserted(workspace: Workspace, database: Database, connection: Connection, found: Archive) -> Inserted:
    places = Places.of_archive(found.about, workspace)
    done = insert(database, connection, found.bundle, places.adapt)
    count_once(connection, done.regained)
    check_content(database.reader_on(connection), done.made)
    return done


def _taken(done: Inserted, found: Archive) -> Taken:
    ids = {
        name: sorted(done.ids.get(name, {}).values()) for name in ("shared_experiment", "agent_dataset", "task_pool")
    }
    unlinked = {name: number for name, number in done.unlinked.items() if number}
    others = _others(found.bundle, found.about.get("what"))
    return Taken(dict(done.new), dict(done.known), done.renamed, unlinked, ids=ids, about=found.about, others=others)


def _others(bundle: Bundle, what: Json) -> list[str]:
    """The names of its batches that are not in ``what`` was asked for."""
    asked = what if isinstance(what, list) else []
    return sorted(row["name"] for row in bundle.read("batch") if f"batch {row['name']}" not in asked)


def _staged(workspace: Workspace, database: Database, found: Archive, beside: Path) -> dict[str, Path]:
    """The result directories that are not here yet, unpacked to ``beside``, by the uuid of their run."""
    names: dict[str, list[str]] = {}
    for name in found.files:
        names.setdefault(name.split("/")[1], []).append(name)
    there = _directories(database, names)
    staged: dict[str, Path] = {}
    for run, files in sorted(names.items()):
        if run in there and os.path.lexists(workspace.root / there[run]):
            continue
        staged[run] = beside / run
        for name in files:
            target = beside.joinpath(*name.split("/")[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with found.open(name) as source, target.open("xb") as out:
                shutil.copyfileobj(source, out)
                out.flush()
                os.fsync(out.fileno())
        if not (beside / run / MODEL).exists():
            (beside / run / MODEL).mkdir()
            (beside / run / MODEL / LEFT_OUT).write_text(_LEFT_OUT, encoding="utf-8")
    return staged


def _placed(workspace: Workspace, database: Database, staged: Mapping[str, Path]) -> list[str]:
    placed = []
    for run, directory in _directories(database, staged).items():
        target = workspace.root / directory
        if not target.is_relative_to(workspace.results_dir):
            raise StorageError(f"{directory} is not below {workspace.results_dir}.", hint="Its files were not written.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(target):
            staged[run].rename(target)
            sync_path(target.parent)
            placed.append(directory)
    return placed


@contextlib.contextmanager
def _empty_again(directory: Path) -> Iterator[None]:
    """Removes ``directory`` at the end where it was not there before and nothing is in it."""
    was_there = directory.exists()
    try:
        yield
    finally:
        if not was_there:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _directories(database: Database, runs: Iterable[str]) -> dict[str, str]:
    of, found = table("training_run"), {}
    with database.reading() as connection:
        for run in sorted(runs):
            query = of.select().with_only_columns(of.c.directory).where(of.c.uuid == run)
            directory = connection.execute(query).scalar()
            if directory is not None:
                found[run] = str(directory)
    return found


def _blocks(ids: Sequence[int]) -> Iterator[str]:
    return (", ".join(map(str, ids[start : start + _CHUNK])) for start in range(0, len(ids), _CHUNK))
