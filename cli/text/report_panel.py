"""What a report says and draws of accuracies: the marks of a panel, and in words which differences mean anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cli.render import counted, harmless
from cli.text import report_figures as figures
from cli.text.report_figures import Mark, Spot
from cli.text.result_words import chance, number, percent, points
from tracker.fingerprint import canonical_json
from tracker.listings.compare import is_long
from tracker.listings.result_settings import MADE_WITH
from tracker.reports.batch_report import Report
from tracker.reports.report_accuracy import ALPHA, Panel, Point, numeric
from tracker.reports.report_samples import spread
from tracker.reports.result_plots import is_logarithmic

_RATE = "hyperparameters.learning_rate"
_MOST_NAMED = 4
MOST_TEXT = 700
"""Characters of one text that are shown."""


def clipped(text: str, most: int = MOST_TEXT) -> str:
    """``text``, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters in all)"


def drawn(panel: Panel, report: Report) -> dict[str, Any]:
    """What the template shows of a panel: its scale, marks, baselines and what they mean in words."""
    lines = [*_baseline("zero-shot", panel.zero_shot), *_baseline("majority", panel.majority)]
    shares = [share for _, share in lines]
    for point in panel.points:
        shares += [point.mean, *(point.interval or ())]
    shown = _shown(panel)
    return {
        "panel": panel, "scale": figures.scale(shares), "lines": lines, "shown": shown,
        "marks": [_mark(panel, at) for at in range(len(panel.points))],
        "measured_on": _measured_on(panel), "has_original": any(each.is_original for each in panel.points),
        "others": _others(panel),
        "names": [point_name(panel, each) for each in panel.points], "said": list(_said(panel)),
        "over": [_over(panel, name, lines) for name in numeric(panel)[:3]],
        "intervals": [_interval(each) for each in panel.points],
        "cells": [[_cell(point, name, report) for name in panel.varied] for point in panel.points],
    }  # fmt: skip


