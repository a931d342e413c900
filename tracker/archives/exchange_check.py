"""Whether rows that were put in are the data that their digests stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracker.errors import Corrupt, Error
from tracker.fingerprint import bytes_digest, content_key
from tracker.record.agent_file import answers_digest
from tracker.record.catalogue import Reader
from tracker.record.findings import source_findings
from tracker.views.pool_view import pool_content
from tracker.views.rows import Record

_SHOWN = 10
_LINES = "SELECT line FROM source_record WHERE source_split_id = :id ORDER BY position"
_RESPONSES = """
    SELECT position, perspective, status, preparation, response FROM agent_response WHERE agent_dataset_id = :id
    ORDER BY position, perspective"""

_REQUESTS = "SELECT key, endpoint, model, messages, settings, sample_index FROM request WHERE key IN ({})"
_MESSAGES = "SELECT key, role, content FROM message WHERE key IN ({})"
_CHUNK = 500


def check_content(reader: Reader, made: Mapping[str, set[Any]]) -> None:
    """Derives the digests of new sources, experiments, agent data sets and pools (ids by table) from their rows.

    And the keys of new requests from what is asked: an answer must not stand under the key of another question.

    Raises Corrupt with what is not as it is declared.
    """
    problems = [
        *_sources(reader, made.get("source_dataset", ())),
        *_experiments(reader, made.get("shared_experiment", ())),
        *_agents(reader, made.get("agent_dataset", ())),
        *_pools(reader, made.get("task_pool", ())),
        *_requests(reader, made.get("request", ())),
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


def _requests(reader: Reader, keys: Any) -> Iterator[str]:
    found = sorted(keys)
    for start in range(0, len(found), _CHUNK):
        requests = _by_key(reader, _REQUESTS, found[start : start + _CHUNK])
        asked = {key: json.loads(row["messages"]) for key, row in requests.items()}
        messages = _by_key(reader, _MESSAGES, sorted({each for of in asked.values() for each in of}))
        for key, row in requests.items():
            parts = [messages.get(each) for each in asked[key]]
            said = [[each["role"], each["content"]] for each in parts if each is not None]
            own = {name: row[name] for name in ("endpoint", "model", "sample_index")}
            derived = content_key({**own, "messages": said, "settings": json.loads(row["settings"])})
            if len(said) != len(parts) or derived != key:
                yield f"request {key[:12]}: its key is not that of what is asked"


def _by_key(reader: Reader, sql: str, keys: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start in range(0, len(keys), _CHUNK):
        values = {f"k{at}": key for at, key in enumerate(keys[start : start + _CHUNK])}
        marks = ", ".join(f":{name}" for name in values)
        found |= {row["key"]: row for row in reader.rows(sql.format(marks), **values)}
    return found
