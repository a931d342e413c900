"""What makes an experiment itself: every setting, but those that only say how it is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.generation.identity import experiment_identity, semantic_name
from pipeline.providers import detect_provider, resolve
from pipeline.sources.records import read_source
from pipeline.specs import (
    DatasetSpec,
    GenerationConfig,
    GenerationSpec,
    ModelSpec,
    PriceSpec,
    ValidationSpec,
    deprecations,
)
from tests.generation import CONFIG, RECORDS, config, plan, source
from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError
from tracker.fingerprint import Identity
from tracker.spec import Spec, marks, public, settings
from tracker.yaml_text import to_yaml

# Another value for every field of stage 1. A field added later is missing here, and the test says so.
OTHER: Mapping[str, str] = {
    "experiment.batch_id": "batch_x", "experiment.purpose": "other", "experiment.description": "other",
    "experiment.experiment_id": "7", "experiment.overwrite_strategy": "skip",
    "task_name": "other", "training_method": "zo", "version": "2",
    "dataset.task_name": "other", "dataset.dataset_name": "Other", "dataset.input_path": "other/copa_train.jsonl",
    "dataset.original_dir": "other", "dataset.fields": "[premise, label]", "dataset.hub": "copa",
    "dataset.files.train": "x", "dataset.files.validation": "x", "dataset.files.test": "x",
    "temperature": "0.8", "top_p": "0.9", "model": "gpt-4.1", "provider": "together", "endpoint": "other",
    "base_url": "http://127.0.0.1:1/v1", "max_tokens": "77", "frequency_penalty": "0.5", "presence_penalty": "0.5",
    "seed": "7", "stop": "END", "system_prompt": "Be brief.", "few_shot_examples": "[one, {original: two}]",
    "api_key_env": "OTHER_KEY", "api_key": "sk-other", "timeout": "7", "concurrency": "7",
    "requests_per_minute": "7", "tokens_per_minute": "7", "max_retries": "7",
    "price.input_per_mtok": "1", "price.output_per_mtok": "1",
    "field_to_rephrase": "choice1", "rephrase_prompt": "Again {premise}",
    "validation_prompt": "Same? {original_premise}", "strategy": "two_stage", "review_size": "7",
    "few_shot_range": "21-30", "test_range": "41-50", "required_accuracy": "0.5",
}  # fmt: skip
# These are operational where they are declared, and yet in the identity: as the name or the content they stand for.
RESOLVED = {"dataset.dataset_name", "base_url"}
STAGED = "generation.strategy=two_stage"
ONLY_TWO_STAGE = ("generation.review_size", "validation.few_shot_range", "validation.test_range")


def fields(spec: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The dotted names of all settings, and whether each, or what it is in, is operational."""
    for name, field in spec.model_fields.items():
        operational = bool(marks(field).get("operational"))
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Spec)]
        if not groups:
            yield f"{prefix}{name}", operational
        for group in groups:
            yield from ((inner, operational or mark) for inner, mark in fields(group, f"{prefix}{name}."))


SETTINGS = dict(fields(GenerationConfig))


def identity_of(given: GenerationConfig, **changes: Any) -> Identity:
    values: dict[str, Any] = {
        "dataset": given.dataset.dataset_name or "Copa",
        "source_digest": "d",
        "record_limit": None,
    }
    return experiment_identity(given, **{**values, "draw": 0, **changes})


def other(name: str) -> str:
    return OTHER[name] if name in OTHER else OTHER[name.partition(".")[2]]


def changed(name: str) -> GenerationConfig:
    """The config with another value for one setting."""
    assignments = [f"{name}={other(name)}"]
    if ".price." in name:
        assignments = [f"{name.rpartition('.')[0]}={{input_per_mtok: 1, output_per_mtok: 1}}"]
    if name == "dataset.hub":
        assignments.append("dataset.input_path=null")
    return config(*assignments)


