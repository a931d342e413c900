"""Source data sets in the record: each once, by its digest, with the lines of the split that is rephrased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import func, select

from tracker import clock
from tracker.record.database import Database
from tracker.schema import table

SOURCE_DATASET, SOURCE_SPLIT, SOURCE_RECORD = (
    table(name) for name in ("source_dataset", "source_split", "source_record")
)

Row = Mapping[str, Any]
T = TypeVar("T")


def register_source(database: Database, dataset: Row, splits: Sequence[Row], lines: Sequence[str]) -> int:
    """The id of the source data set with that digest; stored now if it is new. ``splits[0]`` is the rephrased one."""
    with database.reading() as connection:
        found = connection.execute(
            select(SOURCE_DATASET.c.id).where(SOURCE_DATASET.c.digest == dataset["digest"])
        ).scalar()
    if found is not None:
        return int(found)
    with database.writing() as connection:
        database.insert_new(connection, SOURCE_DATASET, [{**dataset, "created_at": clock.to_text(clock.now())}])
        dataset_id = int(
            connection.execute(
                select(SOURCE_DATASET.c.id).where(SOURCE_DATASET.c.digest == dataset["digest"])
            ).scalar_one()
        )
        if connection.execute(
            select(func.count()).select_from(SOURCE_SPLIT).where(SOURCE_SPLIT.c.source_dataset_id == dataset_id)
        ).scalar_one():
            return dataset_id
        for position, split in enumerate(splits):
            split_id = connection.execute(
                SOURCE_SPLIT.insert().values(**split, source_dataset_id=dataset_id).returning(SOURCE_SPLIT.c.id)
            ).scalar_one()
            if position == 0:
                rows = ({"source_split_id": split_id, "position": at, "line": line} for at, line in enumerate(lines))
                for block in blocks(rows, 10_000):
                    connection.execute(SOURCE_RECORD.insert(), block)
    return dataset_id


def blocks(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """``rows`` in lists of at most ``size``."""
    each = iter(rows)
    while block := list(islice(each, size)):
        yield block
