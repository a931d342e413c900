"""Where a data set is published to: the directories that a person means, and those that nobody may."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import ConfigError, Conflict, Problem
from tracker.paths import DATABASE_NAME, MARKER_NAME, Workspace, current_directory, expanded, name_problem
from tracker.publishing.publications import ARCHIVE, COPY, SYMLINK, TARGET

_MAX_NAMES = 2
_LOCKS = (".publish.lock", ".view.lock", ".mlflow.lock", ".mlflow.db.lock")


@dataclass(frozen=True, slots=True)
class Place:
    """One directory to be published: target or archive, by copy or symlink."""

    kind: str
    directory: Path
    mode: str


def find_places(
    workspace: Workspace,
    *,
    target: str,
    dataset: str,
    archive: str | None = None,
    symlink: bool = False,
    origins: Iterable[str] = (),
) -> list[Place]:
    """The directory ``target/dataset`` and, beside the target, ``archive/dataset``; absolute, without links.

    A relative target is looked for below the current directory, then below the workspace; one that is not there is
    below the workspace, unless the current directory lies outside. Raises ConfigError for what can be no such
    directory, Conflict for one that is part of the workspace itself, or that source data was read from (``origins``).
    """
    _check_name("--dataset", dataset)
    top = _target(workspace, target)
    places = [Place(TARGET, _real(top) / dataset, SYMLINK if symlink else COPY)]
    if archive is not None:
        kept = _real(top.parent.joinpath(*_names(archive))) / dataset
        if kept.is_relative_to(places[0].directory) or places[0].directory.is_relative_to(kept):
            raise _wrong("--archive", f"{archive}: an archive cannot lie in the published directory, nor around it")
        places.append(Place(ARCHIVE, kept, COPY))
    for place in places:
        _check(workspace, place.directory)
        _check_record(workspace, place.directory)
        _check_origins(workspace, place.directory, origins)
    return places


def _target(workspace: Workspace, given: str) -> Path:
    if not given.strip():
        raise _wrong("--target", "it is empty")
    path, here = expanded(given, "--target"), current_directory()
    found = workspace.find(path)
    if here is not None and not here.is_relative_to(workspace.root) and not os.path.lexists(found):
        found = here / path
    return Path(os.path.normpath(found))


def _real(path: Path) -> Path:
    """``path`` without links. Raises Conflict for a link to nothing: what it is to lead to is not there now."""
    for each in (path, *path.parents):
        if os.path.islink(each) and not os.path.exists(each):  # noqa: PTH110, PTH114  Path's raise where it may not look
            raise Conflict(f"{each} is in the way: it is a link to nothing.", hint="Is a disk not mounted?")
    return Path(os.path.realpath(path))


def _names(archive: str) -> list[str]:
    names = archive.removesuffix("/").split("/")
    if len(names) > _MAX_NAMES:
        raise _wrong("--archive", f"{archive}: expected NAME or NAME/NAME, such as mezo_gpt/version_1")
    for name in names:
        _check_name("--archive", name)
    return names


def _check_name(option: str, name: str) -> None:
    problem = name_problem(name)
    if problem is not None:
        raise _wrong(option, problem)


def _wrong(option: str, what: str) -> ConfigError:
    return ConfigError("Nothing can be published there.", [Problem(option, what)])


def _check(workspace: Workspace, directory: Path) -> None:
    try:
        str(directory).encode()
    except UnicodeEncodeError as error:
        raise _wrong("--target", "its name is not UTF-8") from error
    for own in (workspace.synthetic_dir, workspace.mlruns_dir, workspace.trash_dir):
        if directory.is_relative_to(os.path.realpath(own)):
            raise Conflict(
                f"{directory} lies in {own}, which is synthtrack's own.",
                hint="Publish to another directory. Training configs can also name the data where it is: "
                "`synthtrack path list` shows how.",
            )
    parts = (workspace.root, workspace.synthetic_dir, workspace.original_dir, workspace.results_dir, workspace.data_dir)
    for own in (*parts, workspace.configs_dir, workspace.mlruns_dir):
        if Path(os.path.realpath(own)).is_relative_to(directory):
            raise Conflict(f"{directory} is, or holds, {own} of the workspace.", hint="Choose another --target.")
    for path in directory.parents:
        if os.path.lexists(path):
            if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where it may not look
                raise Conflict(f"{path} is in the way: it is no directory.", hint="Choose another --target.")
            return


def _check_record(workspace: Workspace, directory: Path) -> None:
    """Raises Conflict for what is, holds or lies beside the database: its logs, locks, backups, and other files."""
    for database in (workspace.database, Path(os.path.realpath(workspace.database))):
        home = Path(os.path.realpath(database.parent))
        inside = next((path for path in (directory, *directory.parents) if path.parent == home), None)
        if home.is_relative_to(directory) or (inside is not None and _is_record(inside, database.name)):
            raise Conflict(
                f"{directory} is, or holds, what belongs to the database {database}.",
                hint="Choose another --target or --dataset.",
            )


def _is_record(path: Path, database: str) -> bool:
    if path.name.lstrip(".").startswith((database, DATABASE_NAME)) or path.name in {MARKER_NAME, *_LOCKS}:
        return True
    return os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where it may not look


def _check_origins(workspace: Workspace, directory: Path, origins: Iterable[str]) -> None:
    for origin in origins:
        if any(home.is_relative_to(directory) for home in _homes(workspace, origin)):
            raise Conflict(
                f"{directory} is, or holds, where source data was read from: {origin}.",
                hint="Choose another --target or --dataset.",
            )


def _homes(workspace: Workspace, origin: str) -> Iterator[Path]:
    """The directories of a file that source data was read from; none for what came from a hub."""
    if Path(origin).is_absolute():
        yield Path(os.path.realpath(Path(origin).parent))
        yield Path(os.path.realpath(origin)).parent
        # In a workspace that was moved since, it lies where it lay in the old one.
        _, found, below = origin.rpartition(f"/{workspace.relative(workspace.original_dir)}/")
        if found:
            yield Path(os.path.realpath((workspace.original_dir / below).parent))
