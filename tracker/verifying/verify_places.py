"""Looks at what lies outside of the record and belongs to it: data, results, publications, the trash, processes."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from tracker.deleting.trash_files import digest_of
from tracker.durable import is_leftover
from tracker.fingerprint import bytes_digest
from tracker.paths import TEMPORARY, Workspace
from tracker.publishing import publications
from tracker.publishing.publications import ARCHIVE, CHANGED, MISSING, UNREADABLE
from tracker.publishing.published_tree import digest_behind
from tracker.record.catalogue import Reader, Row
from tracker.record.findings import (
    DATA,
    DELETION,
    EXPERIMENT,
    IMPORTED,
    LEFTOVER,
    PUBLICATION,
    RESTORE,
    RESULTS,
    WHERE,
    WORK,
    Finding,
)
from tracker.record.imported import home_in_place
from tracker.record.sweeps import has_process
from tracker.record.work import CHECKPOINT, CHECKPOINT_KEPT, work

_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
PUBLISH, SETTLE, END_WORK, CLEAR, MOVE = "publish", "settle", "end work", "clear", "move"
"""Fixes: publish anew what is missing, finish a deletion, end what dead processes held, remove what they left, write
imported data that is changed, or gone, in its place into the tree of the view."""

_FILES = "SELECT path, digest, n_bytes FROM imported_file WHERE shared_experiment_id = :id ORDER BY path"
_CONTENT = "SELECT content FROM imported_file WHERE shared_experiment_id = :id AND path = :path"
_DELETIONS = """
    SELECT id, name, kind, archive, archive_digest, settled_at, restored_at, deleted_at FROM deletion
    WHERE emptied_at IS NULL AND (restored_at IS NULL OR settled_at IS NULL) ORDER BY id"""

_COMPLETE = """
    SELECT directory, host, pid, pid_started, heartbeat, finished_at FROM training_run
    WHERE status = 'complete' AND import_run_id IS NULL"""


def publication_findings(reader: Reader, workspace: Workspace) -> tuple[int, Iterator[Finding]]:
    """How many directories were published and not replaced since, and which are not as they were published."""
    rows = [row for row in publications.listing(reader, workspace).rows if row["replaced_by"] is None]
    return len(rows), (each for row in rows for each in _publication(workspace, row))


def _publication(workspace: Workspace, row: Row) -> Iterator[Finding]:
    state = publications.state(row)
    if state.what not in {CHANGED, MISSING, UNREADABLE}:
        return
    directory = Path(row["directory"])
    again = f"`synthtrack publish {row['experiment']} --target {workspace.relative(directory.parent)}"
    again += f" --dataset {row['dataset']}"
    again += " --symlink" if row["mode"] == publications.SYMLINK else ""
    only_missing = state.what == MISSING or (state.what == CHANGED and bool(state.missing) and not state.changed)
    if row["kind"] == ARCHIVE:
        remedy = "It is an archive, which is never replaced: put it back, or publish to another name with --archive."
    elif state.what == UNREADABLE:
        remedy = "Check its permissions."
    elif only_missing:
        remedy = f"{again}` puts it there again."
    else:
        remedy = f"If that was not meant: {again} --force` moves what is there aside and publishes again."
    fix = PUBLISH if only_missing and row["kind"] != ARCHIVE else ""
    yield Finding(PUBLICATION, str(state), workspace.relative(directory), remedy, fix, row["id"])


def imported_findings(reader: Reader, workspace: Workspace, experiment: Row) -> Iterator[Finding]:
    """Where the files of an imported experiment are not what their digests say, in the record or in their place.

    One file's content is in memory at a time.
    """
    where = WHERE[EXPERIMENT].format_map(experiment)
    for row in reader.rows(_FILES, id=experiment["id"]):
        content = reader.rows(_CONTENT, id=experiment["id"], path=row["path"])[0]["content"]
        try:
            data = zlib.decompress(content)
        except zlib.error as error:
            yield Finding(IMPORTED, f"{row['path']}: its stored content is damaged ({error})", where, RESTORE)
            continue
        if bytes_digest([data]) != row["digest"] or len(data) != row["n_bytes"]:
            what = f"{row['path']}: SHA-256 {row['digest'][:12]} is recorded, its content has another"
            yield Finding(IMPORTED, what, where, RESTORE)
        elif experiment["directory"] is not None:
            yield from _in_place(workspace, experiment, row)


def _in_place(workspace: Workspace, experiment: Row, row: Row) -> Iterator[Finding]:
    home = home_in_place(workspace, experiment)
    where = workspace.relative(home / row["path"])
    reference = f"{experiment['dataset']}/{experiment['name']}"
    kept = f"Its content is in the record: `synthtrack verify {reference} --fix` writes it into our own tree."
    try:
        found = digest_behind(home / row["path"])
    except OSError as error:
        yield Finding(IMPORTED, f"cannot be read: {error.strerror or error}", where, "Check its permissions.")
        return
    if found is None:
        yield Finding(
            IMPORTED,
            "missing where it was imported from",
            where,
            f"Put it back, or import it again where it is now. {kept}",
            MOVE,
            experiment["id"],
        )
    elif found != row["digest"]:
        remedy = f"Put the old one back. {kept}"
        yield Finding(IMPORTED, "changed since it was imported", where, remedy, MOVE, experiment["id"])


def deletion_findings(reader: Reader, workspace: Workspace) -> tuple[int, Iterator[Finding]]:
    """How many things are in the trash, and what is unfinished, or missing, of them."""
    rows = reader.rows(_DELETIONS)
    return len(rows), (each for row in rows for each in _deletion(workspace, row))


def _deletion(workspace: Workspace, row: Row) -> Iterator[Finding]:
    where = f"{row['name']}, deleted {row['deleted_at'][:19].replace('T', ' ')} UTC"
    if row["settled_at"] is None:
        what = "its files are still to be moved, or MLflow is still to be told"
        yield Finding(DELETION, what, where, "`synthtrack verify --fix`, or `synthtrack gc`, finishes it.", SETTLE)
    if row["restored_at"] is not None:
        return
    archive = workspace.root / row["archive"]
    try:
        found = digest_of(archive)
    except FileNotFoundError:
        what = f"its archive {row['archive']} is missing"
        yield Finding(DELETION, what, where, "Put it back from a copy: without it this cannot be restored.")
    except OSError as error:
        yield Finding(DELETION, f"its archive cannot be read: {error.strerror}", where, "Check its permissions.")
    else:
        if found != row["archive_digest"]:
            what = f"its archive {row['archive']} was changed, or is damaged"
            yield Finding(DELETION, what, where, "Put it back from a copy: `synthtrack restore` refuses this one.")


def work_findings(reader: Reader) -> Iterator[Finding]:
    """What a process is said to work on that is gone."""
    for each in work(reader):
        if not each.is_alive():
            since = each.since[:19].replace("T", " ")
            what = f"is said to be made since {since} UTC by {each.process or 'nobody'}, which is gone"
            remedy = "The same command goes on with it; `synthtrack verify --fix` ends it."
            yield Finding(WORK, what, f"{each.kind} {each.name}", remedy, END_WORK, each.id)


def leftovers(reader: Reader, workspace: Workspace) -> Iterator[Path]:
    """What killed processes left at the top of the workspace and of its trash, and checkpoints of complete runs."""
    for directory in (workspace.root, workspace.trash_dir):
        for path in directory.glob(f"{TEMPORARY}*"):
            if is_leftover(str(path)):
                yield path
    for row in reader.rows(_COMPLETE):
        found = sorted((workspace.root / row["directory"] / CHECKPOINT).glob("*"))
        left = [path for path in found if path.name not in CHECKPOINT_KEPT]
        # Whoever trained it clears them away itself, as the last thing it does.
        if left and not has_process(row):
            yield from left


def leftover_findings(reader: Reader, workspace: Workspace) -> Iterator[Finding]:
    """The same as findings."""
    for path in leftovers(reader, workspace):
        remedy = "`synthtrack verify --fix` removes it."
        yield Finding(LEFTOVER, "a killed process left it", workspace.relative(path), remedy, CLEAR)


def directory_findings(
    workspace: Workspace, data: Sequence[Row], progress: Callable[[int, int], None], *, is_tree_checked: bool
) -> Iterator[Finding]:
    """Where the files that runs were trained on are no longer to be found."""
    by_directory: dict[str, list[Row]] = {}
    for row in data:
        by_directory.setdefault(row["directory"], []).append(row)
    for number, (name, rows) in enumerate(by_directory.items()):
        progress(number, len(by_directory))
        directory = workspace.root / name
        if not (is_tree_checked and directory.is_relative_to(workspace.synthetic_dir)):
            yield from _directory(directory, name, rows)


def _directory(directory: Path, name: str, rows: Sequence[Row]) -> Iterator[Finding]:
    try:
        found = _digests(directory)
    except OSError as error:
        yield Finding(DATA, f"cannot be read: {error.strerror or error}", name, "Check its permissions.")
        return
    for split, column in (("train", "train_digest"), ("validation", "eval_digest")):
        for digest in dict.fromkeys(row[column] for row in rows if row[column] not in {None, *found}):
            using = [row for row in rows if row[column] == digest]
            n = sum(row["n"] for row in using)
            what = f"no {split} split with SHA-256 {digest[:12]}" if found else f"no {split} split there"
            plural = "" if n == 1 else "s"
            yield Finding(DATA, f"{what}, as {n:,} training run{plural} used it", name, _remedy(using[0]))


def _digests(directory: Path) -> set[str]:
    """The SHA-256 of every file of records."""
    found = set()
    try:
        files = [each for each in directory.iterdir() if each.name.endswith(_ENDINGS) and each.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    for each in files:
        with each.open("rb") as content:
            found.add(hashlib.file_digest(content, "sha256").hexdigest())
    return found


def _remedy(row: Row) -> str:
    if row["reference"] is not None:
        return f"`synthtrack view rebuild`, and `synthtrack publish {row['reference']}`, bring this data back."
    return "Put the file back: without it these runs can be neither resumed nor repeated."


def result_findings(workspace: Workspace, run: Row, names: Collection[str]) -> Iterator[Finding]:
    """What is missing of the files that a complete run's row promises."""
    directory = workspace.root / run["directory"]
    missing = [name for name in names if not (directory / name).exists()]
    if missing:
        what = f"missing: {', '.join(missing)}" if directory.is_dir() else "the directory is missing"
        remedy = "Put it back; what the record and MLflow have of the run is not lost."
        yield Finding(RESULTS, what, run["directory"], remedy)
