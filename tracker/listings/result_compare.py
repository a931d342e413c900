"""Whether results differ by more than chance: seeds of one point pooled, and points compared record by record. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from tracker.fingerprint import Json, canonical_json
from tracker.listings.compare import compare_settings
from tracker.listings.result_settings import MADE_WITH, SEED, Result
from tracker.statistics import holm, mcnemar_exact, sign_flip, spread, wilson_over_seeds

Answers = Mapping[int, Mapping[int, bool]]
"""By run, which records of the evaluation split it answered rightly, by position."""
PAIRS_OF = 4
"""Up to so many are compared each with each, more with the best alone."""


class Measure(NamedTuple):
    """The task, the digest of the evaluation split, and how many of its records: these make up which ones they are.

    Of an imported run one or the other may not be known.
    """

    task: str
    eval_digest: str | None
    n_eval: int | None


@dataclass(frozen=True, slots=True)
class Pooled:
    """Results of one point: its seeds, or one run.

    ``n_right`` of them answered the record at a position rightly, of those records that all were measured on.
    """

    results: tuple[Result, ...]
    n_right: Mapping[int, int]

    @property
    def first(self) -> Result:
        return self.results[0]

    @property
    def accuracies(self) -> list[float]:
        return [each.accuracy for each in self.results if each.accuracy is not None]

    @property
    def mean(self) -> float | None:
        """The mean accuracy over the seeds; None where not all are complete."""
        found = self.accuracies
        return spread(found)[0] if len(found) == len(self.results) else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the seeds, of two or more."""
        found = self.accuracies
        return spread(found)[1] if found else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean, for other records of the kind."""
        if self.mean is None:
            return None
        if len(self.results) == 1:
            low, high = self.first.row["accuracy_low"], self.first.row["accuracy_high"]
            # Of an imported run it may not be known of how many records.
            return None if low is None else (low, high)
        if not self.n_right:
            return None
        return wilson_over_seeds(list(self.n_right.values()), len(self.results))

    @property
    def measure(self) -> Measure:
        """What it was measured on: only where that is the same can accuracies be compared."""
        row = self.first.row
        return Measure(row["task"], row["eval_digest"], row["n_eval"])

    def accuracy_on(self, records: Collection[int]) -> float:
        """The mean accuracy on some of the records, by position."""
        return sum(self.n_right[at] for at in records) / (len(records) * len(self.results))

    def figure(self, name: str) -> float | None:
        """The mean of a column over the runs; None where one of them has none."""
        values = [each.row[name] for each in self.results]
        return None if any(value is None for value in values) else spread(values)[0]

    @property
    def best_run(self) -> Result:
        """The run of the highest accuracy."""
        return max(self.results, key=lambda each: each.accuracy or 0.0)


@dataclass(frozen=True, slots=True)
class Tested:
    """Two pools, by index, on the ``n`` records that both were measured on.

    ``accuracies`` are the means of both on them, ``difference`` is the first's minus the second's; ``corrected`` is the
    p-value as it counts among all tests that were made. ``only_first`` and ``only_second`` count records that one of
    two single runs answered rightly. ``obstacle`` says why there is no test.
    """

    first: int
    second: int
    n: int = 0
    accuracies: tuple[float, float] | None = None
    difference: float | None = None
    p: float | None = None
    corrected: float | None = None
    only_first: int | None = None
    only_second: int | None = None
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that are the ``same`` in all pools, that are ``different``, and that are so ``without_effect``.

    ``of_generated`` are the same for all data that was generated, where some was not.
    """

    same: dict[str, Json]
    of_generated: dict[str, Json]
    different: dict[str, list[Json]]
    without_effect: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """All finished runs with one value of a setting and measured on the same records, as points.

    ``best`` is the point of the highest mean. ``is_original``: there can be no value, for no experiment made the data.
    ``is_unknown``: nor is one known, for the data is not in the record.
    """

    value: Json
    points: tuple[Pooled, ...]
    best: Pooled
    is_original: bool = False
    is_unknown: bool = False

    @property
    def measure(self) -> Measure:
        return self.best.measure

    @property
    def n_runs(self) -> int:
        return sum(len(each.results) for each in self.points)

    @property
    def mean(self) -> float:
        """The mean over the points."""
        return spread([each.mean or 0.0 for each in self.points])[0]


