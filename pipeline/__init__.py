"""Makes data and models, and records them through the tracker."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.perspectives.api import DataGenerationPipeline
    from pipeline.pools.api import DatasetBuilder, Task

_MODULES = {
    "DataGenerationPipeline": "pipeline.perspectives.api",
    "DatasetBuilder": "pipeline.pools.api",
    "Task": "pipeline.pools.api",
}

__all__ = ["DataGenerationPipeline", "DatasetBuilder", "Task"]


def __getattr__(name: str) -> Any:
    # Every module of the package runs this file, and hardly any needs what these classes need.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