def _shown(panel: Panel) -> list[int]:
    """The places of the points that are drawn: all, or the best, some on original data, and others evenly spread."""
    places = list(range(len(panel.points)))
    if len(places) <= figures.MOST_ROWS:
        return places
    first = [at for at in places if panel.points[at].is_original][: figures.MOST_ROWS // 2]
    first += [panel.best] if panel.best not in first else []
    others = [{"at": at} for at in places if at not in first]
    return sorted([*first, *(row["at"] for row in spread(others, figures.MOST_ROWS - len(first)))])


def _cell(point: Point, name: str, report: Report) -> str:
    """A value in a table, a long text as the variant that the settings have it under."""
    value = point.values[name]
    if value is None and point.is_original and name.startswith(MADE_WITH):
        return "-"
    if value is None:
        return _absent(point, name)
    known = report.settings.different.get(name, []) if report.settings is not None else []
    if any(map(is_long, known)):
        variants = list(dict.fromkeys(map(canonical_json, known)))
        key = canonical_json(value)
        if key in variants:
            return f"variant {variants.index(key) + 1}"
    return clipped(number(value), 40)


def _absent(point: Point, name: str) -> str:
    """What a setting without a value is: of what was made elsewhere nobody knows more than what is written down."""
    of_data = name.startswith(MADE_WITH)
    is_known = point.is_synthetic if of_data else point.pool.first.row["import_run_id"] is None
    return "not set" if is_known else "not known"


def _others(panel: Panel) -> str:
    """What the plain marks of a panel stand for; nothing where it has none."""
    made = [each.is_synthetic for at, each in enumerate(panel.points) if at != panel.best and not each.is_original]
    return "" if not made else "synthetic data" if all(made) else "other data"


def _measured_on(panel: Panel) -> str:
    known = [each for each in panel.points if each.interval is not None]
    records = "records of which nothing is known" if panel.n_eval is None else counted(panel.n_eval, "record")
    return f"{records}, with 95% intervals" if known else records


def _baseline(name: str, found: tuple[float, float] | None) -> Iterator[tuple[str, float]]:
    if found is not None:
        yield from ((name, share) for share in dict.fromkeys(found))


def _mark(panel: Panel, at: int) -> Mark:
    point = panel.points[at]
    kind = "best" if at == panel.best else "original" if point.is_original else "other"
    return Mark(point.mean, point.interval, kind)


def _over(panel: Panel, name: str, lines: Sequence[tuple[str, float]]) -> dict[str, Any]:
    spots, originals = [], []
    for at, point in enumerate(panel.points):
        value = point.values[name]
        if isinstance(value, (int, float)):
            spots.append(Spot(float(value), _mark(panel, at), harmless(point_name(panel, point))))
        elif point.is_original:
            originals.append(point.mean)
    of_original = [("original-line", share) for share in dict.fromkeys(originals)]
    # A temperature is no rate, however small.
    logarithmic = not name.startswith(MADE_WITH) and is_logarithmic(name, [spot.value for spot in spots])
    label = f"Accuracy of {panel.model} ({panel.method}) on {panel.task} over {name}; the table below has the numbers."
    return {
        "name": name, "has_original": bool(originals),
        "has_intervals": not figures.is_crowded(spots) and any(spot.mark.interval for spot in spots),
        "is_crowded": figures.is_crowded(spots),
        "figure": figures.over(spots, [*lines, *of_original], logarithmic=logarithmic, label=harmless(label)),
    }  # fmt: skip


def point_name(panel: Panel, point: Point) -> str:
    """The data and the hyperparameters in which the points of a panel differ."""
    data = "original data" if point.data == "original" else point.data
    return ", ".join([data, *_hyperparameters(panel, point)])


def _hyperparameters(panel: Panel, point: Point, *always: str) -> list[str]:
    """The hyperparameters in which the points of a panel differ, and those of ``always`` that are known, in words."""
    given = {name: value for name in always if (value := point.pool.first.settings.get(name)) is not None}
    given |= {name: point.values[name] for name in panel.varied if name.startswith("hyperparameters.")}
    return [
        f"{name.rpartition('.')[2].replace('_', ' ')} {_absent(point, name) if value is None else number(value)}"
        for name, value in given.items()
    ]


def _interval(point: Point) -> str:
    return "-" if point.interval is None else " to ".join(map(percent, point.interval))


def _said(panel: Panel) -> Iterator[str]:
    """What the differences of a panel mean: which are more than chance, which are within noise."""
    best = panel.points[panel.best]
    sure = [] if best.interval is None else [f"95% interval {_interval(best)}"]
    if best.error is not None:
        sure.append(f"standard error {points(best.error)} points over {best.n_seeds} seeds")
    brackets = f" ({', '.join(sure)})" if sure else ""
    yield f"Highest: {_named_best(panel)} with {percent(best.mean)}{brackets}."
    tested = [each for each in panel.points if each.below_best and each.below_best.corrected is not None]
    if tested:
        worse, within = len(panel.worse), len(tested) - len(panel.worse)
        if not worse:
            many = counted(len(tested), "other point")
            yield f"No difference to the {many} is more than chance explains: they are within noise."
        else:
            rest = f"; {within} {'is' if within == 1 else 'are'} within noise of it" if within else ""
            are = "is" if worse == 1 else "are"
            yield f"{worse} of {counted(len(tested), 'other point')} {are} lower by more than chance explains{rest}."
    if panel.compared:
        yield _against(panel)
    if panel.zero_shot is not None and best.interval is not None and best.interval[0] <= panel.zero_shot[1]:
        yield f"The interval of the highest reaches down to the model before training ({share_range(panel.zero_shot)})."
    if len(panel.points) > 1 and not tested:
        obstacles = dict.fromkeys(each.below_best.obstacle for each in panel.points if each.below_best)
        yield f"Nothing could be tested: {', '.join(filter(None, obstacles))}."
    if panel.seed_deviation is None:
        yield "One seed each: how far another seed would move an accuracy is not known."
    else:
        yield f"Another seed alone moves an accuracy by {points(panel.seed_deviation)} points (standard deviation)."


def share_range(found: tuple[float, float]) -> str:
    """``60.0%``, or from the lowest to the highest of several."""
    return " to ".join(dict.fromkeys(map(percent, found)))


def _against(panel: Panel) -> str:
    real = [each for each in panel.compared if each.against and (each.against.corrected or 0) < ALPHA]
    up = sum((each.against.difference or 0) > 0 for each in real if each.against)
    within = len(panel.compared) - len(real)
    what = f"Of {counted(len(panel.compared), 'point')} tested against original data {up} better and {len(real) - up}"
    return f"{what} worse by more than chance explains, {within} within noise."


def _named_best(panel: Panel) -> str:
    """The best point; where others are just as good, they too."""
    mean = panel.points[panel.best].mean
    names = [point_name(panel, each) for each in panel.points if each.mean == mean]
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED - 1 :] = [f"{len(names) - _MOST_NAMED + 1:,} more"]
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]} (equal)"


def findings(report: Report) -> Iterator[str]:
    """What somebody should know who reads no further."""
    for panel in report.accuracies.panels[:4]:
        best = panel.points[panel.best]
        said = f"{panel.task}, {panel.model}, {panel.method}: {percent(best.mean)} with {_named_best(panel)}"
        original = next((each for each in panel.points if each.is_original), None)
        if best.against is not None and best.against.corrected is not None and best.against.difference is not None:
            said += f"; against original data {chance(best.against.difference, best.against.corrected)}"
        elif original is best:
            said += ", which no synthetic data exceeds"
        elif original is None:
            said += "; nothing was trained on original data to compare it with"
        yield f"{said}."


def trained(report: Report) -> dict[int, list[str]]:
    """By experiment, what was trained on it alone: ``Llama-3.2-1B, zo, learning rate 1e-06: 76.0%``."""
    found: dict[int, list[str]] = {}
    for panel in report.accuracies.panels:
        for point in panel.points:
            experiment = point.pool.first.row["shared_experiment_id"]
            if experiment is not None:
                seeds = f" ({counted(point.n_seeds, 'seed')})" if point.n_seeds > 1 else ""
                how = ", ".join([panel.task, panel.model, panel.method, *_hyperparameters(panel, point, _RATE)])
                said = f"{how}: {percent(point.mean)}{seeds}"
                found.setdefault(experiment, []).append(said)
    return found
