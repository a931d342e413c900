"""Read back through MLflow's own client from real stores. They are slow to make, so tests share them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, Run
from sqlalchemy import Connection, Engine, event, text

from tests.mlflow_rows import BATCH, add_run, workspace_at
from tests.training_rows import GONE, Trained, add_sweep, workspace_with_data
from tracker.errors import StorageError
from tracker.fingerprint import bytes_digest
from tracker.mlflow_runs import generation_report, sweep_report, training_report
from tracker.mlflow_runs.mlflow_log import Drained, drain
from tracker.mlflow_runs.mlflow_run import milliseconds
from tracker.mlflow_runs.mlflow_store import experiment_ids, get_ready
from tracker.paths import MLFLOW_URI_VARIABLE, Workspace
from tracker.record import training
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.record.training import Measured, Registered
from tracker.views import synthetic_view

REPOSITORY = Path(__file__).parents[3]
DRAIN = """
import sys
from pathlib import Path
from tracker.mlflow_runs.mlflow_log import drain
from tracker.mlflow_runs.mlflow_store import experiment_ids, get_ready
from tracker.paths import Workspace
workspace = Workspace(Path(sys.argv[1]), environ={})
if sys.argv[2:]:
    experiment_ids(workspace, {"any"})
print(drain(workspace, on_progress=lambda done, total: print(done, flush=True)), flush=True)
"""
OFF = 0
"""Of SQLite's ``PRAGMA synchronous``."""
LONG_PROMPT = "rephrase, " * 700


class Logged:
    """A workspace whose five kinds of runs were drained once."""

    def __init__(self, directory: Path) -> None:
        self.workspace = workspace_at(directory)
        self.made = add_run(self.workspace, settings={"generation.rephrase_prompt": LONG_PROMPT})
        self.reused = add_run(
            self.workspace,
            batch="batch_b",
            outcome="reused",
            given={"generation.timeout": 5, "generation.concurrency": 7, "validation.model": "gpt-4o"},
        )
        self.interrupted = add_run(self.workspace, number=1, status="interrupted")
        self.partial = add_run(self.workspace, number=2, status="partial", cost_usd=None)
        self.large = add_run(self.workspace, number=3, n_records=2100, purpose="other / purpose")
        self.drained = drain(self.workspace)
        self.client = client_of(self.workspace)

    def run(self, uuid: str) -> Run:
        (found,) = runs_of(self.client, uuid)
        return found

    def artifact(self, uuid: str, name: str) -> Path:
        return Path(self.run(uuid).info.artifact_uri, name)


def client_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(workspace.mlflow_uri)


def runs_of(client: MlflowClient, uuid: str) -> list[Run]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.`{generation_report.RUN_TAG}` = '{uuid}'"))


def all_runs(client: MlflowClient) -> list[Run]:
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def outbox(workspace: Workspace) -> list[dict[str, Any]]:
    with reading(workspace) as reader:
        return reader.rows("SELECT logged_at, mlflow_run_id, error FROM mlflow_outbox ORDER BY id")


def forget(workspace: Workspace) -> None:
    """Empties the outbox's memory, as where a process died before it could write there."""
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute("UPDATE mlflow_outbox SET logged_at = NULL, mlflow_run_id = NULL")
        connection.commit()


def inputs_of(run: Run) -> dict[str, Dataset]:
    assert run.inputs is not None
    return {given.tags[0].value: given.dataset for given in run.inputs.dataset_inputs}


