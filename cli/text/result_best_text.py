"""How the values of a setting look in a terminal, ranked by what they gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cli.render import RULE, counted, harmless, table
from cli.text.result_compare_text import BEST, how_tested, interval, on_shared, title
from cli.text.result_words import ALPHA, chance, known, number, p_value, percent, points
from tracker.listings.compare import short
from tracker.listings.result_compare import Group, Pooled, Tested, baseline, best_of, by_measure, equal_to
from tracker.reports.result_reports import Ranked

_DIGITS = 12


def ranked(found: Ranked) -> Iterator[str]:
    """The values of a setting with what each gave, and what that means."""
    row = found.best[0].first.row
    yield from (RULE, f"Best {found.name} for {row['task']}", RULE, "")
    against = {each.second: each for each in found.tests}
    at_best = found.at_best
    stars = set() if at_best is None else set(equal_to(found.best, at_best))
    headers = (
        *(found.name, "Records", "Runs", "Points", "Mean of points", "Best point", "Seeds", "95% interval"),
        *("Against best" if at_best is not None else "Against best on its records", "Best run"),
    )
    rows = [
        [harmless(value_of(group)) + (f" {BEST}" if at in stars else ""), *_cells(group, pool),
         _against(against.get(at)), f"{pool.best_run.row['uuid'][:8]} ({percent(pool.best_run.accuracy)})"]
        for at, (group, pool) in enumerate(zip(found.groups, found.best, strict=True))
    ]  # fmt: skip
    yield from (table(headers, rows), "", *_verdicts(found))
    made = [each for each in found.tests if each.p is not None]
    if made:
        yield from how_tested(made, found.best)
    if found.others:
        yield f"These points also differ in {', '.join(found.others)}."
    if at_best is not None and len(found.groups[at_best].points) > min(len(each.points) for each in found.groups):
        yield "It had more points than others, so more chances to look good."
    zero_shot, majority = (_range(found.best, name) for name in ("zero_shot_accuracy", "majority_accuracy"))
    yield f"Baselines: zero-shot {zero_shot}, majority class {majority}."


def value_of(group: Group) -> str:
    """``0.5``, ``not set``, ``original data (no experiment)``, ``not known (data not in the record)``."""
    if group.is_unknown:
        return "not known (data not in the record)"
    return "original data (no experiment)" if group.is_original else number(group.value)


def _range(pools: Sequence[Pooled], name: str) -> str:
    return " to ".join(dict.fromkeys(map(percent, baseline(pools, name) or (None,))))


def _cells(group: Group, pool: Pooled) -> list[str]:
    spread = "" if pool.deviation is None else f" (sd {points(pool.deviation)})"
    counts = [known(group.measure.n_eval), f"{group.n_runs:,}", f"{len(group.points):,}", percent(group.mean)]
    return [*counts, f"{percent(pool.mean)}{spread}", str(len(pool.results)), interval(pool)]


def _against(test: Tested | None) -> str:
    if test is None:
        return ""
    return "no test" if test.corrected is None else f"p {p_value(test.corrected)}"


def _verdicts(found: Ranked) -> Iterator[str]:
    if found.at_best is not None:
        yield from _verdict(found, range(len(found.best)), f"{BEST} ")
        return
    yield "Not measured on the same records: none is called best."
    for measure, places in by_measure(found.best).items():
        digest = "no known file" if measure.eval_digest is None else f"validation file {measure.eval_digest[:_DIGITS]}"
        yield from _verdict(found, places, f"On {_n_records(measure.n_eval)} of {digest}, ")


def _n_records(n: int | None) -> str:
    return "an unknown number of records" if n is None else counted(n, "record")


def _verdict(found: Ranked, places: Sequence[int], where: str) -> Iterator[str]:
    """What became of those measured on the same records."""
    values, best = [value_of(group) for group in found.groups], found.best
    at_best = places[best_of([best[at] for at in places]) or 0]
    if len(places) == 1 < len(best):
        yield harmless(f"{where}{values[at_best]} alone: {percent(best[at_best].mean)}, {title(best[at_best])}.")
        return
    equal = [values[at] for at in equal_to(best, at_best) if at in places]
    if len(equal) > 1:
        yield harmless(f"{where}{', '.join(equal[:-1])} and {equal[-1]}: equal, {percent(best[at_best].mean)}.")
    else:
        winner = f"{values[at_best]} gave the best model: {percent(best[at_best].mean)}"
        yield harmless(f"{where}{winner}, {title(best[at_best])}.")
    tests = [each for each in found.tests if each.second in places]
    second = max(tests, key=lambda each: best[each.second].mean or 0.0, default=None)
    if second is None:
        yield "There is no other value to compare it with."
        return
    value = values[second.second]
    pair = f"{values[at_best]} against {value}" if len(equal) > 1 else f"Against the second, {value}"
    if second.difference is None or second.corrected is None:
        yield harmless(f"{pair}: no test, {second.obstacle}.")
        return
    meaning = f"{on_shared(second, best)}{chance(second.difference, second.corrected)}"
    yield harmless(f"{pair}: {meaning}.")
    alike = [values[each.second] for each in tests if (each.corrected or 0.0) >= ALPHA]
    if len(alike) > 1:
        yield harmless(f"As good, for all that these records can tell: {', '.join(alike)}.")


def settings_listed(names: Mapping[str, Sequence[Group]]) -> Iterator[str]:
    """The settings that can be asked for: those with several values, and the names of the others."""
    found = {name: list(dict.fromkeys(map(_short, groups))) for name, groups in names.items()}
    several = {name: values for name, values in found.items() if len(values) > 1}
    width = max((len(name) for name in several), default=0)
    for name, values in several.items():
        yield harmless(f"{name:{width}}  {', '.join(values)}")
    yield from ("", f"The same in all: {', '.join(name for name in names if name not in several)}")


def _short(group: Group) -> str:
    return "original data" if group.is_original else "not known" if group.is_unknown else short(group.value)
