"""What is the same in several experiments and what differs: pure, over their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff

from tracker.fingerprint import Json, canonical_json
from tracker.record.catalogue import Row

_LONG = 80
_SOURCE = ("dataset.name", "dataset.source")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Settings under their dotted names: ``same`` has one value, the others one for each experiment (None: not set).

    ``operational`` are those that differ and have no effect on the data.
    """

    same: dict[str, Json]
    different: dict[str, list[Json]]
    operational: dict[str, list[Json]]
    same_source: bool
    same_fingerprint: bool


@dataclass(frozen=True, slots=True)
class BatchComparison:
    """``shared``: experiments in both batches; ``own``: those of each alone.

    ``same`` settings have one value in all experiments of both; ``different`` ones list the values of each side.
    """

    shared: list[Row]
    own: tuple[list[Row], list[Row]]
    same: dict[str, Json]
    different: dict[str, tuple[list[Json], list[Json]]]


def compare(experiments: Sequence[Row]) -> Comparison:
    """Compares experiments as ``listings.experiment`` gives them: ``settings``, and ``identity`` for what counts."""
    shaping = _shaping(experiments)
    merged = [_merged(row) for row in experiments]
    same, different = compare_settings([{key: each[key] for key in each if key in shaping} for each in merged])
    _, operational = compare_settings([{key: each[key] for key in each if key not in shaping} for each in merged])
    for name in _SOURCE:
        operational.pop(name, None)
    return Comparison(
        same,
        different,
        operational,
        same_source=len({row["source_digest"] for row in experiments}) == 1,
        same_fingerprint=len({row["fingerprint"] for row in experiments}) == 1,
    )


def compare_settings(settings: Sequence[Mapping[str, Json]]) -> tuple[dict[str, Json], dict[str, list[Json]]]:
    """The settings that are equal in all of ``settings``, and the values of those that are not.

    A setting that none of them gives is left out.
    """
    same: dict[str, Json] = {}
    different: dict[str, list[Json]] = {}
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each.get(name) for each in settings]
        if any(value != values[0] for value in values):
            different[name] = values
        elif not _is_unset(name, values[0]):
            same[name] = values[0]
    return same, different


def compare_batches(first: Sequence[Row], second: Sequence[Row]) -> BatchComparison:
    """Compares what two batches hold: rows of experiments with ``settings`` and ``identity``."""
    ids = [{row["id"] for row in side} for side in (first, second)]
    shaping = _shaping([*first, *second])
    sides = [_values(side, shaping) for side in (first, second)]
    same: dict[str, Json] = {}
    different: dict[str, tuple[list[Json], list[Json]]] = {}
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        values = (sides[0].get(name, []), sides[1].get(name, []))
        if values[0] != values[1] or len(values[0]) > 1:
            different[name] = values
        elif not _is_unset(name, values[0][0]):
            same[name] = values[0][0]
    return BatchComparison(
        [row for row in first if row["id"] in ids[1]],
        ([row for row in first if row["id"] not in ids[1]], [row for row in second if row["id"] not in ids[0]]),
        same,
        different,
    )


def is_long(value: Json) -> bool:
    """Whether a value is better shown by what differs in it than whole."""
    text = _text(value)
    return len(text) > _LONG or "\n" in text


def short(value: Json) -> str:
    """``value`` on one line; a long text by its beginning and its length, an unset one as ``not set``."""
    if value is None:
        return "not set"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    if len(line) <= _LONG:
        return line
    return f"{line[:_LONG].rstrip()}... ({len(text):,} characters)"


def difference(first: Json, second: Json, titles: tuple[str, str]) -> list[str]:
    """The lines that differ, as a unified diff without context."""
    lines = (_text(first).splitlines(), _text(second).splitlines())
    return list(unified_diff(*lines, *titles, n=0, lineterm=""))


def dotted(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """The leaves of nested settings with their dotted names."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from dotted(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _shaping(experiments: Sequence[Row]) -> set[str]:
    return {name for row in experiments for name, _ in dotted(row["identity"])} - set(_SOURCE)


def _merged(row: Row) -> dict[str, Json]:
    # The identity adds what is no setting of a config: --limit, and which draw of --fresh it is.
    return {**dict(dotted(row["identity"])), **row["settings"]}


def _values(experiments: Sequence[Row], shaping: set[str]) -> dict[str, list[Json]]:
    found: dict[str, dict[str, Json]] = {}
    for row in experiments:
        merged = _merged(row)
        for name in [*merged, *(shaping - merged.keys())]:
            if name in shaping:
                value = merged.get(name)
                found.setdefault(name, {})[canonical_json(value)] = value
    return {name: [values[key] for key in sorted(values)] for name, values in found.items()}


def _is_unset(name: str, value: Json) -> bool:
    return value in (None, "", [], {}) or (name == "draw" and value == 0)


def _text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
