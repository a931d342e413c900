"""`... delete`, `batch remove`, `publish remove`, `trash`, `restore`, `gc`, as they are typed."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from cli.commands import gc
from tests.training_rows import training_study
from tests.workspaces import call, config, finish, new_root, rows, start, write_config
from tracker.deleting import garbage
from tracker.paths import Workspace
from tracker.record.catalogue import reading
from tracker.record.database import open_database
from tracker.record.ledger import reserve

NAME = "Copa/temp07_topp10_rulesv1"
HOME = f"Data_v2/synthetic/_shared/{NAME}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = new_root(tmp_path, 4)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    return root


def execute(root: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute(sql)


def free(root: Path) -> None:
    assert call(root, "batch", "remove", "first", NAME).code == 0


def test_a_batch_goes_and_its_data_stays(root: Path) -> None:
    done = call(root, "batch", "delete", "first", "--yes")
    assert done.out.startswith("🗑️  Batch first is in the trash: 1 row, 1 link.")
    assert not (root / "Data_v2/synthetic/first").exists()
    assert (root / HOME).is_dir()
    assert call(root, "batch", "show", "first").code == 4
    assert call(root, "restore", "first").code == 0
    assert (root / "Data_v2/synthetic/first" / NAME / "Copa").is_dir()


def test_a_batch_that_is_deleted_can_be_begun_anew(root: Path) -> None:
    call(root, "batch", "delete", "first", "--yes")
    assert call(root, "generate", "copa.yaml", "--no-mlflow").out.startswith(f"⚡ {NAME}: already made")
    assert call(root, "batch", "show", "first").code == 0


def test_of_a_restored_batch_what_is_not_there_is_said(root: Path) -> None:
    fingerprint = rows(root, "SELECT fingerprint FROM shared_experiment")[0][0]
    call(root, "batch", "delete", "first", "--yes")
    call(root, "experiment", "delete", NAME, "--yes")
    done = call(root, "restore", "first")
    assert f"1 experiment of it is not there any more: {fingerprint}" in done.out
    assert call(root, "batch", "show", "first").code == 0


def test_a_batch_is_restored_again_when_its_experiments_are_back(root: Path) -> None:
    call(root, "batch", "delete", "first", "--yes")
    before = rows(root, "SELECT archive FROM deletion")
    call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow")
    assert call(root, "restore", "first").code == 0
    entries = json.loads(call(root, "trash", "list", "--json").out)["entries"]
    assert [each["name"] for each in entries] == [NAME, "first"]
    assert call(root, "verify").code == 0
    assert call(root, "restore", NAME, "--no-mlflow").code == 0
    assert rows(root, "SELECT * FROM batch_membership") == []
    done = call(root, "restore", "first")
    assert "Batch first is back: 1 row." in done.out
    assert (root / "Data_v2/synthetic/first" / NAME / "Copa").is_dir()
    assert json.loads(call(root, "trash", "list", "--json").out)["entries"] == []
    assert [(root / archive).exists() for (archive,) in before] == [False]
    assert call(root, "view", "check").code == 0


def test_an_experiment_that_something_points_to_stays(root: Path) -> None:
    assert call(root, "publish", NAME, "--target", "out").code == 0
    done = call(root, "experiment", "delete", NAME, "--yes")
    assert done.code == 5
    assert done.err == (
        f"Error: {NAME} cannot be deleted now:\n  batch first holds it\n  it was published at out/Copa\n"
        f"`synthtrack batch remove first {NAME}` takes it out.\n`synthtrack publish remove {NAME}` takes that back.\n"
    )
    assert call(root, "batch", "remove", "first", NAME).out == f"✅ 1 experiment taken out of first: {NAME}\n"
    assert not (root / "Data_v2/synthetic/first" / NAME).is_symlink()
    (root / "out/Copa/mine.txt").write_text("mine")
    assert call(root, "publish", "remove", NAME, "--yes").out == "✅ 1 publication taken back.\n"
    assert [each.name for each in (root / "out/Copa").iterdir()] == ["mine.txt"]
    assert call(root, "experiment", "delete", NAME, "--yes").code == 0


def test_what_was_changed_where_it_was_published_stays(root: Path) -> None:
    call(root, "publish", NAME, "--target", "out")
    (root / "out/Copa/copa_train.jsonl").write_text("edited")
    assert call(root, "publish", "remove", NAME, "--yes").code == 5
    assert call(root, "publish", "remove", NAME, "--yes", "--keep-files").code == 0
    assert (root / "out/Copa/copa_train.jsonl").read_text() == "edited"
    assert rows(root, "SELECT id FROM publication") == []


def test_an_experiment_comes_back_with_a_persons_own_files(root: Path) -> None:
    (root / HOME / "notes.txt").write_text("mine")
    free(root)
    done = call(root, "experiment", "delete", NAME, "--yes", "--json")
    (deleted,) = json.loads(done.out)["deleted"]
    assert (deleted["kind"], deleted["name"]) == ("experiment", NAME)
    assert deleted["rows"]["sample"] == 4
    assert not (root / HOME).exists()
    assert rows(root, "SELECT COUNT(*), COUNT(generation_run_id) FROM attempt") == [(8, 0)]
    restored = call(root, "restore", deleted["id"][:8])
    assert restored.out.startswith(f"✅ Experiment {NAME} is back")
    assert (root / HOME / "notes.txt").read_text() == "mine"
    assert rows(root, "SELECT COUNT(*), COUNT(generation_run_id) FROM attempt") == [(8, 8)]
    assert call(root, "view", "check").code == 0


def test_made_again_it_costs_nothing_and_the_older_one_stays_in_the_trash(root: Path) -> None:
    free(root)
    call(root, "experiment", "delete", NAME, "--yes")
    assert "0 sent, 8 answered from the ledger" in call(root, "generate", "copa.yaml", "--no-mlflow").out
    done = call(root, "restore", NAME)
    assert done.code == 5
    assert f"made anew meanwhile: {NAME} has the same settings" in done.err
    assert f"made anew as {NAME}" in call(root, "trash", "list").out


def test_a_dry_run_says_what_would_go_and_changes_nothing(root: Path) -> None:
    free(root)
    done = call(root, "experiment", "delete", NAME, "--dry-run")
    assert done.out.startswith(f"Would be deleted: experiment {NAME}")
    assert "4 sample" in done.out
    assert done.out.endswith("Nothing was changed (--dry-run).\n")
    assert call(root, "trash", "list").out == "The trash is empty.\n"


def test_without_a_terminal_it_needs_yes(root: Path) -> None:
    done = call(root, "batch", "delete", "first")
    assert done.code == 3
    assert "--yes: is needed where there is no terminal" in done.err
    assert call(root, "batch", "show", "first").code == 0


def test_what_is_being_made_stays(root: Path) -> None:
    import os

    from tracker.clock import this_process

    me = this_process()
    assert me.pid == os.getpid()
    execute(
        root,
        f"UPDATE shared_experiment SET lease_host = '{me.host}', lease_pid = {me.pid}, lease_started = {me.started}, "
        "lease_since = '2026-11-20T21:46:52.123456Z', lease_heartbeat = '2026-11-20T21:46:52.123456Z'",
    )
    execute(
        root,
        f"UPDATE generation_run SET status = 'running', host = '{me.host}', pid = {me.pid}, pid_started = {me.started}",
    )
    for command in (("experiment", "delete", NAME, "--yes"), ("batch", "delete", "first", "--yes")):
        done = call(root, *command)
        assert (done.code, f"is being made by PID {me.pid}" in done.err) == (5, True), done
    assert call(root, "batch", "remove", "first", NAME).code == 5


def test_the_batch_says_what_deleted_experiments_cost(root: Path) -> None:
    execute(root, "UPDATE attempt SET cost_usd = 0.25")
    execute(root, "UPDATE generation_run SET cost_usd = 2.0")
    free(root)
    assert "Cost: $2.0000" in call(root, "batch", "show", "first", "-v").out
    call(root, "experiment", "delete", NAME, "--yes")
    assert "Also paid: $2.0000 for 1 experiment deleted since" in call(root, "batch", "show", "first", "-v").out
    assert call(root, "generate", "copa.yaml", "--set", "generation.temperature=0.9", "--no-mlflow").code == 0
    ((run_id, batch_id),) = rows(root, "SELECT id, batch_id FROM generation_run")
    with open_database(Workspace(root, environ={})) as database:
        assert not reserve(database, run_id, batch_id, total_usd=0.0, cap_usd=1.99)
        assert reserve(database, run_id, batch_id, total_usd=0.0, cap_usd=2.0)
    call(root, "restore", NAME)
    shown = call(root, "batch", "show", "first", "-v").out
    assert ("Cost: $2.0000" in shown, "Also paid" in shown) == (True, False)


def test_the_trash_is_emptied_by_age(root: Path) -> None:
    call(root, "batch", "delete", "first", "--yes")
    assert call(root, "trash", "empty").out == "Removed for good: nothing is that old.\n", "nobody is asked"
    done = call(root, "trash", "empty", "--older-than", "0d", "--yes")
    assert done.out.startswith("   batch first\nRemoved for good: 1 entry, ")
    assert list((root / ".trash").iterdir()) == []
    assert call(root, "restore", "first").code == 4


def test_an_archive_that_was_changed_is_refused(root: Path) -> None:
    call(root, "batch", "delete", "first", "--yes")
    (archive,) = (root / ".trash").glob("*.zip")
    archive.write_bytes(b"other")
    assert call(root, "restore", "first").code == 6
    archive.unlink()
    assert "its archive is missing" in call(root, "trash", "list").out


def test_a_training_run_goes_with_its_directory(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    name = "temp09 1e-06 seed 1"
    (directory,) = rows(tmp_path, "SELECT directory FROM training_run WHERE id = ?", study.runs[name])[0]
    (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    (tmp_path / directory / "result.json").write_text("{}")
    answers = rows(tmp_path, "SELECT * FROM prediction WHERE training_run_id = ? ORDER BY 1, 2, 3", study.runs[name])
    done = call(tmp_path, "result", "delete", study.uuid(name)[:8], "--yes", "--no-mlflow")
    assert done.code == 0, done
    assert not (tmp_path / directory).exists()
    assert rows(tmp_path, "SELECT id FROM training_run WHERE uuid = ?", study.uuid(name)) == []
    back = call(tmp_path, "restore", directory, "--no-mlflow")
    assert back.code == 0, back
    assert (tmp_path / directory / "result.json").read_text() == "{}"
    call(tmp_path, "result", "delete", study.uuid(name)[:8], "--yes", "--no-mlflow")
    assert call(tmp_path, "restore", study.uuid(name)[:8], "--no-mlflow").code == 0, "by the id that it was deleted by"
    assert (tmp_path / directory / "result.json").read_text() == "{}"
    again = rows(
        tmp_path,
        """SELECT p.stage, p.position, p.label, p.predicted, p.correct, p.scores FROM prediction p
           JOIN training_run r ON r.id = p.training_run_id WHERE r.uuid = ? ORDER BY 1, 2, 3""",
        study.uuid(name),
    )
    assert again == [each[1:] for each in answers]


def test_files_that_did_not_come_back_as_they_were_are_named(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    name = "temp09 1e-06 seed 1"
    (directory,) = rows(tmp_path, "SELECT directory FROM training_run WHERE id = ?", study.runs[name])[0]
    (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    (tmp_path / directory / "result.json").write_text("{}")
    call(tmp_path, "result", "delete", study.uuid(name)[:8], "--yes", "--no-mlflow")
    (kept,) = (tmp_path / ".trash").rglob("result.json")
    kept.write_text("edited")
    done = call(tmp_path, "restore", directory, "--no-mlflow")
    assert (done.code, f"{directory}/result.json" in done.err) == (6, True)
    assert rows(tmp_path, "SELECT status FROM training_run WHERE uuid = ?", study.uuid(name)) == [("complete",)]


def test_experiments_that_were_trained_on_stay_until_the_runs_are_gone(tmp_path: Path) -> None:
    study = training_study(tmp_path)
    done = call(tmp_path, "experiment", "delete", "Copa/temp09_topp10_gpt4o", "--yes")
    assert done.code == 5
    assert f"training run {study.uuid('temp09 1e-06 seed 0')[:8]} was trained on it" in done.err


def test_gc_takes_what_nothing_references_and_is_a_day_old(root: Path) -> None:
    free(root)
    assert "Nothing to clear away" in call(root, "gc", "--dry-run").out
    execute(root, "UPDATE shared_experiment SET completed_at = '2020-01-01T00:00:00.000000Z'")
    done = call(root, "gc", "--dry-run")
    assert f"To the trash: experiment {NAME}" in done.out
    assert "Because nothing references it." in done.out
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(1,)]
    assert call(root, "gc", "--yes", "--no-mlflow").code == 0
    assert rows(root, "SELECT deleted_by FROM deletion") == [("gc",)]
    assert "Nothing to clear away" in call(root, "gc", "--no-mlflow").out, "nobody is asked where there is nothing"
    assert call(root, "restore", NAME).code == 0


def test_gc_leaves_alone_what_was_imported(root: Path) -> None:
    free(root)
    execute(
        root,
        "INSERT INTO import_run "
        "(id, uuid, kind, origin, started_at, n_taken, n_skipped, n_wrong, host, command, report) "
        "VALUES (1, 'u', 'dataset', 'x.jsonl', '', 1, 0, 0, 'here', '', '[]')",
    )
    execute(root, "UPDATE shared_experiment SET completed_at = '2020-01-01T00:00:00.000000Z', import_run_id = 1")
    assert "Nothing to clear away" in call(root, "gc", "--dry-run", "--no-mlflow").out


def test_gc_takes_unfinished_ones_out_of_their_batches(root: Path) -> None:
    execute(root, "UPDATE shared_experiment SET status = 'unfinished', created_at = '2020-01-01T00:00:00.000000Z'")
    execute(root, "UPDATE generation_run SET status = 'interrupted', finished_at = '2020-01-01T00:00:00.000000Z'")
    done = call(root, "gc", "--yes", "--no-mlflow")
    assert "Because it was never finished, and nobody is making it." in done.out
    assert rows(root, "SELECT COUNT(*) FROM batch_membership") == [(0,)]
    call(root, "restore", NAME)
    assert rows(root, "SELECT COUNT(*) FROM batch_membership") == [(1,)]


def test_gc_leaves_alone_what_was_finished_while_it_asked(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(root, "UPDATE shared_experiment SET status = 'unfinished', created_at = '2020-01-01T00:00:00.000000Z'")
    execute(root, "UPDATE generation_run SET status = 'interrupted', finished_at = '2020-01-01T00:00:00.000000Z'")
    here = Workspace(root, environ={})
    with reading(here) as reader:
        found = list(garbage.unneeded(reader, here))
    assert [each.plan.name for each in found] == [NAME]
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    assert gc._delete(here, found, no_mlflow=True) == []
    assert f"Left alone: {NAME} is in use by now." in capsys.readouterr().err
    assert rows(root, "SELECT status FROM shared_experiment") == [("complete",)]
    assert list((root / ".trash").glob("*.zip")) == []


def test_gc_leaves_alone_what_people_decided_on(root: Path) -> None:
    execute(root, "UPDATE shared_experiment SET status = 'unfinished', created_at = '2020-01-01T00:00:00.000000Z'")
    execute(root, "UPDATE generation_run SET status = 'waiting', finished_at = '2020-01-01T00:00:00.000000Z'")
    assert "Nothing to clear away" in call(root, "gc", "--dry-run", "--no-mlflow").out


def test_gc_removes_what_killed_processes_left(root: Path) -> None:
    left = root / "Data_v2/synthetic/_shared/Copa/.synthtrack-tmp-1-elsewhere-0"
    left.mkdir()
    old = time.time() - 7200
    import os

    os.utime(left, (old, old))
    copy = root / "tracker.db.v1-20200101T000000.bak"
    copy.write_bytes(b"")
    assert str(left.relative_to(root)) in call(root, "gc", "--dry-run").out
    assert call(root, "gc", "--yes", "--no-mlflow").code == 0
    assert (left.exists(), copy.exists()) == (False, True)
    assert call(root, "gc", "--yes", "--no-mlflow", "--copies").code == 0
    assert not copy.exists()


def test_mlflows_runs_go_and_come_back(root: Path) -> None:
    from mlflow import MlflowClient

    assert call(root, "mlflow", "sync").code == 0
    free(root)
    client = MlflowClient(f"sqlite:///{root / 'mlruns/mlflow.db'}")
    (run_id,) = rows(root, "SELECT mlflow_run_id FROM mlflow_outbox")[0]
    assert call(root, "experiment", "delete", NAME, "--yes").code == 0
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    assert call(root, "restore", NAME).code == 0
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert rows(root, "SELECT mlflow_run_id FROM mlflow_outbox") == [(run_id,)]


def test_what_mlflow_fails_with_is_said_in_a_line(root: Path) -> None:
    assert call(root, "mlflow", "sync").code == 0
    free(root)
    with contextlib.closing(sqlite3.connect(root / "mlruns/mlflow.db")) as store:
        store.execute("DROP TABLE assessments")
    done = finish(start(root, "experiment", "delete", NAME, "--yes"))
    assert (done.code, "is in the trash" in done.out) == (0, True)
    (line,) = done.err.splitlines()
    assert "no such table: assessments" in line


def test_mlflow_that_is_not_told_is_told_by_sync_and_cleared_by_gc(root: Path) -> None:
    from mlflow import MlflowClient

    call(root, "mlflow", "sync")
    free(root)
    client = MlflowClient(f"sqlite:///{root / 'mlruns/mlflow.db'}")
    (run_id,) = rows(root, "SELECT mlflow_run_id FROM mlflow_outbox")[0]
    call(root, "experiment", "delete", NAME, "--yes", "--no-mlflow")
    assert client.get_run(run_id).info.lifecycle_stage == "active"
    assert rows(root, "SELECT settled_at FROM deletion") == [(None,)]
    assert call(root, "mlflow", "sync").code == 0
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    client.restore_run(run_id)
    assert "1 run that the record does not know" in call(root, "gc", "--yes").out
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    artifacts = list((root / "mlruns/artifacts").glob(f"*/{run_id}"))
    assert len(artifacts) == 1
    assert "1 deleted run for good" in call(root, "gc", "--yes", "--older-than", "0d").out
    assert not artifacts[0].exists()
    assert "Nothing to clear away" in call(root, "gc", "--yes", "--older-than", "0d").out
    assert call(root, "restore", NAME).code == 0
    assert rows(root, "SELECT COUNT(*) FROM mlflow_outbox WHERE logged_at IS NOT NULL") == [(1,)]


def test_a_full_trash_deletes_nothing(root: Path) -> None:
    free(root)
    (root / ".trash").write_text("in the way")
    done = call(root, "experiment", "delete", NAME, "--yes")
    assert done.code == 11, done
    assert rows(root, "SELECT COUNT(*) FROM shared_experiment") == [(1,)]
    assert (root / HOME).is_dir()


def test_nothing_outside_of_the_workspace_is_moved(tmp_path: Path) -> None:
    study = training_study(tmp_path / "workspace")
    root = tmp_path / "workspace"
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    run = study.runs["temp09 1e-06 seed 1"]
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        connection.execute("UPDATE training_run SET directory = ? WHERE id = ?", (str(outside), run))
    done = call(root, "result", "delete", study.uuid("temp09 1e-06 seed 1")[:8], "--yes", "--no-mlflow")
    assert done.code == 0
    assert outside.is_dir()
    shutil.rmtree(outside)
