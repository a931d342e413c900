"""From a data path as an older training config gives it to what was imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.importing.files import DATA_BYTES, SPLITS, open_file
from pipeline.importing.report import DataFound
from pipeline.importing.tree import RECORDS, OldTree
from tracker.errors import DataError
from tracker.fingerprint import bytes_digest
from tracker.paths import SHARED, Workspace

_ORIGINALS = ("Data/original", "Data_v2/original")


@dataclass
class DataPaths:
    """Knows the experiments of a tree by every path that led to them."""

    workspace: Workspace
    tree: OldTree
    by_home: dict[str, DataFound] = field(default_factory=dict)
    by_parts: dict[tuple[str, ...], DataFound] = field(default_factory=dict)
    originals: dict[str, DataFound | None] = field(default_factory=dict)

    def add(self, home: Path, batches: list[str], found: DataFound) -> None:
        """An experiment, where it lies and which batches linked to it."""
        self.by_home[os.path.realpath(home)] = found
        for top in (SHARED, *batches):
            self.by_parts[top, found.dataset, home.name] = found
        self.by_parts[home.parent.name, home.name] = found

    def resolve(self, given: str) -> DataFound | None:
        """What ``given`` means: a path relative to the project, or an absolute one of wherever the project once was."""
        text = given.strip().rstrip("/")
        if not text or "\0" in text:
            return None
        for path in self._candidates(text):
            for each in (path, path.parent, path.parent.parent):
                if (found := self.by_home.get(os.path.realpath(each))) is not None:
                    return found
        return self._by_parts(PurePosixPath(text).parts) or self._original(text)

    def _candidates(self, text: str) -> Iterator[Path]:
        bases = [self.tree.project, self.tree.top]
        bases += [] if self.tree.synthetic is None else [self.tree.synthetic]
        yield from (base / text for base in dict.fromkeys(bases))

    def _by_parts(self, parts: tuple[str, ...]) -> DataFound | None:
        for at in range(len(parts)):
            for length in (3, 2):
                found = self.by_parts.get(parts[at : at + length])
                if found is not None and ("synthetic" in parts[:at] or SHARED in parts[at : at + 1]):
                    return found
        return None

    def _original(self, text: str) -> DataFound | None:
        if text not in self.originals:
            self.originals[text] = self._read_original(text)
        return self.originals[text]

    def _read_original(self, text: str) -> DataFound | None:
        tails = [text.split(f"{marker}/", 1)[1] for marker in _ORIGINALS if f"{marker}/" in text]
        places = [self.tree.project / marker / tail for marker in _ORIGINALS for tail in tails]
        places += [self.workspace.original_dir / tail for tail in tails]
        tops = [self.tree.project, self.workspace.root, self.workspace.original_dir]
        for place in places:
            real = Path(os.path.realpath(place))
            if any(real.is_relative_to(os.path.realpath(top)) for top in tops):
                found = _digests(real)
                if "train" in found:
                    train, n_records = found["train"]
                    evaluation = found.get("validation", (None, 0))[0]
                    return DataFound(None, None, place.name, "original", str(place), train, evaluation, n_records)
        return None


def _digests(directory: Path) -> dict[str, tuple[str | None, int]]:
    """The digest and the number of lines of each split in a directory."""
    found: dict[str, tuple[str | None, int]] = {}
    try:
        for file in sorted(directory.iterdir()):
            matched = RECORDS.match(file.name)
            if matched is not None:
                content = open_file(file, DATA_BYTES)
                lines = sum(1 for line in content.split(b"\n") if line.strip())
                found.setdefault(SPLITS[matched["split"].lower()], (bytes_digest([content]), lines))
    except (OSError, DataError):
        return found
    return found
