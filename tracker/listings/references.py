"""What a person means by a name: ``Copa/temp07_topp10_gpt4o``, a fingerprint or the beginning of one, or a path.

Paths are read as text, against the record and not the disk: a link that is missing still leads to its experiment.
"""

# ruff: noqa: S608  what is put into a text here are names of tables and columns; values are parameters

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import UnknownReference
from tracker.fingerprint import MIN_DIGITS
from tracker.paths import SHARED, Workspace, current_directory
from tracker.record.catalogue import Reader, Row

_NEIGHBOURS = 50
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Found:
    """An experiment, and the batch through which a path reached it."""

    id: int
    batch: str | None = None
    is_older: bool = False
    """Whether the path is one where the data lay when it was imported, and lies no more as far as the record knows."""


@dataclass(frozen=True, slots=True)
class _Place:
    batch: str | None
    dataset: str
    name: str


def find(reader: Reader, workspace: Workspace, ref: str) -> Found:
    """The experiment that ``ref`` names. Raises UnknownReference: close matches, or what a prefix could be."""
    text = ref.strip().rstrip("/")
    if (found := _by_fingerprint(reader, text.lower())) is not None:
        return Found(found)
    if (there := named(reader, workspace, text)) is not None:
        return there
    if (old := _by_older_fingerprint(reader, text.lower())) is not None:
        return Found(old)
    raise _unknown(reader, ref, next(_places(workspace, text), None))


def named(reader: Reader, workspace: Workspace, text: str) -> Found | None:
    """The experiment of a name or a path, None where it is none; fingerprints are not looked at."""
    dataset, _, name = text.partition("/")
    if (found := _by_name(reader, dataset, name)) is not None:
        return Found(found)
    for place in _places(workspace, text):
        if (found := _at(reader, place)) is not None:
            return Found(found, place.batch)
    return _imported(reader, workspace, text) or _imported_once(reader, workspace, text)


def batch(reader: Reader, name: str) -> Row:
    """``id`` and ``name`` of a batch. Raises UnknownReference with close matches."""
    text = name.strip().rstrip("/").rpartition("/")[2]  # so that a path, completed by the shell, will do
    rows = reader.rows("SELECT id, name FROM batch WHERE name = :name AND deleted_at IS NULL", name=text)
    if rows:
        return rows[0]
    raise UnknownReference(
        "batch", name, _near(reader, "batch_overview", text), hint="`synthtrack batch list` shows them."
    )


def dataset(reader: Reader, name: str) -> None:
    """Raises UnknownReference with close matches where no experiment is on a data set of that name."""
    if not reader.rows("SELECT 1 AS one FROM shared_experiment WHERE dataset = :name LIMIT 1", name=name):
        known = _datasets(reader)
        hint = f"There are experiments on {', '.join(known[:10])}." if known else "There are no experiments yet."
        raise UnknownReference("experiments on data set", name, known, hint=hint)


def _by_name(reader: Reader, dataset: str, name: str) -> int | None:
    rows = reader.rows(
        "SELECT id FROM shared_experiment WHERE dataset = :dataset AND name = :name", dataset=dataset, name=name
    )
    return rows[0]["id"] if rows else None


def _by_fingerprint(reader: Reader, text: str) -> int | None:
    if not re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},12}}", text):
        return None
    rows = reader.rows(
        """SELECT id, fingerprint, dataset, name FROM shared_experiment
           WHERE fingerprint >= :low AND fingerprint < :high ORDER BY fingerprint LIMIT 6""",
        low=text,
        high=f"{text}g",
    )
    if len(rows) > 1:
        could_be = [f"  {row['fingerprint']}  {row['dataset']}/{row['name']}" for row in rows[:5]]
        more = ["  ... and more"] if len(rows) > 5 else []
        raise UnknownReference(
            "single experiment with fingerprint", f"{text}...", hint="\n".join(["It could be:", *could_be, *more])
        )
    return rows[0]["id"] if rows else None


def _by_older_fingerprint(reader: Reader, text: str) -> int | None:
    """The experiment that the system it was imported from called so, where that is one."""
    if not re.fullmatch(r"[0-9a-f]{12}", text):
        return None
    rows = reader.rows("SELECT id FROM shared_experiment WHERE legacy_fingerprint = :f LIMIT 2", f=text)
    return rows[0]["id"] if len(rows) == 1 else None


def _places(workspace: Workspace, text: str) -> Iterator[_Place]:
    # The tree may be reached through a link (to a bigger disk); what we print is relative to it or to the root.
    trees = [Path(read(workspace.synthetic_dir)) for read in (os.path.normpath, os.path.realpath)]
    here = current_directory()
    seen = set()
    for base in (*([] if here is None else [here]), workspace.root, trees[0]):
        path = Path(os.path.normpath(base / text))
        for tree in trees:
            place = _place(path, tree)
            if place is not None and place not in seen:
                seen.add(place)
                yield place


def _place(path: Path, tree: Path) -> _Place | None:
    if not path.is_relative_to(tree):
        return None
    match path.relative_to(tree).parts:
        case [top, dataset, name, *rest] if rest[:1] in ([], [dataset]) and len(rest) <= 2:
            return _Place(None if top == SHARED else top, dataset, name)
    return None


def _at(reader: Reader, place: _Place) -> int | None:
    if place.batch is None:
        return _by_name(reader, place.dataset, place.name)
    rows = reader.rows(
        """SELECT e.id FROM shared_experiment e JOIN batch_membership m ON m.shared_experiment_id = e.id
           JOIN batch b ON b.id = m.batch_id WHERE e.dataset = :dataset AND e.name = :name AND b.name = :batch""",
        dataset=place.dataset,
        name=place.name,
        batch=place.batch,
    )
    return rows[0]["id"] if rows else None


