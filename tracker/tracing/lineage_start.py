"""Where a lineage begins: what a person means by any name, path, fingerprint or id that is in the record.

Names and paths are read as text, against the record and not the disk, so what was deleted is still found.
"""

# ruff: noqa: S608  what is put into a text here are names of columns and lists of parameters; values are parameters

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import UnknownReference
from tracker.fingerprint import MIN_DIGITS
from tracker.listings import agent_references, pool_listings, references
from tracker.paths import Workspace, current_directory
from tracker.record import sweeps
from tracker.record.catalogue import Reader, Row

EXPERIMENT, SOURCE, BATCH, RUN = "shared_experiment", "source_dataset", "batch", "generation_run"
TRAINING, SWEEP, PUBLICATION = "training_run", "training_sweep", "publication"
AGENTS, AGENT_RUN, POOL, VALIDATION = "agent_dataset", "agent_run", "task_pool", "pool_validation"
_NAMED = 5
# What has digits of its own: the kind, which is its table, the column, and what a person calls it.
_DIGITS = (
    (EXPERIMENT, "fingerprint", "dataset || '/' || name"),
    (EXPERIMENT, "legacy_fingerprint", "dataset || '/' || name"),
    (RUN, "uuid", "outcome || ' ' || started_at"),
    (TRAINING, "uuid", "directory"),
    (TRAINING, "fingerprint", "directory"),
    (SWEEP, "uuid", "purpose || ' ' || started_at"),
    (AGENTS, "fingerprint", "name"),
    (AGENT_RUN, "uuid", "outcome || ' ' || started_at"),
    (POOL, "fingerprint", "name"),
    (POOL, "uuid", "name"),
    (VALIDATION, "uuid", "model || ' ' || started_at"),
    (VALIDATION, "fingerprint", "model || ' ' || started_at"),
    (SOURCE, "digest", "name"),
)
_LOGGED = (RUN, TRAINING, SWEEP, AGENT_RUN, POOL, VALIDATION)
_SPLITS = """
    SELECT d.id, s.digest AS digits, d.name FROM source_split s JOIN source_dataset d ON d.id = s.source_dataset_id
    WHERE s.digest >= :low AND s.digest < :high LIMIT 20"""


@dataclass(frozen=True, slots=True)
class Start:
    """What was meant: rows of one table (several where a name has had several contents), and the batch on the way."""

    kind: str
    ids: tuple[int, ...]
    batch: str | None = None


def find(reader: Reader, workspace: Workspace, ref: str) -> Start:
    """What ``ref`` means. Raises UnknownReference: close matches, or what a beginning could be."""
    # What is not UTF-8, or has a NUL, is in no name.
    text = "" if "\0" in ref else ref.strip().rstrip("/").encode(errors="replace").decode()
    if text:
        for way in (_by_digits, _by_name, _by_path, _by_directory_above):
            if (found := way(reader, workspace, text)) is not None:
                return found
    raise _unknown(reader, workspace, ref, text)


def _by_digits(reader: Reader, _: Workspace, text: str) -> Start | None:
    digits = text.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},64}}", digits):
        return _by_mlflow_id(reader, text)
    bounds = {"low": digits, "high": f"{digits}g"}
    rows = [
        {"kind": kind, **row}
        for kind, column, name in _DIGITS
        for row in reader.rows(
            f"""SELECT id, {column} AS digits, {name} AS name FROM {kind}
                WHERE {column} >= :low AND {column} < :high ORDER BY {column}, id DESC LIMIT 20""",
            **bounds,
        )
    ]
    rows += [{"kind": SOURCE, **row} for row in reader.rows(_SPLITS, **bounds)]
    rows += _logged(reader, "o.mlflow_run_id >= :low AND o.mlflow_run_id < :high", **bounds)
    # Attempts at one point, and repetitions of a validation, have one fingerprint: the newest is meant.
    meant = {(row["kind"], row["digits"], row["name"] if row["kind"] == SOURCE else ""): row for row in reversed(rows)}
    whole = [row for row in meant.values() if row["digits"] == digits]
    return _only(text, whole or list(meant.values()))


def _by_mlflow_id(reader: Reader, text: str) -> Start | None:
    return _only(text, _logged(reader, "o.mlflow_run_id = :text", text=text))


