"""MLflow that is broken, locked, gone, refusing, silent or slow: the data is made all the same, and it is told later.

Covered here: `generate` and `mlflow sync`. How a drain goes on after a kill and what it doubles (nothing):
``tests/tracker/mlflow_runs/test_mlflow_log.py``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

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


@contextlib.contextmanager
def tracking_server(directory: Path) -> Iterator[int]:
    """The port of MLflow's own server with a store of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{directory}/server.db", "--artifacts-destination", str(directory / "files"),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None
                time.sleep(0.2)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def slowed(port: int, seconds: float, passed: list[bytes]) -> Iterator[str]:
    """The address of what passes everything on to ``port``, each thing that is sent so many seconds later."""

    def forward(source: socket.socket, target: socket.socket, delay: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if delay:
                    passed.append(data)
                    time.sleep(delay)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, far = server.accept()[0], socket.create_connection(("127.0.0.1", port))
                    threading.Thread(target=forward, args=(near, far, seconds), daemon=True).start()
                    threading.Thread(target=forward, args=(far, near, 0.0), daemon=True).start()

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_server_that_takes_two_seconds_for_each_request_costs_time_and_no_data(root: Path, tmp_path: Path) -> None:
    passed: list[bytes] = []
    with tracking_server(tmp_path) as port, slowed(port, 2.0, passed) as address:
        done = finish(start(root, "generate", "copa.yaml", environ={"MLFLOW_TRACKING_URI": address}), timeout=600)
        assert (done.code, LATER in done.err) == (0, False), done.err
        client = MlflowClient(f"http://127.0.0.1:{port}")
        found = client.search_runs([each.experiment_id for each in client.search_experiments()])
        assert [run.info.status for run in found] == ["FINISHED"]
    assert train_file(root, OFFLINE).exists()
    assert rows(root, "SELECT logged_at IS NOT NULL, error FROM mlflow_outbox") == [(1, None)]
    assert len(passed) > 10


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
