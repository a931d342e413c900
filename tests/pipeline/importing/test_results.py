"""Trees of results as older trainings left them: what becomes a row, what is told, and what is never taken."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.importing.report import DataFound, Report
from pipeline.importing.results import take_results
from tests import records
from tests.databases import rows
from tests.mlflow_reading import client_of, found
from tests.workspaces import REPOSITORY, call, environment
from tracker.fingerprint import identified
from tracker.paths import Workspace
from tracker.record.database import Database, open_database
from tracker.schema import table
from tracker.statistics import wilson

MODEL, DATA = "meta-llama/Llama-3.2-1B", "Data_v2/synthetic/_shared/Copa/temp07/Copa"
STAMP = "20251226_143000"
LEAF = "Copa_zo_temp07_1_6"
OUT = "{'loss': 0.69, 'step': 10}\n{'loss': 0.61, 'step': 20}\n{'train_runtime': 60.0, 'epoch': 1.0}\n"
MEASURED = "INFO:__main__:There are 0 training samples and 100 validation samples\nINFO:__main__:{'accuracy': 0.77}\n"
FAILED = "Traceback (most recent call last):\n  File 'run.py'\nRuntimeError: CUDA out of memory\n"
# In two parts, so that nobody takes it for a key that was published.
KEY = "sk-" + "aB3" * 10


def config(**changes: Any) -> dict[str, Any]:
    own = {"learning_rate": "1e-6", "batch_size": 16, "steps": 20, "seed": 0}
    hyper = {**own, **changes.pop("hyperparameters", {})}
    return {
        "timestamp": STAMP, "experiment_purpose": "hyperparameter_tuning", "model": MODEL, "task": "Copa",
        "method": "zo", "data": {"path": DATA}, "hyperparameters": hyper,
        "training_info": {"env_vars": {"LR": "1e-6"}, "command": "bash mezo.sh", "out_file": "o", "err_file": "e"},
        **changes,
    }  # fmt: skip


def put(
    results: Path, place: str, content: dict[str, Any] | str | None = None, out: str | None = OUT,
    err: str | None = MEASURED, **files: str,
) -> Path:  # fmt: skip
    """A result directory at ``place``; more files by name, with ``__`` for the point."""
    directory = results / place
    directory.mkdir(parents=True)
    if content is not None:
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (directory / "experiment_config.yaml").write_text(text)
    texts: list[tuple[str, str | None]] = [("1_6_train.out", out), ("1_6_train.err", err), *files.items()]
    for name, written in texts:
        if written is not None:
            (directory / name.replace("__", ".")).write_text(written)
    return directory


def place(leaf: str = LEAF, stamp: str = STAMP, purpose: str = "hyperparameter_tuning") -> str:
    return f"{purpose}/{MODEL}/{leaf}/{stamp}"


def take(workspace: Workspace, *, dry_run: bool = False, known: DataFound | None = None) -> Report:
    """An import of the workspace's own results; all data paths mean ``known``."""
    report = Report()
    if dry_run:
        take_results(workspace, None, workspace.results_dir, lambda _: known, None, report)
        return report
    with open_database(workspace) as database:
        take_results(workspace, database, workspace.results_dir, lambda _: known, import_run(database), report)
    return report


def import_run(database: Database) -> int:
    imported = table("import_run")
    values = {"kind": "tree", "origin": "old", "started_at": "2026-01-01T00:00:00.000000Z", "host": "h", "command": "c"}
    with database.writing() as connection:
        uuid = os.urandom(8).hex()
        added = connection.execute(imported.insert().values(uuid=uuid, **values).returning(imported.c.id))
        return int(added.scalar_one())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w", environ={})


def only(workspace: Workspace) -> dict[str, Any]:
    found = rows(workspace, "SELECT * FROM training_run")
    assert len(found) == 1
    return found[0]


