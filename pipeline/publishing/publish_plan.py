"""What publishing comes to in one place: nothing to do, something to be made or replaced, or a refusal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracker.errors import Conflict
from tracker.listings.listings import data_path
from tracker.paths import Workspace
from tracker.publishing.publications import ARCHIVE, COPY, digests, published_at
from tracker.publishing.publish_places import Place
from tracker.publishing.published_tree import (
    METADATA,
    contents,
    digest_behind,
    explained,
    free_aside,
    in_the_way,
    kind_of,
    strangers,
)
from tracker.record.catalogue import Reader, Row
from tracker.views.plan import DIRECTORY, FILE, LINK

MADE, REPLACED, UNCHANGED = "made", "replaced", "unchanged"


@dataclass(frozen=True)
class Data:
    """The data of one experiment, in memory: content and SHA-256 by file name."""

    experiment: Row
    content: Mapping[str, bytes]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Planned:
    """What is to be done, or was done, for one place: made, replaced or unchanged.

    ``replaced`` is the experiment that it takes the place of, which was published there by ``replaced_mode``; ``aside``
    is where what would be lost is kept; ``ours`` are the digests that files there were ever published with, by name.
    """

    place: Place
    outcome: str
    replaced: str | None = None
    replaced_mode: str | None = None
    aside: Path | None = None
    ours: Mapping[str, set[str]] = field(default_factory=dict)


def plan(workspace: Workspace, reader: Reader, place: Place, data: Data, *, force: bool) -> Planned:
    """What publishing ``data`` at ``place`` comes to. Raises Conflict, StorageError."""
    earlier = published_at(reader, workspace, place.directory)
    ours = digests(earlier)
    with explained(place.directory):
        kind = kind_of(place.directory)
        if kind is None:
            return Planned(place, MADE, ours=ours)
        if place.kind == ARCHIVE:
            _check_archive(place, data)
            return Planned(place, UNCHANGED)
        if kind == DIRECTORY and earlier and _is_there(workspace, place, data, earlier[0]):
            return Planned(place, UNCHANGED)
        lost = strangers(place.directory, ours, workspace.shared_dir)
        before = None if lost else _published_before(place, earlier)
    if lost and not force:
        raise in_the_way(place.directory, lost)
    aside = free_aside(place.directory) if lost else None
    name, mode = (None, None) if before is None else (before["experiment"], before["mode"])
    return Planned(place, REPLACED if lost or before else MADE, name, mode, aside, ours)


def links(workspace: Workspace, place: Place, data: Data) -> dict[str, str]:
    """The target of each link, relative where both ends lie in the workspace; nothing where files are copied."""
    if place.mode == COPY:
        return {}
    home = workspace.root / data_path(workspace, data.experiment)
    real = Path(os.path.realpath(home))
    if place.directory.is_relative_to(workspace.root) and real.is_relative_to(workspace.root):
        home = Path(os.path.relpath(real, place.directory))
    return {name: str(home / name) for name in data.content}


def _is_there(workspace: Workspace, place: Place, data: Data, last: Row) -> bool:
    """Whether the last publication there is this one, and is as it was published."""
    if (last["shared_experiment_id"], last["mode"]) != (data.experiment["id"], place.mode):
        return False
    found = contents(place.directory, last["files"])
    metadata = found.get(METADATA)
    if metadata is None or metadata.digest != last["files"].get(METADATA):
        return False
    if place.mode == COPY:
        copied = {name: (entry.kind, entry.digest) for name, entry in found.items()}
        return all(copied.get(name) == (FILE, digest) for name, digest in data.digests.items())
    linked = {name: (entry.kind, entry.target) for name, entry in found.items()}
    return all(linked.get(name) == (LINK, target) for name, target in links(workspace, place, data).items())


def _published_before(place: Place, earlier: Sequence[Row]) -> Row | None:
    """What was published there, as its metadata file tells; who was killed left a row and no files."""
    found = digest_behind(place.directory / METADATA)
    return next((row for row in earlier if row["files"].get(METADATA) == found), None)


def _check_archive(place: Place, data: Data) -> None:
    """Raises Conflict where an archive that is there holds anything but these bytes."""
    other = {}
    is_directory = kind_of(place.directory) == DIRECTORY
    found = contents(place.directory, data.digests) if is_directory else {}
    for name in sorted(data.digests.keys() | found.keys() - {METADATA}):
        if name not in found:
            other[name] = "missing"
        elif name not in data.digests:
            other[name] = "not part of this data set"
        elif found[name].digest != data.digests[name]:
            other[name] = "other bytes"
    if other:
        lines = [f"  {name}: {what}" for name, what in other.items()] if is_directory else ["  it is no directory"]
        raise Conflict(
            "\n".join([f"The archive {place.directory} is something else, and is never replaced:", *lines]),
            hint="Give this version another name with --archive.",
        )
