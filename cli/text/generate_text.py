"""What ``generate`` says of what it made, or would make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from cli.render import counted, harmless, quoted, usd
from cli.text.steps import described

if TYPE_CHECKING:
    from pipeline.generation.generate import Outcome
    from pipeline.generation.job import Job
    from pipeline.generation.preview import Preview
    from tracker.record.catalogue import Row


def made(job: Job, outcome: Outcome, *, usage: Sequence[str], paths: Sequence[str], following: str | None) -> list[str]:
    """The outcome of one config: its run's ``usage``, its data's ``paths``, and for people the command that follows."""
    reference = f"{outcome.dataset}/{outcome.name}"
    lines = [*_headed(outcome, reference), f"   Parameter fingerprint: {outcome.fingerprint}", *_rules(job)]
    if outcome.run is not None:
        if outcome.status != "waiting":
            lines.append(f"   Records: {outcome.run['n_records']:,}, {_counts(job, outcome, outcome.run)}")
        lines += usage
    if outcome.in_tree:
        return [*lines, *paths]
    if outcome.state is None:
        return [*lines, "   Not in the tree yet: records are missing."]
    return [*lines, *(f"   {line}" for line in described(outcome.state)), f"💾 Next: {following}"]


def noted(job: Job, outcome: Outcome) -> Iterator[str]:
    """What a person should know besides: a judge that says neither, and what was moved aside."""
    run = outcome.run
    if run is not None and job.plan.judge is not None:
        judged = run["n_accepted"] + run["n_rejected"]
        if 2 * run["n_unclear"] > judged:
            yield (
                f"{run['n_unclear']:,} of {judged:,} verdicts say neither `same` nor `not the same`, and their "
                "records kept the original. The validation prompt must ask for one of the two; "
                f"`synthtrack experiment show {outcome.dataset}/{outcome.name}` shows samples."
            )
    # Data with accepted failures is meant to change when they are tried again.
    for moved in outcome.changes.aside if outcome.outcome != "resumed" else ():
        yield f"{moved} was not what the record says; it was moved to {outcome.changes.trash}."


def _headed(outcome: Outcome, reference: str) -> list[str]:
    if outcome.outcome == "reused":
        return [
            f"⚡ {reference}: already made, nothing generated",
            f"   Data reuse: Yes (original batch: {outcome.original_batch})",
        ]
    if outcome.run is None:
        return [f"💾 {reference}: nothing to generate before a person has looked"]
    symbol = "⚠️ " if outcome.status == "partial" else "✅"
    return [f"{symbol} {reference}: {outcome.outcome}, {outcome.status}"]


def _rules(job: Job) -> list[str]:
    config = job.plan.config
    models = [("Model", config.generation), *([("Judge", config.validation)] if config.validation else [])]
    return [
        f"   {title}: {model.model}, the offline provider's rules; no LLM"
        for title, model in models
        if model.provider == "offline"
    ]


def _counts(job: Job, outcome: Outcome, run: Row) -> str:
    if job.plan.judge is None:
        parts = [f"{run['n_accepted']:,} rephrased (no judge)"]
    else:
        unclear = f" ({run['n_unclear']:,} unclear)" if run["n_unclear"] else ""
        parts = [f"{run['n_accepted']:,} accepted", f"{run['n_rejected']:,} kept the original{unclear}"]
    if run["n_failed"]:
        parts.append(f"{run['n_failed']:,} failed" + (" and kept the original" if outcome.in_tree else ""))
    return ", ".join(parts)


def previewed(job: Job, each: Preview) -> list[str]:
    """What one config would do, ask and cost."""
    return [*_planned(job, each), *_asked(each)]


def _planned(job: Job, each: Preview) -> Iterator[str]:
    yield f"🔧 {each.reference} (dry run: no call is made, nothing is written)"
    yield f"   Parameter fingerprint: {each.fingerprint}"
    yield from _rules(job)
    if each.reused_from is not None:
        yield f"   ⚡ Data reuse: Yes (original batch: {each.reused_from}); nothing would be generated"
    else:
        state = "new" if each.status == "new" else f"{each.status}, {each.n_done:,} of {each.n_records:,} records done"
        yield f"   ⚡ Data reuse: No ({state})"
    yield f"   Batch: {each.batch}"
    yield f"   Splits: {_places(each.splits)}"
    if job.plan.is_two_stage:
        size = job.plan.config.generation.review_size
        yield f"   Strategy two_stage: people look after the first {size} records, and before the judge decides."
        yield "   What they have not seen yet is reckoned as approved: it makes the later prompts longer."


def _places(splits: Mapping[str, str]) -> str:
    """``train from Copa; validation, test from Other``: the directories, or the data set of the hub."""
    found: dict[str, list[str]] = {}
    for split, origin in splits.items():
        place = origin if origin.startswith("hub:") else str(PurePath(origin).parent)
        found.setdefault(place, []).append(split)
    return harmless("; ".join(f"{', '.join(names)} from {place}" for place, names in found.items()))


def _asked(each: Preview) -> Iterator[str]:
    yield (
        f"   Calls: {each.rephrase_calls:,} to rephrase, about {each.judge_calls:,} to judge; "
        f"{each.already_paid:,} rephrasings are in the ledger already"
    )
    yield f"   Tokens: about {each.prompt_tokens:,} prompt + {each.completion_tokens:,} completion ({each.tokenizer})"
    yield f"   Cost: {'' if each.cost_usd is None else 'about '}{usd(each.cost_usd)}"
    record = "the first record" if each.shown_record == 1 else f"record {each.shown_record:,}"
    yield from ("", f"   Rephrase prompt of {record}:", quoted(each.rephrase_prompt))
    if each.validation_prompt is not None:
        yield from ("", f"   Validation prompt of {record}, as if it came back unchanged:")
        yield quoted(each.validation_prompt)


def summed(previews: Sequence[Preview]) -> str:
    """What several configs would ask and cost together."""
    known = [each.cost_usd for each in previews if each.cost_usd is not None]
    calls = sum(each.rephrase_calls + each.judge_calls for each in previews)
    cost = usd(sum(known) if len(known) == len(previews) else None)
    return f"🔧 {counted(len(previews), 'config')}: about {calls:,} calls, {cost}"
