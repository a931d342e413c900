"""Damage to what lies around the record, and what ``verify --fix`` does about each: mended, or left to a person."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training_rows import training_study
from tests.workspaces import call, config, rows, tree, write_config, write_records
from tracker import clock
from tracker.paths import Workspace
from tracker.record.findings import Finding
from tracker.verifying.verify_database import database_findings

NAME = "temp07_topp10_rulesv1"
TRAIN = f"Data_v2/synthetic/_shared/Copa/{NAME}/Copa/copa_train.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments, of which one is published, both told to a real MLflow store."""
    root = tmp_path_factory.mktemp("made")
    write_records(root, 8)
    write_config(root, config())
    for arguments in (
        ("generate", "copa.yaml"),
        ("generate", "copa.yaml", "--set", "generation.temperature=0.9"),
        ("publish", f"Copa/{NAME}", "--target", "Data/published"),
    ):
        done = call(root, *arguments)
        assert done.code == 0, done.err
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True))


@contextlib.contextmanager
def database(root: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection, connection:
        yield connection


def edit(root: Path, statement: str, *values: object) -> None:
    with database(root) as connection:
        assert connection.execute(statement, values).rowcount > 0


def verify(root: Path, *options: str) -> tuple[int, list[dict[str, object]], list[str]]:
    done = call(root, "verify", "--json", *options)
    found = json.loads(done.out)
    return done.code, found["findings"], found.get("done", [])


def ledger(root: Path) -> list[tuple[object, ...]]:
    sql = "SELECT fingerprint, digest, identity, data_digest FROM shared_experiment ORDER BY id"
    return rows(root, sql) + rows(root, "SELECT request_key, answer, cost_usd FROM attempt ORDER BY id")


def test_all_is_as_recorded_and_mlflow_is_counted(root: Path) -> None:
    done = call(root, "verify")
    assert (done.code, done.err) == (0, "")
    assert "2 generation runs, 1 publication, 2 runs in MLflow." in done.out
    assert verify(root, "--fix") == (0, [], [])


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def kill_a_run(root: Path) -> None:
    pid, now = dead_process(), clock.to_text(clock.now())
    edit(root, "UPDATE generation_run SET status = 'running', host = ?, pid = ?, pid_started = 1.0 WHERE id = 2",
         clock.host(), pid)  # fmt: skip
    edit(
        root,
        "UPDATE shared_experiment SET status = 'unfinished', data_digest = NULL, lease_host = ?1, lease_pid = ?2, "
        "lease_started = 1.0, lease_since = ?3, lease_heartbeat = ?3 WHERE id = 2",
        clock.host(),
        pid,
        now,
    )
    shutil.rmtree(root / "Data_v2")
    assert call(root, "view", "rebuild").code == 0


def leave_a_lease(root: Path) -> None:
    now = clock.to_text(clock.now())
    edit(root, "UPDATE shared_experiment SET lease_host = ?, lease_pid = ?, lease_started = 1.0, lease_since = ?, "
         "lease_heartbeat = ? WHERE id = 2", clock.host(), dead_process(), now, now)  # fmt: skip


def forget_in_mlflow(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "mlruns/mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted'")


def half_written(root: Path) -> None:
    (root / f".synthtrack-tmp-{dead_process()}-{clock.host().replace(' ', '_')}-0").write_text("half")


def lose_an_index_entry(root: Path) -> None:
    """An index that does not have the rows of its table: it is emptied behind SQLite's back."""
    with contextlib.closing(sqlite3.connect(root / "tracker.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [(page,)] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND name = 'ix_generation_run_status'"
        )
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray((root / "tracker.db").read_bytes())
    start = (page - 1) * size
    # An empty leaf of an index b-tree.
    content[start : start + 8] = bytes([0x0A, 0, 0, 0, 0, *size.to_bytes(2, "big"), 0])
    (root / "tracker.db").write_bytes(content)


MENDED: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "tree": (lambda root: (root / TRAIN).unlink(), "tree", "missing", "Wrote 1 entry of the tree (synthetic)"),
    "counts": (
        lambda root: edit(root, "UPDATE shared_experiment SET n_accepted = 3, n_rejected = 5 WHERE id = 1"),
        "experiment", "n_accepted is 3, its samples give 8", f"Counted the samples of Copa/{NAME} anew",
    ),
    "published directory": (
        lambda root: shutil.rmtree(root / "Data/published/Copa"), "publication", "missing",
        f"Published Copa/{NAME} to Data/published/Copa again",
    ),
    "published file": (
        lambda root: (root / "Data/published/Copa/copa_test.jsonl").unlink(), "publication", "missing: copa_test.jsonl",
        f"Published Copa/{NAME} to Data/published/Copa again",
    ),
    "run": (kill_a_run, "work", "is said to be made since ", "Ended 1 run whose process is gone"),
    "lease": (leave_a_lease, "work", "is said to be made since ", "Ended 0 runs"),
    "leftover": (half_written, "leftover", "a killed process left it", "Removed .synthtrack-tmp-"),
    "MLflow's store": (
        lambda root: shutil.rmtree(root / "mlruns"), "MLflow", "MLflow's store is missing, and 2 runs were logged",
        "Logged 2 runs to MLflow",
    ),
    "MLflow's runs": (forget_in_mlflow, "MLflow", "the run of a generation run is not there", "Logged 2 runs"),
    "outbox": (
        lambda root: edit(root, "DELETE FROM mlflow_outbox WHERE generation_run_id = 2"), "MLflow",
        "it has ended, and nothing says that MLflow is to be told", "Logged ",
    ),
    "index": (
        lose_an_index_entry, "database", "row ", "Made the database's indexes anew",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MENDED)
def test_what_is_safe_is_mended(root: Path, what: str) -> None:
    damage, kind, start, done_start = MENDED[what]
    damage(root)
    before = ledger(root)
    code, findings, _ = verify(root)
    assert code == 6
    assert (kind, True) in [(each["kind"], str(each["what"]).startswith(start)) for each in findings], findings
    assert all(each["remedy"] and each["where"] for each in findings)
    assert ledger(root) == before
    code, findings, done = verify(root, "--fix")
    assert (code, findings) == (0, [])
    assert any(line.startswith(done_start) for line in done), done
    assert ledger(root) == before
    assert verify(root)[:2] == (0, [])


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


def astray(root: Path) -> None:
    edit(root, "UPDATE batch_membership SET batch_id = 77 WHERE shared_experiment_id = 2")


LEFT: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "foreign key": (astray, [("database", "1 row points by batch_id to no row of batch: rowid 2")]),
    "answer": (
        lambda root: edit(root, "UPDATE attempt SET answer = 'Something else.' WHERE request_key IN "
                          "(SELECT rephrase_request_key FROM sample WHERE position = 2)"),
        [("experiment", "sample 3 has a rephrased text that its answer in the ledger does not give")] * 2,
    ),
    "no answer": (
        lambda root: edit(root, "UPDATE attempt SET failure = 'empty' WHERE request_key IN "
                          "(SELECT rephrase_request_key FROM sample WHERE position = 2 AND shared_experiment_id = 1)"),
        [("experiment", "sample 3 has no good answer in the ledger")],
    ),
    "verdict": (
        lambda root: edit(root, "UPDATE sample SET verdict = 'not_the_same' WHERE position = 2 AND "
                          "shared_experiment_id = 1"),
        [("experiment", "sample 3 has a verdict that the judge's answer in the ledger does not give")],
    ),
    "sample": (
        lambda root: edit(root, "DELETE FROM sample WHERE position = 7 AND shared_experiment_id = 1"),
        [("experiment", "n_records is 8, its samples give 7")],
    ),
    "cost of an experiment": (
        lambda root: edit(root, "UPDATE shared_experiment SET prompt_tokens = 1 WHERE id = 1"),
        [("experiment", "prompt_tokens is 1, the attempts of its runs come to ")],
    ),
    "cost of a run": (
        lambda root: edit(root, "UPDATE generation_run SET cost_usd = 7.5 WHERE id = 1"),
        [("generation run", "cost_usd is 7.5, its attempts come to 0")],
    ),
    "published file edited": (
        lambda root: flip(root / "Data/published/Copa/copa_train.jsonl"),
        [("publication", "changed: copa_train.jsonl")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT)
def test_what_needs_a_person_is_left_as_it_is(root: Path, what: str) -> None:
    damage, expected = LEFT[what]
    damage(root)
    before, published = ledger(root), tree(root / "Data/published")
    _, findings, _ = verify(root, "--fix")
    said = [(each["kind"], str(each["what"])) for each in findings]
    for kind, start in dict.fromkeys(expected):
        assert sum(own == kind and text.startswith(start) for own, text in said) == expected.count((kind, start)), said
    assert ledger(root) == before
    assert tree(root / "Data/published") == published


def test_a_run_of_mlflow_that_the_record_does_not_have_is_named_and_put_out_of_sight(root: Path) -> None:
    assert call(root, "backup", "kept.db").code == 0
    assert call(root, "generate", "copa.yaml", "--set", "generation.temperature=0.5").code == 0
    assert call(root, "restore", "kept.db", "--yes").code == 0
    code, findings, _ = verify(root)
    assert (code, [each["kind"] for each in findings]) == (6, ["MLflow"])
    assert "that the record does not have" in str(findings[0]["what"])
    code, findings, done = verify(root, "--fix")
    assert (code, findings) == (0, [])
    assert done == ["Put 1 run in MLflow out of sight, which the record does not have."]
    with contextlib.closing(sqlite3.connect(root / "mlruns/mlflow.db")) as connection:
        stages = connection.execute("SELECT lifecycle_stage, COUNT(*) FROM runs GROUP BY 1 ORDER BY 1").fetchall()
    assert stages == [("active", 2), ("deleted", 1)]


def test_a_server_of_mlflow_is_said_not_to_be_checked(root: Path) -> None:
    done = call(root, "verify", environ={"MLFLOW_TRACKING_URI": "https://name:secret@mlflow.example"})
    assert (done.code, "MLflow at https://name:***@mlflow.example is not checked" in done.out) == (0, True)


def test_the_file_is_checked_where_there_is_one(tmp_path: Path) -> None:
    assert database_findings(Workspace(tmp_path, environ={})) == []
    assert database_findings(Workspace(tmp_path, environ={"SYNTHTRACK_DB_URL": "postgresql://u@h/n"})) == []


def test_a_damaged_file_is_said_with_the_newest_copy(root: Path) -> None:
    done = call(root, "backup", "kept.db")
    assert done.code == 0
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(root / "tracker.db", 50_000)
    found = database_findings(Workspace(root, environ={}))
    assert [type(each) for each in found] == [Finding] * len(found)
    assert found
    said = call(root, "verify")
    assert (said.code, "Traceback" in said.err) == (6, False)
    assert "The newest copy in the workspace is kept.db." in said.out
    assert "Nothing else was checked: the database comes first." in said.out
    assert call(root, "verify", "--fix").code == 6
    assert call(root, "restore", "kept.db", "--yes").code == 0
    assert verify(root)[:2] == (0, [])


def test_without_its_log_it_is_an_older_record(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "tracker.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(root / "tracker.db", root / "without_log")
    assert call(root, "backup", "kept.db").code == 0
    assert call(root, "generate", "copa.yaml", "--no-mlflow", "--set", "generation.temperature=0.5").code == 0
    assert call(root, "backup", "newer.db").code == 0
    # As if the log with the newest had been deleted.
    for ending in ("-wal", "-shm"):
        Path(f"{root}/tracker.db{ending}").unlink(missing_ok=True)
    shutil.copyfile(root / "without_log", root / "tracker.db")
    code, findings, _ = verify(root)
    assert (code, [each["what"] for each in findings]) == (6, ["not in the record"])
    assert len(rows(root, "SELECT id FROM shared_experiment")) == 2
    assert call(root, "restore", "newer.db", "--yes").code == 0
    assert len(rows(root, "SELECT id FROM shared_experiment")) == 3
    assert call(root, "verify").code == 0


def test_of_a_complete_training_nothing_stays_that_was_there_to_resume_it(tmp_path: Path) -> None:
    training_study(tmp_path)
    found = rows(tmp_path, "SELECT status, directory FROM training_run ORDER BY status DESC")
    kept = {status: tmp_path / str(directory) / "checkpoint" for status, directory in found}
    assert set(kept) > {"complete", "stopped"}
    for path in kept.values():
        (path / "checkpoint-8").mkdir(parents=True)
        (path / "steps-000000000.log").touch()
    cleared = kept.pop("complete")
    left = str((cleared / "checkpoint-8").relative_to(tmp_path))
    living, moment = clock.this_process(), clock.to_text(clock.now())
    held = "UPDATE training_run SET host = ?, pid = ?, pid_started = ?, heartbeat = ? WHERE status = 'complete'"
    with contextlib.closing(sqlite3.connect(tmp_path / "tracker.db")) as connection, connection:
        connection.execute(held, (living.host, living.pid, living.started, moment))
    assert [each["where"] for each in verify(tmp_path)[1] if each["kind"] == "leftover"] == []
    with contextlib.closing(sqlite3.connect(tmp_path / "tracker.db")) as connection, connection:
        connection.execute(held, (living.host, dead_process(), living.started, moment))
    assert [each["where"] for each in verify(tmp_path)[1] if each["kind"] == "leftover"] == [left]
    assert f"Removed {left}, which a killed process left." in verify(tmp_path, "--fix")[2]
    assert [path.name for path in cleared.iterdir()] == ["steps-000000000.log"]
    assert all((path / "checkpoint-8").is_dir() for path in kept.values())
