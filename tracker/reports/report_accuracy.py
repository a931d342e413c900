"""What a report says of accuracies: points beside each other where they were measured on the same records."""

# ruff: noqa: S608  what is put into a text here are lists of ids; values are parameters

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from tracker.fingerprint import Json, canonical_json
from tracker.listings import result_compare, results
from tracker.listings.result_compare import Pooled, Tested
from tracker.listings.result_settings import MADE_WITH, SEED, Result, load
from tracker.record.catalogue import Reader, Row, portions
from tracker.statistics import holm

ALPHA = 0.05
MOST_POINTS = 60
"""Of one panel: the newest of more."""
MOST_PANELS = 24
_OF_DATA = ("data", *MADE_WITH, "eval_data.", "model.")


@dataclass(frozen=True, slots=True)
class Point:
    """The seeds of one point, newest attempts: its data and the settings in which the panel's points differ.

    ``error`` is the standard error of the mean over two or more seeds; ``against`` the test against the original data,
    its difference the point's minus the original's, ``is_alike`` whether that has the same hyperparameters.
    ``below_best`` is the test of the best point against this one. ``elsewhere``: no run of it is of the subject.
    """

    pool: Pooled
    values: dict[str, Json]
    error: float | None
    against: Tested | None
    is_alike: bool
    below_best: Tested | None
    elsewhere: bool

    @property
    def data(self) -> str:
        return str(self.pool.first.row["data"])

    @property
    def is_original(self) -> bool:
        return self.pool.first.is_original

    @property
    def is_synthetic(self) -> bool:
        """Whether experiments made the data, or some of it; other data is not in the record."""
        return bool(self.pool.first.made_with)

    @property
    def n_seeds(self) -> int:
        return len(self.pool.results)

    @property
    def mean(self) -> float:
        return self.pool.mean or 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval; None where the answers are not known, as of runs that were imported."""
        low, high = self.pool.interval or (None, None)
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True, slots=True)
class Panel:
    """One model trained by one method on one task, measured on the same records; the original data's points first.

    ``n_eval`` is None where nobody knows which records these were, as of runs that were imported. ``best`` is the index
    of the highest mean; ``zero_shot`` and ``majority`` are the lowest and highest of baselines.
    """

    task: str
    model: str
    method: str
    n_eval: int | None
    points: tuple[Point, ...]
    varied: tuple[str, ...]
    best: int
    zero_shot: tuple[float, float] | None
    majority: tuple[float, float] | None
    seed_deviation: float | None
    n_left_out: int

    @property
    def worse(self) -> list[Point]:
        """The points that the best exceeds by more than chance."""
        return [each for each in self.points if each.below_best and (each.below_best.corrected or 0.0) < ALPHA
                and each.below_best.corrected is not None]  # fmt: skip

    @property
    def compared(self) -> list[Point]:
        """The points that could be tested against the original data."""
        return [each for each in self.points if each.against and each.against.corrected is not None]


@dataclass(frozen=True, slots=True)
class Accuracies:
    """The panels, how many more there are, and the subject's runs by status."""

    panels: tuple[Panel, ...]
    n_left_out: int
    statuses: dict[str, int]


def gather(reader: Reader, run_ids: Collection[int]) -> Accuracies:
    """The accuracies of the runs, with the points on original data that they can be compared with."""
    own = _runs(reader, [f"SELECT id FROM training_overview WHERE id IN ({some})" for some in _lists(run_ids)])
    statuses: dict[str, int] = {}
    for row in own:
        statuses[row["status"]] = statuses.get(row["status"], 0) + 1
    measures = {_measure(row) for row in own if _counts(row)}
    others = [row for row in _runs(reader, [_ON_ORIGINAL]) if _measure(row) in measures] if measures else []
    newest = {row["fingerprint"]: row for row in [*others, *own] if _counts(row)}
    ids = {row["id"] for row in own}
    found: dict[_Measure, list[Row]] = {}
    for row in sorted(newest.values(), key=lambda row: int(row["id"])):
        found.setdefault(_measure(row), []).append(row)
    panels = sorted(found.items(), key=lambda each: (each[0][:3], -len(each[1]), each[0][3] or ""))
    shown = [_panel(reader, rows, ids) for _, rows in panels[:MOST_PANELS]]
    return Accuracies(tuple(shown), max(0, len(panels) - MOST_PANELS), statuses)


_Measure = tuple[str, str, str, str | None, int | None]
_ON_ORIGINAL = """
    SELECT r.id FROM training_run r WHERE r.status = 'complete' AND r.accuracy IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM training_data d WHERE d.training_run_id = r.id
        AND (d.shared_experiment_id IS NOT NULL OR d.name <> 'original'))"""


def _lists(ids: Collection[int]) -> list[str]:
    return portions(sorted(ids))


def _runs(reader: Reader, chosen: Sequence[str]) -> list[Row]:
    ids = [row["id"] for sql in chosen for row in reader.rows(f"SELECT id FROM ({sql}) c ORDER BY id")]
    there = {row["id"] for some in _lists(ids) for row in reader.rows(
        f"SELECT id FROM training_overview WHERE id IN ({some})")}  # fmt: skip
    return results.runs(reader, [each for each in ids if each in there])


