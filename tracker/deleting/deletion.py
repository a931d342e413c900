"""What deleting something comes to, and what forbids it: over the rows that a Reader gives; nothing is changed.

What is deleted goes to the trash (``tracker.deleting.trash``). The ledger of requests and answers is never deleted.
"""

# ruff: noqa: S608  what is put into a text here are names of tables and columns of this module; values are parameters

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker import clock
from tracker.clock import Process
from tracker.errors import Conflict
from tracker.paths import SHARED, Workspace
from tracker.record.catalogue import Reader, Row
from tracker.record.sweeps import has_process, is_held, log_file

BATCH, EXPERIMENT, AGENTS, POOL = "batch", "experiment", "agent_dataset", "task_pool"
RUN, SWEEP = "training_run", "training_sweep"
WORDS = {
    BATCH: "batch", EXPERIMENT: "experiment", AGENTS: "agent data set", POOL: "task pool", RUN: "training run",
    SWEEP: "sweep",
}  # fmt: skip
"""What each kind is called."""
TABLES = {
    EXPERIMENT: "shared_experiment", AGENTS: "agent_dataset", POOL: "task_pool", RUN: "training_run",
    SWEEP: "training_sweep",
}  # fmt: skip
"""Where its row is that goes; a batch's stays, without its members."""
_NAMED = 5

_NAMES = {
    BATCH: "SELECT name, NULL AS fingerprint FROM batch WHERE id = :id",
    EXPERIMENT: "SELECT dataset || '/' || name AS name, fingerprint FROM shared_experiment WHERE id = :id",
    AGENTS: "SELECT name, fingerprint FROM agent_dataset WHERE id = :id",
    POOL: "SELECT name, fingerprint FROM task_pool WHERE id = :id",
    RUN: "SELECT directory AS name, fingerprint FROM training_run WHERE id = :id",
    SWEEP: "SELECT purpose || ' ' || SUBSTR(uuid, 1, 8) AS name, NULL AS fingerprint FROM training_sweep WHERE id=:id",
}
_OUTBOX = {
    EXPERIMENT: "JOIN generation_run r ON r.id = o.generation_run_id WHERE r.shared_experiment_id = :id",
    AGENTS: "JOIN agent_run r ON r.id = o.agent_run_id WHERE r.agent_dataset_id = :id",
    POOL: """LEFT JOIN pool_validation v ON v.id = o.pool_validation_id
             WHERE o.task_pool_id = :id OR v.task_pool_id = :id""",
    RUN: """LEFT JOIN training_run r ON r.id = :id
            WHERE o.training_run_id = :id OR (o.training_sweep_id = r.training_sweep_id AND NOT EXISTS (
                SELECT 1 FROM training_run x WHERE x.training_sweep_id = r.training_sweep_id AND x.id <> :id))""",
    SWEEP: """LEFT JOIN training_run r ON r.id = o.training_run_id
              WHERE o.training_sweep_id = :id OR r.training_sweep_id = :id""",
}
_RUNNING = """
    SELECT r.host, r.pid, r.pid_started, r.started_at AS since, e.dataset || '/' || e.name AS name,
           CASE WHEN r.outcome = 'reused' THEN r.started_at
                WHEN r.outcome = 'tested' THEN COALESCE(r.heartbeat, r.started_at)
                ELSE COALESCE(e.lease_heartbeat, r.started_at) END AS last_seen
    FROM generation_run r JOIN shared_experiment e ON e.id = r.shared_experiment_id WHERE r.status = 'running'"""
_LEASED = """
    SELECT lease_host AS host, lease_pid AS pid, lease_started AS pid_started, lease_heartbeat AS last_seen,
           lease_since AS since, :name AS name FROM {table} WHERE id = :id AND lease_host IS NOT NULL"""
