"""Makes the trash fit a record that is older than it: what was deleted after a backup, once that is put back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker import clock
from tracker.deleting import trash, trash_files
from tracker.deleting.deletion import BATCH, RUN, SWEEP, TABLES
from tracker.errors import Error
from tracker.paths import Workspace
from tracker.record.catalogue import Reader
from tracker.views.tree import explained, writing

if TYPE_CHECKING:
    from tracker.archives.archive import Archive
    from tracker.record.database import Database


def adopt(workspace: Workspace, database: Database) -> list[str]:
    """Makes entries of archives in the trash that no row knows; the names of those that can be restored now.

    Of what the record has, files that were moved away come back; what stands in their place stays. Nothing is removed.
    """
    with writing(workspace):
        with database.reading() as connection:
            known = {Path(row["archive"]).name for row in database.reader_on(connection).rows("SELECT * FROM deletion")}
        adopted = [
            name for path in _archives(workspace) if path.name not in known
            for name in _adopted(workspace, database, path)
        ]  # fmt: skip
        trash.settle(workspace, database)
    return adopted


def has_archives(workspace: Workspace) -> bool:
    """Whether anything in the trash could be one."""
    return any(_archives(workspace))


def _archives(workspace: Workspace) -> list[Path]:
    with explained(workspace):
        found = sorted(workspace.trash_dir.glob(f"*{trash.SUFFIX}"))
        return [path for path in found if trash_files.moment_of(path.name) is not None and path.is_file()]


def _adopted(workspace: Workspace, database: Database, path: Path) -> Iterator[str]:
    from tracker.archives import archive
    from tracker.archives.archive_check import Limits
    from tracker.schema import table

    try:
        with archive.opened(path, Limits(sys.maxsize, ratio=None)) as found, database.writing() as connection:
            row = _row(workspace, path, found, database.reader_on(connection))
            connection.execute(table("deletion").insert().values(**row))
    except (Error, KeyError):
        return  # no archive of ours, or damaged: it stays, as everything does that nothing knows
    if row["restored_at"] is None:
        yield row["name"]


def _row(workspace: Workspace, path: Path, found: Archive, reader: Reader) -> dict[str, Any]:
    about: dict[str, Any] = dict(found.about)
    kind, name = about["kind"], about["name"]
    deleted_at, now = trash_files.moment_of(path.name) or clock.now(), clock.to_text(clock.now())
    rows = list(found.bundle.read(TABLES[kind])) if kind != BATCH else []
    if kind == BATCH:
        is_there = bool(reader.rows("SELECT id FROM batch WHERE name = :name AND deleted_at IS NULL", name=name))
    else:
        key = "uuid" if kind in {RUN, SWEEP} else "fingerprint"
        wanted = f"SELECT id FROM {TABLES[kind]} WHERE {key} = :value"  # noqa: S608  names of our own
        is_there = all(reader.rows(wanted, value=row[key]) for row in rows)
    return {
        "uuid": path.name.removesuffix(trash.SUFFIX).rpartition("-")[2].ljust(32, "0"), "kind": kind, "name": name,
        "fingerprint": rows[0].get("fingerprint") if len(rows) == 1 else None, "deleted_at": clock.to_text(deleted_at),
        "deleted_by": "delete", "archive": workspace.relative(path), "archive_digest": trash_files.digest_of(path),
        "n_rows": sum(found.bundle.counts.values()), "n_bytes": path.stat().st_size, "command": "synthtrack restore",
        "paths": json.dumps(about["paths"] if is_there else [], ensure_ascii=False), "mlflow_runs": "[]",
        "restored_at": now if is_there else None, "settled_at": None if is_there else now,
    }  # fmt: skip
