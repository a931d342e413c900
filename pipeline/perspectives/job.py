"""A config of `perspectives` made ready to run: read, validated, its inputs looked at. Nothing is written yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.job import next_draw, usable_path
from pipeline.perspectives.inputs import read_inputs, refused, sampled, source_of, without_reference
from pipeline.perspectives.plan import Plan
from pipeline.perspectives.specs import PerspectivesConfig, model_of, resolved
from pipeline.specs import deprecations
from tracker import configs
from tracker.catalogue import Reader, Row
from tracker.configs import Document
from tracker.errors import Problem
from tracker.fingerprint import Json
from tracker.paths import Workspace

IN_MEMORY = "the config"
TEST_INPUTS, TEST_PERSPECTIVES = 10, 4
"""What ``--test`` makes do with."""


@dataclass(frozen=True)
class Options:
    """What the command line adds to a config."""

    overrides: tuple[str, ...] = ()
    test: bool = False
    fresh: bool = False
    wait: bool = False
    accept_partial: bool = False
    max_cost: float | None = None
    command: str = "synthtrack perspectives"


@dataclass(frozen=True)
class Job:
    """A config that is ready to run: validated, its inputs read, its identity known."""

    path: str
    plan: Plan
    options: Options
    warnings: tuple[str, ...]


def prepare(workspace: Workspace, path: Path, options: Options) -> Job:
    """Reads a config file and its inputs. Raises ConfigError or DataError with every problem found."""
    return prepared(workspace, configs.load(usable_path(path)), options)


def prepare_settings(workspace: Workspace, config: Mapping[str, Json], options: Options) -> Job:
    """The same for a config that was read already. Raises ConfigError or DataError with every problem found."""
    return prepared(workspace, Document(dict(config), IN_MEMORY), options)


def prepared(workspace: Workspace, document: Document, options: Options) -> Job:
    """The job of a config. Raises ConfigError or DataError with every problem found."""
    document = configs.override(document, options.overrides)
    config = configs.validate(PerspectivesConfig, document)
    if options.test:
        config = config.model_copy(update={"agent_perspectives": config.agent_perspectives[:TEST_PERSPECTIVES]})
    model = model_of(config, workspace.environ)
    path = workspace.find(config.data_config.input_data_path)
    found = read_inputs(path)
    size = config.data_config.sample_size
    if size is not None and size > len(found.inputs):
        where = document.where(("data_config", "sample_size"))
        what = f"`data_config.sample_size` is {size:,}, and there are {len(found.inputs):,} inputs in {path}"
        raise refused(
            "There are too few inputs.", path, [Problem(where, what)], "Lower it, or leave it out to use all."
        )
    problems = without_reference(found) if config.add_references else []
    if problems:
        raise refused("The inputs do not fit the config.", path, problems)
    used = sampled(found.inputs, size, config.seed)
    used = used[:TEST_INPUTS] if options.test else used
    source = source_of(config.task_type, path, workspace.relative(path), used)
    plan = Plan(resolved(config, model), model, source, used)
    warnings = [*deprecations(config)]
    if found.unused:
        warnings.append(f"{path}: the fields {', '.join(found.unused)} are not used; agents see `input` alone.")
    if options.fresh:
        plan = next_draw(workspace, lambda draw: dataclasses.replace(plan, draw=draw), existing)
    return Job(document.source, plan, options, tuple(warnings))


def existing(reader: Reader, plan: Plan) -> Row | None:
    """The agent data set that has the plan's fingerprint, or None."""
    rows = reader.rows("SELECT * FROM agent_dataset WHERE fingerprint = :f", f=plan.identity.fingerprint)
    return rows[0] if rows else None