@pytest.mark.parametrize("name", sorted({*SETTINGS} - {*ONLY_TWO_STAGE}))
def test_every_setting_shapes_the_identity_unless_it_is_marked(name: str) -> None:
    in_identity = not SETTINGS[name] or name in RESOLVED or name.partition(".")[2] in RESOLVED
    assert (identity_of(changed(name)).digest != identity_of(config()).digest) == in_identity


@pytest.mark.parametrize("name", ONLY_TWO_STAGE)
def test_the_ranges_of_checkpoints_shape_what_has_checkpoints(name: str) -> None:
    assert identity_of(changed(name)) == identity_of(config())
    assert identity_of(config(STAGED, f"{name}={other(name)}")) != identity_of(config(STAGED))


def test_the_usual_ranges_are_what_their_absence_means() -> None:
    usual = ("generation.review_size=20", "validation.few_shot_range=21-40", "validation.test_range=[41, 80]")
    assert identity_of(config(STAGED, *usual)) == identity_of(config(STAGED))


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ((STAGED, "validation=null"), "two_stage needs a judge"),
        (("validation.test_range=80-41",), "two sample numbers from 1, as 21-40"),
        (("validation.test_range=0-4",), "two sample numbers from 1, as 21-40"),
        (("validation.test_range=some",), "two sample numbers from 1, as 21-40"),
        (("generation.review_size=0",), "greater than or equal to 1"),
        (("validation.required_accuracy=95",), "less than or equal to 1"),
    ],
)
def test_checkpoints_that_cannot_be(assignments: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(*assignments)


def test_another_value_is_known_for_every_setting() -> None:
    assert not [name for name in SETTINGS if not other(name)]


def test_the_identity_of_a_whole_experiment_is_what_it_was() -> None:
    given = config(
        "generation.seed=7", "generation.few_shot_examples=[{original: a, rephrased: b}]", "validation.stop=[x]"
    )
    found = identity_of(given, source_digest="0" * 64, record_limit=20, draw=1)
    assert json.loads(found.canonical) == {
        "scheme": 1,
        "kind": "shared_experiment",
        "identity": {
            "dataset": {"name": "Copa", "source": "0" * 64, "fields": None},
            "generation": {
                "temperature": 0.7, "top_p": 1, "model": "gpt-4o", "provider": "openai",
                "endpoint": "https://api.openai.com/v1", "max_tokens": 256, "frequency_penalty": 0,
                "presence_penalty": 0, "seed": 7, "stop": None, "system_prompt": None,
                "few_shot_examples": "Example 1:\nOriginal: a\nRephrased: b", "field_to_rephrase": "premise",
                "rephrase_prompt": "Say it in other words: {premise}", "strategy": "direct_all",
            },
            "validation": {
                "temperature": 0, "top_p": 1, "model": "gpt-4o", "provider": "openai",
                "endpoint": "https://api.openai.com/v1", "max_tokens": 256, "frequency_penalty": 0,
                "presence_penalty": 0, "seed": None, "stop": ["x"], "system_prompt": None, "few_shot_examples": "",
                "validation_prompt": "Do {original_premise} and {rephrased_premise} mean the same?",
            },
            "reading": 1,
            "record_limit": 20,
            "draw": 1,
        },
    }  # fmt: skip
    assert found.fingerprint == "3f571a10f987"
    assert found.digest == "643fdcba671f9156d1b45442b4668ccf2080e60e38d2a9d6a1ce0d6af7365e4e"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[{original: a, rephrased: b}]", "[{rephrased: b, original: a}]"),
        ("[{original: a, score: 1}]", "[{original: a, score: 1.0}]"),
    ],
)
def test_examples_that_are_sent_differently_are_different_settings(one: str, other: str) -> None:
    first, second = (identity_of(config(f"generation.few_shot_examples={examples}")) for examples in (one, other))
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "assignments",
    [
        ["generation.provider=offline"],
        ["generation.provider=offline", "generation.model=rules-v1"],
        [
            "generation.provider=offline",
            "generation.model=rules-v1",
            "validation.model=rules-v1",
            "generation.endpoint=x",
        ],
    ],
)
def test_rules_cannot_stand_for_a_model_or_a_service(assignments: list[str]) -> None:
    with pytest.raises(ConfigError, match="no LLM"):
        config(*assignments)


