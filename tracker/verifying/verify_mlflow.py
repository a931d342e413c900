"""Whether MLflow shows what the record says it was told, read from its own SQLite file: MLflow is not imported."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from tracker import clock
from tracker.paths import MLFLOW_URI_VARIABLE, Workspace, without_password
from tracker.record import outbox
from tracker.record.catalogue import Reader
from tracker.record.findings import MLFLOW, Finding

LOG = "log"
"""The fix of a run that MLflow has lost, or was never told of: it is put into the outbox again, and logged."""

HIDE = "hide "
"""The beginning of the fix of a run in MLflow that the record does not have: it is put out of sight."""
_SYNC = "`synthtrack mlflow sync --rebuild` logs it again."
_LONG = timedelta(days=1)
_KINDS = ("generation_run", "training_run", "training_sweep", "agent_run", "task_pool", "pool_validation")
_TAGS = tuple(f"synthtrack.{kind}" for kind in _KINDS)

_LOGGED = """
    SELECT id, kind, mlflow_run_id FROM mlflow_outbox WHERE logged_at IS NOT NULL AND id > :after
    ORDER BY id LIMIT 5000"""
_FAILED = "SELECT COUNT(*) AS n, MAX(error) AS error FROM mlflow_outbox WHERE logged_at IS NULL AND error IS NOT NULL"
_UUIDS = " UNION ALL ".join(f"SELECT '{kind}' AS kind, uuid FROM {kind}" for kind in _KINDS)  # noqa: S608  names of tables
_NEVER = """
    SELECT 'generation_run' AS kind, r.id, r.uuid FROM generation_run r LEFT JOIN mlflow_outbox o
      ON o.generation_run_id = r.id JOIN shared_experiment e ON e.id = r.shared_experiment_id
    WHERE o.id IS NULL AND r.status <> 'running' AND e.import_run_id IS NULL
    UNION ALL SELECT 'training_run', r.id, r.uuid FROM training_run r LEFT JOIN mlflow_outbox o
      ON o.training_run_id = r.id WHERE o.id IS NULL AND r.status IN ('complete', 'failed') AND r.import_run_id IS NULL
    UNION ALL SELECT 'agent_run', r.id, r.uuid FROM agent_run r LEFT JOIN mlflow_outbox o ON o.agent_run_id = r.id
    WHERE o.id IS NULL AND r.status <> 'running'
    UNION ALL SELECT 'pool_validation', r.id, r.uuid FROM pool_validation r LEFT JOIN mlflow_outbox o
      ON o.pool_validation_id = r.id WHERE o.id IS NULL AND r.status <> 'running'"""


@dataclass
class Looked:
    """What came of it: how many logged runs were looked for, what is wrong, and what is only to be known."""

    n_runs: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mlflow_findings(reader: Reader, workspace: Workspace) -> Looked:
    """Every logged row's run in MLflow's store, and every run there that has no row."""
    looked = Looked(notes=list(_waiting(reader)))
    looked.findings += _failed(reader)
    looked.findings += _never_told(reader)
    if workspace.environ.get(MLFLOW_URI_VARIABLE):
        where = without_password(workspace.mlflow_uri)
        looked.notes.append(f"MLflow at {where} is not checked: only the store in the workspace is.")
        return looked
    if not workspace.mlflow_store.exists():
        n_logged = reader.rows("SELECT COUNT(*) AS n FROM mlflow_outbox WHERE logged_at IS NOT NULL")[0]["n"]
        if n_logged:
            what = f"MLflow's store is missing, and {n_logged:,} runs were logged to it"
            remedy = "`synthtrack mlflow sync --rebuild` logs them again."
            looked.findings.append(Finding(MLFLOW, what, _store(workspace), remedy, LOG))
        return looked
    try:
        _compare(reader, workspace, looked)
    except sqlite3.DatabaseError as error:
        remedy = "Move mlruns/ away, then `synthtrack mlflow sync --rebuild` makes it again from the record."
        looked.findings.append(Finding(MLFLOW, f"its store cannot be read: {error}", _store(workspace), remedy))
    return looked


def _compare(reader: Reader, workspace: Workspace, looked: Looked) -> None:
    uri = f"{workspace.mlflow_store.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=workspace.busy_timeout)) as store:
        there = {run for (run,) in store.execute("SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'")}
        tagged = store.execute(
            f"SELECT t.key, t.value, t.run_uuid FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "  # noqa: S608  marks for values alone
            f"WHERE t.key IN ({', '.join('?' * len(_TAGS))}) AND r.lifecycle_stage = 'active'",
            _TAGS,
        ).fetchall()
    after, known = 0, set()
    while rows := reader.rows(_LOGGED, after=after):
        after = rows[-1]["id"]
        looked.n_runs += len(rows)
        for row in rows:
            known.add(row["mlflow_run_id"])
            if row["mlflow_run_id"] not in there:
                what = f"the run of a {row['kind'].replace('_', ' ')} is not there any more"
                where = f"MLflow run {row['mlflow_run_id']}"
                looked.findings.append(Finding(MLFLOW, what, where, _SYNC, LOG, row["id"]))
    strange = [found for found in tagged if found[2] not in known]
    looked.findings += _strangers(reader, strange) if strange else ()


def _strangers(reader: Reader, tagged: list[tuple[str, str, str]]) -> Iterator[Finding]:
    """Runs in MLflow whose thing the record does not have: it was deleted by hand, or came after a backup."""
    own = {(f"synthtrack.{row['kind']}", row["uuid"]) for row in reader.rows(_UUIDS)}
    # A sweep's runs bear its tag too, and are known by their own.
    known = {run for tag, uuid, run in tagged if (tag, uuid) in own}
    for run, (tag, uuid) in {run: (tag, uuid) for tag, uuid, run in tagged if run not in known}.items():
        kind = tag.removeprefix("synthtrack.").replace("_", " ")
        what = f"it shows a {kind} ({uuid[:8]}) that the record does not have"
        remedy = "`synthtrack verify --fix` puts it out of sight, unless the backup that has it is restored."
        yield Finding(MLFLOW, what, f"MLflow run {run}", remedy, f"{HIDE}{run}")


def _waiting(reader: Reader) -> Iterator[str]:
    """What is still to be logged, and waits for long: nobody may want MLflow, so it is no fault."""
    before = clock.to_text(clock.now() - _LONG)
    waiting = [entry for entry in outbox.pending(reader) if entry.created_at < before]
    if waiting:
        since = min(entry.created_at for entry in waiting)[:10]
        yield f"MLflow has not been told of {len(waiting):,} runs since {since}: `synthtrack mlflow sync` tells it."


def _failed(reader: Reader) -> Iterator[Finding]:
    [row] = reader.rows(_FAILED)
    if row["n"]:
        first = row["error"].splitlines()[0]
        what = f"{row['n']:,} {'run' if row['n'] == 1 else 'runs'} could not be logged: {first}"
        yield Finding(MLFLOW, what, "outbox", "`synthtrack mlflow sync` tries again.", LOG)


def _never_told(reader: Reader) -> Iterator[Finding]:
    for row in reader.rows(_NEVER):
        what = "it has ended, and nothing says that MLflow is to be told"
        where = f"{row['kind'].replace('_', ' ')} {row['uuid'][:8]}"
        remedy = "`synthtrack verify --fix` puts it into the outbox and logs it."
        yield Finding(MLFLOW, what, where, remedy, f"{LOG} {row['kind']}", row["id"])


def _store(workspace: Workspace) -> str:
    return workspace.relative(workspace.mlflow_store)
