"""Configurations: every problem at once with its line, and nothing but a ConfigError whatever the file holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError
from tracker.spec import Real, Spec, Whole, public, setting
from tracker.yaml_text import to_yaml

SECRET = "sk-very-secret-key"


class Model(Spec):
    temperature: Real = setting(0.7, ge=0, le=2, help="sampling temperature")
    max_tokens: Whole = setting(256, ge=1, help="longest answer")
    stop: str | tuple[str, ...] | None = setting(None, help="texts that end an answer")
    examples: tuple[str | dict[str, Any], ...] = setting((), help="examples")
    api_key: SecretStr | None = setting(None, secret=True, help="a literal key")
    base_url: str | None = setting(None, operational=True, help="address")


class Study(Spec):
    name: str = setting("study", help="a label")
    model: Model = setting(Model(), help="the model")
    judge: Model | None = setting(None, help="the judge")


class Needy(Spec):
    model: str = setting(help="the model's name")


class Group(Spec):
    depth: Whole = setting(ge=1, help="how deep")
    final: Model = setting(Model(), alias="model_config", help="the model")


class Aliased(Spec):
    agent_model: Group = setting(alias="model_config", help="the agents' model")
    views: tuple[Group, ...] | None = setting(None, alias="agent_perspectives", help="who looks")


def problems(text: str, *assignments: str, spec: type[Spec] = Study) -> list[str]:
    """What a file with ``text`` gets, as ``line: what``; the file is called `f`."""
    with pytest.raises(ConfigError) as caught:
        configs.validate(spec, configs.override(configs.parse(text, "f"), assignments))
    return [re.sub(r"^f:(?=\d)", "", str(problem)) for problem in caught.value.problems]


def data(text: str) -> dict[str, Any]:
    return configs.parse(text, "f").data


def test_every_problem_is_named_at_once_in_the_order_of_its_line() -> None:
    text = "nam: x\nmodel:\n  temperature: 3\n  max_token: 5\n  stop: {a: 1}\njudge:\n  - 1\n"
    assert problems(text) == [
        "1: unknown key `nam`; did you mean `name`?",
        "3: `model.temperature`: input should be less than or equal to 2 (got 3)",
        "4: unknown key `model.max_token`; did you mean `max_tokens`?",
        "5: `model.stop`: input should be a valid string",
        "6: `judge` is a group of settings; known here: temperature, max_tokens, stop, examples, api_key, base_url",
    ]


def test_a_close_name_is_offered_at_every_level() -> None:
    assert problems("judge: {temprature: 1}") == ["1: unknown key `judge.temprature`; did you mean `temperature`?"]
    assert problems("zzz: 1") == ["1: unknown key `zzz`; known here: name, model, judge"]


def test_a_missing_key_says_what_it_is() -> None:
    assert problems("{}", spec=Needy) == ["f: missing key `model` (the model's name)"]


def test_a_setting_with_an_alias_is_called_so_in_every_problem() -> None:
    assert problems("agent_model: {}\nviews: []\nmodel_confg: 1", spec=Aliased) == [
        "f: missing key `model_config` (the agents' model)",
        "1: unknown key `agent_model`; known here: model_config, agent_perspectives",
        "2: unknown key `views`; known here: model_config, agent_perspectives",
        "3: unknown key `model_confg`; did you mean `model_config`?",
    ]
    text = "model_config:\n  model_config:\n    temprature: 1\n  depth: 0\n  final: {}\n"
    assert problems(text, spec=Aliased) == [
        "3: unknown key `model_config.model_config.temprature`; did you mean `temperature`?",
        "4: `model_config.depth`: input should be greater than or equal to 1 (got 0)",
        "5: unknown key `model_config.final`; known here: depth, model_config",
    ]
    assert problems("model_config: 3", spec=Aliased) == [
        "1: `model_config` is a group of settings; known here: depth, model_config"
    ]


def test_groups_in_a_list_have_their_own_lines_and_keys() -> None:
    text = "model_config: {depth: 1}\nagent_perspectives:\n- dept: 1\n- 3\n- depth: 1\n  model_config: {max_token: 3}\n"
    assert problems(text, spec=Aliased) == [
        "3: missing key `agent_perspectives.0.depth` (how deep)",
        "3: unknown key `agent_perspectives.0.dept`; did you mean `depth`?",
        "4: `agent_perspectives.1` is a group of settings; known here: depth, model_config",
        "6: unknown key `agent_perspectives.2.model_config.max_token`; did you mean `max_tokens`?",
    ]


def test_a_problem_within_a_list_has_its_own_line() -> None:
    assert problems("model:\n  examples:\n    - a\n    - 3\n") == [
        "4: `model.examples.1`: input should be a valid string (got 3)"
    ]


@pytest.mark.parametrize("number", ["1", "1.0", '"1.0"', "1e0", "'1e0'", "+1", "1.", "10e-1"])
def test_one_number_however_it_is_written(number: str) -> None:
    found = configs.validate(Study, configs.parse(f"model: {{temperature: {number}}}", "f"))
    assert found.model.temperature == 1.0
    assert configs.validate(Study, configs.override(Document({}, "f"), [f"model.temperature={number}"])) == found


def test_yaml_reads_only_what_everybody_reads() -> None:
    text = "a: 2024-12-29\nb: 2024_12_29\nc: 1:30\nd: 010\ne: no\nf: on\ng: 0x10\nh: 1e-6\ni: .inf\nj: =\nk: <<"
    assert list(data(text).values()) == text.replace("\n", ": ").split(": ")[1::2]
    assert data("a: true\nb: False\nc: ~\nd:\ne: null\nf: -7\ng: 1.5\nh: .5\ni: 1.5e+3") == {
        "a": True, "b": False, "c": None, "d": None, "e": None, "f": -7, "g": 1.5, "h": 0.5, "i": 1500.0,
    }  # fmt: skip


def test_a_key_that_is_here_twice() -> None:
    assert problems("model:\n  temperature: 1\n  max_tokens: 2\n  temperature: 1\n") == [
        "4: key `temperature` is here twice (first in line 2)"
    ]
    assert problems("1: a\n'1': b\n") == ["2: key `1` is here twice (first in line 1)"]


def test_merge_keys_bring_in_what_is_not_said_here() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  y: 3\n  <<: [*a, *b]\n"
    document = configs.parse(text, "f")
    assert document.data["c"] == {"x": 1, "z": 2, "y": 3}
    assert [document.where(("c", key)) for key in ("x", "y", "z")] == ["f:1", "f:4", "f:2"]


@pytest.mark.parametrize("value", ["3", "[1]", "[[]]", "text"])
def test_only_mappings_can_be_merged(value: str) -> None:
    assert problems(f"a: 1\nb: {{<<: {value}}}") == ["2: only mappings can be merged with <<"]


@pytest.mark.parametrize(
    "level",
    [
        "a{n}: &a{n} [{refs}]",
        "a{n}: &a{n} {{<<: [{refs}], k{n}: 1}}",
        "a{n}: &a{n} {{b: [{refs}]}}",
    ],
)
def test_a_bomb_of_aliases_is_refused(level: str) -> None:
    start = ["a0: &a0 {x: 1}"]
    text = "\n".join(start + [level.format(n=n, refs=", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 12)])
    assert problems(text) == ["f: more than 200,000 values once its aliases are expanded"]


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "a: " + "[" * 5000, "a: " + "{b: " * 5000]
)
def test_what_is_nested_too_deeply_or_within_itself(text: str) -> None:
    assert "nested too deeply" in problems(text)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: !!python/object/apply:os.system [ls]", "1: the tag tag:yaml.org,2002:python/object/apply:os.system has"),
        ("a: !!binary aGk=", "1: the tag tag:yaml.org,2002:binary has no meaning"),
        ("a: !!timestamp now", "1: the tag tag:yaml.org,2002:timestamp has no meaning"),
        ("a: !!set {b}", "1: the tag tag:yaml.org,2002:set has no meaning"),
        ("a: !mine 3", "1: the tag !mine has no meaning"),
        ('a: !!int ""', "1: this is no int"),
        ("a: !!bool maybe", "1: this is no bool"),
        ("a: !!map x", "1: the tag tag:yaml.org,2002:map has no meaning"),
        (f"a: 1.{'9' * 400}e+999", "1: a number must be finite"),
        ("? [a]\n: b", "1: a key must be text"),
        ("- a\n- b", "f: a configuration is a mapping of keys to values, this is none"),
        ("", "f: a configuration is a mapping of keys to values, this is none"),
        ("a: 1\n---\nb: 2", "2: but found another document"),
        ("a: 1\nb: [1, 2\nc: 3", "3: expected ',' or ']', but got ':'"),
        ("a:\n\tb: 1", "2: found character '\\t' that cannot start any token"),
        ("a: *b", "1: found undefined alias 'b'"),
        ("a: 1\nb: \0", "2: the character #x0000 is not allowed"),
        ('a: "\\UFFFFFFFF"', "f: "),
        (f"a: {'9' * 5000}", "1: this is no int"),
    ],
)
def test_what_is_no_configuration(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


def test_an_explicit_tag_of_plain_data_is_fine() -> None:
    assert data("a: !!str 1\nb: !!float 1\nc: !!int '7'\nd: !!seq [1]\ne: !!map {f: 1}") == {
        "a": "1", "b": 1.0, "c": 7, "d": [1], "e": {"f": 1},
    }  # fmt: skip


def test_a_file_is_read_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("\ufeffname: Löwe\r\nmodel:\r\n  temperature: 1\r\n".encode())
    document = configs.load(path)
    assert document.data == {"name": "Löwe", "model": {"temperature": 1}}
    assert document.where(("model", "temperature")) == f"{path}:3"
    assert document.where(("model", "top_p")) == f"{path}:2"
    assert document.where(("judge", "top_p")) == str(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 4_000_001)
    for path, expected in (
        (latin, f"{latin}:2: not UTF-8"),
        (large, "larger than 4,000,000 bytes"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing.yaml", "No such file or directory"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(ConfigError, match=expected):
            configs.load(path)


def test_overrides_are_yaml_and_reach_any_depth() -> None:
    document = configs.parse("name: x\nmodel:\n  temperature: 1\n", "f")
    found = configs.override(
        document,
        ["model.temperature=0.9", "judge.stop=[a, 'b']", "name=2024_12_29", "judge.max_tokens=1e3", "model.examples="],
    )
    assert found.data == {
        "name": "2024_12_29",
        "model": {"temperature": 0.9, "examples": None},
        "judge": {"stop": ["a", "b"], "max_tokens": "1e3"},
    }
    assert document.data == {"name": "x", "model": {"temperature": 1}}
    assert found.where(("model", "temperature")) == "--set model.temperature"
    assert found.where(("model", "top_p")) == "f:2"


def test_an_override_of_a_group_replaces_it_and_its_places() -> None:
    text = "model:\n  temperature: 1\n  max_tokens: 0\n"
    assert problems(text, "model={temperature: 9}") == [
        "--set model: `model.temperature`: input should be less than or equal to 2 (got 9)"
    ]
    assert problems(text, "model.max_tokens=1", "model.temperature=5") == [
        "--set model.temperature: `model.temperature`: input should be less than or equal to 2 (got 5)"
    ]


def test_an_override_fills_a_group_that_is_empty() -> None:
    assert configs.override(configs.parse("model:\n", "f"), ["model.temperature=1"]).data == {
        "model": {"temperature": 1}
    }


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("model_config:\n  max_tokens: 50\n  temperature: 0.7", "model_config.temperature=0.7"),
        ("name: 3\nhyperparameters:\n  on: true\n  seed: 4", "hyperparameters.seed=4"),
        ("name: x", "group.key=value"),
    ],
)
def test_an_override_without_a_value_is_answered_with_one_of_this_config(text: str, example: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.override(configs.parse(text, "f"), ["foo"])
    assert caught.value.hint == f"For example: --set {example}"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("name", "--set name: expected key=value"),
        ("=1", "--set : expected key=value"),
        ("model..x=1", "--set model..x: expected key=value"),
        ("name=[1", "--set name:1: expected ',' or ']', but got '<stream end>'"),
        ("name=!!binary aGk=", "--set name: the tag tag:yaml.org,2002:binary has no meaning in a configuration"),
        ("name.first=1", "--set name.first: name is not a group of settings"),
        ("zzz=1", "--set zzz: unknown key `zzz`; known here: name, model, judge"),
    ],
)
def test_an_override_that_is_wrong(assignment: str, expected: str) -> None:
    assert problems("name: x", assignment)[0].partition("\n")[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        f"model:\n  api_key: {SECRET}\n  temperature: 3\n",
        f"model:\n  api_key: [{SECRET}]\n",
        f"model:\n  api_key: {{{SECRET}: 1}}\n",
        f"model:\n  api_kye: {SECRET}\n",
        f"model:\n  apikey: {SECRET}\n",
        f"model:\n  api_key: {SECRET}: x\n",
        f"model:\n  api_key: '{SECRET}\n",
        f"model: {{api_key: {SECRET}, x\n",
        f"model:\n  api_key: {SECRET}\n  api_key: {SECRET}\n",
        f"model:\n  api_key:\n    {SECRET}: :\n  - 1",
        f"model:\n  api_key: !!int {SECRET}\n",
        f"model:\n  temperature: 1\n  api_key: 5\n  api_key2: {SECRET}\n",
    ],
)
def test_a_key_is_in_no_message(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.validate(Study, configs.parse(text, "f"))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None or "validation" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "value", [f"[{SECRET}", f"'{SECRET}", f"{SECRET}: {SECRET}: 1", f"!!int {SECRET}", f"[{SECRET}]"]
)
def test_a_key_on_the_command_line_is_in_no_message(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.validate(Study, configs.override(Document({}, "f"), [f"model.api_key={value}"]))
    assert SECRET not in str(caught.value)


def test_a_key_is_in_nothing_that_is_made_of_a_config() -> None:
    document = configs.override(configs.parse(f"model: {{api_key: {SECRET}}}", "f"), [f"judge.api_key={SECRET}"])
    found = configs.validate(Study, document)
    assert found.model.api_key is not None
    assert found.model.api_key.get_secret_value() == SECRET
    shown = [repr(document), repr(found), str(found), json.dumps(public(found)), to_yaml(public(found))]
    assert not [text for text in shown if SECRET in text]


@given(st.text() | st.text(alphabet="ab:{}[]&*!<>|-'\"\\?#%@, \n\t019.~ueUx=").map(lambda text: f"a: {text}"))
def test_any_text_gives_a_document_or_a_config_error(text: str) -> None:
    try:
        document = configs.parse(text, "f")
    except ConfigError:
        return
    assert json.loads(json.dumps(document.data, allow_nan=False)) == document.data


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        document = configs.load(path)
    except ConfigError:
        return
    assert content.decode("utf-8-sig")
    assert document.source == str(path)


@given(st.text(), st.text(alphabet="ab:{}[]&*!<>|-'\"?#, \n09.~="))
def test_any_override_gives_a_document_or_a_config_error(key: str, value: str) -> None:
    try:
        found = configs.override(
            Document({"model": {"temperature": 1}}, "f"), [f"{key}={value}", f"model.{value}={key}"]
        )
    except ConfigError:
        return
    assert json.loads(json.dumps(found.data, allow_nan=False)) == found.data


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n\t"))
    | st.sampled_from(
        ["no", "1e-6", "2024-12-29", "1_000", "010", "~", "null", "<<", "=", "1:30", "0x1", " a", "a\nb \n"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_01", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc_01", min_size=1), PLAIN))
def test_what_is_written_as_yaml_is_read_as_it_was(value: dict[str, Any]) -> None:
    assert data(to_yaml(value) if value else "{}") == value


@pytest.mark.parametrize(
    "text", ["1.5e3", "+.5", "1.e3", "a\x85b", "a\x85b\nc", "a\u2028b\nc", "\n ", "a\n  \nb: ", "  a\n b  "]
)
def test_a_text_that_yaml_would_change_is_read_as_it_was(text: str) -> None:
    assert data(to_yaml({"a": text, "b": [{"c": text}]})) == {"a": text, "b": [{"c": text}]}


def test_long_texts_are_blocks_for_people() -> None:
    assert to_yaml({"b": "one\ntwo\n", "a": 1}) == "b: |\n  one\n  two\na: 1\n"
    assert to_yaml({"prompt": "Text: {a} \nAnswer: "}) == "prompt: |-\n  Text: {a} \n  Answer: \n"


def test_a_text_holds_no_nul() -> None:
    with pytest.raises(ConfigError, match="a text holds no NUL character"):
        configs.parse('a: 1\nb: "x\\0y"\n', "x.yaml")
    with pytest.raises(ConfigError, match="halves of surrogate pairs"):
        configs.parse('a: "\\ud800"\n', "x.yaml")
    with pytest.raises(ConfigError, match="a text holds no NUL character"):
        configs.parse('"x\\0y": 1\n', "x.yaml")