def _logged(reader: Reader, where: str, **values: str) -> list[Row]:
    columns = ", ".join(f"o.{kind}_id" for kind in _LOGGED)
    rows = reader.rows(f"SELECT o.mlflow_run_id, {columns} FROM mlflow_outbox o WHERE {where} LIMIT 20", **values)
    return [
        {"kind": kind, "id": row[f"{kind}_id"], "digits": row["mlflow_run_id"], "name": "MLflow run"}
        for row in rows
        for kind in _LOGGED
        if row[f"{kind}_id"] is not None
    ]


def _only(text: str, rows: Sequence[Row]) -> Start | None:
    meant = list(dict.fromkeys((row["kind"], row["id"]) for row in rows))
    kinds = {kind for kind, _ in meant}
    if len(meant) > 1 and kinds != {SOURCE}:
        named = [f"  {row['digits'][:32]}  {row['kind'].replace('_', ' ')}: {row['name']}" for row in rows]
        shown = [*named[:_NAMED], *(["  ... and more"] if len(named) > _NAMED else [])]
        hint = "\n".join(["It could be:", *shown])
        raise UnknownReference("single thing whose fingerprint or id begins with", text, hint=hint)
    return Start(meant[0][0], tuple(sorted(each for _, each in meant))) if meant else None


def _by_name(reader: Reader, workspace: Workspace, text: str) -> Start | None:
    found = references.named(reader, workspace, text)
    if found is not None:
        return Start(EXPERIMENT, (found.id,), found.batch)
    for kind, table in ((BATCH, "batch"), (SOURCE, "source_dataset"), (POOL, "task_pool")):
        rows = reader.rows(f"SELECT id FROM {table} WHERE name = :name ORDER BY id", name=text)
        if rows:
            return Start(kind, tuple(row["id"] for row in rows))
    dataset = agent_references.named(reader, workspace, text)
    if dataset is not None:
        return Start(AGENTS, (dataset,))
    with contextlib.suppress(UnknownReference):
        return Start(POOL, (pool_listings.find(reader, workspace, text),))
    return None


def _by_path(reader: Reader, workspace: Workspace, text: str) -> Start | None:
    paths = list(_paths(workspace, text))
    # The nearest directory decides: results lie below a purpose, published data sets below a target.
    above = [each for path in paths for each in (path, *path.parents) if each != each.parent]
    names = list(dict.fromkeys(workspace.relative(each) for each in above))
    for kind in (TRAINING, PUBLICATION):
        if (row := _in(reader, kind, names)) is not None:
            return Start(kind, (row,))
    if (row := _published_below(reader, workspace, paths)) is not None:
        return Start(PUBLICATION, (row,))
    found = _by_origin(reader, workspace, paths) or _batch_directory(reader, workspace, paths)
    return found or _file_of_experiment(reader, workspace, text)


def _file_of_experiment(reader: Reader, workspace: Workspace, text: str) -> Start | None:
    for above in list(Path(text).parents)[:2]:
        if (found := references.named(reader, workspace, str(above))) is not None:
            return Start(EXPERIMENT, (found.id,), found.batch)
    return None


def _paths(workspace: Workspace, text: str) -> Iterable[Path]:
    here = current_directory()
    given = os.path.expanduser(text)  # noqa: PTH111  Path.expanduser raises where there is no such user
    found: dict[Path, None] = {}
    for base in (*([] if here is None else [here]), workspace.root, workspace.results_dir, workspace.synthetic_dir):
        for read in (os.path.normpath, os.path.realpath):
            with contextlib.suppress(ValueError):  # a NUL is in no path
                found[Path(read(base / given))] = None
    return found


def _in(reader: Reader, table: str, names: Sequence[str]) -> int | None:
    """The newest row whose directory is one of ``names``, of which the first that has one counts."""
    some = names[:200]
    marks = ", ".join(f":n{at}" for at in range(len(some)))
    if not some:
        return None
    rows = reader.rows(
        f"SELECT id, directory FROM {table} WHERE directory IN ({marks}) ORDER BY id DESC",
        **{f"n{at}": name for at, name in enumerate(some)},
    )
    rows.sort(key=lambda row: some.index(row["directory"]))
    return int(rows[0]["id"]) if rows else None


def _published_below(reader: Reader, workspace: Workspace, paths: Iterable[Path]) -> int | None:
    """What was published right below a path, where that is one data set: the target of `publish`."""
    datasets = [row["name"] for row in reader.rows("SELECT DISTINCT dataset AS name FROM publication")]
    names = [workspace.relative(path / name) for path in paths for name in datasets]
    found = {_in(reader, PUBLICATION, [name]) for name in names} - {None}
    return found.pop() if len(found) == 1 else None


