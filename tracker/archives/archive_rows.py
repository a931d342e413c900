"""Whether the rows of an archive are rows of their tables, value by value, and follow from what they are made of."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary

from tracker.archives.bundle_tables import KEYS, LOCAL, Row, parents_first
from tracker.errors import Problem
from tracker.fingerprint import Json, content_key
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import name_problem
from tracker.record.findings import AGENTS, BENCHMARK, EXPERIMENT, POOL, RUN, identity_findings
from tracker.schema import table

ROWS = "rows/"
LINE_LIMIT = 256 << 20
"""Bytes of a row."""

_NO_TEXT = re.compile(r"[\ud800-\udfff]")

_KINDS = {
    "shared_experiment": EXPERIMENT, "training_run": RUN, "agent_dataset": AGENTS, "benchmark": BENCHMARK,
    "task_pool": POOL,
}  # fmt: skip
_NAMES = {
    "source_dataset": ("name", "task_name"), "source_split": ("filename",), "shared_experiment": ("dataset", "name"),
    "batch": ("name",), "agent_dataset": ("name",), "task_pool": ("name",),
}  # fmt: skip
"""Columns that become names of directories and files."""
_STATUSES = {
    "shared_experiment": ("unfinished", "complete", "partial"),
    "agent_dataset": ("unfinished", "complete", "partial"),
    "generation_run": ("running", "complete", "partial", "waiting", "interrupted", "failed"),
    "sample": ("accepted", "rejected", "undecided", "failed"),
    "training_sweep": ("running", "complete", "stopped", "interrupted", "failed"),
    "training_run": ("pending", "running", "complete", "failed", "stopped", "interrupted"),
    "agent_run": ("running", "complete", "partial", "interrupted", "failed"),
    "agent_response": ("answered", "failed"),
    "pool_validation": ("running", "complete", "partial", "interrupted", "failed"),
    "pool_answer": ("graded", "ungraded", "failed"),
}
JSON_COLUMNS: Mapping[str, Mapping[str, type]] = {
    "import_run": {"report": list},
    "shared_experiment": {"identity": dict, "settings": dict, "config": dict},
    "generation_run": {"config": dict, "versions": dict, "price_list": object},
    "request": {"messages": list, "settings": dict},
    "checkpoint": {"examples": list},
    "judge_test": {"settings": dict},
    "publication": {"files": dict},
    "training_sweep": {"varied": list, "devices": list, "config": dict},
    "training_run": {
        "identity": dict, "settings": dict, "config": dict, "versions": dict, "environment": dict, "classes": list,
    },
    "prediction": {"scores": list},
    "agent_dataset": {"identity": dict, "settings": dict, "config": dict},
    "agent_run": {"config": dict, "versions": dict, "price_list": object},
    "benchmark": {"constants": dict, "identity": dict, "config": dict},
    "benchmark_task": {"scorer_metadata": dict, "raw_data": dict},
    "task_pool": {"versions": dict, "identity": dict, "settings": dict, "config": dict, "statistics": dict},
    "pool_validation": {"settings": dict, "versions": dict, "price_list": object},
}  # fmt: skip
"""Columns that hold JSON, and what theirs is."""
_DEPTH = 100


def decoded(name: str, lines: Iterable[bytes]) -> Iterator[Row]:
    """The rows of a table, with the types of its columns, and defaults for columns that they lack."""
    columns = {column.name: column for column in table(name).columns}
    binary = [column.name for column in columns.values() if isinstance(column.type, LargeBinary)]
    for line in lines:
        row: Row = json.loads(line)
        for column in binary:
            if row.get(column) is not None:
                row[column] = base64.b64decode(row[column])
        yield {column: row[column] if column in row else _default(each) for column, each in columns.items()}


def wrong_rows(manifest: Mapping[str, Json], lines: Callable[[str], Iterable[bytes]]) -> Iterator[Problem]:
    """What is wrong with tables and rows; ``lines`` gives those of a table."""
    counts, is_older = manifest["rows"], manifest["schema_version"] < SCHEMA_VERSION
    held = {name.removeprefix(ROWS).removesuffix(".jsonl") for name in manifest["members"] if name.startswith(ROWS)}
    for name in sorted({*counts, *held}):
        if name not in KEYS or name in LOCAL:
            yield Problem(shown(name), "is no table that an archive holds")
        elif name not in held:
            yield Problem(f"{ROWS}{name}.jsonl", "is missing")
    for name in parents_first():
        if name not in held or name in LOCAL:
            continue
        number = 0
        for number, line in enumerate(lines(name), start=1):
            what = _row_problem(name, line, is_older=is_older)
            if what is not None:
                yield Problem(f"{ROWS}{name}.jsonl:{number}", what)
        if number != counts.get(name, 0):
            yield Problem(f"{ROWS}{name}.jsonl", f"holds {number:,} rows, {counts.get(name, 0):,} are declared")


def _row_problem(name: str, line: bytes, *, is_older: bool) -> str | None:
    if len(line) > LINE_LIMIT:
        return "is too long"
    try:
        row = json.loads(line, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        return "is nested too deep" if isinstance(error, RecursionError) else f"is no JSON ({error})"
    if not isinstance(row, dict):
        return "is no object"
    return next(_row_problems(name, row, is_older=is_older), None)


def _row_problems(name: str, row: Row, *, is_older: bool) -> Iterator[str]:
    columns = table(name).columns
    unknown = row.keys() - columns.keys()
    if unknown:
        yield f"{shown(min(unknown))} is no column of {name}"
    for column in columns:
        if column.name in row:
            problem = value_problem(column, row[column.name])
            if problem is not None:
                yield f"{column.name} {problem}"
        elif not is_older or (not column.nullable and column.default is None):
            yield f"{column.name} is missing"
    yield from _meaning(name, {each.name: row[each.name] if each.name in row else _default(each) for each in columns})


def _meaning(name: str, row: Row) -> Iterator[str]:
    for column in _NAMES.get(name, ()):
        problem = name_problem(row[column])
        if problem is not None:
            yield f"{column}: {problem}"
    if name == "imported_file" and any(name_problem(part.lstrip(".")) for part in row["path"].split("/")):
        yield "path leads out of its directory, or is no name of a file"
    if name in _STATUSES and row["status"] not in _STATUSES[name]:
        yield f"status is {shown(row['status'])}"
    if name == "message" and content_key([row["role"], row["content"]]) != row["key"]:
        yield "its key is not that of its text"
    for column, kind in JSON_COLUMNS.get(name, {}).items():
        if row[column] is not None and not _is_json(row[column], kind):
            yield f"{column} is no JSON of its kind, or is nested too deep"
    if name == "request" and not _is_list_of_texts(row["messages"]):
        yield "messages is no list of keys"
    if name in _KINDS:
        yield from (finding.what for finding in identity_findings(_KINDS[name], row))


def _is_json(text: str, kind: type) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, kind) and (text.count("[") + text.count("{") <= _DEPTH or _depth(found) <= _DEPTH)


def _depth(value: Json) -> int:
    """How deep a value is nested."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [each for one in level if isinstance(one, (dict, list)) for each in _parts(one)]
    return depth


