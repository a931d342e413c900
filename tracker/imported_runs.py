"""Writes training runs that were not done here: what an older tree of results says of them.

Nobody works on such a run, and nobody will: it has no process, no predictions, and is never resumed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tracker import clock
from tracker.catalogue import Reader
from tracker.database import Database
from tracker.errors import Corrupt
from tracker.fingerprint import SCHEME, Identity
from tracker.training import COMPLETE, DATA, FAILED, METRIC, OUTBOX, RUN, STOPPED, SWEEP, Row

FILES = "files"
"""In ``config``: the digests of the files that a run was read from, by name."""
_SAME = """
    SELECT directory, fingerprint, config FROM training_run
    WHERE directory = :directory OR fingerprint = :fingerprint ORDER BY id"""


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


def known_as(reader: Reader, run: ImportedRun) -> str | None:
    """Why a run is not taken again, in words; None for a new one."""
    return _known([dict(row) for row in reader.rows(_SAME, **_names(run))], run)


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


def _known(rows: Sequence[Mapping[str, Any]], run: ImportedRun) -> str | None:
    for row in rows:
        files = json.loads(row["config"]).get(FILES)
        if row["directory"] == run.directory:
            if files is None:
                return "trained here"
            return "imported before" if files == run.files else "imported before; its files have changed since"
        if run.files and files == run.files:
            return f"the same as {row['directory']}, which was imported before"
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


def _add_run(connection: Connection, run: ImportedRun, now: str, own: Mapping[str, Any]) -> int:
    identity = run.identity
    earlier = connection.execute(
        RUN.select().where(RUN.c.fingerprint == identity.fingerprint).order_by(RUN.c.attempt.desc()).limit(1)
    ).first()
    if earlier is not None and earlier.digest != identity.digest:
        raise Corrupt(
            f"Fingerprint {identity.fingerprint} stands for other settings in {earlier.directory}.",
            hint=f"{run.directory} cannot be imported: two different settings met in 12 digits.",
        )
    run_id = connection.execute(
        RUN.insert()
        .values(
            uuid=uuid.uuid4().hex, fingerprint=identity.fingerprint, digest=identity.digest,
            identity=identity.canonical, scheme=SCHEME, attempt=1 if earlier is None else earlier.attempt + 1,
            directory=run.directory, created_at=run.columns["started_at"] or now,
            settings=json.dumps(run.settings, ensure_ascii=False),
            config=json.dumps({**run.config, FILES: run.files}, ensure_ascii=False), **own, **run.columns,
        )
        .returning(RUN.c.id)
    ).scalar_one()  # fmt: skip
    connection.execute(
        DATA.insert(), [{**row, "training_run_id": run_id, "position": at} for at, row in enumerate(run.data)]
    )
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
