"""`pool build` from a config to a pool in the record: resolve, draw, register."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from pipeline.execution import versions
from pipeline.pools import stream
from pipeline.pools.preprocess import entry
from pipeline.pools.specs import DEFAULT_PERCENTILES, BenchmarksConfig, PoolConfig, easy_share
from pipeline.pools.stream import BINS, EASY, HARD, Shortfall, Thresholds
from tracker import clock, pools, store
from tracker.catalogue import Reader, Row, reading
from tracker.database import open_database
from tracker.errors import ConfigError, Problem, WrongStep
from tracker.fingerprint import Identity, Json, bytes_digest, identify
from tracker.paths import Workspace
from tracker.pool_files import pool_file, statistics
from tracker.spec import public, settings

DRAWING = 1
"""Part of the identity: to be raised when the same settings would draw other tasks."""
_PREPROCESS = "Run `synthtrack pool preprocess`."
_CURRENT = "SELECT * FROM benchmark WHERE is_current"
_SCORES = "SELECT id, difficulty_score FROM benchmark_task WHERE benchmark_id = :id ORDER BY position"
_TASKS = "SELECT id, difficulty_score, scorer_metadata, raw_data FROM benchmark_task WHERE benchmark_id = :id"


@dataclass(frozen=True)
class Source:
    """A benchmark as a pool draws from it."""

    row: Row
    ratio: float
    percentiles: tuple[float, float]

    @property
    def name(self) -> str:
        return str(self.row["name"])


@dataclass(frozen=True)
class PoolJob:
    """A pool that is ready to be drawn: its config resolved against the benchmarks in the record."""

    path: str
    config: PoolConfig
    sources: tuple[Source, ...]
    with_replacement: bool
    command: str = "synthtrack pool build"

    @cached_property
    def identity(self) -> Identity:
        """What makes the pool itself."""
        return identify(
            "task_pool",
            {
                "name": self.config.name,
                "benchmarks": [
                    [each.name, each.row["digest"], each.ratio, list(each.percentiles)] for each in self.sources
                ],
                "easy_share": self.easy_share, "n_total_tasks": self.config.n_total_tasks,
                "random_seed": self.config.random_seed, "sample_with_replacement": self.with_replacement,
                "drawing": DRAWING,
            },
        )  # fmt: skip

    @property
    def easy_share(self) -> float:
        return easy_share(self.config.difficulty_split)

    @cached_property
    def wanted(self) -> dict[tuple[str, str], int]:
        """How many tasks of each (benchmark, bin)."""
        ratios = {each.name: each.ratio for each in self.sources}
        return stream.allocated(self.config.n_total_tasks, ratios, self.easy_share)


@dataclass(frozen=True)
class Built:
    """A pool: made now or found already made, with what was missing of it."""

    outcome: str
    pool: Row
    shortfalls: tuple[Shortfall, ...]


def prepare(workspace: Workspace, benchmarks: BenchmarksConfig, config: PoolConfig, path: str, command: str) -> PoolJob:
    """A pool's config against the benchmarks. Raises ConfigError with every problem, WrongStep before preprocessing."""
    problems = [*_unknown(benchmarks, config), *_excluded(benchmarks, config)]
    if problems:
        raise ConfigError(f"{path} asks for a pool that cannot be.", [Problem(path, what) for what in problems])
    with reading(workspace) as reader:
        rows = {row["name"]: row for row in reader.rows(_CURRENT)}
    missing = [name for name in config.benchmarks if name not in rows]
    if missing:
        raise WrongStep(f"Not preprocessed yet: {', '.join(missing)}.", hint=_PREPROCESS)
    entries = {name: entry(benchmarks.benchmarks[name]) for name in config.benchmarks}
    changed = [name for name, each in entries.items() if json.loads(rows[name]["config"]) != each]
    if changed:
        raise WrongStep(f"The config of {', '.join(changed)} is not the one that was preprocessed.", hint=_PREPROCESS)
    general = benchmarks.stream_generation
    ratios = config.benchmark_ratios or dict.fromkeys(config.benchmarks, 1.0 / len(config.benchmarks))
    percentiles = {**general.difficulty_percentiles, **config.difficulty_percentiles}
    total, own = math.fsum(ratios.values()), config.sample_with_replacement
    return PoolJob(
        path=path,
        config=config,
        sources=tuple(
            Source(rows[name], ratios[name] / total, percentiles.get(name, DEFAULT_PERCENTILES))
            for name in config.benchmarks
        ),
        with_replacement=general.sample_with_replacement if own is None else own,
        command=command,
    )


