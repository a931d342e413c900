"""A stream of tasks with a wanted mix: thresholds, bins, allocation, sampling, order. Pure functions.

Orders come from the raw output of PCG64, which is the same in every version of numpy and on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tracker.fingerprint import Json, content_key

EASY, MEDIUM, HARD = "easy", "medium", "hard"
BINS = (EASY, HARD)
"""The bins that a pool is drawn from; what lies between the thresholds is in none."""

Percentiles = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """One task of a benchmark or of a pool; ``difficulty_score`` is from 0 to 1 within its benchmark."""

    task_id: str
    benchmark: str
    difficulty_score: float
    difficulty_bin: str
    raw_data: Mapping[str, Json]
    scorer_metadata: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """At most ``low`` is easy, at least ``high`` is hard; a score that is both is easy."""

    low: float
    high: float

    def bin_of(self, score: float) -> str:
        """The bin of a score."""
        return EASY if score <= self.low else HARD if score >= self.high else MEDIUM


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A bin that held fewer tasks than were wanted of it."""

    benchmark: str
    bin: str
    wanted: int
    got: int


@dataclass(frozen=True)
class Stream:
    """The tasks in their order, with the thresholds they were binned by and what was missing."""

    tasks: tuple[Task, ...]
    thresholds: Mapping[str, Thresholds]
    shortfalls: tuple[Shortfall, ...]


def thresholds(scores: Sequence[float], percentiles: Percentiles) -> Thresholds:
    """The percentiles (numpy, linear) of all scores of a benchmark."""
    import numpy as np

    low, high = np.percentile(np.asarray(scores, dtype=np.float64), percentiles)
    return Thresholds(float(low), float(high))


def allocated(n: int, ratios: Mapping[str, float], easy_share: float) -> dict[tuple[str, str], int]:
    """How many tasks of each (benchmark, bin), by largest remainder: they add up to ``n``.

    First the benchmarks share ``n``, then the bins what each benchmark got. Equal remainders go to the earlier one.
    """
    found: dict[tuple[str, str], int] = {}
    for benchmark, own in _largest_remainder(n, ratios).items():
        counts = _largest_remainder(own, {EASY: easy_share, HARD: 1.0 - easy_share})
        found |= {(benchmark, each): counts[each] for each in BINS}
    return found


def build(
    full: Mapping[str, Sequence[Task]],
    wanted: Mapping[tuple[str, str], int],
    percentiles: Mapping[str, Percentiles],
    seed: int,
    *,
    with_replacement: bool,
) -> Stream:
    """A stream of ``wanted`` tasks of each (benchmark, bin), drawn from the ``full`` data.

    What a benchmark contributes depends on its own data, the seed and its counts alone: a larger count begins with the
    tasks of a smaller one.
    """
    scores = {name: [task.difficulty_score for task in tasks] for name, tasks in full.items()}
    bounds = {name: thresholds(each, percentiles[name]) for name, each in scores.items()}
    chosen: list[Task] = []
    shortfalls = []
    for (benchmark, each), count in wanted.items():
        bound = bounds[benchmark]
        inside = [task for task in full[benchmark] if bound.bin_of(task.difficulty_score) == each]
        drawn = _drawn(len(inside), count, [seed, benchmark, each], with_replacement=with_replacement)
        chosen += [replace(inside[at], difficulty_bin=each) for at in drawn]
        if len(drawn) < count:
            shortfalls.append(Shortfall(benchmark, each, count, len(drawn)))
    ordered = [chosen[at] for at in _order(len(chosen), [seed, "order"])]
    tasks = tuple(replace(task, task_id=f"exp_{at:05d}_{task.benchmark}") for at, task in enumerate(ordered))
    return Stream(tasks, bounds, tuple(shortfalls))


def _largest_remainder(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    total = math.fsum(shares.values())
    exact = {name: n * share / total for name, share in shares.items()}
    counts = {name: math.floor(round(value, 9)) for name, value in exact.items()}
    left = n - sum(counts.values())
    by_remainder = sorted(exact, key=lambda name: -round(exact[name] - counts[name], 9))
    return {name: counts[name] + (name in by_remainder[:left]) for name in shares}


def _drawn(size: int, count: int, key: Json, *, with_replacement: bool) -> list[int]:
    if not with_replacement:
        return _order(size, key)[:count]
    return [(raw * size) >> 64 for raw in _raw(count, key)] if size else []


def _order(size: int, key: Json) -> list[int]:
    raw = _raw(size, key)
    return sorted(range(size), key=raw.__getitem__)


def _raw(size: int, key: Json) -> list[int]:
    from numpy.random import PCG64

    return [int(each) for each in PCG64(int(content_key(key), 16)).random_raw(size)] if size else []
