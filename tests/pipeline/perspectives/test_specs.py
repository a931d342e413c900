"""Settings of `perspectives`: every mistake is told at its line, and what shapes the data is its identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.generation.plan import SAMPLING
from pipeline.perspectives.specs import (
    AgentModelSpec,
    PerspectivesConfig,
    identity_parts,
    model_of,
    recorded_config,
    recorded_settings,
    resolved,
)
from tests.perspectives import agent, config, document, new_root, offline, pairs, plan, write_config, write_inputs
from tests.workspaces import Done, call
from tracker.errors import ConfigError
from tracker.fingerprint import Identity, identify
from tracker.spec import Spec, marks

PERSPECTIVES = ("perspectives", "config.json", "--no-mlflow", "--dry-run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path, 3)


def asked(root: Path, given: dict[str, Any], *arguments: str) -> Done:
    write_config(root, given)
    return call(root, *PERSPECTIVES, *arguments)


def line_of(root: Path, text: str) -> int:
    lines = (root / "config.json").read_text(encoding="utf-8").splitlines()
    [found] = [number for number, line in enumerate(lines, 1) if text in line]
    return found


@pytest.mark.parametrize(
    ("changes", "at", "words"),
    [
        ({"sampel_size": 3}, '"sampel_size"', "unknown key `sampel_size`; known here: task_type"),
        ({"model_config__temprature": 1}, '"temprature"', "did you mean `temperature`"),
        ({"model_config__model": "gpt-4o"}, '"model"', "did you mean `model_name`"),
        ({"data_config__sampel_size": 3}, '"sampel_size"', "did you mean `sample_size`"),
        ({"model_config__temperature": 3}, '"temperature"', "less than or equal to 2"),
        ({"model_config__max_tokens": True}, '"max_tokens"', "not true or false"),
        ({"data_config__sample_size": 0}, '"sample_size"', "greater than or equal to 1"),
        ({"agent_perspectives": []}, '"agent_perspectives"', "holds no perspective"),
        ({"agent_perspectives": [agent("A", " \n")]}, '"strategy"', "holds no text"),
        ({"agent_perspectives": [agent(" ")]}, '"condition"', "holds no text"),
        (
            {"agent_perspectives": [agent("A"), agent("B"), agent("a ")]},
            '"a "',
            "'a' is the condition of agent_perspectives.0 already",
        ),
        ({"api_provider": "anthropic"}, '"api_provider"', "'openai', 'together' or 'offline'"),
        ({"task_type": "a/b"}, '"task_type"', "holds a separator"),
        ({"task_type": "x" * 81}, '"task_type"', "at most 80"),
        ({"model_config__base_url": "ftp://x"}, '"model_config"', "must begin with http"),
        ({"seed": -1}, '"seed"', "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_told_in_words_and_at_its_line(root: Path, changes: dict[str, Any], at: str, words: str) -> None:
    done = asked(root, document(**changes))
    assert done.code == 3
    assert f"config.json:{line_of(root, at)}: " in done.err
    assert words in done.err
    assert not (root / "tracker.db").exists()


@pytest.mark.parametrize("name", ["task_type", "model_config", "agent_perspectives", "data_config"])
def test_what_is_needed_and_missing_is_named(root: Path, name: str) -> None:
    done = asked(root, document(**{name: None}))
    assert done.code == 3
    assert f"`{name}`" in done.err


def test_what_a_perspective_needs_is_named_at_its_line(root: Path) -> None:
    done = asked(root, document(agent_perspectives=[agent("A"), {"condition": "B"}]))
    assert done.code == 3
    assert "has 1 problem" in done.err
    line = line_of(root, '"B"') - 1
    assert f"config.json:{line}: missing key `agent_perspectives.1.strategy`" in done.err


def test_all_mistakes_are_told_at_once(root: Path) -> None:
    wrong = document(seed="x", model_config__top_p=2, agent_perspectives=[agent("A", " "), {"condition": "B", "x": 1}])
    done = asked(root, wrong, "--set", "data_config.sample_size=-1")
    assert done.code == 3
    for words in ("has 6 problems", "`seed`", "`model_config.top_p`", "holds no text", "missing key", "unknown key"):
        assert words in done.err
    assert "--set data_config.sample_size" in done.err


def test_which_perspectives_have_one_name_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        config(given=document(agent_perspectives=[agent("A"), agent("B"), agent(" A"), agent("B")]))
    assert [problem.what for problem in caught.value.problems] == [
        "`agent_perspectives.2.condition`: 'A' is the condition of agent_perspectives.0 already",
        "`agent_perspectives.3.condition`: 'B' is the condition of agent_perspectives.1 already",
    ]


@pytest.mark.parametrize("name", ["Reference", " Reference "])
def test_nobody_is_called_like_the_reference_that_is_put_in_front(name: str) -> None:
    given = document(agent_perspectives=[agent(name)])
    assert config(given=given).agent_perspectives[0].condition == "Reference"
    with pytest.raises(ConfigError, match="no other condition can be called 'Reference'"):
        config("add_references=true", given=given)


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d"])
@pytest.mark.parametrize("place", ["condition", "strategy", "reading", "task_description", "system_prompt"])
def test_what_is_no_text_for_a_database_is_refused(root: Path, place: str, text: str) -> None:
    given = document(agent_perspectives=[agent("A", reading="Read.")])
    target = {"task_description": given, "system_prompt": given["model_config"]}.get(
        place, given["agent_perspectives"][0]
    )
    target[place] = text
    path = root / "config.json"
    path.write_text(json.dumps(given, indent=2), encoding="utf-8")
    done = call(root, *PERSPECTIVES)
    assert done.code == 3, done.err
    assert f"config.json:{line_of(root, place)}" in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\u200b", "holds U+200B, a control or format character"), ("A\u200b", "U+200B"), ("evil\u202etxt", "U+202E"),
        ("a\x1b[2J", "U+001B"), ("a\x85b", "U+0085"), ("a\u2028b", "U+2028"), ("\ufeffa", "U+FEFF"),
        ("\u200d", "no character that can be seen"), ("\u3164\u2800", "no character that can be seen"),
        ("\u0301\ufe0f", "no character that can be seen"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["condition", "task_type"])
def test_a_name_that_nobody_can_read_is_refused(root: Path, place: str, text: str, words: str) -> None:
    given = document(agent_perspectives=[agent("A")])
    (given["agent_perspectives"][0] if place == "condition" else given)[place] = text
    done = asked(root, given)
    assert done.code == 3, done.out
    assert f"config.json:{line_of(root, place)}: " in done.err
    assert words in done.err or (place, text) == ("task_type", "a\x1b[2J")  # refused as a directory's name


@pytest.mark.parametrize("name", ["Größe e\u0301", "👩\u200d🔬", "\u0645\u06cc\u200c\u062e", "❤️", "+", "日本語"])
def test_a_name_may_be_of_any_letters_and_symbols(name: str) -> None:
    # A block of YAML ends with a new line.
    found = config(given=document(task_type=name, agent_perspectives=[agent(f"{name}\n")]))
    assert (found.task_type, found.agent_perspectives[0].condition) == (name, name)


def test_an_empty_reading_is_none() -> None:
    found = config(given=document(agent_perspectives=[agent("A", reading=" \n"), agent("B", reading="Read. ")]))
    assert [each.reading for each in found.agent_perspectives] == [None, "Read."]


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("text-davinci-003", "openai"),
        ("davinci-002", "openai"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "together"),
        ("mistralai/Mistral-7B", "together"),
    ],
)
def test_the_provider_is_found_by_the_models_name(model: str, provider: str) -> None:
    found = plan(f"model_config.model_name={model}")
    assert (found.config.api_provider, found.model.provider) == (provider, provider)
    given = plan(f"model_config.model_name={model}", "api_provider=together")
    assert given.model.provider == "together"


def test_the_offline_rules_go_under_no_other_name(root: Path) -> None:
    assert asked(root, offline()).code == 0
    done = asked(root, offline(model_config__model_name="gpt-4o"))
    assert done.code == 3
    at = line_of(root, '"gpt-4o"')
    assert f"config.json:{at}: `model_config.model_name`: the offline provider answers by rules" in done.err


def identity_of(*assignments: str) -> Identity:
    parsed = config(*assignments)
    return identify("agent_dataset", identity_parts(resolved(parsed, model_of(parsed, {})), inputs="i", draw=0))


# Another value for every setting; one that is added later is missing here, and the test says so.
OTHER = {
    "task_type": "other", "task_description": "other", "add_references": "true", "api_provider": "together",
    "seed": "7", "data_config.input_data_path": "other.json", "data_config.sample_size": "2",
    "agent_perspectives": "[{condition: Original, reading: null, strategy: Other.}]",
    "model_config.model_name": "gpt-4.1", "model_config.temperature": "0.8", "model_config.top_p": "0.9",
    "model_config.endpoint": "other", "model_config.base_url": "http://127.0.0.1:1/v1", "model_config.max_tokens": "77",
    "model_config.frequency_penalty": "0.5", "model_config.presence_penalty": "0.5", "model_config.seed": "7",
    "model_config.stop": "END", "model_config.system_prompt": "Be brief.", "model_config.api_key_env": "OTHER_KEY",
    "model_config.api_key": "sk-other", "model_config.timeout": "7", "model_config.concurrency": "7",
    "model_config.requests_per_minute": "7", "model_config.tokens_per_minute": "7", "model_config.max_retries": "7",
    "model_config.price": "{input_per_mtok: 1, output_per_mtok: 1}",
}  # fmt: skip
OPERATIONAL = {
    "seed", "data_config.input_data_path", "data_config.sample_size", "model_config.api_key_env",
    "model_config.api_key", "model_config.timeout", "model_config.concurrency", "model_config.requests_per_minute",
    "model_config.tokens_per_minute", "model_config.max_retries", "model_config.price",
}  # fmt: skip


def names(spec: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in spec.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = field.annotation
        is_group = isinstance(inner, type) and issubclass(inner, Spec)
        found += names(inner, f"{key}.") if is_group and isinstance(inner, type) else [key]
    return found


@pytest.mark.parametrize("name", sorted(names(PerspectivesConfig)))
def test_every_setting_shapes_the_identity_unless_it_is_operational(name: str) -> None:
    differs = identity_of(f"{name}={OTHER[name]}").digest != identity_of().digest
    assert differs == (name not in OPERATIONAL)


@pytest.mark.parametrize("setting", ["condition", "reading", "strategy"])
def test_every_word_of_a_condition_is_in_the_identity(setting: str) -> None:
    given = document()
    given["agent_perspectives"][2][setting] = "Other."
    assert plan(given=given).identity.digest != plan().identity.digest


def test_every_setting_of_a_model_is_sent_or_said_to_shape_the_prompt_or_operational() -> None:
    shaping = {name for name, field in AgentModelSpec.model_fields.items() if not marks(field).get("operational")}
    assert shaping == {*SAMPLING, "model", "endpoint", "system_prompt"}


def test_the_fingerprint_is_that_of_the_canonical_json() -> None:
    lines = "".join(
        f'{{"input": "Der Mann in Haus 00{n} fällt.", "reference": "The man in house 00{n} falls."}}\n'
        for n in range(3)
    )
    canonical = (
        '{"identity":{"add_references":false,"agent_perspectives":['
        '{"condition":"Original","reading":null,"strategy":"Translate this sentence."},'
        '{"condition":"Noted","reading":"Note what matters.","strategy":"Translate it with your notes."},'
        '{"condition":"Low Effort","reading":null,"strategy":"Translate it word for word."}],"api_provider":"openai",'
        f'"data_config":{{"inputs":"{hashlib.sha256(lines.encode()).hexdigest()}"}},"draw":0,"model_config":'
        '{"endpoint":"https://api.openai.com/v1","frequency_penalty":0,"max_tokens":50,"model_name":"gpt-4o",'
        '"presence_penalty":0,"seed":null,"stop":null,"system_prompt":null,"temperature":0.7,"top_p":1},"reading":1,'
        '"task_description":"German to English","task_type":"translation"},"kind":"agent_dataset","scheme":1}'
    )
    found = plan().identity
    assert found.canonical == canonical
    assert (
        found.fingerprint == hashlib.md5(canonical.encode(), usedforsecurity=False).hexdigest()[:12] == "362b2e5152f0"
    )
    assert found.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_what_is_recorded_reads_as_the_config_did_without_its_secret() -> None:
    given = document(model_config__api_key="sk-secret", add_references=True)
    found = recorded_config(config(given=given))
    assert found["agent_perspectives"] == given["agent_perspectives"]
    assert found["data_config"] == given["data_config"]
    assert "api_key" not in found["model_config"]
    assert "sk-secret" not in json.dumps([found, recorded_settings(config(given=given))])


def test_a_new_task_is_a_config_and_its_inputs(root: Path) -> None:
    write_inputs(root, [{"input": "2 + 2"}, {"input": "3 + 3"}], "sums.jsonl")
    (root / "sums.yaml").write_text(
        "task_type: mental arithmetic\n"
        "model_config: {model_name: rules-v1}\n"
        "api_provider: offline\n"
        "agent_perspectives:\n"
        "  - {condition: Careful, reading: Say what is asked., strategy: Give the sum.}\n"
        "data_config: {input_data_path: sums.jsonl}\n",
        encoding="utf-8",
    )
    done = call(root, "perspectives", "sums.yaml", "--no-mlflow")
    assert done.code == 0, done.err
    [path] = (root / "data/agents").glob("mental arithmetic_rules-v1_*.json")
    found = json.loads(path.read_bytes())
    assert [task["context"] for task in found["tasks"]] == ["2 + 2", "3 + 3"]
    assert all(task["responses"][0] and task["preparations"][0] for task in found["tasks"])


def test_one_sample_size_for_all_is_compared_with_what_is_there(root: Path) -> None:
    done = asked(root, document(data_config__sample_size=2000))
    assert done.code == 12
    assert f"config.json:{line_of(root, 'sample_size')}: `data_config.sample_size` is 2,000" in done.err
    assert f"there are {len(pairs(3))} inputs in" in done.err
    assert '{"input": "text"' not in done.err