def build(workspace: Workspace, job: PoolJob) -> Built:
    """Draws a pool and puts it into the record, or finds it there."""
    started = clock.monotonic()
    with open_database(workspace) as database:
        found = pools.find_pool(database, job.identity)
        if found is None:
            with reading(workspace) as reader:
                columns, of_benchmarks, tasks = _drawn(workspace, reader, job)
            columns["duration_s"] = clock.monotonic() - started
            found = pools.register_pool(database, job.identity, columns, of_benchmarks, tasks)
    with reading(workspace) as reader:
        pool = reader.rows("SELECT * FROM task_pool WHERE id = :id", id=found.id)[0]
    missing = json.loads(pool["statistics"]).get("shortfalls", [])
    return Built("made" if found.is_new else "reused", pool, tuple(Shortfall(**each) for each in missing))


def _drawn(workspace: Workspace, reader: Reader, job: PoolJob) -> tuple[dict[str, Json], list[Row], list[Row]]:
    """The pool's columns, what each benchmark contributes, and the tasks in their order."""
    scores: dict[str, list[Row]] = {each.name: reader.rows(_SCORES, id=each.row["id"]) for each in job.sources}
    numbers = {name: [row["difficulty_score"] for row in rows] for name, rows in scores.items()}
    bounds = {each.name: stream.thresholds(numbers[each.name], each.percentiles) for each in job.sources}
    drawn = stream.draw(numbers, bounds, job.wanted, job.config.random_seed, with_replacement=job.with_replacement)
    picked = [(pick.benchmark, pick.bin, numbers[pick.benchmark][pick.at]) for pick in drawn.picks]
    shortfalls = [asdict(each) for each in drawn.shortfalls]
    found = statistics(picked, shortfalls, [each.name for each in job.sources])
    ids = [scores[pick.benchmark][pick.at]["id"] for pick in drawn.picks]
    texts = {row["id"]: row for each in job.sources for row in reader.rows(_TASKS, id=each.row["id"])}
    content = pool_file(
        {**texts[task], "position": at, "benchmark": pick.benchmark, "difficulty_bin": pick.bin}
        for at, (task, pick) in enumerate(zip(ids, drawn.picks, strict=True))
    )
    config = public(job.config)
    columns: dict[str, Json] = {
        "wanted_name": job.config.name, "random_seed": job.config.random_seed,
        "difficulty_split": job.config.difficulty_split, "with_replacement": job.with_replacement,
        "n_wanted": job.config.n_total_tasks, "n_tasks": len(picked),
        "n_easy": found["difficulty_bins"][EASY], "n_hard": found["difficulty_bins"][HARD],
        "n_short": sum(each.wanted - each.got for each in drawn.shortfalls),
        "mean_difficulty": found["difficulty_distribution"]["mean"], "data_digest": bytes_digest([content]),
        "config_path": workspace.relative(workspace.find(job.path)), "description": job.config.description,
        "command": job.command, "versions": store.to_json(versions()),
        "settings": store.to_json(settings(job.config)), "config": store.to_json(config),
        "statistics": store.to_json(found),
    }  # fmt: skip
    tasks = [
        {"benchmark_task_id": task, "difficulty_bin": pick.bin} for task, pick in zip(ids, drawn.picks, strict=True)
    ]
    return columns, [_contribution(job, each, bounds[each.name], picked) for each in job.sources], tasks


def _contribution(job: PoolJob, source: Source, bounds: Thresholds, picked: Sequence[tuple[str, str, float]]) -> Row:
    got = {each: sum(name == source.name and bin_ == each for name, bin_, _ in picked) for each in BINS}
    return {
        "benchmark_id": source.row["id"], "ratio": source.ratio, "low_percentile": source.percentiles[0],
        "high_percentile": source.percentiles[1], "low_threshold": bounds.low, "high_threshold": bounds.high,
        "n_easy_wanted": job.wanted[source.name, EASY], "n_easy": got[EASY],
        "n_hard_wanted": job.wanted[source.name, HARD], "n_hard": got[HARD],
    }  # fmt: skip


def _unknown(benchmarks: BenchmarksConfig, config: PoolConfig) -> list[str]:
    known: Mapping[str, Json] = benchmarks.benchmarks
    found = [f"no benchmark {name!r}; there are {', '.join(known)}" for name in config.benchmarks if name not in known]
    off = [name for name in config.benchmarks if name in known and not benchmarks.benchmarks[name].enabled]
    return [*found, *(f"benchmark {name!r} is disabled (benchmarks.{name}.enabled)" for name in off)]


def _excluded(benchmarks: BenchmarksConfig, config: PoolConfig) -> list[str]:
    pairs = benchmarks.mixing_rules.exclude_combinations
    return [
        f"{first} and {second} may not be mixed (mixing_rules.exclude_combinations)"
        for first, second in pairs
        if first in config.benchmarks and second in config.benchmarks
    ]
