"""A stream of tasks with a wanted mix: thresholds, bins, allocation, sampling, order. Pure functions.

Orders come from the raw output of PCG64, which is the same in every version of numpy and on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracker.fingerprint import Json, content_key

EASY, MEDIUM, HARD = "easy", "medium", "hard"
BINS = (EASY, HARD)
"""The bins that a pool is drawn from; what lies between the thresholds is in none."""

Percentiles = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pick:
    """One task of a stream: the ``at``-th of its benchmark, drawn from a bin."""

    benchmark: str
    at: int
    bin: str


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
    """What is in a pool, in its order, and what was missing."""

    picks: tuple[Pick, ...]
    shortfalls: tuple[Shortfall, ...]


def thresholds(scores: Sequence[float], percentiles: Percentiles) -> Thresholds:
    """The percentiles (numpy, linear) of all scores of a benchmark."""
    import numpy as np

    low, high = np.percentile(np.asarray(scores, dtype=np.float64), percentiles)
    return Thresholds(float(low), float(high))


def allocated(n: int, ratios: Mapping[str, float], easy_share: float) -> dict[tuple[str, str], int]:
    """How many tasks of each (benchmark, bin): they add up to ``n``, for each benchmark and for each bin as well.

    The benchmarks share ``n`` by largest remainder, and so do the bins; within these, the benchmarks share the easy
    tasks. Equal remainders go to the earlier one.
    """
    of = _largest_remainder(n, ratios)
    n_easy = _largest_remainder(n, {EASY: easy_share, HARD: 1.0 - easy_share})[EASY]
    easy = _shared(n_easy, {name: own * easy_share for name, own in of.items()})
    return {(name, each): easy[name] if each == EASY else own - easy[name] for name, own in of.items() for each in BINS}


def draw(
    scores: Mapping[str, Sequence[float]],
    bounds: Mapping[str, Thresholds],
    wanted: Mapping[tuple[str, str], int],
    seed: int,
    *,
    with_replacement: bool,
) -> Stream:
    """A stream of ``wanted`` tasks of each (benchmark, bin); ``scores`` are those of the full data.

    What a benchmark contributes depends on its own scores, the seed and its counts alone: a larger count begins with
    the tasks of a smaller one.
    """
    chosen: list[Pick] = []
    shortfalls = []
    for (benchmark, each), count in wanted.items():
        inside = [at for at, score in enumerate(scores[benchmark]) if bounds[benchmark].bin_of(score) == each]
        drawn = _drawn(len(inside), count, [seed, benchmark, each], with_replacement=with_replacement)
        chosen += [Pick(benchmark, inside[at], each) for at in drawn]
        if len(drawn) < count:
            shortfalls.append(Shortfall(benchmark, each, count, len(drawn)))
    return Stream(tuple(chosen[at] for at in _order(len(chosen), [seed, "order"])), tuple(shortfalls))


def _largest_remainder(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    total = math.fsum(shares.values())
    return _shared(n, {name: n * share / total for name, share in shares.items()})


def _shared(n: int, exact: Mapping[str, float]) -> dict[str, int]:
    counts = {name: math.floor(round(value, 9)) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: -round(exact[name] - counts[name], 9))
    more = set(by_remainder[: n - sum(counts.values())])
    return {name: counts[name] + (name in more) for name in exact}


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
