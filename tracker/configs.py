"""Reads configurations: YAML and JSON with the line of every key, and every problem of a file at once.

YAML 1.1 has traps that are disarmed here: of two equal keys the last one would win silently, `2024-12-29` would be a
date, `2024_12_29` a number, `1:30` ninety, `010` eight and `no` false. They stay text. That `1e-6` is text in YAML 1.1
is left to the specs, which take numbers from text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.json_config import Node, read
from tracker.spec import Spec
from tracker.spec_problems import Location, fields_at, problem_of, written
from tracker.yaml_text import FLOAT, FLOAT_BEGINS, TAG

_MAX_BYTES = 4_000_000
_MAX_NODES = 200_000
_MERGE = f"{TAG}merge"
_LITERAL_KEY = re.compile(r"\bapi_?key\b", re.IGNORECASE)

_TELLTALES = {
    "generation": "generate", "agent_perspectives": "perspectives", "hyperparameters": "train",
    "n_total_tasks": "pool build",
}  # fmt: skip
"""Keys at the top of a configuration that those of one command alone have."""

SpecT = TypeVar("SpecT", bound=Spec)


@dataclass(frozen=True)
class Document:
    """A parsed configuration and where each of its values stands (``file:line``)."""

    data: dict[str, Json] = field(repr=False)  # may hold a literal api_key
    source: str
    places: Mapping[Location, str] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """``file:line`` of a location, or of the nearest thing above it that is there."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.source


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes for a number, a truth value or nothing only what everybody would."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", FLOAT, FLOAT_BEGINS),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{TAG}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)

_SCALARS: Mapping[str, Callable[[str], Json]] = {
    f"{TAG}str": str,
    f"{TAG}null": lambda _: None,
    f"{TAG}bool": lambda text: {"true": True, "false": False}[text.lower()],
    f"{TAG}int": int,
    f"{TAG}float": float,
    _MERGE: str,
}


def load(path: Path) -> Document:
    """The configuration in a file: JSON if its name ends in .json, else YAML. Raises ConfigError with every mistake."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The configuration {path} cannot be read.",
            [Problem(str(path), error.strerror or str(error))],
            hint="Give the path of a YAML or JSON file; `synthtrack init` makes examples under configs/.",
        ) from error
    if len(raw) > _MAX_BYTES:
        raise _broken(path, str(path), f"larger than {_MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _broken(path, f"{path}:{line}", "not UTF-8") from error
    form = parse_json if path.name.lower().endswith(".json") else parse
    return form(text, str(path))


def parse(text: str, source: str) -> Document:
    """The configuration in YAML ``text``; ``source`` names it in messages. Raises ConfigError."""
    root = _compose(text, source)
    if not isinstance(root, yaml.MappingNode):
        raise _broken(source, source, "a configuration is a mapping of keys to values, this is none")
    return _document(root, source, [])


def parse_json(text: str, source: str) -> Document:
    """The configuration in JSON ``text``, with // comments and commas at the end. Raises ConfigError."""
    root, problems = read(text, source, _MAX_NODES)
    return _document(None if root is None else _node(root), source, problems)


def _document(root: yaml.Node | None, source: str, found: Sequence[Problem]) -> Document:
    tree = _Tree(source, lambda line: f"{source}:{line}")
    data = tree.build(root, ()) if root else {}
    if problems := sorted(dict.fromkeys([*found, *tree.problems]), key=_order):
        raise ConfigError(f"{source} has {_counted(len(problems))}.", problems)
    return Document(data, source, tree.places)


def _node(node: Node) -> yaml.Node:
    mark, tag = yaml.Mark("", 0, node.line - 1, 0, None, 0), f"{TAG}{node.kind}"
    if node.kind == "map":
        return yaml.MappingNode(tag, [(_node(key), _node(value)) for key, value in node.value], mark)
    if node.kind == "seq":
        return yaml.SequenceNode(tag, [_node(item) for item in node.value], mark)
    return yaml.ScalarNode(tag, node.value, mark)


def override(document: Document, assignments: Sequence[str]) -> Document:
    """``document`` with ``key.path=value`` assignments applied; values are YAML. Raises ConfigError."""
    data, places = _copy(document.data), dict(document.places)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        location: Location = tuple(key.strip().split("."))
        if not equals or not all(location):
            raise ConfigError(
                "An override is wrong.",
                [Problem(f"--set {key}", "expected key=value")],
                hint=f"For example: --set {_example(document.data)}",
            )
        value, new = _assigned(location, f"--set {key}", text)
        target = data
        for part in location[:-1]:
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                raise ConfigError(
                    "An override is wrong.", [Problem(f"--set {key}", f"{part} is not a group of settings")]
                )
        target[location[-1]] = value
        places = {place: where for place, where in places.items() if place[: len(location)] != location} | new
    return Document(data, document.source, places)


