"""What came of trainings: listings of training runs, and everything that is known of one.

A run whose process is gone is `interrupted` here, whatever its row still says.
"""

# ruff: noqa: S608  what is put into a text here are columns, conditions and ids of this module; values are parameters

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from tracker.errors import UnknownReference
from tracker.listings.listings import Listing
from tracker.record import sweeps
from tracker.record.catalogue import EVERY, Reader, Row, portions
from tracker.statistics import confusion, paired

STATUSES = ("complete", "running", "pending", "stopped", "interrupted", "failed")
TRAINED = "trained"
_CONDITIONS = {
    "purpose": "r.purpose = :purpose",
    "task": "r.task = :task",
    # A hub name, or its last part.
    "model": "(r.model = :model OR r.model LIKE '%/' || :model)",
    "method": "r.method = :method",
    "data": """(r.data = :data OR EXISTS (
        SELECT 1 FROM training_data d WHERE d.training_run_id = r.id
        AND (d.name = :data OR d.fingerprint = :data OR d.dataset || '/' || d.name = :data)))""",
}
_BEYOND_OVERVIEW = "r.training_sweep_id, r.position, r.import_run_id, r.description, r.error, r.settings"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which training runs are looked at. ``model`` may be the last part of a name; ``data`` a fingerprint."""

    purpose: str | None = None
    task: str | None = None
    model: str | None = None
    method: str | None = None
    data: str | None = None
    status: str | None = None

    def given(self) -> dict[str, str]:
        """Those that are set."""
        return {each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.given().items()) or "this workspace"


def summary(reader: Reader, filters: Filters) -> list[Row]:
    """For each purpose and model: ``n_runs``, runs by status, and the ``best`` run on each task. By name.

    The best is of ``n_runs`` that were measured on the same records, the newest complete attempt of each point; there
    is one for each evaluation set, first that of the most runs.

    Raises UnknownReference for a filter that nothing ever had.
    """
    where, values = _where(reader, filters)
    groups = reader.rows(
        f"""SELECT r.purpose, r.model, {_status(reader)} AS shown, COUNT(*) AS n FROM training_run r WHERE {where}
            GROUP BY r.purpose, r.model, shown""",
        **values,
    )
    best = reader.rows(
        f"""SELECT * FROM (
            SELECT r.purpose, r.model, r.task, r.accuracy, r.accuracy_low, r.accuracy_high, r.n_eval, d.eval_digest,
                   r.method, r.data, r.learning_rate, r.seed, r.uuid, COUNT(*) OVER alike AS n_runs,
                   ROW_NUMBER() OVER (alike ORDER BY r.accuracy DESC, r.id) AS place
            FROM training_run r JOIN training_data d ON d.training_run_id = r.id AND d.position = 0
            WHERE r.id IN (
                SELECT MAX(r.id) FROM training_run r WHERE r.status = 'complete' AND r.accuracy IS NOT NULL AND {where}
                GROUP BY r.purpose, r.fingerprint)
            WINDOW alike AS (PARTITION BY r.purpose, r.model, r.task, d.eval_digest, r.n_eval)) ranked
            WHERE place = 1 ORDER BY task, n_runs DESC, n_eval DESC, eval_digest""",
        **values,
    )
    found: dict[tuple[str, str], Row] = {}
    for row in sorted(groups, key=lambda row: (row["purpose"], row["model"], STATUSES.index(row["shown"]))):
        group = found.setdefault(
            (row["purpose"], row["model"]),
            {"purpose": row["purpose"], "model": row["model"], "n_runs": 0, "statuses": {}, "best": []},
        )
        group["n_runs"] += row["n"]
        group["statuses"][row["shown"]] = row["n"]
    for row in best:
        del row["place"]
        found[row.pop("purpose"), row.pop("model")]["best"].append(row)
    return list(found.values())


def details(reader: Reader, filters: Filters, limit: int = 0) -> Listing:
    """The newest ``limit`` training runs (0: all) by purpose, model and directory, each with its ``data_paths``.

    Raises UnknownReference for a filter that nothing ever had.
    """
    where, values = _where(reader, filters)
    chosen = f"SELECT r.id FROM training_run r WHERE {where}"
    total = reader.rows(f"SELECT COUNT(*) AS n FROM ({chosen}) c", **values)[0]["n"]
    rows = _rows(reader, f"{chosen} ORDER BY r.id DESC LIMIT :limit", **values, limit=limit or EVERY)
    rows.sort(key=lambda row: (row["purpose"], row["model"], row["directory"]))
    for row in rows:
        row["data_paths"] = [row["data_path"]]
    mixes = {row["id"]: row for row in rows if row["n_data"] > 1}
    for some in portions(list(mixes)):
        for row in reader.rows(
            f"""SELECT training_run_id, path FROM training_data WHERE training_run_id IN ({some}) AND position > 0
                ORDER BY training_run_id, position"""
        ):
            mixes[row["training_run_id"]]["data_paths"].append(row["path"])
    return Listing(rows, int(total))


def runs(reader: Reader, run_ids: Sequence[int]) -> list[Row]:
    """Training runs as the view has them, with ``settings`` as an object, in the order of the ids."""
    found = {row["id"]: row for some in portions(run_ids) for row in _rows(reader, some)}
    return [found[each] for each in run_ids]


def finished(reader: Reader, filters: Filters) -> list[Row]:
    """The newest complete attempt of each point, oldest first. Raises UnknownReference as ``details`` does."""
    where, values = _where(reader, filters)
    return _rows(
        reader,
        f"""SELECT MAX(r.id) FROM training_run r WHERE r.status = 'complete' AND r.accuracy IS NOT NULL AND {where}
            GROUP BY r.fingerprint""",
        **values,
    )


def alike(reader: Reader, row: Row) -> list[Row]:
    """The newest complete attempts of the points that have the main settings of ``row`` but for the seed."""
    names = ("model", "task", "method", "data", "learning_rate", "batch_size", "steps")
    return _rows(
        reader,
        f"""SELECT MAX(r.id) FROM training_run r WHERE r.status = 'complete' AND r.accuracy IS NOT NULL
            AND {" AND ".join(f"r.{name} {'IS NULL' if row[name] is None else f'= :{name}'}" for name in names)}
            GROUP BY r.fingerprint""",
        **{name: row[name] for name in names if row[name] is not None},
    )


def run(reader: Reader, run_id: int) -> Row:
    """Everything about one training run: the view's row, its data, curve, predictions, attempts and MLflow's run id."""
    row = runs(reader, [run_id])[0]
    more = reader.rows(
        """SELECT r.classes, r.command, r.versions, r.threads, r.host, r.zero_shot_key, w.config_path,
                  w.n_points, o.mlflow_run_id FROM training_run r JOIN training_sweep w ON w.id = r.training_sweep_id
           LEFT JOIN mlflow_outbox o ON o.training_run_id = r.id WHERE r.id = :id""",
        id=run_id,
    )[0]
    classes = json.loads(more["classes"]) if more["classes"] else None
    return {
        **row, **more, "classes": classes, "versions": json.loads(more["versions"] or "{}"),
        "data_sets": data_sets(reader, run_id), "curve": curve(reader, run_id),
        "predictions": _predictions(reader, run_id, more.pop("zero_shot_key"), classes),
        "attempts": _attempts(reader, row["fingerprint"]),
    }  # fmt: skip


def data_sets(reader: Reader, run_id: int) -> list[Row]:
    """The data sets of a run, each with its ``experiment`` and ``batch`` where it has them."""
    return reader.rows(
        """SELECT d.path, d.directory, d.dataset, d.name, d.fingerprint, d.train_digest, d.eval_digest, d.n_records,
                  d.n_train, d.warning, CASE WHEN e.id IS NULL THEN NULL ELSE e.dataset || '/' || e.name END
                  AS experiment, e.status AS experiment_status, b.name AS batch
           FROM training_data d LEFT JOIN shared_experiment e ON e.id = d.shared_experiment_id
           LEFT JOIN batch b ON b.id = d.batch_id WHERE d.training_run_id = :id ORDER BY d.position""",
        id=run_id,
    )


def curve(reader: Reader, run_id: int) -> list[Row]:
    """``step``, ``train_loss``, ``dev_loss``, ``dev_accuracy`` at each evaluation; the train loss last seen by then."""
    rows = reader.rows(
        """SELECT name, step, value FROM training_metric WHERE training_run_id = :id
           AND name IN ('train/loss', 'dev/loss', 'dev/accuracy') ORDER BY step, name DESC""",
        id=run_id,
    )
    found: dict[int, Row] = {}
    train = None
    for row in rows:
        if row["name"] == "train/loss":
            train = row["value"]
            continue
        at = found.setdefault(
            row["step"], {"step": row["step"], "train_loss": train, "dev_loss": None, "dev_accuracy": None}
        )
        at[row["name"].replace("/", "_")] = row["value"]
    return list(found.values())


def answers(reader: Reader, run_ids: Sequence[int], stage: str = TRAINED) -> dict[int, dict[int, bool]]:
    """By run, which records of the evaluation split it answered rightly (by position in the file)."""
    found: dict[int, dict[int, bool]] = {each: {} for each in run_ids}
    for some in portions(run_ids):
        for row in reader.rows(
            f"""SELECT training_run_id, position, correct FROM prediction
                WHERE training_run_id IN ({some}) AND stage = :stage""",
            stage=stage,
        ):
            found[row["training_run_id"]][row["position"]] = bool(row["correct"])
    return found


def _predictions(reader: Reader, run_id: int, zero_shot_key: str | None, classes: Sequence[str] | None) -> Row | None:
    rows = reader.rows(
        """SELECT position, label, predicted, correct, scores FROM prediction
           WHERE training_run_id = :id AND stage = 'trained' ORDER BY position""",
        id=run_id,
    )
    if not rows:
        return None
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    wrong = [_wrong(row, classes) for row in rows if not row["correct"]]
    return {
        "n": len(rows), "n_correct": sum(bool(row["correct"]) for row in rows),
        "confusion": confusion(labels, predicted, len(classes)) if classes else None,
        "gain": _gain(reader, rows, zero_shot_key),
        "wrong": sorted(wrong, key=lambda row: row["margin"]),
    }  # fmt: skip


def _wrong(row: Row, classes: Sequence[str] | None) -> Row:
    """``margin``: how far the right answer's log-probability is behind the given one's, below 0."""
    scores = json.loads(row["scores"])
    label, answer = row["label"], row["predicted"]
    return {
        "position": row["position"],
        "label": classes[label] if classes else label,
        "predicted": classes[answer] if classes else answer,
        "margin": round(scores[label] - scores[answer], 6),
    }


def _gain(reader: Reader, rows: Sequence[Row], zero_shot_key: str | None) -> Mapping[str, float] | None:
    """What training changed, on the same records; the untrained model may have been measured by another run."""
    if zero_shot_key is None:
        return None
    before = reader.rows(
        """SELECT p.position, p.correct FROM prediction p WHERE p.stage = 'zero_shot' AND p.training_run_id = (
               SELECT MIN(r.id) FROM training_run r WHERE r.zero_shot_key = :key AND EXISTS (
                   SELECT 1 FROM prediction z WHERE z.training_run_id = r.id AND z.stage = 'zero_shot'))""",
        key=zero_shot_key,
    )
    if not before:
        return None
    sides = [{row["position"]: bool(row["correct"]) for row in side} for side in (rows, before)]
    found = paired(*sides)
    return {"learnt": found.only_first, "lost": found.only_second, "difference": found.difference, "p": found.p}


def _attempts(reader: Reader, fingerprint: str) -> list[Row]:
    return reader.rows(
        f"""SELECT r.attempt, r.uuid, {_status(reader)} AS status, r.accuracy, r.created_at, r.directory
            FROM training_run r WHERE r.fingerprint = :fingerprint ORDER BY r.attempt""",
        fingerprint=fingerprint,
    )


def _rows(reader: Reader, chosen: str, **values: object) -> list[Row]:
    """The runs whose ids are ``chosen``, a list or a query, oldest first."""
    gone = set(_gone(reader))
    found = reader.rows(
        f"""SELECT o.*, {_BEYOND_OVERVIEW} FROM training_overview o JOIN training_run r ON r.id = o.id
            WHERE o.id IN ({chosen}) ORDER BY o.id""",
        **values,
    )
    for row in found:
        row["settings"] = json.loads(row["settings"])
        if row["id"] in gone:
            row["status"] = "interrupted"
    return found


def _where(reader: Reader, filters: Filters) -> tuple[str, dict[str, str]]:
    given = filters.given()
    values = {name: value for name, value in given.items() if name != "status"}
    for name, value in values.items():
        _check(reader, name, value)
    conditions = [_CONDITIONS[name] for name in values]
    if filters.status is not None:
        conditions.append(f"{_status(reader)} = :status")
    return " AND ".join(conditions) or "1 = 1", given


def _check(reader: Reader, name: str, value: str) -> None:
    """Raises UnknownReference where no run ever had that value."""
    if reader.rows(f"SELECT 1 AS one FROM training_run r WHERE {_CONDITIONS[name]} LIMIT 1", **{name: value}):
        return
    known = [row["value"] for row in reader.rows(f"SELECT DISTINCT {name} AS value FROM training_run ORDER BY value")]
    hint = f"There are {', '.join(known[:10])}." if known else "There are no training runs yet."
    raise UnknownReference(f"training run with {name}", value, known, hint=hint)


def _status(reader: Reader) -> str:
    """The SQL expression of a run's status as it is."""
    gone = portions(_gone(reader), 2**62)
    return f"CASE WHEN r.id IN ({gone[0]}) THEN 'interrupted' ELSE r.status END" if gone else "r.status"


def _gone(reader: Reader) -> list[int]:
    """The ids of the runs that are said to be running and whose process is gone."""
    rows = reader.rows("SELECT id, host, pid, pid_started, heartbeat FROM training_run WHERE status = 'running'")
    return [row["id"] for row in rows if not sweeps.is_held(row)]
