"""The files under ``data/agents``, kept as the record says: they can be deleted and come back byte for byte.

Paths are text below the workspace's data directory. How they are compared and written is the tree's (tracker.view).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tracker import view_plan
from tracker.agent_file import agent_file, answers_digest
from tracker.catalogue import Reader, Row, reading
from tracker.content import RESTORE
from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace, name_problem
from tracker.view import Part, refuse
from tracker.view_plan import Changes, Difference, Entry, Expected, Wanted, differences, plan, union
from tracker.view_rows import completed_ns
from tracker.view_tree import LOCK_TIMEOUT_S, Tree, explained, look, stamp, walk, writing

DIRECTORY = "agents"
_DATASETS = "SELECT id, name, status, created_at, completed_at, data_digest FROM agent_dataset ORDER BY id"
_DATASET = "SELECT * FROM agent_dataset WHERE id = :id"
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_SPLITS = "SELECT id, digest FROM source_split WHERE source_dataset_id = :id ORDER BY id"
_INPUTS = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_ANSWERS = """
    SELECT position, perspective, response, preparation FROM agent_response WHERE agent_dataset_id = :id
    ORDER BY position, perspective"""
_HERE = {DIRECTORY: Entry(view_plan.DIRECTORY)}


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
    """Brings the files of these agent data sets up to date; gives what was done.

    Without ``deep`` a file is taken as right by its time. What was edited or stands in the way is moved to the trash.
    Raises StorageError where it cannot be written, Conflict where another process is still writing after
    ``patience_s``, and, when all the rest is done, Corrupt where rows contradict each other.
    """
    ids = set(dataset_ids)
    problems: list[Difference] = []
    with explained(workspace):
        changes = _bring(workspace, reader, ids, None, problems, deep=deep)
    if changes:
        # What is written must come from a snapshot younger than the lock: an older one could undo another's work.
        with writing(workspace, patience_s, workspace.data_dir) as tree, reading(workspace) as fresh:
            problems.clear()
            changes = _bring(workspace, fresh, ids, tree, problems, deep=deep)
    refuse(problems)
    return changes


def rebuild(workspace: Workspace, reader: Reader) -> Changes:
    """Brings all files up to date, also from nothing; gives what was done and what is unknown.

    ``reader`` must not have been used before, so that it sees what others wrote until this got its turn. Raises as
    ``refresh`` does.
    """
    problems: list[Difference] = []
    with writing(workspace, root=workspace.data_dir) as tree:
        done = union(part.apply(tree) for part in _parts(workspace, reader, None, problems))
    refuse(problems)
    return done


def check(workspace: Workspace, reader: Reader, only: Collection[int] | None = None) -> list[Difference]:
    """Where the files, or those of ``only`` these agent data sets, differ from the record; changes nothing.

    Content is compared.
    """
    found: list[Difference] = []
    with explained(workspace):
        for part in _parts(workspace, reader, only, found):
            found.extend(differences(part.changes, part.tree))
    return found


def _bring(
    workspace: Workspace, reader: Reader, ids: set[int], tree: Tree | None, problems: list[Difference], *, deep: bool
) -> Changes:
    """What is to be done for ``ids``; with a ``tree`` it is done. Files that look right are not read."""
    root = workspace.data_dir
    datasets = {path: row for path, row in _datasets(reader, ids, problems).items() if is_finished(row)}
    found = look(root, datasets)
    glance = plan(
        Wanted({DIRECTORY: {path: Expected(completed_ns(row)) for path, row in datasets.items()}}),
        _with_directory(found),
    )
    suspects = {path: row for path, row in datasets.items() if deep or path in glance.files or glance.directories}
    suspects |= {path: row for path, row in datasets.items() if row["data_digest"] is None}
    done = []
    if glance.directories:
        in_the_way = Part(_around(suspects, {}, found), found)
        done.append(in_the_way.changes if tree is None else in_the_way.apply(tree))
    found |= look(root, suspects, read=suspects)
    for path, row in suspects.items():
        if tree is None and path not in found:
            done.append(Changes(files=(path,)))
            continue
        for part in _file(reader, path, row, found, problems):
            if tree is not None:
                done.append(part.apply(tree))
                continue
            done.append(part.changes)
            stamp(root, part.changes.stamps, part.mtime_ns)
    return union(done)


def _parts(
    workspace: Workspace, reader: Reader, only: Collection[int] | None, problems: list[Difference]
) -> Iterator[Part]:
    """All of it: what lies around the files, and each file."""
    datasets = _datasets(reader, only, problems)
    finished = {path: row for path, row in datasets.items() if is_finished(row)}
    if only is None:
        found = walk(workspace.data_dir, DIRECTORY, 1, read=finished)
        yield Part(_around(finished, datasets.keys() - finished.keys(), found), found)
    else:
        found = look(workspace.data_dir, finished, read=finished)
        yield Part(_around(finished, (), found), found)
    for path, row in finished.items():
        yield from _file(reader, path, row, found, problems)


def _datasets(reader: Reader, only: Collection[int] | None, problems: list[Difference]) -> dict[str, Row]:
    """The agent data sets by the path of their file."""
    datasets = {}
    for row in reader.rows(_DATASETS):
        if only is not None and row["id"] not in only:
            continue
        problem = name_problem(row["name"])
        if problem is None:
            datasets[path_of(row["name"])] = row
        else:
            problems.append(Difference(DIRECTORY, "contradiction", f"A name in the database is none: {problem}."))
    return datasets


def _around(files: Collection[str], unfinished: Collection[str], found: dict[str, Entry]) -> Changes:
    """What is to be done about everything but the files: what is in their directory's place, strangers, leftovers."""
    wanted = Wanted({DIRECTORY: {}} if files else {}, {}, {DIRECTORY, *files}, set(unfinished))
    return plan(wanted, _with_directory(found))


def _file(
    reader: Reader, path: str, row: Row, found: Mapping[str, Entry], problems: list[Difference]
) -> Iterator[Part]:
    try:
        data = content(reader, reader.rows(_DATASET, id=row["id"])[0])
    except Corrupt as error:
        problems.append(Difference(path, "contradiction", error.message))
        return
    mtime_ns = completed_ns(row)
    expected = Expected(mtime_ns, len(data), hashlib.sha256(data).hexdigest())
    tree = _HERE | ({path: found[path]} if path in found else {})
    yield Part(plan(Wanted({DIRECTORY: {path: expected}}), tree), tree, {path: data}, mtime_ns)


def _with_directory(found: dict[str, Entry]) -> dict[str, Entry]:
    # Each file is written by itself, with its own time, and the first one makes their directory.
    return _HERE | found


def _inputs(reader: Reader, dataset: Row) -> Sequence[str]:
    lines: list[str] = []
    for split in reader.rows(_SPLITS, id=dataset["source_dataset_id"]):
        own = [row["line"] for row in reader.rows(_INPUTS, id=split["id"])]
        if bytes_digest(f"{line}\n".encode() for line in own) != split["digest"]:
            raise Corrupt(f"The inputs of {dataset['name']} are not those that were read.", hint=RESTORE)
        lines += own
    return lines
