"""A training config made ready: read, validated, its data and model looked at, every point's identity known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.training import data as training_data
from pipeline.training import places
from pipeline.training.data import DataSet
from pipeline.training.material import Material, material
from pipeline.training.models import ModelInfo, describe
from pipeline.training.specs import UNCATEGORIZED, TrainingConfig, effective, grid, without_effect
from pipeline.training.tasks import TASKS, Task
from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError, Problem, UnknownReference
from tracker.fingerprint import Identity, Json, content_key, identify
from tracker.paths import Workspace
from tracker.record.catalogue import Reader, Row, reading
from tracker.spec import identity, public, settings

TRAINING = 1
"""Part of the identity: to be raised when other weights would come of the same settings."""

_EARLIER = """
    SELECT fingerprint, COUNT(*) AS n, SUM(CASE WHEN status = 'complete' THEN 1 ELSE 0 END) AS n_complete
    FROM training_run WHERE task = :task AND method = :method GROUP BY fingerprint"""
_UNFINISHED = """
    SELECT w.id, w.uuid, w.status FROM training_sweep w WHERE w.key = :key AND w.id =
        (SELECT MAX(l.id) FROM training_sweep l WHERE l.key = :key)
    AND (w.status IN ('running', 'interrupted') OR EXISTS (
                SELECT 1 FROM training_run r WHERE r.training_sweep_id = w.id AND r.status <> 'complete'
                AND r.attempt = (SELECT MAX(n.attempt) FROM training_run n
                                 WHERE n.training_sweep_id = w.id AND n.position = r.position)))"""


@dataclass(frozen=True)
class Options:
    """What the command line adds to a config."""

    overrides: tuple[str, ...] = ()
    skip_done: bool = False
    fresh: bool = False
    command: str = "synthtrack train"


@dataclass(frozen=True)
class Point:
    """One point of the grid; ``config`` has every default filled in, ``place`` is what all its runs have in common."""

    config: TrainingConfig
    identity: Identity
    place: Path
    n_attempts: int = 0
    n_complete: int = 0


@dataclass(frozen=True)
class Plan:
    """What a config asks for. ``unfinished`` is the row of the sweep that the same command resumes."""

    path: str
    document: Document = field(repr=False)
    points: tuple[Point, ...]
    varied: tuple[str, ...]
    task: Task
    data: tuple[DataSet, ...]
    material: Material = field(repr=False)
    model: ModelInfo
    model_location: str
    key: str
    warnings: tuple[str, ...]
    options: Options
    unfinished: Row | None = None

    @property
    def config(self) -> TrainingConfig:
        """The settings that are the same in every point, as those of the first."""
        return self.points[0].config

    @property
    def data_name(self) -> str:
        return data_name(self.data)

    def wanted(self) -> tuple[Point, ...]:
        """The points to train: all, or those never finished before."""
        return tuple(each for each in self.points if not (self.options.skip_done and each.n_complete))


def data_name(data: Sequence[DataSet]) -> str:
    """The data's short name in result directories: ``original``, ``temp07_topp10_gpt4o``, ``original+temp07...``."""
    return "+".join(each.name for each in data)


def prepare(workspace: Workspace, path: Path, options: Options) -> Plan:
    """Reads a config, its data and its model's description. Raises ConfigError, DataError and their like."""
    if os.fsencode(path).decode("utf-8", "replace") != str(path):
        raise ConfigError("A path cannot be used.", [Problem(repr(str(path)), "its name is not UTF-8")])
    document = configs.override(configs.load(path), options.overrides)
    found = grid(document)
    task = _task(found.points[0], document)
    ready = [effective(each, num_dev=task.num_dev, classification=task.classification) for each in found.points]
    config = ready[0]
    with _reading(workspace) as reader:
        data = training_data.resolve(workspace, reader, config.data, task, document.where(("data",)))
        questions = material(data, task, config)
        warnings = [*_config_warnings(ready, document), *_data_warnings(reader, data, config, questions)]
        location = locate_model(workspace, config.model)
        model = describe(location, environ=workspace.environ)
        location = _pinned(location, model.identity)
        earlier = {} if reader is None else _earlier(reader, config)
        own = [training_identity(each, data=data, questions=questions, model=model.identity) for each in ready]
        # A directory goes by its last name; two parts would be taken for a name of the hub.
        shown = Path(location).name if os.path.isdir(location) else config.model  # noqa: PTH112
        points = _distinct(
            _point(workspace, *each, model=shown, data=data_name(data), earlier=earlier)
            for each in zip(ready, own, strict=True)
        )
        varied = tuple(name for name in found.varied if len({_value(each, name) for each in points}) > 1)
        wanted = [each.identity.digest for each in points if not (options.skip_done and each.n_complete)]
        key = content_key([config.experiment.purpose, wanted])
        unfinished = None if reader is None or options.fresh else _first(reader.rows(_UNFINISHED, key=key))
    return Plan(
        str(path), document, points, varied, task, tuple(data), questions, model, location, key, tuple(warnings),
        options, unfinished,
    )  # fmt: skip


def locate_model(workspace: Workspace, name: str) -> str:
    """``name``, or the absolute path where it means a directory here or in the workspace."""
    there = workspace.find(name)
    return str(there.absolute()) if os.path.isdir(there) else name  # noqa: PTH112  Path.is_dir raises for long names


