"""What `synthtrack import` says: what was taken, in numbers, and what is wrong, thing by thing."""

from __future__ import annotations

from collections.abc import Iterator

from cli.render import counted, harmless
from pipeline.importing.report import Item, Outcome, Report

_SHOWN = 20
_SYMBOLS = {"taken": "✅", "known": "⚡", "skipped": "💾", "wrong": "⚠️ "}
_TITLES = {"taken": "Taken", "known": "Known already", "skipped": "Skipped", "wrong": "Found wrong"}
_PLURALS = {
    "batch": "batches",
    "batch directory": "batch directories",
    "data": "data files",
    "settings": "settings files",
}
_ADVICE = {
    "literal key": "Revoke each key where it was issued; in the file, name an environment variable instead.",
    "fingerprint": "The fingerprint is kept as found; what is trusted here is the new one, made of all settings.",
    "batch link": "Put these links right in the old tree, or remove them; then import once more.",
    "batch directory": "Nothing has to be done; what links to it there is in its batch all the same.",
    "experiment": "Put the missing data in its place and import once more; what was taken stays taken.",
    "settings": "Correct the file and import once more.",
}


def reported(report: Report, *, dry_run: bool, everything: bool = False) -> Iterator[str]:
    """The report as lines: groups with their counts, then what is wrong with what to do about it."""
    if dry_run:
        yield "Nothing was written: --dry-run."
        yield ""
    for outcome in _TAKEN:
        items = report.of(outcome)
        if items:
            yield f"{_SYMBOLS[outcome]} {_title(outcome, dry_run=dry_run)}: {_counts(items)}"
            shown = (
                items if everything or outcome == "skipped" else [each for each in items if each.kind != "batch link"]
            )
            yield from _lines(shown, everything=everything)
            yield ""
    wrong = report.of("wrong")
    if wrong:
        yield f"{_SYMBOLS['wrong']} {_TITLES['wrong']}: {_counts(wrong)}"
        for kind in dict.fromkeys(each.kind for each in wrong):
            yield from _lines([each for each in wrong if each.kind == kind], everything=everything)
            if kind in _ADVICE:
                yield f"   -> {_ADVICE[kind]}"
        yield ""
    if not report.of("taken"):
        yield "Nothing new was found." if report.items else "There is nothing to import."
    total = ", ".join(f"{report.count(outcome):,} {word}" for outcome, word in _WORDS)
    yield total[:1].upper() + total[1:] + "."


_TAKEN: tuple[Outcome, ...] = ("taken", "known", "skipped")
_WORDS: tuple[tuple[Outcome, str], ...] = (
    ("taken", "taken"),
    ("known", "known already"),
    ("skipped", "skipped"),
    ("wrong", "found wrong"),
)


def _title(outcome: str, *, dry_run: bool) -> str:
    return "Would take" if dry_run and outcome == "taken" else _TITLES[outcome]


def _counts(items: list[Item]) -> str:
    kinds = dict.fromkeys(each.kind for each in items)
    return ", ".join(counted(sum(each.kind == kind for each in items), kind, _PLURALS.get(kind)) for kind in kinds)


def _lines(items: list[Item], *, everything: bool) -> Iterator[str]:
    shown = items if everything else items[:_SHOWN]
    for each in shown:
        yield f"   {harmless(each.path)}"
        yield f"      {harmless(each.what)}"
    if len(items) > len(shown):
        yield f"   ... and {len(items) - len(shown):,} more; --json shows all."
