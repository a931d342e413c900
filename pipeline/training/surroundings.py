"""What a run is trained with and where: packages, git state, variables of the environment without secrets."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tracker.fingerprint import Json
from tracker.paths import (
    DATABASE_URL_VARIABLE,
    DIRECTORY_VARIABLES,
    MLFLOW_URI_VARIABLE,
    ROOT_VARIABLE,
    without_password,
)

_PACKAGES = ("synthtrack", "torch", "transformers", "peft", "accelerate", "numpy", "tokenizers", "safetensors")
# By name, as a variable that nobody thought of may hold anything.
_KEPT = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    *("PYTORCH_NO_CUDA_MEMORY_CACHING", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SOCKET_IFNAME"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTHONHASHSEED", "LD_LIBRARY_PATH"),
    *("VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_NODELIST", "SLURM_JOB_NODELIST"),
    *(ROOT_VARIABLE, DATABASE_URL_VARIABLE, MLFLOW_URI_VARIABLE, *DIRECTORY_VARIABLES),
)
# Tokens of the Hugging Face hub, GitHub, and of LLM endpoints.
_KEY = re.compile(r"\b(?:hf_|gh[opsu]_|github_pat_|sk-)[A-Za-z0-9_-]{16,}")
_GIT_TIMEOUT_S = 10


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables known to matter to a training, addresses without passwords and nothing that looks like a key."""
    kept = {name: environ[name] for name in sorted(_KEPT) if name in environ}
    return {name: _KEY.sub("***", without_password(value)) for name, value in kept.items()}


def versions(root: Path) -> dict[str, Json]:
    """Python, the packages that matter, and the git commit of the workspace where it is under version control."""
    found: dict[str, Json] = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    commit = _git(root, "rev-parse", "HEAD")
    if commit is not None:
        found["git_commit"] = commit
        found["git_changed"] = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return found


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607  the user's own git
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
