"""A config made ready to run: read, validated, its data looked at, its identity known. Nothing is written yet."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.plan import Plan, make_plan
from pipeline.records import Source, read_source
from pipeline.specs import GenerationConfig, ModelSpec, deprecations, resolve
from pipeline.stored_source import source_of, stored_source
from tracker import clock, configs
from tracker.catalogue import Reader, Row, reading
from tracker.configs import Document
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.paths import Workspace, name_problem


@dataclass(frozen=True)
class Options:
    """What the command line adds to a config."""

    batch: str | None = None
    overrides: tuple[str, ...] = ()
    record_limit: int | None = None
    fresh: bool = False
    wait: bool = False
    accept_partial: bool = False
    max_cost: float | None = None
    command: str = "synthtrack generate"


@dataclass(frozen=True)
class Job:
    """A config that is ready to run: validated, its data read, its identity known."""

    path: str
    plan: Plan
    batch: str
    options: Options
    warnings: tuple[str, ...]


def prepare(workspace: Workspace, path: Path, options: Options) -> Job:
    """Reads a config and its data. Raises ConfigError or DataError with every problem found."""
    if os.fsencode(path).decode("utf-8", "replace") != str(path):
        raise ConfigError("A path cannot be used.", [Problem(repr(str(path)), "its name is not UTF-8")])
    document = configs.override(configs.load(path), options.overrides)
    given = configs.validate(GenerationConfig, document)
    warnings = deprecations(given)
    config = resolve(given, workspace.environ)
    batch = options.batch
    if batch is None:
        batch = config.experiment.batch_id or _default_batch(config.experiment.purpose)
    problem = name_problem(batch)
    if problem is not None:
        where = str(path) if options.batch is None else "--batch"
        raise ConfigError("The batch cannot be named so.", [Problem(where, problem)])
    source = _source(workspace, config)
    problem = name_problem(source.name)
    if problem is not None:
        raise ConfigError("The data set cannot be named so.", [Problem(str(path), f"dataset.dataset_name: {problem}")])
    plan = make_plan(config, document, source, record_limit=options.record_limit)
    if options.fresh:
        plan = _next_draw(workspace, plan)
    return Job(str(path), plan, batch, options, (*warnings, *plan.warnings))


def stored(workspace: Workspace, reader: Reader, row: Row, options: Options, path: str | None = None) -> Job:
    """An experiment of the record as a job: its config, its data as they were stored; ``row`` as ``listings`` gives it.

    ``options.overrides`` change the config. Raises ConfigError.
    """
    where = path or f"the config of {row['dataset']}/{row['name']}"
    document = configs.override(Document(nested(row["settings"]), where, {}), options.overrides)
    config = resolve(configs.validate(GenerationConfig, document), workspace.environ)
    source = source_of(reader, row["source_dataset_id"], config.generation.field_to_rephrase)
    plan = make_plan(config, document, source, record_limit=row["record_limit"], draw=row["draw"])
    return Job(where, plan, options.batch or row["original_batch"], options, plan.warnings)


def nested(settings: Mapping[str, Json]) -> dict[str, Json]:
    """A config of its settings under their dotted names. Unlike a config that is written out, it has what is null."""
    config: dict[str, Json] = {}
    for name, value in settings.items():
        *groups, key = name.split(".")
        target = config
        for group in groups:
            target = target.setdefault(group, {})
        target[key] = value
    return config


def _source(workspace: Workspace, config: GenerationConfig) -> Source:
    dataset, field = config.dataset, config.generation.field_to_rephrase
    if dataset.hub is not None and has_record(workspace):
        with reading(workspace) as reader:
            found = stored_source(reader, dataset, field)
        if found is not None:
            return found
    return read_source(dataset, field, workspace.find)


def has_record(workspace: Workspace) -> bool:
    """Whether there is a database to look into."""
    return workspace.database_url is not None or workspace.database.exists()


def existing(reader: Reader, plan: Plan) -> Row | None:
    """The experiment that has the plan's fingerprint, or None."""
    rows = reader.rows("SELECT * FROM experiment_overview WHERE fingerprint = :f", f=plan.identity.fingerprint)
    return rows[0] if rows else None


def _next_draw(workspace: Workspace, plan: Plan) -> Plan:
    """``plan`` as another draw of the same settings: the first one that is not there, or was left unfinished."""
    if not has_record(workspace):
        return dataclasses.replace(plan, draw=1)
    with reading(workspace) as reader:
        draw = 1
        while True:
            candidate = dataclasses.replace(plan, draw=draw)
            found = existing(reader, candidate)
            if found is None or found["status"] == "unfinished":
                return candidate
            draw += 1


def models_of(config: GenerationConfig) -> list[ModelSpec]:
    """The model that rephrases and, where there is one, the judge."""
    return [config.generation, *([config.validation] if config.validation is not None else [])]


def _default_batch(purpose: str) -> str:
    return f"batch_{clock.now():%Y%m%d}_{purpose}"
