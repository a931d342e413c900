"""Tells MLflow what the record holds: the only module that imports it.

MLflow is a view. Each outbox row becomes one flat run, found again by its tag; deleted runs can be made again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tracker import clock, outbox, plots, run_note, run_report, step_report
from tracker.catalogue import reading
from tracker.configs import to_yaml
from tracker.errors import StorageError
from tracker.fingerprint import Json
from tracker.outbox import Entry
from tracker.paths import MLFLOW_URI_VARIABLE, Workspace, without_password
from tracker.run_report import RunReport
from tracker.view_rows import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

    from tracker.database import Database

QUIET = {
    # The second is only heeded as the word "true".
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Its own seven tries make a command wait four minutes for a server that is not there.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment that keeps MLflow from reporting on its users and from chatting; what the user has set stays."""
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
_MAX_PARAMS = 100
_MANY = 100
PATIENCE_S = 10.0
"""How long a command that has other things to do waits for another process to log its runs."""
_POLL_S = 0.5
_MIGRATION_S = 120.0


@dataclass(slots=True)
class Drained:
    """What came of a drain."""

    logged: int = 0
    already_there: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)


def drain(
    workspace: Workspace,
    *,
    rebuild: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    patience_s: float | None = PATIENCE_S,
    on_wait: Callable[[], None] = lambda: None,
) -> Drained:
    """Logs every outbox row that is not logged yet; ``rebuild``: also those whose MLflow run is gone.

    What cannot be logged stays in the outbox with its error and is counted, never raised. ``on_progress`` is told
    (done, total). While another process drains, this calls ``on_wait`` once and waits until that one has logged
    everything or ends, at most ``patience_s`` (None: as long as it takes): a drainer looks for new rows before it ends,
    so what is left then is its next. Raises UnknownReference where there is no workspace, StorageError where the
    workspace cannot be written.
    """
    waiting = partial(_waiting, workspace, rebuild=rebuild)
    lock = FileLock(workspace.root / ".mlflow.lock")
    if not waiting() or not _acquired(lock, waiting, patience_s, on_wait):
        return Drained()
    try:
        return _drain_all(workspace, waiting, on_progress)
    finally:
        lock.release()


def _acquired(
    lock: FileLock, waiting: Callable[[], list[Entry]], patience_s: float | None, on_wait: Callable[[], None]
) -> bool:
    """Whether it is this process's turn: not where another one did the work, or takes longer than we have patience."""
    end = None if patience_s is None else clock.monotonic() + patience_s
    told = False
    while True:
        try:
            lock.acquire(timeout=0 if not told else _POLL_S)
        except Timeout:
            if not told:
                told = True
                on_wait()
        except OSError as error:
            raise StorageError(
                f"{lock.lock_file} cannot be written: {error.strerror or error}.",
                hint="MLflow is logged to by who may write the workspace; the record itself can be read.",
            ) from error
        else:
            return True
        if (end is not None and clock.monotonic() >= end) or not waiting():
            return False


def _drain_all(
    workspace: Workspace, waiting: Callable[[], list[Entry]], on_progress: Callable[[int, int], None] | None
) -> Drained:
    from tracker.database import open_database

    drained = Drained()
    seen: set[int] = set()
    with open_database(workspace) as database:
        # Who came meanwhile and did not want to wait relies on being looked for once more.
        while entries := [entry for entry in waiting() if entry.id not in seen]:
            seen.update(entry.id for entry in entries)
            _drain(workspace, database, drained, entries, on_progress)
    return drained


def experiment_ids(workspace: Workspace, purposes: set[str]) -> dict[str, str]:
    """MLflow's experiment id of each purpose that it knows. Raises StorageError where its store cannot be opened."""
    try:
        client = _client(workspace)
        found = {purpose: client.get_experiment_by_name(purpose) for purpose in sorted(purposes)}
    # MLflow fails with SQLAlchemy's, requests' and its own exceptions, and all mean that it cannot be reached.
    except Exception as error:
        raise StorageError(
            f"MLflow at {without_password(workspace.mlflow_uri)} cannot be reached: {without_password(str(error))}",
            hint=f"Check {MLFLOW_URI_VARIABLE}, or move mlruns/ away and run `synthtrack mlflow sync --rebuild`.",
        ) from error
    return {purpose: experiment.experiment_id for purpose, experiment in found.items() if experiment is not None}


def _waiting(workspace: Workspace, *, rebuild: bool) -> list[Entry]:
    with reading(workspace) as reader:
        return outbox.pending(reader, everything=rebuild)


