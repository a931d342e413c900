"""MLflow that is broken, locked, gone, refusing, silent or slow: the data is made all the same, and it is told later.

Covered here: `generate` and `mlflow sync`. How a drain goes on after a kill and what it doubles (nothing):
``tests/tracker/mlflow_runs/test_mlflow_log.py``.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlflow_reading import client_of
from tests.workspaces import call, config, execute, finish, new_root, rows, start, train_file, write_config
from tracker.paths import Workspace

OFFLINE = "temp07_topp10_rulesv1"
LATER = "1 run not logged yet; `synthtrack mlflow sync` tries again"
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = new_root(tmp_path, 12)
    write_config(root, config())
    return root


def is_logged_once(root: Path) -> bool:
    """Whether a sync brings the only run, and another one nothing."""
    done = execute(root, "mlflow", "sync")
    assert (done.code, done.out.split(" logged to ")[0]) == (0, "1 run"), done
    assert call(root, "mlflow", "sync").out.startswith("0 runs logged")
    client = client_of(Workspace(root, environ={}))
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return [run.info.status for run in found] == ["FINISHED"]


def test_a_broken_mlflow_store_costs_no_data(root: Path) -> None:
    (root / "mlruns").mkdir()
    (root / "mlruns/mlflow.db").write_text("no database at all")
    done = finish(start(root, "generate", "copa.yaml"))
    assert done.code == 0
    assert "1 run not logged yet; `synthtrack mlflow sync` tries again" in done.err
    assert train_file(root, OFFLINE).exists()
    shutil.rmtree(root / "mlruns")
    assert is_logged_once(root)


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and says nothing."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()


def test_a_server_that_refuses_or_says_nothing_costs_no_data(root: Path) -> None:
    with silent() as address:
        hangs = call(root, "generate", "copa.yaml", environ={"MLFLOW_TRACKING_URI": address, **IMPATIENT})
    assert (hangs.code, LATER in hangs.err) == (0, True), hangs.err
    refused = call(root, "mlflow", "sync", environ={"MLFLOW_TRACKING_URI": address, **IMPATIENT})
    assert (refused.code, "tries again" in refused.err) == (11, True), refused.err
    assert train_file(root, OFFLINE).exists()
    assert rows(root, "SELECT logged_at, error IS NULL FROM mlflow_outbox") == [(None, 0)]
    assert is_logged_once(root)


@pytest.mark.soak
def test_a_store_that_another_program_holds_costs_no_data(root: Path) -> None:
    assert execute(root, "generate", "copa.yaml").code == 0
    with contextlib.closing(sqlite3.connect(root / "mlruns/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process = start(root, "generate", "copa.yaml", "--set", "generation.temperature=0.9")
        done = finish(process, timeout=600)
    assert done.code == 0, done.err
    assert train_file(root, "temp09_topp10_rulesv1").exists()
    assert LATER in done.err
    assert execute(root, "mlflow", "sync").out.startswith("1 run logged")
