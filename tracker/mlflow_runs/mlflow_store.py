"""MLflow's store and the runs in it: the only module that imports MLflow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tracker.errors import StorageError
from tracker.mlflow_runs.kinds import BY_OWN_TAG, ENDED_TAG, KINDS
from tracker.mlflow_runs.mlflow_run import ENDED, Input, MlflowRun, directory_name
from tracker.paths import MLFLOW_URI_VARIABLE, Workspace, without_password
from tracker.record.catalogue import reading
from tracker.record.outbox import Entry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

QUIET = {
    # The second is only heeded as the word "true".
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Its own seven tries make a command wait four minutes for a server that is not there.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    # Of one that takes requests and says nothing it waits two minutes for each.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment that keeps MLflow from reporting on its users and from chatting; what the user has set stays."""
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
_MAX_PARAMS = 100
_MAX_METRICS = 1000
_FIRST_METRICS = _MAX_METRICS - 2 * _MAX_PARAMS
"""A batch takes so many metrics, parameters and tags altogether, of the latter two at most a hundred each."""
_MIGRATION_S = 120.0
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_PATIENCE_S = 10.0


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


class Store:
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
        kind = KINDS[entry.kind]
        own = {kind.tag: entry.uuid, **({ENDED_TAG: entry.ended_at} if kind.may_end_anew else {})}
        experiment = self._experiment(entry.purpose)
        found = self._client.search_runs([experiment], f"tags.`{kind.tag}` = '{entry.uuid}'", max_results=1)
        there = found[0] if found else None
        is_of_now = there is not None and own.items() <= there.data.tags.items()
        if there is not None and is_of_now and there.info.status in ENDED:
            return True, str(there.info.run_id)
        with reading(self._workspace) as reader:
            run = kind.load(reader, self._workspace, entry.subject_id)
        if there is not None and not (is_of_now and there.data.params.items() <= run.parameters.items()):
            # Logged before it went on, or begun by another version of synthtrack: MLflow refuses to change a parameter.
            self._client.delete_run(there.info.run_id)
            there = None
        run_id = str((there or self._client.create_run(experiment, run.started, own, run.title)).info.run_id)
        self._complete(run_id, run)
        return False, run_id

    def close(self) -> None:
        """Leaves no connection open, which SQLite would find at the next start."""
        if is_ours(self._workspace):
            _store_of(self._client).engine.dispose()

    def analyze(self) -> None:
        """Lets SQLite see what it holds now, by which it plans how MLflow's lists are sorted."""
        if is_ours(self._workspace):
            with contextlib.closing(sqlite3.connect(self._workspace.mlflow_store, timeout=30)) as connection:
                connection.execute("ANALYZE")

    def _experiment(self, purpose: str) -> str:
        if purpose not in self._experiments:
            self._experiments[purpose] = _experiment(self._client, self._workspace, purpose)
        return self._experiments[purpose]

    def _complete(self, run_id: str, run: MlflowRun) -> None:
        self._log_figures(run_id, run)
        self._client.log_inputs(run_id, [_input(given) for given in run.inputs])
        tables = {name: json.dumps(rows, ensure_ascii=False).encode() for name, rows in run.tables.items()}
        with tempfile.TemporaryDirectory(prefix="synthtrack-") as directory:
            for name, content in {**run.files(), **tables}.items():
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._client.log_artifacts(run_id, directory)
        # Last, so that a run with such a status is known to be whole.
        self._client.set_terminated(run_id, run.status, run.ended)

    def _log_figures(self, run_id: str, run: MlflowRun) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in run.points]
        params = [Param(name, value) for name, value in run.parameters.items()]
        tags = [RunTag(name, value) for name, value in run.tags.items()]
        # What `log_table` notes; it would append to the table of a run that is logged again.
        tables = [{"path": name, "type": "table"} for name in run.tables]
        tags.append(RunTag("mlflow.loggedArtifacts", json.dumps(tables)))
        self._client.log_batch(run_id, metrics[:_FIRST_METRICS], params[:_MAX_PARAMS], tags)
        for start in range(_MAX_PARAMS, len(params), _MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
        for start in range(_FIRST_METRICS, len(metrics), _MAX_METRICS):
            self._client.log_batch(run_id, metrics[start : start + _MAX_METRICS])


def delete_runs(workspace: Workspace, run_ids: Iterable[str]) -> str | None:
    """Puts runs out of sight, where they are; MLflow keeps them as deleted. What MLflow said where it failed."""
    return _on_runs(workspace, run_ids, "active", lambda client, run_id: client.delete_run(run_id))


def bring_back(workspace: Workspace, run_ids: Iterable[str]) -> str | None:
    """Makes deleted runs to be seen again, where MLflow still has them. What MLflow said where it failed."""
    return _on_runs(workspace, run_ids, "deleted", lambda client, run_id: client.restore_run(run_id))


def _on_runs(
    workspace: Workspace, run_ids: Iterable[str], stage: str, act: Callable[[MlflowClient, str], None]
) -> str | None:
    if is_ours(workspace) and not workspace.mlflow_store.exists():
        return None
    from mlflow.exceptions import MlflowException

    try:
        client = _client(workspace)
        for run_id in run_ids:
            try:
                if client.get_run(run_id).info.lifecycle_stage == stage:
                    act(client, run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    except Exception as error:  # noqa: BLE001  whatever fails in MLflow, the record is right, and it can be told later
        return without_password(f"{type(error).__name__}: {error}")[:4000]
    return None


@dataclass(slots=True)
class Leftovers:
    """What MLflow's own store holds that the record knows nothing of; purged: what was deleted is gone for good."""

    unknown: list[str] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)
    error: str | None = None


def clear(workspace: Workspace, age: timedelta, *, dry_run: bool) -> Leftovers:
    """Puts runs of ours that no row knows out of sight, and removes those that were for longer than ``age``.

    With the latter go their files, and directories of files whose run is in no store. Only in the workspace's own
    store; what cannot be read is said in ``error``.
    """
    found = Leftovers()
    if not is_ours(workspace) or not workspace.mlflow_store.exists():
        return found
    try:
        _clear(workspace, found, age, dry_run=dry_run)
    except Exception as error:  # noqa: BLE001  whatever fails in MLflow, it is a view, and can be cleared later
        found.error = without_password(f"{type(error).__name__}: {error}")[:4000]
    return found


def _clear(workspace: Workspace, found: Leftovers, age: timedelta, *, dry_run: bool) -> None:
    client = _client(workspace)
    store = _store_of(client)
    with FileLock(workspace.root / ".mlflow.lock", timeout=_PATIENCE_S), reading(workspace) as reader:
        known = {
            KINDS[name].tag: {row["uuid"] for row in reader.rows(f"SELECT uuid FROM {name}")}  # noqa: S608  our tables
            for name in BY_OWN_TAG
        }
        old = set(store._get_deleted_runs(int(age.total_seconds() * 1000)))  # noqa: SLF001  the same
        seen = set()
        for run_id, tags, is_active in _every_run(client):
            seen.add(run_id)
            tag = next((tag for tag in known if tag in tags), None)
            if is_active and tag is not None and tags[tag] not in known[tag]:
                found.unknown.append(run_id)
            elif not is_active and tag is not None and run_id in old:
                found.purged.append(run_id)
        gone = {path for path in workspace.mlflow_store.parent.glob("artifacts/*/*") if _RUN_ID.fullmatch(path.name)}
        found.directories = sorted(path for path in gone if path.name not in seen or path.name in found.purged)
        if not dry_run:
            for run_id in found.unknown:
                client.delete_run(run_id)
            for run_id in found.purged:
                store._hard_delete_run(run_id)  # noqa: SLF001  as `mlflow gc` does it
            for directory in found.directories:
                shutil.rmtree(directory)
                with contextlib.suppress(OSError):
                    directory.parent.rmdir()


def _every_run(client: MlflowClient) -> Iterator[tuple[str, dict[str, str], bool]]:
    """The id and tags of every run, and whether it is to be seen."""
    from mlflow.entities import ViewType

    experiments = [each.experiment_id for each in client.search_experiments(view_type=ViewType.ALL)]
    token: str | None = None
    while experiments:
        page = client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=_MAX_METRICS, page_token=token)
        yield from ((run.info.run_id, run.data.tags, run.info.lifecycle_stage == "active") for run in page)
        token = page.token
        if not token:
            return


