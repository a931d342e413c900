"""The files under ``data/agents``, kept as the record says: they can be deleted and come back byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from tracker.agent_file import agent_file
from tracker.catalogue import Reader, Row, reading
from tracker.paths import Workspace
from tracker.view_plan import Changes
from tracker.view_rows import completed_ns
from tracker.view_tree import LOCK_TIMEOUT_S, explained, look, walk, writing

DIRECTORY = "agents"
_DATASET = "SELECT * FROM agent_dataset WHERE id = :id"
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_INPUTS = """
    SELECT r.line FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    WHERE p.source_dataset_id = :id ORDER BY r.position"""
_ANSWERS = "SELECT position, perspective, response, preparation FROM agent_response WHERE agent_dataset_id = :id"


def path_of(name: str) -> str:
    """Where the file of an agent data set lies, relative to the workspace's data directory."""
    return f"{DIRECTORY}/{name}.json"


def is_finished(dataset: Row) -> bool:
    """Whether there is a file: not while responses are missing that nobody accepted as missing."""
    return dataset["status"] in {"complete", "partial"} and dataset["completed_at"] is not None


def content(reader: Reader, dataset: Row) -> bytes:
    """The file of an agent data set, ``dataset`` as its table has it."""
    perspectives = reader.rows(_PERSPECTIVES, id=dataset["id"])
    inputs = [json.loads(row["line"]) for row in reader.rows(_INPUTS, id=dataset["source_dataset_id"])]
    answers = {(row["position"], row["perspective"]): row for row in reader.rows(_ANSWERS, id=dataset["id"])}
    return agent_file(dataset, perspectives, inputs, answers)


def refresh(
    workspace: Workspace, reader: Reader, dataset_ids: Iterable[int], *, patience_s: float = LOCK_TIMEOUT_S
) -> Changes:
    """Brings the files of these agent data sets up to date; gives what was done.

    What was edited or stands in the way is moved to the trash. Raises StorageError where it cannot be written, and
    Conflict where another process is still writing after ``patience_s``.
    """
    ids = sorted(set(dataset_ids))
    with explained(workspace):
        if not _planned(workspace, reader, ids):
            return Changes()
    with writing(workspace, patience_s, workspace.data_dir) as tree, reading(workspace) as fresh:
        done = [
            tree.apply(changes, {path: data}, mtime_ns)
            for changes, path, data, mtime_ns in _planned(workspace, fresh, ids)
        ]
    return Changes(
        files=tuple(path for each in done for path in each.files),
        aside=tuple(path for each in done for path in each.aside),
        trash=next((each.trash for each in done if each.trash), None),
    )


def _planned(workspace: Workspace, reader: Reader, ids: Sequence[int]) -> list[tuple[Changes, str, bytes, int]]:
    """What is to be written: the changes, the path, its content and its time."""
    found = []
    for dataset_id in ids:
        dataset = reader.rows(_DATASET, id=dataset_id)[0]
        if not is_finished(dataset):
            continue
        path, data = path_of(dataset["name"]), content(reader, dataset)
        there = (look(workspace.data_dir, [path]) | walk(workspace.data_dir, DIRECTORY, 1, read={path})).get(path)
        if there is not None and there.digest == hashlib.sha256(data).hexdigest():
            continue
        aside = () if there is None else (path,)
        found.append((Changes(files=(path,), aside=aside), path, data, completed_ns(dataset)))
    return found
