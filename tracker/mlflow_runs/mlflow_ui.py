"""Starts MLflow's user interface on a workspace's store, in its light form, and links into it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tracker.errors import Conflict, StorageError
from tracker.mlflow_runs import training_report
from tracker.mlflow_runs.mlflow_store import QUIET, experiment_ids
from tracker.paths import Workspace
from tracker.record.catalogue import Row, reading

START_TIMEOUT_S = 120.0
_PATIENCE_S = 10.0
MAX_COMPARED = 20
"""Runs of one comparison: more columns than that cannot be read."""
_MODE = "workflowType=machine_learning"

# A step of strategy two_stage that makes no data compares with no data set.
_RUNS = """
    WITH logged AS (
        SELECT o.id, o.mlflow_run_id, r.batch_id, r.shared_experiment_id, r.purpose
        FROM mlflow_outbox o JOIN generation_run r ON r.id = o.generation_run_id
        WHERE o.mlflow_run_id IS NOT NULL AND (r.step IS NULL OR r.step = 'validate'))
    SELECT b.name AS batch, l.purpose, l.mlflow_run_id FROM logged l JOIN batch b ON b.id = l.batch_id
    WHERE l.id IN (SELECT MAX(id) FROM logged GROUP BY batch_id, shared_experiment_id)
      AND l.batch_id IN (
        SELECT batch_id FROM logged GROUP BY batch_id HAVING COUNT(DISTINCT shared_experiment_id) > 1
        ORDER BY MAX(id) DESC LIMIT :batches)
    ORDER BY b.id DESC, l.id"""
_TESTS = """
    WITH logged AS (
        SELECT o.id, o.mlflow_run_id, r.batch_id, r.purpose
        FROM mlflow_outbox o JOIN judge_test t ON t.generation_run_id = o.generation_run_id
        JOIN generation_run r ON r.id = t.generation_run_id WHERE o.mlflow_run_id IS NOT NULL)
    SELECT b.name AS batch, l.purpose, l.mlflow_run_id FROM logged l JOIN batch b ON b.id = l.batch_id
    WHERE l.batch_id IN (
        SELECT batch_id FROM logged GROUP BY batch_id HAVING COUNT(*) > 1 ORDER BY MAX(id) DESC LIMIT :batches)
    ORDER BY b.id DESC, l.id"""

_TRAININGS = """
    WITH logged AS (
        SELECT r.id, o.mlflow_run_id, r.purpose FROM mlflow_outbox o JOIN training_run r ON r.id = o.training_run_id
        WHERE o.mlflow_run_id IS NOT NULL
          AND r.id IN (SELECT MAX(id) FROM training_run WHERE status = 'complete' GROUP BY fingerprint))
    SELECT l.purpose AS batch, l.purpose, l.mlflow_run_id FROM logged l
    JOIN (SELECT purpose, MAX(id) AS newest FROM logged GROUP BY purpose HAVING COUNT(*) > 1
          ORDER BY MAX(id) DESC LIMIT :batches) p ON p.purpose = l.purpose
    ORDER BY p.newest DESC, l.id"""
_AGENTS = """
    WITH logged AS (
        SELECT r.id, o.mlflow_run_id, 'perspectives_' || d.task_type AS purpose
        FROM mlflow_outbox o JOIN agent_run r ON r.id = o.agent_run_id JOIN agent_dataset d ON d.id = r.agent_dataset_id
        WHERE o.mlflow_run_id IS NOT NULL AND d.data_digest IS NOT NULL
          AND r.id IN (SELECT MAX(id) FROM agent_run WHERE outcome <> 'reused' AND status IN ('complete', 'partial')
                       GROUP BY agent_dataset_id))
    SELECT l.purpose AS batch, l.purpose, l.mlflow_run_id FROM logged l
    JOIN (SELECT purpose, MAX(id) AS newest FROM logged GROUP BY purpose HAVING COUNT(*) > 1
          ORDER BY MAX(id) DESC LIMIT :batches) p ON p.purpose = l.purpose
    ORDER BY p.newest DESC, l.id"""
TRAINING_RUN, JUDGE_TEST, GENERATION_RUN, AGENT_RUN = "training run", "judge test", "run", "agent run"
_KINDS = {TRAINING_RUN: _TRAININGS, GENERATION_RUN: _RUNS, JUDGE_TEST: _TESTS, AGENT_RUN: _AGENTS}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side: of a batch the latest of each of its experiments, or (``kind``) its judge tests.

    Of a training purpose, which then stands in ``batch``, the latest complete run of each point; of a task of
    `perspectives`, whose purpose then stands there, the run that finished each data set.
    """

    batch: str
    kind: str
    n_runs: int
    url: str
    samples_url: str