def get_ready(workspace: Workspace) -> None:
    """Loads what logging a run needs and opens the workspace's own store, made where there is none.

    That takes seconds, for whoever has a thread to spare before a run is to be logged; no server is asked. Raises what
    MLflow raises.
    """
    if is_ours(workspace):
        _client(workspace)
    else:
        _be_quiet()
        import mlflow  # noqa: F401  to have it loaded is all that is wanted
    import matplotlib.backends.backend_agg  # noqa: F401  the same


def _be_quiet() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _client(workspace: Workspace) -> MlflowClient:
    """MLflow on this workspace's store, which is made where there is none. Raises what MLflow raises."""
    _be_quiet()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What fails is said by whoever asked, in a line, and not with the stack of every retry.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    made = is_ours(workspace) and _make_store(workspace)
    from mlflow import MlflowClient

    client = MlflowClient(workspace.mlflow_uri)
    if is_ours(workspace):
        engine = _store_of(client).engine
        if made:
            # MLflow keeps connections by address; these may lead to a deleted file of the same name.
            engine.dispose()
        with contextlib.ExitStack() as stack:
            # With WAL that is as safe against a crash of the process, and no commit waits for the disk.
            for connection in [stack.enter_context(engine.connect()) for _ in range(engine.pool.size())]:
                connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
    return client


def _store_of(client: MlflowClient) -> Any:
    """What is behind a client of a store of our own: its connections, and what removes runs for good."""
    return client._tracking_client.store  # noqa: SLF001  neither is in a public interface


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

        from tracker.record.database import unsynced

        beside = path.with_name(".mlflow.db.new")
        store: Any = SqlAlchemyStore
        # It commits its 67 migrations one by one: waiting for the disk each time took most of ten seconds.
        with unsynced(beside):
            store(f"sqlite:///{beside}", str(path.parent / "artifacts")).engine.dispose()
        with contextlib.closing(sqlite3.connect(beside)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.rename(path)
    return True


def _experiment(client: MlflowClient, workspace: Workspace, purpose: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(purpose)
    if found is None:
        location = None
        if workspace.mlflow_uri.startswith(_DATABASES):
            # A bare database has no place for files; MLflow would take the current directory, once and for all.
            location = str(workspace.mlflow_store.parent / "artifacts" / directory_name(purpose))
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


def _input(given: Input) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": kind, "required": True} for name, kind in given.columns]
    schema = json.dumps({"mlflow_colspec": columns}) if columns else None
    source, profile = json.dumps({"uri": given.uri}), json.dumps({"num_rows": given.n_records})
    dataset = Dataset(given.name, given.digest, "local", source, schema, profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", given.context)])
