"""Files of records, as JSON texts, and what JSON is taken for one."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracker.errors import DataError, Problem
from tracker.fingerprint import canonical_json

Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]
"""What makes an object of its pairs, where the last of two equal keys is not to win."""


def read_lines(path: Path, pairs: Pairs | None = None) -> Iterator[str]:
    """The records of a file as JSON texts: those of a JSONL file as they stand."""
    try:
        if path.name.endswith(".parquet"):
            yield from (dump(record) for record in _parquet(path))
            return
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    # TypeError: a parquet file can hold dates, bytes and decimals, which JSON cannot.
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        raise unreadable(path, str(error).partition("\n")[0]) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            "The input data is not UTF-8.",
            [Problem(f"{path}:{line}", f"byte {content[error.start]:#04x}")],
            hint="Convert it, for example with: iconv -f LATIN1 -t UTF-8",
        ) from error
    del content
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        # Not splitlines: U+2028 and its like are legal inside JSON strings.
        yield from (line.rstrip("\r") for line in text.split("\n"))
        return
    try:
        data = read_json(text, pairs)
    except ValueError as error:
        raise unreadable(path, f"not JSON: {error}") from error
    if not isinstance(data, list):
        raise unreadable(path, "a .json file holds one list of records")
    yield from (dump(record) for record in data)


def read_json(text: str, pairs: Pairs | None = None) -> Any:
    """What ``text`` stands for. Raises ValueError, also for what Python reads and neither JSON nor a database holds."""
    try:
        decoder = _DECODER if pairs is None else json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=pairs)
        value = decoder.decode(text)
        text.encode()
        if _MAY_BE_MORE.search(text) or text.count("{") + text.count("[") > _DEPTH:
            canonical_json(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no text") from None
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
# Only these can bring what canonical JSON refuses, and writing it takes longer than reading: an escape half a surrogate
# pair, an exponent or very many digits a number without end, many brackets too many levels.
_MAY_BE_MORE = re.compile(r"\\u|\d[eE]|\d{300}")
_DEPTH = 100


def is_file(path: Path) -> bool:
    """Whether there is a file that may be looked at."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a directory that may not be looked into
        return False


def unreadable(path: Path, what: str) -> DataError:
    """That a file cannot be read, and why."""
    return DataError("The input data cannot be read.", [Problem(str(path), what)])


def dump(record: Any) -> str:
    """``record`` as a line of JSONL."""
    return json.dumps(record, ensure_ascii=False)


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()