_SPENT = """
    SELECT b.name, COUNT(a.prompt_tokens) AS answered, COUNT(a.cost_usd) AS priced, SUM(a.cost_usd) AS cost_usd
    FROM generation_run r JOIN batch b ON b.id = r.batch_id JOIN attempt a ON a.generation_run_id = r.id
    WHERE r.shared_experiment_id = :id GROUP BY b.name ORDER BY b.name"""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something cannot be deleted now, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What deleting one thing comes to: what forbids it, paths that are moved (below the workspace or absolute).

    ``spent`` is what its generation runs paid, by batch; None where a price is not known.
    """

    kind: str
    id: int
    name: str
    fingerprint: str | None
    reasons: tuple[Reason, ...] = ()
    paths: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    mlflow_runs: tuple[str, ...] = ()
    spent: tuple[tuple[str, float | None], ...] = ()

    def refuse(self) -> None:
        """Raises Conflict where something forbids it."""
        if self.reasons:
            lines = [f"  {each.what}" for each in self.reasons]
            remedies = dict.fromkeys(each.remedy for each in self.reasons)
            raise Conflict("\n".join([f"{self.name} cannot be deleted now:", *lines]), hint="\n".join(remedies))


def plan(reader: Reader, workspace: Workspace, kind: str, row_id: int, *, from_batches: bool = False) -> Plan:
    """What deleting that row comes to; ``from_batches``: an experiment is taken out of its batches by that.

    Raises Conflict where another process has just deleted it.
    """
    rows = reader.rows(_NAMES[kind], id=row_id)
    if not rows:
        raise Conflict(f"The {WORDS[kind]} was deleted at this moment.", hint="`synthtrack trash list` shows it.")
    named = rows[0]
    name = str(named["name"])
    reasons: dict[str, Callable[[], Iterator[Reason]]] = {
        BATCH: lambda: _making_in(reader, row_id),
        EXPERIMENT: lambda: _experiment(reader, workspace, row_id, name, from_batches=from_batches),
        AGENTS: lambda: _busy(reader.rows(_LEASED.format(table=AGENTS), id=row_id, name=name)),
        POOL: lambda: _validating(reader, row_id),
        RUN: lambda: _training(reader, f"id = {int(row_id)}"),
        SWEEP: lambda: _training(reader, f"training_sweep_id = {int(row_id)}"),
    }
    outbox = _OUTBOX.get(kind)
    logged = (
        reader.rows(f"SELECT o.mlflow_run_id AS id FROM mlflow_outbox o {outbox} ORDER BY o.id", id=row_id)
        if outbox is not None
        else []
    )
    spent = reader.rows(_SPENT, id=row_id) if kind == EXPERIMENT else []
    return Plan(
        kind,
        row_id,
        name,
        named["fingerprint"],
        tuple(reasons[kind]()),
        tuple(_paths(reader, workspace, kind, row_id)),
        tuple(_links(reader, workspace, kind, row_id)),
        tuple(row["id"] for row in logged if row["id"] is not None),
        tuple((row["name"], row["cost_usd"] if row["priced"] == row["answered"] else None) for row in spent),
    )


def _experiment(
    reader: Reader, workspace: Workspace, row_id: int, name: str, *, from_batches: bool
) -> Iterator[Reason]:
    yield from _busy(reader.rows(_LEASED.format(table="shared_experiment"), id=row_id, name=name))
    yield from _busy(reader.rows(f"{_RUNNING} AND e.id = :id AND r.outcome IN ('reused', 'tested')", id=row_id))
    for label, sql, remedy in _REFERRING:
        if label == "batch" and from_batches:
            continue
        rows = reader.rows(sql, id=row_id)
        for row in rows[:_NAMED]:
            what = workspace.relative(Path(row["name"])) if label == "publication" else row["name"]
            yield Reason(
                f"{_SAYS[label].format(what)}", f"`{remedy.format(name=name, other=row['name'])}` {_DOES[label]}"
            )
        if len(rows) > _NAMED:
            yield Reason(f"and {len(rows) - _NAMED:,} more of this kind", f"`synthtrack lineage {name}` shows all.")


_REFERRING = (
    (
        "batch",
        """SELECT b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
           WHERE m.shared_experiment_id = :id ORDER BY b.name""",
        "synthtrack batch remove {other} {name}",
    ),
    (
        "publication",
        "SELECT directory AS name FROM publication WHERE shared_experiment_id = :id ORDER BY id",
        "synthtrack publish remove {name}",
    ),
    (
        "training run",
        """SELECT DISTINCT SUBSTR(r.uuid, 1, 8) AS name, r.id FROM training_data d
           JOIN training_run r ON r.id = d.training_run_id WHERE d.shared_experiment_id = :id ORDER BY r.id""",
        "synthtrack result delete {other}",
    ),
    (
        "checkpoint",
        """SELECT DISTINCT e.dataset || '/' || e.name AS name FROM checkpoint c
           JOIN judge_test t ON t.id = c.judge_test_id JOIN shared_experiment e ON e.id = c.shared_experiment_id
           WHERE t.shared_experiment_id = :id AND e.id <> :id ORDER BY 1""",
        "synthtrack experiment delete {other}",
    ),
    (
        "decision",
        """SELECT DISTINCT e.dataset || '/' || e.name AS name FROM decision d
           JOIN decision o ON o.id = d.adopted_from_id JOIN shared_experiment e ON e.id = d.shared_experiment_id
           WHERE o.shared_experiment_id = :id AND e.id <> :id ORDER BY 1""",
        "synthtrack experiment delete {other}",
    ),
)
_SAYS = {
    "batch": "batch {} holds it",
    "publication": "it was published at {}",
    "training run": "training run {} was trained on it",
    "checkpoint": "{} rests on a test of its judge",
    "decision": "{} took over decisions that people made in it",
}
_DOES = {
    "batch": "takes it out.",
    "publication": "takes that back.",
    "training run": "deletes that first.",
    "checkpoint": "deletes that first.",
    "decision": "deletes that first.",
}


def _making_in(reader: Reader, batch_id: int) -> Iterator[Reason]:
    return _busy(reader.rows(f"{_RUNNING} AND r.batch_id = :id ORDER BY r.id", id=batch_id))


def refuse_making(reader: Reader, batch_id: int, names: Sequence[str]) -> None:
    """Raises Conflict where an experiment of these names is being made in that batch."""
    rows = [row for row in reader.rows(f"{_RUNNING} AND r.batch_id = :id", id=batch_id) if row["name"] in names]
    for reason in _busy(rows):
        raise Conflict(f"{reason.what}.", hint=reason.remedy)


def _busy(rows: Sequence[Row]) -> Iterator[Reason]:
    for row in rows:
        process = Process(row["host"], row["pid"], row["pid_started"])
        if not clock.is_gone(process, str(row["last_seen"])):
            since = str(row["since"])[:19].replace("T", " ")
            yield Reason(f"{row['name']} is being made by {process} since {since} UTC", "Wait for it, or stop it.")


def _validating(reader: Reader, pool_id: int) -> Iterator[Reason]:
    return _busy(
        reader.rows(
            """SELECT host, pid, pid_started, heartbeat AS last_seen, started_at AS since, 'its validation' AS name
               FROM pool_validation WHERE task_pool_id = :id AND status = 'running'""",
            id=pool_id,
        )
    )


def _training(reader: Reader, which: str) -> Iterator[Reason]:
    columns = "status, host, pid, pid_started, heartbeat, finished_at"
    runs = reader.rows(f"SELECT id, uuid, training_sweep_id, {columns} FROM training_run WHERE {which} ORDER BY id")
    for row in runs:
        if is_held(row) if row["status"] == "running" else has_process(row):
            short = row["uuid"][:8]
            yield Reason(f"training run {short} is being trained", f"`synthtrack training stop {short}` stops it.")
    for sweep_id in dict.fromkeys(row["training_sweep_id"] for row in runs if row["status"] == "pending"):
        sweep = reader.rows(f"SELECT uuid, {columns} FROM training_sweep WHERE id = :id", id=sweep_id)[0]
        if sweep["status"] == "running" and is_held(sweep):
            short = sweep["uuid"][:8]
            yield Reason(f"sweep {short} is about to train it", f"`synthtrack training stop {short}` stops it.")


def _paths(reader: Reader, workspace: Workspace, kind: str, row_id: int) -> Iterator[str]:
    """What the record made for it on the disk; what was imported and stays where it was is not the record's."""
    if kind == EXPERIMENT:
        sql = "SELECT dataset, name FROM shared_experiment WHERE id = :id AND directory IS NULL"
        places = [workspace.experiment_dir(row["dataset"], row["name"]) for row in reader.rows(sql, id=row_id)]
    elif kind == AGENTS:
        name = reader.rows(_NAMES[kind], id=row_id)[0]["name"]
        places = [workspace.data_dir / "agents" / f"{name}.json"]
    elif kind == POOL:
        places = [workspace.data_dir / reader.rows(_NAMES[kind], id=row_id)[0]["name"]]
    elif kind in {RUN, SWEEP}:
        column = "id" if kind == RUN else "training_sweep_id"
        sql = f"SELECT directory FROM training_run WHERE {column} = :id AND import_run_id IS NULL ORDER BY id"
        places = [workspace.root / row["directory"] for row in reader.rows(sql, id=row_id)]
        if kind == SWEEP:
            sweep = reader.rows("SELECT uuid, purpose FROM training_sweep WHERE id = :id", id=row_id)[0]
            places.append(log_file(workspace, sweep))
    else:
        places = []
    yield from (workspace.relative(path) for path in places if is_own(workspace, path) and os.path.lexists(path))


