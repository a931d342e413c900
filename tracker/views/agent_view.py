"""The files under ``data/agents``, kept as the record says: they can be deleted and come back byte for byte.

Paths are text below the workspace's data directory. How they are compared and written: tracker.views.data_view.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterable, Sequence

from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace, name_problem
from tracker.record.agent_file import agent_file, answers_digest
from tracker.record.catalogue import Reader, Row
from tracker.record.findings import RESTORE
from tracker.views import data_view
from tracker.views.data_view import Files, Kept
from tracker.views.pending import without_pending
from tracker.views.plan import Changes, Difference
from tracker.views.rows import completed_ns
from tracker.views.tree import LOCK_TIMEOUT_S

DIRECTORY = "agents"
_DATASETS = "SELECT id, name, status, created_at, completed_at, data_digest FROM agent_dataset ORDER BY id"
_DATASET = "SELECT * FROM agent_dataset WHERE id = :id"
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_SPLITS = "SELECT id, digest FROM source_split WHERE source_dataset_id = :id ORDER BY id"
_INPUTS = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_ANSWERS = """
    SELECT position, perspective, response, preparation FROM agent_response WHERE agent_dataset_id = :id
    ORDER BY position, perspective"""


def path_of(name: str) -> str:
    """Where the file of an agent data set lies, relative to the workspace's data directory."""
    return f"{DIRECTORY}/{name}.json"


def is_finished(dataset: Row) -> bool:
    """Whether there is a file: not while responses are missing that nobody accepted as missing."""
    return dataset["status"] in {"complete", "partial"} and dataset["completed_at"] is not None


def looks_current(workspace: Workspace, dataset: Row) -> bool:
    """Whether what the record says is there by its time, which an edit changes; cheaper than reading it."""
    try:
        found = os.lstat(workspace.data_dir / path_of(dataset["name"]))
    except OSError:
        return not is_finished(dataset)
    return is_finished(dataset) and stat.S_ISREG(found.st_mode) and found.st_mtime_ns == completed_ns(dataset)


def content(reader: Reader, dataset: Row) -> bytes:
    """The file of an agent data set, ``dataset`` as its table has it. Raises Corrupt where rows contradict it."""
    perspectives = reader.rows(_PERSPECTIVES, id=dataset["id"])
    answers = reader.rows(_ANSWERS, id=dataset["id"])
    # While it is being resumed there is no digest: what there is is what its responses give.
    if dataset["data_digest"] not in {None, answers_digest(answers)}:
        raise Corrupt(f"The responses of {dataset['name']} are not those that it was completed with.", hint=RESTORE)
    by_place = {(row["position"], row["perspective"]): row for row in answers}
    try:
        inputs = [json.loads(line) for line in _inputs(reader, dataset)]
        return agent_file(dataset, perspectives, inputs, by_place)
    except (ValueError, TypeError, LookupError) as error:
        raise Corrupt(f"The rows of {dataset['name']} cannot be read: {error}.", hint=RESTORE) from error


def refresh(
    workspace: Workspace,
    reader: Reader,
    dataset_ids: Iterable[int],
    *,
    deep: bool = False,
    patience_s: float = LOCK_TIMEOUT_S,
) -> Changes:
    """Brings the files of these agent data sets up to date, as ``data_view.refresh`` does; gives what was done."""
    ids = frozenset(dataset_ids)
    return data_view.refresh(workspace, reader, lambda reader: _kept(reader, ids), deep=deep, patience_s=patience_s)


def rebuild(workspace: Workspace, reader: Reader) -> Changes:
    """Brings all files up to date, as ``data_view.rebuild`` does; gives what was done and what is unknown."""
    return data_view.rebuild(workspace, reader, _kept)


def check(workspace: Workspace, reader: Reader, only: Collection[int] | None = None) -> list[Difference]:
    """Where the files, or those of ``only`` these agent data sets, differ from the record; changes nothing."""
    found = data_view.check(workspace, _kept(reader, only), only_its_own=only is not None)
    return without_pending(reader, workspace, found, workspace.data_dir)


def _kept(reader: Reader, only: Collection[int] | None = None) -> Kept:
    files, unfinished, problems = [], set(), []
    for row in reader.rows(_DATASETS):
        if only is not None and row["id"] not in only:
            continue
        problem = name_problem(row["name"])
        if problem is not None:
            problems.append(Difference(DIRECTORY, "contradiction", f"A name in the database is none: {problem}."))
        elif is_finished(row):
            files.append(_files(reader, row))
        else:
            unfinished.add(path_of(row["name"]))
    return Kept(files, (DIRECTORY,), unfinished, problems)


def _files(reader: Reader, dataset: Row) -> Files:
    path = path_of(dataset["name"])
    return Files(
        DIRECTORY,
        (path,),
        completed_ns(dataset),
        lambda: {path: content(reader, reader.rows(_DATASET, id=dataset["id"])[0])},
        is_settled=dataset["data_digest"] is not None,
    )


def _inputs(reader: Reader, dataset: Row) -> Sequence[str]:
    lines: list[str] = []
    for split in reader.rows(_SPLITS, id=dataset["source_dataset_id"]):
        own = [row["line"] for row in reader.rows(_INPUTS, id=split["id"])]
        if bytes_digest(f"{line}\n".encode() for line in own) != split["digest"]:
            raise Corrupt(f"The inputs of {dataset['name']} are not those that were read.", hint=RESTORE)
        lines += own
    return lines
