"""What was published: now, and all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.render import harmless, moment
from cli.text.listing import left_out
from tracker.fingerprint import Json
from tracker.listings.listings import Listing
from tracker.paths import Workspace
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from pipeline.publishing.publish_plan import Planned


def published_as(place: Workspace, experiment: Row, published: list[Planned]) -> Iterator[str]:
    """Where an experiment is published now, and what was there."""
    is_new = any(each.outcome != "unchanged" for each in published)
    yield f"{'✅' if is_new else '⚡'} {experiment['reference']}: {'published' if is_new else 'already published'}"
    for each in published:
        title = "Archive" if each.place.kind == "archive" else "Target"
        yield f"   {title}: {harmless(place.relative(each.place.directory))} ({_what(each)})"


def _what(each: Planned) -> str:
    how = "linked" if each.place.mode == "symlink" else "copied"
    if each.outcome == "unchanged":
        return f"{how}, there already"
    if each.replaced is None:
        return how
    if each.replaced_mode == each.place.mode:
        return f"{how}, in place of {each.replaced}"
    if each.replaced_mode == "symlink":
        return f"{how}, in place of links to {each.replaced}; --symlink links again"
    return f"{how}, in place of a copy of {each.replaced}"


def published_json(experiment: Row, published: list[Planned]) -> Json:
    """The same for programs."""
    keys = ("reference", "dataset", "name", "fingerprint", "digest", "data_digest", "record_limit", "files")
    return {key: experiment[key] for key in keys} | {
        "publications": [
            {
                "kind": each.place.kind,
                "directory": str(each.place.directory),
                "mode": each.place.mode,
                "outcome": each.outcome,
                "replaced": each.replaced,
                "replaced_mode": each.replaced_mode,
                "moved_aside": None if each.aside is None else str(each.aside),
            }
            for each in published
        ]
    }


def listed(place: Workspace, found: Listing) -> Iterator[str]:
    """Publications, and whether they are as they were published."""
    for at, row in enumerate(found.rows):
        yield from ([""] if at else [])
        archive = " (archive)" if row["kind"] == "archive" else ""
        symbol = "✅" if row["as_published"] else "⚠️ " if row["replaced_by"] is None else "📦"
        yield f"{symbol} {harmless(place.relative(Path(row['directory'])))}{archive}"
        yield f"   {row['experiment']} ({row['fingerprint']}), {row['mode']}"
        yield f"   {moment(row['published_at'])} by {harmless(row['published_by'])}: {harmless(row['state'])}"
    if not found.rows:
        yield "💾 Nothing published yet: `synthtrack publish EXPERIMENT --target DIR` does."
    if found.left_out:
        yield from ("", *left_out(found, "publication"))