def _parts(value: dict[str, Json] | list[Json]) -> Iterable[Json]:
    return value.values() if isinstance(value, dict) else value


def _is_list_of_texts(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(each, str) for each in found)


def value_problem(column: Column[Any], value: Json) -> str | None:
    """Why ``value``, as it stands in JSON, is none of that column; None where it is one."""
    if value is None:
        return None if column.nullable else "must not be null"
    kind = column.type
    if isinstance(kind, LargeBinary):
        return None if _is_base64(value) else "is no base64"
    if isinstance(kind, Boolean):
        return None if isinstance(value, bool) else "is neither true nor false"
    if isinstance(kind, (Integer, Float)):
        return _number_problem(value, is_whole=isinstance(kind, Integer))
    return _text_problem(value, getattr(kind, "length", None))


def _is_base64(value: Json) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return False
    return True


def _number_problem(value: Json, *, is_whole: bool) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
        return "is no whole number" if is_whole else "is no number"
    if isinstance(value, float):
        return None if math.isfinite(value) else "is no number"
    return None if -(2**63) <= value < 2**63 else "is too large"


def _text_problem(value: Json, length: int | None) -> str | None:
    if not isinstance(value, str):
        return "is no text"
    if _NO_TEXT.search(value):
        return "holds what is no text"
    return f"is longer than {length}" if length is not None and len(value) > length else None


def finite(number: str) -> float:
    """A number of JSON, which has no NaN, and none without end: Python reads 1e999 as infinity. Raises ValueError."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{shown(number)} is no number")
    return value


def _default(column: Column[Any]) -> Any:
    return getattr(column.default, "arg", None)


def shown(text: str) -> str:
    """A text of unknown origin as it can be shown."""
    return ascii(text[:80])[1:-1]
