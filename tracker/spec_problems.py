"""What is wrong with the settings of a document, in words: where it is written, and what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tracker.errors import Problem
from tracker.spec import Spec, key_of

if TYPE_CHECKING:
    from tracker.configs import Document

Location = tuple[str | int, ...]
"""Where a value stands in nested settings: keys, and places in lists."""


def written(data: Any, item: Any) -> Location:
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


def problem_of(spec: type[Spec], document: Document, item: Any, location: Location) -> Problem:
    """What pydantic says about ``item`` as a problem of the document, with advice."""
    name = ".".join(str(part) for part in location) or "the configuration"
    kind = item["type"]
    if kind == "missing":
        return Problem(document.where(location[:-1]), f"missing key `{name}`{_help(spec, location)}")
    if kind == "extra_forbidden":
        known = list(fields_at(spec, location[:-1]))
        close = get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
        inside = [] if len(location) > 1 else _groups_with(spec, str(location[0]))
        meant = [f"`{each}`" for each in close or inside]
        advice = f"did you mean {' or '.join(meant)}?" if meant else f"known here: {', '.join(known)}"
        return Problem(document.where(location), f"unknown key `{name}`; {advice}")
    if kind == "model_type":
        known_here = ", ".join(fields_at(spec, location))
        return Problem(document.where(location), f"`{name}` is a group of settings; known here: {known_here}")
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (got {given!r:.60})" if isinstance(given, (str, int, float, bool)) and "api_key" not in name else ""
    return Problem(document.where(location), f"`{name}`: {message[:1].lower()}{message[1:]}{shown}")


def _groups_with(spec: type[BaseModel], key: str) -> list[str]:
    """The settings of that name one level below: ``generation.temperature`` for temperature."""
    return [f"{group}.{key}" for group in _keys(spec) if key in fields_at(spec, (group,))]


def fields_at(spec: type[BaseModel], location: Location) -> Mapping[str, FieldInfo]:
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
    info = fields_at(spec, location[:-1]).get(str(location[-1]))
    return f" ({info.description})" if info is not None and info.description else ""