def start_drain(workspace: Workspace, *arguments: str, cwd: Path = REPOSITORY, **environ: str) -> subprocess.Popen[str]:
    # Neither pytest nor a CI service: MLflow behaves better there.
    env = {"PATH": os.environ["PATH"], "HOME": str(workspace.root), "PYTHONPATH": str(REPOSITORY), **environ}
    return subprocess.Popen(
        [sys.executable, "-c", DRAIN, str(workspace.root), *arguments],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"))


@pytest.fixture
def fresh(logged: Logged, tmp_path: Path) -> Workspace:
    """A workspace with an empty MLflow store, made by copying: migrating one takes seconds."""
    (tmp_path / "mlruns").mkdir()
    source = sqlite3.connect(logged.workspace.mlruns_dir / "mlflow.db")
    target = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")
    with contextlib.closing(source), contextlib.closing(target):
        source.backup(target)
        for table in ("inputs", "input_tags", "datasets", "tags", "params", "metrics", "latest_metrics", "runs"):
            target.execute(f"DELETE FROM {table}")
        target.execute("DELETE FROM experiment_tags")
        target.execute("DELETE FROM experiments WHERE experiment_id > 0")
        target.commit()
    return workspace_at(tmp_path)


def test_every_run_is_logged_and_noted_in_the_outbox(logged: Logged) -> None:
    assert (logged.drained.logged, logged.drained.failed, logged.drained.errors) == (5, 0, [])
    for row, uuid in zip(
        outbox(logged.workspace),
        (logged.made, logged.reused, logged.interrupted, logged.partial, logged.large),
        strict=True,
    ):
        assert row["mlflow_run_id"] == logged.run(uuid).info.run_id
        assert row["logged_at"] is not None


def test_there_is_one_experiment_per_purpose_with_an_absolute_place_for_its_files(logged: Logged) -> None:
    places = {e.name: e.artifact_location for e in logged.client.search_experiments()}
    artifacts = logged.workspace.mlruns_dir.resolve() / "artifacts"
    assert places == {
        "Default": str(artifacts / "0"),
        "temperature_study": str(artifacts / "temperature_study"),
        "other / purpose": str(artifacts / "other___purpose"),
    }
    assert set(experiment_ids(logged.workspace, {"temperature_study", "never"})) == {"temperature_study"}


def test_a_run_is_flat_named_by_its_essentials_and_lasts_as_long_as_it_did(logged: Logged) -> None:
    run = logged.run(logged.made)
    assert run.info.run_name == f"Copa/temp07_topp10_gpt4o · {BATCH} · made"
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 60_000)
    assert run.info.start_time == milliseconds("2024-12-29T10:30:00.000000Z") == 1735468200000
    assert "mlflow.parentRunId" not in run.data.tags


@pytest.mark.parametrize(("uuid", "status"), [("interrupted", "KILLED"), ("partial", "FAILED"), ("reused", "FINISHED")])
def test_the_status_is_that_of_the_run(logged: Logged, uuid: str, status: str) -> None:
    assert logged.run(getattr(logged, uuid)).info.status == status


def test_every_setting_is_a_parameter_under_its_dotted_name(logged: Logged) -> None:
    parameters = logged.run(logged.made).data.params
    assert len(LONG_PROMPT) == 7000
    assert parameters == {
        "generation.temperature": "0.7",
        "generation.top_p": "1",
        "generation.model": "gpt-4o",
        "generation.max_tokens": "256",
        "generation.seed": "null",
        "generation.rephrase_prompt": LONG_PROMPT[:6000],
        "generation.few_shot_examples": '[["A","B"]]',
        "generation.timeout": "60",
        "validation.model": "gpt-4o",
        "validation.temperature": "0",
        "experiment.batch_id": BATCH,
        "batch": BATCH,
        "dataset": "Copa",
        "fingerprint": logged.run(logged.made).data.tags["synthtrack.fingerprint"],
        "source_digest": "copa" + "0" * 32,
        "outcome": "made",
    }


def test_the_figures_are_metrics_and_what_is_unknown_is_absent(logged: Logged) -> None:
    metrics = logged.run(logged.made).data.metrics
    accepted = metrics["generation/n_accepted"]
    assert 20 < accepted < 40
    assert metrics == {
        "generation/n_records": 40,
        "generation/n_accepted": accepted,
        "generation/n_rejected": 40 - accepted,
        "generation/n_unclear": 4,
        "generation/n_failed": 0,
        "generation/acceptance_rate": accepted / 40,
        "generation/acceptance_rate_so_far": accepted / 40,
        "generation/prompt_tokens": 2400,
        "generation/completion_tokens": 480,
        "generation/n_calls": 80,
        "generation/n_cached": 0,
        "generation/n_retried": 0,
        "generation/n_rate_limited": 0,
        "generation/cost_usd": 0.0123,
        "generation/latency_p50_s": 0.8,
        "generation/latency_p95_s": 1.9,
        "generation/latency_p99_s": 2.4,
        "generation/duration_s": 60,
    }
    assert "generation/cost_usd" not in logged.run(logged.partial).data.metrics


