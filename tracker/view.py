"""The directory tree that training scripts read, kept as the record says: it can be deleted and comes back.

plan(wanted, tree) -> changes   view_plan, pure
look, walk, apply(changes)      view_tree, effects
refresh, rebuild, check         here: which rows are wanted where
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tracker.catalogue import Reader, Row, reading
from tracker.content import CONFIG, FINGERPRINT, METADATA, experiment_files
from tracker.errors import Corrupt
from tracker.paths import SHARED, Workspace, name_problem
from tracker.view_plan import (
    LINK,
    Changes,
    Difference,
    Entry,
    Expected,
    Wanted,
    differences,
    experiment_of,
    link_target,
    plan,
    union,
)
from tracker.view_tree import Tree, explained, look, stamp, walk, writing

MAX_LINKS = 1000
"""So many links are looked at in one ``refresh``, those of the newest memberships."""

_CHUNK = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_EXPERIMENTS = """
    SELECT id, dataset, name, source_dataset_id, COALESCE(completed_at, created_at) AS moment
    FROM shared_experiment WHERE status IN ('complete', 'partial') AND id IN (:ids) ORDER BY id"""
_SIZES = """
    SELECT source_dataset_id, filename, CASE WHEN content IS NULL THEN NULL ELSE n_bytes END AS size
    FROM source_split WHERE source_dataset_id IN (:ids)"""
_LINKS = """
    SELECT b.name AS batch, e.dataset, e.name, m.created_at
    FROM batch_membership m JOIN batch b ON b.id = m.batch_id JOIN shared_experiment e ON e.id = m.shared_experiment_id
    WHERE e.status IN ('complete', 'partial') AND e.id IN (:ids) ORDER BY m.created_at DESC LIMIT :limit"""
_MEMBERS = """
    SELECT e.dataset, e.name, e.status
    FROM batch_membership m JOIN shared_experiment e ON e.id = m.shared_experiment_id WHERE m.batch_id = :batch"""
_EXPERIMENT = """
    SELECT e.*, b.name AS original_batch FROM shared_experiment e JOIN batch b ON b.id = e.original_batch_id
    WHERE e.id = :id"""
_RECORDS = """
    SELECT r.line, s.status, s.rephrased
    FROM source_split p JOIN source_record r ON r.source_split_id = p.id
    LEFT JOIN sample s ON s.shared_experiment_id = :id AND s.position = r.position AND s.source_record_id = r.id
    WHERE p.source_dataset_id = :dataset AND p.content IS NULL AND r.position < :end ORDER BY r.position"""
_COMPLETED_BY = """
    SELECT versions FROM generation_run
    WHERE shared_experiment_id = :id AND outcome IN ('made', 'resumed') AND status IN ('complete', 'partial')
    ORDER BY id DESC LIMIT 1"""


def refresh(workspace: Workspace, reader: Reader, experiment_ids: Iterable[int], *, deep: bool = False) -> Changes:
    """Brings the directories and batch links of these experiments up to date; gives what was done.

    Without ``deep`` a file is taken as right by its size and time. Raises StorageError where the tree cannot be
    written, Conflict where another process does not stop writing it, Corrupt where rows contradict each other.
    """
    ids = sorted(set(experiment_ids))
    with explained(workspace):
        changes = _bring(workspace.synthetic_dir, _Record(reader), ids, None, deep=deep)
    if not changes:
        return changes
    # What is written must come from a snapshot younger than the lock: an older one could undo another's work.
    with writing(workspace) as tree, reading(workspace) as fresh:
        return _bring(workspace.synthetic_dir, _Record(fresh), ids, tree, deep=deep)


def rebuild(workspace: Workspace, reader: Reader, progress: Callable[[int, int], None] | None = None) -> Changes:
    """Brings the whole tree up to date, also from nothing; gives what was done and what is unknown.

    ``reader`` must not have been used before, so that it sees what others wrote until this got its turn. ``progress``
    gets how many experiments and batches are done, and of how many. Raises as ``refresh`` does.
    """
    problems: list[Difference] = []
    with writing(workspace) as tree:
        parts = _parts(workspace.synthetic_dir, _Record(reader), problems, progress)
        done = union(part.apply(tree) for part in parts)
    _raise(problems)
    return done


def check(workspace: Workspace, reader: Reader) -> list[Difference]:
    """Where the tree differs from the record, content compared; changes nothing."""
    found: list[Difference] = []
    missing: set[str] = set()
    with explained(workspace):
        for part in _parts(workspace.synthetic_dir, _Record(reader), found, None):
            missing.update(part.changes.directories)
            found.extend(differences(part.changes, part.tree))
            found.extend(_dangling(part.tree, missing))
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the tree that is compared and written at once."""

    changes: Changes
    tree: Mapping[str, Entry]
    content: Mapping[str, bytes] = field(default_factory=dict)
    mtime_ns: int = 0

    def apply(self, tree: Tree) -> Changes:
        if self.changes or self.changes.stamps:
            return tree.apply(self.changes, self.content, self.mtime_ns)
        return self.changes