def _drain(
    workspace: Workspace,
    database: Database,
    drained: Drained,
    entries: list[Entry],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    store: _Store | None = None
    for done, entry in enumerate(entries, 1):
        try:
            # A store that does not answer fails at once here, not once per run after all its retries.
            store = store or _Store(workspace)
            there, run_id = store.log(entry)
        except Exception as error:  # noqa: BLE001  whatever fails in MLflow, the data is made and recorded
            _fail(database, drained, entries[done - 1 :] if store is None else [entry], error)
            if store is None:
                break
            store = store if store.answers() else None
        else:
            outbox.mark_logged(database, entry, run_id)
            drained.already_there += there
            drained.logged += not there
        if on_progress is not None:
            on_progress(done, len(entries))
    if store is not None and len(entries) >= _MANY:
        store.analyze()


def _fail(database: Database, drained: Drained, entries: list[Entry], error: Exception) -> None:
    # MLflow repeats the address it was given, with the password in it.
    text = without_password(f"{type(error).__name__}: {error}")[:4000]
    for entry in entries:
        outbox.mark_failed(database, entry, text)
    drained.failed += len(entries)
    if text not in drained.errors:
        drained.errors.append(text)


class _Store:
    """An open MLflow store."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._client = _client(workspace)
        self._experiments: dict[str, str] = {}

    def answers(self) -> bool:
        """Whether it can still be asked, after something went wrong."""
        try:
            self._client.search_experiments(max_results=1)
        except Exception:  # noqa: BLE001  this asks whether it fails, in whatever way
            return False
        return True

    def log(self, entry: Entry) -> tuple[bool, str]:
        """(whether it was there already, the MLflow run's id)."""
        experiment = self._experiment(entry.purpose)
        found = self._client.search_runs([experiment], f"tags.`{run_report.RUN_TAG}` = '{entry.uuid}'", max_results=1)
        if found and found[0].info.status in run_report.ENDED:
            return True, str(found[0].info.run_id)
        with reading(self._workspace) as reader:
            report = run_report.load_report(reader, entry.generation_run_id)
        run_id = str(found[0].info.run_id) if found else None
        if run_id and not found[0].data.params.items() <= run_report.parameters(report).items():
            # Begun by another version of synthtrack: MLflow refuses to change a parameter.
            self._client.delete_run(run_id)
            run_id = None
        run_id = run_id or self._begin(experiment, report)
        self._complete(run_id, report)
        return False, run_id

    def analyze(self) -> None:
        """Lets SQLite see what it holds now: sorting by a metric is fifty times faster after it."""
        if is_ours(self._workspace):
            with contextlib.closing(sqlite3.connect(self._workspace.mlflow_store, timeout=30)) as connection:
                connection.execute("ANALYZE")

    def _experiment(self, purpose: str) -> str:
        if purpose not in self._experiments:
            self._experiments[purpose] = _experiment(self._client, self._workspace, purpose)
        return self._experiments[purpose]

    def _begin(self, experiment: str, report: RunReport) -> str:
        start = run_report.milliseconds(report.run["started_at"])
        own = {run_report.RUN_TAG: report.run["uuid"]}
        return str(self._client.create_run(experiment, start, own, report.title).info.run_id)

    def _complete(self, run_id: str, report: RunReport) -> None:
        self._log_figures(run_id, report)
        self._client.log_inputs(run_id, _inputs(report, self._workspace))
        with tempfile.TemporaryDirectory(prefix="synthtrack-") as directory:
            for name, content in _files(report, self._workspace).items():
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, directory)
        # Last, so that a run with such a status is known to be whole.
        end = run_report.milliseconds(report.run["finished_at"] or report.run["started_at"])
        self._client.set_terminated(run_id, report.status, end)

    def _log_figures(self, run_id: str, report: RunReport) -> None:
        from mlflow.entities import Metric, Param, RunTag

        time = run_report.milliseconds(report.run["finished_at"] or report.run["started_at"])
        metrics = [Metric(name, value, time, 0) for name, value in run_report.metrics(report).items()]
        metrics += [
            Metric("generation/acceptance_rate_so_far", value, time, step)
            for step, value in run_report.acceptance_curve(report)
        ]
        params = [Param(name, value) for name, value in run_report.parameters(report).items()]
        tags = [RunTag(name, value) for name, value in run_report.tags(report).items()]
        tags.append(RunTag("mlflow.note.content", run_note.note(report, self._workspace)))
        # What `log_table` notes; it would append to the table of a run that is logged again.
        tables = [{"path": name, "type": "table"} for name in _tables(report)]
        tags.append(RunTag("mlflow.loggedArtifacts", json.dumps(tables)))
        self._client.log_batch(run_id, metrics, params[:_MAX_PARAMS], tags)
        for start in range(_MAX_PARAMS, len(params), _MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])