def _example(data: Mapping[str, Json]) -> str:
    """A setting of the document as it could be overridden: a temperature, else the first number in a group."""
    numbers = [
        f"{group}.{name}={value}"
        for group, settings in data.items()
        if isinstance(settings, dict)
        for name, value in settings.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return next((each for each in numbers if ".temperature=" in each), numbers[0] if numbers else "group.key=value")


def _assigned(location: Location, where: str, text: str) -> tuple[Json, dict[Location, str]]:
    node = _compose(text, where)
    if node is None:
        return None, {location: where}
    tree = _Tree(where, lambda _: where)
    value = tree.build(node, location)
    if tree.problems:
        raise ConfigError("An override is wrong.", list(dict.fromkeys(tree.problems)))
    return value, {**tree.places, location: where}


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        # A snippet could show a key that is written into the file.
        shown = mark is not None and mark.buffer and not _LITERAL_KEY.search(f"{source} {text}")
        snippet = f"\n{mark.get_snippet()}" if mark and shown else ""
        raise _broken(source, where, f"{error.problem or error.context}{snippet}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _broken(source, f"{source}:{line}", f"the character #x{error.character:04x} is not allowed") from None
    except RecursionError as error:
        raise _broken(source, source, "nested too deeply") from error
    # PyYAML lets these through for numbers in escapes and directives that no machine can hold.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _broken(source, source, str(error).partition("\n")[0]) from error


def validate(spec: type[SpecT], document: Document, also: Sequence[Problem] = ()) -> SpecT:
    """The settings in ``document`` as a spec. Raises ConfigError with every problem, each with file and line.

    ``also`` are problems that a look at the document has found, to be said with the others.
    """
    found: dict[Location, Problem] = {}
    valid = None
    try:
        valid = spec.model_validate(document.data)
    except ValidationError as error:
        for item in error.errors():
            # A setting that takes several forms is wrong once, not once for each form.
            location = written(document.data, item)
            found.setdefault(location, problem_of(spec, document, item, location))
    if valid is None or also:
        known = fields_at(spec, ())
        others = [command for key, command in _TELLTALES.items() if key in document.data and key not in known]
        hint = f"It looks like a configuration of `synthtrack {others[0]}`." if others else None
        problems = sorted([*found.values(), *also], key=_order)
        raise ConfigError(f"{document.source} has {_counted(len(problems))}.", problems, hint=hint)
    return valid


def _unusable(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "a number must be finite"
    if isinstance(value, str) and "\0" in value:
        return "a text holds no NUL character"
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        return "a text holds no halves of surrogate pairs"
    return None


class _Tree:
    """Builds plain data from YAML nodes, noting places and problems on the way; ``where`` names a line."""

    def __init__(self, source: str, where: Callable[[int], str]) -> None:
        self.source, self.where = source, where
        self.places: dict[Location, str] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: yaml.Node, location: Location) -> Json:
        try:
            return self._build(node, location)
        except RecursionError as error:
            raise _broken(self.source, self.source, "nested too deeply, or within itself") from error

    def _build(self, node: yaml.Node, location: Location) -> Json:
        self._count()
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
            return [self._placed(item, (*location, index), item) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            return self._wrong(node, f"the tag {node.tag} has no meaning in a configuration")
        try:
            value = _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            return self._wrong(node, f"this is no {node.tag.removeprefix(TAG)}")
        wrong = _unusable(value)
        return value if wrong is None else self._wrong(node, wrong)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                found = self._merged(value_node, location) | found
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, "a key must be text")
                continue
            key = str(key_node.value)
            wrong = _unusable(key)
            if wrong is not None:
                self._wrong(key_node, wrong)
                continue
            if key in lines:
                self._wrong(key_node, f"key `{key}` is here twice (first in line {lines[key]})")
            lines[key] = key_node.start_mark.line + 1
            found[key] = self._placed(value_node, (*location, key), key_node)
        return found

    def _placed(self, node: yaml.Node, location: Location, at: yaml.Node) -> Json:
        self.places[location] = self._line(at)
        return self._build(node, location)

    def _merged(self, node: yaml.Node, location: Location) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            self._count()
            if isinstance(source, yaml.MappingNode):
                found = self._mapping(source, location) | found
            else:
                self._wrong(source, "only mappings can be merged with <<")
        return found

    def _count(self) -> None:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise _broken(self.source, self.source, f"more than {_MAX_NODES:,} values once its aliases are expanded")

    def _line(self, node: yaml.Node) -> str:
        return self.where(node.start_mark.line + 1)

    def _wrong(self, node: yaml.Node, what: str) -> None:
        self.problems.append(Problem(self._line(node), what))


def _broken(source: Path | str, where: str, what: str) -> ConfigError:
    return ConfigError(f"{source} is not a configuration.", [Problem(where, what)])


def _counted(number: int) -> str:
    return f"{number} problem{'s' if number != 1 else ''}"


def _order(problem: Problem) -> tuple[str, int]:
    source, _, line = problem.where.rpartition(":")
    return (source, int(line)) if line.isdigit() else (problem.where, 0)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
