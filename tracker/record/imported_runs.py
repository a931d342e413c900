"""Writes training runs that were not done here: what an older tree of results says of them.

Nobody works on such a run, and nobody will: it has no process, no predictions, and is never resumed.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tracker import clock
from tracker.fingerprint import SCHEME, Identity
from tracker.record.catalogue import Reader
from tracker.record.columns import check_digest
from tracker.record.database import Database
from tracker.record.training import COMPLETE, DATA, FAILED, METRIC, OUTBOX, RUN, STOPPED, SWEEP, Row

FILES = "files"
"""In ``config``: the digests of the files that a run was read from, by name."""
_SAME = """
    SELECT id, directory, fingerprint, config FROM training_run
    WHERE directory = :directory OR fingerprint = :fingerprint
    ORDER BY CASE WHEN directory = :directory THEN 0 ELSE 1 END, id"""
_DATA = "SELECT fingerprint, train_digest FROM training_data WHERE training_run_id = :id ORDER BY position"
_UNKNOWN = (None, "")


@dataclass(frozen=True)
class ImportedRun:
    """A run as it was found: its identity, the columns of training_run and training_data, metrics as (name, step).

    ``settings`` is the column as an object; ``files`` are the digests of its files by name.
    """

    identity: Identity
    directory: str
    columns: Row
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    files: Mapping[str, str]
    data: tuple[Row, ...]
    metrics: Mapping[tuple[str, int], float]

    @property
    def group(self) -> tuple[str, ...]:
        """What the runs of one sweep have in common."""
        return tuple(str(self.columns[name]) for name in ("purpose", "model", "task", "method", "data"))


@dataclass(frozen=True)
class Known:
    """A run that is in the record already; ``why`` says so in words, ``news`` what is known of it only now."""

    id: int
    why: str
    news: str | None = None


def known_as(reader: Reader, root: Path, run: ImportedRun) -> Known | None:
    """The run that ``run`` is already, for the workspace at ``root``; None for a new one."""
    rows = [dict(row) for row in reader.rows(_SAME, **_names(run))]
    found = _known(rows, run)
    if found is None:
        return None
    row, why = found
    if json.loads(row["config"]).get(FILES) != run.files:
        return Known(row["id"], why)
    has_moved = row["directory"] != run.directory
    if has_moved and os.path.isdir(root / row["directory"]):  # noqa: PTH112  Path.is_dir raises where it may not look
        return Known(row["id"], why)
    news = [f"imported before, as {row['directory']}; it is here now"] if has_moved else []
    before = [(each["fingerprint"], each["train_digest"]) for each in reader.rows(_DATA, id=row["id"])]
    if _says_more(before, [(each["fingerprint"], each["train_digest"]) for each in run.data]):
        news.append(f"imported before; its data, {run.columns['data']}, is in the record now")
    return Known(row["id"], why, "; ".join(news) or None)


def _says_more(before: Sequence[tuple[Any, Any]], now: Sequence[tuple[Any, Any]]) -> bool:
    """Whether data that was not known is, and nothing else has changed."""
    pairs = list(zip(before, now, strict=False))
    return len(before) == len(now) and before != now and all(was in {_UNKNOWN, found} for was, found in pairs)


def follow(database: Database, known: Known, run: ImportedRun) -> None:
    """Has what is known of a run only now: where it lies, and what it was trained on. Raises Corrupt as ``add``."""
    now = clock.to_text(clock.now())
    with database.writing() as connection:
        there = connection.execute(RUN.select().where(RUN.c.id == known.id)).first()
        if there is None:
            return  # deleted meanwhile
        named = {} if there.digest == run.identity.digest else _identity(connection, run)
        connection.execute(RUN.update().where(RUN.c.id == known.id).values(**named, **_columns(run)))
        connection.execute(DATA.delete().where(DATA.c.training_run_id == known.id))
        _add_data(connection, run, known.id)
        _tell_mlflow(database, connection, "training_run", known.id, now)


def add(
    database: Database, runs: Sequence[ImportedRun], *, import_run_id: int | None, command: str
) -> list[ImportedRun]:
    """Stores runs of one group as a sweep, in one transaction; gives those that were new.

    The same settings again are another attempt. Raises Corrupt where a fingerprint stands for other settings.
    """
    now = clock.to_text(clock.now())
    with database.writing() as connection:
        new = [run for run in runs if _known(_same(connection, run), run) is None]
        if not new:
            return []
        points = list(dict.fromkeys(run.identity.fingerprint for run in new))
        sweep_id = connection.execute(
            SWEEP.insert().values(**_sweep(new, len(points), now), command=command).returning(SWEEP.c.id)
        ).scalar_one()
        for run in new:
            position = points.index(run.identity.fingerprint)
            own = {"training_sweep_id": sweep_id, "position": position, "import_run_id": import_run_id}
            run_id = _add_run(connection, run, now, own)
            _tell_mlflow(database, connection, "training_run", run_id, now)
        if len(points) > 1:
            _tell_mlflow(database, connection, "training_sweep", sweep_id, now)
    return new


def _same(connection: Connection, run: ImportedRun) -> list[dict[str, Any]]:
    either = (RUN.c.directory == run.directory) | (RUN.c.fingerprint == run.identity.fingerprint)
    rows = connection.execute(RUN.select().where(either).order_by(RUN.c.id)).mappings()
    return [dict(row) for row in rows]


def _names(run: ImportedRun) -> dict[str, str]:
    return {"directory": run.directory, "fingerprint": run.identity.fingerprint}


def _known(rows: Sequence[Mapping[str, Any]], run: ImportedRun) -> tuple[Mapping[str, Any], str] | None:
    for row in rows:
        files = json.loads(row["config"]).get(FILES)
        if row["directory"] == run.directory:
            if files is None:
                return row, "trained here"
            changed = "" if files == run.files else "; its files have changed since"
            return row, f"imported before{changed}"
        if run.files and files == run.files:
            return row, f"the same as {row['directory']}, which was imported before"
    return None


def _sweep(runs: Sequence[ImportedRun], n_points: int, now: str) -> dict[str, Any]:
    first = runs[0]
    started = [str(run.columns["started_at"]) for run in runs if run.columns["started_at"]]
    ended = [str(run.columns["finished_at"] or run.columns["started_at"] or now) for run in runs]
    statuses = {run.columns["status"] for run in runs}
    # Nobody will go on with what was interrupted.
    status = COMPLETE if statuses == {COMPLETE} else FAILED if FAILED in statuses else STOPPED
    return {
        "uuid": uuid.uuid4().hex, "key": uuid.uuid4().hex, "status": status, "n_points": n_points,
        **{name: first.columns[name] for name in ("purpose", "model", "task", "method")},
        "background": False, "continue_on_error": True,
        "started_at": min(started, default=now), "finished_at": max(ended),
        "description": str(first.columns["description"]), "varied": json.dumps(_varied(runs)), "devices": "[]",
        "config": json.dumps({name: each for name, each in first.config.items() if name != FILES}, ensure_ascii=False),
    }  # fmt: skip


def _varied(runs: Sequence[ImportedRun]) -> list[str]:
    """The hyperparameters with several values."""
    prefix = "hyperparameters."
    names = dict.fromkeys(name for run in runs for name in run.settings if name.startswith(prefix))
    several = [name for name in names if len({json.dumps(run.settings.get(name)) for run in runs}) > 1]
    return [name.removeprefix(prefix) for name in several]


def _identity(connection: Connection, run: ImportedRun) -> dict[str, Any]:
    """What a run is, and the how many-th of its settings."""
    identity = run.identity
    earlier = connection.execute(
        RUN.select().where(RUN.c.fingerprint == identity.fingerprint).order_by(RUN.c.attempt.desc()).limit(1)
    ).first()
    if earlier is not None:
        hint = f"{run.directory} cannot be imported: two different settings met in 12 digits."
        check_digest(identity, earlier.digest, earlier.directory, hint=hint)
    return {
        "fingerprint": identity.fingerprint, "digest": identity.digest, "identity": identity.canonical,
        "scheme": SCHEME, "attempt": 1 if earlier is None else earlier.attempt + 1,
    }  # fmt: skip


def _columns(run: ImportedRun) -> dict[str, Any]:
    return {
        **run.columns, "directory": run.directory, "settings": json.dumps(run.settings, ensure_ascii=False),
        "config": json.dumps({**run.config, FILES: run.files}, ensure_ascii=False),
    }  # fmt: skip


def _add_data(connection: Connection, run: ImportedRun, run_id: int) -> None:
    connection.execute(
        DATA.insert(), [{**row, "training_run_id": run_id, "position": at} for at, row in enumerate(run.data)]
    )


def _add_run(connection: Connection, run: ImportedRun, now: str, own: Mapping[str, Any]) -> int:
    columns = {**_identity(connection, run), **_columns(run), **own}
    created_at = run.columns["started_at"] or now
    run_id = connection.execute(
        RUN.insert().values(uuid=uuid.uuid4().hex, created_at=created_at, **columns).returning(RUN.c.id)
    ).scalar_one()
    _add_data(connection, run, run_id)
    rows = [
        {"training_run_id": run_id, "name": name, "step": step, "value": value, "recorded_at": _seen(run, now)}
        for (name, step), value in run.metrics.items()
    ]
    if rows:
        connection.execute(METRIC.insert(), rows)
    return int(run_id)


def _seen(run: ImportedRun, now: str) -> str:
    """Logs do not say when a figure was printed; the run was over by then."""
    return str(run.columns["finished_at"] or run.columns["started_at"] or now)


def _tell_mlflow(database: Database, connection: Connection, kind: str, row_id: int, now: str) -> None:
    database.upsert(connection, OUTBOX, [{"kind": kind, f"{kind}_id": row_id, "created_at": now}], [f"{kind}_id"])
