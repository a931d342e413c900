"""Scorers of one's own: a Python file with one function for each benchmark, named like it."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path

from pipeline.pools.difficulty import Scorer
from tracker.errors import ConfigError, Problem


def load_scorers(path: Path) -> Mapping[str, Scorer]:
    """The public functions that a file defines, by name. It is run: only what a person names gets here, no config does.

    Raises ConfigError where it cannot be.
    """
    spec = importlib.util.spec_from_file_location(f"synthtrack_scorers_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError("The scorers cannot be read.", [Problem(str(path), "expected a Python file")])
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError("The scorers cannot be read.", [Problem(str(path), what)]) from error
    found = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    if not found:
        raise ConfigError("There are no scorers.", [Problem(str(path), "it defines no public function")])
    return found
