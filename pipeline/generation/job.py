"""A config made ready to run: read, validated, its data looked at, its identity known. Nothing is written yet."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.generation.plan import Plan, make_plan
from pipeline.providers import PACE, detect_provider, resolve
from pipeline.sources.records import Source, read_source
from pipeline.sources.stored_source import source_of, stored_source
from pipeline.specs import GenerationConfig, GenerationSpec, ModelSpec, ValidationSpec, deprecations
from tracker import clock, configs
from tracker.configs import Document
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.paths import Workspace, name_problem
from tracker.record.catalogue import Reader, Row, reading
from tracker.spec import marks

Drawn = TypeVar("Drawn")

_REACH = ("provider", "endpoint", "base_url", "api_key_env")
_LAST_RUN = """
    SELECT config, config_path FROM generation_run WHERE shared_experiment_id = :id AND outcome <> 'tested'
    ORDER BY id DESC LIMIT 1"""


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
    document = configs.override(configs.load(usable_path(path)), options.overrides)
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


def usable_path(path: Path) -> Path:
    """``path``, which the record can hold. Raises ConfigError where it cannot."""
    if os.fsencode(path).decode("utf-8", "replace") != str(path):
        raise ConfigError("A path cannot be used.", [Problem(repr(str(path)), "its name is not UTF-8")])
    return path


def stored(workspace: Workspace, reader: Reader, row: Row, options: Options) -> Job:
    """An experiment of the record as a job: its config, its data as they were stored; ``row`` as ``listings`` gives it.

    What shapes no data is as its last run was given it. ``options.overrides`` change the config as they would change
    the file that it came from. Raises ConfigError.
    """
    runs = reader.rows(_LAST_RUN, id=row["id"])
    given = _loosened(_as_last_run(nested(row["settings"]), runs), options.overrides)
    where = (runs and runs[0]["config_path"]) or f"the config of {row['dataset']}/{row['name']}"
    document = configs.override(Document(given, where, {}), options.overrides)
    config = resolve(configs.validate(GenerationConfig, document), workspace.environ)
    source = source_of(reader, row["source_dataset_id"], config.generation.field_to_rephrase)
    plan = make_plan(config, document, source, record_limit=row["record_limit"], draw=row["draw"])
    return Job(where, plan, options.batch or row["original_batch"], options, plan.warnings)


def judged_by(workspace: Workspace, own: Job, path: Path, options: Options) -> Job:
    """The job of an experiment with the judge of another config, which must fit the experiment's records.

    Raises ConfigError, also where that config has no judge.
    """
    document = configs.override(configs.load(path), options.overrides)
    given = configs.validate(GenerationConfig, document)
    judge, mine = resolve(given, workspace.environ).validation, own.plan.config.validation
    if judge is None or mine is None:
        raise ConfigError("There is no judge to test.", [Problem(str(path), "no `validation` section")])
    # Which samples people annotated is a fact by now.
    ranges = {"few_shot_range": mine.few_shot_range, "test_range": mine.test_range}
    config = own.plan.config.model_copy(update={"validation": judge.model_copy(update=ranges)})
    plan = make_plan(config, document, own.plan.source, record_limit=own.plan.record_limit, draw=own.plan.draw)
    return Job(str(path), plan, own.batch, options, (*deprecations(given), *plan.warnings))


def _as_last_run(config: dict[str, Json], runs: list[Row]) -> dict[str, Json]:
    """``config`` with the operational settings of both models as the last run was given them."""
    last = json.loads(runs[0]["config"]) if runs else {}
    for section, spec in (("generation", GenerationSpec), ("validation", ValidationSpec)):
        for name, field in spec.model_fields.items():
            mark = marks(field)
            if section in last and config.get(section) and mark.get("operational") and not mark.get("secret"):
                value = last[section].get(name)
                config[section][name] = None if value == "" else value
    return config


def _loosened(config: dict[str, Json], overrides: Sequence[str]) -> dict[str, Json]:
    """``config``, which was resolved when it was stored, without what would be found again.

    So that another model or address brings its own provider, endpoint, key and price with it, as it would in the file.
    """
    changed = {each.partition("=")[0].strip() for each in overrides}
    judge = config.get("validation")
    if not changed or not judge:
        return config
    generation = config["generation"]
    found_again = {name for name in (*_REACH, *PACE, "price") if judge.get(name) == generation.get(name)}
    if "validation.provider" in changed:
        found_again |= {"endpoint", "base_url", "api_key_env", "price"}
    if "validation.base_url" in changed:
        found_again |= {"endpoint", "price"}
    if "validation.model" in changed:
        found_again.add("price")
    for section in (generation, judge):
        if section["provider"] == detect_provider(section["model"]):
            del section["provider"]
    return config | {"validation": {name: value for name, value in judge.items() if name not in found_again}}


def nested(settings: Mapping[str, Json]) -> dict[str, Json]:
    """A config of its settings under their dotted names. Unlike a config that is written out, it has what is null."""
    config: dict[str, Json] = {}
    for name, value in settings.items():
        *groups, key = name.split(".")
        target = config
        for group in groups:
            target = target.setdefault(group, {})
        # A provider that needs no key is recorded with the empty name.
        target[key] = value if value or key != "api_key_env" else None
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
    return next_draw(workspace, lambda draw: dataclasses.replace(plan, draw=draw), existing)


def next_draw(
    workspace: Workspace, drawn: Callable[[int], Drawn], find: Callable[[Reader, Drawn], Row | None]
) -> Drawn:
    """Another draw of the same settings: the first one that is not there, or was left unfinished."""
    if not has_record(workspace):
        return drawn(1)
    with reading(workspace) as reader:
        return next(
            candidate
            for candidate in map(drawn, itertools.count(1))
            if (found := find(reader, candidate)) is None or found["status"] == "unfinished"
        )


def models_of(config: GenerationConfig) -> list[ModelSpec]:
    """The model that rephrases and, where there is one, the judge."""
    return [config.generation, *([config.validation] if config.validation is not None else [])]


def _default_batch(purpose: str) -> str:
    return f"batch_{clock.now():%Y%m%d}_{purpose}"
