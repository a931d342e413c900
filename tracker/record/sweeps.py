"""Looks at trainings under way: sweeps and their runs as they stand, and what a person means by a name.

A run whose process is gone is `interrupted` here, whatever its row still says. Without SQLAlchemy, so that looking
starts fast.
"""

# ruff: noqa: S608  what is put into a text here are names of columns; values are parameters

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker import clock
from tracker.clock import Process
from tracker.errors import UnknownReference
from tracker.fingerprint import MIN_DIGITS
from tracker.paths import Workspace, current_directory
from tracker.record.catalogue import Reader, Row

RESUMABLE = ("pending", "stopped", "interrupted")
"""Statuses of runs that go on when their sweep is resumed."""
_NAMED = 5

_SWEEP = """
    id, uuid, status, purpose, model, task, method, n_points, background, continue_on_error, started_at, finished_at,
    host, pid, pid_started, heartbeat, config_path, description, varied, devices, error"""
_RUN = """
    r.id, r.uuid, r.training_sweep_id, r.position, r.fingerprint, r.attempt, r.status, r.purpose, r.model, r.task,
    r.method, r.data, r.directory, r.learning_rate, r.batch_size, r.steps, r.seed, r.device, r.threads, r.step,
    r.train_loss, r.dev_loss, r.best_step, r.accuracy, r.accuracy_low, r.accuracy_high, r.zero_shot_accuracy,
    r.majority_accuracy, r.n_resumed, r.stop_requested, r.created_at, r.started_at, r.finished_at, r.duration_s,
    r.host, r.pid, r.pid_started, r.heartbeat, r.error, r.settings, r.import_run_id"""
_LATEST = {"dev_accuracy": "dev/accuracy", "step_time_s": "train/step_time_s", "tokens_per_s": "train/tokens_per_s"}
# Its best checkpoint's is what a finished run says, a running one says what was measured last.
_LATEST_SQL = ", ".join(
    f"""COALESCE(r.{column}, (SELECT m.value FROM training_metric m WHERE m.training_run_id = r.id
        AND m.name = '{name}' ORDER BY m.step DESC LIMIT 1)) AS {column}"""
    for column, name in _LATEST.items()
)
# More than are unfinished: which runs live, and which were tried again, is seen when they are read.
_MAY_BE_UNFINISHED = """(status IN ('running', 'interrupted') OR id IN (
    SELECT u.training_sweep_id FROM training_run u
    WHERE u.status IN ('pending', 'stopped', 'interrupted', 'running') AND u.import_run_id IS NULL))"""
