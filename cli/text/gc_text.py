"""What ``gc`` clears away, or would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.render import counted, harmless
from cli.text import deletion_text
from tracker.paths import Workspace

if TYPE_CHECKING:
    from tracker.deleting.garbage import Found
    from tracker.deleting.trash import Contents
    from tracker.mlflow_runs.mlflow_store import Leftovers


@dataclass
class Unneeded:
    """Data that nothing needs, what killed processes left, copies of the database, and what is left in MLflow."""

    data: Sequence[tuple[Found, Contents]]
    parts: Sequence[Path]
    copies: Sequence[Path]
    leftovers: Leftovers | None

    def __bool__(self) -> bool:
        left = self.leftovers
        in_mlflow = left is not None and (left.error is not None or left.unknown or left.purged or left.directories)
        return bool(self.data or self.parts or self.copies or in_mlflow)


def lines(workspace: Workspace, there: Unneeded) -> list[str]:
    """For people."""
    if not there:
        return ["Nothing to clear away."]
    found = []
    for one, contents in there.data:
        found += [*deletion_text.described(contents, "To the trash"), f"   Because {one.why}."]
    for title, paths in (("Left by killed processes", there.parts), ("Copies of the database", there.copies)):
        found += [f"{title}:", *(f"   {harmless(workspace.relative(path))}" for path in paths)] if paths else []
    left = there.leftovers
    if left is not None and left.error is not None:
        found.append(f"⚠️  MLflow: {left.error.splitlines()[0]}")
    elif left is not None and (left.unknown or left.purged or left.directories):
        found.append(
            f"MLflow: {counted(len(left.unknown), 'run')} that the record does not know, "
            f"{counted(len(left.purged), 'deleted run')} for good, "
            f"{counted(len(left.directories), 'directory', 'directories')} of files"
        )
    return found


def plain(workspace: Workspace, there: Unneeded, entries: Sequence[str]) -> dict[str, Any]:
    """For JSON; ``entries`` are where the data is in the trash."""
    left = there.leftovers
    return {
        "deleted": [deletion_text.plain(contents) | {"why": one.why} for one, contents in there.data],
        "entries": list(entries),
        "parts": [workspace.relative(each) for each in there.parts],
        "copies": [workspace.relative(each) for each in there.copies],
        "mlflow": None if left is None else {
            "unknown": left.unknown, "purged": left.purged, "error": left.error,
            "directories": [workspace.relative(each) for each in left.directories],
        },
    }  # fmt: skip