def _links(reader: Reader, workspace: Workspace, kind: str, row_id: int) -> Iterator[str]:
    if kind == BATCH:
        rows = reader.rows(
            """SELECT b.name AS batch, e.dataset, e.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
               JOIN shared_experiment e ON e.id = m.shared_experiment_id WHERE b.id = :id
               ORDER BY e.dataset, e.name""",
            id=row_id,
        )
        yield from (workspace.relative(workspace.link(row["batch"], row["dataset"], row["name"])) for row in rows)


def is_own(workspace: Workspace, path: Path) -> bool:
    """Whether ``path`` lies below a tree of the workspace, and is none of them."""
    plain, *trees = (
        Path(os.path.normpath(each)) for each in (path, workspace.shared_dir, workspace.results_dir, workspace.data_dir)
    )
    return any(plain.is_relative_to(tree) and plain != tree for tree in trees)


def owner(reader: Reader, workspace: Workspace, path: Path) -> str | None:
    """What the record has at ``path`` now, by name: a thing made anew in the place of a deleted one."""
    shown = workspace.relative(path)
    if path.is_relative_to(workspace.shared_dir):
        parts = path.relative_to(workspace.shared_dir).parts
        sql = "SELECT dataset || '/' || name AS name FROM shared_experiment WHERE dataset = :one AND name = :two"
        rows = reader.rows(f"{sql} AND directory IS NULL", one=parts[0], two=parts[-1]) if len(parts) == 2 else []
    elif path.is_relative_to(workspace.synthetic_dir):
        batch, dataset, name = (*path.relative_to(workspace.synthetic_dir).parts, SHARED, SHARED, SHARED)[:3]
        rows = reader.rows(
            """SELECT b.name FROM batch_membership m JOIN batch b ON b.id = m.batch_id
               JOIN shared_experiment e ON e.id = m.shared_experiment_id
               WHERE b.name = :batch AND e.dataset = :dataset AND e.name = :name""",
            batch=batch,
            dataset=dataset,
            name=name,
        )
    elif path.is_relative_to(workspace.data_dir):
        name = path.name
        rows = reader.rows("SELECT name FROM task_pool WHERE name = :name", name=name)
        rows += reader.rows("SELECT name FROM agent_dataset WHERE name = :name", name=name.removesuffix(".json"))
    else:
        rows = reader.rows("SELECT directory AS name FROM training_run WHERE directory = :shown", shown=shown)
    return str(rows[0]["name"]) if rows else None
