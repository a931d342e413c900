"""JSON configs: what json.dump writes and people add to it is read as it was, and what is no JSON is named."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tracker import configs
from tracker.errors import ConfigError
from tracker.spec import Real, Spec, Whole, setting
from tracker.spec_problems import Location

SECRET = "sk-very-secret-key"
SEED = """\
{
\t"task_type": "translation",  // what it is "called"
\t// where: https://example.org/{a, b]
\t"model_config": {"model_name": "https://host/model//v1", "temperature": 1e-6,},
\t"agent_perspectives": [
\t\t{"condition": "faithful", "strategy": null},
\t\t{
\t\t\t"condition": "lazy",
\t\t},
\t],
}  // the end"""


class AgentModel(Spec):
    temperature: Real = setting(0.7, ge=0, help="sampling temperature")


class Perspective(Spec):
    condition: str = setting(help="its name")
    depth: Whole = setting(1, ge=1, help="how deep")


class Perspectives(Spec):
    agent_model: AgentModel = setting(AgentModel(), alias="model_config", help="the model")
    agents: tuple[Perspective, ...] | None = setting(None, alias="agent_perspectives", help="the perspectives")


def data(text: str) -> dict[str, Any]:
    return configs.parse_json(text, "f").data


def problems(text: str) -> list[str]:
    """What a file with ``text`` gets, as ``line: what``; the file is called `f`."""
    with pytest.raises(ConfigError) as caught:
        configs.validate(Perspectives, configs.parse_json(text, "f"))
    return [re.sub(r"^f:(?=\d)", "", str(problem)) for problem in caught.value.problems]


def test_comments_and_commas_at_the_end_are_fine() -> None:
    assert data(SEED) == {
        "task_type": "translation",
        "model_config": {"model_name": "https://host/model//v1", "temperature": 1e-6},
        "agent_perspectives": [{"condition": "faithful", "strategy": None}, {"condition": "lazy"}],
    }


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["config.json", "CONFIG.JSON", ".json"])
def test_a_file_is_read_with_its_lines(tmp_path: Path, name: str, start: str, end: str) -> None:
    path = tmp_path / name
    path.write_bytes((start + SEED.replace("\n", end)).encode())
    document = configs.load(path)
    assert document.data == data(SEED)
    assert {place: int(where.removeprefix(f"{path}:")) for place, where in document.places.items()} == {
        ("task_type",): 2,
        ("model_config",): 4,
        ("model_config", "model_name"): 4,
        ("model_config", "temperature"): 4,
        ("agent_perspectives",): 5,
        ("agent_perspectives", 0): 6,
        ("agent_perspectives", 0, "condition"): 6,
        ("agent_perspectives", 0, "strategy"): 6,
        ("agent_perspectives", 1): 7,
        ("agent_perspectives", 1, "condition"): 8,
    }


