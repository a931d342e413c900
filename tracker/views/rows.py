"""The rows behind the tree, and what they say it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tracker.errors import Corrupt
from tracker.paths import SHARED, name_problem
from tracker.record.catalogue import Reader, Row
from tracker.record.checkpoints import load as load_checkpoints
from tracker.record.content import CONFIG, FINGERPRINT, METADATA, experiment_files
from tracker.record.findings import RESTORE
from tracker.record.imported import is_imported, view_files, view_sizes
from tracker.views.plan import Expected, link_target

MAX_LINKS = 1000
"""So many links for each experiment are looked at in one ``refresh``, those of the newest memberships."""

_CHUNK = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ALL = "SELECT id, dataset, name, status, directory FROM shared_experiment ORDER BY dataset, name"
_BATCHES = "SELECT id, name FROM batch WHERE deleted_at IS NULL ORDER BY name"
_EXPERIMENTS = """
    SELECT id, dataset, name, source_dataset_id, created_at, completed_at, import_run_id
    FROM shared_experiment
    WHERE status IN ('complete', 'partial') AND directory IS NULL AND id IN (:ids) ORDER BY id"""
_SIZES = """
    SELECT source_dataset_id, filename, CASE WHEN content IS NULL THEN NULL ELSE n_bytes END AS size
    FROM source_split WHERE source_dataset_id IN (:ids)"""
_LINKS = """
    SELECT b.name AS batch, e.dataset, e.name, e.directory, m.created_at
    FROM batch_membership m JOIN batch b ON b.id = m.batch_id JOIN shared_experiment e ON e.id = m.shared_experiment_id
    WHERE e.status IN ('complete', 'partial') AND e.id IN (:ids) ORDER BY m.created_at DESC LIMIT :limit"""
_MEMBERS = """
    SELECT e.dataset, e.name, e.status, e.directory
    FROM batch_membership m JOIN shared_experiment e ON e.id = m.shared_experiment_id WHERE m.batch_id = :batch"""
_EXPERIMENT = """
    SELECT e.*, b.name AS original_batch FROM shared_experiment e LEFT JOIN batch b ON b.id = e.original_batch_id
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


