"""Where things of another machine's workspace lie in this one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tracker.archives.bundle_tables import Row
from tracker.errors import DataError, Problem
from tracker.fingerprint import Json
from tracker.paths import SHARED, Workspace, name_problem
from tracker.schema import table

if TYPE_CHECKING:
    from sqlalchemy import Connection

_HINT = "Nothing was taken from it."
_RESULT_PARTS = 4
"""Of a result directory elsewhere: purpose, model, point and time."""


@dataclass(frozen=True)
class Places:
    """The trees of the workspace that rows come from, as they have them, and the workspace that they go to."""

    synthetic: str
    results: str
    workspace: Workspace

    @classmethod
    def of(cls, workspace: Workspace) -> Places:
        """Those of a workspace itself."""
        synthetic, results = workspace.synthetic_dir, workspace.results_dir
        return cls(workspace.relative(synthetic), workspace.relative(results), workspace)

    @classmethod
    def of_archive(cls, about: Mapping[str, Json], workspace: Workspace) -> Places:
        """Those that an archive names. Raises DataError."""
        given = about.get("places")
        if not isinstance(given, dict) or not all(
            isinstance(given.get(name), str) for name in ("synthetic", "results")
        ):
            what = "its places are not named: it is no archive that `synthtrack export` wrote"
            raise DataError("The archive is refused.", [Problem("manifest.json", what)], hint=_HINT)
        return cls(given["synthetic"], given["results"], workspace)

    def to_json(self) -> dict[str, Json]:
        """As an archive's manifest has it."""
        return {"synthetic": self.synthetic, "results": self.results}

    def adapt(self, connection: Connection, name: str, row: Row) -> Row:
        """A row with its directories where they are in the workspace that it goes to."""
        if name == "shared_experiment":
            return row | {"directory": None}
        if name == "training_run":
            return row | {"directory": self._results(connection, row["directory"])}
        if name == "training_data" and row["shared_experiment_id"] is not None:
            return row | {"directory": self._data(connection, row)}
        return row

    def _results(self, connection: Connection, directory: str) -> str:
        runs = table("training_run")
        wanted = self.workspace.relative(self.workspace.results_dir.joinpath(*results_tail(directory, self.results)))
        found, number = wanted, 1
        while (
            os.path.lexists(self.workspace.root / found)
            or connection.execute(runs.select().where(runs.c.directory == found)).first() is not None
        ):
            number += 1
            found = f"{wanted}_{number}"
        return found

    def _data(self, connection: Connection, row: Row) -> str:
        experiments = table("shared_experiment")
        chosen = experiments.select().where(experiments.c.id == row["shared_experiment_id"])
        experiment = connection.execute(chosen).mappings().one()
        tail = _below(row["directory"], self.synthetic)
        tree, own = self.workspace.relative(self.workspace.synthetic_dir), (experiment["dataset"], experiment["name"])
        if (
            tail is not None
            and len(tail) >= 3
            and tail[1:3] == own
            and all(name_problem(part) is None for part in tail[1:])
        ):
            return "/".join((tree, *tail))
        return "/".join((tree, SHARED, *own, experiment["dataset"]))


def results_tail(directory: str, results: str) -> tuple[str, ...]:
    """The parts of a result directory below the directory of all results. Raises DataError for what leads out of it."""
    parts, tree = PurePosixPath(directory).parts, PurePosixPath(results).name
    # Results of an older tree keep their places: its models' names have two parts.
    older = parts[len(parts) - parts[::-1].index(tree) :] if tree in parts else ()
    tail = _below(directory, results) or older or parts[-_RESULT_PARTS:]
    for part in tail or ("",):
        problem = name_problem(part)
        if problem is not None:
            what = [Problem("training_run", f"directory: {problem}")]
            raise DataError("The archive is refused.", what, hint=_HINT)
    return tail


def _below(directory: str, top: str) -> tuple[str, ...] | None:
    path = PurePosixPath(directory)
    return path.relative_to(top).parts if path.is_relative_to(top) else None
