"""A report as one HTML page: words and figures around the record, all of it escaped, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from cli import report_figures as figures
from cli.render import counted, harmless, moment, usd
from cli.report_figures import Mark, Scale, Spot
from cli.result_words import chance, number, p_value, percent, points
from pipeline.differences import differences
from tracker.batch_report import Experiment, Report
from tracker.catalogue import Row
from tracker.compare import is_long, short
from tracker.fingerprint import Json, canonical_json
from tracker.report_accuracy import ALPHA, Panel, Point, numeric
from tracker.report_samples import Card, spread
from tracker.result_plots import is_logarithmic

SIGN = "synthtrack report"
"""The generator that the page names, by which its file is known again."""
MOST_TEXT = 700
MOST_VALUE = 4_000
MOST_ROWS = 40
"""Of one figure."""
MOST_LISTED = 60
MOST_VALUES = 12
"""Of one setting."""
_HERE = Path(__file__).parent
_VERDICTS = {"same": "the same", "not_the_same": "not the same", "unclear": "unclear", "skipped": "skipped"}
_STATES = {"accepted": "✓", "rejected": "✗", "failed": "!", "undecided": "?"}


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a setting that varies: its text, and how many experiments have it."""

    text: str
    n: int


@dataclass(frozen=True, slots=True)
class Varying:
    """A setting with several values: the first of them, how many more there are, and whether they are long texts."""

    name: str
    values: tuple[Value, ...]
    n_more: int
    is_long: bool


def rendered(report: Report, place: Callable[[str], str] = str) -> str:
    """The whole page; ``place`` says how a path is shown. The same report gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters |= {
        "usd": usd, "moment": moment, "percent": percent, "points": points, "short": short, "number": number,
        "counted": counted, "clip": clipped, "p_value": p_value, "place": place,
    }  # fmt: skip
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    given = {
        "r": report, "sign": SIGN, "style": Markup(style),  # noqa: S704  a file of our own
        "policy": _policy(style), "varying": varying(report), "same": _same(report),
        "labels": labels(report), "findings": list(_findings(report)), "figures": figures,
        "acceptance_scale": _acceptance_scale(report), "accepted_rows": _accepted_rows(report), "mark_of": _mark_of,
        "panels": [_panel(each, report) for each in report.accuracies.panels], "changed": changed,
        "versions_of": versions_of, "verdicts": _VERDICTS,
        "states": _STATES, "listed": report.experiments[:MOST_LISTED], "trained": _trained(report),
        "most_text": MOST_TEXT,
    }  # fmt: skip
    return environment.get_template("report.html").render(**given)


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _shown(value: object) -> object:
    """What the template writes of a value: what hides in a text, or turns it round, is made visible."""
    if isinstance(value, Markup):
        return value
    return harmless(value) if isinstance(value, str) else "-" if value is None else value


def clipped(text: str, most: int = MOST_TEXT) -> str:
    """``text``, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters in all)"


def changed(original: str, rephrased: str) -> Markup:
    """The rephrased text with the words marked that the original does not have there."""
    pieces = differences(original[:MOST_TEXT], rephrased[:MOST_TEXT])[1]
    found = Markup("").join(
        Markup("<mark>{}</mark>").format(harmless(piece.text)) if piece.changed else escape(harmless(piece.text))
        for piece in pieces
    )
    rest = clipped(rephrased)[MOST_TEXT:]
    return found + escape(rest)


def versions_of(card: Card) -> list[tuple[str, Row]]:
    """What experiments made of a record, those that made the same of it together: their names, and what it is."""
    found: dict[tuple[object, ...], tuple[list[str], Row]] = {}
    for each in card.versions:
        key = tuple(each[name] for name in ("rephrased", "status", "verdict", "decided_by", "decision", "error"))
        found.setdefault(key, ([], each))[0].append(clipped(each["experiment"], 90))
    return [(", ".join(names), each) for names, each in found.values()]


def varying(report: Report) -> list[Varying]:
    """The settings that differ between experiments, with their values and how many have each, numbers by size."""
    return [] if report.settings is None else [_varying(*each) for each in report.settings.different.items()]


