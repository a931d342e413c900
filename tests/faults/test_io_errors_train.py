"""A disk that fails beneath a training: it is told, and the same command ends with the same bits once it works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.failing import failing
from tests.faults.surroundings import is_told
from tests.trainings import config, model_digest, new_root, predictions, trained
from tests.workspaces import call, finish, rows, start, write_config

pytestmark = pytest.mark.timeout(900)
TRAIN = ("train", "config.yaml", "--no-mlflow")
CASES = [
    ("zo", "write", "checkpoint/steps", 3),
    ("zo", "fsync", "checkpoint/steps", 1),
    ("zo", "open", "checkpoint/steps", 0),
    ("zo", "pwrite", "tracker.db-wal", 30),
    ("fo_lora", "write", "/checkpoint", 2),
    ("fo_lora", "fsync", "/checkpoint", 4),
    ("fo_lora", "rename", "/checkpoint", 1),
    ("fo_lora", "rename", "/model", 0),
]
"""The method, which of its calls fail on files of which path, after how many that go well."""
SHORT = CASES[6]


@pytest.mark.parametrize(
    ("method", "calls", "path", "after"),
    [case if case == SHORT else pytest.param(*case, marks=pytest.mark.soak) for case in CASES],
)
def test_a_call_that_fails_ends_a_training_which_goes_on_to_the_same_bits(
    method: str, calls: str, path: str, after: int, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"method": method, "hyperparameters__steps": 40, "hyperparameters__eval_steps": 10}
    (quiet,) = trained(new_root(tmp_path / "quiet"), **given)
    root = new_root(tmp_path / "workspace")
    write_config(root, config(**given), "config.yaml")
    done = finish(start(root, *TRAIN, environ=failing(calls, path, after=after)), timeout=600)
    assert is_told(done, 11 if path.startswith("tracker") else 16)
    assert rows(root, "SELECT COUNT(*) FROM training_run WHERE status = 'complete'") == [(0,)]
    again = call(root, *TRAIN)
    assert again.code == 0, again.err
    ((run_id, status, n_resumed),) = rows(root, "SELECT id, status, n_resumed FROM training_run")
    assert status == "complete"
    # Where it is the record that fails, nothing may have begun yet.
    assert n_resumed == 1 or path.startswith("tracker")
    assert predictions(root, run_id, "trained") == predictions(tmp_path / "quiet", quiet, "trained")
    assert model_digest(root, run_id) == model_digest(tmp_path / "quiet", quiet)
    verified = call(root, "verify")
    assert [line for line in verified.out.splitlines() if line[:1] == "❌" and "MLflow" not in line] == []
