"""Whether an archive is what ``tracker.archives.archive`` writes, down to the last value: nothing is taken on trust."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from tracker.archives.archive_content import SMALL, packed_problems
from tracker.archives.archive_rows import ROWS, finite, shown, value_problem, wrong_rows
from tracker.archives.bundle_tables import KEYS, Key, Mention, links_from
from tracker.errors import DataError, Problem, SchemaError
from tracker.fingerprint import Json
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import name_problem
from tracker.schema import table

FORMAT = 1
MANIFEST, RESULTS = "manifest.json", "results/"

_MANIFEST_LIMIT = 64 << 20
_CHUNK = 1 << 20
_PROBLEMS = 20
_ENCRYPTED = 0x1
_ENTRY = b"PK\x01\x02"
"""What an entry in a zip's list of its files begins with."""
_HINT = "Nothing was taken from it."


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may unpack to: bytes in all, files, and how many times its own size above 64 MiB (None: any)."""

    n_bytes: int = 8 << 30
    n_members: int = 100_000
    ratio: int | None = 200


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: the SHA-256 and the bytes of its content."""

    sha256: str
    size: int


def check_number(source: IO[bytes], limits: Limits) -> None:
    """Raises DataError where a zip seems to list more files than may be in it: each that is listed takes memory."""
    n_found, last = 0, b""
    while chunk := source.read(_CHUNK):
        n_found += (last + chunk).count(_ENTRY)
        last = chunk[1 - len(_ENTRY) :]
    source.seek(0)
    if n_found > limits.n_members + 1:
        _refuse([Problem("archive", f"holds {n_found:,} files, more than {limits.n_members:,}")])


def checked_members(archive: zipfile.ZipFile, size: int, limits: Limits) -> dict[str, Json]:
    """The manifest, once all members are found to be those that it names. Raises DataError and SchemaError."""
    infos = archive.infolist()
    _refuse(_entries(infos, size, limits))
    if MANIFEST not in archive.namelist():
        _refuse([Problem(MANIFEST, "there is none")])
    info = archive.getinfo(MANIFEST)
    if info.file_size > _MANIFEST_LIMIT:
        _refuse([Problem(MANIFEST, f"is of {info.file_size:,} bytes")])
    manifest = _manifest(archive.read(MANIFEST))
    _refuse(_differences(archive, infos, manifest["members"]))
    return manifest


def mention_of(key: Any) -> Key:
    """A natural key as it stands in JSON."""
    return tuple(mention_of(part) if isinstance(part, list) else part for part in key)


def _refuse(problems: Iterable[Problem]) -> None:
    found: list[Problem] = []
    for problem in problems:
        found.append(problem)
        if len(found) == _PROBLEMS:
            break
    if found:
        raise DataError("The archive is refused.", found, hint=_HINT)


def _entries(infos: list[zipfile.ZipInfo], size: int, limits: Limits) -> Iterator[Problem]:
    seen: set[str] = set()
    for info in infos:
        name = info.orig_filename
        if name in seen:
            yield Problem(shown(name), "is in it twice")
        seen.add(name)
        problem = _name_problem(name) or _kind_problem(info)
        if problem is not None:
            yield Problem(shown(name), problem)
    total, packed = sum(info.file_size for info in infos), sum(info.compress_size for info in infos)
    if packed > size:
        yield Problem("archive", "its files overlap")
    if total > limits.n_bytes:
        yield Problem("archive", f"unpacks to {total:,} bytes, more than {limits.n_bytes:,} (--max-bytes raises this)")
    elif limits.ratio is not None and total > SMALL and total > limits.ratio * max(size, 1):
        yield Problem("archive", f"unpacks to {total:,} bytes from {size:,}: a bomb? (--max-bytes allows it)")


def _kind_problem(info: zipfile.ZipInfo) -> str | None:
    if info.filename != info.orig_filename:
        # A zip can name a file a second time, in Unicode, and newer readers of zips go by that name.
        return "is also called something else"
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        return "is a link or a device, not a file"
    if info.flag_bits & _ENCRYPTED or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "is encrypted, or packed in a way that export does not use"
    return None


