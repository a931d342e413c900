"""The records of finished data, and which original each was made of."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from pipeline.importing.files import DATA_BYTES, Kept
from pipeline.sources.lines import read_json
from tracker.fingerprint import Json

_SHOWN = 5
_PIECE = 1 << 20


@dataclass(frozen=True)
class Records:
    """What a file of records holds; ``problems`` are its lines that are no records, as ``line: what``."""

    values: tuple[dict[str, Json], ...]
    n_lines: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """Synthetic records beside their originals: the one field in which they differ, and each pair of its texts."""

    field: str
    pairs: tuple[tuple[str, str], ...]


def read_records(file: Kept, most: int = DATA_BYTES) -> Records:
    """The records in a file's content; gzip is opened to at most so many bytes."""
    content = file.content
    if file.name.lower().endswith(".gz"):
        try:
            content = _unzipped(content, most)
        except (OSError, EOFError, zlib.error) as error:
            return Records((), 0, (f"1: not gzip: {error}",))
        if len(content) > most:
            return Records((), 0, (f"1: larger than {most:,} bytes when it is unpacked",))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Records((), 0, (f"{line}: not UTF-8",))
    if file.name.lower().removesuffix(".gz").endswith(".json"):
        return _of_list(text)
    return _of_lines(text)


def _unzipped(content: bytes, most: int) -> bytes:
    """What is packed in ``content``, or more than ``most`` bytes of it. Raises OSError, EOFError and zlib.error."""
    if not content:
        raise EOFError("it is empty")
    pieces, size = [], 0
    with gzip.open(BytesIO(content)) as file:
        while size <= most and (piece := file.read(min(_PIECE, most + 1 - size))):
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)


def match(originals: Sequence[dict[str, Json]], records: Sequence[dict[str, Json]], field: str | None) -> Matched | str:
    """The pairs of each original and what was made of it; where they do not line up, why not.

    Fewer records than originals are taken for those of the first ones. Without ``field`` it is the one that differs.
    """
    if not records or len(records) > len(originals):
        return f"it has {len(records):,} records, its original {len(originals):,}"
    differing = [_differing(*pair) for pair in zip(originals, records, strict=False)]
    if field is None:
        field = next((names[0] for names in differing if len(names) == 1), None)
    if field is None and not any(differing):
        return "it is its original, word for word"
    for number, names in enumerate(differing, 1):
        if any(name != field for name in names):
            return f"record {number:,} differs from its original in {', '.join(names[:_SHOWN])}"
    pairs = [(each.get(str(field)), made.get(str(field))) for each, made in zip(originals, records, strict=False)]
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        return f"not every record has text in {field}"
    return Matched(str(field), tuple((str(original), str(made)) for original, made in pairs))


def _differing(original: dict[str, Json], record: dict[str, Json]) -> list[str]:
    names = [*original, *(name for name in record if name not in original)]
    return [name for name in names if name not in original or name not in record or original[name] != record[name]]


def _of_list(text: str) -> Records:
    try:
        data = read_json(text)
    except ValueError as error:
        return Records((), 0, (f"1: not JSON: {error}",))
    if not isinstance(data, list):
        return Records((), 0, ("1: no list of records",))
    wrong = tuple(f"record {at}: no object" for at, each in enumerate(data, 1) if not isinstance(each, dict))
    return Records(tuple(each for each in data if isinstance(each, dict)), len(data), wrong)


def _of_lines(text: str) -> Records:
    values, problems, n_lines = [], [], 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        n_lines += 1
        try:
            value = read_json(line)
        except ValueError as error:
            problems.append(f"{number}: {_reason(error)}")
            continue
        if isinstance(value, dict):
            values.append(value)
        else:
            problems.append(f"{number}: a record is a JSON object, this is {type(value).__name__}")
    return Records(tuple(values), n_lines, tuple(problems))


def _reason(error: ValueError) -> str:
    return f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"not JSON: {error}"
