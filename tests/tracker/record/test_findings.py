"""What follows from an identity, a digest or a set of answers, and what does not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.fingerprint import bytes_digest, identify
from tracker.record.agent_file import answers_digest
from tracker.record.findings import (
    AGENTS,
    EXPERIMENT,
    RUN,
    agent_findings,
    answer_findings,
    data_findings,
    identity_findings,
    source_findings,
)

SETTINGS: Mapping[str, Any] = {
    "task": "Copa", "method": "zo", "precision": "fp32",
    "hyperparameters": {"learning_rate": 1e-6, "batch_size": 16, "steps": 1000, "seed": 0, "zo_eps": 1e-3},
    "data": [{"fingerprint": "0" * 12, "train": "t"}, {"fingerprint": None, "train": "u"}], "evaluation": "e",
}  # fmt: skip


def run(settings: Mapping[str, Any] = SETTINGS, kind: str = "training_run", **columns: Any) -> dict[str, Any]:
    own = identify(kind, settings)
    return {
        "fingerprint": own.fingerprint, "digest": own.digest, "identity": own.canonical, "scheme": 1, "directory": "R",
        "task": "Copa", "method": "zo", "precision": "fp32", "learning_rate": 1e-6, "batch_size": 16, "steps": 1000,
        "seed": 0, "zo_eps": 1e-3, "lora_rank": None, "n_eval": 4, "n_correct": 3, "accuracy": 0.75, **columns,
    }  # fmt: skip


def said(row: Mapping[str, Any], kind: str = RUN) -> list[str]:
    return [each.what for each in identity_findings(kind, dict(row))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in SETTINGS), JSON, max_size=4))
def test_what_was_identified_is_found_to_be_itself(more: dict[str, Any]) -> None:
    assert said(run({**SETTINGS, **more})) == []


@given(st.integers(0, 10**6), st.characters(codec="utf-8"))
def test_an_identity_that_was_changed_anywhere_is_seen(at: int, char: str) -> None:
    row = run()
    place = at % len(row["identity"])
    changed = row["identity"][:place] + char + row["identity"][place + 1 :]
    found = said({**row, "identity": changed})
    assert (len(found) >= 2) is (changed != row["identity"])
    if found:
        assert found[0].startswith(f"fingerprint {row['fingerprint']} is recorded, its identity has ")
        assert found[1].startswith(f"digest {row['digest'][:12]} is recorded, its identity has ")


@pytest.mark.parametrize("name", ["fingerprint", "digest"])
def test_a_name_that_was_changed_is_seen(name: str) -> None:
    row = run()
    other = "f" * len(row[name])
    assert said({**row, name: other}) == [f"{name} {other[:12]} is recorded, its identity has {row[name][:12]}"]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"learning_rate": 1e-5}, "learning_rate is 1e-05, in its identity 1e-06"),
        ({"seed": 1}, "seed is 1, in its identity 0"),
        ({"task": "CB"}, "task is 'CB', in its identity 'Copa'"),
        ({"zo_eps": None}, "zo_eps is None, in its identity 0.001"),
        ({"scheme": 2}, "its identity is of training_run, scheme 1"),
    ],
)
def test_columns_that_repeat_the_identity_agree_with_it(columns: dict[str, Any], what: str) -> None:
    assert said(run(**columns)) == [what]


def test_what_the_identity_leaves_out_is_not_missed() -> None:
    assert said(run(lora_rank=8)) == []
    assert said(run(steps=1000.0)) == []


def test_an_identity_of_another_kind_is_seen() -> None:
    assert said(run(kind="shared_experiment")) == ["its identity is of shared_experiment, scheme 1"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"kind": "training_run"}', '{"identity": 1, "kind": 2}']
)
def test_an_identity_that_is_none_is_said(text: str) -> None:
    found = said(run(identity=text))
    assert found[-1] == "its identity cannot be read"
    assert list(data_findings(run(identity=text), [])) == []


def test_an_identity_in_another_form_is_said() -> None:
    row = run()
    spread = json.dumps(json.loads(row["identity"]), indent=1)
    own = identify("training_run", SETTINGS)
    assert said({**row, "identity": spread})[2:] == ["its identity is not in canonical form"]
    assert own.canonical == row["identity"]


def test_an_experiment_is_checked_by_its_own_columns() -> None:
    settings = {
        "dataset": {"name": "Copa"},
        "generation": {"temperature": 0.7, "model": "m"},
        "validation": None,
        "draw": 0,
    }
    own = identify("shared_experiment", settings)
    row: dict[str, Any] = {
        "fingerprint": own.fingerprint, "digest": own.digest, "identity": own.canonical, "scheme": 1, "name": "temp07",
        "dataset": "Copa", "temperature": 0.7, "model": "m", "draw": 0, "validation_model": None,
    }  # fmt: skip
    assert said(row, EXPERIMENT) == []
    [found] = identity_findings(EXPERIMENT, {**row, "temperature": 0.9})
    assert (found.kind, found.what) == ("experiment", "temperature is 0.9, in its identity 0.7")
    assert (found.where, "backup" in found.remedy) == ("Copa/temp07", True)


def data(**columns: Any) -> list[dict[str, Any]]:
    one = {
        "fingerprint": "0" * 12, "train_digest": "t", "eval_digest": "e", "shared_experiment_id": 1,
        "made_fingerprint": "0" * 12, "data_digest": "t", "reference": "Copa/temp07", **columns,
    }  # fmt: skip
    plain = dict.fromkeys(("fingerprint", "shared_experiment_id", "made_fingerprint", "data_digest", "reference"))
    return [one, {**plain, "train_digest": "u", "eval_digest": "x"}]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({}, []),
        ({"train_digest": "x"}, ["its data sets are not those of its identity", "it was trained on other data than"]),
        ({"eval_digest": "x"}, ["its validation records are not those of its identity"]),
        ({"data_digest": "x"}, ["it was trained on other data than Copa/temp07 is recorded with"]),
        ({"made_fingerprint": "1" * 12}, ["it was trained on other data than Copa/temp07 is recorded with"]),
    ],
)
def test_the_data_of_a_run_are_those_of_its_identity(columns: dict[str, Any], found: list[str]) -> None:
    said = [each.what for each in data_findings(run(), data(**columns))]
    assert len(said) == len(found)
    assert all(one.startswith(start) for one, start in zip(said, found, strict=True))


def test_data_sets_that_are_missing_or_in_another_order_are_seen() -> None:
    for rows in ([], data()[:1], data()[::-1]):
        [found] = data_findings(run(), rows)
        assert found.what == "its data sets are not those of its identity"


@pytest.mark.parametrize(
    ("answers", "is_right"),
    [
        ({"n": 4, "n_correct": 3, "n_wrong": 0}, True),
        ({"n": 4, "n_correct": 2, "n_wrong": 0}, False),
        ({"n": 5, "n_correct": 3, "n_wrong": 0}, False),
        ({"n": 4, "n_correct": 3, "n_wrong": 1}, False),
        (None, False),
    ],
)
def test_an_accuracy_is_what_its_answers_give(answers: dict[str, Any] | None, is_right: bool) -> None:
    assert (list(answer_findings(run(), answers)) == []) is is_right
    assert list(answer_findings(run(accuracy=0.8), answers)) != []


def source(**changes: bytes) -> tuple[dict[str, Any], list[dict[str, Any]], dict[int, list[str]]]:
    content = {"train": b'{"a": 1}\n{"a": 2}\n', "test": b"{}\r\n"}
    splits = {name: ("copa_" + name, bytes_digest([value])) for name, value in content.items()}
    parts = {"name": "Copa", "task_name": "copa", "splits": {name: list(pair) for name, pair in splits.items()}}
    row = {"name": "Copa", "task_name": "copa", "digest": identify("source_dataset", parts).digest}
    test = changes.get("test", zlib.compress(content["test"]))
    rows = [
        {"id": at, "split": name, "filename": filename, "digest": digest, "content": test if name == "test" else None}
        for at, (name, (filename, digest)) in enumerate(splits.items())
    ]
    return row, rows, {0: changes.get("train", content["train"]).decode().splitlines()}


def test_a_source_is_what_its_digests_say() -> None:
    assert list(source_findings(*source())) == []
    for changes, what in (
        ({"train": b'{"a": 1}\n'}, "copa_train: SHA-256 "),
        ({"test": zlib.compress(b"{}\n")}, "copa_test: SHA-256 "),
        ({"test": b"damaged"}, "copa_test: its content is damaged (Error -3 "),
    ):
        [found] = source_findings(*source(**changes))
        assert (found.kind, found.where, found.what.startswith(what)) == ("source data", "Copa", True)


@pytest.mark.parametrize("change", [{"name": "Copy"}, {"task_name": "copy"}, {"digest": "0" * 64}])
def test_the_digest_of_a_source_is_derived_anew(change: dict[str, str]) -> None:
    row, splits, lines = source()
    [found] = source_findings({**row, **change}, splits, lines)
    assert "its splits give" in found.what


PERSPECTIVES: list[dict[str, Any]] = [
    {"position": 0, "condition": "Reference", "is_reference": 1, "reading": None, "strategy": None, "n_responses": 2},
    {"position": 1, "condition": "Plain", "is_reference": 0, "reading": None, "strategy": "Do.", "n_responses": 2},
    {"position": 2, "condition": "Noted", "is_reference": 0, "reading": "Note.", "strategy": "Do.", "n_responses": 1},
]
RESPONSES: list[dict[str, Any]] = [
    {"position": 0, "perspective": 1, "status": "answered", "preparation": None, "response": "a", "is_input": 1},
    {"position": 0, "perspective": 2, "status": "answered", "preparation": "", "response": "b", "is_input": 1},
    {"position": 1, "perspective": 1, "status": "answered", "preparation": None, "response": "", "is_input": 1},
    {"position": 1, "perspective": 2, "status": "failed", "preparation": None, "response": None, "is_input": 1},
]


def agents(**columns: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "task_type": "translation", "task_description": "", "api_provider": "openai", "add_references": True, "draw": 0,
        "model_config": {"model_name": "m", "endpoint": "e", "temperature": 0.7, "top_p": 1, "max_tokens": 50},
        "agent_perspectives": [
            {name: each[name] for name in ("condition", "reading", "strategy")} for each in PERSPECTIVES[1:]
        ],
        "data_config": {"inputs": "i"}, "reading": 1,
    }  # fmt: skip
    own = identify("agent_dataset", settings)
    told = {name: value for name, value in settings.items() if name not in {"draw", "reading", "data_config"}}
    data = {"input_data_path": "inputs.json"}
    # What is not given stands in the settings and in no config.
    flat = {f"model_config.{name}": value for name, value in settings["model_config"].items()}
    flat |= {"data_config.input_data_path": "inputs.json", "data_config.sample_size": None, "seed": None}
    flat |= {name: value for name, value in told.items() if name != "model_config"}
    return {
        "config": json.dumps({**told, "data_config": data}), "settings": json.dumps(flat),
        "fingerprint": own.fingerprint, "digest": own.digest, "identity": own.canonical, "scheme": 1, "name": "t_m_1",
        "task_type": "translation", "task_description": "", "provider": "openai", "add_references": 1, "draw": 0,
        "model": "m", "endpoint": "e", "temperature": 0.7, "top_p": 1.0, "max_tokens": 50, "n_inputs": 2,
        "n_perspectives": 2, "n_responses": 3, "n_failed": 1, "data_digest": answers_digest(RESPONSES), **columns,
    }  # fmt: skip


def changed(rows: list[dict[str, Any]], at: int, **columns: Any) -> list[dict[str, Any]]:
    return [{**row, **(columns if number == at else {})} for number, row in enumerate(rows)]


def of_agents(
    dataset: dict[str, Any] | None = None,
    perspectives: list[dict[str, Any]] = PERSPECTIVES,
    responses: list[dict[str, Any]] = RESPONSES,
    inputs: tuple[str, ...] = ("i",),
) -> list[str]:
    whole = [{"n_failed": int(each["position"] == 2), **each} for each in perspectives]
    return [each.what for each in agent_findings(dataset or agents(), whole, responses, inputs)]


def test_an_agent_data_set_that_is_whole_has_nothing_wrong() -> None:
    assert said(agents(), AGENTS) == []
    assert of_agents() == []


@pytest.mark.parametrize(
    ("column", "value", "own"),
    [
        ("provider", "together", "openai"), ("model", "n", "m"), ("endpoint", "f", "e"), ("temperature", 0.8, 0.7),
        ("top_p", None, 1), ("max_tokens", 51, 50), ("draw", 1, 0), ("add_references", 0, True),
        ("task_type", "summary", "translation"), ("task_description", "A.", ""),
    ],
)  # fmt: skip
def test_every_column_of_an_agent_data_set_that_repeats_its_identity_agrees_with_it(
    column: str, value: object, own: object
) -> None:
    row = agents(**{column: value})
    assert said(row, AGENTS) == [f"{column} is {value!r}, in its identity {own!r}"]
    assert [each.where for each in identity_findings(AGENTS, row)] == [f"t_m_1 ({row['fingerprint']})"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"inputs": ("j", "k")}, ["its inputs are not those of its identity"]),
        (
            {"perspectives": changed(PERSPECTIVES, 1, strategy="Do not.")},
            ["its conditions are not those of its identity"],
        ),
        (
            {"perspectives": changed(PERSPECTIVES, 2, condition="Else")},
            ["its conditions are not those of its identity"],
        ),
        (
            {"perspectives": changed(PERSPECTIVES, 1, reading="Note.")},
            ["its conditions are not those of its identity", "2 of its responses are not what their status says"],
        ),
        ({"perspectives": changed(PERSPECTIVES, 0, is_reference=0)},
         ["its conditions are not those of its identity", "its conditions are not in their places",
          "n_perspectives is 2, its rows give 3", "n_responses of Reference is 2, its rows give 0"]),
        ({"responses": changed(RESPONSES, 0, is_input=0)}, ["1 of its responses are not to its inputs"]),
        ({"responses": changed(RESPONSES, 0, response="c")}, ["data_digest "]),
        ({"responses": changed(RESPONSES, 1, preparation="n")}, ["data_digest "]),
        ({"responses": changed(RESPONSES, 1, preparation=None)}, ["1 of its responses are not", "data_digest "]),
        ({"responses": changed(RESPONSES, 0, response=None)}, ["1 of its responses are not", "data_digest "]),
        ({"responses": changed(RESPONSES, 3, response="c")}, ["1 of its responses are not", "data_digest "]),
        ({"responses": changed(RESPONSES, 3, status="lost")},
         ["1 of its responses are not", "n_failed is 1, its rows give 0", "n_failed of Noted is 1, its rows give 0"]),
        ({"responses": RESPONSES[:3]},
         ["data_digest ", "n_failed is 1, its rows give 0", "n_inputs * n_perspectives is 4, its rows give 3",
          "n_failed of Noted is 1, its rows give 0"]),
        ({"dataset": agents(n_responses=4)}, ["n_responses is 4, its rows give 3"]),
        ({"dataset": agents(n_failed=0)}, ["n_failed is 0, its rows give 1"]),
        ({"dataset": agents(n_inputs=3)},
         ["n_inputs * n_perspectives is 6, its rows give 4", "n_responses of Reference is 2, its rows give 3"]),
        ({"perspectives": changed(PERSPECTIVES, 2, n_responses=2)}, ["n_responses of Noted is 2, its rows give 1"]),
        ({"dataset": agents(data_digest="0" * 64)}, ["data_digest 000000000000 is recorded, its responses have "]),
    ],
)  # fmt: skip
def test_what_contradicts_an_agent_data_set_is_said(change: dict[str, Any], what: list[str]) -> None:
    found = of_agents(**change)
    assert len(found) == len(what), found
    assert all(one.startswith(start) for one, start in zip(found, what, strict=True)), found


@pytest.mark.parametrize(
    ("column", "before", "after", "what"),
    [
        ("config", '"seed": 3', '"seed": 4', ["`seed` of its config is not that of its settings"]),
        ("config", '"inputs.json"', '"else.json"',
         ["`data_config.input_data_path` of its config is not that of its settings"]),
        ("config", '"temperature": 0.7', '"temperature": 0.8',
         ["`model_config.temperature` of its config is not that of its identity"]),
        ("config", ', "top_p": 1', "", ["`model_config.top_p` of its config is not that of its identity"]),
        ("config", "Do.", "Do not.", ["`agent_perspectives` of its config is not that of its identity"]),
        ("config", '{"task_type"', '{"stop": [], "task_type"', ["`stop` of its config is not that of its settings"]),
        ("settings", '"seed": 3', '"seed": null', ["`seed` of its config is not that of its settings"]),
        ("settings", '"model_config.top_p": 1', '"model_config.top_p": 2',
         ["`model_config.top_p` of its settings is not that of its identity"]),
        ("settings", '"model_config.top_p": 1, ', "",
         ["`model_config.top_p` of its settings is not that of its identity"]),
        ("config", "{", "", ["its config or its settings cannot be read"]),
        ("settings", "{", "[", ["its config or its settings cannot be read"]),
    ],
)  # fmt: skip
def test_a_config_or_settings_that_were_edited_are_said(column: str, before: str, after: str, what: list[str]) -> None:
    row = agents()
    row["config"] = json.dumps({**json.loads(row["config"]), "seed": 3})
    row["settings"] = json.dumps({**json.loads(row["settings"]), "seed": 3})
    assert of_agents(row) == []
    assert before in row[column]
    assert of_agents({**row, column: row[column].replace(before, after, 1)}) == what


def test_of_what_is_being_made_only_what_is_there_is_checked() -> None:
    making = agents(data_digest=None, n_responses=0, n_failed=0)
    assert of_agents(making, responses=RESPONSES[:1]) == []
    assert of_agents(making, responses=changed(RESPONSES, 0, is_input=0)) == [
        "1 of its responses are not to its inputs"
    ]
    assert of_agents(making, inputs=()) == ["its inputs are not those of its identity"]


@pytest.mark.parametrize("text", ["", "[]", '{"identity": {}}', '{"identity": {"agent_perspectives": [1]}}'])
def test_of_an_identity_that_is_none_nothing_more_is_said(text: str) -> None:
    assert of_agents(agents(identity=text)) == []
    assert said(agents(identity=text), AGENTS)
