"""Reads what a judge said. Strictly: an answer that does not say one of the two is unclear, never a guess.

A false "same" puts wrong data into a data set, a false "unclear" costs one more question. So "same" counts only where
it stands alone, or in a clause made of nothing but the words with which people say that two texts mean the same: "the
subject is the same" is no verdict, whatever follows.
"""

from __future__ import annotations

import enum
import re


class Verdict(enum.StrEnum):
    """Whether the rephrased text means the same as the original."""

    SAME = "same"
    NOT_THE_SAME = "not_the_same"
    UNCLEAR = "unclear"


_NOT = r"(?:not|no longer|isn't|aren't|don't|doesn't)"
_NEGATIVE = rf"{_NOT}(?: (?:quite|exactly|really|entirely|fully|mean|have|convey))*(?: the)? same"
_LABEL = (
    r"(?:(?:final |my |the )?(?:verdict|answer|judge?ment|conclusion|result|decision|label|classification|evaluation|"
    r"output|response|(?:overall |semantic )?meaning)(?: is)? ?[:=-]? ?)"
)
_BARE = re.compile(
    rf"(?:(?:yes|no)[,.:;]? )?{_LABEL}?(?P<no>{_NEGATIVE}|different)(?: meaning)?"
    rf"|(?:yes[,.:;]? )?{_LABEL}?(?:the )?same(?: meaning)?"
)
_LEADING = re.compile(rf"(?:no[,.:;]? )?{_LABEL}?(?P<no>{_NEGATIVE})(?P<rest>.*)|{_LABEL}?(?:the )?same(?P<reason>.*)")
_REASON = re.compile(r" ?[.,;:!(\u2013\u2014]| - | (?:because|since)\b")
# "the same" alone, or the same meaning: not the same time, the same subject, the same as before.
_ENDS = (
    r"(?= ?(?:meaning|thing|idea|message|information|sense|in meaning|because|since|"
    r"as (?:the )?(?:original|other|each other|one another))\b| ?[.,;:!()-]| ?$)"
)
_NEGATED = re.compile(rf"\b{_NEGATIVE}{_ENDS}")
_STATED = re.compile(
    rf"(?:\b{_LABEL}|\b(?:is|are|means?|remains?|stays?|says?|has|have|having|(?:convey|keep|maintain|retain)(?:s|ing)?|"
    r"preserv(?:es?|ing)|express(?:es)?)"
    rf"(?: (?:still|both|essentially|basically|effectively|exactly|indeed|therefore|thus))* )(?:the )?same{_ENDS}"
    r"|^(?:the )?same meaning (?:is|was|has been) (?:preserved|kept|conveyed|maintained|retained)"
)
_VOCABULARY = """
    a b 1 2 i the two both these they it this and of in with as that so yes one other another each its their my final
    sentences sentence statements statement premises premise hypotheses hypothesis questions question texts text
    versions version phrases phrase original originals rephrased rephrasing paraphrase paraphrased reworded
    is are was has have having been mean means meaning meanings convey conveys conveying conveyed keep keeps keeping
    kept preserve preserves preserving preserved maintain maintains maintaining maintained retain retains retaining
    retained remain remains stay stays express expresses say says think believe conclude would same thing idea message
    information sense core overall semantic still exactly essentially basically effectively indeed therefore thus hence
    verdict answer judgment judgement conclusion result decision label classification evaluation
"""
_WORDS = frozenset(re.findall(r"\w+", _VOCABULARY))
_CLAUSES = re.compile(
    r"\s*[,;:()\u2013\u2014]\s*|\s-+\s|(?=\b(?:but|however|yet|although|though|while|except|unless|because|since)\b)"
)
_TURN = re.compile(r"\s*(?:but|however|yet|although|though|while|except|unless|nevertheless)\b")
_CHOICE = re.compile(
    r"\b(?:but|however|yet|although|though|while|except|unless|if|or|not|different|whether)\b|n't\b|/|\?"
)


def read_verdict(answer: str) -> Verdict:
    """The verdict in a judge's answer: the bare words, a line of them, or one clear statement in a sentence."""
    text = _plain(answer)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = {verdict for line in (*lines[:1], *lines[-1:]) if (verdict := _bare(line))}
    if not said:
        first = _leading(lines[0]) if lines else None
        said = {first} if first else _statements(text)
    return said.pop() if len(said) == 1 else Verdict.UNCLEAR


def _plain(answer: str) -> str:
    # What a reasoning model thought aloud is no verdict, and markup, JSON and tags around one are no words.
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"</?\w+>|\\boxed|[*`\"\u201c\u201d#>{}\[\]]|[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]", "", text)
    return text.replace("\u2019", "'").replace("_", " ").lower().strip()


def _bare(line: str) -> Verdict | None:
    found = _BARE.fullmatch(line.strip(" \t.,;:!()-"))
    if found is None:
        return None
    return Verdict.NOT_THE_SAME if found.group("no") else Verdict.SAME


def _leading(line: str) -> Verdict | None:
    """The verdict at the beginning of a line that goes on with a reason."""
    found = _LEADING.match(line)
    if found is None:
        return None
    if found.group("no"):
        alternative = re.match(r"[\s/,]*(?:/|or\b)", found.group("rest"))
        return Verdict.NOT_THE_SAME if _REASON.match(found.group("rest")) and not alternative else None
    reason = found.group("reason")
    if not _REASON.match(reason):
        return None
    return Verdict.UNCLEAR if _CHOICE.search(reason) else Verdict.SAME


def _statements(text: str) -> set[Verdict]:
    said: set[Verdict] = set()
    denied = re.search(rf"\b{_NEGATIVE}\b", text)
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        if Verdict.SAME in said and _TURN.match(sentence):
            said.add(Verdict.UNCLEAR)
        verdict = _stated(re.sub(r"\s+", " ", sentence).strip())
        said |= {verdict} if verdict else set()
    # "The subject is not the same. The meaning is the same." is worth another question.
    return said | {Verdict.UNCLEAR} if denied and Verdict.SAME in said else said


def _stated(sentence: str) -> Verdict | None:
    if sentence.endswith("?"):
        return None
    negated = _NEGATED.search(sentence)
    if negated:
        rest = sentence.replace(negated.group(), "")
        doubted = re.search(r"\b(?:if|whether|unless|or|same)\b|/", rest)
        return Verdict.UNCLEAR if doubted else Verdict.NOT_THE_SAME
    clauses = [clause.strip(" .!") for clause in _CLAUSES.split(sentence)]
    for position, clause in enumerate(clauses):
        plain = re.sub(r"^(?:but|however|yet|while(?= \w+ing\b)) ?", "", clause)
        if _STATED.search(plain) and set(re.findall(r"[\w']+", plain)) <= _WORDS:
            turned = any(_TURN.match(later) for later in clauses[position + 1 :])
            return Verdict.UNCLEAR if turned else Verdict.SAME
    return None
