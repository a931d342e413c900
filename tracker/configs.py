"""Reads configurations: YAML with the line of every key, and every problem of a file at once.

YAML 1.1 has traps that are disarmed here: of two equal keys the last one would win silently, and `2024-12-29` would be
a date. That `1e-6` is read as text is left to the specs, which take numbers from text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.spec import Spec

_MAX_BYTES = 4_000_000
_MAX_NODES = 200_000
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

Location = tuple[str | int, ...]
SpecT = TypeVar("SpecT", bound=Spec)


@dataclass(frozen=True)
class Document:
    """A parsed configuration and where each of its values stands (``file:line``)."""

    data: dict[str, Json]
    source: str
    places: Mapping[Location, str] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """``file:line`` of a location, or of the nearest thing above it that is there."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.source


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates: a label such as 2024-12-29 stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> Document:
    """The configuration in a YAML file. Raises ConfigError with every broken place."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The configuration {path} cannot be read.",
            [Problem(str(path), error.strerror or str(error))],
            hint="Give the path of a YAML file; `synthtrack init` makes examples under configs/.",
        ) from error
    if len(raw) > _MAX_BYTES:
        raise _broken(path, str(path), f"larger than {_MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _broken(path, f"{path}:{line}", "not UTF-8") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """The configuration in ``text``; ``source`` names it in messages. Raises ConfigError."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        snippet = f"\n{mark.get_snippet()}" if mark and mark.buffer else ""
        raise _broken(source, where, f"{error.problem or error.context}{snippet}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _broken(source, source, str(error) or "nested too deeply") from error
    if not isinstance(root, yaml.MappingNode):
        raise _broken(source, source, "a configuration is a mapping of keys to values, this is none")
    places: dict[Location, str] = {}
    problems: list[Problem] = []
    try:
        data = _Tree(source, places, problems).build(root, ())
    except RecursionError as error:
        raise _broken(source, source, "nested too deeply") from error
    if problems:
        raise ConfigError(f"{source} has {_counted(len(problems))}.", problems)
    return Document(data, source, places)


def override(document: Document, assignments: Sequence[str]) -> Document:
    """``document`` with ``key.path=value`` assignments applied; values are YAML. Raises ConfigError."""
    data, places = _copy(document.data), dict(document.places)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        where = f"--set {key}"
        if not equals or not key.strip():
            raise ConfigError(
                "An override is wrong.",
                [Problem(f"--set {assignment}", "expected key=value")],
                hint="For example: --set generation.temperature=0.9",
            )
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader
        except yaml.YAMLError as error:
            raise ConfigError("An override is wrong.", [Problem(where, f"{text!r} is not YAML")]) from error
        location = tuple(key.strip().split("."))
        target = data
        for part in location[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError("An override is wrong.", [Problem(where, f"{part} is not a group of settings")])
        target[location[-1]] = value
        places[location] = where
    return Document(data, document.source, places)


def validate(spec: type[SpecT], document: Document) -> SpecT:
    """The settings in ``document`` as a spec. Raises ConfigError with every problem, each with file and line."""
    try:
        return spec.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(spec, document, item) for item in error.errors()]
        raise ConfigError(f"{document.source} has {_counted(len(problems))}.", sorted(problems, key=_order)) from None


def to_yaml(value: Mapping[str, Json]) -> str:
    """``value`` as YAML for people: keys in their order, long texts as blocks."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def _block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block_text)


class _Tree:
    """Builds plain data from YAML nodes, noting places and repeated keys on the way."""

    def __init__(self, source: str, places: dict[Location, str], problems: list[Problem]) -> None:
        self.source, self.places, self.problems = source, places, problems
        self.scalars = yaml.SafeLoader("")
        self.nodes = 0

    def build(self, node: yaml.Node, location: Location) -> Json:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise _broken(self.source, self.source, f"more than {_MAX_NODES:,} values once its aliases are expanded")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            where = f"{self.source}:{node.start_mark.line + 1}"
            self.problems.append(Problem(where, f"the tag {node.tag} has no meaning in a configuration"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        self.places.setdefault(location, f"{self.source}:{node.start_mark.line + 1}")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
        try:
            value = self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(Problem(self.places[location], str(error).splitlines()[0]))
            return None
        return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Json]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.value in seen and key_node.tag != "tag:yaml.org,2002:merge":
                first = seen[str(key_node.value)]
                self.problems.append(
                    Problem(f"{self.source}:{line}", f"key `{key_node.value}` is here twice (first in line {first})")
                )
            seen[str(key_node.value)] = line
        self.scalars.flatten_mapping(node)
        found: dict[str, Json] = {}
        for key_node, value_node in node.value:
            where = f"{self.source}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(where, "a key must be text"))
                continue
            key = str(key_node.value)
            self.places[(*location, key)] = where
            found[key] = self.build(value_node, (*location, key))
        return found


def _problem(spec: type[Spec], document: Document, item: Any) -> Problem:
    location: Location = tuple(item["loc"])
    name = ".".join(str(part) for part in location) or "the configuration"
    kind = item["type"]
    if kind == "missing":
        return Problem(document.where(location[:-1]), f"missing key `{name}`{_help(spec, location)}")
    if kind == "extra_forbidden":
        known = list(_fields(spec, location[:-1]))
        close = get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
        advice = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
        return Problem(document.where(location), f"unknown key `{name}`; {advice}")
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (got {given!r:.60})" if isinstance(given, (str, int, float, bool)) and "api_key" not in name else ""
    return Problem(document.where(location), f"`{name}`: {message[:1].lower()}{message[1:]}{shown}")


def _fields(spec: type[BaseModel], location: Location) -> Mapping[str, Any]:
    for part in location:
        nested = spec.model_fields[str(part)].annotation if str(part) in spec.model_fields else None
        candidates = [nested, *getattr(nested, "__args__", ())]
        found = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
        if not found:
            return {}
        spec = found[0]
    return spec.model_fields


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