def test_a_json_text_in_a_yaml_file_is_yaml_as_before(tmp_path: Path) -> None:
    path = tmp_path / "json.yaml"
    path.write_text('{"a": 1e-6, b: c}')
    assert configs.load(path).data == {"a": "1e-6", "b": "c"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6), ("1E5", 100000.0), ("-0", 0), ("1.0", 1.0), ("-0.5e+2", -50.0), ("12", 12), ("true", True),
        ("false", False), ("null", None), ('""', ""), ('"<<"', "<<"), ('"1e5"', "1e5"), ("[]", []), ("{}", {}),
        (r'"\ud83d\ude00"', "😀"), ('"😀"', "😀"), (r'"\"\\\/\b\f\n\r\t\u00e9\u2028"', '"\\/\b\f\n\r\té\u2028'),
        (r'"\\ud800"', r"\ud800"), ('"#, // and /* */"', "#, // and /* */"), (f'"{"x" * 5000}"', "x" * 5000),
        ('"don\'t: no"', "don't: no"), ('"\x7f\x85\u2028"', "\x7f\x85\u2028"),
    ],
)  # fmt: skip
def test_a_value_is_what_json_says(text: str, value: Any) -> None:
    found = data(f'{{"a": {text}}}')["a"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_any_texts() -> None:
    keys = ["<<", "1", "", "a: b", "x" * 5000, "😀", "null", "~", "//"]
    text = json.dumps(dict.fromkeys(keys, 1))
    assert list(data(text)) == keys


def test_what_is_meant_all_the_same_is_named_at_once() -> None:
    text = """\
{
  name: 1, 'x': 2,  # no
  "b": True, "c": 'text', "d": yes,
  /* of
  two lines */
  "e": [NaN, -Infinity, .5, 01, +1, 0x1, 1_000],,
  "f": "C:\\data", "g": "a\tb", "h": "\\u12"
  "i": ["a" "b"], "i": 1e999,
  "j": "\\ud800", "k\\u0000": "\\u0000"
}"""
    number = "no number in JSON: they are like 7, -0.5 and 1e-6, with digits around a point and no 0 or + in front"
    comment = "a comment begins with // and ends with its line; JSON has no other"
    escape = r"no such escape in JSON: there are \" \\ \/ \b \f \n \r \t and \u with four hexadecimal digits"
    assert problems(text) == [
        '2: a key stands in double quotes (") (column 3)',
        "2: a text stands in double quotes (\"), not in single ones (') (column 12)",
        f"2: {comment} (column 21)",
        "3: JSON has true, false and null, in small letters (column 8)",
        "3: a text stands in double quotes (\"), not in single ones (') (column 19)",
        '3: a text stands in double quotes (") (column 32)',
        f"4: {comment} (column 3)",
        "6: a number must be finite (column 9)",
        "6: a number must be finite (column 14)",
        *(f"6: {number} (column {column})" for column in (25, 29, 33, 37, 42)),
        "6: there is nothing before this comma (column 49)",
        f"7: {escape} (column 11)",
        "7: a control character in a text is written as an escape (a tab is \\t) (column 26)",
        f"7: {escape} (column 37)",
        "8: a comma is missing before this (column 3)",
        "8: a comma is missing before this (column 13)",
        "8: key `i` is here twice (first in line 8)",
        "8: a number must be finite",
        "9: a text holds no halves of surrogate pairs",
        "9: a text holds no NUL character",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '1: a configuration in JSON begins with {; one in YAML has a name that ends in ".yaml" (column 1)'),
        ("// only this\n", "2: a configuration in JSON begins with {"),
        ("task_type: translation\nseed: 1\n", "1: a configuration in JSON begins with {"),
        ("[1]", "1: a configuration in JSON begins with {"),
        ('{"a": 1}\n}', "2: nothing may follow the } that closes the configuration (column 1)"),
        ('{"a": 1}{"b": 1}', "1: nothing may follow the } that closes the configuration (column 9)"),
        ('{\n"a": [1,\n', "3: the [ of line 2 is not closed before this (column 1)"),
        ('{"a": [\n1}', "2: the [ of line 1 is not closed before this (column 2)"),
        ('{"a": 1', "1: the { of line 1 is not closed before this (column 8)"),
        ('{"a": [1 2]}', "1: a comma or ] must come here (column 10)"),
        ('{"a": b c}', '1: a text stands in double quotes (") (column 7)'),
        ('{"a": 1: 2}', "1: a comma or } must come here (column 8)"),
        ('{"a" 1}', "1: a colon must come here, after the key (column 6)"),
        ('{"a", "b"}', "1: a colon must come here, after the key (column 5)"),
        ('{"a": }', "1: a value must come here (column 7)"),
        ('{"a": \xa01}', "1: a value must come here (column 7)"),
        ('{{"a": 1}}', '1: a key in double quotes (") must come here (column 2)'),
        ("{: 1}", '1: a key in double quotes (") must come here (column 2)'),
        ('{"a": "b\nc"}', "1: this text is not closed in its line (a new line within a text is written \\n) (column"),
        ('{"a": "b\\\nc"}', "1: this text is not closed in its line"),
        ('{"a": "b', "1: this text is not closed in its line"),
        ("{'a: 1}", "1: this text is not closed in its line"),
        ("{,}", "1: there is nothing before this comma (column 2)"),
        ('{"a": 1,,}', "1: there is nothing before this comma (column 9)"),
        ('{"a": 1, /* never closed', "1: a comment begins with // and ends with its line"),
        ('{"a": ' + "[" * 5000, "1: nested too deeply (column 107)"),
        ('{"a": ' * 5000, "1: nested too deeply"),
        (f'{{"a": {"[" * 98}1{"]" * 98}, "b": {"[" * 101}1{"]" * 101}}}', "1: nested too deeply"),
        (f'{{"a": [{"0," * 200_000}]}}', "1: more than 200,000 values"),
        (f'{{"a": {"9" * 5000}}}', "1: this is no int"),
        ('{"a": 1,\n"\\u0061": 2}', "2: key `a` is here twice (first in line 1)"),
        ('{"a": "\\ude00\\ud83d"}', "1: a text holds no halves of surrogate pairs"),
        ('{"\\ud83d": 1}', "1: a text holds no halves of surrogate pairs"),
        ('{"\\u0000": 1}', "1: a text holds no NUL character"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_in_json(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"a": 1,\n"b": "caf\xe9"}')
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 4_000_001)
    for path, expected in (
        (latin, f"{latin}:2: not UTF-8"),
        (large, "larger than 4,000,000 bytes"),
        (tmp_path / "missing.json", "No such file or directory"),
    ):
        with pytest.raises(ConfigError, match=re.escape(expected)):
            configs.load(path)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"api_key": {SECRET}, "b": {SECRET} {SECRET}}}',
        f'{{"api_key": "{SECRET}\n"}}',
        f'{{"api_key": \'{SECRET}\', "b": "\\x{SECRET}"}}',
        f'{{"api_key" "{SECRET}"}}',
        f'{{"api_key": "{SECRET}", "api_key": "{SECRET}"}}',
        f"{{{SECRET}: 1}} {SECRET}",
    ],
)
def test_a_key_is_in_no_message(text: str) -> None:
    assert not [problem for problem in problems(text) if SECRET in problem]


