"""How a comparison looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cli.render import RULE, counted, table, usd
from cli.text.experiment_text import rate, rephrased, setting_lines
from tracker.fingerprint import Json
from tracker.listings.compare import BatchComparison, Comparison, difference, is_long, short
from tracker.record.catalogue import Row

_RESULTS = (
    ("Status", lambda row: row["status"]),
    ("Records", lambda row: f"{row['n_records']:,}"),
    ("Accepted", lambda row: rephrased(row) or f"{row['n_accepted']:,}"),
    ("Acceptance rate", rate),
    ("Rejected", lambda row: "-" if rephrased(row) else f"{row['n_rejected']:,}"),
    ("Failed", lambda row: f"{row['n_failed']:,}"),
    ("Tokens", lambda row: f"{row['prompt_tokens'] + row['completion_tokens']:,}"),
    ("Cost", lambda row: usd(row["cost_usd"])),
)


def compared(experiments: Sequence[Row], found: Comparison) -> Iterator[str]:
    """Experiments beside each other: settings, source, results, and whether the data can be shared."""
    titles = [f"Experiment {number}" for number in range(1, len(experiments) + 1)]
    yield from (RULE, "Experiment Parameter Comparison", RULE, "")
    yield from (f"{title}: {row['reference']}" for title, row in zip(titles, experiments, strict=True))
    different = {name: value_lines(values, titles) for name, values in found.different.items()}
    yield from _settings(found.same, different)
    if found.operational:
        yield from ("", f"💾 Different, without effect on the data: {', '.join(found.operational)}")
    yield ""
    if found.same_source:
        yield f"✅ Same source data: {experiments[0]['source_origin']} (digest {experiments[0]['source_digest'][:12]})"
    else:
        yield "⚠️  Different source data:"
        for title, row in zip(titles, experiments, strict=True):
            yield f"    {title}: {row['source_origin']} (digest {row['source_digest'][:12]})"
    yield from ("", "📊 Results:")
    yield table(["", *titles], [[title, *map(value, experiments)] for title, value in _RESULTS])
    yield from ("", _note(found))
    yield from (f"  {title} fingerprint: {row['fingerprint']}" for title, row in zip(titles, experiments, strict=True))


def compared_batches(sides: tuple[str, str], found: BatchComparison) -> Iterator[str]:
    """What two batches share, what only one of them has, and the settings that vary."""
    titles = ["Batch 1", "Batch 2"]
    yield from (RULE, "Experiment Parameter Comparison", RULE, "")
    for title, side, own in zip(titles, sides, found.own, strict=True):
        yield f"{title}: {side} ({counted(len(found.shared) + len(own), 'experiment')})"
    different = {name: _sides(values, titles) for name, values in found.different.items()}
    yield from _settings(found.same, different)
    yield from ("", f"⚡ In both batches (shared data): {counted(len(found.shared), 'experiment')}")
    yield from (f"  {row['fingerprint']}  {row['reference']}" for row in found.shared)
    for title, own in zip(titles, found.own, strict=True):
        yield from ("", f"🔧 Only in {title.lower()}: {counted(len(own), 'experiment')}")
        yield from (f"  {row['fingerprint']}  {row['reference']}" for row in own)


def _settings(same: Mapping[str, Json], different: Mapping[str, Iterable[str]]) -> Iterator[str]:
    if same:
        yield from ("", "✅ Same parameters:", *(f"  {line}".rstrip() for line in setting_lines(same.items())))
    if different:
        yield from ("", "⚠️  Different parameters:")
    for name, lines in different.items():
        yield f"  {name}:"
        yield from (f"    {line}" for line in lines)


def value_lines(values: Sequence[Json], titles: Sequence[str]) -> Iterator[str]:
    """The values of a setting, a line each; of long texts what differs from the first."""
    if not any(map(is_long, values)):
        yield from (f"{title}: {short(value)}" for title, value in zip(titles, values, strict=True))
        return
    for title, value in list(zip(titles, values, strict=True))[1:]:
        yield from difference(values[0], value, (titles[0], title)) or [f"{title}: as {titles[0]}"]


def _sides(sides: Sequence[Sequence[Json]], titles: Sequence[str]) -> Iterator[str]:
    if all(len(values) == 1 for values in sides):
        yield from value_lines([values[0] for values in sides], titles)
        return
    for title, values in zip(titles, sides, strict=True):
        long = len(values) > 1 and any(map(is_long, values))
        yield f"{title}: {f'{len(values)} different texts' if long else ', '.join(map(short, values)) or 'not set'}"


def _note(found: Comparison) -> str:
    if found.same_fingerprint:
        return "✅ Note: Same fingerprint, the data is shared"
    if found.different:
        return "🔧 Note: Parameters differ, need to generate data separately"
    if not found.same_source:
        return "🔧 Note: Source data differs, need to generate data separately"
    return "🔧 Note: Fingerprints differ, need to generate data separately"
