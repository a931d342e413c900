"""Scorers of one's own: a Python file with one function for each benchmark, named like it."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Mapping
from pathlib import Path

from pipeline.pools.difficulty import Scorer
from pipeline.sources.lines import is_file
from tracker.errors import ConfigError, Problem


def load_scorers(path: Path) -> Mapping[str, Scorer]:
    """The public functions that a file defines, by name. It is run: only what a person names gets here, no config does.

    Raises ConfigError where it cannot be.
    """
    if not is_file(path) or path.suffix != ".py":
        raise ConfigError("The scorers cannot be read.", [Problem(str(path), "expected a Python file")])
    own = f"synthtrack_scorers_{path.stem}"
    try:
        # Not an import, which would take what it compiled before for a file that was edited within the same second.
        defined = runpy.run_path(str(path), run_name=own)
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError("The scorers cannot be read.", [Problem(str(path), what)]) from error
    found = {
        name: value
        for name, value in defined.items()
        if inspect.isfunction(value) and value.__module__ == own and not name.startswith("_")
    }
    if not found:
        raise ConfigError("There are no scorers.", [Problem(str(path), "it defines no public function")])
    return found