def test_what_a_config_and_its_logs_say_becomes_a_run(workspace: Workspace) -> None:
    put(workspace.results_dir, place(), config())
    report = take(workspace)
    run = only(workspace)
    low, high = wilson(77, 100)
    expected = {
        "purpose": "hyperparameter_tuning", "model": MODEL, "task": "Copa", "method": "zo", "data": "temp07",
        "directory": f"Results_v2/{place()}", "learning_rate": 1e-6, "batch_size": 16, "steps": 20, "seed": 0,
        "status": "complete", "attempt": 1, "accuracy": 0.77, "n_correct": 77, "n_eval": 100, "accuracy_low": low,
        "accuracy_high": high, "step": 20, "train_loss": 0.61, "duration_s": 60.0, "error": None, "device": None,
        "zero_shot_accuracy": None, "n_train": None, "n_dev": None, "command": "bash mezo.sh", "host": None,
        "precision": "unknown",
    }  # fmt: skip
    assert {name: run[name] for name in expected} == expected
    assert json.loads(run["environment"]) == {"LR": "1e-6"}
    assert json.loads(run["settings"])["hyperparameters.learning_rate"] == 1e-6
    data = rows(workspace, "SELECT * FROM training_data")[0]
    assert (data["path"], data["train_digest"], data["shared_experiment_id"], data["n_records"]) == (
        DATA,
        "",
        None,
        None,
    )
    metrics = rows(workspace, "SELECT name, step, value FROM training_metric ORDER BY name, step")
    assert [tuple(row.values()) for row in metrics] == [("train/loss", 10, 0.69), ("train/loss", 20, 0.61)]
    assert [(item.outcome, item.path) for item in report.items] == [("taken", f"Results_v2/{place()}")]
    assert "accuracy 77.0% of 100 records" in report.items[0].what


@pytest.mark.parametrize(
    ("out", "err", "status", "accuracy", "error"),
    [
        (OUT, MEASURED + FAILED, "complete", 0.77, "RuntimeError: CUDA out of memory"),
        (OUT, FAILED, "failed", None, "RuntimeError: CUDA out of memory"),
        ("{'loss': 0.69, 'step': 10}\n", "", "interrupted", None, "its log ends without"),
        ("{'loss': 0.69, 'step': 10}\n", "Traceback (most recent call last):\nKeyboardInterrupt\n", "interrupted", None,
         "KeyboardInterrupt"),
        ("{'loss': 0.69, 'step': 10}\n", "Killed\n", "interrupted", None, "Killed"),
        ("", "Accuracy: 76.0%\n", "complete", 0.76, None),
        (OUT, "{'accuracy': nan}\n", "failed", None, "its accuracy is no number: {'accuracy': nan}"),
        (OUT, "{'dev_accuracy': nan}\n{'accuracy': 0.5}\n", "complete", 0.5, None),
        ("{'loss': 0.69, 'step': 10}\n", "CUDA out of memory\n", "failed", None, "CUDA out of memory"),
        (None, None, "interrupted", None, "it has no log"),
    ],
)  # fmt: skip
def test_how_a_run_ended(  # noqa: PLR0917  one case
    workspace: Workspace, out: str | None, err: str | None, status: str, accuracy: float | None, error: str | None
) -> None:
    put(workspace.results_dir, place(), config(), out, err)
    said = take(workspace).items[0].what
    assert error is None or error in said
    run = only(workspace)
    assert (run["status"], run["accuracy"]) == (status, accuracy)
    assert (run["error"] is None) == (error is None)
    assert error is None or error in run["error"]


