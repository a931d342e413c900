"""The bytes of the agents' file, and the schema that ships with the project."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.perspectives.specs import AgentModelSpec, DataConfigSpec, identity_parts, recorded_config
from tests.perspectives import config, document, offline, pairs, write_config, write_inputs
from tests.workspaces import call
from tracker.fingerprint import bytes_digest
from tracker.record.agent_file import agent_file, answers_digest, schema
from tracker.spec import Spec, key_of, marks

CONFIG = {
    "model_config": {"model_name": "m/l", "temperature": 0.7, "concurrency": 9},
    "data_config": {"input_data_path": "i.json", "sample_size": 200},
    "seed": 7,
}
IDENTITY = {"identity": {"model_config": {"model_name": "m/l", "temperature": 0.7, "stop": None}}}
DATASET: Mapping[str, Any] = {
    "task_type": "translation", "task_description": "German to English", "provider": "together",
    "config": json.dumps(CONFIG), "identity": json.dumps(IDENTITY), "n_inputs": 2, "draw": 0,
    "completed_at": "2026-11-20T21:46:52.123456Z", "prompt_tokens": 100, "completion_tokens": 50, "n_calls": 5,
    "n_cached": 1, "estimated_prompt_tokens": 90, "estimated_completion_tokens": 60, "tokenizer": "cl100k_base",
    "cost_usd": 0.25, "n_failed": 1, "fingerprint": "0123456789ab",
}  # fmt: skip
PERSPECTIVES = (
    {"position": 0, "condition": "Reference", "is_reference": True, "reading": None, "strategy": None},
    {"position": 1, "condition": "Original", "is_reference": False, "reading": None, "strategy": "Translate."},
    {"position": 2, "condition": "Noted", "is_reference": False, "reading": "Note.", "strategy": "Translate."},
)
INPUTS = ({"input": "Tür", "reference": "door"}, {"input": 'Zwei\nZeilen, "so" 👋', "reference": "two"})
ANSWERS: Mapping[tuple[int, int], dict[str, Any]] = {
    (0, 1): {"response": "a door", "preparation": None},
    (0, 2): {"response": "the door", "preparation": "a noun"},
    (1, 1): {"response": None, "preparation": None},
    (1, 2): {"response": 'Two\nlines, "so" 👋', "preparation": ""},
}
BYTES = """\
{
  "task_type": "translation",
  "task_description": "German to English",
  "agent_perspectives": [
    {
      "condition": "Reference",
      "reading": null,
      "strategy": null
    },
    {
      "condition": "Original",
      "reading": null,
      "strategy": "Translate."
    },
    {
      "condition": "Noted",
      "reading": "Note.",
      "strategy": "Translate."
    }
  ],
  "tasks": [
    {
      "context": "Tür",
      "responses": [
        "door",
        "a door",
        "the door"
      ],
      "preparations": [
        null,
        null,
        "a noun"
      ]
    },
    {
      "context": "Zwei\\nZeilen, \\"so\\" 👋",
      "responses": [
        "two",
        null,
        "Two\\nlines, \\"so\\" 👋"
      ],
      "preparations": [
        null,
        null,
        ""
      ]
    }
  ],
  "metadata": {
    "model_config": {
      "model_name": "m/l",
      "temperature": 0.7
    },
    "api_provider": "together",
    "data_config": {
      "input_data_path": "i.json",
      "sample_size": 2
    },
    "generation_time": "2026-11-20T21:46:52",
    "token_usage": {
      "prompt_tokens": 100,
      "completion_tokens": 50,
      "total_tokens": 150
    },
    "api_calls": {
      "total_calls": 5,
      "from_ledger": 1
    },
    "estimated_tokens": {
      "prompt_tokens": 90,
      "completion_tokens": 60,
      "total_tokens": 150,
      "tokenizer": "cl100k_base"
    },
    "cost_usd": 0.25,
    "failed_responses": 1,
    "seed": 7,
    "draw": 0,
    "fingerprint": "0123456789ab"
  }
}
"""


def made(**columns: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(agent_file({**DATASET, **columns}, PERSPECTIVES, INPUTS, ANSWERS))
    return found


def test_the_bytes_are_known() -> None:
    assert agent_file(dict(DATASET), PERSPECTIVES, INPUTS, ANSWERS).decode() == BYTES


def test_a_response_that_is_not_there_is_null() -> None:
    found = json.loads(agent_file(dict(DATASET), PERSPECTIVES, INPUTS, {}))
    assert [task["responses"] for task in found["tasks"]] == [["door", None, None], ["two", None, None]]


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT, st.none() | TEXT), min_size=1, max_size=4), TEXT)
def test_whatever_the_texts_are_they_come_back(
    rows: Sequence[tuple[str, str, str | None, str | None]], strategy: str
) -> None:
    inputs = [{"input": text, "reference": reference} for text, reference, _, _ in rows]
    answers: dict[tuple[int, int], dict[str, Any]] = {
        (at, 1): {"response": row[2], "preparation": row[3]} for at, row in enumerate(rows)
    }
    perspectives = [PERSPECTIVES[0], {**PERSPECTIVES[1], "strategy": strategy}]
    data = agent_file({**DATASET, "task_description": strategy}, perspectives, inputs, answers)
    found = json.loads(data.decode())
    assert found["tasks"] == [
        {"context": text, "responses": [reference, response], "preparations": [None, notes]}
        for text, reference, response, notes in rows
    ]
    assert found["agent_perspectives"][1]["strategy"] == found["task_description"] == strategy
    assert data == agent_file({**DATASET, "task_description": strategy}, perspectives, inputs, dict(answers))


def test_the_digest_of_the_answers_is_of_their_canonical_lines() -> None:
    rows: list[dict[str, Any]] = [
        {"response": "ü", "preparation": None, "other": 1},
        {"response": None, "preparation": "n"},
    ]
    assert answers_digest(rows) == bytes_digest(['[null,"ü"]\n["n",null]\n'.encode()])


ANSWER = st.fixed_dictionaries({"response": st.none() | TEXT, "preparation": st.none() | TEXT})


@given(st.lists(ANSWER, max_size=4), st.lists(ANSWER, max_size=4))
def test_only_the_same_answers_have_the_same_digest(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert (answers_digest(one) == answers_digest(other)) is (one == other)


@cache
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


def problems(document: Any) -> list[str]:
    return [error.message for error in validator().iter_errors(document)]


def test_the_schema_takes_what_is_written() -> None:
    assert problems(made()) == []
    assert problems(made(cost_usd=None)) == []


def keys(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key; of a list, those of its first item."""
    if isinstance(document, list):
        yield from keys(document[0], (*path, 0)) if document else ()
    elif isinstance(document, dict):
        for name, value in document.items():
            yield (*path, name)
            yield from keys(value, (*path, name))