def test_a_judge_with_a_key_of_its_own_does_not_get_the_generators() -> None:
    found = config("generation.api_key=GENERATOR", "validation.api_key_env=JUDGE_KEY").validation
    assert found is not None
    assert (found.api_key, found.api_key_env) == (None, "JUDGE_KEY")


def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        config("generation.api_key_env=sk-proj-0123456789")
    assert "generation.api_key_env" in str(raised.value)
    assert "0123456789" not in str(raised.value)


@pytest.mark.parametrize("number", ["1", "1.0", '"1.0"', "'1'", "1e0", "10e-1"])
def test_one_number_from_yaml_to_fingerprint(number: str) -> None:
    text = to_yaml(CONFIG).replace("temperature: 0.7", f"temperature: {number}")
    assert f"temperature: {number}" in text
    found = resolve(configs.validate(GenerationConfig, configs.parse(text, "f")), {})
    assert identity_of(found).fingerprint == identity_of(config("generation.temperature=1")).fingerprint


def test_a_small_number_with_and_without_quotes() -> None:
    one, two, three = (config(f"generation.top_p={text}") for text in ("1e-6", '"1e-6"', "0.000001"))
    assert identity_of(one).digest == identity_of(two).digest == identity_of(three).digest
    assert identity_of(one).canonical.count('"top_p":1e-06') == 1


def test_no_judge_another_part_or_another_draw_is_another_experiment() -> None:
    given = config()
    found = {
        identity_of(given).digest,
        identity_of(given.model_copy(update={"validation": None})).digest,
        identity_of(given, record_limit=20).digest,
        identity_of(given, draw=1).digest,
        identity_of(given, source_digest="e").digest,
    }
    assert len(found) == 5


def test_the_same_content_elsewhere_is_the_same_and_another_content_is_not(tmp_path: Path) -> None:
    here, there = plan(tmp_path / "here"), plan(tmp_path / "there")
    assert here.source.origin != there.source.origin
    assert here.identity == there.identity
    changed = [*RECORDS[:-1], {**RECORDS[-1], "label": 1}]
    assert plan(tmp_path / "changed", records=changed).identity.digest != here.identity.digest


def test_another_byte_in_a_split_that_is_copied_is_another_content(tmp_path: Path) -> None:
    before = source(tmp_path).digest
    with (tmp_path / "Copa/copa_test.jsonl").open("a") as file:
        file.write("\n")
    spec = config(f"dataset.input_path='{tmp_path}/Copa/copa_train.jsonl'").dataset
    assert read_source(spec, "premise", Path).digest != before


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("o1", "openai"),
        ("o3-mini", "openai"),
        ("o4-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("text-davinci-003", "openai"),
        ("davinci-002", "openai"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "together"),
        ("openai/gpt-oss-120b", "together"),
        ("mistralai/gpt-like", "together"),
    ],
)
def test_a_provider_is_known_by_the_models_name(model: str, provider: str) -> None:
    assert detect_provider(model) == provider
    assert config(f"generation.model={model}").generation.provider == provider


def test_an_address_stands_for_the_service_unless_that_has_a_name() -> None:
    def endpoint(*assignments: str, **environ: str) -> str:
        return str(config(*assignments, environ=environ).generation.endpoint)

    address = "generation.base_url=http://127.0.0.1:9/v1/"
    assert endpoint() == "https://api.openai.com/v1"
    assert endpoint("generation.base_url=https://api.openai.com/v1/") == endpoint()
    assert endpoint(address) == "http://127.0.0.1:9/v1"
    assert endpoint(OPENAI_BASE_URL="http://127.0.0.1:8/v1") == "http://127.0.0.1:8/v1"
    assert endpoint(address, OPENAI_BASE_URL="http://127.0.0.1:8/v1") == "http://127.0.0.1:9/v1"
    assert endpoint(address, "generation.endpoint=lab") == "lab"
    moved = config("generation.endpoint=lab", "generation.base_url=http://127.0.0.1:7")
    assert identity_of(moved) == identity_of(config("generation.endpoint=lab", address))