def pooled(results: Sequence[Result], answers: Answers, *, apart: bool = False) -> list[Pooled]:
    """Seeds of a point together, in the order given; every run by itself if ``apart``.

    Repetitions of a run are looked at one by one, and so are seeds where there is nothing else to compare.
    """
    points: dict[str, list[Result]] = {}
    for each in results:
        points.setdefault(each.point, []).append(each)
    groups: list[list[Result]] = []
    for found in points.values():
        several = len({each.row["fingerprint"] for each in found}) < len(found)
        one_by_one = apart or several or len(points) == 1 or any(each.accuracy is None for each in found)
        groups += [[each] for each in found] if one_by_one else [found]
    return [pool(found, answers) for found in groups]


def pool(results: Sequence[Result], answers: Answers) -> Pooled:
    """The results as one, with what is known of their answers."""
    rights = [answers.get(each.id, {}) for each in results]
    shared = set(rights[0]).intersection(*rights[1:])
    return Pooled(tuple(results), {at: sum(right[at] for right in rights) for at in sorted(shared)})


def best_of(pools: Sequence[Pooled]) -> int | None:
    """The index of the highest mean accuracy, the first of equals; None where none is complete."""
    ranked = [at for at, each in enumerate(pools) if each.mean is not None]
    return max(ranked, key=lambda at: (pools[at].mean or 0.0, -at), default=None)


def equal_to(pools: Sequence[Pooled], at: int) -> list[int]:
    """The indices of the pools whose mean accuracy is that of the pool ``at``, which is one of them."""
    return [each for each, pool in enumerate(pools) if pool.mean is not None and pool.mean == pools[at].mean]


def are_comparable(pools: Sequence[Pooled]) -> bool:
    """Whether all were measured on the same records, so that one of them can be called the best."""
    measures = {each.measure for each in pools}
    return len(measures) == 1 and None not in next(iter(measures))


def compared(pools: Sequence[Pooled]) -> list[Tested]:
    """Each pool with each; where there are more than four, with the best of those measured on the same records."""
    if len(pools) <= PAIRS_OF:
        return corrected([_pair(pools, *pair) for pair in combinations(range(len(pools)), 2)])
    return against_best(pools)


def against_best(pools: Sequence[Pooled]) -> list[Tested]:
    """The best of those measured on the same records with each of the others of them."""
    pairs = []
    for found in by_measure(pools).values():
        best = found[best_of([pools[at] for at in found]) or 0]
        pairs += [(best, other) for other in found if other != best]
    return corrected([_pair(pools, *pair) for pair in pairs])


def by_measure(pools: Sequence[Pooled]) -> dict[Measure, list[int]]:
    """The indices of the complete ones, by what they were measured on."""
    places: dict[Measure, list[int]] = {}
    for at, each in enumerate(pools):
        if each.mean is not None:
            places.setdefault(each.measure, []).append(at)
    return places


def corrected(found: Sequence[Tested]) -> list[Tested]:
    """The tests, with their p-values as they count among so many."""
    values = iter(holm([each.p for each in found if each.p is not None]))
    return [each if each.p is None else replace(each, corrected=next(values)) for each in found]


def _pair(pools: Sequence[Pooled], first: int, second: int) -> Tested:
    one, other = pools[first], pools[second]
    obstacle = _obstacle(one, other)
    if obstacle is not None:
        return Tested(first, second, obstacle=obstacle)
    shared = one.n_right.keys() & other.n_right.keys()
    seeds = len(one.results), len(other.results)
    differences = [one.n_right[at] * seeds[1] - other.n_right[at] * seeds[0] for at in sorted(shared)]
    mean = sum(differences) / (len(shared) * seeds[0] * seeds[1])
    means = one.accuracy_on(shared), other.accuracy_on(shared)
    if seeds != (1, 1):
        return Tested(first, second, len(shared), means, mean, sign_flip(differences))
    counts = Counter(differences)
    p = mcnemar_exact(counts[1], counts[-1])
    return Tested(first, second, len(shared), means, mean, p, only_first=counts[1], only_second=counts[-1])