def _name_problem(name: str) -> str | None:
    if name == MANIFEST:
        return None
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name:
        return "is an absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of its directory"
    if len(name.encode("utf-8", "replace")) > 1000 or any(name_problem(part) is not None for part in parts):
        return "is no name of a file"
    if re.fullmatch(rf"{ROWS}[a-z_]+\.jsonl", name) or (name.startswith(RESULTS) and len(parts) > 2):
        return None
    return "is nothing that an archive holds"


def _manifest(content: bytes) -> dict[str, Json]:
    try:
        manifest = _checked(json.loads(content, parse_constant=finite, parse_float=finite))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else f"cannot be read ({error})"
        raise DataError("The archive is refused.", [Problem(MANIFEST, what)], hint=_HINT) from error
    return manifest


def _checked(manifest: Json) -> dict[str, Json]:
    """The manifest with its parts checked; what is not there or of another type raises what Python raises."""
    for name, newest in (("format", FORMAT), ("schema_version", SCHEMA_VERSION)):
        number = manifest[name]
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise TypeError(f"{name} is no number")
        if number > newest:
            raise SchemaError(
                f"The archive has {name.replace('_', ' ')} {number}; this synthtrack knows {newest}.",
                hint="Upgrade synthtrack (pip install -U synthtrack).",
            )
    members = {
        name: {"sha256": str(each["sha256"]), "size": int(each["size"])} for name, each in manifest["members"].items()
    }
    rows = {str(name): int(number) for name, number in manifest["rows"].items()}
    mentions = [_mention(each) for each in manifest["mentions"]]
    for each in manifest["backlinks"]:
        _mention({"table": each["child"], "id": each["target"], "key": each["key"]})
        if each["column"] not in {link.column for link in links_from(each["child"])}:
            raise TypeError("a link back is of no foreign key")
    if not isinstance(manifest["about"], dict):
        raise TypeError("about is no object")
    return {**manifest, "members": members, "rows": rows, "mentions": mentions}


def _mention(given: Mapping[str, Json]) -> Mention:
    name, key = given["table"], given["key"]
    if name not in KEYS or not _is_key(name, key) or not isinstance(given["id"], (int, str)):
        raise TypeError(f"a mention of {str(name)[:40]!r} is none")
    return Mention(name, given["id"], mention_of(key))


def _is_key(name: str, key: Json) -> bool:
    parents = {link.column: link.parent for link in links_from(name)}
    return (
        isinstance(key, list)
        and len(key) == len(KEYS[name])
        and all(
            _is_key(parents[column], part)
            if column in parents
            else isinstance(part, (int, str)) and value_problem(table(name).c[column], part) is None
            for column, part in zip(KEYS[name], key, strict=True)
        )
    )


def _differences(
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], members: Mapping[str, Json]
) -> Iterator[Problem]:
    names = {info.filename for info in infos} - {MANIFEST}
    yield from (Problem(shown(name), "is not in the manifest") for name in sorted(names - members.keys()))
    yield from (Problem(shown(name), "is missing") for name in sorted(members.keys() - names))
    for info in infos:
        if info.filename not in members:
            continue
        wanted = members[info.filename]
        digest, size = hashlib.sha256(), 0
        try:
            with archive.open(info) as member:
                while (chunk := member.read(_CHUNK)) and size <= info.file_size:
                    digest.update(chunk)
                    size += len(chunk)
        # What is thrown depends on where the damage is; zlib's own error is none of zipfile's.
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, zlib.error) as error:
            yield Problem(shown(info.filename), f"is damaged ({error})")
            continue
        if size != info.file_size or size != wanted["size"]:
            yield Problem(shown(info.filename), f"is of {size:,} bytes, {wanted['size']:,} are declared")
        elif digest.hexdigest() != wanted["sha256"]:
            yield Problem(shown(info.filename), "its SHA-256 is not that of the manifest")


def checked_rows(manifest: Mapping[str, Json], lines: Callable[[str], Iterable[bytes]], limits: Limits) -> None:
    """Raises DataError where a row is not one of its table's, or does not follow from what it is made of."""
    _refuse(wrong_rows(manifest, lines))
    unpacked = sum(each["size"] for each in manifest["members"].values())
    _refuse(packed_problems(manifest["rows"], lines, limits.n_bytes - unpacked, limits.ratio))
