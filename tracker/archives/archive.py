"""The file that holds a bundle: rows as JSON lines, files, and a manifest with the digest of each; read with distrust.

A zip, because each table of it can be read by itself, several times, without unpacking anything; nothing in it says
when it was packed, so that the same record gives the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from tracker.archives.archive_check import (
    FORMAT,
    MANIFEST,
    Limits,
    Member,
    check_number,
    checked_members,
    checked_rows,
    mention_of,
)
from tracker.archives.archive_rows import LINE_LIMIT, ROWS, decoded
from tracker.archives.bundle_tables import Backlink, Bundle, Row
from tracker.errors import DataError, StorageError
from tracker.fingerprint import Json
from tracker.migrations import SCHEMA_VERSION

_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_LEVEL = 6


@dataclass(frozen=True)
class Archive:
    """An archive that was found to be whole: what it says of itself, its rows, and its files by name."""

    about: Mapping[str, Json]
    manifest: Mapping[str, Json]
    bundle: Bundle
    files: Mapping[str, int]
    open: Callable[[str], IO[bytes]]


def write(
    path: Path, bundle: Bundle, about: Mapping[str, Json] | None = None, files: Iterable[tuple[str, Path]] = ()
) -> dict[str, Json]:
    """Writes ``bundle`` and ``files`` (names in the archive, where they are) to ``path``, synced; gives the manifest.

    ``about`` is said in the manifest, where ``opened`` gives it again. Raises StorageError.
    """
    try:
        with path.open("xb") as out:
            manifest = _write(out, bundle, about or {}, files)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise StorageError(f"The archive in {path.parent} cannot be written: {error.strerror or error}.") from error
    return manifest


@contextlib.contextmanager
def opened(path: Path, limits: Limits | None = None) -> Iterator[Archive]:
    """The archive at ``path``, once all of it has been checked: names, digests, sizes, tables, columns, types, keys.

    Raises DataError with all that is wrong, SchemaError for a newer one, StorageError where it cannot be read. The
    rows are those of the current schema: columns that an older one does not have hold their defaults.
    """
    limits = limits or Limits()
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(path.open("rb"))
            check_number(source, limits)
            archive = stack.enter_context(zipfile.ZipFile(source))
            manifest = checked_members(archive, path.stat().st_size, limits)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OverflowError) as error:
            hint = "It is damaged, or not written by `synthtrack export`."
            raise DataError(f"{path} is no archive of synthtrack: {error}.", [], hint=hint) from error
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
        checked_rows(manifest, lambda name: _lines(archive, name), limits)
        yield _archive(archive, manifest)


def _archive(archive: zipfile.ZipFile, manifest: dict[str, Json]) -> Archive:
    def read(name: str) -> Iterator[Row]:
        return decoded(name, _lines(archive, name)) if manifest["rows"].get(name) else iter(())

    links = [
        Backlink(each["child"], mention_of(each["key"]), each["column"], each["target"])
        for each in manifest["backlinks"]
    ]
    bundle = Bundle(
        counts=manifest["rows"],
        read=read,
        mentions=manifest["mentions"],
        backlinks=links,
    )
    files = {name: each["size"] for name, each in manifest["members"].items() if not name.startswith(ROWS)}
    return Archive(manifest["about"], manifest, bundle, files, archive.open)


def _lines(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(f"{ROWS}{name}.jsonl") as member:
        while line := member.readline(LINE_LIMIT + 1):
            yield line


def _write(
    out: IO[bytes], bundle: Bundle, about: Mapping[str, Json], files: Iterable[tuple[str, Path]]
) -> dict[str, Json]:
    members: dict[str, Member] = {}
    newest = ""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name in bundle.tables():
            with _member(archive, f"{ROWS}{name}.jsonl", members) as write_bytes:
                for row in bundle.read(name):
                    newest = max(newest, *(str(row[column] or "") for column in row if column.endswith("_at")), "")
                    write_bytes(_line(row))
        for name, path in sorted(files):
            with path.open("rb") as source, _member(archive, name, members) as write_bytes:
                while chunk := source.read(_CHUNK):
                    write_bytes(chunk)
        manifest: dict[str, Json] = {
            "format": FORMAT, "schema_version": SCHEMA_VERSION, "synthtrack": _version(), "created_at": newest,
            "about": dict(about), "rows": dict(bundle.counts),
            "members": {name: asdict(each) for name, each in members.items()},
            "mentions": [asdict(each) for each in bundle.mentions],
            "backlinks": [asdict(each) for each in bundle.backlinks],
        }  # fmt: skip
        text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True)
        with _member(archive, MANIFEST, {}) as write_bytes:
            write_bytes(text.encode())
    return manifest


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, members: dict[str, Member]) -> Iterator[Callable[[bytes], None]]:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as member:

        def write_bytes(data: bytes) -> None:
            nonlocal size
            member.write(data)
            digest.update(data)
            size += len(data)

        yield write_bytes
    members[name] = Member(digest.hexdigest(), size)


def _line(row: Row) -> bytes:
    plain = {
        column: base64.b64encode(value).decode() if isinstance(value, (bytes, memoryview)) else value
        for column, value in row.items()
    }
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _version() -> str:
    try:
        return version("synthtrack")
    except PackageNotFoundError:  # run from its source, without having been installed
        return "unknown"