class _Record:
    """The rows behind the tree; the source data set used last is kept at hand."""

    def __init__(self, reader: Reader) -> None:
        self.rows = reader.rows
        self._dataset: tuple[Row, list[Row]] | None = None

    def of(self, sql: str, ids: Sequence[int], **parameters: int) -> Iterator[Row]:
        for start in range(0, len(ids), _CHUNK):
            chunk = {f"id{number}": each for number, each in enumerate(ids[start : start + _CHUNK])}
            yield from self.rows(sql.replace(":ids", ", ".join(f":{name}" for name in chunk)), **chunk, **parameters)

    def files(self, experiment: Row) -> dict[str, bytes]:
        """The experiment's files, by path in the tree. Raises Corrupt."""
        dataset, splits = self._source(experiment["source_dataset_id"])
        limit = experiment["record_limit"]
        end = 2**31 - 1 if limit is None else limit
        records = self.rows(_RECORDS, id=experiment["id"], dataset=dataset["id"], end=end)
        runs = self.rows(_COMPLETED_BY, id=experiment["id"])
        _check_names(experiment["dataset"], experiment["name"], *(split["filename"] for split in splits))
        content = experiment_files(experiment, dataset, splits, records, runs[0] if runs else None)
        return {f"{_home(experiment)}/{name}": data for name, data in content.items()}

    def _source(self, dataset_id: int) -> tuple[Row, list[Row]]:
        if self._dataset is None or self._dataset[0]["id"] != dataset_id:
            dataset = self.rows("SELECT * FROM source_dataset WHERE id = :id", id=dataset_id)[0]
            splits = self.rows("SELECT * FROM source_split WHERE source_dataset_id = :id ORDER BY id", id=dataset_id)
            self._dataset = dataset, splits
        return self._dataset


def _bring(root: Path, record: _Record, ids: Sequence[int], tree: Tree | None, *, deep: bool) -> Changes:
    """What is to be done for ``ids``; with a ``tree`` it is done. Directories that look right are not read."""
    experiments = {_home(row): row for row in record.of(_EXPERIMENTS, ids)}
    wanted = _wanted(record, experiments)
    seen = look(root, (path for files in wanted.directories.values() for path in files))
    glance = plan(wanted, seen)
    suspects = set(experiments) if deep else {*glance.directories, *map(experiment_of, glance.files)}
    problems: list[Difference] = []
    done = []
    for home in sorted(suspects):
        if tree is None and home in glance.directories:
            done.append(Changes(directories=(home,)))
            continue
        for part in _experiment(root, record, experiments[home]["id"], problems):
            if tree is not None:
                done.append(part.apply(tree))
                continue
            done.append(part.changes)
            stamp(root, part.changes.stamps, part.mtime_ns)
    links = _links(record, ids)
    tree_of_links = look(root, links)
    part = _Part(plan(Wanted(links=links), tree_of_links), tree_of_links)
    done.append(part.changes if tree is None else part.apply(tree))
    _raise(problems)
    return union(done)


def _wanted(record: _Record, experiments: Mapping[str, Row]) -> Wanted:
    sizes: dict[int, dict[str, int | None]] = {}
    for row in record.of(_SIZES, sorted({row["source_dataset_id"] for row in experiments.values()})):
        sizes.setdefault(row["source_dataset_id"], {})[row["filename"]] = row["size"]
    directories = {}
    for home, row in experiments.items():
        mtime_ns = _nanoseconds(row["moment"])
        files = sizes.get(row["source_dataset_id"], {})
        directories[home] = {
            **{f"{home}/{name}": Expected(mtime_ns) for name in (FINGERPRINT, METADATA, CONFIG)},
            **{f"{home}/{row['dataset']}/{name}": Expected(mtime_ns, size) for name, size in files.items()},
        }
    return Wanted(directories)


