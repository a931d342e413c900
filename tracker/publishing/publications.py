"""The rows of what was published where, and whether it is still there as it was published.

A directory below the workspace is stored relative to it, so that a workspace can be moved; rows that are read have all
directories absolute.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.publishing.published_tree import KINDS, METADATA, asides, contents, digest_behind, kind_of
from tracker.record.catalogue import EVERY, Reader, Row
from tracker.views.plan import DIRECTORY, LINK

if TYPE_CHECKING:
    from tracker.record.database import Database

TARGET, ARCHIVE = "target", "archive"
COPY, SYMLINK = "copy", "symlink"
AS_PUBLISHED, CHANGED, MISSING, UNREADABLE = "as published", "changed", "missing", "unreadable"
REPLACED, MOVED = "replaced", "moved aside"

_ROWS = """
    SELECT p.id, e.dataset || '/' || e.name AS experiment, p.shared_experiment_id, p.fingerprint, p.dataset,
           p.directory, p.kind, p.mode, p.published_at, p.published_by, p.files,
           (SELECT l.dataset || '/' || l.name FROM publication n
            JOIN shared_experiment l ON l.id = n.shared_experiment_id
            WHERE n.directory = p.directory AND n.id > p.id ORDER BY n.id DESC LIMIT 1) AS replaced_by
    FROM publication p JOIN shared_experiment e ON e.id = p.shared_experiment_id"""


@dataclass(frozen=True, slots=True)
class State:
    """What became of a published directory: as published, changed, missing, replaced, moved aside or unreadable.

    With the names of files that are not as they were published, or were not published, and where it was moved.
    """

    what: str
    detail: str = ""
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    aside: Path | None = None

    def __str__(self) -> str:
        lists = (("changed", self.changed), ("missing", self.missing), ("added", self.added))
        named = [f"{word}: {', '.join(names)}" for word, names in lists if names]
        whole = [] if self.changed or self.missing else [f"{self.what}{self.detail}"]
        return "; ".join([*whole, *named])


def add(database: Database, publication: Row) -> int:
    """Stores a publication, whose ``files`` are digests by name; the id."""
    from tracker.schema import table

    publications = table("publication")
    values = {
        **publication,
        "directory": database.workspace.relative(Path(publication["directory"])),
        "files": json.dumps(publication["files"], ensure_ascii=False),
    }
    with database.writing() as connection:
        insert = publications.insert().values(**values).returning(publications.c.id)
        return int(connection.execute(insert).scalar_one())


def forget(database: Database, publication_id: int) -> None:
    """Removes the row of a publication that did not come about."""
    from tracker.schema import table

    publications = table("publication")
    with database.writing() as connection:
        connection.execute(publications.delete().where(publications.c.id == publication_id))


def listing(reader: Reader, workspace: Workspace, limit: int = 0) -> Listing:
    """The newest ``limit`` publications (0: all), newest first, each with its ``state``."""
    rows = reader.rows(f"{_ROWS} ORDER BY p.id DESC LIMIT :limit", limit=limit or EVERY)
    total = reader.rows("SELECT COUNT(*) AS n FROM publication")[0]["n"]
    return Listing([_with_state(_parsed(workspace, row)) for row in rows], int(total))


def publications_of(reader: Reader, workspace: Workspace, experiment_id: int) -> list[Row]:
    """The publications of an experiment, newest first, each with its ``state``."""
    rows = reader.rows(f"{_ROWS} WHERE p.shared_experiment_id = :id ORDER BY p.id DESC", id=experiment_id)
    return [_with_state(_parsed(workspace, row)) for row in rows]


def published_at(reader: Reader, workspace: Workspace, directory: Path) -> list[Row]:
    """Everything that was ever published at ``directory``, newest first."""
    stored = workspace.relative(directory)
    rows = reader.rows(f"{_ROWS} WHERE p.directory = :directory ORDER BY p.id DESC", directory=stored)
    return [_parsed(workspace, row) for row in rows]


def digests(rows: Iterable[Row]) -> dict[str, set[str]]:
    """Every digest that files were published with, by name."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, digest in row["files"].items():
            found.setdefault(name, set()).add(digest)
    return found


def state(row: Row) -> State:
    """What became of the published directory: its files are read, those behind links too."""
    if row["replaced_by"] is not None:
        aside, by = _moved_aside(row), f" by {row['replaced_by']}"
        if aside is None:
            return State(REPLACED, by)
        return State(MOVED, f" to {aside.name} beside it, and replaced{by}", aside=aside)
    directory, files = Path(row["directory"]), row["files"]
    try:
        kind = kind_of(directory)
        if kind != DIRECTORY:
            return State(MISSING) if kind is None else State(CHANGED, f": {KINDS[kind]} stands there")
        found = contents(directory, ())
        own = {name: digest_behind(directory / name) for name in files}
    except NotADirectoryError:
        return State(MISSING)
    except OSError as error:
        return State(UNREADABLE, f": {error.strerror}")
    links = {name for name, entry in found.items() if entry.kind == LINK and row["mode"] == COPY}
    missing = tuple(name for name in files if own[name] is None)
    changed = tuple(name for name in files if name not in missing and (own[name] != files[name] or name in links))
    what = CHANGED if changed or missing else AS_PUBLISHED
    return State(what, "", changed, missing, tuple(sorted(found.keys() - files.keys())))


def _moved_aside(row: Row) -> Path | None:
    """Where --force moved a published directory, if it is still there; its metadata file, which no other has, tells."""
    own = row["files"].get(METADATA)
    for aside in asides(Path(row["directory"])) if own else ():
        # A file may have been moved aside too, or a directory that is not ours to read.
        with contextlib.suppress(OSError):
            if digest_behind(aside / METADATA) == own:
                return aside
    return None


def _parsed(workspace: Workspace, row: Row) -> Row:
    return row | {"directory": str(workspace.root / row["directory"]), "files": json.loads(row["files"])}


def _with_state(row: Row) -> Row:
    found = state(row)
    lists = {name: list(getattr(found, name)) for name in ("changed", "missing", "added")}
    aside = None if found.aside is None else str(found.aside)
    return row | {"state": str(found), "as_published": found.what == AS_PUBLISHED, **lists, "moved_aside": aside}
