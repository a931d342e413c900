"""What is recorded of where a run is trained, and what never is."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.training import surroundings

SECRETS = (
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "SYNTHTRACK_API_KEY", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_AUTH", "HF_SECRET", "TORCH_CREDENTIALS", "SLURM_JWT", "hf_Token",
    "HF_HUB_X", "SYNTHTRACK_DATABASE_PWD", "SYNTHTRACK_SLACK_WEBHOOK", "TORCH_OF_TOMORROW",
)  # fmt: skip
KEPT = {
    "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1", "HF_HOME": "/models", "PYTHONHASHSEED": "0",
    "SLURM_JOB_ID": "7", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TOKENIZERS_PARALLELISM": "false",
    "SYNTHTRACK_ROOT": "/work", "SYNTHTRACK_RESULTS_DIR": "/results",
}  # fmt: skip


def test_variables_that_change_a_training_are_kept_and_no_others() -> None:
    others = {"PATH": "/bin", "HOME": "/home/me", "MY_OMP_NUM_THREADS": "3", "PYTHONHASHSEEDS": "x"}
    found = surroundings.environment({**others, **KEPT})
    assert found == KEPT
    assert list(found) == sorted(found)


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_kept(name: str) -> None:
    assert surroundings.environment({name: "hunter2"}) == {}


def test_addresses_are_kept_without_their_passwords() -> None:
    found = surroundings.environment(
        {
            "SYNTHTRACK_DB_URL": "postgresql://me:hunter2@db.example/record",
            "MLFLOW_TRACKING_URI": "https://mlflow.example/?token=hunter2",
        }
    )
    assert found == {
        "MLFLOW_TRACKING_URI": "https://mlflow.example/?token=***",
        "SYNTHTRACK_DB_URL": "postgresql://me:***@db.example/record",
    }


@pytest.mark.parametrize("key", [f"hf_{'a' * 34}", f"ghp_{'A1' * 18}", f"sk-proj-{'x-_' * 20}"])
def test_what_looks_like_a_key_is_hidden_wherever_it_stands(key: str) -> None:
    found = surroundings.environment({"HF_HOME": f"/models/{key}", "SLURM_JOB_NAME": key, "VIRTUAL_ENV": "/hf_models"})
    assert found == {"HF_HOME": "/models/***", "SLURM_JOB_NAME": "***", "VIRTUAL_ENV": "/hf_models"}


def test_a_token_before_the_host_is_hidden() -> None:
    found = surroundings.environment({"MLFLOW_TRACKING_URI": "https://ghp_secret@host"})
    assert found == {"MLFLOW_TRACKING_URI": "https://***@host"}


def test_versions_are_those_that_are_installed(tmp_path: Path) -> None:
    found = surroundings.versions(tmp_path)
    assert found["python"] == platform.python_version()
    assert {name: found[name] for name in ("torch", "transformers", "numpy")} == {
        name: version(name) for name in ("torch", "transformers", "numpy")
    }
    assert "git_commit" not in found


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_state_of_the_workspace_under_git_is_told(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert "git_commit" not in surroundings.versions(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "results").write_text("not under version control")
    found = surroundings.versions(tmp_path)
    assert (found["git_commit"], found["git_changed"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "config.yaml").write_text("a: 2\n")
    assert surroundings.versions(tmp_path)["git_changed"] is True
