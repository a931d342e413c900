"""Makes data and models, and records them through the tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.perspectives.api import DataGenerationPipeline

__all__ = ["DataGenerationPipeline"]


def __getattr__(name: str) -> Any:
    # Every module of the package runs this file, and hardly any needs what the class needs.
    if name in __all__:
        from pipeline.perspectives.api import DataGenerationPipeline

        return DataGenerationPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
