"""What is said of a checkpoint in words: how far it is, who decided what, and what to type next."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cli import render
from pipeline.two_stage import ANNOTATION, DISPUTED, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tracker.record.catalogue import Row

if TYPE_CHECKING:
    from pipeline.annotating.checkpoints import Card, Sheet
    from pipeline.two_stage import State

COMMANDS = {REVIEW: "review", ANNOTATION: "annotate"}
FLAGS = {
    REVIEW: {SAME: "--approve", NOT_THE_SAME: "--reject", SKIPPED: "--skip"},
    ANNOTATION: {SAME: "--same", NOT_THE_SAME: "--not-same", SKIPPED: "--skip"},
}
"""The option that gives a verdict at each checkpoint."""
_CELL = 44
_MOST_NUMBERS = 10


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole checkpoint, of which a sheet may be a part: how many samples it has, and how many of them wait.

    ``disputed`` are numbers; None where they would tell this person what others said before they have answered.
    """

    n_samples: int
    n_waiting: int
    disputed: list[int] | None


def whole(sheet: Sheet, state: State) -> Whole:
    """The checkpoint of a sheet; ``state`` is as the record has it now.

    Who annotates independently is told of disputes on their own samples only, and only once none of these waits.
    """
    there, waiting = state.there(sheet.checkpoint), state.open(sheet.checkpoint)
    disputed = [at for at in waiting if at in state.decisions]
    if not sheet.independent:
        return Whole(len(there), len(waiting), [at + 1 for at in disputed])
    if sheet.open:
        return Whole(len(there), len(waiting) - len(disputed), None)
    own = {card.position for card in sheet.cards}
    return Whole(len(there), len(waiting), [at + 1 for at in disputed if at in own])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command at a checkpoint came to, besides the sheet.

    ``following`` is the next command, ``correcting`` what a verdict's option and a number are put behind to give that
    answer alone; ``others`` are the numbers that the options, which named samples or not (``by_name``), called the same
    without naming them.
    """

    following: str | None
    correcting: str
    whole: Whole
    others: Sequence[int] = ()
    by_name: bool = False


def verdict_of(sheet: Sheet, card: Card) -> str | None:
    """The verdict that stands, or disputed, or None; for who annotates independently, their own."""
    from pipeline.annotating.checkpoints import is_disputed, standing

    if sheet.independent:
        own = card.of(sheet.annotator)
        return None if own is None else str(own["verdict"])
    return DISPUTED if is_disputed(card.decisions) else standing(card.decisions)


def visible_decisions(sheet: Sheet, card: Card) -> list[Row]:
    """What this person may see: everybody's decisions, or their own where they annotate independently."""
    return [row for row in card.decisions if not sheet.independent or row["annotator"] == sheet.annotator]


def purpose(sheet: Sheet, card: Card) -> str:
    """What the sample is there for."""
    if sheet.checkpoint == REVIEW:
        return "an example for the others, if approved"
    return "teaches the judge" if card.position in sheet.state.ranges.few_shot else "tests the judge"


def progress(sheet: Sheet) -> str:
    """``7 of 20 decided · 5 approved · 1 rejected · 1 skipped``."""
    counts = Counter(verdict_of(sheet, card) for card in sheet.cards)
    parts = [f"{len(sheet.cards) - len(sheet.open)} of {len(sheet.cards)} decided"]
    parts += [f"{counts[verdict]} {word}" for verdict, word in sheet.words.items()]
    parts += [f"{counts[DISPUTED]} disputed"] if counts[DISPUTED] else []
    return " · ".join(parts)


def told(sheet: Sheet, card: Card, others: Sequence[Row]) -> str | None:
    """What a person must know once they have answered: ``others`` were quicker, or they differ from who was first."""
    from pipeline.annotating.checkpoints import is_disputed

    if sheet.independent:
        return None
    disputed = is_disputed(card.decisions)
    if not others and not disputed:
        return None
    newest = {row["annotator"]: row for row in others}
    lines = [_moment_ago(sheet, row) for row in newest.values()]
    if disputed:
        own = card.of(sheet.annotator)
        lines += [
            f"{_did(sheet, row)} before."
            for row in card.decisions
            if row["annotator"] not in newest and own is not None and row["verdict"] not in {own["verdict"], SKIPPED}
        ]
        lines.append(
            f"All answers are kept, and sample {card.number} is disputed until one of you settles it by answering "
            "it once more."
        )
    elif newest.keys() - {sheet.annotator}:
        word = sheet.words.get(verdict_of(sheet, card) or "", "undecided")
        lines.append(f"All answers are kept; sample {card.number} now stands as {word}.")
    return "\n".join(lines)


def _moment_ago(sheet: Sheet, row: Row) -> str:
    if row["annotator"] == sheet.annotator:
        return (
            f"Under your name sample {row['position'] + 1} was answered elsewhere a moment ago: "
            f"{sheet.words[row['verdict']]}. The answer here has taken its place."
        )
    return f"{_did(sheet, row)} a moment ago."


