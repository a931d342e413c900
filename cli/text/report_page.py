"""A report as one HTML page: words and figures around the record, all of it escaped, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from cli.render import counted, harmless, moment, usd
from cli.text import report_figures as figures
from cli.text.report_figures import MOST_ROWS, Mark, Scale
from cli.text.report_panel import MOST_TEXT, clipped, drawn, findings, share_range, trained
from cli.text.result_words import number, p_value, percent, points
from pipeline.annotating.differences import differences
from tracker.fingerprint import Json, canonical_json
from tracker.listings.compare import is_long, short
from tracker.record.catalogue import Row
from tracker.reports.batch_report import Experiment, Report
from tracker.reports.report_samples import Card, spread

SIGN = "synthtrack report"
"""The generator that the page names, by which its file is known again."""
MOST_VALUE = 4_000
MOST_LISTED = 60
MOST_VALUES = 12
"""Of one setting."""
_HERE = Path(__file__).parent
_VERDICTS = {"same": "the same", "not_the_same": "not the same", "unclear": "unclear", "skipped": "skipped"}
_PROMPTS = ("system_prompt", "rephrase_prompt", "validation_prompt")
_UNJUDGED = {"accepted": "rephrased", "rejected": "kept as it was"}
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
        "counted": counted, "clip": clipped, "p_value": p_value, "place": place, "range": share_range,
        "parted": parted,
    }  # fmt: skip
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    same = _same(report)
    prompts = {name: text for name, text in same.items() if _is_prompt(name) and text.strip()}
    given = {
        "r": report, "sign": SIGN, "style": Markup(style),  # noqa: S704  a file of our own
        "policy": _policy(style), "varying": varying(report), "prompts": prompts,
        "same": {name: text for name, text in same.items() if name not in prompts},
        "is_prompt": _is_prompt,
        "labels": labels(report), "findings": list(findings(report)), "figures": figures,
        "acceptance_scale": _acceptance_scale(report), "accepted_rows": _accepted_rows(report), "mark_of": _mark_of,
        "panels": [drawn(each, report) for each in report.accuracies.panels], "changed": changed,
        "versions_of": versions_of, "verdicts": _VERDICTS,
        "states": _STATES, "unjudged": _UNJUDGED, "listed": report.experiments[:MOST_LISTED],
        "trained": trained(report), "most_text": MOST_TEXT,
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


def parted(name: str) -> Markup:
    """``name``, which a narrow screen breaks between its words and not within one."""
    shown = escape(harmless(name))
    for end in ("_", "/"):
        shown = shown.replace(end, Markup("{}<wbr>").format(end))
    return shown


def _is_prompt(name: str) -> bool:
    return name.rpartition(".")[2] in _PROMPTS


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
