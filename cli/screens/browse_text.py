"""What the page of a checkpoint shows: samples with their differences and decisions, counts, the next command."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from cli.render import harmless, moment
from cli.screens.review_text import purpose, verdict_of, visible_decisions
from pipeline.annotating.checkpoints import VERDICTS, Card, Sheet
from pipeline.annotating.differences import Piece, differences, only_blanks_differ
from pipeline.two_stage import ANNOTATION, DISPUTED, NOT_THE_SAME, REVIEW, SAME, SKIPPED
from tracker.fingerprint import Json
from tracker.record.catalogue import Row

WAITS = "waits"
BUTTONS = {
    REVIEW: {SAME: "Approve", NOT_THE_SAME: "Reject", SKIPPED: "Skip"},
    ANNOTATION: {SAME: "Same", NOT_THE_SAME: "Not the same", SKIPPED: "Skip"},
}


def about(sheet: Sheet) -> dict[str, Json]:
    """What stays as it is: what this is, who answers, the words for it, and the samples' texts."""
    return {
        "title": f"{sheet.checkpoint.capitalize()} of {harmless(sheet.reference)}",
        "annotator": harmless(sheet.annotator),
        "independent": sheet.independent,
        "field": harmless(sheet.field),
        "words": {**sheet.words},
        "buttons": {**BUTTONS[sheet.checkpoint]},
        "samples": [_texts(sheet, card) for card in sheet.cards],
    }


def described(sheet: Sheet, *, following: str | None, closed: str | None) -> dict[str, Json]:
    """What changes with every answer; ``following`` is the next command, ``closed`` why nobody can answer any more."""
    counts = Counter(verdict_of(sheet, card) or WAITS for card in sheet.cards)
    return {
        "seen": sheet.seen,
        "closed": harmless(closed) if closed else None,
        "next": harmless(following) if following else None,
        "counts": {name: counts[name] for name in (*VERDICTS, DISPUTED, WAITS)},
        "cards": [_decided(sheet, card) for card in sheet.cards],
    }


def _texts(sheet: Sheet, card: Card) -> dict[str, Json]:
    original, rephrased = differences(card.original, card.rephrased)
    return {
        "number": card.number,
        "purpose": purpose(sheet, card),
        "original": _pieces(original),
        "rephrased": _pieces(rephrased),
        "alike": _alike(card),
        "fields": [[harmless(name), _text(value)] for name, value in card.record.items() if name != sheet.field],
    }


def _decided(sheet: Sheet, card: Card) -> dict[str, Json]:
    own = card.of(sheet.annotator)
    return {
        "state": verdict_of(sheet, card) or WAITS,
        "waits": sheet.waits(card),
        # To be edited, and saved again as it is; the decisions show what may hide in it.
        "note": own["note"] if own else "",
        "decisions": [_decision(sheet, row) for row in visible_decisions(sheet, card)],
    }


def _decision(sheet: Sheet, row: Row) -> str:
    settles = ", which settles it" if row["settles"] else ""
    where = {"web": "in the browser", "terminal": "in the terminal", "option": "by a command", "import": "imported"}
    via = where.get(row["via"], "taken over from another experiment")
    word = sheet.words[row["verdict"]]
    at = moment(row["decided_at"])
    return harmless(f"{_who(sheet, row)}: {word}{settles}, {at} UTC, {via}{_quoted(row['note'])}")


def _who(sheet: Sheet, row: Row) -> str:
    return f"You ({sheet.annotator})" if row["annotator"] == sheet.annotator else str(row["annotator"])


def _quoted(remark: str) -> str:
    return f", \u201c{remark}\u201d" if remark else ""


def _pieces(pieces: Sequence[Piece]) -> list[Json]:
    return [[harmless(piece.text), piece.changed] for piece in pieces]


def _alike(card: Card) -> str | None:
    if card.original == card.rephrased:
        return "The two texts are equal."
    return "Only blanks differ." if only_blanks_differ(card.original, card.rephrased) else None


def _text(value: Json) -> str:
    return harmless(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
