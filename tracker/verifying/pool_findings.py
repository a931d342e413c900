"""What is not as it was recorded of benchmarks and pools. Functions of rows, as in ``tracker.record.findings``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from tracker.errors import Error
from tracker.fingerprint import Json, bytes_digest
from tracker.record.catalogue import Row
from tracker.record.findings import BENCHMARK, POOL, RESTORE, WHERE, Finding
from tracker.record.pool_files import BINS, pool_file, source_digest, statistics

_TOLERANCE = 1e-9


class Scored(Protocol):
    """What a scorer gives: raw scores in the order of the tasks, the features of each, constants by name."""

    @property
    def scores(self) -> Sequence[float]: ...
    @property
    def features(self) -> Sequence[Mapping[str, Json]]: ...
    @property
    def constants(self) -> Mapping[str, float]: ...


Rescore = Callable[[Row, Sequence[Row]], Scored | None]
"""Scores the tasks of a benchmark anew; None where its scorer is not one that ships."""


def benchmark_findings(benchmark: Row, tasks: Sequence[Row], rescore: Rescore) -> Iterator[Finding]:
    """Where a benchmark's tasks are not those that were read, or their scores not what the scorer gives for them."""
    found = list(_of_source(benchmark, tasks))
    found += _of_scores(benchmark, tasks)
    # Of other tasks a scorer gives other scores, if any.
    if tasks and source_digest(_texts(tasks)) == benchmark["source_digest"]:
        found += _of_scorer(benchmark, tasks, rescore)
    yield from (Finding(BENCHMARK, what, WHERE[BENCHMARK].format_map(benchmark), RESTORE) for what in found)


def pool_findings(
    pool: Row, parts: Sequence[Row], tasks: Sequence[Row], scores: Mapping[int, Sequence[float]]
) -> Iterator[Finding]:
    """Where a pool's tasks, bins, counts and statistics are not those of its identity and rows.

    ``parts`` are its rows of task_pool_benchmark in their order, with name and digest of the benchmark, ``tasks`` those
    of task_pool_task_overview in theirs, ``scores`` those of the full data by the benchmark's id.
    """
    found = list(_unlike_identity(pool, parts))
    derived = bytes_digest([pool_file(tasks)])
    if derived != pool["data_digest"]:
        found.append(f"data_digest {pool['data_digest'][:12]} is recorded, its tasks have {derived[:12]}")
    found += _of_thresholds(parts, scores)
    found += _of_bins(pool, parts, tasks)
    for what, recorded, counted in _counts(pool, parts, tasks):
        if recorded != counted:
            found.append(f"{what} is {recorded:,}, its rows give {counted:,}")
    found += _of_statistics(pool, parts, tasks)
    yield from (Finding(POOL, what, WHERE[POOL].format_map(pool), RESTORE) for what in found)


def _texts(tasks: Sequence[Row]) -> Iterator[tuple[str | None, str]]:
    return ((task["part"], task["raw_data"]) for task in tasks)


def _of_source(benchmark: Row, tasks: Sequence[Row]) -> Iterator[str]:
    entry = _parsed(benchmark["config"])
    if not isinstance(entry, Mapping) or entry.get("path") != benchmark["path"]:
        yield "its entry of the config is not that of its path"
    derived = source_digest(_texts(tasks))
    if derived != benchmark["source_digest"]:
        yield f"source_digest {benchmark['source_digest'][:12]} is recorded, its tasks have {derived[:12]}"
    if len(tasks) != benchmark["n_tasks"]:
        yield f"n_tasks is {benchmark['n_tasks']:,}, its rows give {len(tasks):,}"


def _of_scores(benchmark: Row, tasks: Sequence[Row]) -> Iterator[str]:
    low, high = benchmark["score_low"], benchmark["score_high"]
    raw = [task["raw_score"] for task in tasks]
    for name, recorded, found in (
        ("score_low", low, min(raw, default=low)),
        ("score_high", high, max(raw, default=high)),
    ):
        if not _alike(recorded, found):
            yield f"{name} is {recorded}, its tasks give {found}"
    scaled = [(score - low) / (high - low) if high > low else 0.0 for score in raw]
    wrong = sum(not _alike(task["difficulty_score"], score) for task, score in zip(tasks, scaled, strict=True))
    if wrong:
        yield f"{wrong:,} of its difficulty scores are not its raw scores from 0 to 1"


def _of_scorer(benchmark: Row, tasks: Sequence[Row], rescore: Rescore) -> Iterator[str]:
    try:
        found = rescore(benchmark, tasks)
    except Error as error:
        yield f"its scorer fails: {error.message}"
        return
    if found is None:
        return
    wrong = [not _alike(task["raw_score"], score) for task, score in zip(tasks, found.scores, strict=True)]
    if any(wrong):
        yield f"{sum(wrong):,} of its raw scores are not what its scorer gives"
    wrong = [
        not _alike(_parsed(task["scorer_metadata"]), dict(features))
        for task, features in zip(tasks, found.features, strict=True)
    ]
    if any(wrong):
        yield f"{sum(wrong):,} of its rows of features are not what its scorer gives"
    if not _alike(_parsed(benchmark["constants"]), dict(found.constants)):
        yield "its constants are not what its scorer gives"