def _obstacle(one: Pooled, other: Pooled) -> str | None:
    """Why two pools cannot be tested."""
    if one.mean is None or other.mean is None:
        return "not both are complete"
    if one.measure.task != other.measure.task:
        return "different tasks"
    digests = {one.measure.eval_digest, other.measure.eval_digest}
    if None in digests:
        return "not known to be measured on the same records"
    if len(digests) > 1:
        return "measured on different evaluation sets"
    if not one.n_right.keys() & other.n_right.keys():
        return "no records in common" if one.n_right and other.n_right else "answers not known"
    return None


def seed_deviation(pools: Sequence[Pooled]) -> float | None:
    """The standard deviation over seeds alone, pooled over all that have several; None where none has."""
    several = [each for each in pools if each.deviation is not None]
    freedom = sum(len(each.results) - 1 for each in several)
    squares = sum((each.deviation or 0.0) ** 2 * (len(each.results) - 1) for each in several)
    return math.sqrt(squares / freedom) if freedom else None


def baseline(pools: Sequence[Pooled], name: str) -> tuple[float, float] | None:
    """The lowest and highest of a baseline: models have their own, those made on the spot one for each seed."""
    values = [each.row[name] for pool in pools for each in pool.results if each.row[name] is not None]
    return (min(values), max(values)) if values else None


def settings_of(pools: Sequence[Pooled]) -> Settings:
    """What is the same and what differs; of pooled seeds, which are no difference, all are given."""
    values = []
    for each in pools:
        seeds = [result.row["seed"] for result in each.results]
        values.append({**each.first.settings, SEED: seeds[0] if len(seeds) == 1 else seeds})
    shaping = {name for each in pools for name in each.first.shaping}
    same, different = compare_settings([{n: v for n, v in each.items() if n in shaping} for each in values])
    _, other = compare_settings([{n: v for n, v in each.items() if n not in shaping} for each in values])
    if "train_data.fingerprint" in different:
        different.pop("train_data.digest", None)
    made_with = [made for each in pools for made in each.first.made_with]
    shaped_data = {name for name in different if name.startswith(MADE_WITH) and any(name in made for made in made_with)}
    alike = {
        name: made_with[0].get(name)
        for name in different
        if name in shaped_data and len({canonical_json(made.get(name)) for made in made_with}) == 1
    }
    return Settings(
        {name: value for name, value in same.items() if not name.endswith(".digest")},
        alike,
        {name: found for name, found in different.items() if name not in alike},
        tuple(other),
    )


def grouped(results: Sequence[Result], name: str) -> list[Group]:
    """The results by the value of the setting ``name``: numbers by size, then words, then those without it.

    What was measured on different records is apart.
    """
    of_data = {"train_data.fingerprint", "train_data.batch"}.union(
        *(made for each in results for made in each.made_with)
    )
    points: dict[str, list[Result]] = {}
    for each in results:
        points.setdefault(each.point, []).append(each)
    by_value: dict[tuple[str, bool, bool, Measure], list[Pooled]] = {}
    for point in points.values():
        # The seed, too, may be what is asked for.
        values: dict[str, list[Result]] = {}
        for each in point:
            values.setdefault(canonical_json(each.settings.get(name)), []).append(each)
        for value, same in values.items():
            found = pool(same, {})
            is_original = found.first.is_original and name in of_data
            is_unknown = not found.first.made_with and not found.first.is_original and name in of_data
            by_value.setdefault((value, is_original, is_unknown, found.measure), []).append(found)
    groups = [
        Group(pools[0].first.settings.get(name), tuple(pools), pools[best_of(pools) or 0], is_original, is_unknown)
        for (_, is_original, is_unknown, _), pools in by_value.items()
    ]
    return sorted(groups, key=lambda group: (in_order(group.value), group.is_original, group.measure.n_eval or 0))


def in_order(value: Json) -> tuple[int, float, str]:
    """The key by which values of a setting are sorted: numbers by size, then words, then what is not set."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, canonical_json(value)