@pytest.mark.parametrize(("uuid", "points", "last"), [("made", 40, 40), ("large", 100, 2100)])
def test_the_acceptance_over_the_records_is_a_curve(logged: Logged, uuid: str, points: int, last: int) -> None:
    run = logged.run(getattr(logged, uuid))
    curve = logged.client.get_metric_history(run.info.run_id, "generation/acceptance_rate_so_far")
    steps = [point.step for point in curve]
    assert (len(steps), steps[-1]) == (points, last)
    assert steps == sorted(set(steps))
    assert curve[-1].value == run.data.metrics["generation/acceptance_rate"]


def test_source_and_synthetic_data_are_inputs_with_our_digests(logged: Logged) -> None:
    given = inputs_of(logged.run(logged.made))
    assert set(given) == {"source", "generated"}
    assert (given["source"].name, given["source"].digest) == ("Copa", "copa" + "0" * 32)
    assert json.loads(given["source"].profile or "") == {"num_rows": 40}
    columns = json.loads(given["source"].schema or "")["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [
        ("premise", "string"),
        ("choice1", "string"),
        ("label", "long"),
        ("idx", "long"),
    ]
    assert given["generated"].name == "Copa/temp07_topp10_gpt4o"
    assert given["generated"].digest == logged.run(logged.made).data.tags["synthtrack.data_digest"][:36]
    assert set(inputs_of(logged.run(logged.interrupted))) == {"source"}


def test_config_data_and_plot_are_artifacts(logged: Logged) -> None:
    config = json.loads(logged.artifact(logged.made, "config/config.json").read_text())
    assert config["generation"]["rephrase_prompt"] == LONG_PROMPT
    assert "model: gpt-4o" in logged.artifact(logged.made, "config/generation_config.yaml").read_text()
    assert "batch_id: batch_b" in logged.artifact(logged.reused, "config/generation_config.yaml").read_text()
    data = {path.name: path.read_bytes() for path in logged.artifact(logged.made, "data").iterdir()}
    assert set(data) == {f"copa_{part}.jsonl" for part in ("train", "validation", "test")}
    given = inputs_of(logged.run(logged.made))["generated"]
    assert bytes_digest([data["copa_train.jsonl"]]).startswith(given.digest)
    assert data["copa_test.jsonl"] == b"\n"
    assert not logged.workspace.synthetic_dir.exists()
    assert logged.artifact(logged.made, "plots/overview.png").read_bytes().startswith(b"\x89PNG")
    assert not logged.artifact(logged.interrupted, "data").exists()