_PORTION = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A sweep, and the run of it that was meant, if it was one."""

    sweep_id: int
    run_id: int | None = None


def holder_of(row: Mapping[str, Any]) -> Process | None:
    """The process that works on a run or sweep, or did last."""
    return None if row["pid"] is None else Process(row["host"], row["pid"], row["pid_started"])


def is_held(row: Mapping[str, Any]) -> bool:
    """Whether that process lives, as far as anybody can know."""
    holder = holder_of(row)
    return holder is not None and not clock.is_gone(holder, str(row["heartbeat"]))


def has_process(found: Row) -> bool:
    """Whether a run that is not running has a process: one that has yet to claim it, or has still to exit."""
    # What was imported never had one, nor a heartbeat.
    if not is_held(found):
        return False
    # Another host's cannot be asked; what is left of it after the run ended is its last heartbeat.
    is_news = found["finished_at"] is None or found["heartbeat"] > found["finished_at"]
    return found["host"] == clock.host() or is_news


def sweep(reader: Reader, sweep_id: int) -> Row:
    """One sweep, as ``sweeps`` has them."""
    return _with_runs(reader, reader.rows(f"SELECT {_SWEEP} FROM training_sweep WHERE id = :id", id=sweep_id))[0]


def sweeps(reader: Reader, *, everything: bool = False) -> list[Row]:
    """The sweeps that are not finished and the newest that is, or all of them; the newest first.

    ``status`` is running only where the supervisor, or a run's process, lives. ``runs`` are those of ``runs``, with
    ``settings`` as an object and ``seconds_left``.
    """
    chosen, newest = f"SELECT {_SWEEP} FROM training_sweep", "ORDER BY started_at DESC, id DESC"
    if everything:
        return _with_runs(reader, reader.rows(f"{chosen} {newest}"))
    rows = reader.rows(f"{chosen} WHERE {_MAY_BE_UNFINISHED} {newest}")
    rows += reader.rows(f"{chosen} WHERE NOT {_MAY_BE_UNFINISHED} {newest} LIMIT 1")
    rows.sort(key=lambda row: (row["started_at"], row["id"]), reverse=True)
    found = _with_runs(reader, rows)
    finished = next((each["id"] for each in found if not is_unfinished(each)), None)
    return [each for each in found if is_unfinished(each) or each["id"] == finished]


def is_unfinished(found: Row) -> bool:
    """Whether a sweep is being worked on, has runs that can be resumed, or was never closed by its supervisor."""
    left = any(run["status"] in {*RESUMABLE, "running"} and not run["import_run_id"] for run in found["runs"])
    return left or found["status"] in {"running", "interrupted"}


def runs(reader: Reader, sweep_id: int) -> list[Row]:
    """The runs of a sweep in the order of its grid; of several attempts at a point the newest.

    ``status`` as it is in the record.
    """
    return _runs(reader, [sweep_id])


def run(reader: Reader, run_id: int) -> Row:
    """One run, as the ``runs`` of ``sweeps`` are."""
    return _shown(reader.rows(f"SELECT {_RUN}, {_LATEST_SQL} FROM training_run r WHERE r.id = :id", id=run_id)[0])


def busy_threads(reader: Reader, *, but: int) -> int:
    """The CPU threads that the runs of other sweeps use on this host."""
    rows = reader.rows(
        """SELECT threads, host, pid, pid_started, heartbeat FROM training_run
           WHERE status = 'running' AND host = :host AND training_sweep_id <> :but""",
        host=clock.host(),
        but=but,
    )
    return sum(row["threads"] or 1 for row in rows if is_held(row))


def point(found: Row) -> str:
    """Which run of its sweep it is: ``lr 1e-06, seed 0``."""
    seed = "unknown" if found["seed"] is None else found["seed"]
    return f"lr {found['learning_rate']:g}, seed {seed}"


def log_file(workspace: Workspace, found: Row) -> Path:
    """What a sweep's supervisors in the background write."""
    return workspace.results_dir / str(found["purpose"]) / ".sweeps" / f"{found['uuid']}.log"


def seconds_left(found: Row) -> float | None:
    """How long the steps that are left would take at the speed last seen; evaluations not reckoned."""
    if found["step_time_s"] is None or found["steps"] is None:
        return None
    return float(found["step_time_s"]) * max(0, int(found["steps"]) - int(found["step"]))


def _runs(reader: Reader, sweep_ids: Sequence[int]) -> list[Row]:
    """The runs of sweeps, as ``runs`` has them, sweep by sweep."""
    found = []
    # Databases bound the length of a statement.
    for at in range(0, len(sweep_ids), _PORTION):
        some = ", ".join(str(int(each)) for each in sweep_ids[at : at + _PORTION])
        found += reader.rows(
            f"""SELECT {_RUN}, {_LATEST_SQL} FROM training_run r WHERE r.id IN (
                    SELECT MAX(n.id) FROM training_run n WHERE n.training_sweep_id IN ({some})
                    GROUP BY n.training_sweep_id, n.position)
                ORDER BY r.training_sweep_id, r.position"""
        )
    return found