def _did(sheet: Sheet, row: Row) -> str:
    word, number = sheet.words[row["verdict"]], row["position"] + 1
    if sheet.checkpoint == REVIEW or row["verdict"] == SKIPPED:
        return f"{row['annotator']} {word} sample {number}"
    return f"{row['annotator']} said {word!r} of sample {number}"


def command(sheet: Sheet) -> str:
    """What asks for the samples of this checkpoint."""
    return shlex.join(["synthtrack", COMMANDS[sheet.checkpoint], sheet.reference])


def summary(sheet: Sheet, outcome: Outcome) -> list[str]:
    """What stands now, what waits, and the next command."""
    by_verdict: dict[str | None, list[int]] = {}
    for card in sheet.cards:
        by_verdict.setdefault(verdict_of(sheet, card), []).append(card.number)
    parts = []
    for verdict, word in sheet.words.items():
        numbers = by_verdict.get(verdict, [])
        which = f" ({spans(numbers)})" if numbers and verdict != SAME else ""
        parts.append(f"{len(numbers)} {word}{which}")
    of_whom = f" by {render.harmless(sheet.annotator)}" if sheet.independent else ""
    samples = render.counted(len(sheet.cards), "sample")
    symbol = "📊" if sheet.open or outcome.whole.n_waiting else "✅"
    lines = [f"{symbol} {sheet.checkpoint.capitalize()} of {sheet.reference}{of_whom}, {samples}: {', '.join(parts)}"]
    if outcome.others:
        lines.append(f"   {_without_being_named(sheet, outcome)}")
    flags = FLAGS[sheet.checkpoint]
    if by_verdict.get(None):
        lines.append(f"   Waiting: {len(by_verdict[None])} ({spans(by_verdict[None])})")
    if sheet.independent or outcome.whole.n_samples > len(sheet.cards):
        lines.append(f"   {_in_all(sheet, outcome.whole)}")
    if disputed := outcome.whole.disputed:
        way = f"{outcome.correcting} {flags[SAME]} {disputed[0]} (or {flags[NOT_THE_SAME]} {disputed[0]})"
        lines.append(f"   Disputed: {len(disputed)} ({_first(disputed)}); the next answer settles it: {way}")
    if not sheet.open:
        way = f"{outcome.correcting} {flags[SAME]} N (or {flags[NOT_THE_SAME]} N)"
        lines.append(f"   To change an answer, until it is used: {way}")
    if outcome.following is not None:
        lines.append(f"   Next: {outcome.following}")
    return lines


def _without_being_named(sheet: Sheet, outcome: Outcome) -> str:
    n, undecided = len(outcome.others), "you had not answered" if sheet.independent else "nobody had decided"
    what = f"{n} other{'s' * (n > 1)}" if outcome.by_name else render.counted(n, "sample")
    called = "approved" if sheet.checkpoint == REVIEW else "called the same"
    return f"{what}, which {undecided}, {'were' if n > 1 else 'was'} {called}"


def _in_all(sheet: Sheet, found: Whole) -> str:
    waiting = f"{found.n_waiting} of {render.counted(found.n_samples, 'sample')}"
    if found.disputed is None:
        return f"In the whole {sheet.checkpoint}: nobody has decided {waiting}"
    return f"In the whole {sheet.checkpoint}: {waiting} wait"


def _first(numbers: Sequence[int]) -> str:
    left = len(numbers) - _MOST_NUMBERS
    return spans(numbers[:_MOST_NUMBERS]) + (f" and {left} more" if left > 0 else "")


def spans(numbers: Iterable[int]) -> str:
    """``1, 3-5`` of 1, 3, 4, 5."""
    found = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        found.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(found)


def as_json(sheet: Sheet, outcome: Outcome) -> Row:
    return {
        "experiment": sheet.reference,
        "checkpoint": sheet.checkpoint,
        "annotator": sheet.annotator,
        "n_waiting": len(sheet.open),
        "whole": dataclasses.asdict(outcome.whole),
        "others_called_same": list(outcome.others),
        "next_command": outcome.following,
        "samples": [_sample(sheet, card) for card in sheet.cards],
    }


def _sample(sheet: Sheet, card: Card) -> Row:

    columns = ("annotator", "verdict", "settles", "note", "decided_at", "via")
    return {
        "number": card.number,
        "field": sheet.field,
        "original": card.original,
        "rephrased": card.rephrased,
        "verdict": verdict_of(sheet, card),
        "decisions": [{name: row[name] for name in columns} for row in visible_decisions(sheet, card)],
    }


def listed(sheet: Sheet) -> str:

    rows = []
    for card in sheet.cards:
        verdict = verdict_of(sheet, card) or "-"
        said = "\n".join(
            f"{row['annotator']}: {sheet.words[row['verdict']]}" + (f" ({row['note']})" if row["note"] else "")
            for row in visible_decisions(sheet, card)
        )
        cells = (str(card.number), card.original, card.rephrased, sheet.words.get(verdict, verdict), said)
        rows.append([render.harmless(cell) for cell in cells])
    headers = ("#", f"Original {sheet.field}", f"Rephrased {sheet.field}", "Stands", "Answers")
    return render.table(headers, rows, widths=[None, _CELL, _CELL, None, None])
