"""The pipeline as a class, for notebooks and scripts."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.generation.job import has_record
from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Job, Options, prepare, prepare_settings
from tracker.errors import ConfigError, Error, PartialResult, Problem
from tracker.fingerprint import Json
from tracker.paths import find_workspace, is_new, workspace_of

_COMMAND = "DataGenerationPipeline"
_TO_WAIT = "Pass Options(wait=True) to wait for it and share its data, or call it again later."


class DataGenerationPipeline:
    """Lets agents answer as ``config`` says: a configuration of `synthtrack perspectives`, or the path of one.

    ``root`` is the workspace (default: found as on the command line), ``options`` what the command line would add.
    Raises ConfigError for a config that is neither.
    """

    def __init__(
        self, config: Mapping[str, Json] | str | Path, root: str | Path | None = None, options: Options | None = None
    ) -> None:
        _refuse_what_is_none(config)
        self.config = config
        self.workspace = find_workspace(root)
        given = options or Options()
        command = _COMMAND if given.command == Options.command else given.command
        self.options = replace(given, command=command, to_wait=_TO_WAIT)

    async def generate_dataset(self) -> str:
        """The path of the finished file, made, resumed or found already made; logged to MLflow, or warned of.

        Works within a running event loop. Raises what `perspectives` raises, PartialResult where responses still fail.
        """
        job = self._job()
        for warning in job.warnings:
            warnings.warn(warning, stacklevel=2)
        if is_new(self.workspace) and not has_record(self.workspace):
            where = f"a new one is made in {self.workspace.root}; root= names another."
            warnings.warn(f"There is no workspace here: {where}", stacklevel=2)
        try:
            outcome = await generate(self.workspace, job)
        finally:
            await asyncio.to_thread(self._log)
        if outcome.path is None or (outcome.status == "partial" and not self.options.accept_partial):
            to_have = "to have the file with null for them" if outcome.path is None else "to be given its path"
            raise PartialResult(
                outcome.still_failing,
                hint=f"Call it again to try them again, or pass Options(accept_partial=True) {to_have}.",
            )
        return str(outcome.path)

    def _job(self) -> Job:
        if isinstance(self.config, (str, Path)):
            path = self.workspace.find(self.config)
            other = workspace_of(path) if is_new(self.workspace) and not has_record(self.workspace) else None
            if other is not None:
                raise ConfigError(
                    "There is no workspace here, and the configuration lies in another one.",
                    [Problem(str(self.config), f"in the workspace {other}")],
                    hint=f"Pass root={str(other)!r}, or root='.' to make a new workspace here.",
                )
            return prepare(self.workspace, path, self.options)
        return prepare_settings(self.workspace, self.config, self.options)

    def _log(self) -> None:
        from tracker.mlflow_runs.mlflow_log import drain

        if not has_record(self.workspace):
            return
        try:
            what = f"{failed} runs are not logged yet." if (failed := drain(self.workspace).failed) else None
        except Error as error:
            # What was made is made, and what kept it from being made is to be said first.
            what = error.message
        if what is not None:
            warnings.warn(f"MLflow: {what} `synthtrack mlflow sync` tries again.", stacklevel=2)


def _refuse_what_is_none(config: object) -> None:
    if not isinstance(config, (Mapping, str, Path)):
        what = f"expected a dictionary or the path of a file, not {type(config).__name__}"
        raise ConfigError("There is no configuration.", [Problem(_COMMAND, what)])