def parent(document: Any, path: Sequence[str | int]) -> Any:
    for each in path[:-1]:
        document = document[each]
    return document


KEYS = list(keys(json.loads(BYTES)))
OURS = {"from_ledger", "tokenizer", "cost_usd", "failed_responses", "seed", "draw", "fingerprint"}
"""What the file says beyond the form that people know."""
SETTINGS = {("metadata", "model_config", "temperature")}


@pytest.mark.parametrize("path", KEYS, ids=lambda path: ".".join(map(str, path)))
def test_every_key_of_the_form_that_people_know_is_required(path: tuple[str | int, ...]) -> None:
    document = made()
    del parent(document, path)[path[-1]]
    is_ours = path[-1] in OURS or path in SETTINGS
    assert problems(document) == ([] if is_ours else [f"'{path[-1]}' is a required property"])


@pytest.mark.parametrize(
    "path", sorted({path[:-1] for path in KEYS}, key=str), ids=lambda path: ".".join(map(str, path))
)
def test_no_other_key_is_taken(path: tuple[str | int, ...]) -> None:
    document = made()
    parent(document, (*path, ""))["more"] = 1
    (problem,) = problems(document)
    assert "'more' was unexpected" in problem


@pytest.mark.parametrize("path", KEYS, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_another_kind_is_refused(path: tuple[str | int, ...]) -> None:
    document = made()
    parent(document, path)[path[-1]] = True
    assert problems(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tasks",), []), (("agent_perspectives",), []), (("tasks", 0, "responses"), []),
        (("tasks", 0, "responses", 0), 1), (("tasks", 0, "preparations", 0), {}), (("tasks", 0, "context"), ""),
        (("metadata", "fingerprint"), "0123"), (("metadata", "api_provider"), "somebody"),
        (("metadata", "generation_time"), "2026-11-20"), (("metadata", "cost_usd"), -1),
        (("metadata", "api_calls", "total_calls"), -1), (("metadata", "token_usage", "total_tokens"), 1.5),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    document = made()
    parent(document, path)[path[-1]] = value
    assert problems(document)


def test_where_nothing_failed_no_response_is_null() -> None:
    document = made(n_failed=0)
    assert problems(document) == ["None is not of type 'string'"]
    document["tasks"][1]["responses"][1] = "there"
    assert problems(document) == []
    del document["metadata"]["failed_responses"]
    document["tasks"][1]["responses"][1] = None
    assert problems(document) == []


@pytest.mark.parametrize(("spec", "part"), [(AgentModelSpec, "model_config"), (DataConfigSpec, "data_config")])
def test_the_schema_knows_every_setting_that_a_file_can_repeat(spec: type[Spec], part: str) -> None:
    fields = spec.model_fields.items()
    shaping = {key_of(name, field) for name, field in fields if not marks(field).get("operational")}
    wanted = shaping if spec is AgentModelSpec else {key_of(name, field) for name, field in fields}
    assert set(schema()["$defs"][part]["properties"]) == wanted


def test_every_part_says_what_it_is() -> None:
    found = schema()
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"title", "description"} <= found.keys()
    for name in ("tasks", "agent_perspectives", "task_type", "task_description"):
        assert found["properties"][name]["description"]


def test_the_schema_is_ones_own_copy() -> None:
    mine = schema()
    before = copy.deepcopy(mine)
    mine.clear()
    assert schema() == before


EVERY_SETTING = {
    "model_config__seed": 1, "model_config__stop": ["END"], "model_config__system_prompt": "Be kind.",
    "model_config__base_url": "http://127.0.0.1:1/v1", "model_config__endpoint": "e",
    "model_config__api_key_env": "SOME_KEY", "model_config__requests_per_minute": 10_000,
    "model_config__tokens_per_minute": 10**9, "model_config__price": {"input_per_mtok": 1, "output_per_mtok": 2},
    "model_config__frequency_penalty": 0.1, "data_config__sample_size": 2, "seed": 7,
}  # fmt: skip


@pytest.mark.parametrize("given", [document(), document(**EVERY_SETTING), document(model_config__stop="END")])
def test_every_setting_that_a_config_can_have_can_be_repeated(given: dict[str, Any]) -> None:
    found = config(given=given)
    parts = {"identity": identity_parts(found, inputs="", draw=0)}
    assert problems(made(config=json.dumps(recorded_config(found)), identity=json.dumps(parts))) == []


@pytest.mark.parametrize(
    ("changes", "with_references"),
    [
        ({}, True),
        ({}, False),
        ({"add_references": True}, True),
        ({"agent_perspectives": [{"condition": "Only", "reading": None, "strategy": "Answer."}]}, True),
        ({"task_description": None, "model_config__temperature": None}, True),
    ],
)
def test_what_the_command_writes_is_what_the_schema_says(
    tmp_path: Path, changes: dict[str, Any], with_references: bool
) -> None:
    records = pairs(3) if with_references else [{"input": each["input"]} for each in pairs(3)]
    write_inputs(tmp_path, records)
    write_config(tmp_path, offline(**changes))
    done = call(tmp_path, "perspectives", "config.json", "--no-mlflow")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "data/agents").iterdir()
    document = json.loads(path.read_bytes())
    assert problems(document) == []
    # What JSON schema cannot say.
    number = len(document["agent_perspectives"])
    for task in document["tasks"]:
        assert len(task["responses"]) == len(task["preparations"]) == number
        for at, perspective in enumerate(document["agent_perspectives"]):
            assert (task["preparations"][at] is not None) is (perspective["reading"] is not None)