def _unlike_identity(pool: Row, parts: Sequence[Row]) -> Iterator[str]:
    try:
        settings = json.loads(pool["identity"])["identity"]
        wanted = settings["benchmarks"]
        counts = {name: (easy, hard) for name, _, _, easy, hard in wanted}
    except (ValueError, TypeError, LookupError):
        return  # what is wrong with an identity has been said
    own = [
        [
            each["benchmark"], each["benchmark_digest"], [each["low_percentile"], each["high_percentile"]],
            *(each[f"n_{name}_wanted"] for name in BINS),
        ]
        for each in parts
    ]  # fmt: skip
    if not _alike(own, wanted):
        yield "its benchmarks are not those of its identity"
    n, share = pool["n_wanted"], _easy_share(pool["difficulty_split"])
    easy = sum(own for own, _ in counts.values())
    if share is None or not _rounded(share * n, easy):
        yield f"difficulty_split is {pool['difficulty_split']!r}, and {easy:,} of {n:,} were to be easy"
    for each in parts:
        own = sum(counts.get(each["benchmark"], (0, 0)))
        if not _rounded(each["ratio"] * n, own):
            yield f"the ratio of {each['benchmark']} is {each['ratio']}, and {own:,} of {n:,} were to be of it"


def _rounded(exact: float, count: int) -> bool:
    """Whether a share can come to a count: largest remainders are less than 1 away."""
    return abs(exact - count) < 1 - _TOLERANCE


def _easy_share(split: str) -> float | None:
    try:
        easy, hard = map(float, split.split(":"))
        return easy / (easy + hard)
    except (ValueError, ZeroDivisionError):
        return None


def _of_bins(pool: Row, parts: Sequence[Row], tasks: Sequence[Row]) -> Iterator[str]:
    bounds = {each["benchmark"]: each for each in parts}
    astray = sum(task["benchmark"] not in bounds for task in tasks)
    if astray:
        yield f"{astray:,} of its tasks are of no benchmark of its own"
    wrong = sum(
        task["difficulty_bin"] != _bin(bounds[task["benchmark"]], task["difficulty_score"])
        for task in tasks
        if task["benchmark"] in bounds
    )
    if wrong:
        yield f"{wrong:,} of its tasks are not in the bin that their score and the thresholds say"
    twice = len(tasks) - len({task["benchmark_task_id"] for task in tasks})
    if twice and not pool["with_replacement"]:
        yield f"{twice:,} of its tasks are there again, and it was drawn without replacement"


def _bin(bounds: Row, score: float) -> str | None:
    return "easy" if score <= bounds["low_threshold"] else "hard" if score >= bounds["high_threshold"] else None


def _of_thresholds(parts: Sequence[Row], scores: Mapping[int, Sequence[float]]) -> Iterator[str]:
    for part in parts:
        for name in ("low", "high"):
            recorded, found = (
                part[f"{name}_threshold"],
                _percentile(scores[part["benchmark_id"]], part[f"{name}_percentile"]),
            )
            if not _alike(recorded, found):
                yield f"{name}_threshold of {part['benchmark']} is {recorded}, its scores give {found}"


def _percentile(scores: Sequence[float], percent: float) -> float | None:
    """Linear between the two nearest, as numpy's; it takes less to say than numpy to load."""
    if not scores:
        return None
    ordered, place = sorted(scores), (len(scores) - 1) * percent / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def _counts(pool: Row, parts: Sequence[Row], tasks: Sequence[Row]) -> Iterator[tuple[str, int, int]]:
    in_bin = Counter(task["difficulty_bin"] for task in tasks)
    in_part = Counter((task["benchmark"], task["difficulty_bin"]) for task in tasks)
    wanted = sum(each[f"n_{name}_wanted"] for each in parts for name in BINS)
    yield "n_tasks", pool["n_tasks"], len(tasks)
    for name in BINS:
        yield f"n_{name}", pool[f"n_{name}"], in_bin[name]
    yield "n_wanted", pool["n_wanted"], wanted
    yield "n_short", pool["n_short"], wanted - len(tasks)
    for each in parts:
        for name in BINS:
            yield f"n_{name} of {each['benchmark']}", each[f"n_{name}"], in_part[each["benchmark"], name]


def _of_statistics(pool: Row, parts: Sequence[Row], tasks: Sequence[Row]) -> Iterator[str]:
    in_part = Counter((task["benchmark"], task["difficulty_bin"]) for task in tasks)
    short = [
        {"benchmark": each["benchmark"], "bin": name, "wanted": each[f"n_{name}_wanted"], "got": got}
        for each in parts
        for name in BINS
        if (got := in_part[each["benchmark"], name]) < each[f"n_{name}_wanted"]
    ]
    found = statistics(
        [(task["benchmark"], task["difficulty_bin"], task["difficulty_score"]) for task in tasks],
        short,
        [each["benchmark"] for each in parts],
    )
    if not _alike(_parsed(pool["statistics"]), found):
        yield "its statistics are not those of its tasks"
    mean = found["difficulty_distribution"]["mean"]
    if not _alike(pool["mean_difficulty"], mean):
        yield f"mean_difficulty is {pool['mean_difficulty']}, its tasks give {mean}"


def _parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _alike(first: Json, second: Json) -> bool:
    """Whether two values are the same but for the last digits of their numbers, in which machines may differ."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, (int, float)) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(first == second)
