"""The pipeline as a class, for notebooks and scripts."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from pathlib import Path

from pipeline.perspectives.generate import generate
from pipeline.perspectives.job import Job, Options, prepare, prepare_settings
from tracker.errors import Error, PartialResult
from tracker.fingerprint import Json
from tracker.paths import find_workspace


class DataGenerationPipeline:
    """Lets agents answer as ``config`` says: a configuration of `synthtrack perspectives`, or the path of one.

    ``root`` is the workspace (default: found as on the command line), ``options`` what the command line would add.
    """

    def __init__(
        self, config: Mapping[str, Json] | str | Path, root: str | Path | None = None, options: Options | None = None
    ) -> None:
        self.config = config
        self.workspace = find_workspace(root)
        self.options = options or Options(command="DataGenerationPipeline")

    async def generate_dataset(self) -> str:
        """The path of the finished file, made, resumed or found already made; logged to MLflow, or warned of.

        Works within a running event loop. Raises what `perspectives` raises, PartialResult where responses still fail.
        """
        job = self._job()
        for warning in job.warnings:
            warnings.warn(warning, stacklevel=2)
        try:
            outcome = await generate(self.workspace, job)
        finally:
            await asyncio.to_thread(self._log)
        if outcome.path is None or (outcome.status == "partial" and not self.options.accept_partial):
            raise PartialResult(
                f"{outcome.dataset['name']}: {outcome.run['n_failed']} of {job.plan.n_responses} responses still fail "
                f"(the first: {outcome.first_failure}).",
                hint="Call it again to try them again, or pass Options(accept_partial=True).",
            )
        return str(outcome.path)

    def _job(self) -> Job:
        if isinstance(self.config, (str, Path)):
            return prepare(self.workspace, self.workspace.find(self.config), self.options)
        return prepare_settings(self.workspace, self.config, self.options)

    def _log(self) -> None:
        from pipeline.job import has_record
        from tracker.mlflow_log import drain

        if not has_record(self.workspace):
            return
        try:
            what = f"{failed} runs are not logged yet." if (failed := drain(self.workspace).failed) else None
        except Error as error:
            # What was made is made, and what kept it from being made is to be said first.
            what = error.message
        if what is not None:
            warnings.warn(f"MLflow: {what} `synthtrack mlflow sync` tries again.", stacklevel=2)