class Record:
    """The rows behind the tree; the source data set used last is kept at hand."""

    def __init__(self, reader: Reader, shared: str = "") -> None:
        """``shared`` is where ``_shared`` lies, as ``directory`` of what was imported has it."""
        self._shared = shared
        self._reader = reader
        self._rows = reader.rows
        self._dataset: tuple[Row, list[Row]] | None = None

    def experiments(self) -> list[Row]:
        """Every experiment: id, dataset, name, status, directory."""
        return self._rows(_ALL)

    def batches(self) -> list[Row]:
        """Every batch: id, name."""
        return self._rows(_BATCHES)

    def members(self, batch: Row) -> list[Row]:
        """The experiments of a batch: dataset, name, status, directory."""
        return self._rows(_MEMBERS, batch=batch["id"])

    def experiment(self, experiment_id: int) -> Row:
        """The whole row of an experiment, with the name of its ``original_batch``."""
        return self._rows(_EXPERIMENT, id=experiment_id)[0]

    def expected(self, ids: Sequence[int]) -> tuple[dict[str, int], dict[str, dict[str, Expected]]]:
        """The directories of the finished ones of ``ids``: whose they are, and their files as a glance tells them."""
        experiments = list(self._of(_EXPERIMENTS, ids))
        sizes: dict[int, dict[str, int | None]] = {}
        for row in self._of(_SIZES, sorted({row["source_dataset_id"] for row in experiments})):
            sizes.setdefault(row["source_dataset_id"], {})[row["filename"]] = row["size"]
        files = {
            home_of(row): _glance_imported(row, view_sizes(self._reader, row))
            if is_imported(row)
            else _glance(row, sizes.get(row["source_dataset_id"], {}))
            for row in experiments
        }
        return {home_of(row): row["id"] for row in experiments}, files

    def links(self, ids: Sequence[int]) -> tuple[dict[str, str], set[str]]:
        """The batch links of ``ids`` with their targets, MAX_LINKS for each at most; and which lead to older places.

        Raises Corrupt.
        """
        limit = MAX_LINKS * len(ids)
        rows = sorted(self._of(_LINKS, ids, limit=limit), key=lambda row: str(row["created_at"]), reverse=True)
        linked = [(*link_of(row["batch"], row), row["directory"]) for row in rows[:limit] if self.is_linked(row)]
        return {path: target for path, target, _ in linked}, {path for path, _, place in linked if place is not None}

    def in_place(self, experiment: Row) -> Iterator[str]:
        """The directories of the tree in which an experiment lies that was imported where it stands."""
        top = self._shared.rpartition("/")[0]
        if experiment["directory"] is not None and experiment["directory"].startswith(f"{top}/"):
            parts = experiment["directory"].removeprefix(f"{top}/").split("/")
            yield from ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))

    def is_linked(self, experiment: Row) -> bool:
        """Whether batches of the view link to an experiment that is finished: it lies where the view has it."""
        return experiment["directory"] in {None, f"{self._shared}/{experiment['dataset']}/{experiment['name']}"}

    def files(self, experiment: Row) -> dict[str, bytes]:
        """The content of the experiment's files by path. Raises Corrupt."""
        dataset, splits = self._source(experiment["source_dataset_id"])
        imported = view_files(self._reader, experiment) if is_imported(experiment) else None
        limit = experiment["record_limit"]
        end = 2**31 - 1 if limit is None else limit
        records = (
            [] if imported is not None else self._rows(_RECORDS, id=experiment["id"], dataset=dataset["id"], end=end)
        )
        runs = self._rows(_COMPLETED_BY, id=experiment["id"])
        _check_names(experiment["dataset"], experiment["name"], *(split["filename"] for split in splits))
        two_stage = experiment["strategy"] == "two_stage"
        checkpoints = load_checkpoints(self._reader, experiment["id"]) if two_stage and imported is None else None
        try:
            run = runs[0] if runs else None
            content = experiment_files(
                experiment, dataset, splits, records, run, checkpoints=checkpoints, imported=imported
            )
        except (ValueError, KeyError) as error:
            where = f"{experiment['dataset']}/{experiment['name']}"
            raise Corrupt(f"The rows of {where} cannot be read: {error}.", hint=RESTORE) from error
        return {f"{home_of(experiment)}/{name}": data for name, data in content.items()}

    def data_files(self, experiment_id: int) -> dict[str, bytes]:
        """The content of an experiment's data files by name. Raises Corrupt."""
        experiment = self.experiment(experiment_id)
        directory = f"{home_of(experiment)}/{experiment['dataset']}/"
        files = self.files(experiment)
        return {path.removeprefix(directory): data for path, data in files.items() if path.startswith(directory)}

    def _source(self, dataset_id: int) -> tuple[Row, list[Row]]:
        if self._dataset is None or self._dataset[0]["id"] != dataset_id:
            dataset = self._rows("SELECT * FROM source_dataset WHERE id = :id", id=dataset_id)[0]
            splits = self._rows("SELECT * FROM source_split WHERE source_dataset_id = :id ORDER BY id", id=dataset_id)
            self._dataset = dataset, splits
        return self._dataset

    def _of(self, sql: str, ids: Sequence[int], **parameters: int) -> Iterator[Row]:
        for start in range(0, len(ids), _CHUNK):
            chunk = {f"id{number}": each for number, each in enumerate(ids[start : start + _CHUNK])}
            yield from self._rows(sql.replace(":ids", ", ".join(f":{name}" for name in chunk)), **chunk, **parameters)


def home_of(experiment: Row) -> str:
    """The directory of a shared experiment."""
    return f"{SHARED}/{experiment['dataset']}/{experiment['name']}"


def link_of(batch: str, experiment: Row) -> tuple[str, str]:
    """The link of an experiment in a batch, with its target. Raises Corrupt."""
    _check_names(batch, experiment["dataset"], experiment["name"])
    path = f"{batch}/{experiment['dataset']}/{experiment['name']}"
    return path, link_target(path)


def is_finished(experiment: Row) -> bool:
    """Whether an experiment is to be seen in the tree."""
    return experiment["status"] in {"complete", "partial"}


def completed_ns(experiment: Row) -> int:
    """The moment that the experiment's files bear as their time, nanoseconds since the epoch."""
    return nanoseconds(experiment["completed_at"] or experiment["created_at"])


def nanoseconds(stored: str) -> int:
    """A time as the record has it, in nanoseconds since the epoch."""
    return (datetime.fromisoformat(stored) - _EPOCH) // timedelta(microseconds=1) * 1000


def _glance(experiment: Row, sizes: Mapping[str, int | None]) -> dict[str, Expected]:
    home, mtime_ns = home_of(experiment), completed_ns(experiment)
    return {
        **{f"{home}/{name}": Expected(mtime_ns) for name in (FINGERPRINT, METADATA, CONFIG)},
        **{f"{home}/{experiment['dataset']}/{name}": Expected(mtime_ns, size) for name, size in sizes.items()},
    }


def _glance_imported(experiment: Row, sizes: Mapping[str, int]) -> dict[str, Expected]:
    home, mtime_ns = home_of(experiment), completed_ns(experiment)
    own = {f"{home}/{name}": Expected(mtime_ns) for name in (FINGERPRINT, METADATA, CONFIG)}
    return own | {f"{home}/{path}": Expected(mtime_ns, size) for path, size in sizes.items()}


_problem = lru_cache(10_000)(name_problem)


def _check_names(*names: str) -> None:
    for name in names:
        problem = _problem(name)
        if problem is not None:
            raise Corrupt(f"A name in the database is no name for the tree: {problem}.")
