"""The files of experiments that were not made here: which there are, what is in them, and where they lie."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row
from tracker.record.content import CONFIG, FINGERPRINT, METADATA, unpacked

TAKEN, KNOWN, MOVED, COPIED, DIFFERENT, EDITED, UNFINISHED = (
    "taken", "known", "moved", "copied", "different", "edited", "unfinished",
)  # fmt: skip
"""What becomes of an experiment that is imported."""
OWN = (FINGERPRINT, METADATA, CONFIG)
"""Files that the view writes anew for what it takes over; as they were found they stay in the record."""

_FILES = (
    "SELECT path, split, digest, n_bytes, n_records FROM imported_file WHERE shared_experiment_id = :id ORDER BY path"
)
_CONTENT = "SELECT path, split, digest, content FROM imported_file WHERE shared_experiment_id = :id ORDER BY path"
_COPIED = """
    SELECT split, filename, digest, n_records, content FROM source_split
    WHERE source_dataset_id = :id AND content IS NOT NULL ORDER BY id"""
_MADE = "SELECT split, filename, digest, n_records FROM source_split WHERE source_dataset_id = :id ORDER BY id"


@dataclass(frozen=True)
class Put:
    """What became of an experiment: ``outcome`` is one of this module's words; ``joined`` are batches it is new in."""

    outcome: str
    experiment_id: int
    fingerprint: str
    name: str
    joined: tuple[str, ...] = field(default=())


def outcome_of(root: Path, found: Mapping[str, Any], data_digest: str, directory: str | None) -> str:
    """What an import makes of data with the settings of the experiment ``found``; ``directory`` as it would be stored.

    DIFFERENT: the data is another's, and lies elsewhere. EDITED: it lies where that of ``found`` was imported from.
    """
    place = found["directory"]
    if found["status"] == "unfinished":
        return UNFINISHED
    if found["data_digest"] != data_digest:
        return EDITED if place is not None and place == directory else DIFFERENT
    if found["import_run_id"] is None or place in {None, directory}:
        return KNOWN
    if directory is None:
        return COPIED
    # Of two trees with the same data the one that was imported first keeps it, as long as it is there.
    return KNOWN if os.path.isdir(root / place) else MOVED  # noqa: PTH112  Path.is_dir raises where it may not look


def is_again(found: Row, known: Mapping[str, Json]) -> bool:
    """Whether data that ``found`` has under the same name is the same experiment, of which more or less is known now.

    It is another where a setting is another. ``known`` are settings by their dotted names.
    """
    before = json.loads(found["settings"])
    return all(_plain(before[name]) == _plain(known[name]) for name in known.keys() & before.keys())


def is_imported(experiment: Row) -> bool:
    """Whether an experiment's data was not made here."""
    return experiment["import_run_id"] is not None


def in_view(experiment: Row) -> bool:
    """Whether the view writes a finished experiment's directory; else its data stays where it was imported from."""
    return experiment["status"] in {"complete", "partial"} and experiment["directory"] is None


def home_in_place(workspace: Workspace, experiment: Row) -> Path:
    """Where an experiment's directory lies: in the view, or where its data was imported from."""
    if experiment["directory"] is None:
        return workspace.experiment_dir(experiment["dataset"], experiment["name"])
    return workspace.root / str(experiment["directory"])


def splits(reader: Reader, experiment: Row) -> dict[str, Row]:
    """The data files of an experiment by split: ``path`` below its directory, ``digest``, ``n_records``.

    ``experiment`` has id, dataset, source_dataset_id, data_digest, import_run_id and directory.
    """
    dataset = experiment["dataset"]
    if not is_imported(experiment):
        rows = reader.rows(_MADE, id=experiment["source_dataset_id"])
        made = {row["split"]: row | {"path": f"{dataset}/{row['filename']}"} for row in rows}
        if "train" in made:
            made["train"]["digest"] = experiment["data_digest"]
        return made
    rows = [row for row in reader.rows(_FILES, id=experiment["id"]) if row["split"] is not None]
    if experiment["directory"] is not None:
        return {row["split"]: row for row in rows}
    found = {row["split"]: row | {"path": view_path(dataset, row)} for row in rows}
    for row in reader.rows(_COPIED, id=experiment["source_dataset_id"]):
        found.setdefault(row["split"], row | {"path": f"{dataset}/{row['filename']}"})
    return found


def view_files(reader: Reader, experiment: Row) -> dict[str, bytes]:
    """The content of an imported experiment's files by path below its directory in the view, but for our own three.

    Splits that were not found with it come from its source, unless it stays where it is. Raises Corrupt.
    """
    dataset = experiment["dataset"]
    files, there = {}, set()
    for row in reader.rows(_CONTENT, id=experiment["id"]):
        there.add(row["split"])
        if row["path"] not in OWN:
            files[view_path(dataset, row)] = unpacked(row, row["path"])
    copied = [] if experiment["directory"] is not None else reader.rows(_COPIED, id=experiment["source_dataset_id"])
    for row in copied:
        if row["split"] not in there:
            files.setdefault(f"{dataset}/{row['filename']}", unpacked(row, row["filename"]))
    return files


def view_sizes(reader: Reader, experiment: Row) -> dict[str, int]:
    """The sizes of the files that ``view_files`` gives."""
    files = {
        view_path(experiment["dataset"], row): row["n_bytes"]
        for row in reader.rows(_FILES, id=experiment["id"])
        if row["path"] not in OWN
    }
    there = {row["split"] for row in reader.rows(_FILES, id=experiment["id"])}
    sql = "SELECT split, filename, n_bytes FROM source_split WHERE source_dataset_id = :id AND content IS NOT NULL"
    for row in reader.rows(sql, id=experiment["source_dataset_id"]):
        if row["split"] not in there:
            files.setdefault(f"{experiment['dataset']}/{row['filename']}", row["n_bytes"])
    return files


def _plain(value: Json) -> Json:
    # A list can be written in several ways, and a text with or without its last line's end.
    return None if isinstance(value, list) else value.strip() if isinstance(value, str) else value


def view_path(dataset: str, row: Row) -> str:
    """Where a file lies in the view: data in the data set's directory, the rest where it was."""
    path = str(row["path"])
    return path if row["split"] is None else f"{dataset}/{path.rpartition('/')[2]}"
