"""What the compressed columns of an archive's rows unpack to: a bomb may lie in a row as well."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from tracker.archives.archive_rows import ROWS, decoded
from tracker.errors import Problem
from tracker.fingerprint import Json

SMALL = 64 << 20
"""Bytes that anything may unpack to, however small it is."""

_PACKED = ("source_split", "imported_file")
"""Tables with a ``content`` that is compressed and the ``n_bytes`` that it has unpacked."""
_CHUNK = 1 << 20


def packed_problems(
    counts: Mapping[str, Json], lines: Callable[[str], Iterable[bytes]], left: int, ratio: int | None
) -> Iterator[Problem]:
    """Rows whose compressed content unpacks to other than it declares, to ``left`` bytes in all, or like a bomb."""
    for name in _PACKED:
        for number, row in enumerate(decoded(name, lines(name)) if counts.get(name) else (), start=1):
            if row["content"] is None:
                continue
            where, size = f"{ROWS}{name}.jsonl:{number}", row["n_bytes"]
            left -= size
            if left < 0:
                yield Problem(where, f"content unpacks to {size:,} bytes, too many (--max-bytes raises this)")
                return
            if ratio is not None and size > SMALL and size > ratio * len(row["content"]):
                yield Problem(where, f"content unpacks to {size:,} bytes: a bomb? (--max-bytes allows it)")
            elif not _unpacks_to(row["content"], size):
                yield Problem(where, f"content does not unpack to {size:,} bytes, as is declared")


def _unpacks_to(content: bytes, size: int) -> bool:
    unzip, found = zlib.decompressobj(), 0
    try:
        while content and not unzip.eof and found <= size:
            found += len(unzip.decompress(content, _CHUNK))
            content = unzip.unconsumed_tail
        found += len(unzip.flush()) if found <= size else 0
    except zlib.error:
        return False
    return unzip.eof and found == size and not unzip.unused_data
