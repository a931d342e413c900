"""Publishes a finished data set: copies it, or links to it, where programs look that know nothing of synthtrack."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.publishing.publish_plan import UNCHANGED, Data, Planned, links, plan
from tracker import clock
from tracker.durable import remove
from tracker.errors import PartialResult, WrongStep
from tracker.fingerprint import bytes_digest
from tracker.listings import listings
from tracker.paths import Workspace
from tracker.publishing.publications import add, forget
from tracker.publishing.publish_places import Place, find_places
from tracker.publishing.published_tree import METADATA, explained, publishing, put, write
from tracker.record.catalogue import Reader, Row, reading
from tracker.views.rows import Record, completed_ns
from tracker.views.synthetic_view import refresh


@dataclass(frozen=True)
class Wish:
    """What a person asks for; ``dataset`` is the directory's name, by default the experiment's data set."""

    target: str
    dataset: str | None = None
    archive: str | None = None
    symlink: bool = False
    force: bool = False


def publish(
    workspace: Workspace, ref: str, wish: Wish, following: Callable[[Reader, Row], str | None]
) -> tuple[Row, list[Planned]]:
    """Publishes the experiment that ``ref`` names; its row, with the SHA-256 of its ``files``, and what was done where.

    ``following`` tells the command that finishes an experiment. Raises WrongStep for an unfinished one, PartialResult
    for one with failures, Conflict for what it would overwrite or may not touch, ConfigError, UnknownReference,
    StorageError; then nothing was published.
    """
    with reading(workspace) as reader, publishing(workspace):
        experiment = listings.experiment(reader, ref, workspace)
        _check_finished(experiment, lambda: following(reader, experiment))
        places = find_places(
            workspace,
            target=wish.target,
            dataset=wish.dataset or experiment["dataset"],
            archive=wish.archive,
            symlink=wish.symlink,
            origins=[row["origin"] for row in reader.rows("SELECT DISTINCT origin FROM source_dataset")],
        )
        content = Record(reader).data_files(experiment["id"])
        data = Data(experiment, content, {name: bytes_digest([each]) for name, each in content.items()})
        planned = [plan(workspace, reader, place, data, force=wish.force) for place in places]
        if wish.symlink:
            refresh(workspace, reader, [experiment["id"]], deep=True)
        _apply(workspace, data, planned)
    return experiment | {"files": dict(data.digests)}, planned


def _check_finished(experiment: Row, following: Callable[[], str | None]) -> None:
    reference = experiment["reference"]
    if experiment["status"] == "unfinished":
        raise WrongStep(f"{reference} is not finished: there is no data to publish yet.", hint=f"Next: {following()}")
    if experiment["status"] == "partial":
        raise PartialResult(
            f"{reference} is partial: {experiment['n_failed']} of {experiment['n_records']} records failed and kept "
            "their original. Only complete data is published.",
            hint=f"Try them again: {following()}",
        )


def _apply(workspace: Workspace, data: Data, planned: Sequence[Planned]) -> None:
    """Writes everything beside its place before anything is put there."""
    to_do = [each for each in planned if each.outcome != UNCHANGED]
    if not to_do:
        return
    from tracker.record.database import open_database

    with contextlib.ExitStack() as stack:
        database = stack.enter_context(open_database(workspace))
        written = []
        for each in to_do:
            row, metadata = _described(workspace, data, each.place)
            targets = links(workspace, each.place, data)
            files = {METADATA: metadata, **({} if targets else data.content)}
            with explained(each.place.directory):
                new = write(each.place.directory, files, targets, completed_ns(data.experiment))
            stack.callback(remove, new)
            written.append((each, row, new))
        for each, row, new in written:
            # The row first: a directory that no row knows would have to be forced out of the way of the next one.
            publication_id = add(database, row)
            try:
                with explained(each.place.directory):
                    put(new, each.place.directory, ours=each.ours, tree=workspace.shared_dir, aside=each.aside)
            except BaseException:
                forget(database, publication_id)
                raise


def _described(workspace: Workspace, data: Data, place: Place) -> tuple[Row, bytes]:
    """The row of a publication, and the content of its metadata file."""
    experiment, now, who = data.experiment, clock.to_text(clock.now()), _user()
    home = workspace.root / listings.data_path(workspace, experiment)
    metadata = {
        "fingerprint": experiment["fingerprint"],
        "digest": experiment["digest"],
        "experiment": experiment["reference"],
        "source": {"path": str(home), "data_digest": experiment["data_digest"]},
        "source_dataset": {
            "digest": experiment["source_digest"],
            "origin": experiment["source_origin"],
        },
        "kind": place.kind,
        "mode": place.mode,
        "published_at": now,
        "published_by": who,
        "files": dict(data.digests),
        "synthtrack": _version(),
    }
    content = f"{json.dumps(metadata, indent=2, ensure_ascii=False)}\n".encode()
    row = {
        "shared_experiment_id": experiment["id"], "dataset": place.directory.name, "directory": str(place.directory),
        "kind": place.kind, "mode": place.mode, "fingerprint": experiment["fingerprint"], "published_at": now,
        "published_by": who, "files": {**data.digests, METADATA: bytes_digest([content])},
    }  # fmt: skip
    return row, content


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # before Python 3.13, and since: containers run as users that have no name
        return f"user {os.getuid()}"


def _version() -> str | None:
    try:
        return importlib.metadata.version("synthtrack")
    except importlib.metadata.PackageNotFoundError:
        return None
