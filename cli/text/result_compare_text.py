"""How results beside each other look in a terminal: a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from cli.render import RULE, counted, harmless, table
from cli.text.compare_text import value_lines
from cli.text.result_words import (
    chance,
    duration,
    figure,
    known,
    name_of,
    number,
    percent,
    points,
    status,
    told,
)
from tracker.fingerprint import Json
from tracker.listings.compare import is_long
from tracker.listings.result_compare import Pooled, Tested, seed_deviation
from tracker.reports.result_reports import Compared

BEST = "★"
_WIDTH = 100
_SHARES = ("accuracy", "zero_shot_accuracy", "majority_accuracy", "dev_accuracy")
_LOSSES = ("eval_loss", "dev_loss")
_METRICS: tuple[tuple[str, str, Callable[[Sequence[float]], float] | None], ...] = (
    ("macro_f1", "Macro-F1", max),
    ("eval_loss", "Evaluation loss", min),
    ("dev_accuracy", "Dev accuracy", max),
    ("dev_loss", "Dev loss", min),
    ("zero_shot_accuracy", "Zero-shot", None),
    ("majority_accuracy", "Majority class", None),
    ("step_time_s", "Seconds a step", min),
)


def title(pool: Pooled) -> str:
    """``Copa_zo_temp07_topp10_gpt4o_1_6, seed 0``."""
    row, seeds = pool.first.row, [told(each.row["seed"]) for each in pool.results]
    return harmless(f"{name_of(row)}, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")


def compared(found: Compared) -> Iterator[str]:
    """Results beside each other: what made them, what came out, and which differences mean anything."""
    pools, settings = found.pools, found.settings
    numbers = [str(number) for number in range(1, len(pools) + 1)]
    yield from (RULE, "Training Result Comparison", RULE, "")
    for at, pool in zip(numbers, pools, strict=True):
        yield from (f"{at}: {title(pool)}", *(f"   {harmless(each.row['directory'])}" for each in pool.results))
    if settings.same:
        yield from ("", "✅ Same parameters:")
        yield from (f"  {name}: {harmless(number(_listed(value)))}" for name, value in settings.same.items())
    if settings.of_generated:
        yield from ("", "✅ All data that was generated, with these:")
        yield from (f"  {name}: {harmless(number(value))}" for name, value in settings.of_generated.items())
    if settings.different:
        yield from ("", "⚠️  Different parameters:", *_different(settings.different, numbers))
    if settings.without_effect:
        yield from ("", f"💾 Different, without effect on the result: {', '.join(settings.without_effect)}")
    told = f"{BEST} best" if found.is_comparable else "not measured on the same records: none is called best"
    yield from ("", f"📊 Results ({told}):", _results(found, numbers))
    yield from ("", "⚖️ Differences", *_differences(pools, found.tests))


def _different(different: Mapping[str, Sequence[Json]], numbers: Sequence[str]) -> Iterator[str]:
    values = {name: [_listed(value) for value in found] for name, found in different.items()}
    long = [name for name, found in values.items() if any(map(is_long, found))]
    rows = [[name, *(harmless(number(value)) for value in values[name])] for name in values if name not in long]
    if rows:
        yield _narrower(["", *numbers], rows)
    for name in long:
        yield f"  {name}:"
        yield from (f"    {harmless(line)}" for line in value_lines(values[name], numbers))


def _listed(value: Json) -> Json:
    return ", ".join(map(number, value)) if isinstance(value, list) else value


def _results(found: Compared, numbers: Sequence[str]) -> str:
    pools = found.pools
    accuracies = _marked([pool.mean for pool in pools], max if found.is_comparable else None, percent)
    rows = [["Status", *map(_status, pools)], ["Accuracy", *accuracies], ["95% interval", *map(interval, pools)]]
    if any(len(pool.results) > 1 for pool in pools):
        rows.append(["Seeds", *(str(len(pool.results)) for pool in pools)])
        rows.append(["sd over seeds (points)", *(points(pool.deviation) for pool in pools)])
    more = [len(seeds.results) > len(pool.results) for seeds, pool in zip(found.seeds, pools, strict=True)]
    if any(more):
        rows.append(["All its seeds", *map(_seeds, found.seeds)])
    rows.append(["Records measured on", *map(_n_records, pools)])
    # Cross-entropy over candidates and loss on the right one's tokens are different things.
    unlike = _LOSSES if "train_as_classification" in found.settings.different else ()
    for name, shown, better in _METRICS:
        values = [pool.figure(name) for pool in pools]
        can_be_best = found.is_comparable and name not in unlike
        if any(value is not None for value in values):
            shares = percent if name in _SHARES else figure
            rows.append([shown, *_marked(values, better if can_be_best else None, shares)])
    rows.append(["Duration", *(duration(pool.figure("duration_s")) for pool in pools)])
    return _narrower(["", *numbers], rows)


def _n_records(pool: Pooled) -> str:
    """Of an imported run the answers are not known, how many there were may be."""
    return f"{len(pool.n_right):,}" if pool.n_right else known(pool.measure.n_eval)


def _seeds(pool: Pooled) -> str:
    """``75.0% (sd 1.4, 2 seeds)``."""
    if pool.deviation is None:
        return "-"
    return f"{percent(pool.mean)} (sd {points(pool.deviation)}, {counted(len(pool.results), 'seed')})"


def _narrower(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a column for each result, or with a line for each where that is narrower."""
    upright = table(headers, rows)
    turned = table(["", *(row[0] for row in rows)], list(zip(headers[1:], *(row[1:] for row in rows), strict=True)))
    width, other = (found.index("\n") for found in (upright, turned))
    return upright if width <= max(other, _WIDTH) else turned


