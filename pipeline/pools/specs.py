"""The settings of `pool`: which benchmarks there are and where, and what a pool is to be drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from pipeline.specs import DirectoryName
from tracker.spec import Real, Spec, Whole, setting

HUB, LOCAL = "datasets:", "file:"
DEFAULT_PERCENTILES = (20.0, 80.0)
TOLERANCE = 1e-6
"""By which ratios may miss 1."""


def _percentiles(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0 <= low <= high <= 100:
        raise ValueError("two percentiles from 0 to 100, the lower one first, as [20, 80]")
    return value


def _source(value: str) -> str:
    if not value.startswith((HUB, LOCAL)) or not value.partition(":")[2].strip("/ "):
        raise ValueError(f"{HUB}NAME or {HUB}NAME/CONFIG (the hub), or {LOCAL}PATH (a file or a directory)")
    return value


def _distinct(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    twice = sorted({name for name in value or () if (value or ()).count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice")
    return value


def _split_text(value: object) -> object:
    # YAML readers of other programs take 50:50 for a number in base 60.
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return f"{value[0]}:{value[1]}"
    return value


def easy_share(difficulty_split: str) -> float:
    """The share of easy tasks in ``80:20``. Raises ValueError where it is no such split."""
    parts = difficulty_split.split(":")
    try:
        easy, hard = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"{difficulty_split!r} is no split of easy and hard, such as 80:20") from None
    if not (easy >= 0 and hard >= 0 and math.isfinite(easy + hard) and easy + hard > 0):
        raise ValueError(f"{difficulty_split!r} is no split: two numbers from 0, not both 0")
    return easy / (easy + hard)


def _checked_split(value: str) -> str:
    easy_share(value)
    return value


def ratio_problem(ratios: Mapping[str, float]) -> str | None:
    """What is wrong with ratios by benchmark, or None."""
    negative = [name for name, ratio in ratios.items() if ratio < 0]
    if negative:
        return f"the ratio of {', '.join(negative)} is below 0"
    total = math.fsum(ratios.values())
    return None if abs(total - 1.0) <= TOLERANCE else f"the ratios sum to {total:.10g}, not to 1"


PercentilePair = Annotated[tuple[Real, Real], AfterValidator(_percentiles)]


class BenchmarkSpec(Spec):
    """Where a benchmark's tasks are."""

    enabled: bool = setting(default=True, operational=True, help="whether it is preprocessed and may be in pools")
    path: Annotated[str, AfterValidator(_source)] = setting(
        help="datasets:NAME[/CONFIG] on the hub, or file:PATH of .jsonl, .jsonl.gz, .json or .parquet, or a directory"
    )
    split: str | None = setting(
        None, operational=True, min_length=1, help="of the hub's data set; default: test; of files without effect"
    )
    configs: Annotated[tuple[str, ...] | None, AfterValidator(_distinct)] = setting(
        None,
        operational=True,
        min_length=1,
        help="the parts of a benchmark of several tasks, in this order; default: what the directory holds",
    )


class StreamSpec(Spec):
    """How tasks are binned and drawn, where a pool does not say."""

    difficulty_percentiles: dict[str, PercentilePair] = setting(
        default_factory=dict, help="by benchmark: [low, high], the thresholds of easy and hard; default [20, 80]"
    )
    sample_with_replacement: bool = setting(
        default=False, help="whether a task may be drawn more than once, so that small bins suffice"
    )


class MixingSpec(Spec):
    """What may not be in one pool."""

    exclude_combinations: tuple[tuple[str, str], ...] = setting((), help="pairs of benchmarks")


class BenchmarksConfig(Spec):
    """The configuration of benchmarks, `configs/pools/data_config.yaml`."""

    benchmarks: dict[DirectoryName, BenchmarkSpec] = setting(min_length=1, help="the benchmarks by name")
    stream_generation: StreamSpec = setting(StreamSpec(), help="how tasks are binned and drawn")
    mixing_rules: MixingSpec = setting(MixingSpec(), help="what may not be mixed")

    @property
    def splits_of_files(self) -> list[str]:
        """The benchmarks that name a split of files, which have none."""
        return [name for name, each in self.benchmarks.items() if each.split and each.path.startswith(LOCAL)]

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        named = [*self.stream_generation.difficulty_percentiles]
        named += [name for pair in self.mixing_rules.exclude_combinations for name in pair]
        unknown = sorted({name for name in named if name not in self.benchmarks})
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such benchmark here; there are {', '.join(self.benchmarks)}")
        return self


class PoolConfig(Spec):
    """A configuration of `synthtrack pool build`: one task pool."""

    name: DirectoryName = setting(operational=True, help="the directory of the pool below data/")
    description: str = setting("", operational=True, help="a sentence for those who read it later")
    data_config: str | None = setting(
        None, operational=True, min_length=1, help="where its benchmarks are, if not in data_config.yaml"
    )
    benchmarks: Annotated[tuple[str, ...], AfterValidator(_distinct)] = setting(
        min_length=1, help="the benchmarks in it"
    )
    benchmark_ratios: dict[str, Real] | None = setting(
        None, help="the share of each benchmark, which sum to 1; default: equal shares"
    )
    difficulty_split: Annotated[str, BeforeValidator(_split_text), AfterValidator(_checked_split)] = setting(
        "50:50", help="easy:hard"
    )
    n_total_tasks: Whole = setting(1000, ge=1, le=10_000_000, help="how many tasks")
    random_seed: Whole = setting(2025, ge=0, help="draws the tasks and their order")
    difficulty_percentiles: dict[str, PercentilePair] = setting(
        default_factory=dict, help="by benchmark, instead of those of the benchmarks' configuration"
    )
    sample_with_replacement: bool | None = setting(None, help="instead of what the benchmarks' configuration says")

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        by_benchmark = {
            "benchmark_ratios": self.benchmark_ratios,
            "difficulty_percentiles": self.difficulty_percentiles,
        }
        problems = [
            f"{what} names {', '.join(others)}, which is not among its benchmarks"
            for what, given in by_benchmark.items()
            if (others := [name for name in given or {} if name not in self.benchmarks])
        ]
        if self.benchmark_ratios is not None:
            missing = [name for name in self.benchmarks if name not in self.benchmark_ratios]
            problems += [f"benchmark_ratios lacks {', '.join(missing)}"] if missing else []
            problems += filter(None, [ratio_problem(self.benchmark_ratios)])
        if problems:
            raise ValueError("; ".join(problems))
        return self
