"""`pool build` from a config to a pool in the record: resolve, draw, register."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property

from pipeline.generation.job import has_record
from pipeline.pools import stream
from pipeline.pools.preprocess import entry
from pipeline.pools.specs import DEFAULT_PERCENTILES, BenchmarksConfig, PoolConfig, easy_share
from pipeline.pools.stream import EASY, HARD, Shortfall, Thresholds
from pipeline.versions import versions
from tracker import clock
from tracker.errors import ConfigError, Problem, WrongStep
from tracker.fingerprint import Identity, Json, bytes_digest, identify
from tracker.paths import Workspace
from tracker.record import pools
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.columns import to_json
from tracker.record.database import open_database
from tracker.record.pool_files import pool_file, statistics
from tracker.spec import public, settings

DRAWING = 1
"""Part of the identity: to be raised when the same settings would draw other tasks."""
_CURRENT = "SELECT * FROM benchmark WHERE is_current"
_TASKS = """
    SELECT id, difficulty_score, scorer_metadata, raw_data FROM benchmark_task WHERE benchmark_id = :id
    ORDER BY position"""


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

    path: str | None
    config: PoolConfig
    sources: tuple[Source, ...]
    with_replacement: bool
    command: str = "synthtrack pool build"

    @cached_property
    def identity(self) -> Identity:
        """What makes the pool itself: of ratios and split the counts that they come to."""
        return identify(
            "task_pool",
            {
                "name": self.config.name,
                "benchmarks": [
                    [
                        each.name, each.row["digest"], list(each.percentiles),
                        *(self.wanted[each.name, of] for of in stream.BINS),
                    ]
                    for each in self.sources
                ],
                "n_total_tasks": self.config.n_total_tasks,
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


def prepare(
    workspace: Workspace,
    benchmarks: BenchmarksConfig,
    config: PoolConfig,
    *,
    path: str | None,
    command: str,
    source: str | None = None,
) -> PoolJob:
    """A pool's config against the benchmarks; ``source`` is the file of these where it is not the usual one.

    Raises ConfigError with every problem, WrongStep before preprocessing.
    """
    problems = [*_unknown(benchmarks, config), *_excluded(benchmarks, config)]
    if problems:
        where = path or "the pool"
        raise ConfigError(f"{where} asks for a pool that cannot be.", [Problem(where, what) for what in problems])
    rows = _current(workspace)
    hint = f"Run `synthtrack pool preprocess{'' if source is None else f' --config {source}'}`."
    missing = [name for name in config.benchmarks if name not in rows]
    if missing:
        raise WrongStep(f"Not preprocessed yet: {', '.join(missing)}.", hint=hint)
    entries = {name: entry(benchmarks.benchmarks[name]) for name in config.benchmarks}
    changed = [name for name, each in entries.items() if json.loads(rows[name]["config"]) != each]
    if changed:
        raise WrongStep(
            f"The config of {', '.join(changed)} is not the one that was preprocessed.",
            hint=f"{hint} Where another file's benchmarks are meant, name it with --config.",
        )
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


def _current(workspace: Workspace) -> dict[str, Row]:
    if not has_record(workspace):
        return {}
    with reading(workspace) as reader:
        return {row["name"]: row for row in reader.rows(_CURRENT)}


@dataclass(frozen=True)
class Drawn:
    """A pool as drawn: its tasks in their order (rows of benchmark_task with benchmark, bin and place), and figures."""

    tasks: tuple[Row, ...]
    bounds: Mapping[str, Thresholds]
    shortfalls: tuple[Shortfall, ...]
    statistics: dict[str, Json]


def draw(reader: Reader, job: PoolJob) -> Drawn:
    """What is in a pool; nothing is written."""
    rows: dict[str, list[Row]] = {each.name: reader.rows(_TASKS, id=each.row["id"]) for each in job.sources}
    scores = {name: [row["difficulty_score"] for row in own] for name, own in rows.items()}
    bounds = {each.name: stream.thresholds(scores[each.name], each.percentiles) for each in job.sources}
    found = stream.draw(scores, bounds, job.wanted, job.config.random_seed, with_replacement=job.with_replacement)
    tasks = tuple(
        {**rows[pick.benchmark][pick.at], "position": at, "benchmark": pick.benchmark, "difficulty_bin": pick.bin}
        for at, pick in enumerate(found.picks)
    )
    figures = statistics(
        [(task["benchmark"], task["difficulty_bin"], task["difficulty_score"]) for task in tasks],
        [asdict(each) for each in found.shortfalls],
        [each.name for each in job.sources],
    )
    return Drawn(tasks, bounds, found.shortfalls, figures)


def build(workspace: Workspace, job: PoolJob) -> Built:
    """Draws a pool and puts it into the record, or finds it there."""
    started = clock.monotonic()
    with open_database(workspace) as database:
        found = pools.find_pool(database, job.identity)
        if found is None:
            with reading(workspace) as reader:
                drawn = draw(reader, job)
            columns = _columns(workspace, job, drawn) | {"duration_s": clock.monotonic() - started}
            tasks = [
                {"benchmark_task_id": task["id"], "difficulty_bin": task["difficulty_bin"]} for task in drawn.tasks
            ]
            contributions = [_contribution(job, each, drawn) for each in job.sources]
            found = pools.register_pool(database, job.identity, columns, contributions, tasks)
    with reading(workspace) as reader:
        pool = reader.rows("SELECT * FROM task_pool WHERE id = :id", id=found.id)[0]
    missing = json.loads(pool["statistics"]).get("shortfalls", [])
    return Built("made" if found.is_new else "reused", pool, tuple(Shortfall(**each) for each in missing))


def _columns(workspace: Workspace, job: PoolJob, drawn: Drawn) -> dict[str, Json]:
    config, found = job.config, drawn.statistics
    return {
        "wanted_name": config.name, "random_seed": config.random_seed, "difficulty_split": config.difficulty_split,
        "with_replacement": job.with_replacement, "n_wanted": config.n_total_tasks, "n_tasks": found["n_total"],
        "n_easy": found["difficulty_bins"][EASY], "n_hard": found["difficulty_bins"][HARD],
        "n_short": sum(each.wanted - each.got for each in drawn.shortfalls),
        "mean_difficulty": found["difficulty_distribution"]["mean"],
        "data_digest": bytes_digest([pool_file(drawn.tasks)]),
        "config_path": None if job.path is None else workspace.relative(workspace.find(job.path)),
        "description": config.description, "command": job.command, "versions": to_json(versions()),
        "settings": to_json(settings(config)), "config": to_json(public(config)),
        "statistics": to_json(found),
    }  # fmt: skip


def _contribution(job: PoolJob, source: Source, drawn: Drawn) -> Row:
    bounds, got = drawn.bounds[source.name], drawn.statistics["benchmark_breakdown"][source.name]
    return {
        "benchmark_id": source.row["id"], "ratio": source.ratio, "low_percentile": source.percentiles[0],
        "high_percentile": source.percentiles[1], "low_threshold": bounds.low, "high_threshold": bounds.high,
        "n_easy_wanted": job.wanted[source.name, EASY], "n_easy": got[EASY],
        "n_hard_wanted": job.wanted[source.name, HARD], "n_hard": got[HARD],
    }  # fmt: skip


def _unknown(benchmarks: BenchmarksConfig, config: PoolConfig) -> list[str]:
    known: Mapping[str, Json] = benchmarks.benchmarks
    found = [_no_benchmark(name, list(known)) for name in config.benchmarks if name not in known]
    off = [name for name in config.benchmarks if name in known and not benchmarks.benchmarks[name].enabled]
    return [*found, *(f"benchmark {name!r} is disabled (benchmarks.{name}.enabled)" for name in off)]


def _no_benchmark(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    return f"no benchmark {name!r}; {advice}"


def _excluded(benchmarks: BenchmarksConfig, config: PoolConfig) -> list[str]:
    pairs = benchmarks.mixing_rules.exclude_combinations
    return [
        f"{first} and {second} may not be mixed (mixing_rules.exclude_combinations)"
        for first, second in pairs
        if first in config.benchmarks and second in config.benchmarks
    ]
