"""The configs of pools: which file is meant, and what the command line changes in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.pools.specs import BenchmarksConfig, PoolConfig
from pipeline.sources.lines import is_file
from tracker import configs
from tracker.configs import Document
from tracker.errors import ConfigError, Problem, UnknownReference
from tracker.fingerprint import Json
from tracker.paths import Workspace, name_problem
from tracker.views.pool_view import RESERVED

DIRECTORY, BENCHMARKS = "pools", "data_config.yaml"
EVERY = "*"
"""Instead of the name of a benchmark in what the command line says: all of the pool's."""
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Named:
    """A pool's config, and the file that it is from."""

    path: str | None
    config: PoolConfig


def benchmarks_path(workspace: Workspace, given: Path | None = None) -> Path:
    """The file that says which benchmarks there are: ``given``, else configs/pools/data_config.yaml."""
    return workspace.configs_dir / DIRECTORY / BENCHMARKS if given is None else workspace.find(given)


def load_benchmarks(workspace: Workspace, given: Path | None = None) -> BenchmarksConfig:
    """The configuration of benchmarks. Raises ConfigError with every problem."""
    return configs.validate(BenchmarksConfig, configs.load(benchmarks_path(workspace, given)))


def benchmarks_of(workspace: Workspace, pool: Named, given: Path | None = None) -> Path:
    """The file that says which benchmarks there are for a pool: ``given``, else what its config names, else the usual.

    What a config names is beside it, or where any other path is looked for.
    """
    named = pool.config.data_config
    if given is not None or named is None:
        return benchmarks_path(workspace, given)
    beside = workspace.configs_dir / DIRECTORY if pool.path is None else Path(pool.path).parent
    return beside / named if is_file(beside / named) else workspace.find(named)


def load_pool(workspace: Workspace, given: str, changes: Mapping[str, Json]) -> Named:
    """The pool's config that ``given`` means: a file, or a name below configs/pools.

    Raises ConfigError with every problem, UnknownReference with close matches.
    """
    path = _path(workspace, given)
    return _named(configs.load(path), str(path), changes)


def given_pool(changes: Mapping[str, Json]) -> Named:
    """A pool that the command line alone describes. Raises ConfigError."""
    return _named(Document({}, "the command line"), None, changes)


def all_pools(workspace: Workspace) -> list[str]:
    """Every pool's config below configs/pools, by name."""
    directory = workspace.configs_dir / DIRECTORY
    found = sorted(each for each in directory.glob("*") if each.suffix in _SUFFIXES)
    return [str(each) for each in found if not _is_of_benchmarks(each)]


def _named(document: Document, path: str | None, changes: Mapping[str, Json]) -> Named:
    data = {**document.data, **changes}
    percentiles = data.get("difficulty_percentiles")
    if isinstance(percentiles, Mapping) and EVERY in percentiles:
        benchmarks = data.get("benchmarks")
        names = [name for name in benchmarks if isinstance(name, str)] if isinstance(benchmarks, list) else []
        data["difficulty_percentiles"] = dict.fromkeys(names, percentiles[EVERY])
    places = {place: where for place, where in document.places.items() if not place or place[0] not in changes}
    config = configs.validate(PoolConfig, Document(data, document.source, places))
    problem = (
        f"{config.name} is where other things lie" if config.name.casefold() in RESERVED else name_problem(config.name)
    )
    if problem is not None:
        raise ConfigError("A pool cannot be named so.", [Problem(document.where(("name",)), problem)])
    return Named(path, config)


def _path(workspace: Workspace, given: str) -> Path:
    named = [workspace.configs_dir / DIRECTORY / f"{given}{suffix}" for suffix in _SUFFIXES]
    found = [each for each in (workspace.find(given), *named) if is_file(each)]
    if not found:
        known = [Path(each).stem for each in all_pools(workspace)]
        none = "There are none; `synthtrack init` brings examples, or give --name and --benchmarks."
        hint = f"There are: {', '.join(known)}." if known else none
        raise UnknownReference("pool config", given, known, hint=hint)
    return found[0]


def _is_of_benchmarks(path: Path) -> bool:
    try:
        return isinstance(configs.load(path).data.get("benchmarks"), dict)
    except ConfigError:
        return False
