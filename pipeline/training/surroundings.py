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
from tracker.paths import without_password

_PACKAGES = ("synthtrack", "torch", "transformers", "peft", "accelerate", "numpy", "tokenizers", "safetensors")
_KEPT = re.compile(
    r"(CUDA|OMP|MKL|OPENBLAS|HF|HUGGINGFACE|TRANSFORMERS|TORCH|PYTORCH|NCCL|TOKENIZERS|SYNTHTRACK|MLFLOW|SLURM|CUBLAS)_"
    r"|(PYTHONHASHSEED|VIRTUAL_ENV|CONDA_DEFAULT_ENV|LD_LIBRARY_PATH|HOSTNAME)$"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|JWT", re.IGNORECASE)
_GIT_TIMEOUT_S = 10


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change a training, without those that name a secret, and addresses without passwords."""
    kept = {name: value for name, value in environ.items() if _KEPT.match(name) and not _SECRET.search(name)}
    # The one variable whose name sounds like a secret and is none.
    if "TOKENIZERS_PARALLELISM" in environ:
        kept["TOKENIZERS_PARALLELISM"] = environ["TOKENIZERS_PARALLELISM"]
    return {name: without_password(kept[name]) for name in sorted(kept)}


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
