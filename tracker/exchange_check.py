"""Whether rows that were put in are the data that their digests stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tracker.agent_file import answers_digest
from tracker.catalogue import Reader
from tracker.errors import Corrupt, Error
from tracker.findings import source_findings
from tracker.fingerprint import bytes_digest
from tracker.pool_view import pool_content
from tracker.view_rows import Record

_SHOWN = 10
_LINES = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_RESPONSES = """
    SELECT position, perspective, status, preparation, response FROM agent_response WHERE agent_dataset_id = :id
    ORDER BY position, perspective"""


def check_content(reader: Reader, made: Mapping[str, set[Any]]) -> None:
    """Derives the digests of new sources, experiments, agent data sets and pools (ids by table) from their rows.

    Raises Corrupt with what is not as it is declared.
    """
    problems = [
        *_sources(reader, made.get("source_dataset", ())),
        *_experiments(reader, made.get("shared_experiment", ())),
        *_agents(reader, made.get("agent_dataset", ())),
        *_pools(reader, made.get("task_pool", ())),
    ]
    if problems:
        shown = [f"  {each}" for each in problems[:_SHOWN]]
        raise Corrupt(
            "\n".join(["The rows of the archive are not what their digests say:", *shown]),
            hint="Nothing was taken from it: it was changed after it was written.",
        )


def _sources(reader: Reader, ids: Any) -> Iterator[str]:
    for source_id in sorted(ids):
        source = reader.rows("SELECT * FROM source_dataset WHERE id = :id", id=source_id)[0]
        splits = reader.rows("SELECT * FROM source_split WHERE source_dataset_id = :id ORDER BY id", id=source_id)
        lines = {
            split["id"]: [row["line"] for row in reader.rows(_LINES, id=split["id"])]
            for split in splits
            if split["content"] is None
        }
        yield from (f"source data set {each.where}: {each.what}" for each in source_findings(source, splits, lines))


def _experiments(reader: Reader, ids: Any) -> Iterator[str]:
    record = Record(reader)
    for experiment_id in sorted(ids):
        experiment = record.experiment(experiment_id)
        if experiment["data_digest"] is None:
            continue
        where = f"experiment {experiment['dataset']}/{experiment['name']}"
        try:
            files = record.data_files(experiment_id)
        except Error as error:
            yield f"{where}: {error.message}"
            continue
        if experiment["data_digest"] not in {bytes_digest([data]) for data in files.values()}:
            yield f"{where}: no file has SHA-256 {experiment['data_digest'][:12]}"


def _agents(reader: Reader, ids: Any) -> Iterator[str]:
    for dataset_id in sorted(ids):
        row = reader.rows("SELECT name, data_digest FROM agent_dataset WHERE id = :id", id=dataset_id)[0]
        if row["data_digest"] not in {None, answers_digest(reader.rows(_RESPONSES, id=dataset_id))}:
            yield f"agent data set {row['name']}: its responses have another digest"


def _pools(reader: Reader, ids: Any) -> Iterator[str]:
    for pool_id in sorted(ids):
        try:
            pool_content(reader, pool_id)
        except Corrupt as error:
            yield error.message
