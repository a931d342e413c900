"""Reads inputs: a list of texts, each with a reference or without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.lines import is_file as is_there
from pipeline.sources.lines import read_json, read_lines
from pipeline.sources.records import Source, Split
from tracker.errors import DataError, Problem
from tracker.fingerprint import Json, bytes_digest

SPLIT = "input"
_KEYS = ("input", "reference")
_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".parquet")
_SHOWN = 20
_REPEATED = "\0repeated"
"""A key that no input has of itself: texts with U+0000 are refused."""
_HINT = 'Each input is an object: {"input": "text", "reference": "text, where there is one"}.'


@dataclass(frozen=True, slots=True)
class Input:
    """A text for the agents, and what a good answer to it could be."""

    text: str
    reference: str | None = None

    @property
    def line(self) -> str:
        """Its JSON, as the record keeps it."""
        fields = {"input": self.text, **({} if self.reference is None else {"reference": self.reference})}
        return json.dumps(fields, ensure_ascii=False)


@dataclass(frozen=True)
class Inputs:
    """Inputs as read, where each stands in its file, and the names of fields that nothing here uses."""

    inputs: tuple[Input, ...]
    places: tuple[str, ...]
    unused: tuple[str, ...]


def read_inputs(path: Path) -> Inputs:
    """Every input of a file. Raises DataError with every problem and its place."""
    if not path.name.endswith(_SUFFIXES):
        raise DataError("The inputs cannot be read.", [Problem(str(path), f"expected {', '.join(_SUFFIXES)}")])
    if not is_there(path):
        raise DataError(
            "The inputs are missing.",
            [Problem(str(path), "no such file")],
            hint="Correct data_config.input_data_path: absolute, or relative to the current directory or workspace.",
        )
    found: list[Input] = []
    places: list[str] = []
    problems: list[Problem] = []
    fields: dict[str, None] = {}
    for number, line in enumerate(read_lines(path, _noting_repeated), 1):
        if not line.strip():
            continue
        what = _read(line, found, fields)
        if what is None:
            places.append(_place(path, number))
        else:
            problems.append(Problem(_place(path, number), what))
    if not found and not problems:
        problems.append(Problem(str(path), "no inputs"))
    if problems:
        raise refused("The inputs cannot be used.", path, problems)
    return Inputs(tuple(found), tuple(places), tuple(name for name in fields if name not in _KEYS))


def without_reference(found: Inputs, chosen: Sequence[int]) -> list[Problem]:
    """Which of the ``chosen`` inputs have no reference, as problems."""
    return [
        Problem(found.places[at], "no reference, which add_references puts in front")
        for at in chosen
        if found.inputs[at].reference is None
    ]


def refused(title: str, path: Path, problems: Sequence[Problem], hint: str | None = None) -> DataError:
    """The error of inputs that cannot be used: the first problems, and how many more there are in the file."""
    more = len(problems) - _SHOWN
    end = [Problem(str(path), f"and {more} more")] if more > 0 else []
    return DataError(title, [*problems[:_SHOWN], *end], hint=hint or _HINT)


def sampled(n: int, size: int | None, seed: int | None) -> list[int]:
    """Which of ``n`` inputs are used: the first ``size`` or, with a ``seed``, so many drawn at random, in their order.

    Drawn by the raw output of PCG64, which is the same in every version of numpy.
    """
    if size is None or size >= n:
        return list(range(n))
    if seed is None:
        return list(range(size))
    from numpy.random import PCG64

    raw = PCG64(seed).random_raw(n).tolist()
    return sorted(sorted(range(n), key=raw.__getitem__)[:size])


def source_of(task_type: str, path: Path, origin: str, inputs: Sequence[Input]) -> Source:
    """The inputs that are used, as a source data set of one split."""
    lines = tuple(each.line for each in inputs)
    encoded = [f"{line}\n".encode() for line in lines]
    stem = path.name.partition(".")[0] or "inputs"
    split = Split(SPLIT, f"{stem}.jsonl", bytes_digest(encoded), len(lines), sum(map(len, encoded)))
    return Source(task_type, stem, origin, lines, (split,))


def _read(line: str, found: list[Input], fields: dict[str, None]) -> str | None:
    """Appends the input in ``line``; gives what is wrong with it, or None."""
    try:
        record = read_json(line, _noting_repeated)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(record, dict):
        return f"an input is a JSON object, this is {type(record).__name__}"
    if _REPEATED in record:
        return f"the key {record[_REPEATED]!r} stands there twice"
    fields.update(dict.fromkeys(record))
    text, reference = record.get("input"), record.get("reference")
    if "input" not in record:
        return "no field 'input'"
    for name, value in (("input", text), *([("reference", reference)] if reference is not None else [])):
        what = _text_problem(value)
        if what is not None:
            return f"field {name!r} {what}"
    found.append(Input(record["input"], reference))
    return None


def _noting_repeated(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object that says which of its keys is there twice, for only a record as a whole has a place."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        found[_REPEATED] = next(name for name in names if names.count(name) > 1)
    return found


def _text_problem(value: Json) -> str | None:
    if not isinstance(value, str):
        return f"is {type(value).__name__}, not text"
    if not value.strip():
        return "is empty"
    return "holds the character U+0000, which no database and no model takes" if "\0" in value else None


def _place(path: Path, number: int) -> str:
    return f"{path}:{number}" if path.name.endswith((".jsonl", ".jsonl.gz")) else f"{path}, input {number}"