def _pinned(location: str, model: Json) -> str:
    """Of a name on the hub the commit, so that every run trains what was looked at, wherever the name leads by then."""
    return f"{model['hub']}@{model['revision']}" if isinstance(model, dict) and "hub" in model else location


def training_identity(config: TrainingConfig, *, data: Sequence[DataSet], questions: Material, model: Json) -> Identity:
    """What makes a training run itself; ``config`` has its defaults filled in."""
    shaping = _pruned(identity(config), without_effect(config))
    return identify(
        "training_run",
        {
            **shaping,
            "model": model,
            "data": [{"fingerprint": each.fingerprint, "train": each.train_digest} for each in data],
            "evaluation": data[0].eval_digest,
            "questions": questions.digest(),
            "training": TRAINING,
        },
    )


def recorded_settings(config: TrainingConfig) -> dict[str, Json]:
    """Every setting of a point under its dotted name, without those that do nothing for its method."""
    return {name: value for name, value in settings(config).items() if name not in without_effect(config)}


def recorded_config(config: TrainingConfig) -> dict[str, Json]:
    """A point's config as YAML has it, without what does nothing for its method."""
    return _pruned(public(config), without_effect(config))


def _pruned(nested: dict[str, Json], names: frozenset[str]) -> dict[str, Json]:
    found = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            inside = frozenset(each.partition(".")[2] for each in names if each.startswith(f"{name}."))
            found[name] = _pruned(value, inside)
        elif name not in names:
            found[name] = value
    return found


def _point(
    workspace: Workspace, config: TrainingConfig, own: Identity, *, model: str, data: str, earlier: Mapping[str, Row]
) -> Point:
    place = places.results_directory(
        workspace.results_dir, purpose=config.experiment.purpose, model=model, task=config.task,
        method=config.method, data=data, rate=config.hyperparameters.learning_rate,
    )  # fmt: skip
    before = earlier.get(own.fingerprint, {"n": 0, "n_complete": 0})
    return Point(config, own, place, before["n"], before["n_complete"])


def _distinct(points: Iterable[Point]) -> tuple[Point, ...]:
    """Each point once: those that differ in what has no effect train the same."""
    found: dict[str, Point] = {}
    for each in points:
        found.setdefault(each.identity.digest, each)
    return tuple(found.values())


def _value(point: Point, name: str) -> Json:
    return getattr(point.config.hyperparameters, name)


def _task(config: TrainingConfig, document: Document) -> Task:
    if config.task in TASKS:
        return TASKS[config.task]
    same = [name for name in TASKS if name.lower() == config.task.lower()]
    error = UnknownReference("task", config.task, same or TASKS)
    known = f"Known: {', '.join(TASKS)}."
    what = f"`task`: {error.message} {error.hint or known}"
    raise ConfigError(f"{document.source} has 1 problem.", [Problem(document.where(("task",)), what)])


def _config_warnings(points: Sequence[TrainingConfig], document: Document) -> Iterator[str]:
    config = points[0]
    if config.experiment.purpose == UNCATEGORIZED:
        yield (
            "No experiment.purpose is given: results go to uncategorized/. Say why you train "
            "(hyperparameter_tuning, model_comparison, baseline_comparison ...); it is never taken from the data."
        )
    if config.data.type is not None:
        yield f"{document.where(('data', 'type'))}: `data.type` is deprecated; name the directory with data.path."
    for name in sorted(frozenset.intersection(*map(without_effect, points))):
        if _is_given(document.data, name):
            yield f"{document.where(tuple(name.split('.')))}: `{name}` has no effect with method {config.method}."


def _is_given(data: Json, name: str) -> bool:
    first, _, rest = name.partition(".")
    return first in data and (not rest or _is_given(data[first], rest))


def _data_warnings(
    reader: Reader | None, data: Sequence[DataSet], config: TrainingConfig, questions: Material
) -> Iterator[str]:
    for each in data:
        if each.experiment is not None and each.experiment["status"] == "partial":
            yield f"{each.given}: partial; records that failed keep their originals."
        if each.experiment is not None and each.experiment["record_limit"] is not None:
            yield f"{each.given}: a trial of the first {each.experiment['record_limit']:,} records."
    first = data[0]
    if reader is not None and first.experiment is not None and config.num_dev is not None:
        changed = training_data.rephrased_tail(reader, first, config.num_dev, questions.shares[0].n_records)
        if changed:
            yield (
                f"{first.given}: {changed} of its last {config.num_dev} records, which choose the checkpoint (dev), "
                "are rephrased: dev figures are not comparable with those on original data."
            )


def _earlier(reader: Reader, config: TrainingConfig) -> dict[str, Row]:
    rows = reader.rows(_EARLIER, task=config.task, method=config.method)
    return {row["fingerprint"]: row for row in rows}


@contextlib.contextmanager
def _reading(workspace: Workspace) -> Iterator[Reader | None]:
    """A reader, or None where there is no record yet: training on any directory needs none."""
    if workspace.database_url is None and not workspace.database.exists():
        yield None
        return
    with reading(workspace) as reader:
        yield reader


def _first(rows: Sequence[Any]) -> Any:
    return rows[0] if rows else None
