"""Reads the files of an experiment's directory, within bounds and without following a link out of the tree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.importing.keys import lines_with_keys
from pipeline.importing.report import Report
from pipeline.importing.tree import RECORDS, OldTree, entries, printable
from tracker.fingerprint import bytes_digest
from tracker.paths import TEMPORARY
from tracker.plain_files import open_plain
from tracker.record.content import CONFIG, FINGERPRINT, METADATA

DATA_BYTES = 1 << 30
EXTRA_BYTES = 4_000_000
_MANY = 1000
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
          "test": "test"}  # fmt: skip
SETTINGS = (FINGERPRINT, METADATA, CONFIG)
FILE = "file"
_LEFT_OUT = re.compile(r"^(?:\.DS_Store|Thumbs\.db|.*\.pyc|.*~|\.#.*)$")


@dataclass(frozen=True)
class Kept:
    """A file that is to be kept: its path below the experiment's directory, and which split it is, if any."""

    path: str
    content: bytes
    split: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def digest(self) -> str:
        return bytes_digest([self.content])


@dataclass(frozen=True)
class Directory:
    """What an experiment's directory holds; ``secrets`` says which files hold a literal key and were left out."""

    data: Mapping[str, Kept]
    settings: Mapping[str, Kept]
    extras: tuple[Kept, ...]
    secrets: tuple[str, ...]


def read_directory(tree: OldTree, home: Path, dataset: str, report: Report) -> Directory:
    """The data, the settings and whatever else lies in ``home``; what cannot be taken is reported."""
    reading = _Reading(tree, home, report)
    below = reading.walk(home, "", 2)
    data = _data(below, dataset, home, tree, report)
    settings: dict[str, Kept] = {}
    extras, secrets = [], []
    for path in below:
        name = path.rpartition("/")[2]
        of_others = path.count("/") == 1 and RECORDS.match(name) and path not in data.values()
        if path in data.values() or _LEFT_OUT.match(name) or of_others:
            continue
        kept = reading.read(path, EXTRA_BYTES)
        if kept is None:
            continue
        lines = lines_with_keys(kept.decode("utf-8", "replace"))
        if path in SETTINGS:
            settings[path] = Kept(path, kept)
        elif lines:
            secrets.append(f"{printable(path)}:{lines[0]}")
        else:
            extras.append(Kept(path, kept))
    found = {split: Kept(path, content, split) for split, path in data.items()
             if (content := reading.read(path, DATA_BYTES)) is not None}  # fmt: skip
    return Directory(found, settings, tuple(extras), tuple(secrets))


def open_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises OSError."""
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(0, f"larger than {limit:,} bytes")
        return file.read(limit)


@dataclass
class _Reading:
    tree: OldTree
    home: Path
    report: Report
    n_files: int = 0

    def walk(self, directory: Path, prefix: str, depth: int) -> list[str]:
        found: list[str] = []
        for each in entries(directory, self.report, self.tree):
            path = f"{prefix}{each.name}"
            if printable(path) != path:
                self.report.wrong(
                    FILE, printable(self.tree.shown(self.home / path)), "its name is not to be printed: left out"
                )
            elif each.is_dir(follow_symlinks=False):
                if each.name != "__pycache__" and depth > 1 and not each.name.startswith("."):
                    found += self.walk(directory / each.name, f"{path}/", depth - 1)
            elif not each.name.startswith(TEMPORARY):
                found.append(path)
        if len(found) > _MANY:
            self.report.wrong(FILE, self.tree.shown(directory), f"more than {_MANY:,} files: the rest was left out")
        return found[:_MANY]

    def read(self, path: str, limit: int) -> bytes | None:
        file = self.home / path
        try:
            if not self.tree.inside(file):
                self.report.wrong(
                    FILE, self.tree.shown(file), "a link out of the directory that was given: not followed"
                )
                return None
            return open_file(Path(os.path.realpath(file)), limit)
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else str(error)
            self.report.wrong(FILE, self.tree.shown(file), f"cannot be read: {what}; left out")
            return None


def _data(paths: list[str], dataset: str, home: Path, tree: OldTree, report: Report) -> dict[str, str]:
    """Which file is which split: those in the data set's directory, else those in the experiment's own."""
    by_place: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        matched = RECORDS.match(path.rpartition("/")[2])
        if matched is not None and path.count("/") <= 1:
            split = SPLITS[matched["split"].lower()]
            by_place.setdefault(path.rpartition("/")[0], {}).setdefault(split, []).append(path)
    named = [place for place in by_place if place.lower() == dataset.lower()]
    below = [place for place in by_place if place]
    chosen = named or ([""] if "" in by_place else []) or (below if len(below) == 1 else [])
    if not chosen:
        return {}
    found = {}
    for split, candidates in by_place[chosen[0]].items():
        if len(candidates) > 1:
            what = f"several files could be the {split} split; the first of {', '.join(candidates)} was taken"
            report.wrong(FILE, tree.shown(home / candidates[0]), what)
        found[split] = candidates[0]
    return found