def _by_origin(reader: Reader, workspace: Workspace, paths: Iterable[Path]) -> Start | None:
    """Source data sets by a file that they were read from, or its directory; `Data_v2/original/Copa` by its name."""
    names = {str(path) for path in paths} | {workspace.relative(path) for path in paths}
    rows = reader.rows("SELECT id, name, origin FROM source_dataset ORDER BY id")
    found = [row["id"] for row in rows if {row["origin"], str(Path(row["origin"]).parent)} & names]
    if not found:
        tops = {Path(read(workspace.original_dir)) for read in (os.path.normpath, os.path.realpath)}
        called = {path.relative_to(top).parts[:1] for path in paths for top in tops if path.is_relative_to(top)}
        found = [row["id"] for row in rows if (row["name"],) in called]
    if not found:
        files = {path.name for path in paths}
        below = {str(path.parent) for path in paths}
        splits = reader.rows("SELECT source_dataset_id, filename FROM source_split ORDER BY id")
        named = {row["source_dataset_id"] for row in splits if row["filename"] in files}
        found = [row["id"] for row in rows if row["id"] in named and str(Path(row["origin"]).parent) in below]
    return Start(SOURCE, tuple(found)) if found else None


def _batch_directory(reader: Reader, workspace: Workspace, paths: Iterable[Path]) -> Start | None:
    trees = {Path(read(workspace.synthetic_dir)) for read in (os.path.normpath, os.path.realpath)}
    for path in paths:
        for tree in trees:
            if tree in {path.parent, path.parent.parent}:
                name = path.relative_to(tree).parts[0]
                rows = reader.rows("SELECT id FROM batch WHERE name = :name", name=name)
                if rows:
                    return Start(BATCH, (rows[0]["id"],), name)
    return _imported_batch(reader, workspace, paths)


def _imported_batch(reader: Reader, workspace: Workspace, paths: Iterable[Path]) -> Start | None:
    """A batch by its directory, or that of a data set in it, below a tree that was imported."""
    rows = reader.rows("SELECT DISTINCT origin FROM import_run WHERE kind = 'tree'")
    tops = {Path(read(workspace.root / row["origin"])) for row in rows for read in (os.path.normpath, os.path.realpath)}
    for path in paths:
        for each in (path, path.parent):
            if any(each.is_relative_to(top) for top in tops):
                found = reader.rows("SELECT id FROM batch WHERE name = :name", name=each.name)
                if found:
                    return Start(BATCH, (found[0]["id"],), each.name)
    return None


def _by_directory_above(reader: Reader, workspace: Workspace, text: str) -> Start | None:
    """The newest run of a point, by the directory above its attempts."""
    if "/" not in text:
        return None
    with contextlib.suppress(UnknownReference):
        found = sweeps.find(reader, workspace, text)
        if found.run_id is not None:
            return Start(TRAINING, (found.run_id,))
    return None


def _unknown(reader: Reader, workspace: Workspace, ref: str, text: str) -> UnknownReference:
    gone = reader.rows(
        """SELECT kind, name, deleted_at FROM deletion
           WHERE restored_at IS NULL AND (name = :text OR fingerprint = :low) ORDER BY id DESC LIMIT 1""",
        text=text,
        low=text.lower(),
    )
    if gone:
        kind, name = gone[0]["kind"].replace("_", " "), gone[0]["name"]
        hint = f"The {kind} {name} was deleted at {gone[0]['deleted_at'][:19]}; `synthtrack trash` lists what is kept."
        return UnknownReference("record of", ref, hint=hint)
    known = [*_experiments(reader, workspace, text), *_newest(reader)]
    hint = (
        "REF is a result directory, a data path, DATASET/NAME, a batch, a data set, a pool, a fingerprint, a uuid or "
        f"an MLflow run id; of digits at least the first {MIN_DIGITS}."
    )
    return UnknownReference("lineage of", ref, known, hint=hint)


def _experiments(reader: Reader, workspace: Workspace, text: str) -> Sequence[str]:
    try:
        references.find(reader, workspace, text)
    except UnknownReference as error:
        return error.matches
    return ()


def _newest(reader: Reader) -> list[str]:
    columns = (("batch", "name"), ("source_dataset", "name"), ("agent_dataset", "name"), ("task_pool", "name"),
               ("training_run", "directory"), ("publication", "directory"))  # fmt: skip
    return [
        row["name"]
        for table, column in columns
        for row in reader.rows(f"SELECT {column} AS name FROM {table} ORDER BY id DESC LIMIT 50")
    ]
