from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs

import psutil
import pytest
from filelock import FileLock

from cli.main import run
from tests.mlflow_rows import BATCH, add_run, workspace_at
from tests.workspaces import call, environment, finish, start
from tracker.mlflow_runs.mlflow_log import drain
from tracker.paths import MLFLOW_URI_VARIABLE, Workspace

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = workspace_at(tmp_path_factory.mktemp("workspace"))
    for number in range(3):
        add_run(workspace, number=number, n_records=5)
    add_run(workspace, n_records=5, outcome="reused")
    add_run(workspace, n_records=5, outcome="reused", batch="batch_alone")
    drain(workspace)
    return workspace


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start_ui(workspace: Workspace, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "--root", str(workspace.root), "ui", "--port", str(port)],
        cwd=workspace.root,
        env=environment({"HOME": str(workspace.root)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sync_logs_what_is_new_and_says_where(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(workspace.root), "mlflow", "sync"]) == 0
    assert capsys.readouterr().out == f"0 runs logged to {workspace.mlflow_uri}.\n"


def test_sync_rebuild_as_json(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mlflow", "sync", "--rebuild", "--json", "--root", str(workspace.root)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "logged": 0,
        "already_there": 5,
        "failed": 0,
        "errors": [],
        "tracking_uri": workspace.mlflow_uri,
    }


def test_sync_that_fails_says_so_and_that_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(workspace_at(tmp_path), n_records=5)
    monkeypatch.setenv(MLFLOW_URI_VARIABLE, "nonsense://host/store")
    assert run(["--root", str(tmp_path), "mlflow", "sync"]) == 11
    said = capsys.readouterr()
    assert said.out == "0 runs logged to nonsense://host/store.\n"
    assert "1 run could not be logged" in said.err
    assert "Nothing is lost" in said.err


def test_sync_without_a_workspace_names_the_way_to_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--root", str(tmp_path), "mlflow", "sync"]) == 4
    assert "synthtrack init" in capsys.readouterr().err


def test_sync_waits_for_who_logs_now_and_says_so(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    add_run(workspace, n_records=5)
    with FileLock(tmp_path / ".mlflow.lock"):
        process = start(tmp_path, "mlflow", "sync")
        assert process.stderr is not None
        assert process.stderr.readline() == "Another process is logging to MLflow; waiting for it.\n"
        with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
            connection.execute("UPDATE mlflow_outbox SET logged_at = 'now'")
            connection.commit()
        done = finish(process)
    assert (done.code, done.out) == (0, f"0 runs logged to {workspace.mlflow_uri}.\n")


@pytest.mark.parametrize("command", [("mlflow", "sync"), ("ui",)])
def test_a_workspace_that_cannot_be_written_is_told(command: tuple[str, ...], tmp_path: Path) -> None:
    add_run(workspace_at(tmp_path), n_records=5)
    (tmp_path / ".mlflow.lock").mkdir()
    done = call(tmp_path, *command)
    assert (done.code, done.out) == (11, "")
    assert f"{tmp_path}/.mlflow.lock cannot be written" in done.err


def test_ui_on_a_taken_port_names_the_option(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run(["--root", str(workspace.root), "ui", "--port", str(port)]) == 5
    assert f"--port {port + 1}" in capsys.readouterr().err


def test_ui_of_a_server_elsewhere_only_links_to_it(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(MLFLOW_URI_VARIABLE, nowhere)
    assert run(["--root", str(workspace.root), "ui"]) == 11
    assert f"{nowhere} cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ui_shows_this_store_links_into_it_and_leaves_no_process(workspace: Workspace, sign: signal.Signals) -> None:
    port = free_port()
    process = start_ui(workspace, port)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if "Ctrl-C" in line:
            break
    base = f"http://127.0.0.1:{port}"
    assert lines[0] == f"MLflow:  {base}/#/experiments?workflowType=machine_learning"
    # The second run of one experiment in a batch replaces the first; a batch with one run compares to nothing.
    assert lines[2] == f"Compare 3 runs of {BATCH}:"
    assert not any("batch_alone" in line for line in lines)
    address, _, query = lines[3].partition("?")
    assert address == f"{base}/#/compare-runs"
    linked = {name: json.loads(values[0]) for name, values in parse_qs(query).items() if name != "workflowType"}
    assert {ask(base, f"runs/get?run_id={run_id}")["run"]["info"]["experiment_id"] for run_id in linked["runs"]} == set(
        linked["experiments"]
    )
    assert lines[4] == "Their samples side by side:"
    children = psutil.Process(process.pid).children(recursive=True)
    assert 1 <= len(children) <= 3
    process.send_signal(sign)
    _, err = process.communicate()
    assert (process.returncode, err.splitlines()[-1]) == (0, "Stopped.")
    assert not any(child.is_running() for child in children)
    assert {entry.name for entry in workspace.root.iterdir()} <= {
        *(".mlflow.db.lock", ".mlflow.lock", ".tracker.db.lock", "Data_v2", "mlruns"),
        *("tracker.db", "tracker.db-shm", "tracker.db-wal"),
    }


def ask(base: str, what: str) -> dict[str, dict[str, dict[str, str]]]:
    with urllib.request.urlopen(f"{base}/api/2.0/mlflow/{what}", timeout=10) as answer:
        found: dict[str, dict[str, dict[str, str]]] = json.load(answer)
    return found