def experiments_link(base: str) -> str:
    """The list of MLflow's experiments."""
    return f"{base}/#/experiments?{_MODE}"


def comparisons(workspace: Workspace, base: str, *, batches: int = 3) -> list[Comparison]:
    """A link for each training purpose and batch of two or more runs or judge tests, the newest first of each kind."""
    with reading(workspace) as reader:
        rows = [row | {"kind": kind} for kind, sql in _KINDS.items() for row in reader.rows(sql, batches=batches)]
    ids = experiment_ids(workspace, {row["purpose"] for row in rows})
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["purpose"] in ids:
            found.setdefault((row["batch"], row["kind"]), []).append(row)
    return [
        _comparison(base, batch, kind, of[-MAX_COMPARED:], ids) for (batch, kind), of in found.items() if len(of) > 1
    ]


def _comparison(base: str, batch: str, kind: str, rows: list[Row], ids: dict[str, str]) -> Comparison:
    runs = [row["mlflow_run_id"] for row in rows]
    experiments = list(dict.fromkeys(ids[row["purpose"]] for row in rows))
    samples = _table_link(base, experiments[0], _filter(batch, kind, runs))
    return Comparison(batch, kind, len(runs), _compare_link(base, runs, experiments), samples)


def _compare_link(base: str, runs: list[str], experiments: list[str]) -> str:
    parameters = {"runs": runs, "experiments": experiments}
    query = "&".join(f"{name}={quote(json.dumps(value, separators=(',', ':')))}" for name, value in parameters.items())
    return f"{base}/#/compare-runs?{query}&{_MODE}"


def _table_link(base: str, experiment: str, chosen: str) -> str:
    where = f"{_MODE}&compareRunsMode=ARTIFACT&searchFilter={quote(chosen, safe='')}"
    return f"{base}/#/experiments/{experiment}/runs?{where}"


def _filter(batch: str, kind: str, runs: list[str]) -> str:
    if kind == TRAINING_RUN:
        return f"tags.`{training_report.KIND_TAG}` = 'training_run'"
    if kind == AGENT_RUN:
        # The very runs that were counted: others of the task failed, or made what a later one finished.
        counted = ", ".join(f"'{run}'" for run in runs)
        return f"attributes.run_id IN ({counted})"
    mark = '"' if "'" in batch else "'"
    step = " AND tags.`synthtrack.step` = 'judge_test'" if kind == JUDGE_TEST else ""
    return f"tags.`synthtrack.batch` = {mark}{batch}{mark}{step}"


@contextlib.contextmanager
def served(workspace: Workspace, host: str, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """MLflow's server while the context lasts: its address and process; none of its processes is left afterwards.

    Raises Conflict where the port is taken, StorageError where the server does not start.
    """
    _check_free(host, port)
    base = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104  compared, not bound
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            _command(workspace, host, port),
            # In a group of its own: Ctrl-C reaches us alone, and we end the group.
            start_new_session=True,
            env={**QUIET, **workspace.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=_existing(workspace.mlflow_store.parent, workspace.root),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _answers(f"{base}/health", process):
                output.seek(0)
                said = output.read().decode(errors="replace").strip().splitlines()[-8:]
                raise StorageError(
                    "\n".join(["MLflow's server did not start. It said:", *(f"  {line}" for line in said)]),
                    hint="`synthtrack mlflow sync` says whether its store can be opened.",
                )
            yield base, process
        finally:
            _end(process)


def _command(workspace: Workspace, host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(port)),
        *("--backend-store-uri", workspace.mlflow_uri, "--no-serve-artifacts"),
        *("--default-artifact-root", str(workspace.mlflow_store.parent / "artifacts")),
    ]


def _existing(directory: Path, otherwise: Path) -> Path:
    # Not Path.is_dir, which raises for names that are too long.
    return directory if os.path.isdir(directory) else otherwise  # noqa: PTH112


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                hint=f"Another `synthtrack ui` may run there. Choose another with --port {port + 1}.",
            ) from error


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    # Proxies are for the world outside; this server is here.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError), opener.open(url, timeout=5):
            return True
        time.sleep(0.2)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_PATIENCE_S)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        # Also after a second Ctrl-C, and for those of the group that outlive its first process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