def _counts(row: Row) -> bool:
    return row["status"] == "complete" and row["accuracy"] is not None


def _measure(row: Row) -> _Measure:
    return row["task"], row["model"], row["method"], row["eval_digest"], row["n_eval"]


def _panel(reader: Reader, rows: Sequence[Row], own: Collection[int]) -> Panel:
    points: dict[str, list[Result]] = {}
    for each in load(reader, rows):
        points.setdefault(each.point, []).append(each)
    # Those on original data first, so that none of them is cut off; the newest of the others.
    ordered = sorted(points.values(), key=lambda seeds: (not seeds[0].is_original, -max(each.id for each in seeds)))
    seeds = [sorted(each, key=lambda one: result_compare.in_order(one.row["seed"])) for each in ordered[:MOST_POINTS]]
    answers = results.answers(reader, [one.id for each in seeds for one in each])
    pools = [result_compare.pool(each, answers) for each in seeds]
    varied = tuple(_varied(pools))
    pools.sort(key=lambda each: _place(each, varied))
    best = result_compare.best_of(pools) or 0
    first = pools[0].first.row
    return Panel(
        first["task"], first["model"], first["method"], first["n_eval"],
        tuple(_points(pools, varied, best, own)), varied, best,
        result_compare.baseline(pools, "zero_shot_accuracy"), result_compare.baseline(pools, "majority_accuracy"),
        result_compare.seed_deviation(pools), len(points) - len(pools),
    )  # fmt: skip


def _varied(pools: Sequence[Pooled]) -> Iterator[str]:
    """The settings in which points differ: those of the data first, those that say the same again left out."""
    made = [each for each in pools if each.first.made_with]
    names = dict.fromkeys([*result_compare.settings_of(pools).different, *_differing(made)])
    for name in sorted(names, key=lambda name: (not name.startswith(MADE_WITH), not _is_numeric(name, made))):
        if name in (SEED, "data") or name.startswith(("train_data.", "eval_data.", "model.")):
            continue
        if name.startswith(MADE_WITH) and len({canonical_json(each.first.settings.get(name)) for each in made}) < 2:
            continue  # original data alone has none
        yield name


def _is_numeric(name: str, pools: Sequence[Pooled]) -> bool:
    return all(isinstance(each.first.settings.get(name), (int, float)) for each in pools)


def _differing(pools: Sequence[Pooled]) -> Sequence[str]:
    return list(result_compare.settings_of(pools).different) if pools else []


def _place(pool: Pooled, varied: Sequence[str]) -> tuple[bool, list[tuple[int, float, str]], str]:
    values = [pool.first.settings.get(name) for name in varied]
    return not pool.first.is_original, [result_compare.in_order(each) for each in values], str(pool.first.row["data"])


def _points(pools: Sequence[Pooled], varied: Sequence[str], best: int, own: Collection[int]) -> Iterator[Point]:
    below = {test.second: test for test in result_compare.against_best(pools) if test.first == best}
    against = _against_original(pools)
    for at, pool in enumerate(pools):
        test, is_alike = against.get(at, (None, False))
        values = {name: pool.first.settings.get(name) for name in varied}
        deviation, n = pool.deviation, len(pool.results)
        error = None if deviation is None else deviation / math.sqrt(n)
        elsewhere = not any(each.id in own for each in pool.results)
        yield Point(pool, values, error, test, is_alike, below.get(at), elsewhere)


def _against_original(pools: Sequence[Pooled]) -> dict[int, tuple[Tested, bool]]:
    """By index, each generated point against the original data: of the same hyperparameters, else its best."""
    originals = [each for each in pools if each.first.is_original]
    best = result_compare.best_of(originals)
    if best is None:
        return {}
    alike = {_own_settings(each): each for each in originals}
    found: dict[int, tuple[Tested, bool]] = {}
    for at, each in enumerate(pools):
        if not each.first.is_original:
            same = alike.get(_own_settings(each))
            (test,) = result_compare.compared([each, same or originals[best]])
            found[at] = test, same is not None
    tested = [at for at, (test, _) in found.items() if test.p is not None]
    for at, p in zip(tested, holm([found[at][0].p or 0.0 for at in tested]), strict=True):
        found[at] = replace(found[at][0], corrected=p), found[at][1]
    return found


def _own_settings(pool: Pooled) -> str:
    """What a point has beside its data, for a look-up."""
    first = pool.first
    names = [name for name in sorted(first.shaping) if name != SEED and not name.startswith(_OF_DATA)]
    return canonical_json({name: first.settings.get(name) for name in names})


def numeric(panel: Panel) -> list[str]:
    """The settings with several values in a panel, all of them numbers: what accuracy can be drawn over."""
    found = []
    for name in panel.varied:
        values = [each.values[name] for each in panel.points if each.values[name] is not None]
        numbers = [each for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]
        if len(numbers) == len(values) and len(set(numbers)) > 1:
            found.append(name)
    return found