def test_the_same_tree_again_takes_nothing_also_from_another_place(workspace: Workspace, tmp_path: Path) -> None:
    for leaf, stamp in ((LEAF, STAMP), (LEAF, "20251227_143000"), ("Copa_zo_temp07_5_7", STAMP)):
        rate = "5e-7" if leaf.endswith("5_7") else "1e-6"
        content = config(timestamp=stamp, hyperparameters={"learning_rate": rate})
        put(workspace.results_dir, place(leaf, stamp), content, err=f"{stamp}\n{MEASURED}")
    assert take(workspace).count("taken") == 3
    before = rows(workspace, "SELECT * FROM training_run ORDER BY id")
    again = take(workspace)
    assert (again.count("taken"), again.count("known")) == (0, 3)
    moved = tmp_path / "elsewhere"
    shutil.copytree(workspace.results_dir, moved)
    report = Report()
    with open_database(workspace) as database:
        take_results(workspace, database, moved, lambda _: None, import_run(database), report)
    assert [item.outcome for item in report.items] == ["known"] * 3
    assert rows(workspace, "SELECT * FROM training_run ORDER BY id") == before
    attempts = rows(
        workspace, "SELECT attempt, started_at FROM training_run WHERE learning_rate = 1e-6 ORDER BY attempt"
    )
    assert [row["attempt"] for row in attempts] == [1, 2]
    assert attempts[0]["started_at"] < attempts[1]["started_at"]


def test_runs_follow_their_tree_when_it_was_moved(workspace: Workspace, tmp_path: Path) -> None:
    put(workspace.results_dir, place(), config())
    take(workspace)
    before = only(workspace)
    moved = workspace.results_dir.rename(tmp_path / "moved")
    with open_database(workspace) as database:
        for outcome in ("taken", "known"):
            report = Report()
            take_results(workspace, database, moved, lambda _: None, import_run(database), report)
            assert [item.outcome for item in report.items] == [outcome]
    assert only(workspace) == before | {"directory": str(moved / place())}


def test_runs_have_their_data_when_it_comes_after_them(workspace: Workspace) -> None:
    put(workspace.results_dir, place(), config())
    take(workspace)
    before = only(workspace)
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = records.add_source(connection, "Copa", records.LINES), records.add_batch(connection, "b")
        experiment = records.add_experiment(connection, "temp07", batch=batch, source=source)
    known = DataFound(experiment, "0123456789ab", "Copa", "temp07", DATA.removesuffix("/Copa"), "a" * 64, None, 400)
    foreseen, report = take(workspace, dry_run=True, known=known), take(workspace, known=known)
    assert [(item.outcome, item.what) for item in report.items] == [
        ("taken", "imported before; its data, temp07, is in the record now")
    ]
    assert foreseen.items == report.items
    run = only(workspace)
    assert (run["uuid"], run["attempt"], run["accuracy"]) == (before["uuid"], 1, 0.77)
    assert run["fingerprint"] == identified("training_run", run["identity"]).fingerprint != before["fingerprint"]
    data = rows(workspace, "SELECT shared_experiment_id, fingerprint, train_digest FROM training_data")
    assert [tuple(row.values()) for row in data] == [(experiment, "0123456789ab", "a" * 64)]
    for again in (known, None):
        assert [item.outcome for item in take(workspace, known=again).items] == ["known"]
    assert only(workspace) == run


def test_a_changed_log_is_told_and_not_taken(workspace: Workspace) -> None:
    directory = put(workspace.results_dir, place(), config(), err="")
    take(workspace)
    (directory / "1_6_train.err").write_text(MEASURED)
    report = take(workspace)
    assert [(item.outcome, item.what) for item in report.items] == [
        ("known", "imported before; its files have changed since")
    ]
    assert only(workspace)["accuracy"] is None


def test_runs_that_were_trained_here_are_left_alone(workspace: Workspace) -> None:
    put(workspace.results_dir, place(), config())
    take(workspace)
    with open_database(workspace) as database, database.writing() as connection:
        connection.execute(table("training_run").update().values(config="{}", import_run_id=None))
    assert [(item.outcome, item.what) for item in take(workspace).items] == [("known", "trained here")]


