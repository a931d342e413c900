"""How two agent data sets look beside each other in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cli.render import RULE, THIN_RULE, counted, harmless, table, usd
from cli.text.compare_text import value_lines
from cli.text.perspectives_text import SHORT_LINES, answer, fitted
from cli.text.result_words import chance
from cli.text.side_by_side import beside, hanging
from pipeline.perspectives.compare import Compared, Condition, Sample
from tracker.listings.compare import short
from tracker.record.catalogue import Row

_TITLES = ("1", "2")
_FIGURES = {
    "n_responses": "answered",
    "n_failed": "failed",
    "mean_words": "words",
    "mean_characters": "characters",
    "mean_completion_tokens": "tokens",
    "mean_latency_s": "seconds",
    "chrf": "chrF",
}
_REFERENCE = " and the reference"
_COUNTS = ("n_responses", "n_failed")


def compared(sides: Sequence[Row], found: Compared, *, columns: int, whole: bool) -> Iterator[str]:
    """Two agent data sets: settings, inputs, figures of each condition, what is equal, and responses to one input.

    Texts are shown ``whole``, else their first lines.
    """
    yield from (RULE, "Agent Data Set Comparison", RULE, "")
    yield from (f"{title}: {row['name']} ({row['fingerprint']})" for title, row in zip(_TITLES, sides, strict=True))
    yield from _settings(found, columns)
    yield from ("", *_inputs(sides, found))
    yield from ("", "📊 Results", *_totals(sides))
    if found.conditions:
        each_own = "" if found.same_inputs else ", each over its own inputs"
        yield from ("", f"⚖️ Conditions of both (means per response{each_own})", *_figures(found.conditions, columns))
    for title, own in zip(_TITLES, found.own, strict=True):
        if own:
            yield from ("", f"🔧 Only in {title}: {harmless(', '.join(own))}")
    yield from ("", "🔍 Responses to the same inputs", *_set_off(_responses(found), columns))
    for each in found.samples:
        yield from ("", *_sample(each, columns, whole=whole))


def _settings(found: Compared, columns: int) -> Iterator[str]:
    settings = found.settings
    if settings.same:
        yield from ("", "✅ Same parameters:")
        yield from _set_off((f"{name}: {short(value)}" for name, value in settings.same.items()), columns)
    if settings.different:
        yield from ("", "⚠️  Different parameters:")
    for name, values in settings.different.items():
        yield f"  {harmless(name)}:"
        yield from _set_off(value_lines(values, _TITLES), columns, by=4)
    if settings.operational:
        yield ""
        yield from hanging(f"💾 Different, without effect on an answer: {', '.join(settings.operational)}", columns)


def _set_off(lines: Iterable[str], columns: int, by: int = 2) -> Iterator[str]:
    for line in lines:
        yield from (f"{' ' * by}{each}" for each in hanging(line, columns - by))


def _inputs(sides: Sequence[Row], found: Compared) -> Iterator[str]:
    if found.same_inputs:
        yield f"✅ Same inputs: {sides[0]['n_inputs']:,} (digest {sides[0]['source_digest'][:12]})"
        return
    yield f"⚠️  Different inputs: {counted(found.n_shared_inputs, 'text')} in both"
    for title, row in zip(_TITLES, sides, strict=True):
        yield f"    {title}: {row['n_inputs']:,} of {row['origin']} (digest {row['source_digest'][:12]})"


def _totals(sides: Sequence[Row]) -> list[str]:
    rows = [
        ["Status", *(row["status"] for row in sides)],
        ["Inputs", *(f"{row['n_inputs']:,}" for row in sides)],
        ["Conditions", *(f"{row['n_perspectives']:,}{_REFERENCE * row['add_references']}" for row in sides)],
        ["Responses", *(f"{row['n_responses']:,}" for row in sides)],
        ["Failed", *(f"{row['n_failed']:,}" for row in sides)],
        ["Tokens", *(f"{row['prompt_tokens'] + row['completion_tokens']:,}" for row in sides)],
        ["Cost", *(usd(row["cost_usd"]) for row in sides)],
    ]
    return table(["", *_TITLES], rows).splitlines()


def _figures(conditions: Sequence[Condition], columns: int) -> list[str]:
    rows = []
    for each in conditions:
        name = each.condition
        for key, title in _FIGURES.items():
            one, other = each.figures[key]
            if (one is None and other is None) or (key == "n_failed" and not one and not other):
                continue
            change = None if one is None or other is None else other - one
            rows.append([name, title, _figure(key, one), _figure(key, other), _signed(key, change)])
            name = ""
    return fitted(["Condition", "", *_TITLES, "Difference"], rows, columns)


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    if key in _COUNTS:
        return f"{value:,}"
    return f"{value:.3g}" if key == "mean_latency_s" else f"{value:,.1f}"


def _signed(key: str, change: float | None) -> str:
    if change is None:
        return "-"
    return f"{'+' if change > 0 else '-' if change < 0 else ''}{_figure(key, abs(change))}"


def _responses(found: Compared) -> Iterator[str]:
    if not found.n_shared_inputs:
        yield "No input is in both."
        return
    if not found.conditions:
        yield "No condition is in both."
        return
    for each in found.conditions:
        yield f"{harmless(each.condition)}: {each.n_equal:,} of {counted(each.n_both, 'pair')} are equal texts"
    yield from _tests(found)


def _tests(found: Compared) -> Iterator[str]:
    tested = [(each.condition, each.test) for each in found.conditions if each.test is not None]
    if not tested:
        yield "No test of chrF: " + (
            "none was asked for (--tested N)." if not found.n_tested else "no responses with references in both."
        )
        return
    n = max(test.n for _, test in tested)
    of = (
        f" (the first of {found.n_shared_inputs:,}; --tested N takes more)"
        if found.n_tested < found.n_shared_inputs
        else ""
    )
    yield f"Mean chrF of single responses to {counted(n, 'input')} of both{of}:"
    for name, test in tested:
        on = f" ({counted(test.n, 'input')})" if test.n != n else ""
        means = f"{test.means[0]:.1f} and {test.means[1]:.1f}"
        yield f"  {harmless(name)}: {means}; {chance(test.difference / 100, test.corrected)}{on}"
    many = f"; corrected for {len(tested)} tests (Holm)" if len(tested) > 1 else ""
    yield f"(sign-flip test over inputs, exact{many}; how far another draw moves an answer is not in it)"


def _sample(each: Sample, columns: int, *, whole: bool) -> Iterator[str]:
    number, other = each.numbers
    also = "not in 2" if other is None else "" if other == number else f"input {other:,} of 2"
    yield from (f"🔍 Input {number:,}{f' ({also})' if also else ''}", THIN_RULE)
    most_lines = None if whole else SHORT_LINES
    references = list(dict.fromkeys(text for text in each.references if text is not None))
    head = [["Input", each.input], *([["Reference", references[0]]] if len(references) == 1 else [])]
    rows = [["", *_TITLES]]
    if len(references) > 1:
        rows.append(["Reference", *references])
    for name, *pair in each.responses:
        there = [row for row in pair if row is not None]
        if all(row["status"] == "reference" for row in there):
            continue
        notes = [None if row is None else row["preparation"] for row in pair]
        if any(text is not None for text in notes):
            rows.append([f"{name}: notes", *("-" if text is None else text or "(empty)" for text in notes)])
        rows.append([name, *("-" if row is None else answer(row) for row in pair)])
    # Both parts have labels of one width, so that texts begin below each other.
    label = max(len(row[0]) for row in (*head, *rows))
    yield from beside([[f"{title:<{label}}", text] for title, text in head], columns, most_lines=most_lines)
    yield ""
    yield from beside(rows, columns, most_lines=most_lines)
