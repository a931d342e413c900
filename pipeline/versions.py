"""What made a thing: Python and the packages, of which a run records the versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

_PACKAGES = ("synthtrack", "openai", "together", "mlflow", "sqlmodel", "datasets", "numpy")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that matter, as a run records them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