def _with_runs(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    runs_of: dict[int, list[Row]] = {row["id"]: [] for row in rows}
    for run in _runs(reader, list(runs_of)):
        runs_of[run["training_sweep_id"]].append(_shown(run))
    return [_sweep(row) | {"runs": runs_of[row["id"]]} for row in rows]


def _sweep(row: Row) -> Row:
    lists = {name: json.loads(row[name]) for name in ("varied", "devices")}
    flags = {name: bool(row[name]) for name in ("background", "continue_on_error")}
    return _status(row) | lists | flags


def _shown(row: Row) -> Row:
    return _status(row) | {
        "stop_requested": bool(row["stop_requested"]),
        "settings": json.loads(row["settings"]),
        "seconds_left": seconds_left(row),
    }


def _status(row: Row) -> Row:
    return row | {"status": "interrupted"} if row["status"] == "running" and not is_held(row) else row


def find(reader: Reader, workspace: Workspace, ref: str, *, shown_by: str = "training status --all") -> Found:
    """The sweep or run that ``ref`` names: the beginning of a uuid or of a run's fingerprint, or a result directory.

    Of several attempts at a point, and of the runs below a directory, the newest is meant. Raises UnknownReference:
    what a beginning could be, or close matches and the command by which all are ``shown_by``.
    """
    text = ref.strip().rstrip("/")
    found = _by_digits(reader, text.lower()) or (_by_directory(reader, workspace, text) if text else None)
    if found is None:
        known = [row["uuid"] for row in reader.rows("SELECT uuid FROM training_sweep ORDER BY id DESC LIMIT 50")]
        known += [
            row["directory"] for row in reader.rows("SELECT directory FROM training_run ORDER BY id DESC LIMIT 50")
        ]
        shortened = [name[: max(len(text), MIN_DIGITS)] if "/" not in name else name for name in known]
        raise UnknownReference("sweep or training run", ref, shortened, hint=f"`synthtrack {shown_by}` shows them.")
    return found


def _by_digits(reader: Reader, text: str) -> Found | None:
    if not re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},32}}", text):
        return None
    bounds = {"low": text, "high": f"{text}g"}
    rows = reader.rows(
        """SELECT uuid AS digits, id AS sweep_id, NULL AS run_id, 'sweep' AS kind, model, task, method
           FROM training_sweep WHERE uuid >= :low AND uuid < :high
           UNION ALL SELECT uuid, training_sweep_id, id, 'run', model, task, method
           FROM training_run WHERE uuid >= :low AND uuid < :high
           UNION ALL SELECT fingerprint, MAX(training_sweep_id), MAX(id), 'run', MAX(model), MAX(task), MAX(method)
           FROM training_run WHERE fingerprint >= :low AND fingerprint < :high GROUP BY fingerprint
           ORDER BY digits""",
        **bounds,
    )
    if len(rows) > 1:
        raise _ambiguous(text, rows)
    return Found(rows[0]["sweep_id"], rows[0]["run_id"]) if rows else None


def _ambiguous(text: str, rows: Sequence[Row]) -> UnknownReference:
    could_be = [f"  {row['digits']}  {row['kind']}: {row['task']}, {row['method']}, {row['model']}" for row in rows]
    more = ["  ... and more"] if len(rows) > _NAMED else []
    return UnknownReference(
        "single sweep or training run", f"{text}...", hint="\n".join(["It could be:", *could_be[:_NAMED], *more])
    )


def _by_directory(reader: Reader, workspace: Workspace, text: str) -> Found | None:
    here = current_directory()
    for base in (*([] if here is None else [here]), workspace.root, workspace.results_dir):
        path = Path(os.path.normpath(base / text))
        names = [workspace.relative(each) for each in (path, Path(os.path.realpath(path)))]
        for name in dict.fromkeys(names):
            rows = reader.rows(
                """SELECT training_sweep_id, id, directory FROM training_run
                   WHERE directory = :name OR SUBSTR(directory, 1, :length) = :below ORDER BY id DESC""",
                name=name,
                length=len(name) + 1,
                below=f"{name}/",
            )
            for row in rows:
                # Further above lie the runs of several points.
                if "/" not in row["directory"][len(name) + 1 :]:
                    return Found(row["training_sweep_id"], row["id"])
    return None