def test_a_dry_run_writes_nothing(workspace: Workspace) -> None:
    put(workspace.results_dir, place(), config())
    assert take(workspace, dry_run=True).count("taken") == 1
    assert not workspace.database.exists()
    take(workspace)
    assert take(workspace, dry_run=True).count("known") == 1


def test_a_sweep_holds_what_was_trained_for_one_purpose(workspace: Workspace) -> None:
    for rate, name in (("1e-6", "1_6"), ("5e-7", "5_7")):
        put(workspace.results_dir, place(f"Copa_zo_temp07_{name}"), config(hyperparameters={"learning_rate": rate}))
    put(workspace.results_dir, place(purpose="baseline"), config(experiment_purpose="baseline"))
    take(workspace)
    sweeps = rows(workspace, "SELECT purpose, n_points, varied, status FROM training_sweep ORDER BY purpose")
    assert [tuple(row.values()) for row in sweeps] == [
        ("baseline", 1, "[]", "complete"),
        ("hyperparameter_tuning", 2, '["learning_rate"]', "complete"),
    ]


def test_data_that_is_known_is_linked_and_says_of_how_many_records(workspace: Workspace) -> None:
    lines = "".join(f'{{"idx": {number}}}\n' for number in range(100))
    directory = workspace.root / DATA
    directory.mkdir(parents=True)
    (directory / "copa_validation.jsonl").write_text(lines)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    with open_database(workspace) as database, database.writing() as connection:
        source, batch = records.add_source(connection, "Copa", records.LINES), records.add_batch(connection, "b")
        experiment = records.add_experiment(connection, "temp07", batch=batch, source=source)
    top = DATA.removesuffix("/Copa")
    known = DataFound(experiment, "0123456789ab", "Copa", "temp07", top, "a" * 64, digest, 400)
    put(workspace.results_dir, place(), config(), err="Accuracy: 77.0%\n")
    put(
        workspace.results_dir,
        place(stamp="20251228_000000"),
        config(timestamp="20251228_000000"),
        err="Accuracy: 77.31%",
    )
    report = take(workspace, known=known)
    first, second = rows(workspace, "SELECT * FROM training_run ORDER BY id")
    assert (first["n_eval"], first["n_correct"]) == (100, 77)
    # No share of 100 records is printed as 77.31%.
    assert rows(workspace, "SELECT directory FROM training_data")[0]["directory"] == DATA
    assert (second["accuracy"], second["n_eval"], second["accuracy_low"]) == (0.7731, None, None)
    assert "cannot be of 100 records" in report.of("wrong")[0].what
    data = rows(workspace, "SELECT * FROM training_data")[0]
    names = ("shared_experiment_id", "fingerprint", "train_digest", "eval_digest", "n_records")
    assert tuple(data[name] for name in names) == (experiment, "0123456789ab", "a" * 64, digest, 400)
    assert rows(workspace, "SELECT data_experiment FROM training_overview")[0]["data_experiment"] == "Copa/temp07"


def test_a_config_that_is_missing_is_made_up_for_by_the_names(workspace: Workspace) -> None:
    put(workspace.results_dir, place("ArcC_MC_fo_lora_original_5_7"))
    put(workspace.results_dir, place("nonsense"))
    put(workspace.results_dir, place("Copa_zo_other_1.5_6"), out=None, err=None)
    report = take(workspace)
    run = only(workspace)
    names = ("task", "method", "data", "learning_rate", "model", "batch_size", "steps", "seed", "started_at")
    assert [run[name] for name in names[:-1]] == ["ArcC_MC", "fo_lora", "original", 5e-7, MODEL, None, None, None]
    assert run["started_at"] is not None
    skipped = {item.path.rpartition("/")[0].rpartition("/")[2]: item.what for item in report.of("skipped")}
    assert skipped == {
        "nonsense": "no learning rate, neither in a config nor in the directory's name; the accuracy of 77.0% in its "
        "log is not taken: mend the config, or name the directory like Copa_zo_temp07_1_6 (1e-6), and import again",
        "Copa_zo_other_1.5_6": "neither a config nor a log nor metrics",
    }


