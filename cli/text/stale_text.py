"""What rests on older settings of a config, as lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli import render
from cli.text.listing import DEFAULT_LIMIT
from tracker.listings.compare import difference, is_long, short
from tracker.paths import Workspace

if TYPE_CHECKING:
    from pipeline.generation.preview import Preview
    from pipeline.generation.stale import Again, Change, Made, Staleness
    from tracker.record.catalogue import Row

_DIFF_LINES = 12
_TITLES = {
    "input": "Input", "prompt": "Prompt", "few_shots": "Few-shot examples", "model": "Model and sampling",
    "judge": "Judge", "program": "How answers are read",
}  # fmt: skip


def shown(place: Workspace, found: Staleness) -> Iterator[str]:
    """What was made of a config: what is current, what is stale and in what it differs, and what new data costs."""
    config = render.harmless(place.relative(Path(found.config)))
    own = [each for each in found.made if each.is_own]
    others = [each for each in found.made if not each.is_own]
    old = [each for each in own if not each.is_current]
    yield from (render.RULE, f"What rests on older settings of {config}", render.RULE)
    if not own:
        yield from ("", "💾 Nothing was made from this config yet.")
    for each in own:
        if each.is_current:
            yield from ("", f"✅ {_named(each)}: current")
            yield from _trainings(each)
    for each in old:
        yield from ("", f"⚠️  {_named(each)}: {'stale' if each.is_known else 'its settings are not known'}")
        yield from _changes(each)
        yield from _trainings(each)
    if others:
        yield from ("", f"📦 Made otherwise, in {', '.join(map(render.harmless, found.batches))} on the same data set")
        for each in others[:DEFAULT_LIMIT]:
            yield from _other(place, each)
        if len(others) > DEFAULT_LIMIT:
            yield f"   … {len(others) - DEFAULT_LIMIT:,} more; --json shows all"
    for again, each_preview in found.renewals.items():
        yield from ("", *_renewal(config, again, each_preview))


def _named(each: Made) -> str:
    parts = [f"a trial of {each.record_limit:,} records"] if each.record_limit is not None else []
    parts += [f"draw {each.draw}"] if each.draw else []
    parts += [each.status] if each.status != "complete" else []
    parts += [f"made with {' '.join(f'--set {text}' for text in each.overrides)}"] if each.overrides else []
    parts += ["imported"] if each.is_imported and each.is_own else []
    more = f" ({render.harmless(', '.join(parts))})" if parts else ""
    return f"{render.harmless(each.reference)} {each.fingerprint}{more}"


def _changes(each: Made) -> Iterator[str]:
    from pipeline.generation.stale import by_kind

    for kind, found in by_kind(each.changes):
        yield f"   🔧 {_TITLES[kind]}"
        for change in found:
            yield from (f"      {render.harmless(line)}" for line in _change(change))


def _change(change: Change) -> Iterator[str]:
    if None in (change.then, change.now) or not (is_long(change.then) or is_long(change.now)):
        yield f"{change.name}: {short(change.then)} -> {short(change.now)}"
        return
    yield f"{change.name}:"
    # The first two lines name the two sides.
    lines = difference(change.then, change.now, ("then", "now"))[2:]
    yield from (f"  {line}" for line in lines[:_DIFF_LINES] if not line.startswith("@@"))
    if len(lines) > _DIFF_LINES:
        yield f"  … {len(lines) - _DIFF_LINES:,} more lines"


def _trainings(each: Made) -> Iterator[str]:
    if not each.n_trainings:
        yield "   📊 No training run rests on it."
        return
    yield f"   📊 {render.counted(each.n_trainings, 'training run')}"
    yield from (f"      {_training(row)}" for row in each.trainings)
    if each.n_trainings > len(each.trainings):
        yield f"      … {each.n_trainings - len(each.trainings):,} older; --limit 0 shows all"


def _training(row: Row) -> str:
    what = row["status"] if row["accuracy"] is None else f"accuracy {row['accuracy']:.1%}"
    if row["accuracy"] is not None and row["accuracy_low"] is not None:
        what = f"{what} ({row['accuracy_low']:.1%} to {row['accuracy_high']:.1%})"
    return render.harmless(f"{row['uuid'][:8]}  {what}  {row['directory']}")


def _other(place: Workspace, each: Made) -> Iterator[str]:
    source = "not made by `generate`" if each.config_path is None else f"made from {each.config_path}"
    if each.config_path is not None and not (place.root / each.config_path).exists():
        source = f"{source}, which is not there any more"
    names = ", ".join(change.name for change in each.changes) or "nothing"
    differs = f"differs in {names}" if each.is_known else "its settings are not known"
    n = render.counted(each.n_trainings, "training run")
    yield f"   {_named(each)}: {render.harmless(source)}; {differs}; {n}"


def _renewal(config: str, again: Again, each: Preview) -> Iterator[str]:
    options = "".join(f" --set {shlex.quote(text)}" for text in again.overrides)
    options += "" if again.record_limit is None else f" --limit {again.record_limit}"
    yield f"⚡ New data: synthtrack generate {config}{render.harmless(options)}"
    yield f"   {each.reference} {each.fingerprint}: {each.n_records:,} records, {each.n_done:,} of them done"
    if each.n_done == each.n_records:
        yield "   It is made already: nothing would be asked. What is stale can be trained again on it."
        return
    yield f"   Ledger: {each.already_paid:,} rephrasings and {each.verdicts_paid:,} verdicts are there already"
    yield f"   Requests: {each.rephrase_calls:,} to rephrase, about {each.judge_calls:,} to judge"
    tokens = f"about {each.prompt_tokens:,} prompt + {each.completion_tokens:,} completion ({each.tokenizer})"
    yield f"   Tokens: {tokens}"
    yield f"   Cost: {'' if each.cost_usd is None else 'about '}{render.usd(each.cost_usd)}"
    if each.unpriced:
        yield f"   No price is known for {', '.join(map(render.harmless, dict.fromkeys(each.unpriced)))}"
