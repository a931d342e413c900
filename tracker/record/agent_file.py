"""The bytes of an agent data set's file: a function of its rows and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.fingerprint import Json, bytes_digest, canonical_json
from tracker.record.catalogue import Row

Answers = Mapping[tuple[int, int], Row]
"""Rows of agent_response by (position of the input, position of the perspective)."""


def agent_file(dataset: Row, perspectives: Sequence[Row], inputs: Sequence[Row], answers: Answers) -> bytes:
    """The file. ``inputs`` are parsed records (``input``, ``reference``); a response that failed is null."""
    content = {
        "task_type": dataset["task_type"],
        "task_description": dataset["task_description"],
        "agent_perspectives": [
            {name: each[name] for name in ("condition", "reading", "strategy")} for each in perspectives
        ],
        "tasks": [_task(at, each, perspectives, answers) for at, each in enumerate(inputs)],
        "metadata": metadata(dataset),
    }
    return f"{json.dumps(content, ensure_ascii=False, indent=2)}\n".encode()


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the file; what goes beyond it: a response for each perspective, in order."""
    found: dict[str, Any] = json.loads(Path(__file__).with_suffix(".schema.json").read_bytes())
    return found


def metadata(dataset: Row) -> dict[str, Json]:
    """What the file says of how it was made. Tokens and calls are those of all runs on the data set."""
    config = json.loads(dataset["config"])
    model = json.loads(dataset["identity"])["identity"]["model_config"]
    used = (dataset["prompt_tokens"], dataset["completion_tokens"])
    estimated = (dataset["estimated_prompt_tokens"], dataset["estimated_completion_tokens"])
    return {
        # What shaped the answers: how fast, how often and with which key they were asked for is in the record.
        "model_config": {name: value for name, value in model.items() if value is not None},
        "api_provider": dataset["provider"],
        "data_config": {**config["data_config"], "sample_size": dataset["n_inputs"]},
        "generation_time": (dataset["completed_at"] or "")[:19],
        "token_usage": _tokens(*used),
        "api_calls": {"total_calls": dataset["n_calls"], "from_ledger": dataset["n_cached"]},
        "estimated_tokens": {**_tokens(*estimated), "tokenizer": dataset["tokenizer"]},
        "cost_usd": dataset["cost_usd"],
        "failed_responses": dataset["n_failed"],
        "seed": config.get("seed"),
        "draw": dataset["draw"],
        "fingerprint": dataset["fingerprint"],
    }


def answers_digest(answers: Iterable[Row]) -> str:
    """SHA-256 over responses and preparations, which come in the order of inputs and perspectives."""
    return bytes_digest(f"{canonical_json([row['preparation'], row['response']])}\n".encode() for row in answers)


def _task(position: int, record: Row, perspectives: Sequence[Row], answers: Answers) -> dict[str, Json]:
    rows = [
        {"response": record.get("reference"), "preparation": None}
        if each["is_reference"]
        else answers.get((position, each["position"]), {"response": None, "preparation": None})
        for each in perspectives
    ]
    return {
        "context": record["input"],
        "responses": [row["response"] for row in rows],
        "preparations": [row["preparation"] for row in rows],
    }


def _tokens(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
