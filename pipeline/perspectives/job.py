"""A config of `perspectives` made ready to run: read, validated, its inputs looked at. Nothing is written yet."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pipeline.generation.job import next_draw, usable_path
from pipeline.perspectives.inputs import Input, Inputs, read_inputs, refused, sampled, source_of, without_reference
from pipeline.perspectives.plan import Plan
from pipeline.perspectives.specs import PerspectivesConfig, model_of, resolved, validated
from pipeline.specs import deprecations
from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError, Problem
from tracker.fingerprint import Json
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row

IN_MEMORY = "the config"
TEST_INPUTS, TEST_PERSPECTIVES = 10, 4
"""What ``--test`` makes do with."""


@dataclass(frozen=True)
class Options:
    """What the command line adds to a config. Raises ConfigError for a cap that is none.

    ``to_wait`` is the hint where somebody else makes the data set now.
    """

    overrides: tuple[str, ...] = ()
    test: bool = False
    fresh: bool = False
    wait: bool = False
    accept_partial: bool = False
    max_cost: float | None = None
    command: str = "synthtrack perspectives"
    to_wait: str = "Add --wait to wait for it and share its data, or run the same command later."

    def __post_init__(self) -> None:
        if self.max_cost is not None and not 0 <= self.max_cost < math.inf:
            what = f"expected US dollars, 0 or more, not {self.max_cost}"
            raise ConfigError("The cap on what it may cost cannot be used.", [Problem("max_cost", what)])


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
    problems = [Problem(f"{IN_MEMORY}, `{where}`", what) for where, what in _unusable(dict(config), "")]
    if problems:
        raise ConfigError(f"{IN_MEMORY} holds what is no text.", problems)
    data = {name: _as_written(value) for name, value in config.items()}
    return prepared(workspace, Document(data, IN_MEMORY), options)


def prepared(workspace: Workspace, document: Document, options: Options) -> Job:
    """The job of a config. Raises ConfigError or DataError with every problem found."""
    document = configs.override(document, options.overrides)
    config = validated(document)
    if options.test:
        config = config.model_copy(update={"agent_perspectives": config.agent_perspectives[:TEST_PERSPECTIVES]})
    model = model_of(config, workspace.environ)
    path = workspace.find(config.data_config.input_data_path)
    found = read_inputs(path)
    used = _used(document, config, found, path, test=options.test)
    source = source_of(config.task_type, path, workspace.relative(path), used)
    plan = Plan(resolved(config, model), model, source, used)
    warnings = [*deprecations(config)]
    if found.unused:
        fields = f"fields {', '.join(found.unused)} are" if len(found.unused) > 1 else f"field {found.unused[0]} is"
        warnings.append(f"{path}: the {fields} not used; agents see `input` alone.")
    if options.fresh:
        plan = next_draw(workspace, lambda draw: dataclasses.replace(plan, draw=draw), existing)
    return Job(document.source, plan, options, tuple(warnings))


def _used(
    document: Document, config: PerspectivesConfig, found: Inputs, path: Path, *, test: bool
) -> tuple[Input, ...]:
    """The inputs that the config asks for. Raises DataError where there are too few, or references are missing."""
    size, n = config.data_config.sample_size, len(found.inputs)
    chosen = sampled(n, size, config.seed)[: TEST_INPUTS if test else None]
    problems, hint = without_reference(found, chosen) if config.add_references else [], None
    if size is not None and size > n:
        where = document.where(("data_config", "sample_size"))
        what = f"`data_config.sample_size` is {size:,}, and there are {n:,} inputs in {path}"
        problems, hint = [Problem(where, what), *problems], "Lower sample_size, or leave it out to use all."
    if problems:
        raise refused("The inputs do not fit the config.", path, problems, hint)
    return tuple(found.inputs[at] for at in chosen)


def _as_written(value: Any) -> Any:
    """``value`` as a file would have it: paths are texts there."""
    if isinstance(value, Mapping):
        return {name: _as_written(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_written(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def _unusable(value: Json, where: str) -> Iterator[tuple[str, str]]:
    """Where a file could not say what is there, for the files' readers refuse it."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _unusable(item, f"{where}.{name}".removeprefix("."))
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _unusable(item, f"{where}.{at}")
    elif isinstance(value, str) and re.search(r"[\0\ud800-\udfff]", value):
        yield where, "holds U+0000 or half of a surrogate pair"


def existing(reader: Reader, plan: Plan) -> Row | None:
    """The agent data set that has the plan's fingerprint, or None."""
    rows = reader.rows("SELECT * FROM agent_dataset WHERE fingerprint = :f", f=plan.identity.fingerprint)
    return rows[0] if rows else None
