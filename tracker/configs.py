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
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.json_config import Node, read
from tracker.spec import Spec, key_of

_MAX_BYTES = 4_000_000
_MAX_NODES = 200_000
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_FLOAT, _FLOAT_BEGINS = r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")
_BLANKS_AT_END = re.compile(r" +$", re.MULTILINE)
_LITERAL_KEY = re.compile(r"\bapi_?key\b", re.IGNORECASE)

_TELLTALES = {
    "generation": "generate", "agent_perspectives": "perspectives", "hyperparameters": "train",
    "n_total_tasks": "pool build",
}  # fmt: skip
"""Keys at the top of a configuration that those of one command alone have."""

Location = tuple[str | int, ...]
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
    ("float", _FLOAT, _FLOAT_BEGINS),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)

_SCALARS: Mapping[str, Callable[[str], Json]] = {
    f"{_TAG}str": str,
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: {"true": True, "false": False}[text.lower()],
    f"{_TAG}int": int,
    f"{_TAG}float": float,
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
    mark, tag = yaml.Mark("", 0, node.line - 1, 0, None, 0), f"{_TAG}{node.kind}"
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
            location = _written(document.data, item)
            found.setdefault(location, _problem(spec, document, item, location))
    if valid is None or also:
        known = _fields(spec, ())
        others = [command for key, command in _TELLTALES.items() if key in document.data and key not in known]
        hint = f"It looks like a configuration of `synthtrack {others[0]}`." if others else None
        problems = sorted([*found.values(), *also], key=_order)
        raise ConfigError(f"{document.source} has {_counted(len(problems))}.", problems, hint=hint)
    return valid


def to_yaml(value: Mapping[str, Json]) -> str:
    """``value`` as YAML for people: keys in their order, long texts as blocks."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        found = super().analyze_scalar(scalar)
        # PyYAML puts a text with blanks at the end of a line ("Answer: ") into quotes, where a block would keep them.
        found.allow_block = super().analyze_scalar(_BLANKS_AT_END.sub("", scalar)).allow_block
        return found


def _block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    # Anywhere but in double quotes, U+0085 is read as a plain newline.
    return dumper.represent_scalar(f"{_TAG}str", text, style='"' if "\x85" in text else style)


_Dumper.add_representer(str, _block_text)
# PyYAML itself would leave 1.5e3 bare where it is a text: it takes it for none of its numbers.
_Dumper.add_implicit_resolver(f"{_TAG}float", re.compile(rf"(?:{_FLOAT})\Z"), _FLOAT_BEGINS)


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
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._placed(item, (*location, index), item) for index, item in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            return self._wrong(node, f"the tag {node.tag} has no meaning in a configuration")
        try:
            value = _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            return self._wrong(node, f"this is no {node.tag.removeprefix(_TAG)}")
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


def _written(data: Any, item: Any) -> Location:
    """The location of a problem as it is written in the file: pydantic adds the names of a union's members to it."""
    location: Location = tuple(item["loc"])
    if item["type"] in {"missing", "extra_forbidden"}:
        return location
    for length, part in enumerate(location):
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))
        if not inside:
            return location[:length]
        data = data[part]
    return location


def _problem(spec: type[Spec], document: Document, item: Any, location: Location) -> Problem:
    name = ".".join(str(part) for part in location) or "the configuration"
    kind = item["type"]
    if kind == "missing":
        return Problem(document.where(location[:-1]), f"missing key `{name}`{_help(spec, location)}")
    if kind == "extra_forbidden":
        known = list(_fields(spec, location[:-1]))
        close = get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
        advice = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
        return Problem(document.where(location), f"unknown key `{name}`; {advice}")
    if kind == "model_type":
        known_here = ", ".join(_fields(spec, location))
        return Problem(document.where(location), f"`{name}` is a group of settings; known here: {known_here}")
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (got {given!r:.60})" if isinstance(given, (str, int, float, bool)) and "api_key" not in name else ""
    return Problem(document.where(location), f"`{name}`: {message[:1].lower()}{message[1:]}{shown}")


def _fields(spec: type[BaseModel], location: Location) -> Mapping[str, FieldInfo]:
    """What may stand at a location, under the keys of the file."""
    fields, is_name = _keys(spec), False
    for part in location:
        if is_name or isinstance(part, int):  # the group's name among others, its place in a list
            is_name = False
            continue
        annotation = fields[part].annotation if part in fields else None
        nested = _group(annotation)
        if nested is None:
            return {}
        fields, is_name = _keys(nested), get_origin(annotation) is dict
    return fields


def _keys(spec: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {key_of(name, field): field for name, field in spec.model_fields.items()}


def _group(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_group, getattr(annotation, "__args__", ()))), None)


def _help(spec: type[Spec], location: Location) -> str:
    info = _fields(spec, location[:-1]).get(str(location[-1]))
    return f" ({info.description})" if info is not None and info.description else ""


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
