"""From a plan to rows: a sweep with a directory for every run, or the unfinished one that goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.plan import Options, Plan, prepare
from pipeline.training.specs import TrainingConfig
from pipeline.training.train import register
from tests.databases import rows
from tests.faults.surroundings import mounted, read_only
from tests.workspaces import call, config, write_config, write_records
from tracker.clock import process_of
from tracker.errors import Conflict, StorageError
from tracker.paths import Workspace
from tracker.record import training
from tracker.record.database import open_database

MADE = "Data_v2/synthetic/_shared/Copa/temp07_topp10_rulesv1"
TRAIN: Mapping[str, Any] = {
    "experiment": {"purpose": "tuning", "description": "why"}, "model": "scratch:llama-tiny", "task": "Copa",
    "method": "zo", "data": {"paths": ["Data/original/Copa", MADE]}, "num_dev": 4,
    "cuda_devices": "cpu", "continue_on_error": True,
    "hyperparameters": {"learning_rate": [1e-3, 5e-4], "seed": [0, 1], "steps": 10, "batch_size": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_records(root, 12)
    write_config(root, config())
    assert call(root, "generate", "copa.yaml", "--no-mlflow").code == 0
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "workspace", symlinks=True)), environ={})


def plan(here: Workspace, *overrides: str, **options: Any) -> Plan:
    path = write_config(here.root, TRAIN, "configs/train.yaml")
    return prepare(here, path, Options(overrides, command="synthtrack train configs/train.yaml", **options))


def start(here: Workspace, *overrides: str, **options: Any) -> int:
    with open_database(here) as database:
        return register(here, database, plan(here, *overrides, **options), ["cpu"])


def runs(here: Workspace) -> list[dict[str, Any]]:
    return rows(here, "SELECT * FROM training_run ORDER BY id")


def end(here: Workspace, *statuses: str) -> None:
    """Ends the first runs."""
    with open_database(here) as database:
        for row, status in zip(runs(here), statuses, strict=False):
            training.end_run(database, row["id"], status, {})


def test_a_sweep_is_recorded_with_all_that_its_runs_need(here: Workspace) -> None:
    wanted = plan(here)
    sweep_id = start(here)
    [sweep] = rows(here, "SELECT * FROM training_sweep")
    assert (sweep["id"], sweep["key"], sweep["status"], sweep["n_points"]) == (sweep_id, wanted.key, "running", 4)
    assert (sweep["purpose"], sweep["description"], sweep["config_path"]) == ("tuning", "why", "configs/train.yaml")
    assert (bool(sweep["background"]), bool(sweep["continue_on_error"])) == (False, True)
    assert json.loads(sweep["varied"]) == ["learning_rate", "seed"]
    assert (json.loads(sweep["devices"]), json.loads(sweep["config"])) == (["cpu"], TRAIN)
    for row, point in zip(runs(here), wanted.points, strict=True):
        assert (row["digest"], row["identity"]) == (point.identity.digest, point.identity.canonical)
        assert (row["learning_rate"], row["seed"]) == (
            point.config.hyperparameters.learning_rate, point.config.hyperparameters.seed,
        )  # fmt: skip
        assert TrainingConfig.model_validate(json.loads(row["config"])) == point.config
        assert Path(row["directory"]).parent == point.place.relative_to(here.root)
        assert (here.root / row["directory"]).is_dir()
        assert (row["n_train"], row["n_dev"], row["n_eval"], row["data"]) == (
            16,
            4,
            2,
            "original+temp07_topp10_rulesv1",
        )
        assert (row["zo_eps"], row["lora_rank"], row["classes"]) == (1e-3, None, None)
        assert row["majority_accuracy"] == 0.5


def test_every_data_set_of_a_run_is_recorded(here: Workspace) -> None:
    start(here)
    found = rows(here, "SELECT * FROM training_data WHERE training_run_id = 1 ORDER BY position")
    [(fingerprint, digest)] = [
        tuple(r.values()) for r in rows(here, "SELECT fingerprint, data_digest FROM shared_experiment")
    ]
    assert [(row["path"], row["directory"], row["name"], row["shared_experiment_id"]) for row in found] == [
        ("Data/original/Copa", "Data/original/Copa", "original", None),
        (MADE, f"{MADE}/Copa", "temp07_topp10_rulesv1", 1),
    ]
    assert [(row["n_records"], row["first_record"], row["n_train"]) for row in found] == [(12, 0, 8), (12, 8, 8)]
    assert (found[1]["fingerprint"], found[1]["train_digest"]) == (fingerprint, digest)
    assert found[0]["eval_digest"] == found[1]["eval_digest"]


@pytest.mark.parametrize(("method", "expected"), [("zo", (1e-3, 4)), ("fo_full", (None, None)), ("fo_lora", (None, 4))])
def test_what_a_method_does_not_use_is_not_recorded(here: Workspace, method: str, expected: tuple[Any, Any]) -> None:
    start(here, f"method={method}", "hyperparameters.lora_rank=4")
    assert {(row["zo_eps"], row["lora_rank"]) for row in runs(here)} == {expected}


def test_two_starts_in_one_second_have_their_own_directories(here: Workspace) -> None:
    for _ in range(3):
        start(here, fresh=True)
    found = runs(here)
    assert len({row["directory"] for row in found}) == len(found) == 12
    assert [row["attempt"] for row in found] == [1] * 4 + [2] * 4 + [3] * 4


def test_an_unfinished_sweep_goes_on_with_what_is_left(here: Workspace) -> None:
    first = start(here)
    end(here, "complete", "stopped")
    assert start(here) == first
    assert [(row["position"], row["status"]) for row in runs(here)] == [
        (0, "complete"), (1, "stopped"), (2, "pending"), (3, "pending"),
    ]  # fmt: skip


def test_what_failed_is_tried_anew_in_its_place(here: Workspace) -> None:
    first = start(here)
    end(here, "failed", "complete", "complete", "failed")
    assert start(here) == first
    found = runs(here)
    assert [(row["position"], row["status"], row["attempt"]) for row in found[4:]] == [
        (0, "pending", 2),
        (3, "pending", 2),
    ]
    assert [row["fingerprint"] for row in found[4:]] == [found[0]["fingerprint"], found[3]["fingerprint"]]
    assert len({row["directory"] for row in found}) == 6
    assert len(rows(here, "SELECT * FROM training_data")) == 12
    # Once more: those that failed have a new attempt already.
    assert start(here) == first
    assert len(runs(here)) == 6


def test_points_that_are_done_can_be_left_out(here: Workspace) -> None:
    first = start(here)
    end(here, "complete", "complete", "complete", "failed")
    second = start(here, fresh=True, skip_done=True)
    assert [(row["training_sweep_id"], row["position"]) for row in runs(here)[4:]] == [(second, 0)] != [(first, 0)]
    assert runs(here)[4]["fingerprint"] == runs(here)[3]["fingerprint"]
    assert rows(here, "SELECT n_points FROM training_sweep WHERE id = :id", id=second) == [{"n_points": 1}]


def test_a_sweep_that_somebody_works_on_is_left_to_them(here: Workspace) -> None:
    start(here)
    with (
        open_database(here) as database,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
    ):
        columns = process_of(child.pid)
        with database.writing() as connection:
            connection.execute(
                training.SWEEP.update().values(host=columns.host, pid=columns.pid, pid_started=columns.started)
            )
        with pytest.raises(Conflict, match=f"is being trained by PID {child.pid}") as caught:
            start(here)
        assert caught.value.exit_code == 5
        assert "training status" in str(caught.value.hint)


def test_where_no_directory_can_be_made_nothing_is_recorded(here: Workspace) -> None:
    (here.root / "Results_v2").write_text("in the way")
    with pytest.raises(StorageError, match="Not a directory"):
        start(here)
    assert runs(here) == rows(here, "SELECT * FROM training_sweep") == []


def test_a_disk_that_is_read_only_is_said(here: Workspace, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1m") as disk:
        there = Workspace(here.root, environ={"SYNTHTRACK_RESULTS_DIR": str(disk)})
        with read_only(disk), pytest.raises(StorageError, match="Read-only file system"):
            start(there)
        assert runs(here) == []
        start(there)
        assert all(Path(row["directory"]).is_relative_to(disk) for row in runs(here))