def test_settings_are_checked_and_overridden_as_those_of_yaml() -> None:
    document = configs.parse_json(SEED.replace('"task_type": "translation",', ""), "f")
    with pytest.raises(ConfigError) as caught:
        configs.validate(Perspectives, document)
    assert [str(problem) for problem in caught.value.problems] == [
        "f:4: unknown key `model_config.model_name`; known here: temperature",
        "f:6: unknown key `agent_perspectives.0.strategy`; known here: condition, depth",
    ]
    found = configs.override(document, ["model_config={temperature: 0.9}", "agent_perspectives=[{condition: a}]"])
    spec = configs.validate(Perspectives, found)
    assert (spec.agent_model.temperature, spec.agents) == (0.9, (Perspective(condition="a"),))
    assert found.where(("agent_perspectives", 0, "condition")) == "--set agent_perspectives"


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class Writer:
    """Writes a value with blanks, comments and commas wherever they may stand, noting the line of everything."""

    def __init__(self, random: Random) -> None:
        self.random, self.text, self.lines = random, "", dict[Location, int]()

    def blank(self) -> None:
        kinds = ["", " ", "\t", "\n", "\r\n", '// "a": [}, /* # \u2028\n', "//\r\n", "//\r"]
        self.text += "".join(self.random.choices(kinds, k=self.random.randrange(3)))

    def place(self, location: Location) -> None:
        self.blank()
        self.lines[location] = len(re.findall(r"\r\n|\r|\n", self.text)) + 1

    def write(self, value: Any, location: Location = ()) -> None:
        if not isinstance(value, (dict, list)):
            self.text += json.dumps(value, ensure_ascii=self.random.random() < 0.5)
            return
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        self.text += "{" if isinstance(value, dict) else "["
        for index, (key, item) in enumerate(pairs):
            self.place((*location, key))
            if isinstance(value, dict):
                self.text += json.dumps(key)
                self.blank()
                self.text += ":"
                self.blank()
            self.write(item, (*location, key))
            self.blank()
            self.text += "," if index < len(pairs) - 1 or self.random.random() < 0.5 else ""
        self.blank()
        self.text += "}" if isinstance(value, dict) else "]"


@given(st.dictionaries(TEXT, VALUE, max_size=4), st.randoms(use_true_random=False))
def test_any_json_is_read_as_it_was_and_where_it_was(value: dict[str, Any], random: Random) -> None:
    writer = Writer(random)
    writer.blank()
    writer.write(value)
    writer.blank()
    document = configs.parse_json(writer.text, "f")
    assert repr(document.data) == repr(value)
    assert document.places == {location: f"f:{line}" for location, line in writer.lines.items()}


@given(st.dictionaries(TEXT, VALUE, max_size=4), st.none() | st.integers(0, 4) | st.just("\t"))
def test_what_json_writes_is_read_as_it_was(value: dict[str, Any], indent: int | str | None) -> None:
    assert repr(data(json.dumps(value, indent=indent))) == repr(value)


@given(st.text(alphabet="{}[]\"',:/*#\\\n\r\t 01-+.eEuntrfalsNI\0\xa0é").map(lambda text: f'{{"a": {text}'))
def test_any_text_gives_what_json_says_or_a_config_error(text: str) -> None:
    try:
        found = data(text)
    except ConfigError:
        return
    assert json.loads(json.dumps(found, allow_nan=False)) == found


TOKENS = [
    *'{}[]:,"\\\'\n\t 10-+.eb\x00\x7f\xa0', "]", "}", '"b"', '"c": ', "[1", "b", "u0062", "true", "null", "NaN",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS)).map(lambda tokens: f'{{"a": {"".join(tokens)}}}'))
def test_but_for_comments_and_commas_at_the_end_it_reads_what_python_reads(text: str) -> None:
    assume(not re.search(r",\s*[\]}]", text))
    expected: Any = None
    with suppress(ValueError):
        expected = json.loads(text, object_pairs_hook=_each_once, parse_constant=int)
    found: Any = None
    with suppress(ConfigError):
        found = data(text)
    assert repr(found) == repr(expected)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)