def test_where_the_directory_says_otherwise_the_config_is_taken_and_it_is_told(workspace: Workspace) -> None:
    put(workspace.results_dir, place("CB_zo_temp07_5_7", purpose="other"), config())
    report = take(workspace)
    run = only(workspace)
    assert (run["task"], run["learning_rate"], run["purpose"]) == ("Copa", 1e-6, "hyperparameter_tuning")
    told = " ".join(item.what for item in report.of("wrong"))
    assert all(word in told for word in ("purpose other", "task CB", "learning rate 5e-07"))


def test_what_a_log_shows_against_its_config_is_noted(workspace: Workspace) -> None:
    put(workspace.results_dir, place(), config(), out=f"OurArguments(\nseed=42,\nmax_steps=20,\n)\n{OUT}")
    take(workspace)
    assert only(workspace)["seed"] == 0
    assert rows(workspace, "SELECT warning FROM training_data")[0]["warning"] == "its log says seed 42, its config 0"


def test_a_literal_key_is_told_never_shown_and_never_stored(workspace: Workspace) -> None:
    info = {"env_vars": {"OPENAI_API_KEY": KEY, "LR": "1"}, "command": f"OPENAI_API_KEY={KEY} bash mezo.sh"}
    failed = f"Traceback (most recent call last):\nValueError: the key {KEY} is wrong\n"
    put(workspace.results_dir, place(), config(training_info=info), err=failed)
    report = take(workspace)
    assert "training_info.env_vars.OPENAI_API_KEY" in " ".join(item.what for item in report.of("wrong"))
    assert KEY not in json.dumps(report.to_json())
    assert "ValueError: the key" in only(workspace)["error"]
    for path in workspace.root.glob("tracker.db*"):
        assert KEY.encode() not in path.read_bytes()
    assert call(workspace.root, "mlflow", "sync").code == 0
    stored = [path for path in (workspace.root / "mlruns").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2\n", "x: 1\nx: 2\n", "\x00", "!!python/object:x {}", ""])
def test_a_config_that_cannot_be_read_leaves_the_names(workspace: Workspace, content: str) -> None:
    put(workspace.results_dir, place(), content)
    report = take(workspace)
    assert only(workspace)["learning_rate"] == 1e-6
    assert report.of("wrong")


def test_links_pipes_and_odd_names_are_no_trap(workspace: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Accuracy: 99%\n")
    directory = put(workspace.results_dir, place(), config(), out=None, err=None)
    (directory / "train.out").symlink_to(secret)
    os.mkfifo(directory / "train.err")
    (directory / "loop").symlink_to(directory)
    odd = put(workspace.results_dir, place("Copa_zo_\udcff_1_6"))
    report = take(workspace)
    assert only(workspace)["accuracy"] is None
    assert [item.what for item in report.of("skipped")] == ["its name is not UTF-8"]
    assert odd.exists()
    json.dumps(report.to_json(), ensure_ascii=False).encode()


def test_listings_comparisons_and_mlflow_have_imported_runs(workspace: Workspace) -> None:
    for number, (rate, name, err) in enumerate(
        (("1e-6", "1_6", MEASURED), ("5e-7", "5_7", "Accuracy: 80%\n"), ("2e-7", "2_7", FAILED), ("1e-7", "1_7", ""))
    ):
        own = config(hyperparameters={"learning_rate": rate} | ({"seed": None} if number == 1 else {}))
        put(workspace.results_dir, place(f"Copa_zo_temp07_{name}"), own, err=err)
    take(workspace)
    root = workspace.root
    uuids = [row["uuid"][:10] for row in rows(workspace, "SELECT uuid FROM training_run ORDER BY learning_rate DESC")]
    commands: tuple[tuple[str, ...], ...] = (
        ("result", "list"), ("result", "list", "--detail"), ("result", "list", "--json"), ("training", "status"),
        ("training", "status", "--all", "--json"), ("result", "best", "--by", "learning_rate"),
        ("result", "compare", *uuids[:2]), ("result", "compare", *uuids[:2], "--json"),
        *(("result", "show", uuid) for uuid in uuids), *(("result", "show", uuid, "--json") for uuid in uuids),
        ("training", "status", uuids[1]), ("training", "logs", uuids[0]), ("training", "resume", uuids[3]),
    )  # fmt: skip
    for command in commands:
        done = call(root, *command)
        assert (done.code, done.err) == (0, ""), (command, done)
        assert "nan" not in done.out
    assert "80.0% (of how many records is not known)" in call(root, "result", "list").out
    assert "Nothing is left to train" in call(root, "training", "resume").out
    synced = call(root, "mlflow", "sync")
    assert (synced.code, "5 runs logged" in synced.out + synced.err) == (0, True), synced
    runs = found(client_of(workspace), "synthtrack.kind", "training_run")
    accuracies = {run.data.metrics.get("eval/accuracy") for run in runs}
    assert (len(runs), accuracies) == (4, {0.77, 0.8, None})


_KILLED = """
import sys
from pathlib import Path
from pipeline.importing.report import Report
from pipeline.importing.results import take_results
from tracker.record.database import open_database
from tracker.paths import Workspace
workspace = Workspace(Path(sys.argv[1]), environ={})
with open_database(workspace) as database:
    print("begun", flush=True)
    take_results(workspace, database, workspace.results_dir, lambda _: None, None, Report())
"""


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_killed_in_its_middle_and_begun_again_it_has_everything_once(workspace: Workspace, after_s: float) -> None:
    n = 60
    for number in range(n):
        content = config(experiment_purpose=f"p{number}", hyperparameters={"seed": number})
        put(workspace.results_dir, place(purpose=f"p{number}"), content)
    open_database(workspace).close()
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(workspace.root)], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = "SELECT COUNT(*) AS n FROM training_sweep w JOIN training_run r ON r.training_sweep_id = w.id JOIN training_data d ON d.training_run_id = r.id JOIN mlflow_outbox o ON o.training_run_id = r.id"  # noqa: E501  one query
    there = rows(workspace, whole)[0]["n"]
    assert rows(workspace, "SELECT COUNT(*) AS n FROM training_sweep")[0]["n"] == there
    report = take(workspace)
    assert (report.count("taken"), report.count("known")) == (n - there, there)
    assert rows(workspace, whole)[0]["n"] == n
    assert rows(workspace, "SELECT COUNT(DISTINCT fingerprint) AS n FROM training_run")[0]["n"] == n


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=6), each, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*config(), "description", "experiment", "num_train"])
HYPER = st.sampled_from(["learning_rate", "batch_size", "steps", "seed", "zo_eps", "lora_rank", "x"])


@settings(max_examples=60)
@given(
    st.dictionaries(KEYS, VALUES, max_size=6), st.dictionaries(HYPER, VALUES, max_size=5),
    st.binary(max_size=200), st.binary(max_size=200),
)  # fmt: skip
def test_whatever_a_config_and_logs_hold_a_run_is_taken_or_skipped(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any], hyper: dict[str, Any], out: bytes, err: bytes
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("fuzz"), environ={})
    directory = put(workspace.results_dir, place(), {**config(), **given, "hyperparameters": hyper}, out=None, err=None)
    (directory / "1_6_train.out").write_bytes(out)
    (directory / "1_6_train.err").write_bytes(err)
    report = take(workspace)
    assert report.count("taken") + report.count("skipped") == 1
    again = take(workspace)
    assert again.count("taken") == 0
    json.dumps(report.to_json(), ensure_ascii=False).encode()