def _varying(name: str, values: Sequence[Json]) -> Varying:
    counts = Counter(map(canonical_json, values))
    different = list({canonical_json(each): each for each in values}.values())
    # Sorting keeps the order of the others: their places are the numbers of variants elsewhere.
    different.sort(key=lambda each: (not _is_number(each), each if _is_number(each) else 0))
    shown = tuple(Value(_text(each), counts[canonical_json(each)]) for each in different[:MOST_VALUES])
    return Varying(name, shown, len(different) - len(shown), any(map(is_long, different)))


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Json) -> str:
    return clipped(value if isinstance(value, str) and is_long(value) else number(value), MOST_VALUE)


def _same(report: Report) -> dict[str, str]:
    return {} if report.settings is None else {name: _text(value) for name, value in report.settings.same.items()}


def labels(report: Report) -> dict[int, str]:
    """By experiment, its values of the settings that vary, long ones as the number of their variant.

    What all but a few have is not said, nor a setting that goes with another: some experiments have none then.
    """
    if report.settings is None:
        return {}
    different = {name: found for name, found in report.settings.different.items() if None not in found}
    ordered = sorted(different.items(), key=lambda item: not all(map(_is_number, item[1])))
    words = [_words(name, values) for name, values in ordered]
    return {
        experiment: ", ".join(said[at] for said in words if said[at])
        for at, experiment in enumerate(report.compared_ids)
    }


def _words(name: str, values: Sequence[Json]) -> list[str]:
    """For each experiment what it has of a setting; nothing for the value that goes without saying."""
    title = name.removeprefix("generation.").replace("_", " ")
    if all(map(_is_number, values)):
        return [f"{title} {number(each)}" for each in values]
    keys = list(map(canonical_json, values))
    counts = Counter(keys)
    variants = {key: at for at, key in enumerate(counts, 1)}
    usual = max(counts, key=lambda key: counts[key])
    brief = not any(is_long(each) or isinstance(each, (list, dict)) for each in values)
    return [
        "" if key == usual else f"{title} {number(each) if brief else f'variant {variants[key]}'}"
        for key, each in zip(keys, values, strict=True)
    ]


def _acceptance_scale(report: Report) -> Scale | None:
    bounds = [bound for each in report.experiments if each.acceptance and each.acceptance.interval
              for bound in each.acceptance.interval]  # fmt: skip
    return figures.scale(bounds) if bounds else None


def _accepted_rows(report: Report) -> list[Experiment]:
    """The experiments of the figure: all, or at even distances from the lowest rate to the highest."""
    found = [each for each in report.experiments if each.acceptance and each.acceptance.rate is not None]
    if len(found) <= MOST_ROWS:
        return found
    rate = {each.row["id"]: each.acceptance.rate or 0.0 for each in found if each.acceptance}
    order = sorted(found, key=lambda each: (rate[each.row["id"]], each.row["id"]))
    chosen = spread([each.row for each in order], MOST_ROWS)
    ids = {row["id"] for row in chosen}
    return [each for each in order if each.row["id"] in ids]


def _mark_of(experiment: Experiment) -> Mark:
    assert experiment.acceptance is not None
    return Mark(experiment.acceptance.rate or 0.0, experiment.acceptance.interval)


def _panel(panel: Panel, report: Report) -> dict[str, Any]:
    """What the template draws of a panel: its scale, marks, baselines and what they mean in words."""
    lines = [*_baseline("zero-shot", panel.zero_shot), *_baseline("majority", panel.majority)]
    shares = [share for _, share in lines]
    for point in panel.points:
        shares += [point.mean, *(point.pool.interval or ())]
    shown = panel.points[:MOST_ROWS]
    return {
        "panel": panel, "scale": figures.scale(shares), "lines": lines, "shown": shown,
        "marks": [_mark(panel, at) for at in range(len(shown))],
        "names": [point_name(panel, each) for each in panel.points], "said": list(_said(panel)),
        "over": [(name, _over(panel, name, lines)) for name in numeric(panel)[:3]],
        "intervals": [_interval(each) for each in panel.points],
        "cells": [[_cell(point, name, report) for name in panel.varied] for point in panel.points],
    }  # fmt: skip


def _cell(point: Point, name: str, report: Report) -> str:
    """A value in a table, a long text as the variant that the settings have it under."""
    value = point.values[name]
    if value is None:
        return "-" if point.is_original else "not set"
    known = report.settings.different.get(name, []) if report.settings is not None else []
    if any(map(is_long, known)):
        variants = list(dict.fromkeys(map(canonical_json, known)))
        key = canonical_json(value)
        if key in variants:
            return f"variant {variants.index(key) + 1}"
    return clipped(number(value), 40)


