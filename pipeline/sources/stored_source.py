"""A data set of the hub that was fetched before: it is in the record, so it is not fetched again and cannot change."""

from __future__ import annotations

from pathlib import Path

from pipeline.sources.records import SPLITS, Source, Split, checked, hub_names, hub_origin
from pipeline.specs import DatasetSpec
from tracker.record.catalogue import Reader

_SPLITS = """
    SELECT id, split, filename, digest, n_records, n_bytes, content FROM source_split
    WHERE source_dataset_id = :id ORDER BY id"""
_LINES = """
    SELECT r.line FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    WHERE p.source_dataset_id = :id ORDER BY r.position"""


def stored_source(reader: Reader, dataset: DatasetSpec, field: str) -> Source | None:
    """The newest stored copy of the hub data set that ``dataset`` names, or None.

    Directories are read each time: they change. Raises DataError where its records have no text in ``field``.
    """
    if dataset.hub is None or Path(dataset.hub).is_dir():
        return None
    name, task_name = hub_names(dataset)
    found = reader.rows(
        "SELECT id FROM source_dataset WHERE origin = :origin AND name = :name AND task_name = :task "
        "ORDER BY id DESC LIMIT 1",
        origin=hub_origin(dataset),
        name=name,
        task=task_name,
    )
    if not found:
        return None
    return source_of(reader, found[0]["id"], field)


def source_of(reader: Reader, dataset_id: int, field: str) -> Source:
    """A source data set as the record holds it. Raises DataError where its records have no text in ``field``."""
    dataset = reader.rows("SELECT name, task_name, origin FROM source_dataset WHERE id = :id", id=dataset_id)[0]
    splits = [
        Split(row["split"], row["filename"], row["digest"], row["n_records"], row["n_bytes"], row["content"])
        for row in reader.rows(_SPLITS, id=dataset_id)
    ]
    lines = (row["line"] for row in reader.rows(_LINES, id=dataset_id))
    there = {split.name for split in splits}
    missing = tuple(split for split in SPLITS[1:] if split not in there)
    records = checked(lines, dataset["origin"], field, None)
    return Source(dataset["name"], dataset["task_name"], dataset["origin"], records, tuple(splits), missing)