def _imported(reader: Reader, workspace: Workspace, text: str) -> Found | None:
    """An experiment whose data stays in the tree that it was imported from, by a path into that tree."""
    homes: dict[str, str | None] = {}
    for home, of in _homes(workspace, text):
        homes.setdefault(_stored(workspace, home), of)
    if not homes:
        return None
    names = {f"d{number}": home for number, home in enumerate(homes)}
    marks = ", ".join(f":{name}" for name in names)
    # Only what was imported has a directory, and there is an index that tells which that is.
    sql = f"SELECT id, directory FROM shared_experiment WHERE import_run_id > 0 AND directory IN ({marks})"
    for row in reader.rows(sql, **names):
        return Found(row["id"], homes[row["directory"]] or _batch_in(reader, row["id"], text))
    return None


def _imported_once(reader: Reader, workspace: Workspace, text: str) -> Found | None:
    """An experiment whose data lies elsewhere by now, by a path at which an import found it."""
    homes = [home for home, _ in _homes(workspace, text)]
    origins = reader.rows("SELECT id, origin FROM import_run WHERE kind = 'tree' ORDER BY id DESC") if homes else []
    for origin in origins:
        tops = dict.fromkeys((origin["origin"], os.path.realpath(origin["origin"])))
        below = [str(home.relative_to(top)) for home in homes for top in tops if home.is_relative_to(top)]
        report = (
            reader.rows("SELECT report FROM import_run WHERE id = :id", id=origin["id"])[0]["report"] if below else ""
        )
        said = {each["path"]: each.get("fingerprint") for each in json.loads(report or "[]")}
        for fingerprint in filter(None, (said.get(path) for path in below)):
            for row in reader.rows("SELECT id FROM shared_experiment WHERE fingerprint = :f", f=fingerprint):
                return Found(row["id"], _batch_in(reader, row["id"], text), is_older=True)
    return None


def _homes(workspace: Workspace, text: str) -> Iterator[tuple[Path, str | None]]:
    """The directories that could be an experiment's where ``text`` is a path into a tree, and the batch it names."""
    if "/" not in text and not os.path.lexists(text):
        return
    here = current_directory()
    for base in dict.fromkeys(([] if here is None else [here]) + [workspace.root]):
        for path in (Path(os.path.normpath(base / text)), Path(os.path.realpath(base / text))):
            for at, home in enumerate((path, *path.parents)[:3]):
                yield home, None
                # The batch's link may be gone: beside _shared it lay, under the same names.
                if at < 2 and len(home.parts) > 3 and home.parent.parent.name != SHARED:
                    yield home.parents[2] / SHARED / home.parent.name / home.name, home.parent.parent.name


def _stored(workspace: Workspace, path: Path) -> str:
    root = Path(os.path.realpath(workspace.root))
    return (
        workspace.relative(path)
        if path.is_relative_to(workspace.root)
        else str(path.relative_to(root) if path.is_relative_to(root) else path)
    )


def _batch_in(reader: Reader, experiment_id: int, text: str) -> str | None:
    """The batch of an experiment that a path names."""
    sql = """SELECT b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
             WHERE m.shared_experiment_id = :id"""
    return next((row["name"] for row in reader.rows(sql, id=experiment_id) if row["name"] in text.split("/")), None)


def _unknown(reader: Reader, ref: str, place: _Place | None) -> UnknownReference:
    text = ref.strip().rstrip("/") if place is None else f"{place.dataset}/{place.name}"
    if place is None and re.fullmatch(r"[0-9a-fA-F]{1,12}", text):
        hint = f"No fingerprint begins so, or the beginning is shorter than {MIN_DIGITS} digits."
        return UnknownReference("experiment", ref, hint=hint)
    if place is None or place.batch is None or _by_name(reader, place.dataset, place.name) is None:
        hint = "DATASET/NAME, a fingerprint or a path names one; `synthtrack experiment list` shows them."
        near = _near_experiments(reader, text)
        whole = [each for each in near if text.lower() in each.lower()]
        return UnknownReference("experiment", text, whole[:_NAMED] if 0 < len(whole) <= _NAMED else near, hint=hint)
    hint = f"`synthtrack path resolve {text}` shows the batches that it is in."
    return UnknownReference(f"experiment in {batch(reader, place.batch)['name']} named", text, hint=hint)


def _near_experiments(reader: Reader, text: str) -> list[str]:
    name = text.rpartition("/")[2]
    return [
        f"{known}/{near}"
        for known in _datasets(reader)
        for near in _near(reader, "shared_experiment", name, dataset=known)
    ]


def _near(reader: Reader, table: str, text: str, **of: str) -> list[str]:
    """Names worth comparing with ``text``: its neighbours in the index, those that end alike, those that contain it."""
    where = "".join(f"{column} = :{column} AND " for column in of)
    conditions = (
        ("name >= :text", "name", text),
        ("name < :text", "name DESC", text),
        ("name LIKE :text", "name", f"%{text[len(text) // 4 :]}"),
        ("name LIKE :text", "name", f"%{text[len(text) // 2 :]}"),
        ("name LIKE :text", "name", f"%{text}%"),
    )
    names: dict[str, None] = {}
    for condition, order, value in conditions:
        sql = f"SELECT name FROM {table} WHERE {where}{condition} ORDER BY {order} LIMIT {_NEIGHBOURS}"
        names |= dict.fromkeys(row["name"] for row in reader.rows(sql, text=value, **of))
    return list(names)


def _datasets(reader: Reader) -> list[str]:
    return [row["dataset"] for row in reader.rows("SELECT DISTINCT dataset FROM shared_experiment ORDER BY dataset")]