def _marked(
    values: Sequence[float | None],
    better: Callable[[Sequence[float]], float] | None,
    shown: Callable[[float | None], str],
) -> list[str]:
    known = [value for value in values if value is not None]
    best = better(known) if better and len(set(known)) > 1 else None
    return [f"{shown(value)} {BEST}" if value is not None and value == best else shown(value) for value in values]


def _status(pool: Pooled) -> str:
    return ", ".join(dict.fromkeys(status(each.row) for each in pool.results))


def interval(pool: Pooled) -> str:
    """``66.8% to 83.3%``, or ``-``."""
    return "-" if pool.interval is None else f"{percent(pool.interval[0])} to {percent(pool.interval[1])}"


def _differences(pools: Sequence[Pooled], tests: Sequence[Tested]) -> Iterator[str]:
    for each in tests:
        yield f"  {each.first + 1} and {each.second + 1}: {on_shared(each, pools)}{_meaning(each)}"
    made = [each for each in tests if each.p is not None]
    if made:
        yield from (f"  {line}" for line in how_tested(made, pools))
    elif not tests:
        yield "  Nothing to test: no two are complete and were measured on the same records."


def on_shared(test: Tested, pools: Sequence[Pooled]) -> str:
    """The accuracies that are compared where they are not those of all records: ``on the 50 records of both ...: ``."""
    if test.accuracies is None or test.n == max(len(pools[at].n_right) for at in (test.first, test.second)):
        return ""
    return f"on the {test.n:,} records of both {' and '.join(map(percent, test.accuracies))}: "


def _meaning(test: Tested) -> str:
    if test.difference is None or test.corrected is None:
        return f"no test: {test.obstacle}"
    counts = ""
    if test.only_first is not None:
        counts = (
            f"; of {test.n:,} records {test.only_first:,} only by the first, {test.only_second:,} only by the second"
        )
    return f"{chance(test.difference, test.corrected)}{counts}"


def how_tested(tests: Sequence[Tested], pools: Sequence[Pooled]) -> Iterator[str]:
    """How the p-values came about, and what they do not cover: that other seeds give other models."""
    pooled = any(len(pool.results) > 1 for pool in pools)
    how = "sign-flip test over records, exact; seeds of a point pooled" if pooled else "McNemar's exact test"
    many = f"; corrected for {len(tests)} tests (Holm)" if len(tests) > 1 else ""
    yield f"({how}{many})"
    deviation = seed_deviation(pools)
    if deviation is not None:
        yield f"Seeds alone move the accuracy by {points(deviation)} points (sd): that comes on top."
    else:
        yield "One seed each: how far another seed would move the accuracy is not known."