def _links(record: _Record, ids: Sequence[int]) -> dict[str, str]:
    rows = sorted(record.of(_LINKS, ids, limit=MAX_LINKS), key=lambda row: str(row["created_at"]), reverse=True)
    return dict(_link(row["batch"], row["dataset"], row["name"]) for row in rows[:MAX_LINKS])


def _parts(
    root: Path, record: _Record, problems: list[Difference], progress: Callable[[int, int], None] | None
) -> Iterator[_Part]:
    """The whole tree: what lies between the pieces, each experiment, each batch."""
    experiments = record.rows("SELECT id, dataset, name, status FROM shared_experiment ORDER BY dataset, name")
    batches = record.rows("SELECT id, name FROM batch ORDER BY name")
    yield _between(root, experiments, batches)
    pieces = [row for row in experiments if _visible(row)]
    total = len(pieces) + len(batches)
    for number, row in enumerate([*pieces, *batches]):
        if progress is not None:
            progress(number, total)
        if number < len(pieces):
            yield from _experiment(root, record, row["id"], problems)
        else:
            yield from _batch(root, record, row, problems)
    if progress is not None:
        progress(total, total)


def _between(root: Path, experiments: Sequence[Row], batches: Sequence[Row]) -> _Part:
    known = {SHARED, *(row["name"] for row in batches)}
    known |= {f"{SHARED}/{row['dataset']}" for row in experiments}
    known |= {_home(row) for row in experiments if _visible(row)}
    unfinished = {_home(row) for row in experiments if not _visible(row)}
    tree = walk(root, "", 1) | walk(root, SHARED, 2)
    return _Part(plan(Wanted(known=known, unfinished=unfinished), tree), tree)


def _experiment(root: Path, record: _Record, experiment_id: int, problems: list[Difference]) -> Iterator[_Part]:
    experiment = record.rows(_EXPERIMENT, id=experiment_id)[0]
    home = _home(experiment)
    try:
        content = record.files(experiment)
    except Corrupt as error:
        problems.append(Difference(home, "contradiction", error.message))
        return
    mtime_ns = _nanoseconds(experiment["completed_at"] or experiment["created_at"])
    files = {path: Expected(mtime_ns, len(data), hashlib.sha256(data).hexdigest()) for path, data in content.items()}
    tree = walk(root, home, 2, read=files)
    yield _Part(plan(Wanted({home: files}), tree), tree, content, mtime_ns)


def _batch(root: Path, record: _Record, batch: Row, problems: list[Difference]) -> Iterator[_Part]:
    rows = record.rows(_MEMBERS, batch=batch["id"])
    name = batch["name"]
    try:
        _check_names(name)
        links = dict(_link(name, row["dataset"], row["name"]) for row in rows if _visible(row))
    except Corrupt as error:
        problems.append(Difference(name, "contradiction", error.message))
        return
    unfinished = {f"{name}/{row['dataset']}/{row['name']}" for row in rows if not _visible(row)}
    known = {name, *(f"{name}/{row['dataset']}" for row in rows)}
    tree = walk(root, name, 2)
    yield _Part(plan(Wanted(links=links, known=known, unfinished=unfinished), tree), tree)


def _dangling(tree: Mapping[str, Entry], missing: set[str]) -> Iterator[Difference]:
    if not missing:
        return
    for path, entry in tree.items():
        if entry.kind == LINK and path.count("/") == 2 and entry.target == link_target(path):
            home = entry.target.removeprefix("../../")
            if home in missing:
                yield Difference(path, "dangling", f"{home} is missing")


def _link(batch: str, dataset: str, name: str) -> tuple[str, str]:
    _check_names(batch, dataset, name)
    path = f"{batch}/{dataset}/{name}"
    return path, link_target(path)


def _home(experiment: Row) -> str:
    return f"{SHARED}/{experiment['dataset']}/{experiment['name']}"


def _visible(experiment: Row) -> bool:
    return experiment["status"] in {"complete", "partial"}


def _nanoseconds(moment: str) -> int:
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1) * 1000


def _check_names(*names: str) -> None:
    for name in names:
        problem = name_problem(name)
        if problem is not None:
            raise Corrupt(f"A name in the database is no name for the tree: {problem}.")


def _raise(problems: Sequence[Difference]) -> None:
    if problems:
        lines = [f"{problem.path}: {problem.detail}" for problem in problems]
        raise Corrupt(
            "\n".join(["The database contradicts itself.", *lines]),
            hint="Nothing was written for these. Restore the database from a backup.",
        )
