"""The pools that one command is to build: each config against the benchmarks that it means."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.pools.build import PoolJob, prepare
from pipeline.pools.configs import Named, benchmarks_of, benchmarks_path, load_benchmarks
from tracker.errors import ConfigError, Error, WrongStep
from tracker.paths import Workspace


@dataclass(frozen=True)
class Jobs:
    """Pools that are ready to be drawn, and the names of those that are not, each with why."""

    ready: tuple[PoolJob, ...]
    left_out: tuple[tuple[str, Error], ...]


def prepare_pools(
    workspace: Workspace,
    asked: Sequence[Named],
    others: Iterable[Named],
    *,
    benchmarks: Path | None,
    command: str,
    in_order: bool = False,
) -> Jobs:
    """Every pool that is ``asked`` for, and those of ``others`` (--all) that can be and whose benchmarks are ready.

    ``benchmarks`` is their file instead of what each config says; others of another file are none of ours then.
    ``in_order``: each pool's benchmarks in the order of their file. Raises WrongStep or ConfigError where one that is
    asked for is not ready or cannot be, or none is.
    """
    load = cache(lambda path: load_benchmarks(workspace, path))

    def job(each: Named) -> PoolJob:
        path = benchmarks_of(workspace, each, benchmarks)
        usual = path == benchmarks_path(workspace)
        source = None if usual else shlex.quote(workspace.relative(path))
        there, config = load(path), each.config
        if in_order:
            places = {name: at for at, name in enumerate(there.benchmarks)}
            names = sorted(config.benchmarks, key=lambda name: places.get(name, len(places)))
            config = config.model_copy(update={"benchmarks": tuple(names)})
        return prepare(workspace, there, config, path=each.path, command=command, source=source)

    ready, left_out = [job(each) for each in asked], []
    for each in _ours(workspace, others, benchmarks):
        try:
            ready.append(job(each))
        except (WrongStep, ConfigError) as error:
            left_out.append((each.config.name, error))
    if left_out and not ready:
        raise left_out[0][1]
    return Jobs(tuple(ready), tuple(left_out))


def _ours(workspace: Workspace, others: Iterable[Named], given: Path | None) -> Iterator[Named]:
    chosen = None if given is None else benchmarks_path(workspace, given).resolve()
    for each in others:
        is_of_another = each.config.data_config is not None and benchmarks_of(workspace, each).resolve() != chosen
        if chosen is None or not is_of_another:
            yield each
