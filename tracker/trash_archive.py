"""The file in which the trash keeps rows: gzipped JSON lines, first what it is, then each row with its table."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import Corrupt

if TYPE_CHECKING:
    from tracker.bundle import Bundle
    from tracker.catalogue import Row

VERSION = 1
_BYTES = "base64:"


def write(path: Path, bundle: Bundle, about: dict[str, Any]) -> None:
    """Writes a new file with ``bundle`` and what it is about, synced. Raises OSError."""
    head = {
        "synthtrack_trash": VERSION, "about": about, "counts": dict(bundle.counts),
        "mentions": [asdict(each) for each in bundle.mentions],
        "backlinks": [asdict(each) for each in bundle.backlinks],
    }  # fmt: skip
    with path.open("xb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file:
            file.write(_line(head))
            for name in bundle.tables():
                for row in bundle.read(name):
                    file.write(_line([name, {key: _plain(value) for key, value in row.items()}]))
        raw.flush()
        os.fsync(raw.fileno())


def read(path: Path) -> tuple[dict[str, Any], Bundle]:
    """What ``write`` wrote: what it is about, and the rows. Raises Corrupt."""
    from tracker.bundle_tables import Backlink, Bundle, Mention

    lines = _lines(path)
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("synthtrack_trash") != VERSION:
        raise Corrupt(f"{path} is no archive of the trash that this version knows.", hint="Upgrade synthtrack?")
    rows: dict[str, list[Row]] = {}
    for name, row in lines:
        rows.setdefault(name, []).append({key: _value(value) for key, value in row.items()})
    return head["about"], Bundle(
        head["counts"],
        lambda name: iter(rows.get(name, ())),
        [Mention(each["table"], each["id"], _key(each["key"])) for each in head["mentions"]],
        [Backlink(each["child"], _key(each["key"]), each["column"], each["target"]) for each in head["backlinks"]],
    )


def _lines(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                yield json.loads(line)
    except (EOFError, ValueError, OSError) as error:
        raise Corrupt(f"{path} cannot be read: {error}.", hint="Put the file back from a backup.") from error


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    return {_BYTES: base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _value(value: Any) -> Any:
    return base64.b64decode(value[_BYTES]) if isinstance(value, dict) else value


def _key(key: list[Any]) -> tuple[Any, ...]:
    return tuple(_key(part) if isinstance(part, list) else part for part in key)
