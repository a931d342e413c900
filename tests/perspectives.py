"""Configs and inputs for tests of `perspectives`, and the file that must come of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.perspectives.inputs import Input, source_of
from pipeline.perspectives.plan import NOTES, Plan
from pipeline.perspectives.specs import PerspectivesConfig, model_of, resolved, validated
from tests.llm_server import Server, invented_answer
from tests.workspaces import changed, write_lines
from tracker.configs import Document, override

Row = dict[str, Any]

PERSPECTIVES: Sequence[Row] = (
    {"condition": "Original", "reading": None, "strategy": "Translate this sentence."},
    {"condition": "Noted", "reading": "Note what matters.", "strategy": "Translate it with your notes."},
    {"condition": "Low Effort", "reading": None, "strategy": "Translate it word for word."},
)
CONFIG: Mapping[str, Any] = {
    "task_type": "translation",
    "task_description": "German to English",
    "model_config": {"model_name": "gpt-4o", "max_tokens": 50},
    "agent_perspectives": list(PERSPECTIVES),
    "data_config": {"input_data_path": "inputs.json"},
}
_COUNTED = ("generation_time", "token_usage", "api_calls", "cost_usd")
_REACH = ("base_url", "timeout", "concurrency", "max_retries", "price")


def pairs(count: int) -> list[dict[str, str]]:
    """Inputs with references."""
    return [
        {"input": f"Der Mann in Haus {number:03} fällt.", "reference": f"The man in house {number:03} falls."}
        for number in range(count)
    ]


def document(**changes: Any) -> Row:
    """A configuration; ``model_config__temperature=1`` changes one setting, None takes it away."""
    return changed(json.loads(json.dumps(CONFIG)), changes)


def served(base_url: str, **changes: Any) -> Row:
    """The same, asked of the test server; the service is named, so that it may move."""
    reach: Row = {"base_url": base_url, "endpoint": "test-server", "timeout": 2, "concurrency": 8}
    return document(**{**{f"model_config__{name}": value for name, value in reach.items()}, **changes})


def offline(**changes: Any) -> Row:
    """The same, answered by the offline rules."""
    return document(**{"api_provider": "offline", "model_config__model_name": "rules-v1", **changes})


def agent(condition: str, strategy: str | None = None, reading: str | None = None) -> Row:
    """One perspective; it is told its own name where nothing is said."""
    return {"condition": condition, "reading": reading, "strategy": strategy or f"Do as {condition} would."}


def write_inputs(root: Path, records: Sequence[Mapping[str, Any]], name: str = "inputs.json") -> Path:
    path = root / name
    if name.endswith(".jsonl"):
        return write_lines(path, records)
    path.write_text(json.dumps(list(records), ensure_ascii=False), encoding="utf-8")
    return path


def write_config(root: Path, given: Mapping[str, Any], name: str = "config.json") -> Path:
    path = root / name
    path.write_text(json.dumps(given, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def new_root(tmp_path: Path, count: int) -> Path:
    """A workspace's directory with that many inputs."""
    root = tmp_path / "workspace"
    root.mkdir()
    write_inputs(root, pairs(count))
    return root


def config(*assignments: str, given: Mapping[str, Any] | None = None) -> PerspectivesConfig:
    """A validated config, with `--set` assignments."""
    return validated(override(Document(dict(given or document()), "f"), assignments))


def plan(
    *assignments: str, given: Mapping[str, Any] | None = None, inputs: Sequence[Mapping[str, str]] = (), draw: int = 0
) -> Plan:
    """The plan for a config over ``inputs``, or three pairs."""
    parsed = config(*assignments, given=given)
    model = model_of(parsed, {})
    used = tuple(Input(each["input"], each.get("reference")) for each in inputs or pairs(3))
    return Plan(resolved(parsed, model), model, source_of("translation", Path("inputs.json"), "f", used), used, draw)


def files(root: Path) -> list[Path]:
    """The files of finished agent data sets, oldest first."""
    return sorted((root / "data/agents").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def content(path: Path) -> Row:
    found: Row = json.loads(path.read_bytes())
    return found


def lasting(path: Path) -> Row:
    """What a file holds apart from counters, times and the way in which the model was reached."""
    found = content(path)
    for name in _COUNTED:
        del found["metadata"][name]
    for name in _REACH:
        found["metadata"]["model_config"].pop(name, None)
    return found


def answered(perspective: Mapping[str, Any], text: str) -> tuple[str | None, str]:
    """The notes and the response that the test server gives under one condition."""
    if perspective["reading"] is None:
        return None, invented_answer(f"{perspective['strategy']}\n\n{text}")
    notes = invented_answer(f"{perspective['reading']}\n\n{text}")
    return notes, invented_answer(f"{perspective['strategy']}\n\n{text}\n\n{NOTES}\n{notes}")


def tasks(
    records: Sequence[Mapping[str, str]],
    perspectives: Sequence[Mapping[str, Any]] = PERSPECTIVES,
    *,
    references: bool = False,
) -> list[Row]:
    """The ``tasks`` of a file that the test server's answers make."""
    found = []
    for record in records:
        both = [answered(each, record["input"]) for each in perspectives]
        both = [(None, record["reference"]), *both] if references else both
        found.append(
            {
                "context": record["input"],
                "responses": [response for _, response in both],
                "preparations": [notes for notes, _ in both],
            }
        )
    return found


def answered_twice(server: Server) -> int:
    times: dict[str, int] = server.stats()["answered"]
    return sum(each - 1 for each in times.values())


def received(server: Server) -> int:
    return int(server.stats()["received"])