def _baseline(name: str, found: tuple[float, float] | None) -> Iterator[tuple[str, float]]:
    if found is not None:
        yield from ((name, share) for share in dict.fromkeys(found))


def _mark(panel: Panel, at: int) -> Mark:
    point = panel.points[at]
    kind = "best" if at == panel.best else "original" if point.is_original else "other"
    return Mark(point.mean, point.pool.interval, kind)


def _over(panel: Panel, name: str, lines: Sequence[tuple[str, float]]) -> Markup:
    spots, originals = [], []
    for at, point in enumerate(panel.points):
        value = point.values[name]
        if isinstance(value, (int, float)):
            spots.append(Spot(float(value), _mark(panel, at), point_name(panel, point)))
        elif point.is_original:
            originals.append(point.mean)
    of_original = [("original-line", share) for share in dict.fromkeys(originals)]
    logarithmic = is_logarithmic(name, [spot.value for spot in spots])
    label = f"Accuracy of {panel.model} ({panel.method}) on {panel.task} over {name}; the table below has the numbers."
    return figures.over(spots, [*lines, *of_original], logarithmic=logarithmic, label=label)


def point_name(panel: Panel, point: Point) -> str:
    """The data and the hyperparameters in which the points of a panel differ."""
    own = [name for name in panel.varied if name.startswith("hyperparameters.")]
    rest = [f"{name.rpartition('.')[2].replace('_', ' ')} {number(point.values[name])}" for name in own]
    data = "original data" if point.is_original and point.data == "original" else point.data
    return ", ".join([data, *rest])


def _interval(point: Point) -> str:
    return (
        "-"
        if point.pool.interval is None
        else f"{percent(point.pool.interval[0])} to {percent(point.pool.interval[1])}"
    )


def _said(panel: Panel) -> Iterator[str]:
    """What the differences of a panel mean: which are more than chance, which are within noise."""
    best = panel.points[panel.best]
    error = "" if best.error is None else f", standard error {points(best.error)} points over {best.n_seeds} seeds"
    yield f"Highest: {point_name(panel, best)} with {percent(best.mean)} (95% interval {_interval(best)}{error})."
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
    if panel.zero_shot is not None and best.pool.interval is not None and best.pool.interval[0] <= panel.zero_shot[1]:
        yield "Even the highest is within its interval of the model before training."
    if len(panel.points) > 1 and not tested:
        yield "Nothing could be tested: the answers to single records are not known for two of them."
    if panel.seed_deviation is None:
        yield "One seed each: how far another seed would move an accuracy is not known."
    else:
        yield f"Another seed alone moves an accuracy by {points(panel.seed_deviation)} points (standard deviation)."


def _against(panel: Panel) -> str:
    real = [each for each in panel.compared if each.against and (each.against.corrected or 0) < ALPHA]
    up = sum((each.against.difference or 0) > 0 for each in real if each.against)
    within = len(panel.compared) - len(real)
    what = f"Of {counted(len(panel.compared), 'point')} tested against original data {up} better and {len(real) - up}"
    return f"{what} worse by more than chance explains, {within} within noise."


def _findings(report: Report) -> Iterator[str]:
    """What somebody should know who reads no further."""
    for panel in report.accuracies.panels[:4]:
        best = panel.points[panel.best]
        said = f"{panel.task}, {panel.model}, {panel.method}: {percent(best.mean)} with {point_name(panel, best)}"
        original = next((each for each in panel.points if each.is_original), None)
        if best.against is not None and best.against.corrected is not None and best.against.difference is not None:
            said += f"; against original data {chance(best.against.difference, best.against.corrected)}"
        elif original is best:
            said += ", which no synthetic data exceeds"
        elif original is None:
            said += "; nothing was trained on original data to compare it with"
        yield f"{said}."


def _trained(report: Report) -> dict[int, list[str]]:
    """By experiment, what was trained on it alone: ``Llama-3.2-1B, zo: 76.0%``."""
    found: dict[int, list[str]] = {}
    for panel in report.accuracies.panels:
        for point in panel.points:
            experiment = point.pool.first.row["shared_experiment_id"]
            if experiment is not None:
                seeds = f" ({counted(point.n_seeds, 'seed')})" if point.n_seeds > 1 else ""
                said = f"{panel.task}, {panel.model}, {panel.method}: {percent(point.mean)}{seeds}"
                found.setdefault(experiment, []).append(said)
    return found
