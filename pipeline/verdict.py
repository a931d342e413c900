"""Reads what a judge said. Strictly: an answer that does not say one of the two is unclear, never a guess."""

from __future__ import annotations

import enum
import re


class Verdict(enum.StrEnum):
    """Whether the rephrased text means the same as the original."""

    SAME = "same"
    NOT_THE_SAME = "not_the_same"
    UNCLEAR = "unclear"


_NEGATIVE = (
    r"(?:not|isn't|aren't|don't|doesn't)(?: (?:quite|exactly|really|entirely|fully|mean|have|convey))*(?: the)? same"
)
_LABEL = r"(?:final |my |the )?(?:verdict|answer|judge?ment|conclusion|result|decision|label)(?: is)? ?[:=-]? ?"
# "the same" alone, or the same meaning: not the same time, the same subject, the same as before.
_ENDS = r"(?= ?(?:meaning|thing|idea|message|information|in meaning|because|since)\b| ?[.,;:!()-]| ?$)"
_BARE = re.compile(rf"(?:(?:yes|no)[,.:]? )?(?:{_LABEL})?(?:(?P<no>{_NEGATIVE}|different)|(?:the )?same)(?: meaning)?")
_NEGATED = re.compile(rf"\b{_NEGATIVE}{_ENDS}")
_STATED = re.compile(
    rf"(?:\b{_LABEL}|\b(?:is|are|means?|remains?|stays?|conveys?|have|has|say|says)"
    rf"(?: (?:still|both|essentially|basically|exactly|indeed|therefore|thus))* )(?:the )?same{_ENDS}"
)
_DOUBTED = re.compile(r"\b(?:not|never|hardly|whether|if|unless|almost|nearly|cannot)\b|n't\b")


def read_verdict(answer: str) -> Verdict:
    """The verdict in a judge's answer: the bare words, a line of them, or one clear statement in a sentence."""
    text = re.sub(r"[*`\"\u201c\u201d#>]+", "", answer).replace("\u2019", "'").replace("_", " ").lower().strip()
    lines = [line for line in text.splitlines() if line.strip()]
    for line in (text, *lines[:1], *lines[-1:]):
        bare = _BARE.fullmatch(line.strip(" \t\n.,;:!?()[]-"))
        if bare:
            return Verdict.NOT_THE_SAME if bare.group("no") else Verdict.SAME
    said = {verdict for sentence in re.split(r"(?<=[.!?])\s+|\n+", text) if (verdict := _stated(sentence))}
    return said.pop() if len(said) == 1 else Verdict.UNCLEAR


def _stated(sentence: str) -> Verdict | None:
    sentence = re.sub(r"\s+", " ", sentence)
    negated = _NEGATED.search(sentence)
    rest = sentence.replace(negated.group(), "") if negated else sentence
    stated = _STATED.search(rest)
    if negated:
        return Verdict.UNCLEAR if stated else Verdict.NOT_THE_SAME
    if stated is None:
        return None
    return Verdict.UNCLEAR if _DOUBTED.search(rest[: stated.end()]) else Verdict.SAME
