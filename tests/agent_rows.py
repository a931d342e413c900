"""Agent data sets as runs leave them: claimed, answered and finished through the tracker, without an LLM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.databases import rows
from tracker.clock import Process, this_process
from tracker.fingerprint import bytes_digest, identify
from tracker.paths import Workspace
from tracker.record import agents, ledger, sources
from tracker.record.agent_file import answers_digest
from tracker.record.agents import AGENTS, Claimed, Wanted
from tracker.record.catalogue import Row
from tracker.record.database import Database
from tracker.record.generation import Totals
from tracker.record.lease import Busy

MOMENT = "2026-11-20T21:46:52.123456Z"
INPUTS = ({"input": "Guten Tag", "reference": "Good day"}, {"input": "Tschüß 👋\n„bis bald“", "reference": "Bye"})
ASKED = (("Original", None, "Translate."), ("Noted", "Take notes.", "Translate with your notes."))
FAILED = None
"""In the place of a response: it failed."""


def add_source(database: Database, records: Sequence[Mapping[str, Any]] = INPUTS) -> int:
    """The inputs as a source data set, with the digests that they have."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    data = "".join(f"{line}\n" for line in lines).encode()
    split = {
        "split": "input", "filename": "inputs.jsonl", "digest": bytes_digest([data]), "n_records": len(lines),
        "n_bytes": len(data), "content": None,
    }  # fmt: skip
    parts = {"name": "translation", "task_name": "inputs", "splits": {"input": ["inputs.jsonl", split["digest"]]}}
    dataset = {
        "name": "translation", "task_name": "inputs", "digest": identify("source_dataset", parts).digest, "origin": "a",
    }  # fmt: skip
    return sources.register_source(database, dataset, [split], lines)


def wanted(
    database: Database, *, name: str = "translation_m_20261120_214652", references: bool = False,
    records: Sequence[Mapping[str, Any]] = INPUTS, accept_partial: bool = False, **settings: Any,
) -> Wanted:  # fmt: skip
    """What a run over ``records`` asks for; ``settings`` tell data sets apart."""
    source = add_source(database, records)
    (split,) = rows(database.workspace, "SELECT digest FROM source_split WHERE source_dataset_id = :id", id=source)
    asked = [{"condition": name, "reading": reading, "strategy": told} for name, reading, told in ASKED]
    own = {
        "task_type": "translation", "task_description": "German to English", "api_provider": "offline",
        "model_config": {"model_name": "m", "endpoint": "offline", "temperature": 0.7, "top_p": 1.0, "max_tokens": 50},
        "agent_perspectives": asked, "add_references": references, "data_config": {"inputs": split["digest"]},
        "reading": 1, "draw": 0, **settings,
    }  # fmt: skip
    config = {"model_config": {"model_name": "m"}, "data_config": {"input_data_path": "inputs.json"}}
    columns = {
        "task_type": "translation", "task_description": "German to English", "source_dataset_id": source,
        "provider": "offline", "endpoint": "offline", "model": "m", "temperature": 0.7, "top_p": 1.0, "max_tokens": 50,
        "draw": own["draw"], "add_references": references, "n_inputs": len(records), "n_perspectives": len(ASKED),
        "estimated_prompt_tokens": 9, "estimated_completion_tokens": 3, "tokenizer": "none", "settings": "{}",
        "config": json.dumps(config),
    }  # fmt: skip
    run = {"command": "synthtrack perspectives", "config": "{}", "versions": "{}"}
    front: list[Row] = [{"condition": "Reference", "is_reference": True, "reading": None, "strategy": None}]
    perspectives = [*(front if references else []), *({**each, "is_reference": False} for each in asked)]
    return Wanted(identify("agent_dataset", own), name, columns, run, perspectives, accept_partial)


def claim(database: Database, want: Wanted, process: Process | None = None) -> Claimed:
    """A claim that must not find anybody else at it."""
    found = agents.claim(database, want, process or this_process())
    assert not isinstance(found, Busy)
    return found


def answer(database: Database, claimed: Claimed, responses: Sequence[Sequence[str | None]]) -> None:
    """Stores the responses, input by input, in the order of the agents that are asked."""
    found = []
    for perspective, has_notes in _asked(database.workspace, claimed):
        first = min(each for each, _ in _asked(database.workspace, claimed))
        for position, record in enumerate(_records(database.workspace, claimed)):
            text = responses[position][perspective - first]
            found.append({
                "agent_dataset_id": claimed.dataset_id, "position": position, "perspective": perspective,
                "source_record_id": record, "status": "failed" if text is None else "answered", "response": text,
                "preparation": f"on {position}" if has_notes and text is not None else None, "updated_at": MOMENT,
                "error": "HTTP 500" if text is None else None, "reading_request_key": None, "request_key": None,
            })  # fmt: skip
    with database.writing() as connection:
        ledger.save_results(database, connection, found, AGENTS)


def finish(database: Database, claimed: Claimed, status: str = "complete", **totals: Any) -> Row:
    """Ends the run with what there is now as the data set."""
    found = rows(
        database.workspace,
        "SELECT * FROM agent_response WHERE agent_dataset_id = :id ORDER BY position, perspective",
        id=claimed.dataset_id,
    )
    results = {}
    for each in _perspectives(database.workspace, claimed):
        of = [row["status"] for row in found if row["perspective"] == each["position"]]
        n_responses = len(_records(database.workspace, claimed)) if each["is_reference"] else of.count("answered")
        results[each["position"]] = {"n_responses": n_responses, "n_failed": of.count("failed")}
    return agents.finish(
        database, claimed, Totals(**totals), status=status, data_digest=answers_digest(found), results=results
    )


GOOD = (("Hello", "Good day"), ("Bye 👋", "See you"))
"""Responses to INPUTS under ASKED."""


def make(database: Database, responses: Sequence[Sequence[str | None]] = GOOD, **settings: Any) -> Claimed:
    """An agent data set, complete, or partial where responses are None."""
    claimed = claim(database, wanted(database, **settings))
    answer(database, claimed, responses)
    finish(database, claimed, "partial" if any(None in each for each in responses) else "complete")
    return claimed


def dataset(workspace: Workspace, dataset_id: int = 1) -> Row:
    return rows(workspace, "SELECT * FROM agent_dataset WHERE id = :id", id=dataset_id)[0]


def _perspectives(workspace: Workspace, claimed: Claimed) -> list[Row]:
    return rows(
        workspace, "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position",
        id=claimed.dataset_id,
    )  # fmt: skip


def _asked(workspace: Workspace, claimed: Claimed) -> list[tuple[int, bool]]:
    found = _perspectives(workspace, claimed)
    return [(each["position"], each["reading"] is not None) for each in found if not each["is_reference"]]


def _records(workspace: Workspace, claimed: Claimed) -> list[int]:
    found = rows(
        workspace,
        "SELECT r.id FROM source_record r JOIN source_split p ON p.id = r.source_split_id JOIN agent_dataset d "
        "ON d.source_dataset_id = p.source_dataset_id WHERE d.id = :id ORDER BY r.position",
        id=claimed.dataset_id,
    )
    return [row["id"] for row in found]