def test_the_samples_are_a_table_that_mlflow_itself_can_load(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [logged.run(uuid).info.run_id for uuid in (logged.made, logged.reused, logged.interrupted)]
    # It looks for runs through the process-wide address, whatever its client's is.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.workspace.mlflow_uri)
    table = logged.client.load_table(logged.run(logged.made).info.experiment_id, "samples.json", ids, ["run_id"])
    assert list(table.columns) == ["original", "rephrased", "verdict", "status", "final", "run_id"]
    assert Counter(table["run_id"]) == dict.fromkeys(ids, 40)
    kept = table[table["status"] == "rejected"]
    assert list(kept["final"]) == list(kept["original"])
    changed = table[table["status"] == "accepted"]
    assert list(changed["final"]) == list(changed["rephrased"])
    assert set(table["verdict"]) == {"same", "not_the_same", "unclear"}


def test_a_long_table_is_cut_and_says_so(logged: Logged) -> None:
    table = json.loads(logged.artifact(logged.large, "samples.json").read_text())
    assert len(table["data"]) == 2000
    note = logged.run(logged.large).data.tags["mlflow.note.content"]
    assert "`samples.json` holds the first 2,000 of 2,100 records." in note


def test_the_note_tells_where_the_run_came_from_and_what_to_do_next(logged: Logged) -> None:
    note = logged.run(logged.made).data.tags["mlflow.note.content"]
    assert f"Made by batch `{BATCH}`." in note
    assert "`Data/original/Copa/copa_train.jsonl`" in note
    assert "| Model | `gpt-4o` |" in note
    assert "synthtrack experiment show Copa/temp07_topp10_gpt4o" in note
    assert f"synthtrack path resolve Data_v2/synthetic/{BATCH}/Copa/temp07_topp10_gpt4o" in note
    assert "**interrupted**: the endpoint said no" in logged.run(logged.interrupted).data.tags["mlflow.note.content"]


def test_a_reusing_run_shows_the_same_data_without_a_second_copy(logged: Logged) -> None:
    made, reused = logged.run(logged.made), logged.run(logged.reused)
    assert reused.info.run_name == "Copa/temp07_topp10_gpt4o · batch_b · reused"
    own = {"generation.timeout": "5", "generation.concurrency": "7", "experiment.batch_id": "batch_b"}
    assert reused.data.params == made.data.params | own | {"batch": "batch_b", "outcome": "reused"}
    assert reused.data.metrics["generation/n_accepted"] == made.data.metrics["generation/n_accepted"]
    assert reused.data.metrics["generation/n_calls"] == 0
    assert reused.data.tags["synthtrack.original_batch"] == BATCH
    assert reused.data.tags["synthtrack.made_by"] == logged.made
    assert reused.data.tags["synthtrack.made_by_mlflow_run"] == made.info.run_id
    assert (
        f"batch `{BATCH}` had made this data already (MLflow run `{made.info.run_id}`"
        in (reused.data.tags["mlflow.note.content"])
    )
    assert not logged.artifact(logged.reused, "data").exists()


def test_a_second_drain_does_nothing_and_a_rebuild_doubles_nothing(logged: Logged) -> None:
    assert drain(logged.workspace).logged == 0
    again = drain(logged.workspace, rebuild=True)
    assert (again.logged, again.already_there, again.failed) == (0, 5, 0)
    assert len(all_runs(logged.client)) == 5


def test_the_store_is_in_wal_mode_and_only_that_lies_beside_the_artifacts(logged: Logged) -> None:
    path = logged.workspace.mlruns_dir / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert {entry.name for entry in path.parent.iterdir()} - {"mlflow.db-wal", "mlflow.db-shm"} == {
        "mlflow.db",
        "artifacts",
    }


def test_a_new_store_waits_for_the_disk_once_it_is_whole(tmp_path: Path) -> None:
    found: dict[str, set[int]] = {}

    @event.listens_for(Engine, "before_cursor_execute")
    def look(connection: Connection, cursor: sqlite3.Cursor, statement: str, *_: object) -> None:
        name = Path(connection.engine.url.database or "").name
        found.setdefault(name, set()).add(cursor.connection.execute("PRAGMA synchronous").fetchone()[0])

    try:
        experiment_ids(workspace_at(tmp_path), {"any"})
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    assert found[".mlflow.db.new"] == {OFF}
    assert OFF not in found["mlflow.db"]


def test_a_store_may_be_made_ready_while_another_thread_drains(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    made = add_run(workspace)
    with ThreadPoolExecutor() as threads:
        ready, drained = threads.submit(get_ready, workspace), threads.submit(drain, workspace)
        ready.result()
        assert drained.result() == Drained(logged=1)
    assert len(runs_of(client_of(workspace), made)) == len(all_runs(client_of(workspace))) == 1


def test_whoever_makes_ready_for_a_server_asks_it_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        get_ready(Workspace(tmp_path, environ={MLFLOW_URI_VARIABLE: uri}))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_drain_leaves_no_connection_open(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    add_run(workspace)
    drain(workspace)
    # The last connection that is closed takes the log away.
    assert not workspace.mlflow_store.with_name(f"{workspace.mlflow_store.name}-wal").exists()


def test_a_drain_that_died_in_the_middle_of_a_run_is_completed(fresh: Workspace) -> None:
    begun, ended = add_run(fresh), add_run(fresh, outcome="reused")
    drain(fresh)
    client = client_of(fresh)
    (first,), (second,) = runs_of(client, begun), runs_of(client, ended)
    # As kill -9 leaves them: one not ended and without its last artifact, the other not noted in the outbox.
    client.update_run(first.info.run_id, status="RUNNING")
    Path(first.info.artifact_uri, "plots/overview.png").unlink()
    forget(fresh)
    again = drain(fresh)
    assert (again.logged, again.already_there) == (1, 1)
    (completed,), (untouched,) = runs_of(client, begun), runs_of(client, ended)
    assert (completed.info.run_id, untouched.info.run_id) == (first.info.run_id, second.info.run_id)
    assert completed.info.status == "FINISHED"
    assert completed.data.metrics == first.data.metrics
    assert Path(first.info.artifact_uri, "plots/overview.png").exists()
    assert len(json.loads(Path(first.info.artifact_uri, "samples.json").read_text())["data"]) == 40
    curve = client.get_metric_history(first.info.run_id, "generation/acceptance_rate_so_far")
    assert len(curve) == 40


def test_a_run_begun_by_another_version_is_replaced_because_parameters_cannot_change(fresh: Workspace) -> None:
    uuid = add_run(fresh)
    client = client_of(fresh)
    experiment = client.create_experiment("temperature_study", str(fresh.mlruns_dir / "artifacts" / "x"))
    begun = client.create_run(experiment, tags={generation_report.RUN_TAG: uuid})
    client.log_param(begun.info.run_id, "batch", "another")
    assert drain(fresh).logged == 1
    (run,) = runs_of(client, uuid)
    assert run.info.run_id != begun.info.run_id
    assert run.data.params["batch"] == BATCH


def test_a_deleted_experiment_comes_back_with_its_runs(fresh: Workspace) -> None:
    add_run(fresh)
    drain(fresh)
    client = client_of(fresh)
    client.delete_experiment(experiment_ids(fresh, {"temperature_study"})["temperature_study"])
    second = add_run(fresh, outcome="reused")
    assert drain(fresh).logged == 1
    assert len(runs_of(client, second)) == 1


def test_after_kill_9_every_run_is_there_once(fresh: Workspace) -> None:
    uuids = [add_run(fresh, number=number) for number in range(6)]
    for survived in (1, 4):
        process = start_drain(fresh)
        assert process.stdout is not None
        for line in process.stdout:
            if len([row for row in outbox(fresh) if row["logged_at"]]) >= survived:
                process.kill()
                break
            assert "Drained" not in line
        process.communicate()
        assert process.returncode == -9
    assert drain(fresh).failed == 0
    client = client_of(fresh)
    assert Counter(run.data.tags[generation_report.RUN_TAG] for run in all_runs(client)) == dict.fromkeys(uuids, 1)
    assert {run.info.status for run in all_runs(client)} == {"FINISHED"}


def test_eight_processes_may_open_and_drain_a_new_store_at_once(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    uuids = [add_run(workspace, number=number) for number in range(4)]
    # A drain that finds nothing left does not open the store, so two of them open it anyway.
    processes = [start_drain(workspace, *(["open first"] if number < 2 else [])) for number in range(8)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    assert sum("Drained(logged=4, already_there=0, failed=0" in out for out, _ in answers) == 1
    assert Counter(run.data.tags[generation_report.RUN_TAG] for run in all_runs(client_of(workspace))) == dict.fromkeys(
        uuids, 1
    )
    with contextlib.closing(sqlite3.connect(workspace.mlruns_dir / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@contextlib.contextmanager
def draining(workspace: Workspace) -> Iterator[None]:
    """The lock that another process would hold while it drains."""
    with FileLock(workspace.root / ".mlflow.lock"):
        yield


def test_who_drains_is_waited_for_only_so_long(fresh: Workspace) -> None:
    add_run(fresh)
    waited: list[str] = []
    with draining(fresh):
        assert drain(fresh, patience_s=0, on_wait=lambda: waited.append("told")) == Drained()
    assert waited == ["told"]
    assert [row["logged_at"] for row in outbox(fresh)] == [None]
    assert drain(fresh, patience_s=0, on_wait=lambda: waited.append("told")).logged == 1
    assert waited == ["told"]


def test_nobody_waits_for_what_another_one_has_logged(fresh: Workspace) -> None:
    add_run(fresh)

    def log_it() -> None:
        with contextlib.closing(sqlite3.connect(fresh.database)) as connection:
            connection.execute("UPDATE mlflow_outbox SET logged_at = 'now'")
            connection.commit()

    with draining(fresh):
        assert drain(fresh, patience_s=None, on_wait=log_it) == Drained()


def test_a_drainer_looks_again_for_what_came_meanwhile(fresh: Workspace) -> None:
    first = add_run(fresh)
    later: list[str] = []

    def progress(_: int, __: int) -> None:
        if not later:
            later.append(add_run(fresh, number=1))
            # Whose process leaves it to the one that drains.
            with start_drain(fresh) as process:
                assert "Drained(logged=0" in process.communicate()[0]

    assert drain(fresh, on_progress=progress).logged == 2
    assert Counter(run.data.tags[generation_report.RUN_TAG] for run in all_runs(client_of(fresh))) == {
        first: 1,
        later[0]: 1,
    }


def test_a_lock_that_cannot_be_written_is_told(fresh: Workspace) -> None:
    add_run(fresh)
    (fresh.root / ".mlflow.lock").mkdir()
    with pytest.raises(StorageError, match=r"\.mlflow\.lock cannot be written"):
        drain(fresh)


def test_a_deleted_mlruns_is_made_again_by_rebuild_alone(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    uuids = [add_run(workspace), add_run(workspace, outcome="reused", batch="batch_b")]
    drain(workspace)
    shutil.rmtree(workspace.mlruns_dir)
    assert drain(workspace).logged == 0
    progress: list[tuple[int, int]] = []
    again = drain(workspace, rebuild=True, on_progress=lambda done, total: progress.append((done, total)))
    assert (again.logged, again.failed) == (2, 0)
    assert progress == [(1, 2), (2, 2)]
    client = client_of(workspace)
    (made,), (reused,) = runs_of(client, uuids[0]), runs_of(client, uuids[1])
    assert [row["mlflow_run_id"] for row in outbox(workspace)] == [made.info.run_id, reused.info.run_id]
    assert reused.data.tags["synthtrack.made_by_mlflow_run"] == made.info.run_id


def test_nothing_is_taken_from_the_tree_where_anybody_may_have_put_it(fresh: Workspace, tmp_path: Path) -> None:
    uuid = add_run(fresh)
    with reading(fresh) as reader:
        synthetic_view.refresh(fresh, reader, [1])
    home = fresh.experiment_dir("Copa", "temp07_topp10_gpt4o")
    train = (home / "Copa/copa_train.jsonl").read_bytes()
    (home / "Copa/copa_train.jsonl").write_text("edited")
    (home / "generation_config.yaml").write_text("edited")
    (secret := tmp_path / "secret").write_text("hidden")
    (home / "Copa/notes.txt").symlink_to(secret)
    (home / "Copa/directory").mkdir()
    os.mkfifo(home / "Copa/pipe")
    assert drain(fresh).errors == []
    (run,) = runs_of(client_of(fresh), uuid)
    artifacts = {path.name: path.read_bytes() for path in Path(run.info.artifact_uri).rglob("*") if path.is_file()}
    assert set(artifacts) == {
        *("config.json", "generation_config.yaml", "samples.json", "overview.png"),
        *("copa_train.jsonl", "copa_validation.jsonl", "copa_test.jsonl"),
    }
    assert artifacts["copa_train.jsonl"] == train
    assert artifacts["generation_config.yaml"] != b"edited"


def test_a_tracking_uri_in_the_environment_is_respected(logged: Logged, fresh: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    shutil.move(fresh.mlruns_dir / "mlflow.db", elsewhere)
    fresh.mlruns_dir.rmdir()
    workspace = workspace_at(tmp_path, **{MLFLOW_URI_VARIABLE: f"sqlite:///{elsewhere}"})
    uuid = add_run(workspace)
    assert drain(workspace).errors == []
    (run,) = runs_of(MlflowClient(f"sqlite:///{elsewhere}"), uuid)
    assert run.info.artifact_uri.startswith(str(workspace.mlruns_dir / "artifacts"))
    assert not (workspace.mlruns_dir / "mlflow.db").exists()


def test_what_cannot_be_logged_is_kept_reported_and_logged_later(fresh: Workspace, tmp_path: Path) -> None:
    add_run(fresh)
    add_run(fresh, number=1)
    nowhere = workspace_at(tmp_path, **{MLFLOW_URI_VARIABLE: "nonsense://host/store"})
    failed = drain(nowhere)
    assert (failed.logged, failed.failed, len(failed.errors)) == (0, 2, 1)
    for row in outbox(fresh):
        assert row["logged_at"] is None
        assert "nonsense" in row["error"]
    assert drain(fresh).logged == 2
    assert [row["error"] for row in outbox(fresh)] == [None, None]


def test_one_run_that_fails_does_not_keep_the_others_back(fresh: Workspace) -> None:
    add_run(fresh, config="no JSON")
    add_run(fresh, number=1)
    drained = drain(fresh)
    assert (drained.logged, drained.failed) == (1, 1)
    assert "JSONDecodeError" in drained.errors[0]
    assert [row["logged_at"] is None for row in outbox(fresh)] == [True, False]


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy's address, and the first bytes of what it was asked for; it answers nothing."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        asked.append(connection.recv(200))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("telemetry", [False, True])
def test_a_drain_is_silent_and_reports_to_nobody_unless_the_user_wants_it(
    fresh: Workspace, tmp_path: Path, *, telemetry: bool
) -> None:
    add_run(fresh)
    wanted = {"MLFLOW_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": "false"} if telemetry else {}
    (current := tmp_path / "current").mkdir()
    with listener() as (proxy, asked):
        process = start_drain(fresh, cwd=current, HTTPS_PROXY=proxy, HTTP_PROXY=proxy, **wanted)
        out, err = process.communicate()
    assert "logged=1" in out
    assert err == ""
    assert list(current.iterdir()) == []
    assert bool(asked) is telemetry, asked


def trained(workspace: Workspace) -> Registered:
    """A sweep of two rates that ended, the only thing in the outbox."""
    workspace_with_data(workspace.root)
    with open_database(workspace) as database:
        with database.writing() as connection:
            connection.execute(text("DELETE FROM mlflow_outbox"))
        runs = [Trained(n_correct=n, hyperparameters={"learning_rate": rate}) for n, rate in ((76, 1e-6), (70, 5e-7))]
        return add_sweep(database, "hyperparameter_tuning", runs)


def training_runs(client: MlflowClient) -> dict[str, Run]:
    """The runs of the study by the uuid of what they show; each is there once."""
    tags = (training_report.RUN_TAG, sweep_report.SWEEP_TAG)
    found = {run.data.tags[tag]: run for run in all_runs(client) for tag in tags if tag in run.data.tags}
    assert len(found) == len(all_runs(client))
    return found


def test_a_sweep_that_went_on_is_logged_anew_and_its_old_run_is_replaced(fresh: Workspace) -> None:
    sweep = trained(fresh)
    assert drain(fresh).logged == 3
    client = client_of(fresh)
    before = training_runs(client)
    with open_database(fresh) as database:
        better = {"accuracy": 0.9, "accuracy_low": 0.82, "accuracy_high": 0.94, "macro_f1": 0.8}
        training.end_run(database, sweep.run_ids[0], training.COMPLETE, better)
        training.end_sweep(database, sweep.id, training.COMPLETE)
    again = drain(fresh)
    assert (again.logged, again.already_there, again.errors) == (2, 0, [])
    after = training_runs(client)
    assert after.keys() == before.keys()
    changed = {uuid for uuid in before if before[uuid].info.run_id != after[uuid].info.run_id}
    unchanged = {uuid for uuid in before if uuid not in changed}
    assert len(changed) == 2
    assert {after[uuid].data.params["hyperparameters.learning_rate"] for uuid in unchanged} == {"5e-07"}
    ended, summary = sorted((after[uuid] for uuid in changed), key=lambda run: run.data.tags["synthtrack.kind"])
    assert (ended.data.metrics["eval/accuracy"], ended.data.metrics["eval/macro_f1"]) == (0.9, 0.8)
    assert summary.data.metrics["sweep/best_accuracy"] == 0.9
    table = json.loads(Path(summary.info.artifact_uri, "sweep.json").read_text())
    # Its row in the outbox is older than the second logging of the run, and yet it names that one.
    assert table["data"][0][table["columns"].index("mlflow_run_id")] == ended.info.run_id
    assert drain(fresh).logged == 0
    assert {row["mlflow_run_id"] for row in outbox(fresh)} >= {run.info.run_id for run in after.values()}


def test_a_rebuild_logs_trainings_again_and_doubles_nothing(fresh: Workspace) -> None:
    trained(fresh)
    drain(fresh)
    client = client_of(fresh)
    assert drain(fresh, rebuild=True).already_there == 3
    before = training_runs(client)
    for run in before.values():
        client.delete_run(run.info.run_id)
    assert drain(fresh).logged == 0
    assert drain(fresh, rebuild=True).logged == 3
    after = training_runs(client)
    assert after.keys() == before.keys()
    for uuid, run in after.items():
        assert run.data.metrics == before[uuid].data.metrics
        assert run.data.params == before[uuid].data.params


def test_what_exceeds_a_batch_of_mlflow_is_logged_in_several(fresh: Workspace) -> None:
    sweep = trained(fresh)
    points = [("train/loss", step, 1 / step) for step in range(1, 1501)]
    points += [("train/tokens_per_s", step, 8000.0) for step in range(1, 1501)]
    settings = {f"hyperparameters.extra_{number}": number for number in range(120)}
    with open_database(fresh) as database:
        training.end_run(database, sweep.run_ids[0], training.INTERRUPTED, {})
        training.claim(database, sweep.run_ids[0], GONE, {"settings": json.dumps(settings)})
        training.beat(database, sweep.run_ids[0], GONE, Measured(points))
        training.end_run(database, sweep.run_ids[0], training.FAILED, {}, error="no")
    drained = drain(fresh)
    assert (drained.failed, drained.errors) == (0, [])
    client = client_of(fresh)
    (run,) = [run for run in training_runs(client).values() if run.info.status == "FAILED"]
    assert len([name for name in run.data.params if name.startswith("hyperparameters.extra_")]) == 120
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in history] == list(range(1, 1501))
    assert len(client.get_metric_history(run.info.run_id, "train/tokens_per_s")) == 1500


def test_a_drain_that_died_in_the_middle_of_a_training_run_is_completed(fresh: Workspace) -> None:
    trained(fresh)
    drain(fresh)
    client = client_of(fresh)
    first = next(run for run in training_runs(client).values() if training_report.RUN_TAG in run.data.tags)
    client.update_run(first.info.run_id, status="RUNNING")
    Path(first.info.artifact_uri, "plots/learning_curve.png").unlink()
    forget(fresh)
    again = drain(fresh)
    assert (again.logged, again.already_there, again.errors) == (1, 2, [])
    completed = client.get_run(first.info.run_id)
    assert (completed.info.status, completed.data.metrics) == ("FINISHED", first.data.metrics)
    assert Path(first.info.artifact_uri, "plots/learning_curve.png").exists()
    assert len(client.get_metric_history(first.info.run_id, "train/loss")) == 5
