"""Takes back what was published of an experiment: its files, as they were published, and the rows that name them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tracker.errors import Conflict
from tracker.listings import references
from tracker.paths import Workspace
from tracker.publishing.publications import forget, publications_of
from tracker.publishing.published_tree import explained, publishing
from tracker.record.catalogue import Row, reading


def published(workspace: Workspace, ref: str) -> list[Row]:
    """The publications of the experiment that ``ref`` names, newest first. Raises UnknownReference."""
    with reading(workspace) as reader:
        return publications_of(reader, workspace, references.find(reader, workspace, ref).id)


def unpublish(workspace: Workspace, rows: Sequence[Row], *, keep_files: bool) -> None:
    """Removes what was published there, and the rows; what was added there stays.

    Raises Conflict where files were changed, unless ``keep_files``: then none is touched. StorageError.
    """
    changed = [row for row in rows if _is_there(row) and not row["as_published"]]
    if changed and not keep_files:
        lines = [f"  {row['directory']}: {row['state']}" for row in changed]
        raise Conflict(
            "\n".join(["These are not as they were published:", *lines]),
            hint="--keep-files leaves the files where they are, and only forgets that they were published.",
        )
    from tracker.record.database import open_database

    with publishing(workspace), open_database(workspace) as database:
        for row in rows:
            if _is_there(row) and not keep_files:
                _remove(Path(row["directory"]), row["files"])
            forget(database, row["id"])


def _is_there(row: Row) -> bool:
    """Whether the directory is this publication's, and not a later one's or gone."""
    return row["replaced_by"] is None and not str(row["state"]).startswith("missing")


def _remove(directory: Path, names: Sequence[str]) -> None:
    with explained(directory):
        for name in names:
            (directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
