"""Looks through a tree of the older layout: which directories are experiments, and which links belong to batches.

It only reads, and follows no link out of the directory that was given.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.importing.report import Report
from tracker.errors import DataError, Problem
from tracker.paths import SHARED, name_problem
from tracker.record.content import CONFIG, FINGERPRINT, METADATA

EXPERIMENT, BATCH_LINK, BATCH_DIRECTORY, TREE = "experiment", "batch link", "batch directory", "tree"
_SYNTHETIC, _RESULTS = ("Data_v2", "synthetic"), "Results_v2"
_MARKS = (FINGERPRINT, METADATA, CONFIG)


@dataclass
class Found:
    """A directory that holds an experiment, or what is left of one."""

    dataset: str
    name: str
    directory: Path
    purpose: str | None = None
    batches: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        return f"{self.dataset}/{self.name}"


@dataclass
class OldTree:
    """What a directory of the older layout holds; ``top`` is the directory that was given."""

    top: Path
    project: Path
    synthetic: Path | None
    results: Path | None
    experiments: list[Found] = field(default_factory=list)
    has_batches: bool = False
    """Whether batch directories could have been seen; below `_shared` alone there are none."""

    @cached_property
    def real_top(self) -> str:
        return os.path.realpath(self.top)

    def inside(self, path: Path) -> bool:
        """Whether ``path``, with its links followed, lies in the directory that was given."""
        real = os.path.realpath(path)
        return real == self.real_top or real.startswith(f"{self.real_top}{os.sep}")

    def shown(self, path: Path) -> str:
        """``path`` as the report names it."""
        return str(path.relative_to(self.top)) if path.is_relative_to(self.top) else str(path)


def scan(top: Path, report: Report) -> OldTree:
    """The experiments and batch links below ``top``. Raises DataError where nothing of the older layout is there."""
    tree = _layout(top)
    if tree.synthetic is not None:
        if not tree.inside(tree.synthetic):
            report.wrong(TREE, tree.shown(tree.synthetic), _OUTSIDE)
            return tree
        shared = tree.synthetic if tree.synthetic.name == SHARED else tree.synthetic / SHARED
        _scan_shared(tree, shared, report)
        if tree.has_batches:
            _scan_others(tree, report)
    if tree.results is not None and not tree.inside(tree.results):
        report.wrong(TREE, tree.shown(tree.results), _OUTSIDE)
        tree.results = None
    return tree


_OUTSIDE = "a link that leads out of the directory that was given: not followed; import where it leads by itself"


def entries(directory: Path, report: Report, tree: OldTree) -> list[os.DirEntry[str]]:
    """What lies in a directory, by name; one that cannot be read is reported."""
    try:
        with os.scandir(directory) as found:
            return sorted(found, key=lambda each: each.name)
    except OSError as error:
        report.wrong(
            TREE, printable(tree.shown(directory)), f"cannot be read: {error.strerror}; nothing in it was taken"
        )
        return []


def printable(text: str) -> str:
    """``text`` as a report can hold it: what is not UTF-8 or not to be printed is replaced."""
    return "".join(char if char.isprintable() else "?" for char in os.fsencode(text).decode("utf-8", "replace"))


def is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116  Path.is_dir raises where it may not look
    except (OSError, ValueError):
        return False


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises where it may not look


def _layout(top: Path) -> OldTree:
    synthetic, results = top.joinpath(*_SYNTHETIC), top / _RESULTS
    if is_directory(synthetic) or is_directory(results):
        found = OldTree(
            top, top, synthetic if is_directory(synthetic) else None, results if is_directory(results) else None
        )
        found.has_batches = found.synthetic is not None
        return found
    if top.name == SHARED:
        return OldTree(top, _project_of(top.parent), top, None)
    if top.name == _RESULTS:
        return OldTree(top, top.parent, None, top)
    if is_directory(top / SHARED) or top.name == _SYNTHETIC[-1] or _is_older(top):
        return OldTree(top, _project_of(top), top, None, has_batches=True)
    raise DataError(
        "Nothing of the older layout is there.",
        [Problem(str(top), f"no {'/'.join(_SYNTHETIC)}, no {SHARED}, no {_RESULTS} in it")],
        hint="Name the project's directory, its Data_v2/synthetic or a _shared; files: `synthtrack import dataset`.",
    )


def _project_of(synthetic: Path) -> Path:
    return synthetic.parent.parent if synthetic.parts[-2:] == _SYNTHETIC else synthetic


def _is_older(top: Path) -> bool:
    try:
        return any(each.is_file() for each in top.glob(f"*/*/{METADATA}"))
    except OSError:
        return False


def _scan_shared(tree: OldTree, shared: Path, report: Report) -> None:
    if not is_directory(shared):
        return
    if not tree.inside(shared):
        report.wrong(TREE, tree.shown(shared), _OUTSIDE)
        return
    for dataset in _directories(tree, shared, "data set", report):
        for found in _directories(tree, dataset, EXPERIMENT, report):
            tree.experiments.append(Found(dataset.name, found.name, found))


def _scan_others(tree: OldTree, report: Report) -> None:
    """Batches, and the layout before there were any: {purpose}/{experiment}."""
    assert tree.synthetic is not None
    by_home = {os.path.realpath(each.directory): each for each in tree.experiments}
    for top in _directories(tree, tree.synthetic, "batch", report, but=SHARED):
        for below in entries(top, report, tree):
            path = top / below.name
            if below.is_symlink():
                report.wrong(
                    BATCH_LINK, printable(tree.shown(path)), "a link where a data set's directory should be: left out"
                )
            elif below.is_dir(follow_symlinks=False):
                if any(os.path.lexists(path / mark) for mark in _MARKS):
                    _take_older(tree, top.name, path, report)
                else:
                    _scan_batch(tree, top.name, path, by_home, report)


def _take_older(tree: OldTree, purpose: str, home: Path, report: Report) -> None:
    below = [
        each for each in entries(home, report, tree) if each.is_dir(follow_symlinks=False) and not _hidden(each.name)
    ]
    names = [each.name for each in below if has_records(home / each.name)] or ["unknown"]
    if names == ["unknown"] and not has_records(home):
        names = [each.name for each in below][:1] or names
    for dataset in names:
        if _named(tree, home, dataset, home.name, report=report):
            tree.experiments.append(Found(dataset, home.name, home, purpose=purpose))


def _scan_batch(tree: OldTree, batch: str, dataset: Path, by_home: dict[str, Found], report: Report) -> None:
    for each in entries(dataset, report, tree):
        path = dataset / each.name
        shown = printable(tree.shown(path))
        if each.is_symlink():
            _take_link(tree, batch, path, by_home, report)
        elif each.is_dir(follow_symlinks=False) and _named(tree, path, batch, dataset.name, each.name, report=report):
            report.wrong(
                BATCH_DIRECTORY,
                shown,
                f"a directory where a link into {SHARED} should be; taken as an experiment of its own",
            )
            found = Found(dataset.name, each.name, path, batches=[batch])
            tree.experiments.append(found)
            by_home[os.path.realpath(path)] = found


def _take_link(tree: OldTree, batch: str, path: Path, by_home: dict[str, Found], report: Report) -> None:
    shown, real = printable(tree.shown(path)), os.path.realpath(path)
    exists = _exists(real)
    target = printable(os.readlink(path))  # noqa: PTH115  as it stands, with its trailing slash
    found = by_home.get(real)
    if found is None:
        found = by_home.get(os.path.realpath(_tail(tree, target))) if not exists else None
        if found is None:
            report.wrong(BATCH_LINK, shown, _link_problem(path, target, exists=exists, inside=tree.inside(path)))
            return
        report.wrong(
            BATCH_LINK, shown, f"leads to {target}, which is gone; taken as {SHARED}/{found.reference} of this tree"
        )
    if _named(tree, path, batch, report=report) and batch not in found.batches:
        found.batches.append(batch)


def _link_problem(path: Path, target: str, *, exists: bool, inside: bool) -> str:
    if not inside:
        return f"a link out of the directory that was given ({target}): not followed"
    if not exists and _is_loop(path):
        return f"leads back to itself ({target}): left out; remove it"
    if not exists:
        return f"a dead link: {target} is not there; left out (make the data again, or remove the link)"
    return f"leads to {target}, which is no experiment: left out"


def _is_loop(path: Path) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  Path.resolve has its own words for a loop
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _tail(tree: OldTree, target: str) -> Path:
    """Where an absolute link of a tree that was moved would lead in this one."""
    parts = Path(target).parts
    assert tree.synthetic is not None
    if SHARED in parts and Path(target).is_absolute():
        return tree.synthetic.joinpath(*parts[parts.index(SHARED) :])
    return tree.synthetic / target.replace("/", "?")


def _directories(tree: OldTree, directory: Path, kind: str, report: Report, but: str = "") -> Iterator[Path]:
    for each in entries(directory, report, tree):
        path = directory / each.name
        if each.name == but or _hidden(each.name):
            continue
        if each.is_symlink() and not _exists(path):
            report.wrong(kind, printable(tree.shown(path)), "a dead link: left out")
        elif each.is_symlink() and not tree.inside(path):
            report.wrong(kind, printable(tree.shown(path)), _OUTSIDE)
        elif is_directory(path) and _named(tree, path, each.name, report=report):
            yield path


def _named(tree: OldTree, path: Path, *names: str, report: Report) -> bool:
    problems = [problem for name in names if (problem := name_problem(name)) is not None]
    if problems:
        report.wrong(TREE, printable(tree.shown(path)), f"{printable(problems[0])}: left out; rename it")
    return not problems


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


RECORDS = re.compile(
    r"^(?P<stem>.*?)[_-]?(?P<split>train|validation|valid|val|dev|test)\.jsonl?(?:\.gz)?$", re.IGNORECASE
)
"""The name of a file of records, `copa_train.jsonl`."""


def has_records(directory: Path) -> bool:
    """Whether a directory holds a file of records itself."""
    try:
        return any(RECORDS.match(each.name) for each in directory.iterdir())
    except OSError:
        return False