def _client(workspace: Workspace) -> MlflowClient:
    """MLflow on this workspace's store, which is made where there is none. Raises what MLflow raises."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    made = is_ours(workspace) and _make_store(workspace)
    from mlflow import MlflowClient

    client = MlflowClient(workspace.mlflow_uri)
    if is_ours(workspace):
        engine = client._tracking_client.store.engine  # noqa: SLF001  the only way to its connections
        if made:
            # MLflow keeps connections by address; these may lead to a deleted file of the same name.
            engine.dispose()
        with contextlib.ExitStack() as stack:
            # With WAL that is as safe against a crash of the process, and no commit waits for the disk.
            for connection in [stack.enter_context(engine.connect()) for _ in range(engine.pool.size())]:
                connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
    return client


def is_ours(workspace: Workspace) -> bool:
    """Whether MLflow's store is the file under ``mlruns/``, not one that the environment names."""
    return not workspace.environ.get(MLFLOW_URI_VARIABLE)


def _make_store(workspace: Workspace) -> bool:
    """Whether a new store had to be made."""
    # One that appears under its name is complete: two processes that migrate it at once destroy each other's work.
    path = workspace.mlflow_store
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.root / ".mlflow.db.lock", timeout=_MIGRATION_S):
        if path.exists():
            return False
        for leftover in path.parent.glob(".mlflow.db.new*"):
            leftover.unlink()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        beside = path.with_name(".mlflow.db.new")
        store: Any = SqlAlchemyStore
        store(f"sqlite:///{beside}", str(path.parent / "artifacts")).engine.dispose()
        with contextlib.closing(sqlite3.connect(beside)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        beside.rename(path)
    return True


def _experiment(client: MlflowClient, workspace: Workspace, purpose: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(purpose)
    if found is None:
        location = None
        if workspace.mlflow_uri.startswith(_DATABASES):
            # A bare database has no place for files; MLflow would take the current directory, once and for all.
            location = str(workspace.mlflow_store.parent / "artifacts" / run_report.directory_name(purpose))
        try:
            return client.create_experiment(purpose, location, {"synthtrack.purpose": purpose})
        except MlflowException:
            # On a server that several workspaces share, another was quicker.
            found = client.get_experiment_by_name(purpose)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _inputs(report: RunReport, workspace: Workspace) -> list[DatasetInput]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    run = report.run
    schema = json.dumps(
        {
            "mlflow_colspec": [
                {"name": n, "type": t, "required": True} for n, t in run_report.columns(report.first_record)
            ]
        }
    )
    data = str(workspace.experiment_dir(run["dataset"], run["name"]))
    wanted = [("source", run["dataset"], run["source_digest"], run["source_origin"])]
    if report.data_digest:
        wanted.append(("generated", report.reference, report.data_digest, data))
    profile = json.dumps({"num_rows": run["e_n_records"]})
    return [
        DatasetInput(
            Dataset(name, digest[: run_report.DIGEST_LIMIT], "local", json.dumps({"uri": uri}), schema, profile),
            [InputTag("mlflow.data.context", context)],
        )
        for context, name, digest, uri in wanted
    ]


def _files(report: RunReport, workspace: Workspace) -> Mapping[str, bytes]:
    """The artifacts of a run by name. A run that reused data points to the run that holds it.

    All from the record: in the tree, anybody may have put a link or another file.
    """
    run = report.run
    config = json.loads(run["config"])
    found = {
        "config/config.json": json.dumps(config, indent=2, ensure_ascii=False).encode(),
        "config/generation_config.yaml": to_yaml(config).encode(),
        **{name: json.dumps(rows, ensure_ascii=False).encode() for name, rows in _tables(report).items()},
    }
    if report.step is not None and report.step.test is not None:
        found["plots/confusion.png"] = plots.confusion(report.title, report.step.confusion)
    elif not report.reused and not report.is_test:
        found["plots/overview.png"] = plots.overview(report.title, report.samples, report.attempts)
    if report.judges and not report.reused and run["experiment_status"] != "unfinished":
        with reading(workspace) as reader:
            files = Record(reader).data_files(run["shared_experiment_id"])
        found |= {f"data/{name}": content for name, content in files.items()}
    return found


def _tables(report: RunReport) -> dict[str, dict[str, Json]]:
    """The tables of a run in the form of MLflow's ``log_table``, by name; of the first, runs are compared unasked."""
    found = {}
    if report.step is not None and report.step.test is not None:
        found["judge_test.json"] = step_report.judge_table(report.step)
    found["samples.json"] = run_report.table(report)
    if report.step is not None and report.step.checkpoints.names:
        found["decisions.json"] = step_report.decisions_table(report.step)
    return found