def test_a_judge_is_reached_like_the_generator_unless_it_says_otherwise() -> None:
    address, price = "http://127.0.0.1:9/v1", "{input_per_mtok: 1, output_per_mtok: 2}"
    given = [
        f"generation.base_url={address}",
        "generation.api_key_env=LAB",
        "generation.concurrency=7",
        f"generation.price={price}",
    ]

    def judge(*assignments: str) -> ValidationSpec:
        found = config(*given, *assignments).validation
        assert found is not None
        return found

    same = judge()
    assert (same.base_url, same.endpoint, same.api_key_env, same.concurrency) == (address, address, "LAB", 7)
    assert same.price == PriceSpec(input_per_mtok=1, output_per_mtok=2)
    assert judge("validation.model=gpt-4.1").price is None
    assert judge("validation.concurrency=3").concurrency == 3
    own = judge("validation.base_url=http://127.0.0.1:8")
    assert (own.endpoint, own.api_key_env, own.concurrency) == ("http://127.0.0.1:8", "OPENAI_API_KEY", 50)
    far = judge("validation.model=meta/llama")
    assert (far.provider, far.base_url, far.api_key_env) == ("together", None, "TOGETHER_API_KEY")


def test_a_literal_key_goes_to_the_judge_only_at_the_same_service() -> None:
    given = config("generation.api_key=sk-1")
    assert given.validation is not None
    assert given.validation.api_key == given.generation.api_key
    for elsewhere in ("validation.base_url=http://127.0.0.1:8", "validation.model=meta/llama", "validation.endpoint=x"):
        judge = config("generation.api_key=sk-1", elsewhere).validation
        assert judge is not None
        assert judge.api_key is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host", "must begin with http:// or https://"),
        ("127.0.0.1:8000", "must begin with http:// or https://"),
        ("http://", "must begin with http:// or https://"),
        ("https://me:sk-hidden@host/v1", "holds a user or password, which would be stored; use api_key_env"),
        ("https://sk-hidden@host/v1", "holds a user or password"),
        ("ftp://me:sk-hidden@host", "must begin with"),
        ("https://host/v1?key=sk-hidden", "has a query or fragment"),
        ("http://[::1", "is no URL: Invalid IPv6 URL"),
    ],
)
def test_an_address_that_cannot_be_stored_or_used(url: str, problem: str) -> None:
    for assignments, environ in (([f"generation.base_url='{url}'"], {}), ([], {"OPENAI_BASE_URL": url})):
        with pytest.raises(
            ConfigError, match=problem.replace("?", r"\?"), check=lambda error: "sk-hidden" not in str(error)
        ):
            config(*assignments, environ=environ)


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("generation.temperature=3", "less than or equal to 2"),
        ("generation.temperature=true", "should be a number, not true or false"),
        ("generation.concurrency=0", "greater than or equal to 1"),
        ("generation.top_p=0", "greater than 0"),
        ("generation.max_tokens=1.5", "valid integer"),
        ("generation.max_tokens=1e12", "less than or equal to 10000000"),
        ("generation.model=''", "at least 1 character"),
        ("generation.strategy=two", "'direct_all'"),
        ("generation.provider=anthropic", "'openai', 'together' or 'offline'"),
        ("generation.price={input_per_mtok: -1, output_per_mtok: 0}", "greater than or equal to 0"),
        ("experiment.batch_id=a/b", "separator"),
        ("experiment.batch_id=..", "no name for a directory"),
        ("experiment.purpose='../x'", "separator"),
        ("dataset.dataset_name=_shared", "shared experiments"),
        ("dataset.input_path=null", "give input_path"),
        ("dataset.input_path=''", "at least 1 character"),
        ("dataset.hub=copa", "give input_path"),
        ("experiment=later", "is a group of settings"),
        ("dataset.files=[a]", "is a group of settings; known here: train, validation, test"),
    ],
)
def test_values_that_are_refused(assignment: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(assignment)


def test_a_source_is_one_of_three() -> None:
    assert DatasetSpec(hub="copa").hub == "copa"
    assert DatasetSpec.model_validate({"files": {"train": "x.jsonl"}}).input_path is None
    assert DatasetSpec.model_validate({"input_path": "a.jsonl", "files": {"train": "x.jsonl"}}).input_path == "a.jsonl"


@pytest.mark.parametrize(
    ("assignments", "options", "name"),
    [
        ([], {}, "temp07_topp10_gpt4o"),
        (["generation.temperature=1", "generation.top_p=0.95"], {}, "temp10_topp095_gpt4o"),
        (["generation.temperature=null", "generation.top_p=null"], {}, "gpt4o"),
        (["generation.model=meta-llama/Llama-3.3-70B_Turbo"], {}, "temp07_topp10_llama3370bturbo"),
        ([], {"record_limit": 20}, "temp07_topp10_gpt4o_first20"),
        ([], {"record_limit": 20, "draw": 2}, "temp07_topp10_gpt4o_first20_draw2"),
    ],
)
def test_the_name_that_a_person_reads(assignments: list[str], options: dict[str, int], name: str) -> None:
    values: dict[str, Any] = {"record_limit": None, "draw": 0, **options}
    assert semantic_name(config(*assignments), **values) == name


def test_what_is_deprecated_or_risky_is_warned_of() -> None:
    given = config("experiment.experiment_id=7", "experiment.overwrite_strategy=skip", "generation.api_key=sk-1")
    found = deprecations(given)
    assert [warning.partition(" ")[0] for warning in found] == [
        "`experiment.experiment_id`",
        "`experiment.overwrite_strategy`",
        "`generation.api_key`",
        "`validation.api_key`",
    ]
    assert "sk-1" not in " ".join(found)
    assert deprecations(config()) == []


def test_a_key_is_nowhere() -> None:
    given = config("generation.api_key=sk-very-secret", "validation.api_key=sk-very-secret")
    shown = [repr(given), json.dumps(settings(given)), to_yaml(public(given)), identity_of(given).canonical]
    assert not [text for text in shown if "sk-very-secret" in text]


def test_labels_are_texts_as_they_are_written() -> None:
    given = config("version=1.5", "task_name=7", "experiment.purpose=2024_12_29", "experiment.batch_id=no")
    assert (given.version, given.task_name) == ("1.5", "7")
    assert (given.experiment.purpose, given.experiment.batch_id) == ("2024_12_29", "no")


def test_every_setting_has_one_sentence_of_help() -> None:
    def described(spec: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
        for name, field in spec.model_fields.items():
            yield f"{spec.__name__}.{name}", field.description

    specs = (GenerationConfig, GenerationSpec, ValidationSpec, ModelSpec, DatasetSpec, PriceSpec)
    assert not [name for spec in specs for name, text in described(spec) if not text]


def test_what_is_public_makes_the_same_experiment_again() -> None:
    given = config("generation.stop=[a, b]", "validation.temperature=0.5", "generation.seed=7")
    again = resolve(configs.validate(GenerationConfig, configs.parse(to_yaml(public(given)), "f")), {})
    assert identity_of(again) == identity_of(given)
    assert isinstance(configs.parse(to_yaml(public(given)), "f"), Document)


def test_a_judge_that_repeats_the_endpoint_is_asked_where_the_generator_is() -> None:
    found = config(
        "generation.base_url=http://lab:8000/v1", "generation.endpoint=lab", "generation.api_key_env=LAB_KEY",
        "validation.endpoint=lab",
    ).validation  # fmt: skip
    assert found is not None
    assert (found.endpoint, found.base_url, found.api_key_env) == ("lab", "http://lab:8000/v1", "LAB_KEY")
